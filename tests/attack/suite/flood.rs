//! Many requests of strangers: what they may cost, and what they may leave.

use std::fmt::Write as _;
use std::time::Duration;

use session_runtime::{SessionId, Token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bags::{Bag as _, Shop};
use super::case::cases;
use super::client::{Visitor, exchange, request};
use super::measure::{allocated, is_cheap, sized};
use super::target::{Target, is_victim, row_of, victim};

cases! {
    "a flood of invented tokens" [2 29] All => flooded("/read", |n| Some(token(n)));
    "a flood of invented tokens that log out" [2 29] All => flooded("/logout", |n| Some(token(n)));
    "a flood of malformed cookies" [29] All => flooded("/read", |n| Some(format!("junk-{n}")));
    "a flood of malformed cookies that log out" [29] All => flooded("/logout", |n| Some(format!("junk-{n}")));
    "a flood of strangers without a cookie" [29] All => flooded("/read", |_| None);
    "a flood of strangers who are refused a page" [29] All => flooded("/account", |_| None);
    "a flood of long cookies" [22 29] All => flooded("/read", |n| Some(format!("{}{n}", "A".repeat(3_000))));
    "malformed cookies reach no store" [29] Rows => no_calls(|_| "junk".to_owned(), "/read");
    "cookies of another store's form reach no store" [29] Rows => no_calls(|_| "A".repeat(400), "/read");
    "a page without a session reaches no store" [29] Rows => no_calls(token, "/plain");
    "a stranger's page writes nothing" [29] Rows => reads_only();
    "a visitor who only reads is written once a minute" [29] Rows => touched_seldom();
    "a list of a user with many sessions is bounded" [29] Rows => bounded_list();
    "a failed log-out of invented ids" [29] Rows => blocked();
    "connections that send nothing" [22] Any => silent();
    "requests that end in the middle" [22] Any => cut();
    "a trigger that adds what was deleted" [31] Sqlite => trigger();
    "a view in the place of a table" [31] Sqlite => view();
}

fn token(number: usize) -> String {
    let mut bytes = [0x5C; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Token::from_bytes(bytes).encode().to_string()
}

/// `ATTACK_FLOOD` is the number of requests, in hundreds.
async fn flooded(target: &Target, path: &str, cookie: fn(usize) -> Option<String>) {
    let requests = sized("ATTACK_FLOOD", 1_500);
    let victim = victim(target).await;
    let rows = if target.has_rows() { target.rows().await.count().await } else { 0 };
    // The first requests fill what is bounded.
    flood(target, path, cookie, 0).await;
    flood(target, path, cookie, EACH).await;
    target.rejections();
    target.logs.take();
    let before = allocated();
    for start in (0..requests).step_by(EACH) {
        is_cheap(flood(target, path, cookie, start)).await;
    }
    target.rejections();
    target.logs.take();
    let grown = allocated().saturating_sub(before);
    assert!(grown < 4 << 20, "{requests} requests leave {grown} bytes");
    if target.has_rows() {
        assert!(target.rows().await.count().await <= rows, "strangers' requests make rows");
    }
    assert!(is_victim(&victim).await);
}

/// How many requests are sent over each connection.
const EACH: usize = 100;

/// Sends requests, the first of a number, without waiting for the answers.
async fn flood(target: &Target, path: &str, cookie: fn(usize) -> Option<String>, start: usize) {
    let method = if path == "/logout" { "POST" } else { "GET" };
    let mut requests = String::new();
    for number in start..start + EACH {
        let cookie = cookie(number).map(|value| format!("Cookie: {}={value}\r\n", Shop::COOKIE));
        let _ = write!(requests, "{method} {path} HTTP/1.1\r\nHost: x\r\n{}\r\n", cookie.unwrap_or_default());
    }
    let stream = TcpStream::connect(target.address).await.expect("it listens");
    let (mut from, mut to) = stream.into_split();
    let send = async { to.write_all(requests.as_bytes()).await.expect("the server reads") };
    let receive = async {
        let mut answers = Vec::new();
        while answers.windows(9).filter(|window| *window == b"HTTP/1.1 ").count() < EACH {
            let read = from.read_buf(&mut answers).await.expect("the server answers");
            assert_ne!(read, 0, "the server hangs up");
        }
        answers
    };
    let ((), answers) = tokio::join!(send, receive);
    let cookies = String::from_utf8_lossy(&answers).matches(&format!("{}=", Shop::COOKIE)).count();
    assert!(path == "/logout" || cookies == 0, "{cookies} cookies are set");
}

async fn no_calls(target: &Target, cookie: fn(usize) -> String, path: &str) {
    let before = target.switch().calls();
    for number in 0..20 {
        Visitor::with(target, &cookie(number)).get(path).await;
    }
    assert_eq!(target.switch().calls(), before, "the store is asked");
}

async fn reads_only(target: &Target) {
    let before = target.rows().await.count().await;
    let stranger = Visitor::new(target);
    for path in ["/read", "/look", "/account", "/plain"] {
        stranger.get(path).await;
    }
    for path in ["/logout", "/destroy", "/rotate", "/panic"] {
        let line = format!("Cookie: {}={}", Shop::COOKIE, token(1));
        exchange(target.address, &request("POST", path, &[line.as_bytes()], b"")).await;
    }
    assert!(target.rows().await.count().await <= before, "a stranger's request makes a row");
    assert!(!stranger.has_cookie());
}

async fn touched_seldom(target: &Target) {
    let victim = victim(target).await;
    let mut revisions = std::collections::HashSet::new();
    for _ in 0..60 {
        target.parts.clock.advance(Duration::from_secs(2));
        victim.get("/look").await;
        revisions.insert(row_of(&victim).await.expiration.as_millis());
    }
    assert!(revisions.len() <= 4, "{} writes in two minutes", revisions.len());
}

async fn bounded_list(target: &Target) {
    target.shop.clear().await.expect("it answers");
    let many = session_runtime::LIST_LIMIT as usize + 30;
    for number in 0..many as u64 {
        let bag =
            Shop { user_id: Some("many".to_owned()), count: number, ..session_runtime::Databag::defaults() };
        target.shop.create(bag).await.expect("it is stored");
    }
    let listed = is_cheap(target.shop.of_user("many")).await.expect("it answers");
    assert_eq!(listed.len(), session_runtime::LIST_LIMIT as usize);
    assert_eq!(target.shop.revoke_user("many").await.expect("it answers"), many as u64, "all of them end");
}

/// What this process remembers of deletions that failed is bounded, and costs nobody a session.
async fn blocked(target: &Target) {
    let victim = victim(target).await;
    let before = allocated();
    target.switch().turn(false);
    let ids = (0..5_000_usize).map(|number| Token::parse(&token(number)).expect("a token").session_id());
    let ids: Vec<SessionId> = ids.collect();
    is_cheap(async {
        for id in ids {
            assert!(target.shop.delete(id).await.is_err());
        }
    })
    .await;
    target.switch().turn(true);
    target.logs.take();
    assert!(allocated().saturating_sub(before) < 8 << 20);
    assert!(is_victim(&victim).await);
}

async fn silent(target: &Target) {
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(target.address).await.expect("it listens");
        if number % 2 == 0 {
            stream.write_all(b"GET /read HTTP/1.1\r\nCookie: ").await.expect("it reads");
        }
        idle.push(stream);
    }
    assert!(is_victim(&victim(target).await).await, "others are served");
}

async fn cut(target: &Target) {
    let victim = victim(target).await;
    let line = format!("Cookie: {}={}", Shop::COOKIE, victim.cookie());
    let whole = request("POST", "/pin", &[line.as_bytes()], b"a new pin");
    for length in (1..whole.len()).step_by(9) {
        let mut stream = TcpStream::connect(target.address).await.expect("it listens");
        stream.write_all(&whole[..length]).await.expect("it reads");
    }
    assert_eq!(
        victim.read().await["pin"],
        super::target::SECRET,
        "a request that has not ended changes nothing"
    );
}

fn raw(target: &Target) -> rusqlite::Connection {
    let path = target.folder.as_ref().expect("a folder").path().join("attack.db");
    let raw = rusqlite::Connection::open(path).expect("a database");
    raw.busy_timeout(Duration::from_secs(10)).expect("it is a setting");
    raw
}

/// A writer of the database leaves a trigger: what a log-out deletes comes back.
async fn trigger(target: &Target) {
    let raw = raw(target);
    let victim = victim(target).await;
    let thief = victim.at(target);
    raw.execute_batch(
        "CREATE TRIGGER stays AFTER DELETE ON attack_shop BEGIN
             INSERT INTO attack_shop (id, state, user_id, ip_addr, created, expiration, revision, tenant)
             VALUES (OLD.id, OLD.state, OLD.user_id, OLD.ip_addr, OLD.created, OLD.expiration, OLD.revision, OLD.tenant);
         END",
    )
    .expect("it is SQL");
    let other = target.beside(|_| ()).await;
    victim.at(&other).post("/logout").await;
    let seen = thief.at(&other).read().await;
    raw.execute_batch("DROP TRIGGER stays").expect("it is there");
    other.stop().await;
    // This process knows of the log-out; one that starts later does not.
    let later = target.beside(|_| ()).await;
    let seen_later = thief.at(&later).read().await;
    later.stop().await;
    assert!(
        seen["user"].is_null() && seen_later["user"].is_null(),
        "the trigger undoes the log-out: {seen_later}"
    );
}

/// The table is renamed, and a view takes its place, whose trigger writes elsewhere.
async fn view(target: &Target) {
    let raw = raw(target);
    let victim = victim(target).await;
    raw.execute_batch(
        "ALTER TABLE attack_shop RENAME TO real; CREATE VIEW attack_shop AS SELECT * FROM real",
    )
    .expect("it is SQL");
    let reply = victim.post("/logout").await;
    let opened = target.store.shop(&target.setup, &target.parts).await;
    raw.execute_batch("DROP VIEW attack_shop; ALTER TABLE real RENAME TO attack_shop").expect("it is SQL");
    assert_ne!(reply.status, 200, "a log-out through a view is acknowledged");
    assert!(opened.is_err(), "a view is accepted as the table");
}
