use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(default)]
    visits: u32,
}

fn main() {}
