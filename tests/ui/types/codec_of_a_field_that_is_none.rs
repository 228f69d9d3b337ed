use session_runtime::Databag;

struct Toml;

#[derive(Databag)]
struct Shop {
    #[databag(codec = Toml)]
    cart: Vec<u8>,
}

fn main() {}
