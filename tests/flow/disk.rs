//! A database file that cannot grow, is locked, damaged, deleted, or not a database: the answers that visitors get.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, test, web};
use databag_tests::{Answer, Browser, Site};
use rusqlite::Connection;
use session_runtime::{
    Cleanup, Databag, Durability, Keyring, Session, SessionMiddleware, Sessions, SqliteStore,
};

const COOKIE: &str = "__Host-disk";

#[derive(Databag)]
#[databag(table = "sessions", cookie = "__Host-disk")]
struct Notes {
    text: String,
}

async fn write(mut session: Session<Notes>, length: web::Path<usize>) -> &'static str {
    session.text = "x".repeat(*length);
    "written"
}

async fn read(session: Session<Notes>) -> String {
    session.text.len().to_string()
}

async fn log_out(mut session: Session<Notes>) -> &'static str {
    session.destroy();
    "out"
}

/// A site on a file.
struct Disk {
    site: Site,
    folder: tempfile::TempDir,
    key: String,
}

impl Disk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path().join("disk.db")).expect("a database");
        Self::of(folder, store, Keyring::generate_text().as_str().to_owned()).await
    }

    async fn of(folder: tempfile::TempDir, store: SqliteStore, key: String) -> Self {
        let sessions = Sessions::<Notes>::builder(store.durability(Durability::Full))
            .keyring(Keyring::parse(&key).expect("a key"))
            .cleanup(Cleanup::Never)
            .deadline(Duration::from_millis(400))
            .build()
            .await
            .expect("good settings");
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions))
            .route("/", web::get().to(read))
            .route("/write/{length}", web::post().to(write))
            .route("/logout", web::post().to(log_out));
        Self { site: Site::new(test::init_service(app).await), folder, key }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk.db")
    }

    /// Returns a browser with a session of this many characters.
    async fn visitor(&self, length: usize) -> Browser {
        let browser = self.site.browser();
        assert_eq!(browser.post(&format!("/write/{length}")).await.status, 200);
        browser
    }
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "Service Unavailable"));
    assert_eq!(answer.all("retry-after").len(), 1);
    assert!(answer.set_cookies().is_empty());
}

#[actix_web::test]
async fn in_a_database_that_cannot_grow_reads_work_and_writes_are_503_until_there_is_room() {
    // The limit applies to the database and not to its log. A log-out needs room in the log only, so it works and frees
    // pages. On a full disk a log-out is 503 too.
    let folder = tempfile::tempdir().expect("a folder");
    let connection = Connection::open(folder.path().join("disk.db")).expect("a database");
    connection.pragma_update(None, "max_page_count", 26).expect("the size can be limited");
    let store = SqliteStore::from_connection(connection).expect("a store");
    let disk = Disk::of(folder, store, Keyring::generate_text().as_str().to_owned()).await;
    let small = disk.visitor(10).await;
    let large = disk.visitor(50_000).await;
    let cookie = small.cookie(COOKIE);
    for _ in 0..3 {
        assert_unavailable(&small.post("/write/50000").await);
        assert_unavailable(&disk.site.browser().post("/write/50000").await);
        assert_eq!(small.get("/").await.body, "10", "reads work, and the old row is intact");
        assert_eq!(large.get("/").await.body, "50000");
    }
    assert_eq!(small.cookie(COOKIE), cookie);
    assert_eq!(large.post("/logout").await.status, 200);
    assert_eq!(small.post("/write/50000").await.status, 200, "it recovers without a restart");
    assert_eq!(small.get("/").await.body, "50000");
}

#[actix_web::test]
async fn a_database_locked_past_the_deadline_is_503_for_writes_only() {
    let disk = Disk::new().await;
    let visitor = disk.visitor(10).await;
    // The child process fails if the reader of its output is dropped before it ends.
    let (mut holder, _printed) = lock_elsewhere(&disk.path());
    let since = Instant::now();
    assert_unavailable(&visitor.post("/write/20").await);
    assert_unavailable(&disk.site.browser().post("/write/20").await);
    assert!(since.elapsed() >= Duration::from_millis(400), "the request waits until its deadline");
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "the request does not wait much longer: {:?}",
        since.elapsed()
    );
    assert_eq!(visitor.get("/").await.body, "10");
    holder.stdin.take().expect("it listens").write_all(b"\n").expect("it listens");
    assert!(holder.wait().expect("it ends").success());
    assert_eq!(visitor.post("/write/30").await.status, 200, "it recovers without a restart");
    assert_eq!(visitor.get("/").await.body, "30");
}

/// Runs this program again, which holds the lock of a database until its input ends.
fn lock_elsewhere(path: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let program = std::env::current_exe().expect("a program");
    let mut child = Command::new(program)
        .args(["disk::hold_a_lock_for_another_test", "--exact", "--nocapture"])
        .env("LOCK_DATABASE", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("it prints")).lines();
    let held = lines.by_ref().map_while(Result::ok).any(|line| line.contains("the lock is held"));
    assert!(held, "the child process holds the lock");
    (child, lines)
}

/// Run by [`lock_elsewhere`]; otherwise it does nothing.
#[::std::prelude::v1::test]
fn hold_a_lock_for_another_test() {
    let Some(path) = std::env::var_os("LOCK_DATABASE") else { return };
    let connection = Connection::open(path).expect("a database");
    connection.execute_batch("BEGIN IMMEDIATE").expect("it is free");
    println!("\nthe lock is held");
    // The input also ends if the parent process has died.
    std::io::stdin().read_line(&mut String::new()).expect("the input can be read");
    connection.execute_batch("ROLLBACK").expect("it is held");
}

#[actix_web::test]
async fn a_database_that_is_deleted_in_use_is_503_and_never_created_again() {
    let disk = Disk::new().await;
    let visitor = disk.visitor(10).await;
    let cookie = visitor.cookie(COOKIE);
    fs::remove_file(disk.path()).expect("it is there");
    for _ in 0..2 {
        assert_unavailable(&visitor.post("/write/20").await);
        assert_unavailable(&disk.site.browser().post("/write/20").await);
    }
    // Readers check the path once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_unavailable(&visitor.get("/").await);
    assert_eq!(visitor.cookie(COOKIE), cookie);
    assert!(!disk.path().exists());
}

#[actix_web::test]
async fn requests_that_read_a_damaged_page_are_503_and_the_file_is_kept() {
    let disk = Disk::new().await;
    let mut visitors = Vec::new();
    for _ in 0..60 {
        visitors.push(disk.visitor(1_000).await);
    }
    let cookies: Vec<_> = visitors.iter().map(|visitor| visitor.cookie(COOKIE).expect("a cookie")).collect();
    let disk = {
        let path = disk.path();
        drop(visitors);
        let Disk { site, folder, key } = disk;
        drop(site);
        // A checkpoint moves the log into the file before the file is damaged.
        let connection = Connection::open(&path).expect("a database");
        connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").ok();
        drop(connection);
        let mut bytes = fs::read(&path).expect("it can be read");
        let damaged = bytes.len() / 4096 * 3 / 4 * 4096;
        bytes[damaged..damaged + 4096].fill(0xA5);
        fs::write(&path, &bytes).expect("it can be written");
        let store = SqliteStore::open(&path).expect("its first page is good");
        Disk::of(folder, store, key).await
    };
    let before = fs::read(disk.path()).expect("it can be read").len();
    let mut unavailable = 0;
    for cookie in &cookies {
        let browser = disk.site.browser();
        browser.set_cookie(COOKIE, cookie);
        let answer = browser.get("/").await;
        if answer.status == 503 {
            assert_unavailable(&answer);
            unavailable += 1;
        } else {
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "1000"), "the session survives");
        }
        assert_eq!(browser.cookie(COOKIE).as_ref(), Some(cookie));
    }
    assert!(unavailable > 0 && unavailable < cookies.len(), "{unavailable} of {}", cookies.len());
    assert!(fs::metadata(disk.path()).expect("it is there").len() >= before as u64);
}

#[actix_web::test]
async fn a_file_that_is_no_longer_a_database_is_503_and_unchanged() {
    let disk = Disk::new().await;
    let visitor = disk.visitor(10).await;
    let cookie = visitor.cookie(COOKIE);
    let (text, other) = ("this is no database. ".repeat(500), disk.folder.path().join("text"));
    fs::write(&other, &text).expect("the folder takes files");
    fs::rename(&other, disk.path()).expect("it can be replaced");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(disk.folder.path().join(format!("disk.db{suffix}")));
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for _ in 0..2 {
        assert_unavailable(&visitor.post("/write/20").await);
        assert_unavailable(&visitor.get("/").await);
    }
    assert_eq!(visitor.cookie(COOKIE), cookie);
    assert_eq!(fs::read_to_string(disk.path()).expect("it is there"), text);
    assert!(SqliteStore::open(disk.path()).is_err(), "a store on this file is refused");
    assert_eq!(fs::read_to_string(disk.path()).expect("it is there"), text);
}
