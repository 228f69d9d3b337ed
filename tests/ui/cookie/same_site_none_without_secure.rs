use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "shop", secure = false, same_site = "none")]
struct Shop {
    cart: u32,
}

fn main() {}
