//! The `Set-Cookie` header and the headers that accompany it.

use std::time::Duration;

use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use actix_web::test::TestRequest;
use actix_web::{HttpResponse, HttpResponseBuilder};
use databag_tests::{Answer, Logs, ManualClock, Site};
use session_runtime::{
    Cleanup, Databag, FormerCookie, Persistence, SameSite, Session, Sessions, SqliteStore, Token,
};

use crate::app::{COOKIE, Shop, ShopBuilder, key, read_session, shop, shop_with, site};

const MINUTE: Duration = Duration::from_mins(1);

/// Splits a `Set-Cookie` into the value and the attributes, sorted.
fn parse(header: &str) -> (String, Vec<String>) {
    let mut parts = header.split("; ").map(str::to_owned);
    let pair = parts.next().expect("a pair");
    let mut attributes: Vec<_> = parts.collect();
    attributes.sort();
    (pair, attributes)
}

fn only_cookie(answer: &Answer) -> (String, Vec<String>) {
    let cookies = answer.set_cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    parse(&cookies[0])
}

#[actix_web::test]
async fn by_default_the_cookie_is_bound_to_its_host_and_ends_with_the_browser() {
    let world = shop().await;
    let answer = world.browser().post("/add/tea").await;
    let (pair, attributes) = only_cookie(&answer);
    let value = pair.strip_prefix("__Host-shop=").expect("its name");
    assert!(Token::parse(value).is_some());
    // Neither `Max-Age` nor `Expires` nor `Domain`.
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
}

#[derive(Databag)]
#[databag(
    cookie = "__Secure-till",
    path = "/till",
    domain = "example.com",
    same_site = "none",
    partitioned = true,
    persistence = "persistent",
    idle = "10m",
    absolute = "1h"
)]
struct Till {
    #[databag(user_id)]
    user_id: Option<i64>,
    sum: u32,
}

async fn ring(mut till: Session<Till>) -> &'static str {
    till.sum += 1;
    "rung"
}

async fn close(mut till: Session<Till>) -> &'static str {
    till.log_out();
    "closed"
}

async fn peek(till: Session<Till>) -> String {
    till.sum.to_string()
}

async fn till() -> (Site, ManualClock) {
    let clock = ManualClock::default();
    let sessions = Sessions::<Till>::builder(SqliteStore::in_memory().expect("memory"))
        .keyring(key())
        .cleanup(Cleanup::Never)
        .clock(clock.clone())
        .build()
        .await
        .expect("good settings");
    (site!(sessions; "/till/ring" => ring, "/till/close" => close, "/till/peek" => peek), clock)
}

#[actix_web::test]
async fn every_attribute_that_is_declared_is_sent() {
    let (till, _) = till().await;
    let (pair, attributes) = only_cookie(&till.browser().post("/till/ring").await);
    assert!(pair.starts_with("__Secure-till="));
    assert_eq!(
        attributes,
        [
            "Domain=example.com",
            "HttpOnly",
            "Max-Age=600",
            "Partitioned",
            "Path=/till",
            "SameSite=None",
            "Secure"
        ]
    );
}

#[actix_web::test]
async fn the_removal_cookie_has_the_attributes_of_the_cookie_it_removes() {
    for (set, removed) in [
        {
            let (till, _) = till().await;
            let browser = till.browser();
            (browser.post("/till/ring").await, browser.post("/till/close").await)
        },
        {
            let world = shop().await;
            let browser = world.browser();
            (browser.post("/add/tea").await, browser.post("/logout").await)
        },
    ] {
        let (pair, mut attributes) = only_cookie(&removed);
        let (old_pair, mut old) = only_cookie(&set);
        assert_eq!(pair, format!("{}=", old_pair.split_once('=').expect("a pair").0));
        assert!(attributes.contains(&"Max-Age=0".to_owned()));
        for list in [&mut attributes, &mut old] {
            list.retain(|attribute| !attribute.starts_with("Max-Age="));
        }
        assert_eq!(attributes, old);
    }
}

#[actix_web::test]
async fn the_builder_overrides_what_the_bag_declares() {
    let world = shop_with(|builder| {
        builder
            .cookie("till")
            .path("/a")
            .domain("shop.example")
            .same_site(SameSite::Strict)
            .secure(false)
            .persistence(Persistence::Persistent)
            .idle(5 * MINUTE)
    })
    .await;
    let (pair, attributes) = only_cookie(&world.browser().at("shop.example").post("/add/tea").await);
    assert!(pair.starts_with("till="));
    assert_eq!(attributes, ["Domain=shop.example", "HttpOnly", "Max-Age=300", "Path=/a", "SameSite=Strict"]);
}

#[actix_web::test]
async fn the_development_preset_works_without_tls() {
    let world = shop_with(ShopBuilder::development).await;
    let browser = world.browser();
    let (pair, attributes) = only_cookie(&browser.post("/add/tea").await);
    assert!(pair.starts_with("shop="), "the prefix would be refused over plain HTTP");
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax"]);
    assert_eq!(read_session(&browser).await["is_new"], false);
}

#[actix_web::test]
async fn a_persistent_cookie_is_refreshed_by_a_touch() {
    let (till, clock) = till().await;
    let browser = till.browser();
    browser.post("/till/ring").await;
    clock.advance(Duration::from_secs(59));
    assert!(browser.get("/till/peek").await.set_cookies().is_empty(), "no touch within the minute");
    clock.advance(Duration::from_secs(2));
    let answer = browser.get("/till/peek").await;
    assert!(only_cookie(&answer).1.contains(&"Max-Age=600".to_owned()));
    assert_eq!(answer.all("cache-control"), ["no-store"], "an answer that only touches is not cached either");
}

#[actix_web::test]
async fn a_persistent_cookie_never_outlives_the_absolute_limit() {
    let (till, clock) = till().await;
    let browser = till.browser();
    browser.post("/till/ring").await;
    for _ in 0..11 {
        clock.advance(5 * MINUTE);
        browser.get("/till/peek").await;
    }
    let answer = browser.post("/till/ring").await;
    assert!(answer.set_cookies().is_empty() || only_cookie(&answer).1.contains(&"Max-Age=300".to_owned()));
    clock.advance(5 * MINUTE);
    assert_eq!(browser.get("/till/peek").await.body, "0");
}

#[actix_web::test]
async fn a_cookie_outlives_the_browser_only_after_remember() {
    let world = shop().await;
    let browser = world.customer().await;
    let fork = browser.copied();
    fork.restart();
    assert_eq!(fork.cookie(COOKIE), None, "a cookie without a date ends with the browser");

    let (_, attributes) = only_cookie(&browser.post("/remember/true").await);
    assert!(attributes.contains(&"Max-Age=2592000".to_owned()), "{attributes:?}");
    browser.restart();
    assert_eq!(read_session(&browser).await["cart"]["tea"], 1);

    let (_, attributes) = only_cookie(&browser.post("/remember/false").await);
    assert!(!attributes.iter().any(|attribute| attribute.starts_with("Max-Age")), "{attributes:?}");
    browser.restart();
    assert_eq!(browser.cookie(COOKIE), None);
}

#[actix_web::test]
async fn a_visitor_of_persistent_sessions_can_choose_not_to_be_remembered() {
    let world = shop_with(|builder| builder.persistence(Persistence::Persistent)).await;
    let browser = world.browser();
    let dated = |answer: &Answer| only_cookie(answer).1.iter().any(|part| part.starts_with("Max-Age"));
    assert!(dated(&browser.post("/add/tea").await));
    assert!(!dated(&browser.post("/remember/false").await));
    assert!(!dated(&browser.post("/login/7").await), "the choice stays");
    browser.post("/theme/dark").await;
    assert!(dated(&browser.post("/logout").await), "the next session begins as all do");
    assert!(dated(&world.browser().post("/add/tea").await));
}

#[actix_web::test]
async fn remember_survives_a_log_in_and_ends_with_the_log_out() {
    let world = shop().await;
    let browser = world.customer().await;
    browser.post("/remember/true").await;
    let (_, attributes) = only_cookie(&browser.post("/login/7").await);
    assert!(attributes.contains(&"Max-Age=2592000".to_owned()));
    // The theme is kept, so the log-out begins another session.
    browser.post("/theme/dark").await;
    let (_, attributes) = only_cookie(&browser.post("/logout").await);
    assert!(!attributes.iter().any(|attribute| attribute.starts_with("Max-Age")), "{attributes:?}");
}

#[actix_web::test]
async fn an_answer_with_a_cookie_is_not_cached_and_one_that_read_the_session_varies() {
    let world = shop().await;
    let browser = world.browser();
    let answer = browser.post("/add/tea").await;
    assert_eq!(
        (answer.all("cache-control"), answer.all("vary")),
        (vec!["no-store".into()], vec!["Cookie".into()])
    );
    let answer = browser.get("/").await;
    assert_eq!((answer.all("cache-control"), answer.all("vary")), (vec![], vec!["Cookie".to_owned()]));
}

#[actix_web::test]
async fn no_store_replaces_the_cache_headers_of_a_handler_and_vary_is_not_repeated() {
    let world = shop().await;
    let cached = async |mut session: Session<Shop>| {
        session.count += 1;
        HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, "public, max-age=600"))
            .insert_header((VARY, "Accept, Cookie"))
            .body("cached")
    };
    let any = async |mut session: Session<Shop>| {
        session.count += 1;
        HttpResponse::Ok().insert_header((VARY, "Accept")).finish()
    };
    let site = site!(world.sessions; "/cached" => cached, "/any" => any);
    let answer = site.browser().get("/cached").await;
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    assert_eq!(answer.all("vary"), ["Accept, Cookie"]);
    assert_eq!(site.browser().get("/any").await.all("vary"), ["Accept", "Cookie"]);
}

/// Caches obey these headers whatever `Cache-Control` says (RFC 9213 for the targeted ones).
const CACHE_RULES: [&str; 9] = [
    "CDN-Cache-Control",
    "Cloudflare-CDN-Cache-Control",
    "Vercel-CDN-Cache-Control",
    "Netlify-CDN-Cache-Control",
    "X-LiteSpeed-Cache-Control",
    "Surrogate-Control",
    "Edge-Control",
    "X-Accel-Expires",
    "Expires",
];

fn cached() -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, "public, max-age=600")).insert_header(("X-Cache-Controller", "a"));
    for rule in CACHE_RULES {
        answer.insert_header((rule, "max-age=600"));
    }
    answer
}

#[actix_web::test]
async fn an_answer_with_a_cookie_has_no_header_that_makes_a_cache_keep_it() {
    let world = shop().await;
    let write = async |mut session: Session<Shop>| {
        session.count += 1;
        cached().finish()
    };
    let read = async |_: Session<Shop>| cached().finish();
    let form = async |session: Session<Shop>| cached().body(session.csrf_token());
    let fail = async |mut session: Session<Shop>| {
        session.count += 1;
        Err::<String, _>(InternalError::from_response(
            "teapot",
            cached().status(StatusCode::IM_A_TEAPOT).finish(),
        ))
    };
    let site = site!(world.sessions; "/write" => write, "/form" => form, "/fail" => fail, "/read" => read,
        "/plain" => async || cached().finish());
    for path in ["/write", "/form", "/fail"] {
        let answer = site.browser().get(path).await;
        assert_eq!(answer.set_cookies().len(), 1, "{path}");
        assert_eq!(answer.all("cache-control"), ["no-store"], "{path}");
        assert_eq!(answer.all("x-cache-controller"), ["a"], "{path}");
        for rule in CACHE_RULES {
            assert_eq!(answer.all(rule).len(), 0, "{path} {rule}");
        }
    }
    for path in ["/read", "/plain"] {
        let answer = site.browser().get(path).await;
        assert_eq!(answer.all("cache-control"), ["public, max-age=600"], "{path}");
        for rule in CACHE_RULES {
            assert_eq!(answer.all(rule), ["max-age=600"], "{path} {rule}");
        }
    }
}

/// Sets cookies by hand: those of the middleware, and others whose names are like theirs.
fn by_hand() -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    for cookie in [
        "__Host-shop=x; Secure; Path=/",
        "__Host-shop=y",
        " __Host-shop =z",
        "__Host-shop-csrf=x; Secure; Path=/",
        "former=x",
        "__Host-shop2=kept",
        "shop=kept",
        "__host-shop=kept",
        "other=__Host-shop=kept",
        "lang=kept; Path=/",
    ] {
        answer.append_header((SET_COOKIE, cookie));
    }
    answer
}

#[actix_web::test]
async fn a_cookie_that_a_handler_sets_in_the_place_of_the_sessions_is_dropped() {
    let names = |answer: &Answer| -> Vec<String> {
        let cookies = answer.set_cookies();
        cookies.iter().map(|cookie| cookie.split('=').next().unwrap_or_default().trim().to_owned()).collect()
    };
    let others = ["__Host-shop2", "shop", "__host-shop", "other", "lang"];
    let world = shop_with(|builder| builder.former_cookie(FormerCookie::named("former"))).await;
    let begin = async |mut session: Session<Shop>| {
        session.count += 1;
        by_hand().finish()
    };
    let form = async |session: Session<Shop>| by_hand().body(session.csrf_token());
    let leave = async |mut session: Session<Shop>| {
        session.log_out();
        by_hand().finish()
    };
    let fail = async |mut session: Session<Shop>| {
        session.log_in(8);
        Err::<String, _>(InternalError::from_response(
            "teapot",
            by_hand().status(StatusCode::IM_A_TEAPOT).finish(),
        ))
    };
    let site = site!(world.sessions; "/begin" => begin, "/form" => form, "/leave" => leave, "/fail" => fail,
        "/read" => async |_: Session<Shop>| by_hand().finish());
    let browser = site.browser();
    let (logs, _guard) = Logs::of_this_thread();

    let answer = site.call(browser.prepare(TestRequest::with_uri("/form"))).await;
    let csrf = "__Host-shop-csrf";
    let count = |answer: &Answer, name: &str| names(answer).iter().filter(|other| *other == name).count();
    assert_eq!((count(&answer, csrf), count(&answer, COOKIE)), (1, 3), "the session has no cookie here");
    for other in others {
        assert_eq!(count(&answer, other), 1, "{other}");
    }
    assert!(answer.set_cookies().iter().any(|cookie| cookie.starts_with(csrf) && cookie.len() > 100));

    for path in ["/begin", "/fail", "/leave"] {
        let answer = site.call(browser.prepare(TestRequest::with_uri(path))).await;
        for name in [COOKIE, "former"].iter().chain(&others) {
            assert_eq!(count(&answer, name), 1, "{path} {name}: {:?}", answer.set_cookies());
        }
        let set = answer.set_cookies();
        let own = set.iter().rfind(|cookie| cookie.starts_with("__Host-shop=")).expect("the session's");
        assert!(own.contains("HttpOnly"), "{path} {own}");
        if path != "/leave" {
            browser.set_cookie(COOKIE, own["__Host-shop=".len()..].split(';').next().expect("a value"));
        }
    }
    assert_eq!(logs.lines(&["WARN", "a handler sets a cookie"]).len(), 1, "{}", logs.text());

    let answer = site.call(site.browser().prepare(TestRequest::with_uri("/read"))).await;
    assert_eq!(answer.set_cookies().len(), 10, "the middleware sets none here");
}

#[actix_web::test]
async fn an_answer_sets_the_cookie_once_after_several_writes() {
    let world = shop().await;
    let busy = async |mut session: Session<Shop>| {
        session.count = 1;
        session.save().await.expect("stored");
        session.rotate();
        session.save().await.expect("stored");
        session.log_in(7);
        "busy"
    };
    let site = site!(world.sessions; "/busy" => busy, "/" => async |s: Session<Shop>| s.count.to_string());
    let browser = site.browser();
    only_cookie(&browser.get("/busy").await);
    assert_eq!(browser.get("/").await.body, "1", "the cookie belongs to the last write");
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn a_skipped_answer_has_no_cookie_and_starts_no_session() {
    let world = shop_with(|builder| {
        builder
            .skip_cookie(|request, answer| request.path().starts_with("/add") && answer.status.is_success())
    })
    .await;
    let browser = world.browser();
    assert!(browser.post("/add/tea").await.set_cookies().is_empty());
    assert_eq!(world.rows(), 0);
    browser.post("/theme/dark").await;
    assert!(browser.post("/add/tea").await.set_cookies().is_empty());
    assert_eq!(read_session(&browser).await["cart"]["tea"], 1, "an existing session is stored");
}

#[actix_web::test]
async fn a_session_whose_id_changes_gets_its_cookie_on_a_skipped_answer_too() {
    let world = shop_with(|builder| builder.skip_cookie(|_, _| true)).await;
    let save = async |mut session: Session<Shop>| {
        session.log_in(7);
        session.save().await.expect("stored");
        "in"
    };
    let begin = async |mut session: Session<Shop>| {
        session.count = 1;
        session.save().await.expect("stored");
        "begun"
    };
    let rotate = async |mut session: Session<Shop>| {
        session.rotate();
        "rotated"
    };
    let site = site!(world.sessions; "/save" => save, "/begin" => begin, "/rotate" => rotate,
        "/" => async |s: Session<Shop>| format!("{:?} {}", s.user_id(), s.count));
    let browser = site.browser();
    assert_eq!(
        browser.post("/begin").await.set_cookies().len(),
        1,
        "a stored session without a cookie would be lost"
    );
    assert_eq!(browser.post("/rotate").await.set_cookies().len(), 1);
    assert_eq!(browser.post("/save").await.set_cookies().len(), 1);
    assert_eq!(browser.get("/").await.body, "Some(7) 1");
}

#[actix_web::test]
async fn it_is_said_once_that_browsers_drop_the_cookie_over_plain_http() {
    let (logs, _guard) = Logs::of_this_thread();
    let world = shop().await;
    let visit = async |host: &str, header: &str| {
        world.browser().with("host", host).with(header, "https").get("/page").await;
        logs.lines(&["plain http"]).len()
    };
    for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(visit(host, "x-any").await, 0, "browsers keep it: {host}");
    }
    assert_eq!(visit("shop.test", "x-forwarded-proto").await, 0, "the proxy may speak https");
    assert_eq!(visit("shop.test", "x-any").await, 1);
    assert_eq!(visit("192.168.1.5:8080", "x-any").await, 1, "once");

    let world = shop_with(|builder| builder.development().development_hosts(["shop.test"])).await;
    world.browser().with("host", "shop.test").get("/page").await;
    assert_eq!(logs.lines(&["plain http"]).len(), 1, "this cookie has no `Secure`");
}
