use session_runtime::Databag;

#[derive(Databag)]
#[databag(columns(id = "key", id = "token"))]
struct Shop {
    cart: u32,
}

fn main() {}
