use session_runtime::Databag;

#[derive(Databag)]
#[databag(absolute = "1.5h")]
struct Shop {
    cart: u32,
}

fn main() {}
