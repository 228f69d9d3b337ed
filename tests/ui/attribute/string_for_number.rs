use session_runtime::Databag;

#[derive(Databag)]
#[databag(max_per_user = "5")]
struct Shop {
    cart: u32,
}

fn main() {}
