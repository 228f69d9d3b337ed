use session_runtime::Databag;

#[derive(Databag)]
#[databag(my::table)]
struct Shop {
    cart: u32,
}

fn main() {}
