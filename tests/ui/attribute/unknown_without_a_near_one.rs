use session_runtime::Databag;

#[derive(Databag)]
#[databag(frobnicate)]
struct Shop {
    cart: u32,
}

fn main() {}
