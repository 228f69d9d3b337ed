use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "shop", domain = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example")]
struct Shop {
    cart: u32,
}

fn main() {}
