//! Requests at the same time, of one process and of two.

use std::time::Duration;

use databag_tests::ManualClock;
use databag_tests::users::still_there;
use futures_util::future::join_all;
use session_runtime::{Clock as _, Databag as _, Rejection, SessionId, Sessions, Snapshot};

use super::bags::Few;
use super::case::{Kind, cases};
use super::client::Visitor;
use super::stores::Parts;
use super::target::{Target, is_refused, is_victim, victim};

cases! {
    "fifty writers of one cart" [3 18] Rows => fifty_writers(false);
    "fifty writers of one cart in two processes" [18] Rows => fifty_writers(true);
    "thirty increments in two processes" [18] Rows => increments();
    "a log-out amid twenty writers" [4] Rows => log_out_amid();
    "a revocation amid twenty writers" [4 6] Rows => revocation_amid();
    "the end of all sessions amid log-ins" [6] Rows => log_ins_amid();
    "two rotations at the same time" [3] Rows => two_rotations();
    "two log-ins with one cookie at the same time" [3] Rows => two_log_ins();
    "two log-outs at the same time" [4] All => two_log_outs();
    "a client that hangs up after its log-out" [4] Rows => hung_up();
    "ten log-ins of one user at the same time" [26] Rows => limited();
    "a log-in by a clock that is 5 seconds behind" [26] Rows => behind();
    "a fourth session of a user who may have three" [26] Rows => fourth();
}

/// CVE-2025-46336 and the lost updates of others: each writer sets another key.
async fn fifty_writers(target: &Target, two: bool) {
    let victim = victim(target).await;
    let other = target.beside(|_| ()).await;
    let writers: Vec<_> = (0..50)
        .map(|number| {
            let tab = victim.at(if two && number % 2 == 1 { &other } else { target });
            async move { tab.post(&format!("/add/item-{number}")).await.status }
        })
        .collect();
    let answers = join_all(writers).await;
    let cart = victim.read().await["cart"].as_object().map_or(0, serde_json::Map::len);
    let stored = answers.iter().filter(|status| **status == 200).count();
    assert!(stored >= 45, "{answers:?}");
    assert!(cart > stored, "{cart} of {} items are there", stored + 1);
    other.stop().await;
}

async fn increments(target: &Target) {
    let victim = victim(target).await;
    let other = target.beside(|_| ()).await;
    let tabs = (0..30).map(|number| {
        let tab = victim.at(if number % 2 == 1 { &other } else { target });
        async move { tab.post("/count").await.status }
    });
    let answers = join_all(tabs).await;
    let stored = answers.iter().filter(|status| **status == 200).count();
    let counted = victim.read().await["count"].as_u64();
    assert!(answers.iter().all(|status| matches!(status, 200 | 503)), "{answers:?}");
    assert_eq!(counted, Some(stored as u64), "an acknowledged increment is lost or made twice");
    other.stop().await;
}

async fn amid(target: &Target, end: impl Future<Output = ()>, victim: &Visitor<'_>) {
    let tabs = (0..20).map(|number| {
        let tab = victim.at(target);
        async move {
            let reply = tab.post(if number % 2 == 0 { "/count" } else { "/add/late" }).await;
            assert!(matches!(reply.status, 200 | 409), "{reply:?}");
            tab
        }
    });
    let (tabs, ()) = tokio::join!(join_all(tabs), end);
    assert!(!is_victim(victim).await);
    for tab in tabs {
        let seen = tab.read().await;
        assert!(seen["user"].is_null(), "a late write revives the session: {seen}");
    }
}

async fn log_out_amid(target: &Target) {
    let victim = victim(target).await;
    let copy = victim.at(target);
    amid(target, async { drop(victim.does("/logout", "").await) }, &copy).await;
}

async fn revocation_amid(target: &Target) {
    let victim = victim(target).await;
    let end = async {
        target.shop.revoke_user("victim").await.expect("it answers");
    };
    amid(target, end, &victim.at(target)).await;
}

/// A log-in before the end is over, and one after it lives; none is half of each.
async fn log_ins_amid(target: &Target) {
    let log_ins = (0..10).map(|_| async {
        let visitor = Visitor::new(target);
        visitor.does("/login", "revoked").await;
        visitor
    });
    let (visitors, ended) = tokio::join!(join_all(log_ins), target.shop.revoke_user("revoked"));
    let ended = ended.expect("it answers");
    let mut live = 0;
    for visitor in &visitors {
        live += u64::from(visitor.read().await["user"] == "revoked");
    }
    assert_eq!(live + ended, 10);
    assert_eq!(target.shop.of_user("revoked").await.expect("it answers").len() as u64, live);
    assert_eq!(target.shop.revoke_user("revoked").await.expect("it answers"), live);
}

/// Each answer that sets a cookie sets one that opens the session, and the old one is dead.
async fn two_rotations(target: &Target) {
    let victim = victim(target).await;
    let (one, other) = (victim.at(target), victim.at(target));
    let (first, second) = tokio::join!(one.post("/rotate"), other.post("/rotate"));
    assert!([first.status, second.status].contains(&200), "{first:?} {second:?}");
    is_refused(&victim, Rejection::Unknown).await;
    let mut live = std::collections::HashSet::new();
    for tab in [&one, &other] {
        if tab.has_cookie() && is_victim(tab).await {
            live.insert(tab.cookie());
        }
    }
    assert_eq!(live.len(), 1, "one session has one token");
}

async fn two_log_ins(target: &Target) {
    let visitor = Visitor::new(target);
    visitor.does("/add/tea", "").await;
    let (one, other) = (visitor.at(target), visitor.at(target));
    let (first, second) = tokio::join!(one.put("/login", "one"), other.put("/login", "other"));
    assert!([first.status, second.status].contains(&200), "{first:?} {second:?}");
    is_refused(&visitor, Rejection::Unknown).await;
    // The second one may begin a session of its own, never one with the token of the first.
    assert_ne!(one.cookie(), other.cookie());
    for (tab, user) in [(&one, "one"), (&other, "other")] {
        let seen = tab.read().await["user"].clone();
        assert!(seen.is_null() || seen == user, "a session has another user: {seen}");
    }
}

async fn two_log_outs(target: &Target) {
    let victim = victim(target).await;
    let (one, other) = (victim.at(target), victim.at(target));
    let (first, second) = tokio::join!(one.post("/logout"), other.post("/logout"));
    for reply in [first, second] {
        assert!(matches!(reply.status, 200 | 409), "{reply:?}");
    }
    is_refused(&victim, Rejection::Unknown).await;
}

/// The connection is closed before the answer: the log-out happens all the same.
async fn hung_up(target: &Target) {
    use tokio::io::AsyncWriteExt as _;
    let victim = victim(target).await;
    let line = format!("Cookie: {}={}", <super::bags::Shop as super::bags::Bag>::COOKIE, victim.cookie());
    let bytes = super::client::request("POST", "/logout", &[line.as_bytes()], b"");
    let mut stream = tokio::net::TcpStream::connect(target.address).await.expect("it listens");
    stream.write_all(&bytes).await.expect("it reads");
    drop(stream);
    for _ in 0..500 {
        if victim.read().await["user"].is_null() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the log-out did not happen");
}

async fn few(target: &Target) -> Sessions<Few> {
    let few = target.store.few(&target.setup, &target.parts).await.expect("it opens");
    few.clear().await.expect("it answers");
    few
}

fn of(user: &str) -> Few {
    Few { user_id: Some(user.to_owned()) }
}

async fn live(few: &Sessions<Few>) -> Vec<SessionId> {
    few.of_user("limited").await.expect("it answers").iter().map(Snapshot::id).collect()
}

/// At no time has the user more than three sessions, and every answered log-in is there or was ended by a later one.
async fn limited(target: &Target) {
    let (one, other) = (few(target).await, few(target).await);
    let log_ins = (0..10).map(|number| {
        let sessions = if number % 2 == 0 { &one } else { &other };
        async move {
            let created = sessions.create(of("limited")).await;
            let mut live = live(sessions).await;
            if live.len() > 3 && matches!(target.kind, Kind::Redis | Kind::Cluster) {
                // A list there is no snapshot.
                live = still_there(sessions, &live).await;
            }
            assert!(live.len() <= 3, "a user has more sessions than allowed");
            created
        }
    });
    let created = join_all(log_ins).await;
    assert!(created.iter().any(Result::is_ok));
    assert_eq!(live(&one).await.len(), 3);
}

/// The newcomer is never the one that goes.
async fn behind(target: &Target) {
    let few = few(target).await;
    for _ in 0..3 {
        few.create(of("limited")).await.expect("it is stored");
        target.parts.clock.advance(Duration::from_secs(1));
    }
    // Another process, whose clock is 5 seconds behind.
    let parts = Parts { clock: ManualClock::default(), ..target.parts.clone() };
    let passed = target.parts.clock.now().duration_since(parts.clock.now()).expect("time has passed");
    parts.clock.advance(passed);
    parts.clock.turn_back(Duration::from_secs(5));
    let other = target.store.few(&target.setup, &parts).await.expect("it opens");
    let (token, _) = other.create(of("limited")).await.expect("it is stored");
    assert!(
        few.load(&token).await.expect("it answers").is_some(),
        "the session that has just begun was ended"
    );
    assert_eq!(live(&few).await.len(), 3);
}

async fn fourth(target: &Target) {
    let few = few(target).await;
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(few.create(of("limited")).await.expect("it is stored").0);
        target.parts.clock.advance(Duration::from_secs(1));
    }
    let stranger = few.create(of("another")).await.expect("it is stored").0;
    let mut live = Vec::new();
    for token in tokens.iter().chain([&stranger]) {
        live.push(few.load(token).await.expect("it answers").is_some());
    }
    assert_eq!(live, [false, false, true, true, true, true]);
    assert!(!Few::SCHEMA.table.is_empty());
}
