use session_runtime::Databag;

#[derive(Databag)]
#[databag(flash)]
struct Shop {
    cart: u32,
}

fn main() {}
