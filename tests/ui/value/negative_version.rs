use session_runtime::Databag;

#[derive(Databag)]
#[databag(version = -1)]
struct Shop {
    cart: u32,
}

fn main() {}
