use session_runtime::access::ById;
use session_runtime::{Databag, Sessions};

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    tenant: Option<String>,
}

fn of_tenant(sessions: &Sessions<Shop, ById>) {
    let _ = sessions.find(Shop::TENANT.eq("acme"));
}

fn main() {
    let _ = of_tenant;
}
