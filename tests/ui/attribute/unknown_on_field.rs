use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(colunm)]
    notice: Option<String>,
}

fn main() {}
