use session_runtime::Databag;

#[derive(Databag)]
#[databag(codec = 5)]
struct Shop {
    cart: u32,
}

fn main() {}
