use session_runtime::{Databag, Fresh};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

async fn account(_: Fresh<Shop, 300>) {}

fn main() {
    let _ = account;
}
