use session_runtime::Databag;

#[derive(Databag)]
union Shop {
    cart: u32,
}

fn main() {}
