use session_runtime::Databag;

#[derive(Databag)]
#[databag(table = "a" cookie = "b")]
struct Shop {
    cart: u32,
}

fn main() {}
