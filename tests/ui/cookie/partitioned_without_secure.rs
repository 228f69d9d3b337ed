use session_runtime::Databag;

#[derive(Databag)]
#[databag(cookie = "shop", secure = false, partitioned)]
struct Shop {
    cart: u32,
}

fn main() {}
