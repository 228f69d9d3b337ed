use session_runtime::Databag;

#[derive(Databag)]
struct Shop<'a> {
    name: std::borrow::Cow<'a, str>,
}

fn main() {}
