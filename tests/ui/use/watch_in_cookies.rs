use session_runtime::access::InCookie;
use session_runtime::{Databag, SessionId, Sessions};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

async fn stay(sessions: Sessions<Shop, InCookie>, id: SessionId) {
    let _ = sessions.watch(id).await;
}

fn main() {
    let _ = stay;
}
