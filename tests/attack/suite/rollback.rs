//! States of a session that were stored before, and are put back.

use session_runtime::Rejection;

use super::case::cases;
use super::client::Visitor;
use super::target::{Target, is_refused, is_victim, row_of, victim};

cases! {
    "an older state in the newest row" [15] Rows => older_state(Numbers::Newest);
    "an older state and its revision, with the newest expiration" [5 15] Rows =>
        older_state(Numbers::Revision);
    "an older state and its expiration, with the newest revision" [5 15] Rows =>
        older_state(Numbers::Expiration);
    "the row of before a log-in, under the new id" [3 15] Rows => before_log_in();
    "the row of before a log-out, under another id" [4 15] Rows => after_log_out();
    "the state of before a rotation, in the row of after" [3 15] Rows => before_rotation();
    "an expired row with the numbers of a live one" [5 15] Rows => expired();
    "a whole older row of a live session: a known limit" [15] Rows => known_limit_of_rows();
    "an older cookie of a live session: a known limit" [15] Cookie => known_limit_of_cookies();
    "an older cookie after a rotation" [3] Cookie => rotated_cookie();
}

#[derive(Clone, Copy)]
enum Numbers {
    Newest,
    Revision,
    Expiration,
}

/// A visitor spends what the session holds, and a writer of the database puts the earlier state back.
async fn older_state(target: &Target, numbers: Numbers) {
    let victim = victim(target).await;
    let older = row_of(&victim).await;
    target.parts.clock.advance(std::time::Duration::from_mins(5));
    victim.does("/add/milk", "").await;
    let mut row = row_of(&victim).await;
    row.state = older.state;
    match numbers {
        Numbers::Newest => {}
        Numbers::Revision => row.revision = older.revision,
        Numbers::Expiration => row.expiration = older.expiration,
    }
    target.rows().await.replace(row).await;
    is_refused(&victim, Rejection::Tampered).await;
}

async fn before_log_in(target: &Target) {
    let visitor = Visitor::new(target);
    visitor.does("/add/tea", "").await;
    let before = row_of(&visitor).await;
    visitor.does("/login", "victim").await;
    let mut row = row_of(&visitor).await;
    (row.state, row.created, row.expiration) = (before.state, before.created, before.expiration);
    row.revision = before.revision;
    target.rows().await.replace(row).await;
    is_refused(&visitor, Rejection::Tampered).await;
}

async fn after_log_out(target: &Target) {
    let (victim, other) = (victim(target).await, Visitor::new(target));
    other.does("/add/tea", "").await;
    let ended = row_of(&victim).await;
    victim.does("/logout", "").await;
    let mut row = ended;
    row.id = other.id();
    target.rows().await.replace(row).await;
    is_refused(&other, Rejection::Tampered).await;
}

async fn before_rotation(target: &Target) {
    let victim = victim(target).await;
    let before = row_of(&victim).await;
    victim.does("/rotate", "").await;
    let mut row = row_of(&victim).await;
    assert_ne!(row.id, before.id);
    row.state = before.state;
    target.rows().await.replace(row).await;
    is_refused(&victim, Rejection::Tampered).await;
}

async fn expired(target: &Target) {
    let old = victim(target).await;
    let expired = row_of(&old).await;
    target.parts.clock.advance(std::time::Duration::from_mins(31));
    let live = row_of(&victim(target).await).await;
    let mut row = expired;
    (row.created, row.expiration, row.revision) = (live.created, live.expiration, live.revision);
    target.rows().await.replace(row).await;
    is_refused(&old, Rejection::Tampered).await;
}

/// The revision is bound to the state, and kept in the same row: who puts the whole row back is not noticed, until it
/// expires. After a log-out it takes a writer of the database to do so.
async fn known_limit_of_rows(target: &Target) {
    let victim = victim(target).await;
    let older = row_of(&victim).await;
    victim.does("/add/milk", "").await;
    target.rows().await.replace(older).await;
    let seen = victim.read().await;
    assert!(seen["user"] == "victim" && seen["cart"]["milk"].is_null(), "the limit is gone: {seen}");
    target.parts.clock.advance(std::time::Duration::from_mins(31));
    is_refused(&victim, Rejection::Expired).await;
}

async fn known_limit_of_cookies(target: &Target) {
    let victim = victim(target).await;
    let older = victim.at(target);
    victim.does("/add/milk", "").await;
    assert!(older.read().await["cart"]["milk"].is_null(), "the limit is gone");
    target.parts.clock.advance(std::time::Duration::from_mins(31));
    is_refused(&older, Rejection::Expired).await;
}

async fn rotated_cookie(target: &Target) {
    let victim = victim(target).await;
    let older = victim.at(target);
    victim.does("/rotate", "").await;
    is_refused(&older, Rejection::Unknown).await;
    assert!(is_victim(&victim).await);
}
