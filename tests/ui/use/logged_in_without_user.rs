use session_runtime::{Databag, LoggedIn};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

async fn account(_: LoggedIn<Shop>) {}

fn main() {
    let _ = account;
}
