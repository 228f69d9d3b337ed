//! Who is signed in, and the end of sessions.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use databag_tests::demo::{Shop as Demo, Visitor};
use rusqlite::Connection;
use serde_json::json;
use session_runtime::{Databag, Keyring, Sessions, SqliteStore};
use tempfile::TempDir;

use crate::tool::{Application, Printed, SECRET, Tool, bare, shop};

fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let url = format!("sqlite:{}", folder.path().join("sessions.db").display());
    (folder, url)
}

fn key() -> String {
    Keyring::generate_text().to_string()
}

#[test]
fn a_session_that_is_revoked_beside_the_demo_is_gone_at_its_next_request() {
    let (folder, _) = folder();
    let demo = Demo::new(&shop(), &folder).start();
    let tool =
        Tool::new(&format!("sqlite:{}", folder.path().join("shop.db").display())).table("shop_sessions");
    let signed_in = |user: &str| {
        let mut visitor = Visitor::of(&demo);
        visitor.api("/login", &format!("user={user}"));
        visitor
    };
    let mut visitors = ["7", "7", "8", "9"].map(signed_in);
    for visitor in &mut visitors {
        assert_eq!(visitor.session()["is_new"], false);
    }
    let of_seven = tool.lines(&["list", "--user", "7"]);
    assert_eq!(of_seven.len(), 2);
    let [first, second, third, fourth] = &mut visitors;

    let id = of_seven[1]["id"].as_str().expect("an id");
    assert_eq!(tool.json(&["revoke", &id[..8], "--yes"]), json!({ "ended": [id] }));
    assert_eq!([first.session()["is_new"].clone(), second.session()["is_new"].clone()], [true, false]);

    tool.run(&["revoke", "--user", "7", "--yes"], 0);
    assert_eq!([second.session()["is_new"].clone(), third.session()["is_new"].clone()], [true, false]);

    let everyone = tool.run(&["revoke", "--everyone", "--yes"], 0);
    assert!(everyone.stdout.starts_with("ended "), "{everyone:?}");
    assert_eq!([third.session()["is_new"].clone(), fourth.session()["is_new"].clone()], [true, true]);
    // The shop goes on, and its sessions with it.
    assert_eq!(signed_in("7").session()["user_id"], 7);
}

#[tokio::test]
async fn what_an_application_keeps_in_memory_ends_with_a_revocation() {
    let (_folder, url) = folder();
    let key = key();
    let mut application = Application::start(&url, &key).await;
    application.sign_in(3).await;
    // Each row is in the cache of the application now.
    assert_eq!(application.count_signed_in(&application.tokens).await, 3);
    let tool = Tool::new(&url);
    tool.run(&["revoke", &application.id(0), &application.id(2), "--yes"], 0);
    assert_eq!(application.count_signed_in(&application.tokens[..1]).await, 0);
    assert_eq!(application.count_signed_in(&application.tokens[1..2]).await, 1);
    tool.run(&["revoke", &application.id(0), "--yes"], 4);
    // Those that are there end, and are named.
    let ids = [application.id(0), application.id(1)];
    let ended = tool.run(&["revoke", &ids[0], &ids[1], "--yes", "--json"], 4);
    assert_eq!(ended.stdout.trim(), json!({ "ended": [ids[1]] }).to_string());
    assert!(ended.stderr.contains(&ids[0]) && !ended.stderr.contains(&ids[1]), "{ended:?}");
    assert_eq!(application.count_signed_in(&application.tokens).await, 0);
}

#[tokio::test]
async fn nothing_ends_without_a_confirmation() {
    let (_folder, url) = folder();
    let mut application = Application::start(&url, &key()).await;
    application.sign_in(3).await;
    let tool = Tool::new(&url);
    for arguments in
        [&["revoke", "--everyone"][..], &["revoke", "--user", "1"], &["revoke", &application.id(0)]]
    {
        let refused = tool.run(arguments, 5);
        assert!(refused.stderr.contains("--yes"), "{refused:?}");
    }
    let refused = tool.run(&["revoke", &application.id(0)], 5);
    let whose = format!("End 1 session: {} of the user 1 from 203.0.113.1?", &application.id(0)[..16]);
    assert!(refused.stderr.contains(&whose), "{refused:?}");
    let refused = tool.run(&["revoke", "--all"], 2);
    assert!(refused.stderr.contains("--everyone ends all sessions"), "{refused:?}");
    assert_eq!(application.count_signed_in(&application.tokens).await, 3);
    // `script` gives the tool a terminal.
    for (answer, exit, left) in [("n\n", 5, 3), ("\n", 5, 3), ("y\n", 0, 0)] {
        let line = format!("{} revoke --everyone --table cli_shop", env!("CARGO_BIN_EXE_databag"));
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("SESSION_STORE", &url).stdin(Stdio::piped());
        let mut script = script.stdout(Stdio::piped()).spawn().expect("it is part of Debian");
        script.stdin.take().expect("it is piped").write_all(answer.as_bytes()).expect("it is read");
        let printed = Printed::of(&script.wait_with_output().expect("it ends"), &["revoke"], exit);
        assert!(printed.stdout.contains("End 3 sessions of everyone, in `tests/Shop`? [y/N]"), "{printed:?}");
        assert_eq!(application.count_signed_in(&application.tokens).await, left);
    }
}

#[tokio::test]
async fn sessions_are_found_by_what_their_columns_hold() {
    let (_folder, url) = folder();
    let mut application = Application::start(&url, &key()).await;
    application.sign_in(9).await;
    let tool = Tool::new(&url);
    let found = |arguments: &[&str]| {
        let rows = tool.lines(&[&["list"], arguments].concat());
        let mut users: Vec<_> = rows.iter().filter_map(|row| row["user"].as_i64()).collect();
        users.sort_unstable();
        users
    };
    let all = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    assert_eq!(found(&[]), all);
    assert_eq!(found(&["--limit", "2"]).len(), 2);
    assert_eq!(found(&["--user", "7"]), [7]);
    assert_eq!(found(&["--ip", "203.0.113.4"]), [4]);
    assert_eq!(found(&["--column", "tenant=tenant-1"]), [1, 4, 7]);
    assert_eq!(found(&["--column", "weight=2.1"]), [2]);
    assert_eq!(found(&["--column", "digest=0x00ff07", "--column", "tenant=tenant-1"]), [4]);
    assert_eq!(found(&["--newer-than", "1h", "--older-than", "0s"]), all);
    assert_eq!(found(&["--older-than", "1h"]), [0; 0]);
    assert_eq!(found(&["--all"]), all);
    let times: Vec<_> = tool.lines(&["list"]).iter().map(|row| row["created"].to_string()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "the newest first: {times:?}");

    let row = &tool.lines(&["list", "--user", "2"])[0];
    assert_eq!(row["columns"], json!({ "tenant": "tenant-2", "weight": 2.1, "digest": { "hex": "00ff07" } }));
    assert_eq!(
        (&row["ip"], &row["expired"], &row["damaged"]),
        (&json!("203.0.113.2"), &json!(false), &json!(null))
    );
    for (column, option) in [("user_id=7", "--user"), ("ip_addr=203.0.113.4", "--ip")] {
        let refused = tool.run(&["list", "--column", column], 2);
        assert!(refused.stderr.contains(option), "{refused:?}");
    }
    for wrong in [
        ["--user", "dana"],
        ["--column", "no=1"],
        ["--column", "tenant"],
        ["--ip", "localhost"],
        ["--limit", "0"],
    ] {
        tool.run(&[&["list"], &wrong[..]].concat(), 2);
    }
    let table = tool.run(&["list"], 0).stdout;
    assert_eq!(table.lines().count(), 10, "{table}");
    assert!(table.starts_with("ID                USER  ADDRESS"), "{table}");
    assert!(!table.contains('\u{1b}'), "colours are for terminals");
}

#[tokio::test]
async fn a_session_is_shown_without_what_is_in_it() {
    let (_folder, url) = folder();
    let key = key();
    let mut application = Application::start(&url, &key).await;
    application.sign_in(2).await;
    let (id, tool) = (application.id(1), Tool::new(&url));
    let row = tool.json(&["show", &id[..8]]);
    assert_eq!((&row["id"], &row["user"], &row["record"]), (&json!(id), &json!(2), &json!(null)));
    assert_eq!(tool.json(&["show", &format!(" {}\n", id.to_uppercase())])["id"], id);
    let tool = tool.keys(&key);
    let record = &tool.json(&["show", &id])["record"];
    assert_eq!((&record["remembered"], &record["bound_to_user_agent"]), (&json!(false), &json!(false)));
    let fields: Vec<_> =
        record["fields"].as_array().expect("a list").iter().map(|field| &field["name"]).collect();
    assert_eq!(
        fields,
        ["user_id", "ip_addr", "tenant", "weight", "digest"]
            .map(|name| json!(name))
            .iter()
            .chain([&json!(null); 2])
            .collect::<Vec<_>>()
    );
    assert!(record["fields"][5]["expires"].is_string(), "{record}");
    for arguments in [&["show", &id][..], &["list"], &["check"], &["stats", "--scan"], &["reseal"]] {
        for json in [&[][..], &["--json"]] {
            let Printed { stdout, stderr } = tool.run(&[arguments, json].concat(), 0);
            let printed = stdout + &stderr;
            assert!(!printed.contains(&key) && !printed.contains(SECRET), "{arguments:?}: {printed}");
            for (token, _) in &application.tokens {
                assert!(!printed.contains(&*token.encode()), "{arguments:?}: {printed}");
            }
        }
    }
    // What could be a token is not repeated.
    let token = application.tokens[0].0.encode();
    let refused = tool.run(&["show", &token], 2);
    assert!(!refused.stderr.contains(&*token), "{refused:?}");
    tool.run(&["show", "00000000"], 4);
    tool.run(&["show", "0000000"], 2);
}

#[tokio::test]
async fn a_json_bag_names_its_fields() {
    #[derive(Databag)]
    #[databag(name = "tests/Json", table = "cli_json", codec = "json")]
    struct Json {
        #[databag(user_id)]
        user_id: Option<String>,
        cart: Vec<String>,
    }
    let (_folder, url) = folder();
    let key = key();
    let store = SqliteStore::open(url.trim_start_matches("sqlite:")).expect("it opens");
    let keyring = Keyring::parse(&key).expect("a key");
    let sessions = Sessions::<Json>::builder(store).keyring(keyring).build().await.expect("it builds");
    let bag = Json { user_id: Some("dana\u{1b}[31m".to_owned()), cart: vec![SECRET.to_owned()] };
    let (_, session) = sessions.create(bag).await.expect("it is stored");
    let tool = Tool::new(&url).table("cli_json").keys(&key);
    let shown = tool.run(&["show", &session.id().to_string()], 0).stdout;
    assert!(shown.contains("cart") && shown.contains("dana\\u{1b}[31m"), "{shown}");
    assert!(!shown.contains(SECRET) && !shown.contains('\u{1b}'), "{shown}");
}

#[tokio::test]
async fn columns_with_names_of_their_own_are_named_by_an_option() {
    #[derive(Databag)]
    #[databag(
        name = "tests/Renamed",
        table = "cli_renamed",
        columns(
            id = "sid",
            state = "data",
            user_id = "uid",
            ip_addr = "address",
            created = "begun",
            expiration = "until",
            revision = "rev"
        )
    )]
    struct Renamed {
        #[databag(user_id)]
        user_id: Option<i64>,
        #[databag(ip_addr)]
        ip_addr: Option<std::net::IpAddr>,
    }
    let (_folder, url) = folder();
    let key = key();
    let store = SqliteStore::open(url.trim_start_matches("sqlite:")).expect("it opens");
    let keyring = Keyring::parse(&key).expect("a key");
    let sessions = Sessions::<Renamed>::builder(store).keyring(keyring).build().await.expect("it builds");
    sessions.create(Renamed { user_id: Some(7), ip_addr: None }).await.expect("it is stored");
    let tool = Tool::new(&url).table("cli_renamed").keys(&key);
    let refused = tool.run(&["list"], 2);
    assert!(refused.stderr.contains("has no column `id`"), "{refused:?}");
    assert!(refused.stderr.contains("--columns"), "{refused:?}");
    let columns = "id=sid,state=data,created=begun,expiration=until,revision=rev";
    let with_roles = format!("{columns},user_id=uid,ip_addr=address");
    assert_eq!(tool.json(&["list", "--columns", &with_roles, "--user", "7"])["user"], 7);
    // The integer of an unnamed user is a column as any other.
    assert_eq!(tool.json(&["list", "--columns", columns])["columns"]["uid"], 7);
    tool.run(&["list", "--columns", columns, "--user", "7"], 2);
    tool.run(&["list", "--columns", &format!("{columns},user_id=no_such")], 2);
    assert_eq!(tool.json(&["check", "--columns", columns])["live"], 1);
}

#[tokio::test]
async fn a_look_at_a_store_changes_nothing() {
    let (folder, url) = folder();
    let tool = Tool::new(&url);
    tool.run(&["list"], 1);
    assert!(!folder.path().join("sessions.db").exists(), "no file is made");

    let database = Connection::open(folder.path().join("sessions.db")).expect("it opens");
    database.execute_batch("CREATE TABLE other (x)").expect("a table");
    let tables = || {
        let names = database.prepare("SELECT name FROM sqlite_schema").expect("it is read");
        let mut names = names;
        let names = names.query_map([], |row| row.get::<_, String>(0)).expect("it is read");
        names.map(|name| name.expect("a name")).collect::<Vec<_>>()
    };
    let refused = tool.run(&["list"], 2);
    assert!(refused.stderr.contains("there is no table `cli_shop`"), "{refused:?}");
    assert!(refused.stderr.contains("SELECT name FROM databag_owners"), "{refused:?}");
    assert_eq!(tables(), ["other"]);

    // A group may share the file.
    let file = folder.path().join("sessions.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).expect("its owner may");
    Application::start(&url, &key()).await.sign_in(1).await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).expect("its owner may");
    assert_eq!(tool.lines(&["list"]).len(), 1);
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o660);

    // Without its note the bag must be named, and a wrong name is not noted.
    database.execute_batch("DROP TABLE databag_owners").expect("it is dropped");
    let refused = tool.run(&["list"], 2);
    assert!(refused.stderr.contains("--bag"), "{refused:?}");
    assert_eq!(tool.lines(&["list", "--bag", "tests/Wrong"]).len(), 1);
    Application::start(&url, &key()).await.sign_in(1).await;
    let refused = tool.run(&["list", "--bag", "tests/Wrong"], 2);
    assert!(refused.stderr.contains("belongs to the bag `tests/Shop`"), "{refused:?}");
}

#[tokio::test]
async fn expired_rows_are_counted_and_removed() {
    let (folder, url) = folder();
    let key = key();
    let mut application = Application::start(&url, &key).await;
    application.sign_in(5).await;
    let database = Connection::open(folder.path().join("sessions.db")).expect("it opens");
    database.execute("UPDATE cli_shop SET expiration = 1 WHERE user_id <= 2", []).expect("it is changed");
    let tool = Tool::new(&url);
    let stats = tool.json(&["stats"]);
    assert_eq!(
        [&stats["rows"], &stats["live"], &stats["expired"], &stats["signed_in"]],
        [5, 3, 2, 3].map(|n| json!(n)).each_ref()
    );
    assert_eq!((tool.lines(&["list"]).len(), tool.lines(&["list", "--expired"]).len()), (3, 5));
    let refused = tool.run(&["prune"], 5);
    assert!(
        refused.stderr.contains("Remove 2 expired sessions? The clock of this machine says"),
        "{refused:?}"
    );
    assert_eq!(tool.json(&["prune", "--yes"]), json!({ "removed": 2 }));
    assert_eq!(tool.json(&["stats"])["rows"], 3);
    assert_eq!(application.count_signed_in(&application.tokens).await, 3);
}

#[tokio::test]
async fn a_reader_that_goes_ends_the_tool_quietly() {
    let (_folder, url) = folder();
    let mut application = Application::start(&url, &key()).await;
    // More than a pipe holds.
    application.sign_in(400).await;
    for format in [&["--json"][..], &[]] {
        let mut command = Tool::new(&url).command(&[&["list", "--all"], format].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut first).expect("a line");
        let output = child.wait_with_output().expect("it ends");
        assert!(!first.is_empty());
        let printed = Printed::of(&output, &["list"], 0);
        assert_eq!(printed.stderr, "");
    }
}

#[tokio::test]
async fn a_store_and_a_table_are_named_by_variables_too() {
    let (folder, url) = folder();
    Application::start(&url, &key()).await.sign_in(2).await;
    let mut stats = bare(&["stats"]);
    stats.env("SESSION_STORE", &url).env("SESSION_TABLE", "cli_shop");
    let shown = Printed::of(&stats.output().expect("it runs"), &["stats"], 0).stdout;
    assert!(shown.starts_with(&format!("store      {url}\n")), "{shown}");
    let run = |arguments: &[&str]| {
        let mut command = bare(arguments);
        let output = command.current_dir(folder.path()).output().expect("it runs");
        Printed::of(&output, arguments, 2).stderr
    };
    assert!(run(&["stats"]).contains("SESSION_STORE"));
    assert!(run(&["stats", "-s", "sessions.db"]).contains("write sqlite:sessions.db"));
    assert!(run(&["stats", "-s", "none.sqlite"]).contains("write sqlite:none.sqlite"));
    fs::write(folder.path().join("file"), "").expect("it is written");
    assert!(run(&["stats", "-s", "file"]).contains("write sqlite:file"));
    assert!(!run(&["stats", "-s", "x://hunter2.db"]).contains("hunter2"));
}

#[tokio::test]
async fn a_damaged_row_is_marked() {
    let (folder, url) = folder();
    let mut application = Application::start(&url, &key()).await;
    application.sign_in(2).await;
    let tool = Tool::new(&url);
    assert!(!tool.run(&["list"], 0).stdout.contains("DAMAGED"));
    let database = Connection::open(folder.path().join("sessions.db")).expect("it opens");
    database.execute("UPDATE cli_shop SET weight = 'heavy' WHERE user_id = 2", []).expect("it is changed");
    let table = tool.run(&["list"], 0).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].ends_with("DAMAGED"), "{table}");
    let marked = lines.iter().filter(|line| line.ends_with("  weight")).count();
    assert_eq!(marked, 1, "{table}");
}

#[test]
fn no_password_of_a_store_is_printed() {
    for (url, exit) in [
        ("postgres://shop:hunter2@127.0.0.1:1/shop", 1),
        ("redis://:hunter2@127.0.0.1:1", 1),
        ("hunter2://x", 2),
        ("sqlite:", 2),
    ] {
        for arguments in [["stats", "--store", url], ["list", "--store", url]] {
            let output = bare(&arguments).output().expect("it runs");
            let printed = Printed::of(&output, &arguments, exit);
            assert!(!format!("{printed:?}").contains("hunter2"), "{printed:?}");
        }
    }
}
