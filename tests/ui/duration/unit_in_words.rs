use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "30mins")]
struct Shop {
    cart: u32,
}

fn main() {}
