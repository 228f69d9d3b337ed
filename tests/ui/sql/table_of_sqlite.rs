use session_runtime::Databag;

#[derive(Databag)]
#[databag(table = "sqlite_sessions")]
struct Shop {
    cart: u32,
}

fn main() {}
