use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "30")]
struct Shop {
    cart: u32,
}

fn main() {}
