use session_runtime::{Databag, Flows};

#[derive(Databag)]
struct Shop {
    #[databag(flow, merge = "last")]
    oauth: Flows<String>,
}

fn main() {}
