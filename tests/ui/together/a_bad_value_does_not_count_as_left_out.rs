use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column = 5, index)]
    tenant: Option<String>,
}

fn main() {}
