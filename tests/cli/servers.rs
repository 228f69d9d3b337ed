//! The tool `databag` on each server, beside an application.
//!
//! Run by `tests/servers cargo test -p databag-cli --features servers --test cli servers`.

use databag_tests::server::url;
use serde_json::json;
use session_runtime::{AnyStore, Databag, Keyring, Sessions};

use crate::tool::{Application, SECRET, Tool, count_faults, json_lines};

const USERS: i64 = 300;

/// Copies sessions from a file to a server and on to another file, and does everything else on the server.
async fn is_served(server: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
    let [old, new] = [(); 2].map(|()| Keyring::generate_text().to_string());
    let both = format!("{new},{old}");
    let mut origin = Application::start(&file("old.db"), &old).await;
    origin.sign_in(USERS).await;
    let visitors = &origin.tokens;
    let all = usize::try_from(USERS).expect("few");

    let copy = ["copy", "--to", server, "--yes"];
    let copied = Tool::new(&file("old.db")).json(&copy);
    assert_eq!(
        [&copied["stored"], &copied["live_there"]],
        [USERS; 2].map(|n| json!(n)).each_ref(),
        "{copied}"
    );
    assert_eq!(Tool::new(&file("old.db")).json(&copy)["kept"], USERS);
    let application = Application::start(server, &both).await;
    assert_eq!(application.count_signed_in(visitors).await, all);

    let tool = Tool::new(server);
    let stats = tool.json(&["stats"]);
    assert_eq!(
        [&stats["live"], &stats["signed_in"], &stats["rows"]],
        [USERS; 3].map(|n| json!(n)).each_ref()
    );
    let mut columns: Vec<_> =
        stats["columns"].as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    columns.sort_unstable();
    assert_eq!(columns, ["digest", "ip_addr", "tenant", "user_id", "weight"]);
    let row = tool.json(&["list", "--user", "2"]);
    assert_eq!(row["columns"], json!({ "tenant": "tenant-2", "weight": 2.1, "digest": { "hex": "00ff07" } }));
    assert_eq!(tool.lines(&["list", "--all"]).len(), all);
    assert_eq!(tool.lines(&["list", "--ip", "203.0.113.2"]).len(), 2, "users 2 and 252");
    assert_eq!(tool.lines(&["list", "--column", "weight=2.1"]).len(), 2, "users 2 and 202");

    let with_new = tool.clone().keys(&new);
    assert_eq!(count_faults(&with_new.run(&["check", "--json"], 3), "is not given"), all);
    let with_both = tool.clone().keys(&both);
    assert_eq!(with_both.json(&["reseal"])["resealed"], USERS);
    let checked = with_new.json(&["check"]);
    assert_eq!((&checked["live"], &checked["not_compared"]), (&json!(USERS), &json!({})));
    assert_eq!(application.count_signed_in(visitors).await, all, "the application has both keys");
    let id = visitors[1].0.session_id().to_string();
    let shown = with_new.run(&["show", &id[..10]], 0).stdout;
    assert!(shown.contains("last used") && !shown.contains(SECRET), "{shown}");

    let exported = folder.path().join("sessions.jsonl");
    let exported = exported.to_str().expect("UTF-8");
    assert_eq!(tool.json(&["export", "--output", exported])["written"], USERS);
    Tool::new(&file("back.db")).run(&["import", "--input", exported, "--yes"], 0);
    let back = Application::start(&file("back.db"), &new).await;
    assert_eq!(back.count_signed_in(visitors).await, all);

    // The application sees each end with its next request, and nothing that has ended comes back.
    tool.run(&["revoke", &id, "--yes"], 0);
    assert_eq!(application.count_signed_in(&visitors[1..2]).await, 0);
    tool.run(&["revoke", "--user", "7", "--yes"], 0);
    assert_eq!(application.count_signed_in(visitors).await, all - 2);
    assert_eq!(tool.json(&["prune", "--yes"]), json!({ "removed": 0 }));
    tool.run(&["revoke", "--everyone"], 5);
    tool.run(&["revoke", "--everyone", "--yes"], 0);
    assert_eq!(application.count_signed_in(visitors).await, 0);
    assert_eq!(tool.json(&["stats"])["rows"], 0);
    tool.run(&["show", &id], 4);
}

#[derive(Databag)]
#[databag(name = "tests/Blind", table = "cli_blind_json", codec = "json")]
struct Blind {
    #[databag(user_id, blind)]
    user_id: Option<String>,
    #[databag(ip_addr, blind, bind = "off")]
    ip_addr: Option<std::net::IpAddr>,
}

/// A bag of JSON with a blind user is listed, and sealed again.
async fn has_blind_users(server: &str) {
    let [old, new] = [(); 2].map(|()| Keyring::generate_text().to_string());
    let sessions = async |keys: &str| {
        let store = AnyStore::connect(server).await.expect("it answers");
        let keyring = Keyring::parse(keys).expect("good keys");
        Sessions::<Blind>::builder(store).keyring(keyring).build().await.expect("it builds")
    };
    let before = sessions(&old).await;
    for user in ["dana", "dana", "eli"] {
        let ip_addr = Some(std::net::IpAddr::from([203, 0, 113, 7]));
        before.create(Blind { user_id: Some(user.to_owned()), ip_addr }).await.expect("it is stored");
    }
    let tool = Tool::new(server).table("cli_blind_json");
    assert_eq!(tool.run(&["list"], 0).stdout.matches("hash:").count(), 6);
    let tool = tool.keys(&format!("{new},{old}"));
    assert_eq!(tool.lines(&["list", "--user", "dana"]).len(), 2);
    assert_eq!(tool.json(&["check"])["not_compared"], json!({}));
    assert_eq!(tool.json(&["reseal"])["resealed"], 3);
    let after = sessions(&new).await;
    assert_eq!(after.of_user("dana".to_owned()).await.expect("it answers").len(), 2);
    tool.run(&["revoke", "--user", "dana", "--yes"], 0);
    assert_eq!(after.count_all().await.expect("it answers"), 1);
    after.clear().await.expect("it answers");
}

/// A port that nobody listens at is a failure, and no empty list.
#[tokio::test]
async fn a_server_that_does_not_answer_is_a_failure() {
    let tool = Tool::new("redis://127.0.0.1:1");
    tool.run(&["stats"], 1);
    let refused = tool.run(&["list", "--json"], 1);
    assert_eq!(json_lines(&refused.stdout).len(), 0);
}

#[tokio::test]
async fn postgresql_is_served() {
    is_served(&url("POSTGRES_URL")).await;
    has_blind_users(&url("POSTGRES_URL")).await;
}

#[tokio::test]
async fn mariadb_is_served() {
    is_served(&url("MYSQL_URL")).await;
    has_blind_users(&url("MYSQL_URL")).await;
}

#[tokio::test]
async fn redis_is_served() {
    is_served(&url("REDIS_URL")).await;
    has_blind_users(&url("REDIS_URL")).await;
}

#[tokio::test]
async fn a_cluster_is_served() {
    is_served(&url("REDIS_CLUSTER_URL")).await;
    has_blind_users(&url("REDIS_CLUSTER_URL")).await;
}
