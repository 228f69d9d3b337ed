use session_runtime::Databag;

#[derive(Databag)]
#[databag = "sessions"]
struct Shop {
    cart: u32,
}

fn main() {}
