use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    name: &'static str,
}

fn main() {}
