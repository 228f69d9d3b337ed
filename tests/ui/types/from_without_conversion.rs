use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(from = String)]
    visits: u32,
}

fn main() {}
