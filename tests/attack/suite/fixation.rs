//! An attacker plants a cookie in the victim's browser, and waits for the victim to log in.

use session_runtime::Rejection;

use super::bags::{Bag as _, Shop};
use super::case::cases;
use super::client::{Visitor, exchange, request};
use super::target::{Target, invented, is_refused, victim};

cases! {
    "a planted token that was never issued" [2 3] All => planted(Planted::Invented, "/login");
    "a planted token of the attacker's own session" [3] All => planted(Planted::Own, "/login");
    "a planted token of a session with a user" [3] All => planted(Planted::LoggedIn, "/login");
    "a planted token of a session that has ended" [2 3] All => planted(Planted::Ended, "/login");
    "a planted token, and the user is set as a field" [3] All => planted(Planted::Own, "/become");
    "an invented token, and the user is set as a field" [2 3] All => planted(Planted::Invented, "/become");
    "a planted token and privileges without a log-in" [3] All => planted(Planted::Own, "/rotate");
    "a planted cookie of a malformed value" [2 3] All => planted(Planted::Malformed, "/login");
    "a planted empty cookie" [2 3] All => planted(Planted::Empty, "/login");
    "a planted cookie beside none of the victim's, in lower case" [3 11] All => planted_as("__host-shop");
    "a planted cookie without the prefix" [3 11] All => planted_as("shop");
    "a planted cookie in percent signs" [3 11] All => planted_as("%5F%5FHost-shop");
    "a planted cookie and a log-in that fails" [2 3] All => failed_log_in();
    "a planted token and what the victim then puts into the cart" [2 3] All => anonymous_cart();
    "a row that the attacker adds for a token of his own" [2 15] Rows => planted_row();
    "a log-in that the browser never hears of" [3] Rows => lost_answer();
    "a token from another user's log-in on the same connection" [3] All => two_log_ins();
    "a planted cookie beside the victim's header" [3 10] All => beside_a_header();
    "an invented token in the header" [2 3 10] All => invented_header();
    "a token that the log-in answer repeats in its body" [3 13] All => body();
}

#[derive(Clone, Copy)]
enum Planted {
    Invented,
    Own,
    LoggedIn,
    Ended,
    Malformed,
    Empty,
}

async fn plant(target: &Target, what: Planted) -> String {
    let attacker = Visitor::new(target);
    match what {
        Planted::Invented => return invented(11).0,
        Planted::Malformed => return "planted".to_owned(),
        Planted::Empty => return String::new(),
        Planted::Own | Planted::Ended => attacker.does("/add/bait", "").await,
        Planted::LoggedIn => attacker.does("/login", "attacker").await,
    };
    let cookie = attacker.cookie();
    if matches!(what, Planted::Ended) {
        attacker.does("/logout", "").await;
    }
    cookie
}

/// The victim logs in with the planted cookie. Afterwards the attacker uses it.
async fn planted(target: &Target, what: Planted, path: &str) {
    let planted = plant(target, what).await;
    let victim = Visitor::with(target, &planted);
    victim.does("/add/tea", "").await;
    let reply = victim.does(path, "victim").await;
    assert_ne!(victim.cookie(), planted, "the planted token goes on");
    assert_eq!(reply.set_cookies().len(), 1);
    let attacker = Visitor::with(target, &planted);
    let seen = attacker.read().await;
    assert!(seen["user"].is_null() || seen["user"] == "attacker", "the attacker is the victim: {seen}");
    assert!(seen["cart"]["tea"].is_null() || target.kind == super::case::Kind::Cookie, "{seen}");
    assert_eq!(
        seen["new"] == true,
        !matches!(what, Planted::Own | Planted::LoggedIn) || seen["cart"] == serde_json::json!({}),
        "{seen}"
    );
}

/// The browser sends the planted cookie under another spelling of the name.
async fn planted_as(target: &Target, name: &str) {
    let planted = plant(target, Planted::Own).await;
    let victim = Visitor::new(target).sending(&format!("Cookie: {name}={planted}"));
    assert_eq!(victim.read().await["new"], true, "the planted cookie is read");
    let line = format!("Cookie: {name}={planted}");
    let bytes = request("POST", "/login", &[line.as_bytes()], b"victim");
    let reply = exchange(target.address, &bytes).await.expect("an answer");
    let cookie = reply.set_cookies()[0].to_owned();
    assert!(cookie.starts_with(Shop::COOKIE) && !cookie.contains(&planted), "{cookie}");
    assert!(Visitor::with(target, &planted).read().await["user"].is_null());
}

async fn failed_log_in(target: &Target) {
    let (planted, _) = invented(12);
    let victim = Visitor::with(target, &planted);
    // The handler answers 400 after a change, as a log-in with a wrong password does that counts its attempts.
    let reply = victim.post("/fail").await;
    assert_eq!(reply.status, 400);
    assert_ne!(victim.cookie(), planted);
    is_refused(
        &Visitor::with(target, &planted),
        if target.has_rows() { Rejection::Unknown } else { Rejection::Malformed },
    )
    .await;
}

async fn anonymous_cart(target: &Target) {
    let (planted, id) = invented(13);
    let victim = Visitor::with(target, &planted);
    victim.does("/add/tea", "").await;
    assert_ne!(victim.cookie(), planted);
    if target.has_rows() {
        assert!(target.rows().await.load(id).await.is_none(), "there is a row under the planted token");
    }
    assert_eq!(victim.read().await["cart"]["tea"], 1);
}

/// A writer of the database plants a row for a token that he knows, made from one that he may have: his own.
async fn planted_row(target: &Target) {
    let attacker = Visitor::new(target);
    attacker.does("/login", "attacker").await;
    let rows = target.rows().await;
    let mut row = rows.load(attacker.id()).await.expect("a row");
    let (token, id) = invented(14);
    row.id = id;
    rows.add(row).await;
    is_refused(&Visitor::with(target, &token), Rejection::Tampered).await;
    rows.delete(id).await;
}

/// The answer to the log-in is lost: the old cookie must not stay a second way in.
async fn lost_answer(target: &Target) {
    let victim = Visitor::new(target);
    victim.does("/add/tea", "").await;
    let old = victim.at(target);
    let line = format!("Cookie: {}={}", Shop::COOKIE, old.cookie());
    let bytes = request("POST", "/login", &[line.as_bytes()], b"victim");
    exchange(target.address, &bytes).await.expect("an answer that the browser does not read");
    is_refused(&old, Rejection::Unknown).await;
}

async fn two_log_ins(target: &Target) {
    let (one, other) = (victim(target).await, Visitor::new(target));
    other.does("/login", "other").await;
    assert_ne!(one.cookie(), other.cookie());
    let again = one.at(target);
    again.does("/login", "other").await;
    is_refused(&one, Rejection::Unknown).await;
    assert_eq!(again.read().await["user"], "other");
}

/// A neighbour plants cookies in the browser of a victim whose page sends the header.
async fn beside_a_header(target: &Target) {
    let api = target.beside(|setup| setup.has_header = true).await;
    let planted = plant(&api, Planted::Own).await;
    let log_in = Visitor::with(&api, &planted).sending("X-Shop-Token:").does("/login", "victim").await;
    let token = log_in.all("x-shop-token")[0].to_owned();
    api.note_secret(&token);
    assert!(log_in.set_cookies().is_empty() && token != planted, "{log_in:?}");
    let victim = format!("X-Shop-Token: {token}");
    for cookies in [planted.clone(), format!("{planted}; {}={planted}", Shop::COOKIE), String::new()] {
        let reply = Visitor::with(&api, &cookies).sending(&victim).get("/read").await;
        assert_eq!(reply.session()["user"], "victim");
        assert!(reply.set_cookies().is_empty() && reply.all("x-shop-token").is_empty(), "{reply:?}");
    }
    assert!(Visitor::with(&api, &planted).read().await["user"].is_null(), "the attacker is the victim");
    // A second header, which only a broken proxy adds.
    api.rejections();
    let twice = Visitor::new(&api).sending(&victim).sending(&victim);
    assert!(twice.read().await["user"].is_null());
    assert_eq!(api.rejections(), [Rejection::Duplicate]);
    api.stop().await;
}

async fn invented_header(target: &Target) {
    let api = target.beside(|setup| setup.has_header = true).await;
    let (token, id) = invented(15);
    let header = format!("X-Shop-Token: {token}");
    // A header that opens nothing does not fall back to the cookie either.
    let user = Visitor::new(&api);
    user.does("/login", "eve").await;
    let attacker = Visitor::with(&api, &user.cookie()).sending(&header);
    assert!(attacker.read().await["user"].is_null());
    let reply = attacker.does("/add/tea", "").await;
    assert!(reply.set_cookies().is_empty() && reply.all("x-shop-token") != [&token], "{reply:?}");
    if api.has_rows() {
        assert!(api.rows().await.load(id).await.is_none(), "there is a row under the invented token");
    }
    api.stop().await;
}

async fn body(target: &Target) {
    let victim = Visitor::new(target);
    let reply = victim.does("/login", "victim").await;
    let elsewhere = reply.headers.iter().filter(|(name, _)| name != "set-cookie");
    assert!(elsewhere.clone().all(|(_, value)| !value.contains(&victim.cookie())), "{reply:?}");
    assert!(!reply.body.contains(&victim.cookie()));
}
