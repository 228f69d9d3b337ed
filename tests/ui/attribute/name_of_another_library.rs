use session_runtime::Databag;

#[derive(Databag)]
#[databag(ttl = "1d")]
struct Shop {
    cart: u32,
}

fn main() {}
