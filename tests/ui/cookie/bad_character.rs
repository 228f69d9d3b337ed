use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "my shop")]
struct Shop {
    cart: u32,
}

fn main() {}
