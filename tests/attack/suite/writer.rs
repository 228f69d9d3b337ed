//! Rows that somebody with write access to the database has changed. Memory and time are measured.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use session_runtime::store::Row;
use session_runtime::{Keyring, Rejection, SessionId, Timestamp, Value};

use super::bags::{Bag as _, Shop, Text};
use super::case::cases;
use super::client::Visitor;
use super::measure::is_cheap;
use super::target::{Target, invented, is_refused, is_victim, row_of, victim};

cases! {
    "a changed version byte" [15] Rows => edited(|row| row.state[0] ^= 1);
    "the version byte of a row in the clear" [15] Rows => edited(|row| row.state[0] = 0);
    "a changed nonce" [15] Rows => edited(|row| row.state[7] ^= 0x80);
    "a changed first byte of the ciphertext" [15] Rows => edited(|row| row.state[HEADER] ^= 1);
    "a changed byte amid the ciphertext" [15] Rows =>
        edited(|row| { let at = row.state.len() / 2; row.state[at] ^= 4; });
    "a changed first byte of the tag" [15] Rows =>
        edited(|row| { let at = row.state.len() - 16; row.state[at] ^= 1; });
    "a changed last byte of the tag" [15] Rows =>
        edited(|row| { let at = row.state.len() - 1; row.state[at] ^= 0x40; });
    "a tag of zeros" [15] Rows => edited(|row| { let at = row.state.len() - 16; row.state[at..].fill(0); });
    "a later expiration" [5 15] Rows =>
        edited(|row| row.expiration = later(row.expiration, Duration::from_hours(24)));
    "an expiration at the end of time" [5 15 22] Rows =>
        edited(|row| row.expiration = Timestamp::from_millis(253_402_300_799_000));
    "a later creation" [5 15] Rows =>
        edited(|row| row.created = later(row.created, Duration::from_millis(1)));
    "a creation before all time" [5 15 22] Rows => edited(|row| row.created = Timestamp::from_millis(-1));
    "a later revision" [15] Rows => edited(|row| row.revision += 1);
    "an earlier revision" [15] Rows => edited(|row| row.revision -= 1);
    "the greatest revision" [15 22] Rows => edited(|row| row.revision = i64::MAX);
    "another user in the column" [15] Rows => edited(|row| row.user = Some(Value::Text("admin".to_owned())));
    "no user in the column" [15] Rows => edited(|row| row.user = None);
    "the same user in capitals" [15] Rows => edited(|row| row.user = Some(Value::Text("VICTIM".to_owned())));
    "another address in the column" [15 27] Rows => edited(|row| row.ip = Some([203, 0, 113, 9].into()));
    "no address in the column" [15 27] Rows => edited(|row| row.ip = None);
    "another value in a column" [15] Rows =>
        edited(|row| row.columns[0] = Some(Value::Text("other".to_owned())));
    "the value of a column with a space behind it" [15] Rows =>
        edited(|row| row.columns[0] = Some(Value::Text("acme ".to_owned())));
    "no value in a column" [15] Rows => edited(|row| row.columns[0] = None);
    "an empty state" [15 22] Rows => edited(|row| row.state.clear());
    "a state of one byte" [15 22] Rows => edited(|row| row.state.truncate(1));
    "a state cut in its header" [15 22] Rows => edited(|row| row.state.truncate(HEADER - 1));
    "a state without its last byte" [15 22] Rows => edited(|row| { row.state.pop(); });
    "a state with one byte more" [15 22] Rows => edited(|row| row.state.push(0));
    "a state twice" [15 22] Rows => edited(|row| row.state.extend_from_within(..));
    "a state as JSON" [15] Rows => edited(|row| row.state = b"{\"user_id\":\"victim\",\"count\":1}".to_vec());
    "a state as bincode" [15] Rows =>
        edited(|row| row.state = b"\x06victim\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    "a state as base64 of itself" [15] Rows =>
        edited(|row| row.state = STANDARD.encode(&row.state).into_bytes());
    "a state as a serialised object (CVE-2020-9484)" [15] Rows =>
        edited(|row| row.state = b"\xAC\xED\0\x05sr\0\x11java.util.HashMap".to_vec());
    "the key id of no key" [15 23] Rows => key_id();
    "the states of two rows of one user, swapped" [15] Rows => swapped();
    "a row copied to a token of the attacker's" [2 15] Rows => copied();
    "an expired row with a later expiration" [4 5] Rows => revived_by_column();
    "a row in the clear under a keyring" [15] Rows => in_the_clear();
    "a sealed row without a keyring" [15] Rows => without_keyring();
    "a row of text that is not base64" [15 22] Rows => text(|state| state.insert(4, b'!'));
    "a row of text in the clear" [15] Rows =>
        text(|state| *state = br##"{"bag":"databag-tests/Text","table":"attack_text","record":{"#":{}}}"##.to_vec());
    "a row of text with another character" [15] Rows =>
        text(|state| { let at = state.len() / 2; state[at] = if state[at] == b'A' { b'B' } else { b'A' }; });
    "one row that does not open denies no call on many" [23] Rows =>
        denies_nothing(|row| row.state[HEADER] ^= 1);
    "one row of no key denies no call on many" [23] Rows => denies_nothing(|row| row.state[2] ^= 1);
    "one row with other columns denies no call on many" [23] Rows =>
        denies_nothing(|row| row.columns[0] = Some(Value::Text("x".to_owned())));
    "one empty row denies no call on many" [23] Rows => denies_nothing(|row| row.state.clear());
    "one long row denies no call on many" [22 23] Rows => denies_nothing(|row| row.state = vec![1; 1 << 20]);
    "one row from the end of time denies no call on many" [23] Rows =>
        denies_nothing(|row| row.created = Timestamp::from_millis(253_402_300_799_000));
    "bad rows hide no older session" [23 29] Rows => hides_nothing();
}

/// Where the ciphertext begins: after the version, the key id and the nonce.
const HEADER: usize = 1 + 4 + 12;

fn later(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(time.as_millis() + i64::try_from(by.as_millis()).expect("a short time"))
}

/// Edits the victim's row. If it were accepted, a writer of the database could change what a session is.
async fn edited(target: &Target, edit: fn(&mut Row)) {
    let victim = victim(target).await;
    let (rows, original) = (target.rows().await, row_of(&victim).await);
    let mut row = original.clone();
    edit(&mut row);
    assert_ne!(row, original, "the edit changes the row");
    rows.replace(row.clone()).await;
    is_cheap(is_refused(&victim, Rejection::Tampered)).await;
    let kept = row_of(&victim).await;
    assert_eq!(kept.state, row.state, "the row is kept as evidence");
    // What was refused is refused again, and the right row opens again: no memory decides.
    is_refused(&victim, Rejection::Tampered).await;
    rows.replace(original).await;
    assert!(is_victim(&victim).await);
}

/// A key that is missing is a mistake of the operator's: 503, and the session survives it.
async fn key_id(target: &Target) {
    let victim = victim(target).await;
    let (rows, original) = (target.rows().await, row_of(&victim).await);
    for at in 1..5 {
        let mut row = original.clone();
        row.state[at] ^= 1;
        rows.replace(row).await;
        let reply = victim.get("/read").await;
        assert_eq!((reply.status, reply.body.as_str()), (503, "Service Unavailable"));
        assert!(reply.set_cookies().is_empty());
    }
    rows.replace(original).await;
    assert!(is_victim(&victim).await);
}

async fn swapped(target: &Target) {
    let (one, other) = (victim(target).await, victim(target).await);
    let rows = target.rows().await;
    let (mut first, mut second) = (row_of(&one).await, row_of(&other).await);
    std::mem::swap(&mut first.state, &mut second.state);
    (second.created, second.expiration, second.revision) = (first.created, first.expiration, first.revision);
    rows.replace(first).await;
    rows.replace(second).await;
    for visitor in [&one, &other] {
        is_refused(visitor, Rejection::Tampered).await;
    }
}

/// The attacker adds a copy of the victim's row under the id of a token that the attacker knows.
async fn copied(target: &Target) {
    let victim = victim(target).await;
    let (token, id) = invented(7);
    let mut row = row_of(&victim).await;
    row.id = id;
    let rows = target.rows().await;
    rows.add(row).await;
    is_refused(&Visitor::with(target, &token), Rejection::Tampered).await;
    rows.delete(id).await;
    assert!(is_victim(&victim).await);
}

async fn revived_by_column(target: &Target) {
    let victim = victim(target).await;
    target.parts.clock.advance(Duration::from_mins(31));
    is_refused(&victim, Rejection::Expired).await;
    let mut row = row_of(&victim).await;
    row.expiration = later(row.expiration, Duration::from_hours(1));
    target.rows().await.replace(row).await;
    is_refused(&victim, Rejection::Tampered).await;
}

async fn in_the_clear(target: &Target) {
    let plain = target.beside(|setup| setup.is_plain = true).await;
    let visitor = victim(&plain).await;
    is_refused(&visitor.at(target), Rejection::Tampered).await;
    plain.stop().await;
}

async fn without_keyring(target: &Target) {
    let victim = victim(target).await;
    let plain = target.beside(|setup| setup.is_plain = true).await;
    let reply = victim.at(&plain).get("/read").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (503, 0), "{reply:?}");
    plain.stop().await;
    assert!(is_victim(&victim).await);
}

async fn text(target: &Target, edit: fn(&mut Vec<u8>)) {
    let visitor = Visitor::of::<Text>(target);
    visitor.does("/login", "victim").await;
    let rows = target.store.rows(Text::SCOPE).await;
    let mut row = rows.load(visitor.id()).await.expect("a row");
    edit(&mut row.state);
    rows.replace(row).await;
    is_cheap(is_refused(&visitor, Rejection::Tampered)).await;
}

fn sorted(sessions: &[session_runtime::Snapshot<Shop>]) -> Vec<SessionId> {
    let mut ids: Vec<_> = sessions.iter().map(session_runtime::Snapshot::id).collect();
    ids.sort_unstable();
    ids
}

/// One row of three is bad. If that failed a list, its writer could keep a user from ending the others.
async fn denies_nothing(target: &Target, edit: fn(&mut Row)) {
    target.shop.clear().await.expect("the store answers");
    let (one, bad, other) = (victim(target).await, victim(target).await, victim(target).await);
    let mut good = [one.id(), other.id()];
    good.sort_unstable();
    let mut row = row_of(&bad).await;
    edit(&mut row);
    target.rows().await.replace(row).await;
    let shop = &target.shop;
    let calls = async {
        assert_eq!(sorted(&shop.of_user("victim").await.expect("of_user")), good);
        assert_eq!(sorted(&shop.find(Shop::TENANT.eq("acme")).await.expect("find")), good);
        let all: Vec<_> = shop.stream().try_collect().await.expect("stream");
        assert_eq!(sorted(&all), good);
        let report = shop.check().await.expect("check");
        assert_eq!((report.live, report.skipped), (2, 1), "{report:?}");
        shop.count_all().await.expect("count_all");
        shop.prune().await.expect("prune");
    };
    is_cheap(calls).await;
    assert_eq!(one.get("/devices").await.body, "2");
    let new = Keyring::generate_text();
    let rotated = target.beside(|setup| setup.keys = format!("{},{}", *new, setup.keys)).await;
    assert_eq!(rotated.shop.reseal_all(|_, _| ()).await.expect("reseal_all"), 2);
    assert!(is_victim(&one.at(&rotated)).await);
    rotated.stop().await;
    assert!(shop.revoke_user("victim").await.is_ok(), "the user's sessions end");
    assert!(target.rows().await.load(one.id()).await.is_none());
    shop.clear().await.expect("the store answers");
    target.rows().await.delete(bad.id()).await;
}

/// An attacker adds newer rows of the victim's user, which do not open.
async fn hides_nothing(target: &Target) {
    target.shop.clear().await.expect("the store answers");
    let victim = victim(target).await;
    let rows = target.rows().await;
    let original = row_of(&victim).await;
    for number in 0..=255_u8 {
        let mut row = original.clone();
        row.id = SessionId::from_bytes([number; 32]);
        row.created = later(row.created, Duration::from_secs(number.into()));
        rows.add(row).await;
    }
    let found = is_cheap(async { target.shop.find(Shop::TENANT.eq("acme")).limit(3).await }).await;
    assert_eq!(sorted(&found.expect("it answers")), [victim.id()]);
    target.shop.clear().await.expect("the store answers");
}
