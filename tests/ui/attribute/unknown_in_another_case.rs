use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(Flash)]
    notice: Option<String>,
}

fn main() {}
