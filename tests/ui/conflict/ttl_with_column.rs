use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column, ttl = "15m")]
    code: Option<String>,
}

fn main() {}
