use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column = "no\0tice")]
    notice: Option<String>,
}

fn main() {}
