use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "14d")]
struct Shop {
    cart: u32,
}

fn main() {}
