use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = sum)]
    visits: u32,
}

fn main() {}
