//! Sessions in cookies: the promises of every store that hold for them, and those of the cookie.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::test::TestRequest;
use actix_web::{App, Responder, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use databag_tests::{Browser, Logs, ManualClock, Site};
use session_runtime::access::InCookie;
use session_runtime::builder::Protected;
use session_runtime::{
    Builder, CookieStore, Databag, Error, Keyring, Rejection, Session, SessionMiddleware, SessionRef,
    Sessions,
};
use tokio::sync::Semaphore;

use crate::app::{COOKIE, Events, Shop, id, key, keys, read_session, rejected, routes, shop, token};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

type SealedBuilder = Builder<Shop, CookieStore, Protected>;

struct World {
    sessions: Sessions<Shop, InCookie>,
    clock: ManualClock,
    events: Events,
    site: Site,
}

async fn world() -> World {
    world_with(ManualClock::default(), key(), |builder| builder).await
}

/// Opens the shop, as another process with these keys does.
async fn world_with(
    clock: ManualClock,
    keyring: Keyring,
    configure: impl FnOnce(SealedBuilder) -> SealedBuilder,
) -> World {
    let events = Events::default();
    let rejections = events.clone();
    let builder = Sessions::<Shop>::builder(CookieStore)
        .keyring(keyring)
        .clock(clock.clone())
        .on_rejected(move |reason| rejections.note(format!("rejected {reason:?}")));
    let sessions = configure(builder).build().await.expect("good settings");
    let app = App::new()
        .wrap(SessionMiddleware::new(sessions.clone()))
        .configure(routes)
        .route("/pin/{length}", web::post().to(pin))
        .route("/logout-with-too-much", web::post().to(log_out_with_too_much))
        .route("/save", web::post().to(save));
    let site = Site::new(actix_web::test::init_service(app).await);
    World { sessions, clock, events, site }
}

/// The gate at which a slow request waits.
struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: Semaphore::new(0), open: Semaphore::new(0) }
    }
}

async fn pin(mut session: Session<Shop>, length: web::Path<usize>) -> impl Responder {
    session.set_pin("p".repeat(*length));
    "set"
}

/// Adds to the cart once another request has opened the gate.
async fn slow(mut session: Session<Shop>, gate: web::Data<Gate>) -> impl Responder {
    gate.arrived.add_permits(1);
    gate.open.acquire().await.expect("a test never closes the gate").forget();
    *session.cart_mut().entry("late".to_owned()).or_default() += 1;
    "late"
}

async fn slow_read(session: SessionRef<Shop>, gate: web::Data<Gate>) -> impl Responder {
    gate.arrived.add_permits(1);
    gate.open.acquire().await.expect("a test never closes the gate").forget();
    session.id().to_string()
}

async fn slow_log_out(mut session: Session<Shop>, gate: web::Data<Gate>) -> impl Responder {
    gate.arrived.add_permits(1);
    gate.open.acquire().await.expect("a test never closes the gate").forget();
    session.log_out();
    "out"
}

async fn log_out_with_too_much(mut session: Session<Shop>) -> impl Responder {
    session.log_out();
    session.set_pin("p".repeat(5000));
    "out"
}

async fn save(mut session: Session<Shop>) -> Result<&'static str, Error> {
    session.count += 1;
    session.save().await?;
    session.count += 1;
    Ok("saved")
}

async fn customer(world: &World) -> Browser {
    let browser = world.site.browser();
    assert!(browser.post("/add/tea").await.status.is_success());
    browser
}

fn bytes(browser: &Browser) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(browser.cookie(COOKIE).expect("a cookie")).expect("base64url")
}

#[actix_web::test]
async fn the_cookie_is_the_session_for_every_process_with_the_key() {
    let (clock, key) = (ManualClock::default(), Keyring::generate_text());
    let one = world_with(clock.clone(), keys(&key), |builder| builder).await;
    let other = world_with(clock, keys(&key), |builder| builder).await;
    let browser = customer(&one).await;
    let there = other.site.browser();
    there.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    there.post("/add/milk").await;
    assert_eq!(read_session(&there).await["cart"], serde_json::json!({"milk": 1, "tea": 1}));
    assert_eq!(id(&there), id(&browser), "a change keeps the id");
    assert_eq!(read_session(&browser).await["cart"], serde_json::json!({"tea": 1}));
}

#[actix_web::test]
async fn a_visitor_who_changes_nothing_gets_no_cookie() {
    let world = world().await;
    let browser = world.site.browser();
    for path in ["/", "/page"] {
        assert!(browser.get(path).await.set_cookies().is_empty(), "{path}");
    }
    let customer = customer(&world).await;
    assert!(customer.post("/noop").await.set_cookies().is_empty(), "nothing has changed");
}

#[actix_web::test]
async fn nothing_of_the_session_can_be_read_in_the_cookie() {
    let world = world().await;
    let browser = world.site.browser();
    browser.post("/add/needle-in-the-cart").await;
    browser.post("/tenant/needle-of-the-tenant").await;
    let cookie = bytes(&browser);
    assert!(!cookie.windows(6).any(|window| window == b"needle"));
    assert_eq!(read_session(&browser).await["tenant"], "needle-of-the-tenant");
}

#[actix_web::test]
async fn every_changed_bit_of_the_cookie_is_detected() {
    let world = world().await;
    let good = bytes(&customer(&world).await);
    for bit in 0..good.len() * 8 {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let browser = world.site.browser();
        browser.set_cookie(COOKIE, &URL_SAFE_NO_PAD.encode(changed));
        let answer = browser.get("/").await;
        assert!(answer.body.contains("\"is_new\":true"), "bit {bit}: {}", answer.body);
        assert!(answer.set_cookies().is_empty(), "bit {bit}");
    }
}

#[actix_web::test]
async fn a_cookie_that_is_not_a_sealed_session_is_malformed() {
    let world = world().await;
    let good = world_cookie(&world).await;
    let rows = shop().await;
    let random = rows.customer().await.cookie(COOKIE).expect("a cookie");
    for value in ["", "x", &random, &good[..100], &format!("{good}="), &"A".repeat(4097)] {
        let browser = world.site.browser();
        browser.set_cookie(COOKIE, value);
        world.events.take();
        assert_eq!(read_session(&browser).await["is_new"], true, "{value}");
        assert_eq!(world.events.take().len(), 1, "{value}");
    }
    let browser = rows.browser();
    browser.set_cookie(COOKIE, &good);
    let calls = rows.watch.calls();
    rows.events.take();
    assert_eq!(read_session(&browser).await["is_new"], true);
    assert_eq!(rows.events.take(), rejected(Rejection::Malformed));
    assert_eq!(rows.watch.calls(), calls, "a store with rows gets no call");
}

async fn world_cookie(world: &World) -> String {
    customer(world).await.cookie(COOKIE).expect("a cookie")
}

#[actix_web::test]
async fn the_server_enforces_both_limits() {
    let world = world().await;
    let browser = customer(&world).await;
    let first = browser.copied();
    world.clock.advance(Duration::from_secs(30 * 60 - 1));
    assert_eq!(read_session(&browser).await["is_new"], false);
    world.clock.advance(SECOND);
    assert_eq!(read_session(&first).await["is_new"], true, "an earlier cookie has its own limit");
    assert_eq!(world.events.take(), rejected(Rejection::Expired));
    for _ in 0..24 {
        assert_eq!(read_session(&browser).await["is_new"], false);
        world.clock.advance(29 * MINUTE);
    }
    assert_eq!(read_session(&browser).await["is_new"], true, "12 hours after the first request");
}

#[actix_web::test]
async fn the_expiry_is_extended_at_most_every_minute() {
    let world = world().await;
    let browser = customer(&world).await;
    world.clock.advance(Duration::from_secs(59));
    assert!(browser.get("/").await.set_cookies().is_empty());
    world.clock.advance(SECOND);
    assert_eq!(browser.get("/").await.set_cookies().len(), 1);
}

#[actix_web::test]
async fn the_process_that_served_a_log_in_refuses_the_old_cookie() {
    let world = world().await;
    let browser = customer(&world).await;
    let (thief, old) = (browser.copied(), id(&browser));
    browser.post("/login/7").await;
    assert_ne!(id(&browser), old);
    assert_eq!(read_session(&browser).await["user"], 7);
    assert_eq!(read_session(&thief).await["is_new"], true);
}

#[actix_web::test]
async fn a_log_out_removes_the_cookie_and_its_process_refuses_a_copy() {
    let world = world().await;
    let browser = customer(&world).await;
    browser.post("/login/7").await;
    let thief = browser.copied();
    let answer = browser.post("/logout").await;
    assert!(answer.set_cookies()[0].contains("Max-Age=0"));
    assert_eq!(browser.cookie(COOKIE), None);
    assert_eq!(read_session(&thief).await["is_new"], true);
}

/// Sends requests while a slow request to `path` is in flight; returns the answer of the slow request.
async fn overtake(world: &World, browser: &Browser, path: &str, posts: &[&str]) -> databag_tests::Answer {
    let gate = web::Data::new(Gate::default());
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .app_data(gate.clone())
        .route("/slow", web::post().to(slow))
        .route("/slow-read", web::post().to(slow_read))
        .route("/slow-logout", web::post().to(slow_log_out));
    let site = Site::new(actix_web::test::init_service(app).await);
    let request = browser.copied().prepare(TestRequest::post().uri(path));
    let fast = async {
        gate.arrived.acquire().await.expect("open").forget();
        for post in posts {
            assert!(browser.post(post).await.status.is_success(), "{post}");
        }
        gate.open.add_permits(1);
    };
    futures_util::future::join(site.call(request), fast).await.0
}

#[actix_web::test]
async fn a_request_in_flight_does_not_revive_an_ended_session() {
    let ends: [&[&str]; 3] = [&["/logout"], &["/login/8"], &["/rotate", "/logout"]];
    for posts in ends {
        let world = world().await;
        let browser = customer(&world).await;
        browser.post("/login/7").await;
        // A touch is due, so that a read writes too.
        world.clock.advance(2 * MINUTE);
        let answer = overtake(&world, &browser, "/slow", posts).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{posts:?}");
        assert!(answer.set_cookies().is_empty(), "{posts:?}");
    }
    for posts in ends {
        let world = world().await;
        let browser = customer(&world).await;
        browser.post("/login/7").await;
        world.clock.advance(2 * MINUTE);
        let answer = overtake(&world, &browser, "/slow-read", posts).await;
        assert_eq!(answer.status, StatusCode::OK, "{posts:?}");
        assert!(answer.set_cookies().is_empty(), "{posts:?}");
    }
}

#[actix_web::test]
async fn a_log_out_ends_a_session_that_was_renamed_meanwhile() {
    for posts in [&["/rotate"][..], &["/rotate", "/rotate"], &["/theme/dark", "/rotate"]] {
        let world = world().await;
        let browser = customer(&world).await;
        browser.post("/login/7").await;
        if posts.len() == 2 {
            // A field is kept, so the log-out begins another session.
            browser.post("/theme/dark").await;
        }
        let answer = overtake(&world, &browser, "/slow-logout", posts).await;
        assert_eq!(answer.status, StatusCode::OK, "{posts:?}");
        assert_eq!(read_session(&browser).await["user"], serde_json::Value::Null, "{posts:?}");
        let mut kept = browser.copied();
        kept.keep(&answer);
        kept = kept.copied();
        assert_eq!(read_session(&kept).await["user"], serde_json::Value::Null, "{posts:?}");
    }
}

#[actix_web::test]
async fn a_log_out_that_could_not_be_stored_ends_the_session() {
    let world = world().await;
    let browser = customer(&world).await;
    browser.post("/login/7").await;
    let copy = browser.copied();
    assert_eq!(browser.post("/logout-with-too-much").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(browser.cookie(COOKIE), None);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(read_session(&copy).await["user"], serde_json::Value::Null);
}

#[actix_web::test]
async fn a_cookie_opens_under_its_own_name_only() {
    let key = Keyring::generate_text();
    let shop = world_with(ManualClock::default(), keys(&key), |builder| builder).await;
    let admin = world_with(shop.clock.clone(), keys(&key), |builder| builder.cookie("__Host-admin")).await;
    let cookie = world_cookie(&shop).await;
    let browser = admin.site.browser();
    browser.set_cookie("__Host-admin", &cookie);
    assert_eq!(read_session(&browser).await["is_new"], true);
    assert_eq!(admin.events.take(), rejected(Rejection::Tampered));
}

#[actix_web::test]
async fn a_session_too_large_for_a_cookie_is_refused_before_it_is_sent() {
    let world = world().await;
    let browser = world.site.browser();
    let mut longest = 0;
    for length in 2700..3000 {
        let before = browser.cookie(COOKIE);
        let (logs, _guard) = Logs::of_this_thread();
        let answer = browser.post(&format!("/pin/{length}")).await;
        if answer.status.is_success() {
            longest = COOKIE.len() + browser.cookie(COOKIE).expect("a cookie").len();
            continue;
        }
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.set_cookies().is_empty());
        assert_eq!(browser.cookie(COOKIE), before);
        assert!(logs.text().contains("`pin`"), "the log names the biggest field: {}", logs.text());
        assert_eq!(read_session(&browser).await["pin"].as_str().map(str::len), Some(length - 1));
        assert!((4093..=4096).contains(&longest), "the cookie uses the full limit: {longest}");
        return;
    }
    panic!("a cookie of {longest} bytes was sent");
}

#[actix_web::test]
async fn several_saves_and_updates_send_one_cookie() {
    let world = world().await;
    let browser = world.site.browser();
    assert_eq!(browser.post("/save").await.set_cookies().len(), 1);
    assert_eq!(read_session(&browser).await["count"], 2);
    let answer = browser.post("/count").await;
    assert_eq!((answer.body.as_str(), answer.set_cookies().len()), ("3", 1));
    assert_eq!(read_session(&browser).await["count"], 3);
}

#[actix_web::test]
async fn a_flash_is_read_once() {
    let world = world().await;
    let browser = customer(&world).await;
    browser.post("/notice/hello").await;
    let read = |answer: databag_tests::Answer| {
        serde_json::from_str::<serde_json::Value>(&answer.body).expect("JSON")["notice"].clone()
    };
    assert_eq!(read(browser.get("/page").await), "hello");
    assert_eq!(read(browser.get("/page").await), serde_json::Value::Null);
}

#[actix_web::test]
async fn the_cookie_outlives_the_browser_only_with_remember() {
    let world = world().await;
    let browser = customer(&world).await;
    browser.restart();
    assert_eq!(browser.cookie(COOKIE), None);
    let browser = customer(&world).await;
    browser.post("/remember/true").await;
    browser.restart();
    assert_eq!(read_session(&browser).await["is_new"], false);
}

#[actix_web::test]
async fn keys_are_rotated_as_with_rows() {
    let (clock, old, new) = (ManualClock::default(), Keyring::generate_text(), Keyring::generate_text());
    let before = world_with(clock.clone(), keys(&old), |builder| builder).await;
    let cookie = world_cookie(&before).await;

    let lost = world_with(clock.clone(), keys(&new), |builder| builder).await;
    let browser = lost.site.browser();
    browser.set_cookie(COOKIE, &cookie);
    assert_eq!(read_session(&browser).await["is_new"], true);
    assert_eq!(lost.events.take(), rejected(Rejection::UnknownKey));
    assert_eq!(browser.cookie(COOKIE).as_ref(), Some(&cookie), "it works again when the key is back");

    let both = format!("{} {}", *new, *old);
    let after = world_with(clock, keys(&both), |builder| builder).await;
    let browser = after.site.browser();
    browser.set_cookie(COOKIE, &cookie);
    browser.post("/add/milk").await;
    let resealed = browser.cookie(COOKIE).expect("a cookie");
    let browser = lost.site.browser();
    browser.set_cookie(COOKIE, &resealed);
    assert_eq!(read_session(&browser).await["cart"], serde_json::json!({"milk": 1, "tea": 1}));
}

/// Otherwise anyone could have the site answer 503, and fill its log with errors.
#[actix_web::test]
async fn a_made_up_key_in_a_cookie_is_no_failure() {
    // Where the envelope's key is, after the id, the version and three numbers.
    const KEY: std::ops::Range<usize> = 32 + 1 + 24 + 1..32 + 1 + 24 + 1 + 4;
    let world = world().await;
    let mut forged = URL_SAFE_NO_PAD.decode(world_cookie(&world).await).expect("base64");
    forged[KEY].fill(0xAA);
    let (logs, _guard) = Logs::of_this_thread();
    let browser = world.site.browser();
    browser.set_cookie(COOKIE, &URL_SAFE_NO_PAD.encode(&forged));
    let answer = browser.get("/").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(logs.lines(&["INFO", "a key that is missing"]).len(), 1, "{}", logs.text());
    assert!(logs.lines(&["ERROR"]).is_empty() && logs.lines(&["WARN"]).is_empty(), "{}", logs.text());
}

#[derive(Databag)]
#[databag(cookie = "__Host-shop")]
struct Other {
    user_id: Option<i64>,
}

#[actix_web::test]
async fn a_cookie_from_another_address_or_another_bag_is_not_accepted() {
    let world = world().await;
    let browser = world.site.browser().from("192.0.2.1");
    browser.post("/add/tea").await;
    let thief = browser.copied().from("192.0.2.2");
    assert_eq!(read_session(&thief).await["is_new"], true);
    assert_eq!(world.events.take(), rejected(Rejection::Address));

    let key = Keyring::generate_text();
    let shop = world_with(ManualClock::default(), keys(&key), |builder| builder).await;
    let other = Sessions::<Other>::builder(CookieStore).keyring(keys(&key)).clock(shop.clock.clone());
    let other = other.build().await.expect("good settings");
    let (token, _) = other.create(Other { user_id: Some(1) }).await.expect("no call");
    assert!(shop.sessions.load(&token).await.expect("no call").is_none());
}

#[actix_web::test]
async fn an_answer_without_the_cookie_loses_no_change() {
    let world = world_with(ManualClock::default(), key(), |builder| builder.skip_cookie(|_, _| true)).await;
    let browser = world.site.browser();
    assert!(browser.post("/add/tea").await.set_cookies().is_empty(), "no session is started");
    let (token, _) = world.sessions.create(Shop::defaults()).await.expect("no call");
    browser.set_cookie(COOKIE, &token.encode());
    world.clock.advance(2 * MINUTE);
    for path in ["/", "/page"] {
        assert!(browser.get(path).await.set_cookies().is_empty(), "a read sends no cookie: {path}");
    }
    assert_eq!(browser.post("/add/tea").await.set_cookies().len(), 1);
    assert_eq!(read_session(&browser).await["cart"], serde_json::json!({"tea": 1}));
}

#[actix_web::test]
async fn a_bag_that_needs_rows_is_refused_at_build() {
    #[derive(Databag)]
    #[databag(max_per_user = 3)]
    struct Limited {
        #[databag(user_id)]
        user_id: Option<i64>,
    }
    let refusal = |result: Result<_, Error>| match result.map(|()| "built") {
        Err(Error::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    let plain = Sessions::<Shop>::builder(CookieStore).danger_plaintext().build().await;
    assert!(refusal(plain.map(drop)).contains("have to be sealed"));
    let limited = Sessions::<Limited>::builder(CookieStore).keyring(key()).build().await;
    assert!(refusal(limited.map(drop)).contains("max_per_user"));
}

#[actix_web::test]
async fn a_session_in_json_works_too() {
    #[derive(Databag)]
    #[databag(codec = "json")]
    struct Readable {
        name: String,
    }
    let sessions = Sessions::<Readable>::builder(CookieStore).keyring(key()).build().await;
    let sessions = sessions.expect("good settings");
    let (token, _) = sessions.create(Readable { name: "x".repeat(2000) }).await.expect("it fits");
    let loaded = sessions.load(&token).await.expect("no call").expect("it lives");
    assert_eq!(loaded.name.len(), 2000);
}

#[actix_web::test]
async fn a_session_keeps_its_id_through_many_writes() {
    let world = world().await;
    let browser = customer(&world).await;
    let first = token(&browser).session_id();
    for _ in 0..3 {
        browser.post("/add/tea").await;
        assert_eq!(read_session(&browser).await["id"], serde_json::json!(first));
    }
}
