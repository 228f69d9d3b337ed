use session_runtime::Databag;

#[derive(Databag)]
#[databag(table = "databag_owners")]
struct Shop {
    cart: u32,
}

fn main() {}
