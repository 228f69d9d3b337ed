use session_runtime::Databag;

#[derive(Databag)]
#[databag(table = "tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt")]
struct Shop {
    cart: u32,
}

fn main() {}
