use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "__Http-shop", secure = false)]
struct Shop {
    cart: u32,
}

fn main() {}
