use session_runtime::Databag;

#[derive(Databag)]
#[databag(absolute = "10m")]
struct Shop {
    cart: u32,
}

fn main() {}
