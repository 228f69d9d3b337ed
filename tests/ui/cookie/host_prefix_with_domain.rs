use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "__Host-shop", domain = "example.com")]
struct Shop {
    cart: u32,
}

fn main() {}
