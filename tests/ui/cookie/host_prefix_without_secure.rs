use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "__Host-shop", secure = false)]
struct Shop {
    cart: u32,
}

fn main() {}
