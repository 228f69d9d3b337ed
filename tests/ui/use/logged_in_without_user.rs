use actix_web::web;
use session_runtime::{Databag, LoggedIn};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

async fn account(_: LoggedIn<Shop>) -> &'static str {
    "account"
}

fn main() {
    let _ = web::get().to(account);
}
