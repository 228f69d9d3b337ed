use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    tenant: Option<String>,
    #[databag(column = "Tenant")]
    landlord: Option<String>,
}

fn main() {}
