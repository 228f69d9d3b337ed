use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    cart: u32,
    set_cart: u32,
}

fn main() {}
