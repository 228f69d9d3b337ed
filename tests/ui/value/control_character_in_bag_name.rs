use session_runtime::Databag;

#[derive(Databag)]
#[databag(name = "shop\0")]
struct Shop {
    cart: u32,
}

fn main() {}
