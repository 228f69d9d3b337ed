use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "2h", absolute = "1h")]
struct Shop {
    cart: u32,
}

fn main() {}
