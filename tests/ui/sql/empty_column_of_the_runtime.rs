use session_runtime::Databag;

#[derive(Databag)]
#[databag(columns(state = ""))]
struct Shop {
    cart: u32,
}

fn main() {}
