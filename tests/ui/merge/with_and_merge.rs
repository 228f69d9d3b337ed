use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(with = hex, merge = "sum")]
    count: u32,
}

mod hex {}

fn main() {}
