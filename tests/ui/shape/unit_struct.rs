use session_runtime::Databag;

#[derive(Databag)]
struct Shop;

fn main() {}
