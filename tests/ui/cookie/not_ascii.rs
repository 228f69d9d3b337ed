use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "café")]
struct Shop {
    cart: u32,
}

fn main() {}
