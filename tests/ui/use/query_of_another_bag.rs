use session_runtime::{Databag, Sessions};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

#[derive(Databag)]
#[databag(cookie = "__Host-admin")]
struct Admin {
    #[databag(column)]
    team: Option<String>,
}

async fn team(sessions: Sessions<Shop>) {
    let _ = sessions.find(Admin::TEAM.eq("support")).await;
}

fn main() {
    let _ = team;
}
