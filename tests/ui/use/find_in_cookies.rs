use session_runtime::{CookieStore, Databag, Sessions};

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    tenant: Option<String>,
}

fn of_tenant(sessions: &Sessions<Shop, CookieStore>) {
    let _ = sessions.find(Shop::TENANT.eq("acme"));
}

fn main() {
    let _ = of_tenant;
}
