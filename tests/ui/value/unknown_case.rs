use session_runtime::Databag;

#[derive(Databag)]
#[databag(rename_all = "camelcase")]
struct Shop {
    cart: u32,
}

fn main() {}
