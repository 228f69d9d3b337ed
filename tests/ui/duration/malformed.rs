use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "half an hour")]
struct Shop {
    cart: u32,
}

fn main() {}
