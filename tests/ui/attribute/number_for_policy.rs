use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = 5)]
    visits: u32,
}

fn main() {}
