use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column = "")]
    tenant: Option<String>,
}

fn main() {}
