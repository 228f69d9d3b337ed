use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(encrypt)]
    pin: u32,
}

fn main() {}
