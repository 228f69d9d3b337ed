use session_runtime::Databag;

#[derive(Databag)]
#[databag(persistence = "forever")]
struct Shop {
    cart: u32,
}

fn main() {}
