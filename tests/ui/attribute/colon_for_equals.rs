use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle: "30m")]
struct Shop {
    cart: u32,
}

fn main() {}
