use session_runtime::Databag;

#[derive(Databag)]
#[databag(columns = "id")]
struct Shop {
    cart: u32,
}

fn main() {}
