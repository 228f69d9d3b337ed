//! Cookies that the server has not issued, made from what an attacker can know.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use session_runtime::Rejection;

use super::case::cases;
use super::client::Visitor;
use super::target::{Target, invented, is_refused, is_victim, victim};

cases! {
    "an empty cookie" [2 15] All => made_up(|_| String::new());
    "a token of zeros (CVE-2015-3982)" [2] All => made_up(|_| "A".repeat(43));
    "a token of ones" [2] All => made_up(|_| format!("{}8", "_".repeat(42)));
    "an invented token" [1 2] All => made_up(|_| invented(1).0);
    "the public id, as hexadecimal digits" [2 13] All => made_up(|known| known.id.to_string());
    "the public id, as the bytes of a token" [2 13] All => made_up(|known| base64url(known.id.as_bytes()));
    "the token with another last character" [2 15] All => made_up(|known| changed(&known.cookie, 1));
    "the token with another first character" [2 15] All =>
        made_up(|known| changed(&known.cookie, usize::MAX));
    "the token in the other case (scs#226)" [2 15] All => made_up(|known| other_case(&known.cookie));
    "a prefix of the token" [2 15] All => made_up(|known| known.cookie[..known.cookie.len() - 1].to_owned());
    "half of the token" [2 15] All => made_up(|known| known.cookie[..known.cookie.len() / 2].to_owned());
    "the token twice" [2 15] All => made_up(|known| known.cookie.repeat(2));
    "the token and more bytes" [2 15] All => made_up(|known| format!("{}AAAA", known.cookie));
    "the token with padding" [2 10] All => made_up(|known| format!("{}=", known.cookie));
    "the token in standard base64" [2 10] All => made_up(|known| standard(&known.cookie));
    "the session as JSON" [15] All => made_up(|_| JSON.to_owned());
    "the session as base64 of JSON" [15] All => made_up(|_| STANDARD.encode(JSON));
    "the session as base64url of JSON" [15] All => made_up(|_| base64url(JSON.as_bytes()));
    "the session as base64url of bincode" [15] All => made_up(|_| base64url(b"\x01\x06victim\0\0\0\0\0"));
    "a token without a signature (CVE-2026-39324)" [15] All => made_up(|_| unsigned());
    "a serialised PHP session" [15] All => made_up(|_| "user|s:6:\"victim\"".to_owned());
    "bytes beyond ASCII" [10 15] All => made_up(|_| "\u{FFFD}".repeat(14));
    "a changed id" [15] Cookie => sealed(|token| flip(token, 0));
    "a changed version" [15] Cookie => sealed(|token| flip(token, 32));
    "a later creation of a cookie" [5 15] Cookie => sealed(|token| flip(token, 40));
    "a later expiration (CVE-2018-1000814)" [5 15] Cookie => sealed(|token| flip(token, 46));
    "another revision" [15] Cookie => sealed(|token| flip(token, 56));
    "a changed nonce of a cookie" [15] Cookie => sealed(|token| flip(token, ENVELOPE + 6));
    "a changed ciphertext" [15] Cookie => sealed(|token| flip(token, ENVELOPE + 20));
    "a changed tag" [15] Cookie => sealed(|token| token.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1));
    "an envelope of version 0" [15] Cookie => sealed(|token| token[ENVELOPE] = 0);
    "an envelope of version 2" [15] Cookie => sealed(|token| token[ENVELOPE] = 2);
    "a record in the clear in the frame of a cookie" [15] Cookie => sealed(|token| {
        token.truncate(ENVELOPE);
        token.extend_from_slice(b"\0\0\0\0\x09shop/Shop\0\0\0\x0battack_shop\x01\0\x7F\xFF\xFF\xFF\0\0\0\0");
    });
    "no envelope at all" [15 22] Cookie => sealed(|token| token.truncate(ENVELOPE));
    "a cookie cut in its header" [15 22] Cookie => sealed(|token| token.truncate(40));
    "an envelope of 3,000 zeros" [15 22] Cookie => sealed(|token| {
        token.truncate(ENVELOPE + 5);
        token.resize(2_900, 0);
    });
    "a key that the server does not have" [15 24] Cookie => unknown_key();
    "the envelope of another session of the thief's" [15 21] Cookie => spliced();
    "a token of the rows of another store" [2] Cookie => made_up(|_| invented(9).0);
    "a thousand tokens" [1] Rows => tokens();
}

const JSON: &str = "{\"user\":\"victim\",\"user_id\":\"victim\",\"count\":1}";

/// Where the envelope of a sealed cookie begins: after the id, the version, two times and the revision.
const ENVELOPE: usize = 32 + 1 + 3 * 8;

/// What an attacker may know of a session: its public id, and here its cookie, to change it.
struct Known {
    cookie: String,
    id: session_runtime::SessionId,
}

/// Sends a cookie that was made up of what is known. If it were adopted, the attacker would be the victim, or a cookie of
/// the attacker's choice would become a session (fixation).
async fn made_up(target: &Target, make: fn(&Known) -> String) {
    let victim = victim(target).await;
    let known = Known { cookie: victim.cookie(), id: victim.id() };
    let attacker = Visitor::with(target, &make(&known));
    let reply = attacker.get("/read").await;
    let shown = reply.session();
    assert!(shown["new"] == true && shown["user"].is_null(), "it opens a session: {shown}");
    assert!(reply.set_cookies().is_empty(), "{reply:?}");
    let reasons = target.rejections();
    assert!(
        matches!(reasons[..], [Rejection::Malformed | Rejection::Unknown | Rejection::Tampered]),
        "{reasons:?}"
    );
    let sent = attacker.cookie();
    attacker.does("/add/milk", "").await;
    assert_ne!(attacker.cookie(), sent, "the server adopts a token that it has not issued");
    assert!(is_victim(&victim).await, "the victim's session goes on");
}

/// Sends the victim's sealed cookie with a change. If it were accepted, a client could write its own session.
async fn sealed(target: &Target, change: fn(&mut Vec<u8>)) {
    let victim = victim(target).await;
    let mut token = decoded(&victim.cookie());
    change(&mut token);
    let attacker = Visitor::with(target, &base64url(&token));
    let reply = attacker.get("/read").await;
    let shown = reply.session();
    assert!(shown["new"] == true && shown["user"].is_null() && shown["pin"].is_null(), "it opens: {shown}");
    let reasons = target.rejections();
    assert!(matches!(reasons[..], [Rejection::Malformed | Rejection::Tampered]), "{reasons:?}");
    assert!(is_victim(&victim).await);
}

/// Anybody can write a key id into a cookie: it is no failure of the server, and never another key.
async fn unknown_key(target: &Target) {
    let victim = victim(target).await;
    let mut token = decoded(&victim.cookie());
    flip(&mut token, ENVELOPE + 1);
    target.rejections();
    let reply = Visitor::with(target, &base64url(&token)).get("/read").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (200, 0));
    assert!(reply.session()["new"] == true, "it opens");
    assert!(matches!(target.rejections()[..], [Rejection::UnknownKey]));
    assert!(is_victim(&victim).await);
}

/// Two sessions of one attacker: the header of one and the envelope of the other.
async fn spliced(target: &Target) {
    let (one, other) = (victim(target).await, victim(target).await);
    let (one, other) = (decoded(&one.cookie()), decoded(&other.cookie()));
    for (head, envelope) in [(&one, &other), (&other, &one)] {
        let spliced = [&head[..ENVELOPE], &envelope[ENVELOPE..]].concat();
        is_refused(&Visitor::with(target, &base64url(&spliced)), Rejection::Tampered).await;
    }
}

/// An attacker who knows a thousand tokens knows nothing of the next.
async fn tokens(target: &Target) {
    let (mut all, mut symbols) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for _ in 0..1_000 {
        let bag = super::bags::Shop { user_id: None, ..session_runtime::Databag::defaults() };
        let (token, _) = target.shop.create(bag).await.expect("it is stored");
        let token = token.encode().to_string();
        assert_eq!(token.len(), 43, "256 bits");
        symbols.extend(token.bytes().take(42).enumerate());
        assert!(all.insert(token), "a token comes twice");
    }
    // A symbol is missing at one position with a probability of 64 * 42 * (63 / 64)^1000: once in 2,500 runs.
    assert!(symbols.len() > 64 * 42 - 8, "{} of {} symbols", symbols.len(), 64 * 42);
    target.shop.clear().await.expect("the store answers");
}

fn flip(token: &mut [u8], at: usize) {
    token[at] ^= 1;
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(cookie: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(cookie).expect("a token")
}

/// Changes a character: the one so many before the last, or the first.
fn changed(cookie: &str, before_last: usize) -> String {
    let mut cookie = cookie.as_bytes().to_vec();
    let at = cookie.len().saturating_sub(1).saturating_sub(before_last);
    cookie[at] = if cookie[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(cookie).expect("ASCII")
}

fn other_case(cookie: &str) -> String {
    let other = |c: char| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    cookie.chars().map(other).collect()
}

/// The alphabet of standard base64, with one character that differs from base64url in any case.
fn standard(cookie: &str) -> String {
    format!("{}/", &cookie.replace('-', "+").replace('_', "/")[1..])
}

fn unsigned() -> String {
    format!("{}.{}.", base64url(b"{\"alg\":\"none\"}"), base64url(JSON.as_bytes()))
}
