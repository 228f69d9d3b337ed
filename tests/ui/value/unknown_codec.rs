use session_runtime::Databag;

#[derive(Databag)]
#[databag(codec = "bincod")]
struct Shop {
    cart: u32,
}

fn main() {}
