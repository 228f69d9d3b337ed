use session_runtime::{Databag, HasUser};

#[derive(Databag)]
struct Shop {
    #[databag(userid)]
    account: Option<i64>,
    #[databag(colum, index)]
    tenant: Option<String>,
    #[databag(columns = "city", index, blind)]
    town: Option<String>,
    #[databag(secrets)]
    pin: u32,
}

fn user<T: HasUser>(bag: &T) -> bool {
    bag.user().is_some()
}

fn main() {
    let mut shop = Shop::defaults();
    shop.set_tenant("acme");
    println!("{} {shop:?}", user(&shop));
    let _ = (Shop::TENANT.eq("acme"), Shop::TOWN.eq("Bern"));
}
