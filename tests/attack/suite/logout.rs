//! Cookies that were good once: after a log-out, an expiry, a rotation, or the end that somebody else made.

use std::time::Duration;

use session_runtime::Rejection;

use super::case::cases;
use super::client::Visitor;
use super::target::{Target, is_refused, is_victim, row_of, victim};

cases! {
    "a cookie after its log-out" [4] All => replayed("/logout");
    "a cookie after its session was destroyed" [4] All => replayed("/destroy");
    "an old cookie after a rotation" [3] All => moved("/rotate", "");
    "an old cookie after a log-in" [3] All => moved("/login", "victim");
    "an old cookie after another user was set" [3] All => moved("/become", "victim");
    "a cookie of a session that was deleted by id" [4 6] Rows => ended_by(End::Id);
    "a cookie of a session whose user was revoked" [4 6] Rows => ended_by(End::User);
    "a cookie of a session that a query has ended" [4 6] Rows => ended_by(End::Query);
    "a cookie after all sessions were cleared" [4 6] Rows => ended_by(End::All);
    "a cookie after the others were ended (CVE-2026-34828)" [4 6] Rows => others_ended();
    "a cookie one second before its idle limit" [5] All => idle(Duration::from_secs(30 * 60 - 1), true);
    "a cookie at its idle limit" [4 5] All => idle(Duration::from_mins(30), false);
    "a cookie one second after its idle limit" [4 5] All => idle(Duration::from_secs(30 * 60 + 1), false);
    "a cookie that is used until its absolute limit" [4 5] All => absolute();
    "a cookie that is rotated until its absolute limit" [5] All => absolute_of_rotation();
    "an expired cookie and a clock that goes back" [5] All => clock_back();
    "a log-out while a slow request is in flight" [4] All => in_flight("/slow", "/logout");
    "a log-out while a slow update is in flight" [4] All => in_flight("/slow-update", "/logout");
    "a destruction while a slow request is in flight" [4] All => in_flight("/slow", "/destroy");
    "a rotation while a slow request is in flight" [3 4] Rows => rotated_in_flight();
    "a log-out of the old cookie after a rotation" [3 4] All => logged_out_by_old();
    "a log-out while the store is down" [4] Rows => store_down();
    "a log-out that no cookie came with" [4] All => without_cookie();
    "a cookie of a log-out in another process" [4] Rows => other_process();
    "the cookie of the session that a log-out begins" [4] All => kept_on_logout();
    "a copy of a cookie in another process, after the log-out" [4] Cookie => known_limit_of_cookies();
    "a read while the store is down is no log-out" [4] Rows => read_down();
    "a write that was not stored is not answered with 200" [4] Rows => write_down();
}

/// The thief has copied the cookie before.
async fn replayed(target: &Target, path: &str) {
    let victim = victim(target).await;
    let thief = victim.at(target);
    let reply = victim.does(path, "").await;
    assert!(reply.set_cookies()[0].contains("Max-Age=0"), "{reply:?}");
    is_refused(&thief, Rejection::Unknown).await;
    assert_eq!(thief.does("/add/milk", "").await.set_cookies().len(), 1, "a session of the thief's own");
    assert!(thief.read().await["user"].is_null());
}

async fn moved(target: &Target, path: &str, text: &str) {
    let victim = victim(target).await;
    if path == "/become" {
        victim.does(path, "another").await;
    }
    let thief = victim.at(target);
    victim.does(path, text).await;
    assert_ne!(victim.cookie(), thief.cookie());
    assert!(is_victim(&victim).await, "the session goes on under its new id");
    is_refused(&thief, Rejection::Unknown).await;
}

#[derive(Clone, Copy)]
enum End {
    Id,
    User,
    Query,
    All,
}

async fn ended_by(target: &Target, end: End) {
    let victim = victim(target).await;
    let shop = &target.shop;
    match end {
        End::Id => assert!(shop.delete(victim.id()).await.expect("it answers")),
        End::User => assert!(shop.revoke_user("victim").await.expect("it answers") > 0),
        End::Query => {
            let query = shop.find(super::bags::Shop::TENANT.eq("acme"));
            assert!(query.delete().await.expect("it answers") > 0);
        }
        End::All => assert!(shop.clear().await.expect("it answers") > 0),
    }
    is_refused(&victim, Rejection::Unknown).await;
}

async fn others_ended(target: &Target) {
    target.shop.clear().await.expect("it answers");
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(victim(target).await);
    }
    assert_eq!(all[0].get("/devices").await.body, "5");
    assert_eq!(all[2].does("/end-others", "").await.body, "4");
    for (number, visitor) in all.iter().enumerate() {
        if number == 2 {
            assert!(is_victim(visitor).await);
        } else {
            is_refused(visitor, Rejection::Unknown).await;
        }
    }
}

async fn idle(target: &Target, passed: Duration, lives: bool) {
    let victim = victim(target).await;
    target.parts.clock.advance(passed);
    if lives {
        assert!(is_victim(&victim).await);
    } else {
        is_refused(&victim, Rejection::Expired).await;
    }
}

/// A thief who keeps using the cookie does not keep it alive.
async fn absolute(target: &Target) {
    let victim = victim(target).await;
    for minute in 1..=11 {
        target.parts.clock.advance(Duration::from_mins(10));
        assert!(is_victim(&victim).await, "after {minute}0 minutes");
        victim.does("/add/tea", "").await;
    }
    target.parts.clock.advance(Duration::from_secs(599));
    assert!(is_victim(&victim).await);
    target.parts.clock.advance(Duration::from_secs(2));
    is_refused(&victim, Rejection::Expired).await;
}

async fn absolute_of_rotation(target: &Target) {
    let victim = victim(target).await;
    for _ in 0..6 {
        target.parts.clock.advance(Duration::from_mins(19));
        victim.does("/rotate", "").await;
        assert!(is_victim(&victim).await);
    }
    target.parts.clock.advance(Duration::from_mins(7));
    is_refused(&victim, Rejection::Expired).await;
}

async fn clock_back(target: &Target) {
    let victim = victim(target).await;
    target.parts.clock.advance(Duration::from_mins(31));
    is_refused(&victim, Rejection::Expired).await;
    target.parts.clock.turn_back(Duration::from_mins(20));
    let still = victim.read().await;
    target.parts.clock.advance(Duration::from_mins(20));
    assert!(still["user"].is_null(), "the clock went back, and the session came back: {still}");
}

/// The slow request began with a live session, and ends after it is over (CVE-2025-46336).
async fn in_flight(target: &Target, slow: &str, end: &str) {
    let victim = victim(target).await;
    let (thief, racer) = (victim.at(target), victim.at(target));
    let gate = target.close_gate();
    let (late, ()) = tokio::join!(racer.post(slow), async {
        gate.arrival().await;
        victim.does(end, "").await;
        gate.open();
    });
    if target.has_rows() {
        assert!(matches!(late.status, 200 | 409), "{late:?}");
    }
    assert!(late.set_cookies().iter().all(|cookie| cookie.contains("Max-Age=0")), "{late:?}");
    is_refused(&thief, Rejection::Unknown).await;
}

async fn rotated_in_flight(target: &Target) {
    let victim = victim(target).await;
    let (thief, racer) = (victim.at(target), victim.at(target));
    let gate = target.close_gate();
    let (_, ()) = tokio::join!(racer.post("/slow"), async {
        gate.arrival().await;
        victim.does("/rotate", "").await;
        gate.open();
    });
    is_refused(&thief, Rejection::Unknown).await;
    assert!(is_victim(&victim).await);
}

/// A tab that still has the old cookie logs out: it must not be answered as if the session had ended, unless it has.
async fn logged_out_by_old(target: &Target) {
    let victim = victim(target).await;
    let tab = victim.at(target);
    let gate = target.close_gate();
    let (_, ()) = tokio::join!(tab.post("/slow"), async {
        gate.arrival().await;
        victim.does("/rotate", "").await;
        gate.open();
    });
    victim.does("/logout", "").await;
    for cookie in [tab.at(target), victim.at(target)] {
        if cookie.has_cookie() {
            assert!(!is_victim(&cookie).await);
        }
    }
}

/// The log-out is 503, the browser forgets the cookie, and this process refuses it from then on.
async fn store_down(target: &Target) {
    let victim = victim(target).await;
    let (copy, racer) = (victim.at(target), victim.at(target));
    let gate = target.close_gate();
    let (late, ()) = tokio::join!(racer.post("/slow-logout"), async {
        // The session is loaded, and the store fails before it is deleted.
        gate.arrival().await;
        target.switch().turn(false);
        gate.open();
    });
    assert_eq!(late.status, 503, "the log-out is not stored: {late:?}");
    assert!(late.set_cookies()[0].contains("Max-Age=0"), "the browser forgets it: {late:?}");
    is_refused(&copy, Rejection::Unknown).await;
    target.switch().turn(true);
    is_refused(&victim, Rejection::Unknown).await;
}

async fn without_cookie(target: &Target) {
    let stranger = Visitor::new(target);
    let before = if target.has_rows() { target.rows().await.count().await } else { 0 };
    let reply = stranger.does("/logout", "").await;
    assert!(reply.set_cookies().iter().all(|cookie| cookie.contains("Max-Age=0")), "{reply:?}");
    if target.has_rows() {
        // Deletions that were late may be made meanwhile.
        assert!(target.rows().await.count().await <= before, "a log-out makes a row");
    }
}

/// Two processes share the store: what one has read before must not open after the other's log-out.
async fn other_process(target: &Target) {
    let other = target.beside(|_| ()).await;
    let victim = victim(target).await;
    let there = victim.at(&other);
    for _ in 0..3 {
        assert!(is_victim(&there).await);
    }
    victim.does("/logout", "").await;
    is_refused(&there, Rejection::Unknown).await;
    other.stop().await;
}

/// What is set after a log-out begins a session under a token of its own.
async fn kept_on_logout(target: &Target) {
    let victim = victim(target).await;
    let before = victim.cookie();
    victim.does("/logout", "").await;
    victim.does("/add/tea", "").await;
    let now = victim.read().await;
    assert!(now["user"].is_null() && now["pin"].is_null(), "{now}");
    assert_ne!(victim.cookie(), before);
}

/// A limit that the documentation states: without a row, another process cannot know of a log-out. The idle limit ends it.
async fn known_limit_of_cookies(target: &Target) {
    let other = target.beside(|_| ()).await;
    let victim = victim(target).await;
    let copy = victim.at(&other);
    victim.does("/logout", "").await;
    is_refused(&copy.at(target), Rejection::Unknown).await;
    assert!(is_victim(&copy).await, "the limit is gone: say so in the documentation");
    target.parts.clock.advance(Duration::from_mins(31));
    is_refused(&copy, Rejection::Expired).await;
    other.stop().await;
}

async fn read_down(target: &Target) {
    let victim = victim(target).await;
    target.switch().turn(false);
    for path in ["/read", "/look", "/account"] {
        let reply = victim.get(path).await;
        assert_eq!((reply.status, reply.set_cookies().len()), (503, 0), "{path}: {reply:?}");
        assert_eq!(reply.all("retry-after").len(), 1);
    }
    target.switch().turn(true);
    assert!(is_victim(&victim).await);
}

async fn write_down(target: &Target) {
    let victim = victim(target).await;
    let stranger = Visitor::new(target);
    let racer = victim.at(target);
    let before = row_of(&victim).await;
    let gate = target.close_gate();
    let (late, ()) = tokio::join!(racer.post("/slow"), async {
        gate.arrival().await;
        target.switch().turn(false);
        gate.open();
    });
    let new = stranger.post("/add/tea").await;
    target.switch().turn(true);
    for reply in [late, new] {
        assert_eq!((reply.status, reply.set_cookies().len()), (503, 0), "{reply:?}");
    }
    assert_eq!(row_of(&victim).await.revision, before.revision);
}
