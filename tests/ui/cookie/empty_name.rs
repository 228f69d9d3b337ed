use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "")]
struct Shop {
    cart: u32,
}

fn main() {}
