use session_runtime::{Databag, Sessions};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

async fn elsewhere(sessions: Sessions<Shop>) {
    let _ = sessions.of_user(7).await;
}

fn main() {
    let _ = elsewhere;
}
