use session_runtime::Databag;

#[derive(Databag)]
#[databag(secure = "false")]
struct Shop {
    cart: u32,
}

fn main() {}
