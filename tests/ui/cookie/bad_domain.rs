use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "shop", domain = "https://example.com")]
struct Shop {
    cart: u32,
}

fn main() {}
