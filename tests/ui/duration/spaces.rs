use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "30m", absolute = "1 hour")]
struct Shop {
    cart: u32,
}

fn main() {}
