//! The way of sessions from one store to another.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use session_runtime::{Keyring, Token};
use tempfile::TempDir;

use crate::tool::{Application, Printed, SECRET, Shop, Tool, json_lines};

struct Stores {
    folder: TempDir,
    key: String,
    application: Application,
}

impl Stores {
    async fn with(users: i64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = Keyring::generate_text().to_string();
        let mut application = Application::start(&url(&folder, "old.db"), &key).await;
        application.sign_in(users).await;
        Self { folder, key, application }
    }

    fn tool(&self, database: &str) -> Tool {
        Tool::new(&url(&self.folder, database))
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Starts the application on another database.
    async fn moved(&self, database: &str) -> Application {
        Application::start(&url(&self.folder, database), &self.key).await
    }

    fn visitors(&self) -> &[(Token, Shop)] {
        &self.application.tokens
    }
}

fn url(folder: &TempDir, database: &str) -> String {
    format!("sqlite:{}", folder.path().join(database).display())
}

#[tokio::test]
async fn an_application_reads_every_session_where_it_was_imported() {
    let stores = Stores::with(300).await;
    let file = stores.path("sessions.jsonl");
    let exported = stores.tool("old.db").json(&["export", "--output", &file]);
    assert_eq!(exported, json!({ "written": 300, "left_out": 0 }));
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).expect("it is text");
    assert!(!text.contains(SECRET) && !text.contains(&stores.key));
    assert!(stores.visitors().iter().all(|(token, _)| !text.contains(&*token.encode())));
    stores.tool("old.db").run(&["export", "--output", &file], 1);

    let new = stores.tool("new.db");
    let refused = new.run(&["import", "--input", &file], 5);
    assert!(refused.stderr.contains("begin again"), "{refused:?}");
    let imported = new.json(&["import", "--input", &file, "--yes"]);
    assert_eq!(
        [&imported["read"], &imported["stored"], &imported["live_there"]],
        [300; 3].map(|n| json!(n)).each_ref()
    );
    let moved = stores.moved("new.db").await;
    assert_eq!(moved.count_signed_in(stores.visitors()).await, 300);
    // Again: what is there stays.
    assert_eq!(new.json(&["import", "--input", &file, "--yes"])["kept"], 300);
    let refused = new.run(&["import", "--input", &file], 5);
    assert!(refused.stderr.contains("has 300 rows already"), "{refused:?}");
    let copy = ["copy", "--to", &url(&stores.folder, "new.db")];
    let refused = stores.tool("old.db").run(&copy, 5);
    assert!(refused.stderr.contains("has 300 rows already"), "{refused:?}");
    let refused = stores.tool("old.db").run(&["copy", "--to", &url(&stores.folder, "empty.db")], 5);
    assert!(!refused.stderr.contains("already"), "{refused:?}");
    assert!(!stores.folder.path().join("empty.db").exists(), "nothing was changed");
    let places = ["old.db", "empty.db"].map(|name| url(&stores.folder, name));
    let question = format!("from {} to {}?", places[0], places[1]);
    assert!(refused.stderr.contains(&question), "{refused:?}");
    for arguments in [&["copy", "--to", "foo:"][..], &["copy", "--to", "foo:", "--yes"]] {
        stores.tool("old.db").run(arguments, 2);
    }
    Tool::new("foo:").run(&["import", "--input", &file], 2);
    assert_eq!(moved.count_signed_in(stores.visitors()).await, 300);
}

#[tokio::test]
async fn an_export_is_piped_into_an_import() {
    let stores = Stores::with(20).await;
    let mut export = stores.tool("old.db").command(&["export", "--output", "-"]);
    let mut export = export.stdout(Stdio::piped()).spawn().expect("it runs");
    let arguments = ["import", "--input", "-", "--yes"];
    let mut import = stores.tool("new.db").command(&arguments);
    let import = import.stdin(export.stdout.take().expect("it is piped")).output().expect("it runs");
    Printed::of(&import, &arguments, 0);
    assert!(export.wait().expect("it ends").success());
    assert_eq!(stores.moved("new.db").await.count_signed_in(stores.visitors()).await, 20);
}

#[tokio::test]
async fn a_row_is_never_replaced_by_an_older_one() {
    let stores = Stores::with(4).await;
    let (file, later) = (stores.path("first.jsonl"), stores.path("later.jsonl"));
    let old = stores.tool("old.db");
    old.run(&["export", "--output", &file], 0);
    let id = |visitor: usize| stores.visitors()[visitor].0.session_id();
    let change = |shop: &mut Shop| shop.tenant = Some("changed".to_owned());
    stores.application.sessions.update(id(0), change).await.expect("it is stored");
    old.run(&["export", "--output", &later], 0);
    let new = stores.tool("new.db");
    new.run(&["import", "--input", &file, "--yes"], 0);
    assert_eq!(new.json(&["import", "--input", &later, "--yes"])["updated"], 1);
    assert_eq!(new.json(&["import", "--input", &file, "--yes"])["kept"], 4);
    let moved = stores.moved("new.db").await;
    let tenant = moved.sessions.get(id(0)).await.expect("it answers").expect("it is live").tenant.clone();
    assert_eq!(tenant.as_deref(), Some("changed"));
}

#[tokio::test]
async fn a_file_that_is_cut_off_or_of_another_bag_is_told() {
    let stores = Stores::with(3).await;
    let file = stores.path("sessions.jsonl");
    stores.tool("old.db").run(&["export", "--output", &file], 0);
    let text = fs::read_to_string(&file).expect("it is text");
    let new = stores.tool("new.db");
    fs::write(&file, &text[..text.len() - 40]).expect("it is written");
    let cut = new.run(&["import", "--input", &file, "--yes"], 1);
    assert!(cut.stderr.contains("cut off"), "{cut:?}");
    fs::write(&file, &text).expect("it is written");
    assert_eq!(new.json(&["import", "--input", &file, "--yes"])["live_there"], 3);
    fs::write(&file, text.replace("tests/Shop", "tests/Other")).expect("it is written");
    let foreign = new.run(&["import", "--input", &file, "--yes"], 2);
    assert!(foreign.stderr.contains("belongs to the bag `tests/Shop`"), "{foreign:?}");
    // Under another name it is stored, and nothing of it opens.
    let other = Tool::new(&url(&stores.folder, "other.db"));
    other.run(&["import", "--input", &file, "--yes"], 0);
    let check = other.keys(&stores.key).run(&["check"], 3);
    assert_eq!(check.stdout.matches("tampered").count(), 3, "{check:?}");
}

#[tokio::test]
async fn a_copy_that_is_killed_is_continued() {
    const SESSIONS: i64 = 4_000;
    let stores = Stores::with(SESSIONS).await;
    let arguments = ["copy", "--to", &url(&stores.folder, "new.db"), "--yes"];
    let count_stored = || {
        let database = Connection::open(stores.folder.path().join("new.db")).ok()?;
        database.query_row("SELECT count(*) FROM cli_shop", [], |row| row.get::<_, i64>(0)).ok()
    };
    let mut kills = 0;
    for least in [1, 1_000, 2_000] {
        let mut copy = stores.tool("old.db").command(&arguments);
        let mut copy = copy.stdout(Stdio::null()).spawn().expect("it runs");
        let until = Instant::now() + Duration::from_mins(1);
        while count_stored().is_none_or(|count| count < least) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        // SIGKILL
        copy.kill().expect("it runs");
        kills += u32::from(!copy.wait().expect("it ends").success());
    }
    assert!(kills > 0, "it was faster than each of the three kills");
    let copied = stores.tool("old.db").json(&arguments[..]);
    assert_eq!((&copied["read"], &copied["live_there"]), (&json!(SESSIONS), &json!(SESSIONS)), "{copied}");
    assert!(copied["kept"].as_i64() > Some(0), "{copied}");
    let moved = stores.moved("new.db").await;
    assert_eq!(moved.count_signed_in(stores.visitors()).await, usize::try_from(SESSIONS).expect("few"));
    let check = stores.tool("new.db").keys(&stores.key).json(&["check"]);
    assert_eq!((&check["live"], &check["faults"]), (&json!(SESSIONS), &json!(0)));
}

#[tokio::test]
async fn what_was_read_before_a_wrong_line_is_stored_and_reported() {
    let stores = Stores::with(5).await;
    let file = stores.path("sessions.jsonl");
    stores.tool("old.db").run(&["export", "--output", &file], 0);
    let text = fs::read_to_string(&file).expect("it is text");
    let end = "{\"end\":{\"rows\":5}}";
    for (database, last, reason) in
        [("one.db", "{}", "it is no row"), ("other.db", "{\"end\":{\"rows\":6}}", "has 6 rows, and it has 5")]
    {
        fs::write(&file, text.replace(end, last)).expect("it is written");
        let wrong = stores.tool(database).run(&["import", "--input", &file, "--yes", "--json"], 1);
        assert!(wrong.stderr.contains(reason), "{wrong:?}");
        assert_eq!(json_lines(&wrong.stdout)[0]["stored"], 5);
        assert_eq!(stores.moved(database).await.count_signed_in(stores.visitors()).await, 5);
    }
}

#[tokio::test]
async fn a_file_does_not_rewrite_the_question() {
    let stores = Stores::with(1).await;
    let file = stores.path("sessions.jsonl");
    stores.tool("old.db").run(&["export", "--output", &file], 0);
    let text = fs::read_to_string(&file).expect("it is text");
    fs::write(&file, text.replace("tests/Shop", "\\u001b[2K\\rharmless")).expect("it is written");
    let refused = stores.tool("new.db").run(&["import", "--input", &file], 5);
    assert!(!refused.stderr.contains(['\u{1b}', '\r']), "{refused:?}");
    assert!(refused.stderr.contains("`\\u{1b}[2K\\rharmless`"), "{refused:?}");
}

#[tokio::test]
async fn an_export_that_is_not_whole_fails() {
    let stores = Stores::with(400).await;
    let failed = stores.tool("old.db").run_unread(&["export", "--output", "-"], 1);
    assert!(failed.stderr.contains("the reader of the output has gone"), "{failed:?}");
    // A limit is a full disk: the file of this run is removed, and the next run can make it.
    let file = stores.path("sessions.jsonl");
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_databag")]);
    limited.args(["export", "--table", "cli_shop", "--output", &file]);
    let output = limited.env("SESSION_STORE", url(&stores.folder, "old.db")).output().expect("it runs");
    Printed::of(&output, &["export"], 1);
    assert_eq!(stores.tool("old.db").json(&["export", "--output", &file])["written"], 400);
}

#[tokio::test]
async fn what_has_just_expired_goes_along() {
    let stores = Stores::with(4).await;
    let database = Connection::open(stores.folder.path().join("old.db")).expect("it opens");
    let expire = |since: &str, user: i64| {
        let expiration = format!("(CAST(strftime('%s', 'now', '{since}') AS INTEGER)) * 1000");
        let sql = format!("UPDATE cli_shop SET expiration = {expiration} WHERE user_id = ?");
        assert_eq!(database.execute(&sql, [user]).expect("it is changed"), 1);
    };
    // By a clock that is an hour ahead it would be this one.
    expire("-1 hours", 1);
    expire("-2 days", 2);
    let copied = stores.tool("old.db").json(&["copy", "--to", &url(&stores.folder, "new.db"), "--yes"]);
    assert_eq!((&copied["stored"], &copied["live_there"]), (&json!(3), &json!(2)), "{copied}");
    let file = stores.path("sessions.jsonl");
    assert_eq!(stores.tool("old.db").json(&["export", "--output", &file])["written"], 3);
    let imported = stores.tool("other.db").json(&["import", "--input", &file, "--yes"]);
    assert_eq!((&imported["stored"], &imported["live_there"]), (&json!(3), &json!(2)), "{imported}");
}
