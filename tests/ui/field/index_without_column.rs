use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(index)]
    notice: Option<String>,
}

fn main() {}
