use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "0m")]
struct Shop {
    cart: u32,
}

fn main() {}
