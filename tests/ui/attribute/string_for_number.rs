use session_runtime::Databag;

#[derive(Databag)]
#[databag(version = "5")]
struct Shop {
    cart: u32,
}

fn main() {}
