use session_runtime::Databag;

#[derive(Databag)]
#[databag(version = 4294967296)]
struct Shop {
    cart: u32,
}

fn main() {}
