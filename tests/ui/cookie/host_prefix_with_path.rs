use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "__Host-shop", path = "/shop")]
struct Shop {
    cart: u32,
}

fn main() {}
