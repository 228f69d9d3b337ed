use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(ttl = "15m")]
    code: String,
}

fn main() {}
