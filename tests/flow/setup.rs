//! Settings that `build` refuses, and parts that tests can replace.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::http::header::HOST;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, web};
use databag_tests::{Logs, Site};
use session_runtime::builder::Protected;
use session_runtime::{
    Bind, Builder, Cleanup, Databag, Error, FormerCookie, Keyring, SameSite, Session, SessionMiddleware,
    Sessions, SqliteStore, Token,
};

use crate::app::{COOKIE, Shop, ShopBuilder, key, shop, shop_with};

#[derive(Databag)]
#[databag(table = "plain", cookie = "plain", idle = "10m", absolute = "1h")]
struct Plain {
    visits: u32,
}

type PlainBuilder = Builder<Plain, SqliteStore, Protected>;

fn builder() -> PlainBuilder {
    Sessions::<Plain>::builder(SqliteStore::in_memory().expect("memory")).keyring(key())
}

#[actix_web::test]
async fn contradictory_settings_are_refused_with_their_reason() {
    type Change = fn(PlainBuilder) -> PlainBuilder;
    let changes: [(&str, Change); 36] = [
        ("`idle` is zero", |b| b.idle(Duration::ZERO)),
        ("`idle` is longer than `absolute`", |b| b.idle(Duration::from_hours(2))),
        ("`idle` is longer than `absolute`", |b| b.absolute(Duration::from_mins(1))),
        ("`deadline` is zero", |b| b.deadline(Duration::ZERO)),
        ("`watch_period` is zero", |b| b.watch_period(Duration::ZERO)),
        ("`cleanup` would never pause", |b| b.cleanup(Cleanup::Every(Duration::ZERO))),
        ("`ip_binding` needs a field", |b| b.ip_binding(Bind::Prefix)),
        ("exclude each other", |b| b.production().danger_plaintext()),
        ("`production` needs a cookie with `Secure`", |b| b.production().secure(false)),
        ("`production` and `development` exclude", |b| b.production().development()),
        ("write `cookie = \"__Host-shop\"`", |b| b.production().cookie("shop")),
        ("write `cookie = \"__Host-shop\"`", |b| b.production().cookie("__Secure-shop")),
        ("`production` needs a key that outlives", |b| b.production().cookie("__Host-s")),
        ("`development_hosts` needs `development`", |b| b.development_hosts(["shop.test"])),
        ("is not a host", |b| b.development().development_hosts(["http://shop.test"])),
        ("use `production` behind a proxy", |b| b.development().trusted_proxies(["127.0.0.1"])),
        ("use `production` behind a proxy", |b| b.danger_trust_every_peer().development()),
        ("the cookie path has 1025 bytes", |b| b.cookie("shop").path(format!("/{}", "p".repeat(1024)))),
        ("cookie name", |b| b.cookie("")),
        ("cookie name", |b| b.cookie("a b")),
        ("cookie name", |b| b.cookie("a=b")),
        ("is spelled `__Host-`", |b| b.cookie("__HOST-plain")),
        ("needs `Secure`, the path", |b| b.cookie("__Host-plain").secure(false)),
        ("needs `Secure`, the path", |b| b.cookie("__Host-plain").path("/shop")),
        ("needs `Secure`, the path", |b| b.cookie("__Host-plain").domain("example.com")),
        ("needs `Secure`", |b| b.cookie("__Secure-plain").secure(false)),
        ("`SameSite=None` needs", |b| b.same_site(SameSite::None).secure(false)),
        ("`Partitioned` needs", |b| b.partitioned(true).secure(false)),
        ("cookie path", |b| b.path("shop")),
        ("cookie domain", |b| b.domain(".example.com")),
        ("`former_cookie`: the cookie path", |b| b.former_cookie(FormerCookie::named("plain").path("shop"))),
        ("nor a network", |b| b.trusted_proxies(["10.0.0.0/33"])),
        ("is every address", |b| b.trusted_proxies(["10.0.0.0/8", "0.0.0.0/0"])),
        ("is every address", |b| b.trusted_proxies(["::/0"])),
        ("is wider than all IPv4 addresses", |b| b.trusted_proxies(["::ffff:10.0.0.0/8"])),
        ("`login_redirect`", |b| b.login_redirect("/log in\r\nSet-Cookie: a=b")),
    ];
    for (reason, change) in changes {
        match change(builder()).build().await {
            Err(Error::Config(message)) => assert!(message.contains(reason), "{reason}: {message}"),
            Err(other) => panic!("{reason}: {other}"),
            Ok(_) => panic!("{reason}: it was accepted"),
        }
    }
    let kept = || builder().keyring(crate::app::keys(&Keyring::generate_text()));
    for cookie in ["__Host-shop", "__Host-Http-shop"] {
        assert!(kept().production().cookie(cookie).build().await.is_ok(), "valid settings are accepted");
    }
}

#[actix_web::test]
async fn development_takes_away_what_needs_secure() {
    for (configure, attributes) in [
        (builder().same_site(SameSite::None).partitioned(true), "SameSite=Lax"),
        (builder().same_site(SameSite::Strict), "SameSite=Strict"),
    ] {
        let sessions = configure.cookie("__Host-shop").development().build().await.expect("good settings");
        let (token, _) = sessions.create(Plain { visits: 1 }).await.expect("it is stored");
        let cookie = sessions.cookie(&token).to_string();
        assert!(cookie.starts_with("shop=") && cookie.contains(attributes), "{cookie}");
        assert!(!cookie.contains("Secure") && !cookie.contains("Partitioned"), "{cookie}");
    }
}

#[actix_web::test]
async fn development_serves_this_machine_and_the_hosts_that_are_named() {
    let through = async |builder: PlainBuilder, host: &str, peer: &str, proxy: &[&str]| {
        let sessions = builder.build().await.expect("good settings");
        let visit = async |mut session: Session<Plain>| {
            session.visits += 1;
            "visited"
        };
        let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/", web::get().to(visit));
        let site = Site::new(init_service(app).await);
        let request = TestRequest::get().insert_header((HOST, host));
        let request = proxy.iter().fold(request, |request, name| request.insert_header((*name, "127.0.0.1")));
        let answer = site.call(request.peer_addr(peer.parse().expect("an address")).to_request()).await;
        assert_eq!(answer.set_cookies().is_empty(), answer.status != StatusCode::OK, "{host} {peer}");
        answer.status
    };
    let status = async |builder, host: &str, peer: &str| through(builder, host, peer, &[]).await;
    let development = || builder().cookie("__Host-shop").development();
    let named = || development().development_hosts(["shop.test"]);
    for (host, peer) in [("localhost:8080", "127.0.0.1:1"), ("[::1]:8080", "[::1]:1")] {
        assert_eq!(status(development(), host, peer).await, StatusCode::OK, "{host} {peer}");
    }
    let (logs, _guard) = Logs::of_this_thread();
    for (host, peer) in [("rebound.example", "127.0.0.1:1"), ("localhost", "192.0.2.1:1")] {
        assert_eq!(status(development(), host, peer).await, StatusCode::FORBIDDEN, "{host} {peer}");
    }
    assert_eq!(logs.lines(&["WARN", ".development_hosts("]).len(), 2, "{}", logs.text());
    assert_eq!(status(named(), "shop.test:8080", "192.0.2.1:1").await, StatusCode::OK);
    assert_eq!(status(named(), "rebound.example", "127.0.0.1:1").await, StatusCode::FORBIDDEN);
    assert_eq!(status(builder(), "example.com", "192.0.2.1:1").await, StatusCode::OK, "without it");

    let local = "127.0.0.1:1";
    for proxy in ["Forwarded", "Via", "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "X-Real-IP"]
    {
        assert_eq!(
            through(development(), "localhost", local, &[proxy]).await,
            StatusCode::FORBIDDEN,
            "{proxy}"
        );
        assert_eq!(through(named(), "localhost", local, &[proxy]).await, StatusCode::FORBIDDEN, "{proxy}");
        assert_eq!(through(named(), "shop.test", local, &[proxy]).await, StatusCode::OK, "{proxy}");
        assert_eq!(
            through(builder(), "localhost", local, &[proxy]).await,
            StatusCode::OK,
            "{proxy}: without it"
        );
    }
    let trusting = || named().trusted_proxies(["127.0.0.1"]);
    assert_eq!(through(trusting(), "shop.test", local, &["X-Forwarded-For"]).await, StatusCode::OK);
}

#[actix_web::test]
async fn times_that_mean_for_ever_are_shortened() {
    const YEAR: Duration = Duration::from_hours(24 * 365);
    let longest = Duration::MAX;
    let builder = builder().idle(longest).absolute(longest).deadline(longest).watch_period(longest);
    let builder = builder.cleanup(Cleanup::Every(longest));
    let sessions = builder.build().await.expect("good settings");
    let (token, _) = sessions.create(Plain { visits: 1 }).await.expect("stored");
    let session = sessions.load(&token).await.expect("answers").expect("alive");
    let life = session.expires().duration_since(SystemTime::now()).expect("it expires later");
    assert!(life > 99 * YEAR && life < 101 * YEAR, "{life:?}");
}

#[actix_web::test]
async fn a_cookie_whose_name_leaves_no_room_for_a_token_is_refused() {
    // The CSRF cookie is the longer one.
    let longest = "n".repeat(4096 - "-csrf".len() - 86);
    assert!(builder().cookie(&longest).build().await.is_ok());
    assert!(matches!(builder().cookie(format!("{longest}n")).build().await, Err(Error::Config(_))));
}

#[actix_web::test]
async fn a_table_with_a_wrong_column_is_refused_and_the_error_names_the_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.db");
    let database = rusqlite::Connection::open(&path).expect("a database");
    database.execute_batch("CREATE TABLE plain (id INTEGER PRIMARY KEY, state BLOB)").expect("good SQL");
    drop(database);
    let store = SqliteStore::open(&path).expect("a database");
    let Err(error) = Sessions::<Plain>::builder(store).keyring(key()).build().await else {
        panic!("it was accepted");
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(matches!(error, Error::Store(_)) && text.contains("\"id\""), "{text}");
}

#[actix_web::test]
async fn the_source_of_tokens_can_be_replaced() {
    let next = AtomicU8::new(1);
    let world = shop_with(|builder: ShopBuilder| {
        builder.token_source(move || [next.fetch_add(1, Ordering::Relaxed); 32])
    })
    .await;
    let browser = world.customer().await;
    let cookie = browser.cookie(COOKIE).expect("a cookie");
    let issued = (1..=3).map(|byte| Token::from_bytes([byte; 32]).encode().to_string());
    assert!(issued.into_iter().any(|token| token == cookie), "{cookie}");
}

#[actix_web::test]
async fn tokens_are_unique_and_use_every_symbol_at_every_position() {
    // Each belongs to a stored session, and a debug build creates these in a few seconds.
    let count: usize =
        std::env::var("DATABAG_TOKENS").map_or(100_000, |count| count.parse().expect("a number"));
    let sessions = builder().build().await.expect("good settings");
    let mut symbols = vec![[false; 128]; Token::ENCODED_LEN];
    let mut tokens = std::collections::HashSet::with_capacity(count);
    for _ in 0..count {
        let (token, _) = sessions.create(Plain { visits: 0 }).await.expect("stored");
        let token = token.encode().to_string();
        for (position, symbol) in token.bytes().enumerate() {
            symbols[position][usize::from(symbol)] = true;
        }
        assert!(tokens.insert(token), "a token was made twice");
    }
    for (position, used) in symbols.iter().enumerate() {
        let used = used.iter().filter(|used| **used).count();
        // 43 characters have 258 bits, 2 more than 32 bytes: the last character uses four of its six bits.
        let expected = if position + 1 == Token::ENCODED_LEN { 16 } else { 64 };
        assert_eq!(used, expected, "position {position}");
    }
}

#[actix_web::test]
async fn sessions_survive_a_restart_with_the_same_key() {
    let world = shop().await;
    let browser = world.user(7).await;
    let crate::app::World { folder, key, .. } = world;
    let restarted = crate::app::shop_in(folder, &key, |builder| builder).await;
    let back = restarted.browser();
    back.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    let seen = crate::app::read_session(&back).await;
    assert_eq!((&seen["user"], &seen["cart"]["tea"]), (&7.into(), &1.into()));
}

#[actix_web::test]
async fn settings_show_no_secret() {
    let text = Keyring::generate_text();
    let keyring = Keyring::parse(&text).expect("a generated key");
    assert!(!format!("{keyring:?}").contains(&text[..8]));
    let builder = Sessions::<Shop>::builder(SqliteStore::in_memory().expect("memory")).keyring(keyring);
    assert_eq!(format!("{builder:?}"), "Builder(..)");
}
