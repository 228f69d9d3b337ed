use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    schema: u32,
}

fn main() {}
