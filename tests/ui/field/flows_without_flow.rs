use session_runtime::{Databag, Flows};

#[derive(Databag)]
struct Shop {
    oauth: Flows<String>,
}

fn main() {}
