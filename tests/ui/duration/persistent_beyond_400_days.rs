use session_runtime::Databag;

#[derive(Databag)]
#[databag(persistence = "persistent", absolute = "500d")]
struct Shop {
    cart: u32,
}

fn main() {}
