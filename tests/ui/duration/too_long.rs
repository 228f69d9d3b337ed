use session_runtime::Databag;

#[derive(Databag)]
#[databag(absolute = "99999w")]
struct Shop {
    cart: u32,
}

fn main() {}
