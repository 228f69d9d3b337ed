use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(from = u32)]
    visits: u32,
}

fn main() {}
