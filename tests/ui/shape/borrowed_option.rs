use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    name: Option<&'static str>,
}

fn main() {}
