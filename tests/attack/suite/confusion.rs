//! Sessions of one bag in the place of another's. Both bags have one key and fields of the same names and types.

use session_runtime::{Rejection, Value};

use super::bags::{Admin, Bag, Shop, Text};
use super::case::cases;
use super::client::{Visitor, exchange, request};
use super::stores::Setup;
use super::target::{Target, is_refused, row_of, victim};

cases! {
    "the shop's cookie under the back office's name" [21] All => renamed::<Shop, Admin>();
    "the back office's cookie under the shop's name" [21] All => renamed::<Admin, Shop>();
    "the shop's cookie under the name of a bag of JSON" [21] All => renamed::<Shop, Text>();
    "a cookie of JSON under the shop's name" [21] All => renamed::<Text, Shop>();
    "both cookies, each under the other's name" [21] All => exchanged();
    "the shop's row in the back office's table" [21] Rows => copied();
    "the back office's row in the shop's table" [21] Rows => copied_back();
    "the shop's row in the back office's table, in the clear" [21] Rows => copied_plain();
    "a row of JSON in the table of another bag" [21] Rows => copied_text();
    "the shop's state in a row of the back office" [21] Rows => state_moved();
    "an id of the shop's in calls of the back office" [21] Rows => by_id();
    "a user of the shop's in calls of the back office" [21] Rows => by_user();
    "a list of everything in the back office" [21] Rows => cleared();
    "a log-out of the shop's" [21] All => logged_out();
    "a second type of the same name and table" [21] Rows => twin();
    "a row's state as a cookie (CVE-2022-46170)" [15 21] Rows => state_as_cookie();
    "a CSRF token of the shop's in the back office" [21 25] All => csrf();
    "the shop's token in the header of the back office" [21] All => other_header();
    "a cookie of another bag, under one name and key" [21] Cookie => same_name();
    "a cookie of another name, sealed under the same key" [21] Cookie => other_name();
}

/// Sends a cookie of the bag `A` under the name of the bag `B` (Django CVE-2011-4136).
async fn renamed<A: Bag, B: Bag>(target: &Target) {
    let victim = Visitor::of::<A>(target);
    victim.does("/login", "victim").await;
    let attacker = Visitor::of::<B>(target).holding(&victim.cookie());
    let seen = attacker.get("/read").await.session();
    assert!(seen["new"] == true && seen["user"].is_null(), "it opens in the other bag: {seen}");
    assert_eq!(target.rejections().len(), 1);
    assert_eq!(victim.read().await["user"], "victim");
}

async fn renamed_is_refused(target: &Target, path: &str, cookies: &str) {
    let line = format!("Cookie: {cookies}");
    let reply =
        exchange(target.address, &request("GET", path, &[line.as_bytes()], b"")).await.expect("an answer");
    assert!(reply.session()["user"].is_null(), "{reply:?}");
}

async fn exchanged(target: &Target) {
    let (shop, admin) = (victim(target).await, Visitor::of::<Admin>(target));
    admin.does("/login", "boss").await;
    let cookies = format!("{}={}; {}={}", Shop::COOKIE, admin.cookie(), Admin::COOKIE, shop.cookie());
    for path in ["/read", "/admin/read", "/text/read"] {
        renamed_is_refused(target, path, &cookies).await;
    }
}

async fn copied(target: &Target) {
    target.admin.clear().await.expect("it answers");
    let victim = victim(target).await;
    let row = row_of(&victim).await;
    let there = target.store.rows(Admin::SCOPE).await;
    there.add(row).await;
    let attacker = Visitor::of::<Admin>(target).holding(&victim.cookie());
    is_refused(&attacker, Rejection::Tampered).await;
    assert!(target.admin.get(victim.id()).await.expect("it answers").is_none());
    assert!(target.admin.of_user("victim").await.expect("it answers").is_empty());
    assert!(there.delete(victim.id()).await);
}

async fn copied_back(target: &Target) {
    let boss = Visitor::of::<Admin>(target);
    boss.does("/login", "boss").await;
    let row = target.store.rows(Admin::SCOPE).await.load(boss.id()).await.expect("a row");
    target.rows().await.add(row).await;
    is_refused(&Visitor::with(target, &boss.cookie()), Rejection::Tampered).await;
    assert!(target.rows().await.delete(boss.id()).await);
}

async fn copied_plain(target: &Target) {
    let plain = target.beside(|setup| setup.is_plain = true).await;
    let victim = victim(&plain).await;
    let row = row_of(&victim).await;
    let there = target.store.rows(Admin::SCOPE).await;
    there.add(row).await;
    is_refused(&Visitor::of::<Admin>(&plain).holding(&victim.cookie()), Rejection::Tampered).await;
    assert!(there.delete(victim.id()).await);
    plain.stop().await;
}

async fn copied_text(target: &Target) {
    let visitor = Visitor::of::<Text>(target);
    visitor.does("/login", "victim").await;
    let row = target.store.rows(Text::SCOPE).await.load(visitor.id()).await.expect("a row");
    target.rows().await.add(row).await;
    is_refused(&Visitor::with(target, &visitor.cookie()), Rejection::Tampered).await;
    assert!(target.rows().await.delete(visitor.id()).await);
}

/// The attacker has a session in the back office, and moves the shop's state into it, with every number that is bound.
async fn state_moved(target: &Target) {
    let victim = victim(target).await;
    let attacker = Visitor::of::<Admin>(target);
    attacker.does("/login", "victim").await;
    attacker.does("/tenant", "acme").await;
    let there = target.store.rows(Admin::SCOPE).await;
    let (from, mut row) = (row_of(&victim).await, there.load(attacker.id()).await.expect("a row"));
    (row.state, row.created, row.expiration) = (from.state, from.created, from.expiration);
    row.revision = from.revision;
    there.replace(row).await;
    is_refused(&attacker, Rejection::Tampered).await;
    assert!(there.delete(attacker.id()).await);
}

async fn by_id(target: &Target) {
    let victim = victim(target).await;
    let id = victim.id();
    assert!(target.admin.get(id).await.expect("it answers").is_none());
    assert!(!target.admin.delete(id).await.expect("it answers"));
    assert!(target.admin.update(id, |_| ()).await.is_err());
    assert!(target.shop.get(id).await.expect("it answers").is_some());
    assert_eq!(victim.read().await["user"], "victim");
}

async fn by_user(target: &Target) {
    target.admin.clear().await.expect("it answers");
    let victim = victim(target).await;
    assert!(target.admin.of_user("victim").await.expect("it answers").is_empty());
    assert_eq!(target.admin.revoke_user("victim").await.expect("it answers"), 0);
    assert_eq!(target.admin.find(Admin::TENANT.eq("acme")).delete().await.expect("it answers"), 0);
    assert_eq!(victim.read().await["user"], "victim");
}

async fn cleared(target: &Target) {
    target.admin.clear().await.expect("it answers");
    let victim = victim(target).await;
    assert_eq!(target.admin.count_all().await.expect("it answers"), 0);
    assert_eq!(target.admin.clear().await.expect("it answers"), 0);
    assert_eq!(target.admin.prune().await.expect("it answers"), 0);
    assert_eq!(victim.read().await["user"], "victim");
}

async fn logged_out(target: &Target) {
    let (shop, admin) = (victim(target).await, Visitor::of::<Admin>(target));
    admin.does("/login", "boss").await;
    let reply = shop.does("/logout", "").await;
    assert!(reply.set_cookies().iter().all(|cookie| cookie.starts_with(Shop::COOKIE)), "{reply:?}");
    assert_eq!(admin.read().await["user"], "boss");
}

/// A second program's bag, which names the shop's table.
async fn twin(target: &Target) {
    let refused = target.store.twin(&target.setup, &target.parts).await;
    let reason = match refused {
        Ok(_) => panic!("two bags share a table"),
        Err(error) => error.to_string(),
    };
    assert!(reason.contains("attack_shop"), "{reason}");
}

async fn state_as_cookie(target: &Target) {
    let victim = victim(target).await;
    let state = row_of(&victim).await.state;
    let cookie = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, state);
    is_refused(&Visitor::with(target, &cookie), Rejection::Malformed).await;
    assert!(matches!(row_of(&victim).await.user, Some(Value::Text(user)) if user == "victim"));
}

async fn csrf(target: &Target) {
    let (shop, admin) = (victim(target).await, Visitor::of::<Admin>(target));
    admin.does("/login", "victim").await;
    let token = shop.get("/csrf").await.body;
    assert_eq!(shop.put("/pay", &token).await.status, 200);
    assert_eq!(admin.put("/pay", &token).await.status, 403);
}

async fn other_header(target: &Target) {
    let api = target.beside(|setup| setup.has_header = true).await;
    let reply = Visitor::new(&api).sending("X-Shop-Token:").does("/login", "victim").await;
    let token = reply.all("x-shop-token")[0].to_owned();
    api.note_secret(&token);
    let header = format!("X-Admin-Token: {token}");
    let seen = Visitor::of::<Admin>(&api).sending(&header).read().await;
    assert!(seen["new"] == true && seen["user"].is_null(), "it opens in the other bag: {seen}");
    assert_eq!(api.rejections().len(), 1);
    api.stop().await;
}

/// Two applications of one host whose cookies have one name: their bags tell them apart.
async fn same_name(target: &Target) {
    let setup = Setup { cookie: Some(Shop::COOKIE.to_owned()), ..target.setup.clone() };
    let admin = target.store.admin(&setup, &target.parts).await.expect("it opens");
    let bag = Admin { user_id: Some("victim".to_owned()), ..session_runtime::Databag::defaults() };
    let (token, _) = admin.create(bag).await.expect("it is sealed");
    assert!(admin.load(&token).await.expect("it answers").is_some());
    is_refused(&Visitor::with(target, &token.encode()), Rejection::Tampered).await;
}

/// The cookie's name is sealed with it: a cookie of an app at another path does not open here.
async fn other_name(target: &Target) {
    let setup = Setup { cookie: Some("__Host-other".to_owned()), ..target.setup.clone() };
    let renamed = target.store.shop(&setup, &target.parts).await.expect("it opens");
    let bag = Shop { user_id: Some("victim".to_owned()), ..session_runtime::Databag::defaults() };
    let (token, _) = renamed.create(bag).await.expect("it is sealed");
    assert!(renamed.load(&token).await.expect("it answers").is_some());
    is_refused(&Visitor::with(target, &token.encode()), Rejection::Tampered).await;
}
