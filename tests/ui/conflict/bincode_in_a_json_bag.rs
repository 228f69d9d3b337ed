use session_runtime::Databag;

#[derive(Databag)]
#[databag(codec = "json")]
struct Shop {
    #[databag(codec = "bincode")]
    cart: Vec<u8>,
}

fn main() {}
