use session_runtime::Databag;

#[derive(Databag)]
#[databag(table = "")]
struct Shop {
    cart: u32,
}

fn main() {}
