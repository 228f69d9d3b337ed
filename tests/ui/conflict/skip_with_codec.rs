use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(skip, codec = "json")]
    notice: Option<String>,
}

fn main() {}
