use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column = "State")]
    notice: Option<String>,
}

fn main() {}
