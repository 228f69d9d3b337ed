use session_runtime::Databag;
use session_runtime::HasUser;

#[derive(Databag)]
struct Shop {
    cart: u32,
}

fn user<T: HasUser>(_: &T) {}

fn main() {
    user(&Shop::defaults());
}
