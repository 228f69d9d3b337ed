use session_runtime::Databag;

struct Toml;

#[derive(Databag)]
#[databag(codec = Toml)]
struct Shop {
    cart: u32,
}

fn main() {}
