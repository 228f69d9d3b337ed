use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(codec = "jsn")]
    cart: Vec<u8>,
}

fn main() {}
