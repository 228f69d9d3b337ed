use session_runtime::Databag;

#[derive(Databag)]
#[databag(name = "")]
struct Shop {
    cart: u32,
}

fn main() {}
