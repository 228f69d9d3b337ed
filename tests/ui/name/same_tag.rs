use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    costarring: u32,
    liquid: u32,
}

fn main() {}
