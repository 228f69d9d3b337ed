use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    id: u32,
}

fn main() {}
