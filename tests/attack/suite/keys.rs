//! Keys that an attacker can guess, keys that are missing, and what one key seals.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use session_runtime::{Keyring, Rejection};

use super::case::{Kind, cases};
use super::client::Visitor;
use super::measure::sized;
use super::record::{hex, unhex};
use super::target::{Target, is_refused, is_victim, row_of, victim};

cases! {
    "a key of zeros" [24] Any => weak(|| "0".repeat(64));
    "a key of one byte, repeated" [24] Any => weak(|| "ab".repeat(32));
    "a key of two bytes, repeated" [24] Any => weak(|| "abcd".repeat(16));
    "a key of 16 digits, four times" [24] Any => weak(|| "0123456789abcdef".repeat(4));
    "a key of 16 bytes, twice" [24] Any => weak(|| "8f1c73a5d9e204b6c85a17f3902e6bd4".repeat(2));
    "a key that counts up" [24] Any => weak(|| hex(&(0..32).collect::<Vec<u8>>()));
    "a key that counts down" [24] Any => weak(|| hex(&(224..=255).rev().collect::<Vec<u8>>()));
    "a passphrase" [24] Any => weak(|| "correct horse battery staple, twice over".to_owned());
    "a passphrase in base64" [24] Any => weak(|| STANDARD.encode("correct horse battery staple, twice over"));
    "a passphrase in hexadecimal digits" [24] Any => weak(|| hex(b"correct horse battery staple !!!"));
    "43 letters of base64 that spell words" [24] Any =>
        weak(|| "correcthorsebatterystaplecorrecthorsebatter".to_owned());
    "43 small letters" [24] Any => weak(|| "thisisthesecretkeyofourshopanditisverylongo".to_owned());
    "43 digits" [24] Any => weak(|| "1234567890123456789012345678901234567890120".to_owned());
    "62 hexadecimal digits" [24] Any => weak(|| Keyring::generate_text()[..62].to_owned());
    "63 hexadecimal digits" [24] Any => weak(|| format!("{}0", &Keyring::generate_text()[..62]));
    "66 hexadecimal digits" [24] Any => weak(|| format!("{}ab", *Keyring::generate_text()));
    "96 hexadecimal digits" [24] Any =>
        weak(|| format!("{}{}", *Keyring::generate_text(), &Keyring::generate_text()[..32]));
    "128 hexadecimal digits" [24] Any => weak(|| format!("{}{}", *Keyring::generate_text(), *Keyring::generate_text()));
    "31 bytes" [24] Any => weak(|| URL_SAFE_NO_PAD.encode(&random()[..31]));
    "no key at all" [24] Any => weak(String::new);
    "a good key and a weak one behind it" [24] Any =>
        weak(|| format!("{},{}", *Keyring::generate_text(), "0".repeat(64)));
    "generated keys are accepted" [24] Any => generated();
    "a refused key is not shown" [13 24] Any => unseen();
    "a session of another key" [15] All => other_key();
    "a session of an older key" [15] All => older_key();
    "a session of a key that was removed" [15] All => removed_key();
    "an older key is never used to seal" [16] All => sealed_by_current();
    "a row's key opens no cookie" [15 21] Rows => row_is_no_cookie();
    "no nonce comes twice" [16] Rows => nonces();
    "equal sessions have different states" [16] Rows => equal();
}

fn random() -> Vec<u8> {
    unhex(&Keyring::generate_text())
}

/// A key that can be guessed lets everyone sign in as anyone.
async fn weak(_: &Target, key: fn() -> String) {
    assert!(Keyring::parse(&key()).is_err(), "the key is accepted");
}

async fn generated(_: &Target) {
    for _ in 0..sized("ATTACK_KEYS", 5_000) {
        let key = Keyring::generate_text();
        assert!(Keyring::parse(&key).is_ok(), "a generated key is refused");
        let base64 = URL_SAFE_NO_PAD.encode(random());
        assert!(Keyring::parse(&base64).is_ok(), "a random key is refused: {base64}");
    }
}

async fn unseen(target: &Target) {
    for key in ["correct horse battery staple, twice over", &"ab".repeat(32), &Keyring::generate_text()[..62]]
    {
        let Err(error) = Keyring::parse(key) else { continue };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&key[..8]), "{shown}");
    }
    let shown = format!("{:?}", Keyring::parse(&target.setup.keys));
    assert!(!shown.contains(&target.setup.keys[..8]), "{shown}");
}

/// The attacker runs the same program with a key of his own.
async fn other_key(target: &Target) {
    let theirs = target.beside(|setup| setup.keys = Keyring::generate_text().to_string()).await;
    let visitor = victim(&theirs).await;
    let reply = visitor.at(target).get("/read").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (without_key(target), 0), "{reply:?}");
    assert!(reply.status == 503 || reply.session()["new"] == true, "it opens: {reply:?}");
    theirs.stop().await;
}

/// A row under a key that is missing is a mistake of the configuration; a cookie is what a client has written.
fn without_key(target: &Target) -> u16 {
    if target.kind == Kind::Cookie { 200 } else { 503 }
}

async fn older_key(target: &Target) {
    let victim = victim(target).await;
    let rotated =
        target.beside(|setup| setup.keys = format!("{},{}", *Keyring::generate_text(), setup.keys)).await;
    assert!(is_victim(&victim.at(&rotated)).await);
    rotated.stop().await;
}

async fn removed_key(target: &Target) {
    let new = Keyring::generate_text();
    let rotated = target.beside(|setup| setup.keys = format!("{},{}", *new, setup.keys)).await;
    let both = victim(&rotated).await;
    let old = victim(target).await;
    let only_new = target.beside(|setup| setup.keys = new.to_string()).await;
    assert!(is_victim(&both.at(&only_new)).await, "it is sealed under the new key");
    assert_eq!(old.at(&only_new).get("/read").await.status, without_key(target));
    only_new.stop().await;
    rotated.stop().await;
}

async fn sealed_by_current(target: &Target) {
    let victim = victim(target).await;
    let new = Keyring::generate_text();
    let rotated = target.beside(|setup| setup.keys = format!("{},{}", *new, setup.keys)).await;
    let there = victim.at(&rotated);
    there.does("/add/milk", "").await;
    let only_new = target.beside(|setup| setup.keys = new.to_string()).await;
    assert!(is_victim(&there.at(&only_new)).await, "a write seals under the current key");
    only_new.stop().await;
    rotated.stop().await;
}

/// The same master seals rows and cookies: a row's envelope in the frame of a cookie is refused by a `CookieStore`.
async fn row_is_no_cookie(target: &Target) {
    let victim = victim(target).await;
    let row = row_of(&victim).await;
    let mut cookie = row.id.as_bytes().to_vec();
    cookie.push(1);
    for number in [row.created.as_millis(), row.expiration.as_millis(), row.revision] {
        cookie.extend_from_slice(&number.to_be_bytes());
    }
    cookie.extend_from_slice(&row.state);
    let cookies = super::stores::Cookies::default();
    let store: std::rc::Rc<dyn super::stores::Opener> = std::rc::Rc::new(cookies);
    let sessions = store.shop(&target.setup, &target.parts).await.expect("it opens");
    let token = session_runtime::Token::parse(&URL_SAFE_NO_PAD.encode(cookie)).expect("it has the form");
    assert!(sessions.load(&token).await.expect("it answers").is_none());
    is_refused(&Visitor::with(target, &token.encode()), Rejection::Malformed).await;
}

async fn nonces(target: &Target) {
    let (victim, mut nonces) = (victim(target).await, HashSet::new());
    for _ in 0..150 {
        victim.does("/count", "").await;
        assert!(nonces.insert(row_of(&victim).await.state[5..17].to_vec()), "a nonce comes twice");
    }
}

async fn equal(target: &Target) {
    let (one, other) = (victim(target).await, victim(target).await);
    let (one, other) = (row_of(&one).await.state, row_of(&other).await.state);
    assert_eq!(one.len(), other.len());
    let same = one[17..].iter().zip(&other[17..]).filter(|(one, other)| one == other).count();
    assert!(same < one.len() / 8, "{same} of {} bytes are equal", one.len());
}
