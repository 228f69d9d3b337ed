use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    cart: u32,
    #[databag(alias = "cart")]
    basket: u32,
}

fn main() {}
