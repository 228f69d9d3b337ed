use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "")]
struct Shop {
    cart: u32,
}

fn main() {}
