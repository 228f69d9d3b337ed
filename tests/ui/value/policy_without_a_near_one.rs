use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = "first")]
    visits: u32,
}

fn main() {}
