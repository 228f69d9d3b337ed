use session_runtime::Databag;

#[derive(Databag)]
#[databag(tabel = "sessions")]
struct Shop {
    cart: u32,
}

fn main() {}
