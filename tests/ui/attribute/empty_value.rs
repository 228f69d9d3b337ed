use session_runtime::Databag;

#[derive(Databag)]
#[databag(table = , cookie = "shop")]
struct Shop {
    cart: u32,
}

fn main() {}
