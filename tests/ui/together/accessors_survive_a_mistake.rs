use session_runtime::Databag;
use session_runtime::HasUser;

#[derive(Databag)]
#[databag(idle = "30")]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
    #[databag(column, index)]
    tenant: Option<String>,
    cart: Vec<u32>,
}

fn bag<T: HasUser>() -> T {
    T::defaults()
}

fn main() {
    let mut shop: Shop = bag();
    shop.set_tenant("acme");
    shop.cart_mut().push(5);
    let _: (Option<i64>, &[u32]) = (shop.user(), shop.cart());
    let _ = Shop::TENANT.eq("acme");
}
