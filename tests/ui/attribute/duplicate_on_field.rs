use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column, column)]
    notice: Option<String>,
}

fn main() {}
