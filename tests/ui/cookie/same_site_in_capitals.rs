use session_runtime::Databag;

#[derive(Databag)]
#[databag(same_site = "Strict")]
struct Shop {
    cart: u32,
}

fn main() {}
