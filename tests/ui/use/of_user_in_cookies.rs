use session_runtime::access::InCookie;
use session_runtime::{Databag, Sessions};

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
}

async fn elsewhere(sessions: Sessions<Shop, InCookie>) {
    let _ = sessions.of_user(7).await;
}

fn main() {
    let _ = elsewhere;
}
