use session_runtime::Databag;

#[derive(Databag)]
#[databag(table = "a", table = "b")]
struct Shop {
    cart: u32,
}

fn main() {}
