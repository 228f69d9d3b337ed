use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "shop", path = "shop")]
struct Shop {
    cart: u32,
}

fn main() {}
