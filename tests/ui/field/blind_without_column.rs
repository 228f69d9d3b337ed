use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(blind)]
    notice: Option<String>,
}

fn main() {}
