use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = "entries")]
    count: u32,
}

fn main() {}
