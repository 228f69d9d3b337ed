use session_runtime::Databag;

#[derive(Databag)]
#[databag]
struct Shop {
    cart: u32,
}

fn main() {}
