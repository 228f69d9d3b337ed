use actix_web::web;
use session_runtime::{Databag, Fresh};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

async fn account(_: Fresh<Shop, 300>) -> &'static str {
    "account"
}

fn main() {
    let _ = web::get().to(account);
}
