use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(ttl = "0s")]
    code: Option<String>,
}

fn main() {}
