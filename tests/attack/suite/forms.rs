//! Forms that another site sends in the visitor's name, and settings that let it.

use actix_web::test::TestRequest;
use actix_web::{App, web};
use databag_tests::Site;
use session_runtime::{Csrf, Keyring, MemoryStore, SameSite, Session, SessionMiddleware, Sessions};

use super::bags::Shop;
use super::case::cases;
use super::client::Visitor;
use super::target::{Target, victim};

cases! {
    "a form without a token" [25] All => paid(|_| String::new());
    "a form with a short token" [25] All => paid(|token| token[..20].to_owned());
    "a form with a long token" [25] All => paid(|token| format!("{token}A"));
    "a form with a changed token" [25] All => paid(changed);
    "a form with the token in the other case" [25] All => paid(str::to_lowercase);
    "a form with a token of another session" [25] All => of_another();
    "a form with the public id" [25] All => of_id();
    "a form with the cookie" [25] All => of_cookie();
    "a form with the token of before the log-in" [3 25] All => before("/login");
    "a form with the token of before a rotation" [3 25] All => before("/rotate");
    "a form with the token of before the log-out" [4 25] All => before("/logout");
    "a form with an invented session" [25] All => invented_session();
    "two pages show one token (BREACH)" [25] All => masked();
    "a planted cookie of a form, and then a session" [25] Any => planted();
    "a form under an older key" [25] All => older_key();
    "a page with a form makes no row" [25 29] Rows => no_row();
    "production without the prefix" [28] Any => production("plain");
    "production with the lesser prefix" [28] Any => production("__Secure-shop");
    "production without Secure" [8 28] Any => production_insecure();
    "production in the clear" [28] Any => production_plain();
    "development for a stranger" [28] Any => development();
    "development for a stranger behind a proxy of this machine" [28] Any => development_behind_a_proxy();
    "another site's requests with the cookie" [8] Any => same_site();
}

/// The attacker's page sends a form in the victim's browser, with what the attacker can make of a token.
async fn paid(target: &Target, forge: fn(&str) -> String) {
    let victim = victim(target).await;
    let token = victim.get("/csrf").await.body;
    assert_eq!(victim.put("/pay", &token).await.status, 200);
    assert_eq!(victim.put("/pay", &forge(&token)).await.status, 403, "the form is accepted");
}

fn changed(token: &str) -> String {
    let first = if token.starts_with('B') { 'C' } else { 'B' };
    format!("{first}{}", &token[1..])
}

async fn of_another(target: &Target) {
    let (victim, attacker) = (victim(target).await, victim(target).await);
    let token = attacker.get("/csrf").await.body;
    assert_eq!(victim.put("/pay", &token).await.status, 403, "one token is good for all");
}

async fn of_id(target: &Target) {
    let victim = victim(target).await;
    assert_eq!(victim.put("/pay", &victim.id().to_string()).await.status, 403);
}

async fn of_cookie(target: &Target) {
    let victim = victim(target).await;
    assert_eq!(victim.put("/pay", &victim.cookie()).await.status, 403);
}

async fn before(target: &Target, path: &str) {
    let victim = victim(target).await;
    let token = victim.get("/csrf").await.body;
    victim.does(path, "victim").await;
    victim.does("/add/tea", "").await;
    assert_eq!(victim.put("/pay", &token).await.status, 403);
}

async fn invented_session(target: &Target) {
    let attacker = Visitor::with(target, &super::target::invented(40).0);
    let token = attacker.get("/csrf").await.body;
    let stranger = Visitor::with(target, &super::target::invented(40).0);
    assert_eq!(stranger.put("/pay", &token).await.status, 403);
}

/// A token that is the same in each page can be read out of compressed answers, letter by letter.
async fn masked(target: &Target) {
    let victim = victim(target).await;
    let (one, other) = (victim.get("/csrf").await.body, victim.get("/csrf").await.body);
    assert_eq!([victim.put("/pay", &one).await.status, victim.put("/pay", &other).await.status], [200, 200]);
    assert_ne!(one, other, "each page shows the same token");
}

/// A neighbouring host has opened a form, and sets the cookie that belongs to it in the victim's browser. Then the victim begins
/// a session, and the neighbour sends forms with its own token.
async fn planted(target: &Target) {
    for name in ["shop", "__Secure-shop"] {
        let sessions = builder(target).cookie(name).build().await.expect("it opens");
        let form = async |session: Session<Shop>| session.csrf_token();
        let pay = async |_: Csrf<Shop>, mut session: Session<Shop>| {
            session.count += 1;
            session.count.to_string()
        };
        let begin = async |mut session: Session<Shop>| {
            session.count += 1;
            "begun"
        };
        let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/form", web::get().to(form));
        let app = app.route("/pay", web::post().to(pay)).route("/begin", web::post().to(begin));
        let site = Site::new(actix_web::test::init_service(app).await);
        let [victim, attacker] = [(); 2].map(|()| site.browser());
        let (token, cookie) = (attacker.get("/form").await.body, format!("{name}-csrf"));
        victim.set_cookie(&cookie, &attacker.cookie(&cookie).expect("a visitor's cookie"));
        victim.get("/form").await;
        victim.post("/begin").await;
        assert!(victim.cookie(name).is_some(), "the victim has a session");
        let forged = TestRequest::post().uri("/pay").insert_header(("x-csrf-token", token));
        assert_eq!(victim.send(forged).await.status, 403, "{name}: the neighbour's form is accepted");
    }
}

/// The key is rotated while the form is open.
async fn older_key(target: &Target) {
    let victim = victim(target).await;
    let token = victim.get("/csrf").await.body;
    let rotated =
        target.beside(|setup| setup.keys = format!("{},{}", *Keyring::generate_text(), setup.keys)).await;
    let status = victim.at(&rotated).put("/pay", &token).await.status;
    rotated.stop().await;
    assert_eq!(status, 200, "a rotation of keys refuses every open form");
}

/// Otherwise each request of a stranger for a page with a form fills the store.
async fn no_row(target: &Target) {
    let before = target.rows().await.count().await;
    for _ in 0..5 {
        Visitor::new(target).get("/csrf").await;
    }
    assert_eq!(target.rows().await.count().await, before, "each page makes a row");
}

type ShopBuilder = session_runtime::Builder<Shop, MemoryStore, session_runtime::builder::Protected>;

fn builder(target: &Target) -> ShopBuilder {
    let keyring = Keyring::parse(&target.setup.keys).expect("a key");
    Sessions::<Shop>::builder(MemoryStore::new()).keyring(keyring)
}

/// Without `__Host-` another host of the site can set the cookie, and plain HTTP too.
async fn production(target: &Target, name: &str) {
    assert!(builder(target).production().build().await.is_ok());
    assert!(builder(target).production().cookie(name).build().await.is_err(), "{name} is accepted");
}

async fn production_insecure(target: &Target) {
    assert!(builder(target).production().cookie("plain").secure(false).build().await.is_err());
    assert!(builder(target).production().development().build().await.is_err());
    assert!(builder(target).development().production().build().await.is_err());
}

async fn production_plain(_: &Target) {
    let builder = Sessions::<Shop>::builder(MemoryStore::new());
    assert!(builder.production().danger_plaintext().build().await.is_err());
}

/// A server in development that is reached from elsewhere sends its cookies over plain HTTP.
async fn development(target: &Target) {
    let sessions = builder(target).development().build().await.expect("it opens");
    let visit = async |mut session: Session<Shop>| {
        session.count += 1;
        "visited"
    };
    let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/", web::get().to(visit));
    let app = actix_web::test::init_service(app).await;
    let from =
        |peer: &str| TestRequest::get().uri("/").peer_addr(peer.parse().expect("an address")).to_request();
    let answer = actix_web::test::call_service(&app, from("127.0.0.1:4711")).await;
    assert!(answer.headers().contains_key("set-cookie"), "the developer is served");
    let answer = actix_web::test::call_service(&app, from("203.0.113.9:4711")).await;
    assert!(!answer.headers().contains_key("set-cookie"), "a stranger is served");
}

/// A proxy on the same machine has the address of the machine for everybody, and may say `localhost`.
async fn development_behind_a_proxy(target: &Target) {
    assert!(builder(target).development().trusted_proxies(["127.0.0.1"]).build().await.is_err());
    let sessions = builder(target).development().build().await.expect("it opens");
    let visit = async |mut session: Session<Shop>| {
        session.count += 1;
        "visited"
    };
    let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/", web::get().to(visit));
    let app = actix_web::test::init_service(app).await;
    for header in ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"] {
        let request = TestRequest::get().peer_addr("127.0.0.1:4711".parse().expect("an address"));
        let request = request.insert_header(("Host", "localhost")).insert_header((header, "127.0.0.1"));
        let answer = actix_web::test::call_service(&app, request.to_request()).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers().contains_key("set-cookie")),
            (403, false),
            "{header}"
        );
    }
}

async fn same_site(target: &Target) {
    assert!(builder(target).cookie("plain").same_site(SameSite::None).secure(false).build().await.is_err());
    assert!(builder(target).cookie("plain").partitioned(true).secure(false).build().await.is_err());
}
