use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    tenant: u32,
    #[databag(column = "other")]
    TENANT: u32,
}

fn main() {}
