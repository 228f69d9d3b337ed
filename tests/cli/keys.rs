//! Keys and seals.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use databag_tests::demo::{Shop as Demo, Visitor};
use rusqlite::Connection;
use serde_json::json;
use session_runtime::{ColumnType, ColumnValue, Databag, Keyring, Sessions, SqliteStore, Value};

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use crate::tool::{Application, Printed, Tool, bare, count_faults, json_lines, shop};

fn key() -> String {
    Keyring::generate_text().to_string()
}

#[test]
fn a_new_key_is_good_and_for_its_owner_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("session.key");
    let file = path.to_str().expect("UTF-8");
    let run =
        |arguments: &[&str], exit| Printed::of(&bare(arguments).output().expect("it runs"), arguments, exit);
    let made = run(&["keygen", "--output", file], 0);
    Keyring::from_file(&path).expect("a good key in a private file");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&path).expect("it is read");
    assert!(!made.stdout.contains(key.trim()), "{made:?}");
    run(&["keygen", "--output", file], 1);
    assert_eq!(fs::read_to_string(&path).expect("it is read"), key, "it is not overwritten");
    let [one, other] = [(); 2].map(|()| {
        let printed = run(&["keygen"], 0);
        assert!(printed.stderr.starts_with("databag: the id of this key is "), "{printed:?}");
        printed.stdout
    });
    assert_ne!(one, other);
    Keyring::parse(&one).expect("a good key");
}

#[test]
fn a_new_key_comes_into_use_beside_the_demo() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (key(), key());
    let both = format!("{new},{old}");
    let tool =
        Tool::new(&format!("sqlite:{}", folder.path().join("shop.db").display())).table("shop_sessions");

    let demo = Demo::new(&shop(), &folder).env("SESSION_KEY", &old).start();
    let mut visitors: Vec<_> = (0..40)
        .map(|user| {
            let mut visitor = Visitor::of(&demo);
            visitor.api("/login", &format!("user={user}"));
            visitor.api("/cart", "sku=tea&qty=2");
            visitor
        })
        .collect();
    demo.stop();
    let demo = Demo::new(&shop(), &folder).env("SESSION_KEY", &both).start();
    // Half of them are in the memory of the shop.
    for visitor in &mut visitors {
        visitor.moves_to(&demo);
    }
    for visitor in &mut visitors[..20] {
        assert_eq!(visitor.session()["cart"], json!({ "tea": 2 }));
    }
    let with_new = tool.clone().keys(&new);
    // What the shop has written since is under the new key.
    let left = count_faults(&with_new.run(&["check", "--json"], 3), "which is not given");
    assert!((20..=40).contains(&left), "{left}");
    assert_eq!(count_faults(&with_new.run(&["reseal", "--json"], 3), "which is not given"), left);
    // People see the first of them, and how many there are.
    let text = with_new.run(&["check"], 3).stdout;
    assert_eq!(text.lines().count(), 10 + 1 + 1, "{text}");
    assert!(text.contains(&format!("\n{left} rows  it is sealed with the key ")), "{text}");

    // `script` gives the tool a terminal.
    let line = format!("{} reseal --table shop_sessions", env!("CARGO_BIN_EXE_databag"));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("SESSION_STORE", &tool.url).env("SESSION_KEY", &new);
    let printed = Printed::of(&script.stdin(Stdio::piped()).output().expect("it runs"), &["reseal"], 3);
    assert!(printed.stdout.contains("it can be stopped: run it again to go on"), "{printed:?}");

    let resealed = tool.clone().keys(&both).json(&["reseal"]);
    assert_eq!((&resealed["resealed"], &resealed["skipped"]), (&json!(left), &json!(0)), "{resealed}");
    assert_eq!(with_new.json(&["check"])["live"], 40);
    assert_eq!(tool.keys(&both).json(&["reseal"])["current"], 40);
    for visitor in &mut visitors {
        let session = visitor.api("/cart", "sku=tea&qty=1");
        assert_eq!(session["cart"], json!({ "tea": 3 }));
    }
    demo.stop();
    let demo = Demo::new(&shop(), &folder).env("SESSION_KEY", &new).start();
    for visitor in &mut visitors {
        visitor.moves_to(&demo);
        assert_eq!(visitor.session()["cart"], json!({ "tea": 3 }));
    }
}

#[tokio::test]
async fn a_session_that_is_sealed_again_is_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let url = format!("sqlite:{}", path.display());
    let (old, new) = (key(), key());
    let mut application = Application::start(&url, &old).await;
    application.sign_in(8).await;
    let columns = || {
        let database = Connection::open(&path).expect("it opens");
        let mut rows = database
            .prepare("SELECT id, user_id, ip_addr, tenant, weight, digest, created, expiration FROM cli_shop ORDER BY id")
            .expect("it is read");
        let cells =
            |row: &rusqlite::Row<'_>| (0..8).map(|n| row.get::<_, rusqlite::types::Value>(n)).collect();
        rows.query_map([], cells)
            .expect("it is read")
            .collect::<Result<Vec<Vec<_>>, _>>()
            .expect("it is read")
    };
    let before = (columns(), snapshots(&application).await);
    let tool = Tool::new(&url).keys(&format!("{new},{old}"));
    let with_keys = tool.json(&["stats", "--scan"]);
    let keys = with_keys["scan"]["keys"].as_object().expect("an object").clone();
    assert_eq!(keys.len(), 1);
    assert_ne!(keys.keys().next().map(String::as_str), with_keys["scan"]["current_key"].as_str());
    assert_eq!(tool.json(&["reseal"])["resealed"], 8);
    let mut resealed = Application::start(&url, &new).await;
    resealed.tokens = application.tokens;
    assert_eq!(resealed.count_signed_in(&resealed.tokens).await, 8);
    assert_eq!((columns(), snapshots(&resealed).await), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_to_a_tool_that_seals_meanwhile() {
    const SESSIONS: i64 = 60;
    const WRITES: u32 = 12;
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("sessions.db").display());
    let keys = [key(), key(), key()];
    let ring =
        |current: usize| format!("{},{},{}", keys[current], keys[(current + 1) % 3], keys[(current + 2) % 3]);
    let mut application = Application::start(&url, &ring(0)).await;
    application.sign_in(SESSIONS).await;
    let ids: Vec<_> = application.tokens.iter().map(|(token, _)| token.session_id()).collect();
    let sessions = application.sessions.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..WRITES {
            for id in &ids {
                let count =
                    |shop: &mut crate::tool::Shop| *shop.cart.entry("writes".to_owned()).or_default() += 1;
                sessions.update(*id, count).await.expect("it is stored");
            }
        }
        (sessions, ids)
    });
    let mut resealed = 0;
    let mut round = 0;
    while !writer.is_finished() {
        round += 1;
        let tool = Tool::new(&url).keys(&ring(round % 3));
        let printed = tokio::task::spawn_blocking(move || tool.json(&["reseal"])).await.expect("it runs");
        assert_eq!(printed["skipped"], 0, "{printed}");
        resealed += printed["resealed"].as_i64().expect("a number");
    }
    let (sessions, ids) = writer.await.expect("each write is stored");
    assert!(resealed > 0, "the two met");
    for id in ids {
        let session = sessions.get(id).await.expect("it answers").expect("it is live");
        assert_eq!(session.cart["writes"], WRITES);
    }
}

async fn snapshots(application: &Application) -> Vec<String> {
    let mut snapshots = Vec::new();
    for (token, _) in &application.tokens {
        let session = application.sessions.load(token).await.expect("it answers").expect("it is live");
        let times = (session.created(), session.expires(), session.last_used(), session.authenticated_at());
        snapshots.push(format!("{times:?} {:?}", *session));
    }
    snapshots
}

/// A user whose stored form no tool knows.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Team(String, u8);

impl ColumnValue for Team {
    const TYPE: ColumnType = ColumnType::Text;

    fn to_value(&self) -> Value {
        Value::Text(format!("{}#{}", self.0, self.1))
    }
}

#[derive(Databag)]
#[databag(name = "tests/Blind", table = "cli_blind")]
struct Blind {
    #[databag(user_id, blind)]
    user_id: Option<i64>,
    #[databag(column, blind, index)]
    email: Option<String>,
    #[databag(ip_addr, blind, bind = "off")]
    ip_addr: Option<std::net::IpAddr>,
    #[databag(column)]
    uuid: Option<[u8; 16]>,
    /// Its hash is text.
    #[databag(column, blind)]
    tag: Option<Vec<u8>>,
    #[databag(column, blind)]
    team: Option<Team>,
}

async fn blind(path: &std::path::Path, keys: &str) -> Sessions<Blind> {
    let keyring = Keyring::parse(keys).expect("good keys");
    let store = SqliteStore::open(path).expect("it opens");
    Sessions::<Blind>::builder(store).keyring(keyring).build().await.expect("it builds")
}

#[tokio::test]
async fn blind_columns_are_hashed_again_or_the_row_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let (old, new) = (key(), key());
    let sessions = blind(&path, &old).await;
    let address = Some(std::net::IpAddr::from([203, 0, 113, 7]));
    for user in [7, 7, 70_000, -3] {
        let email = Some(format!("user{user}@example.com"));
        let (uuid, tag) = (Some([9; 16]), Some(vec![1, 2, 3]));
        let bag = Blind { user_id: Some(user), email, ip_addr: address, uuid, tag, team: None };
        sessions.create(bag).await.expect("it is stored");
    }
    let team = Some(Team("red".to_owned(), 1));
    let bag = Blind { team, ..Blind::defaults() };
    let (_, with_team) = sessions.create(bag).await.expect("it is stored");

    let tool = Tool::new(&format!("sqlite:{}", path.display())).table("cli_blind");
    let table = tool.run(&["list"], 0).stdout;
    assert_eq!(table.matches("hash:").count(), 4 * 5 + 1, "{table}");
    tool.run(&["list", "--user", "7"], 2);
    let with_keys = tool.clone().keys(&format!("{new},{old}"));
    assert_eq!(with_keys.lines(&["list", "--user", "7"]).len(), 2);
    assert_eq!(with_keys.lines(&["list", "--column", "email=user-3@example.com"]).len(), 1);

    let printed = with_keys.run(&["reseal", "--json"], 3);
    let lines = json_lines(&printed.stdout);
    assert_eq!(lines[0]["id"], with_team.id().to_string());
    assert!(lines[0]["fault"].as_str().expect("a reason").contains("`team`"), "{printed:?}");
    assert_eq!((&lines[1]["resealed"], &lines[1]["skipped"]), (&json!(4), &json!(1)));

    let resealed = blind(&path, &new).await;
    assert_eq!(resealed.of_user(7).await.expect("it answers").len(), 2);
    assert_eq!(
        resealed.of_user(-3).await.expect("it answers")[0].email.as_deref(),
        Some("user-3@example.com")
    );
    let found = resealed.find(Blind::EMAIL.eq("user70000@example.com")).await.expect("it answers");
    assert_eq!((found.len(), found[0].uuid, found[0].ip_addr), (1, Some([9; 16]), address));
    assert_eq!(resealed.find(Blind::TAG.eq(vec![1, 2, 3])).await.expect("it answers").len(), 4);
    // The one that is left is as it was, and the application can seal it again.
    let both = blind(&path, &format!("{new},{old}")).await;
    assert_eq!(both.reseal_all(|_, _| {}).await.expect("it answers"), 1);
    assert_eq!(tool.keys(&new).json(&["check"])["live"], 5);
}

#[tokio::test]
async fn rows_that_do_not_open_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let url = format!("sqlite:{}", path.display());
    let key = key();
    let mut application = Application::start(&url, &key).await;
    application.sign_in(7).await;
    let tool = Tool::new(&url).keys(&key);
    assert_eq!(
        tool.json(&["check"]),
        json!({ "live": 7, "expired": 0, "faults": 0, "reasons": {}, "not_compared": {} })
    );
    let database = Connection::open(&path).expect("it opens");
    let damage = |sql: &str, visitor: usize| {
        let changed = database.execute(sql, [application.tokens[visitor].0.session_id().as_bytes()]);
        assert_eq!(changed.expect("it is changed"), 1);
    };
    damage("UPDATE cli_shop SET revision = revision + 1 WHERE id = ?", 0);
    damage("UPDATE cli_shop SET state = x'0102' WHERE id = ?", 1);
    damage("UPDATE cli_shop SET state = zeroblob(100000) WHERE id = ?", 2);
    damage("UPDATE cli_shop SET user_id = 'nobody' WHERE id = ?", 3);
    damage("UPDATE cli_shop SET id = x'00' WHERE id = ?", 4);
    // What has expired is removed, under whichever key it is.
    damage("UPDATE cli_shop SET expiration = 1 WHERE id = ?", 5);
    let lines = json_lines(&tool.run(&["check", "--json"], 3).stdout);
    let fault = |visitor: usize| {
        let found = lines.iter().find(|line| line["id"] == application.id(visitor));
        found.and_then(|line| line["fault"].as_str()).unwrap_or_default()
    };
    assert!(fault(0).contains("tampered"), "{lines:?}");
    assert!(fault(1).contains("no sealed session"), "{lines:?}");
    assert!(fault(2).contains("max_state_bytes"), "{lines:?}");
    assert!(fault(3).contains("`user_id`"), "{lines:?}");
    let report = lines.last().expect("a report");
    assert_eq!(
        [&report["live"], &report["expired"], &report["faults"]],
        [&json!(1), &json!(1), &json!(5)],
        "{report}"
    );
    assert_eq!(report["reasons"]["its key is no session id"], 1);
    let text = tool.run(&["check"], 3).stdout;
    assert!(text.contains("1 row  its key is no session id\n"), "{text}");
    let shown = tool.run(&["show", &application.id(0)], 3);
    assert!(shown.stdout.contains("revision"), "{shown:?}");
    assert_eq!(application.count_signed_in(&application.tokens).await, 1);
}

#[tokio::test]
async fn a_bad_key_connects_to_nothing() {
    let tool = Tool::new("sqlite:no-such-folder/none.db").keys("hunter2");
    let refused = tool.run(&["check"], 1);
    assert!(refused.stderr.contains("SESSION_KEY") && !refused.stderr.contains("hunter2"), "{refused:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    fs::write(&file, key()).expect("it is written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its owner may");
    let refused = tool.run(&["check", "--key-file", file.to_str().expect("UTF-8")], 1);
    assert!(refused.stderr.contains("other users can read"), "{refused:?}");
    let refused = tool.run(&["check", "--key-env", "NO_SUCH_VARIABLE"], 1);
    assert!(refused.stderr.contains("set it to the keys of the program"), "{refused:?}");
    assert!(!refused.stderr.contains("openssl"), "a new key opens nothing: {refused:?}");
}

#[tokio::test]
async fn a_key_is_read_only_where_it_is_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("sessions.db").display());
    let mut application = Application::start(&url, &key()).await;
    application.sign_in(1).await;
    let id = application.id(0);
    for keys in ["", "hunter2"] {
        let tool = Tool::new(&url).keys(keys);
        for arguments in [&["stats"][..], &["stats", "--scan"], &["list"], &["list", "--ip", "203.0.113.1"]] {
            tool.run(arguments, 0);
        }
        for arguments in [&["revoke", "--everyone"][..], &["revoke", &id]] {
            tool.run(arguments, 5);
        }
        tool.run(&["check"], if keys.is_empty() { 2 } else { 1 });
    }
    let tool = Tool::new(&url).keys("hunter2");
    assert!(tool.run(&["stats", "--scan"], 0).stderr.contains("no key is marked"));
    tool.run(&["show", &id], 1);
    tool.run(&["revoke", "--user", "1"], 1);
    tool.run(&["stats", "--key-env", "SESSION_KEY"], 1);
}

#[tokio::test]
async fn a_new_key_has_the_id_that_rows_are_named_by() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new.key");
    let arguments = ["keygen", "--output", path.to_str().expect("UTF-8")];
    let made = Printed::of(&bare(&arguments).output().expect("it runs"), &arguments, 0).stdout;
    let id = made.trim().rsplit_once("its id is ").expect("an id").1;
    let url = format!("sqlite:{}", folder.path().join("sessions.db").display());
    let key = fs::read_to_string(&path).expect("it is read");
    Application::start(&url, &key).await.sign_in(2).await;
    assert_eq!(Tool::new(&url).json(&["stats", "--scan"])["scan"]["keys"], json!({ id: 2 }));
}

#[tokio::test]
async fn a_column_that_was_changed_is_a_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let url = format!("sqlite:{}", path.display());
    let key = key();
    let mut application = Application::start(&url, &key).await;
    application.sign_in(9).await;
    let tool = Tool::new(&url).keys(&key);
    assert_eq!(tool.json(&["check"])["not_compared"], json!({}));
    let database = Connection::open(&path).expect("it opens");
    let changes = [
        ("user_id", "1"),
        ("user_id", "NULL"),
        ("ip_addr", "'203.0.113.99'"),
        ("ip_addr", "NULL"),
        ("tenant", "'acme'"),
        ("weight", "7.5"),
        ("digest", "x'00'"),
    ];
    // The digest of every other one is there.
    let visitors = [1, 2, 3, 4, 5, 6, 7];
    for ((column, value), visitor) in changes.into_iter().zip(visitors) {
        let sql = format!("UPDATE cli_shop SET {column} = {value} WHERE id = ?");
        let id = application.tokens[visitor].0.session_id();
        assert_eq!(database.execute(&sql, [id.as_bytes()]).expect("it is changed"), 1);
    }
    let printed = tool.run(&["check", "--json"], 3);
    let lines = json_lines(&printed.stdout);
    for ((column, _), visitor) in changes.into_iter().zip(visitors) {
        let id = application.id(visitor);
        let fault = lines.iter().find(|line| line["id"] == id).and_then(|line| line["fault"].as_str());
        assert!(fault.is_some_and(|fault| fault.contains(&format!("the column `{column}`"))), "{printed:?}");
        let shown = tool.run(&["show", &id], 3);
        assert!(shown.stderr.contains(&format!("the column `{column}`")), "{shown:?}");
    }
    let report = lines.last().expect("a report");
    assert_eq!((&report["live"], &report["faults"]), (&json!(2), &json!(7)));
    // The program says the same.
    assert_eq!(application.count_signed_in(&application.tokens).await, 2);
}

#[derive(Databag)]
#[databag(name = "tests/Own", table = "cli_own")]
struct Own {
    /// Its column has another name, and is its role's.
    #[databag(user_id)]
    account: Option<i64>,
    #[databag(column)]
    team: Option<Team>,
}

#[tokio::test]
async fn a_column_of_a_type_of_the_programs_own_is_said_to_be_not_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let key = key();
    let store = SqliteStore::open(&path).expect("it opens");
    let keyring = Keyring::parse(&key).expect("good keys");
    let sessions = Sessions::<Own>::builder(store).keyring(keyring).build().await.expect("it builds");
    for account in [7, 8] {
        let bag = Own { account: Some(account), team: Some(Team("red".to_owned(), 1)) };
        sessions.create(bag).await.expect("it is stored");
    }
    let tool = Tool::new(&format!("sqlite:{}", path.display())).table("cli_own").keys(&key);
    let report = tool.json(&["check"]);
    assert_eq!((&report["live"], &report["not_compared"]), (&json!(2), &json!({ "team": 2 })));
    let text = tool.run(&["check"], 0).stdout;
    assert!(text.contains("the column `team` of 2 sessions was not compared"), "{text}");
    let row = tool.json(&["list", "--user", "7"]);
    let id = row["id"].as_str().expect("an id");
    assert_eq!(tool.json(&["show", id])["record"]["not_compared"], json!(["team"]));
    assert!(tool.run(&["show", id], 0).stdout.contains("not compared           team"), "people see it");
    let database = Connection::open(&path).expect("it opens");
    database.execute("UPDATE cli_own SET user_id = 1 WHERE user_id = 7", []).expect("it is changed");
    let changed = tool.run(&["show", id], 3);
    assert!(changed.stderr.contains("the column `user_id`"), "{changed:?}");
}

#[derive(Databag)]
#[databag(name = "tests/Named", table = "cli_named")]
struct Named {
    #[databag(user_id)]
    user: Option<String>,
    /// Two columns that have each other's names.
    #[databag(column = "far")]
    near: i64,
    #[databag(column = "near")]
    far: i64,
}

#[tokio::test]
async fn a_stranger_who_was_made_a_user_is_a_fault_and_a_column_of_another_name_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let key = key();
    let store = SqliteStore::open(&path).expect("it opens");
    let keyring = Keyring::parse(&key).expect("good keys");
    let sessions = Sessions::<Named>::builder(store).keyring(keyring).build().await.expect("it builds");
    sessions.create(Named { user: None, near: 1, far: 2 }).await.expect("it is stored");
    let tool = Tool::new(&format!("sqlite:{}", path.display())).table("cli_named").keys(&key);
    assert_eq!(tool.json(&["check"])["live"], json!(1));
    let database = Connection::open(&path).expect("it opens");
    database.execute("UPDATE cli_named SET user_id = 'root'", []).expect("it is changed");
    let printed = tool.run(&["check", "--json"], 3);
    assert!(printed.stdout.contains("the column `user_id`"), "{printed:?}");
}

#[tokio::test]
async fn work_is_finished_without_a_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let url = format!("sqlite:{}", path.display());
    let (old, new) = (key(), key());
    let mut application = Application::start(&url, &old).await;
    application.sign_in(400).await;
    let database = Connection::open(&path).expect("it opens");
    let damaged = database.execute("UPDATE cli_shop SET revision = revision + 1 WHERE user_id <= 100", []);
    assert_eq!(damaged.expect("it is changed"), 100);
    let tool = Tool::new(&url);
    tool.clone().keys(&format!("{new},{old}")).run_unread(&["reseal"], 3);
    let tool = tool.keys(&new);
    let report = json_lines(&tool.run(&["check", "--json"], 3).stdout).pop().expect("a report");
    assert_eq!((&report["live"], &report["faults"]), (&json!(300), &json!(100)), "{report}");
    tool.run_unread(&["check", "--json"], 3);
}

#[tokio::test]
async fn a_row_that_moves_behind_a_check_is_no_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let url = format!("sqlite:{}", path.display());
    Application::start(&url, &key()).await.sign_in(1_200).await;
    // Each line of a row is more than 100 bytes: the tool waits for its reader before it reads the last page.
    let mut command = Tool::new(&url).keys(&key()).command(&["check", "--json"]);
    let mut check = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut output = BufReader::new(check.stdout.take().expect("it is piped"));
    let mut text = String::new();
    output.read_line(&mut text).expect("a line");
    let database = Connection::open(&path).expect("it opens");
    let moved = database
        .execute("UPDATE cli_shop SET id = zeroblob(32) WHERE id = (SELECT max(id) FROM cli_shop)", []);
    assert_eq!(moved.expect("it is moved"), 1);
    output.read_to_string(&mut text).expect("it is text");
    let ended = Printed::of(&check.wait_with_output().expect("it ends"), &["check"], 3);
    assert!(ended.stderr.contains("do not open: 1199\n"), "{ended:?}");
    assert_eq!(text.matches("\"fault\":\"it is sealed with the key").count(), 1_199, "one has moved");
    assert!(!text.contains("its key is no session id"), "{text}");
}

#[derive(Databag)]
#[databag(name = "tests/Hidden", table = "cli_hidden")]
struct Hidden {
    #[databag(user_id, blind)]
    user_id: Option<String>,
    #[databag(column, blind)]
    device: Option<Vec<u8>>,
    #[databag(column, blind)]
    score: Option<f64>,
}

#[tokio::test]
async fn the_sessions_of_a_blind_user_are_told_from_those_of_a_missing_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let (old, new) = (key(), key());
    for keys in [old.clone(), format!("{new},{old}")] {
        let store = SqliteStore::open(&path).expect("it opens");
        let keyring = Keyring::parse(&keys).expect("good keys");
        let sessions = Sessions::<Hidden>::builder(store).keyring(keyring).build().await.expect("it builds");
        let user_id = Some("dana".to_owned());
        let bag = Hidden { user_id, device: Some(vec![0, 255, 7]), score: Some(0.5) };
        sessions.create(bag).await.expect("it is stored");
    }
    let tool = Tool::new(&format!("sqlite:{}", path.display())).table("cli_hidden");
    let table = tool.run(&["list"], 0).stdout;
    assert_eq!(table.matches("hash:").count(), 6, "{table}");
    let shown = table.lines().nth(1).expect("a row");
    let both = tool.clone().keys(&format!("{new},{old}"));
    for condition in ["device=0x00ff07", "score=0.5"] {
        assert_eq!(both.lines(&["list", "--column", condition]).len(), 2, "{condition}");
    }
    for hash in shown.split_whitespace().filter(|cell| cell.starts_with("hash:")).skip(1) {
        let found = ["device", "score"].map(|column| {
            let condition = format!("{column}={hash}");
            tool.command(&["list", "--json", "--column", &condition]).output().expect("it runs").stdout
        });
        assert!(found.iter().any(|lines| !lines.is_empty()), "{hash} finds its row");
    }
    assert_eq!(both.json(&["check"])["not_compared"], json!({}));
    let database = Connection::open(&path).expect("it opens");
    let other_hash =
        "UPDATE cli_hidden SET score = randomblob(16) WHERE id = (SELECT min(id) FROM cli_hidden)";
    let kept: Vec<u8> = database
        .query_row("SELECT score FROM cli_hidden ORDER BY id LIMIT 1", [], |row| row.get(0))
        .expect("a hash");
    database.execute(other_hash, []).expect("it is changed");
    assert_eq!(count_faults(&both.run(&["check", "--json"], 3), "the column `score`"), 1);
    database.execute(&other_hash.replace("randomblob(16)", "?"), [kept]).expect("it is changed");
    let with_new = tool.clone().keys(&new);
    let user = table.lines().nth(1).and_then(|row| row.split_whitespace().nth(1)).expect("a hash");
    assert!(
        !with_new.run(&["revoke", "--user", user], 5).stderr.contains("keys"),
        "it names its rows itself"
    );
    let ended = with_new.run(&["revoke", "--user", "dana", "--yes"], 3);
    assert!(ended.stdout.contains("ended 1 session\n"), "{ended:?}");
    assert!(ended.stderr.contains("1 live session of a blind column"), "{ended:?}");
    assert_eq!(both.json(&["revoke", "--user", "dana", "--yes"])["ended"].as_array().map(Vec::len), Some(1));
}
