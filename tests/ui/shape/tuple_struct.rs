use session_runtime::Databag;

#[derive(Databag)]
struct Shop(u32);

fn main() {}
