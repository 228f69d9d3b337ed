use session_runtime::Databag;

#[derive(Databag)]
#[databag(columns(user = "account_id"))]
struct Shop {
    cart: u32,
}

fn main() {}
