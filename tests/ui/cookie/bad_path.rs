use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "shop", path = "/a;b")]
struct Shop {
    cart: u32,
}

fn main() {}
