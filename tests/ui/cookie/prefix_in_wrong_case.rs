use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "__host-shop")]
struct Shop {
    cart: u32,
}

fn main() {}
