#![deny(deprecated)]

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[deprecated = "use `basket`"]
    cart: u32,
}

fn main() {
    let mut shop = Shop::defaults();
    shop.set_cart(shop.cart() + 1);
}
