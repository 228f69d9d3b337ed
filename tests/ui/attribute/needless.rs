use session_runtime::Databag;

#[derive(Databag)]
#[databag(http_only = true)]
struct Shop {
    cart: u32,
}

fn main() {}
