use session_runtime::Databag;

#[derive(Databag)]
#[databag(codec = json)]
struct Shop {
    cart: u32,
}

fn main() {}
