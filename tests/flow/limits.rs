//! The life of a session: idle and absolute limit, touches, and the clock.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use databag_tests::{Browser, Call, ManualClock};
use session_runtime::{Cleanup, Databag as _, Rejection, Session, SessionMiddleware, Sessions, SqliteStore};

use crate::app::{COOKIE, Shop, World, id, read_session, rejected, shop, shop_with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const IDLE: Duration = Duration::from_mins(30);
const BEFORE_IDLE: Duration = Duration::from_secs(30 * 60 - 1);
const ABSOLUTE: Duration = Duration::from_hours(12);

async fn lives(browser: &Browser) -> bool {
    read_session(browser).await["is_new"] == false
}

#[actix_web::test]
async fn an_idle_session_ends_at_its_limit_and_not_before() {
    let world = shop().await;
    let (short, long) = (world.customer().await, world.customer().await);
    world.clock.advance(BEFORE_IDLE);
    assert!(lives(&short).await);
    world.clock.advance(2 * SECOND);
    world.events.take();
    assert!(!lives(&long).await);
    assert_eq!(world.events.take(), rejected(Rejection::Expired));
    assert!(lives(&short).await, "the read before has extended the session");
}

#[actix_web::test]
async fn a_write_does_not_revive_an_expired_session() {
    let world = shop().await;
    let browser = world.customer().await;
    let old = id(&browser);
    world.clock.advance(IDLE + SECOND);
    browser.post("/add/milk").await;
    assert_ne!(id(&browser), old);
    assert_eq!(read_session(&browser).await["cart"], serde_json::json!({"milk": 1}));
    assert!(world.sessions.get(old).await.expect("answers").is_none());
}

#[actix_web::test]
async fn a_session_that_expires_in_flight_is_not_revived() {
    let world = shop().await;
    let late = async |mut session: Session<Shop>, clock: web::Data<ManualClock>| {
        session.count += 1;
        clock.advance(IDLE + SECOND);
        "late"
    };
    let app = actix_web::App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .app_data(web::Data::new(world.clock.clone()))
        .route("/late", web::post().to(late));
    let browser = databag_tests::Site::new(actix_web::test::init_service(app).await).browser();
    let customer = world.customer().await;
    browser.set_cookie(COOKIE, &customer.cookie(COOKIE).expect("a cookie"));
    assert_eq!(browser.post("/late").await.status, 409);
    assert!(!lives(&customer).await);
}

#[actix_web::test]
async fn activity_never_extends_a_session_past_the_absolute_limit() {
    let world = shop().await;
    let (reader, writer) = (world.customer().await, world.customer().await);
    for _ in 0..35 {
        world.clock.advance(20 * MINUTE);
        assert!(lives(&reader).await);
        assert!(writer.post("/add/tea").await.status.is_success());
    }
    let session = world.sessions.get(id(&writer)).await.expect("answers").expect("alive");
    assert_eq!(session.expires().duration_since(session.created()).expect("later"), ABSOLUTE);
    world.clock.advance(19 * MINUTE + 59 * SECOND);
    assert!(lives(&reader).await && lives(&writer).await);
    world.clock.advance(2 * SECOND);
    assert!(!lives(&reader).await && !lives(&writer).await);
}

#[actix_web::test]
async fn a_rotation_keeps_the_absolute_limit_and_a_log_in_restarts_it() {
    let world = shop().await;
    let (rotated, signed_in) = (world.customer().await, world.customer().await);
    for _ in 0..35 {
        world.clock.advance(20 * MINUTE);
        assert!(lives(&rotated).await && lives(&signed_in).await);
    }
    rotated.post("/rotate").await;
    signed_in.post("/login/7").await;
    world.clock.advance(20 * MINUTE + SECOND);
    assert!(!lives(&rotated).await);
    assert!(lives(&signed_in).await);
}

#[actix_web::test]
async fn a_touch_is_stored_at_most_once_a_minute() {
    let world = shop().await;
    let browser = world.customer().await;
    let before = world.watch.writes();
    for path in ["/", "/page"] {
        world.clock.advance(29 * SECOND);
        browser.get(path).await;
    }
    assert_eq!(world.watch.writes(), before, "58 seconds have passed");
    world.clock.advance(2 * SECOND);
    for _ in 0..3 {
        assert!(lives(&browser).await);
    }
    assert_eq!(world.watch.writes(), before + 1);
}

#[actix_web::test]
async fn a_session_with_a_short_idle_limit_is_touched_more_often() {
    let world = shop_with(|builder| builder.idle(100 * SECOND)).await;
    let browser = world.customer().await;
    let before = world.watch.writes();
    world.clock.advance(9 * SECOND);
    read_session(&browser).await;
    assert_eq!(world.watch.writes(), before);
    world.clock.advance(SECOND);
    read_session(&browser).await;
    assert_eq!(world.watch.writes(), before + 1, "a tenth of the limit has passed");
}

#[actix_web::test]
async fn a_read_writes_nothing_but_its_touch() {
    let world = shop().await;
    let browser = world.customer().await;
    browser.post("/notice/hello").await;
    world.clock.advance(2 * MINUTE);
    for _ in 0..2 {
        assert_eq!(read_session(&browser).await["notice"], "hello", "a read does not use up a flash value");
    }
    let row = world.sessions.get(id(&browser)).await.expect("answers").expect("alive");
    assert_eq!((row.notice(), row.cart["tea"]), (Some("hello"), 1));
    assert_eq!(world.watch.count(Call::Update), 2, "the notice and one touch");
}

#[actix_web::test]
async fn a_clock_that_is_set_back_revives_nothing() {
    let world = shop().await;
    let browser = world.customer().await;
    world.clock.advance(IDLE + SECOND);
    assert!(!lives(&browser).await);
    world.clock.turn_back(2 * MINUTE);
    assert!(!lives(&browser).await);
    world.clock.turn_back(25 * 60 * MINUTE);
    assert!(!lives(&browser).await);
    let other = world.customer().await;
    assert!(lives(&other).await);
}

#[actix_web::test]
async fn changes_outside_a_request_are_no_activity() {
    let world = shop().await;
    let browser = world.customer().await;
    world.clock.advance(20 * MINUTE);
    world.sessions.update(id(&browser), |shop| shop.count += 1).await.expect("stored");
    world.sessions.update(id(&browser), |_| ()).await.expect("nothing to store");
    world.clock.advance(10 * MINUTE + SECOND);
    assert!(!lives(&browser).await);
}

/// A world with an idle limit so short that passing it does not count as a changed clock.
async fn short_lived(cleanup: Cleanup) -> World {
    shop_with(|builder| builder.idle(30 * SECOND).cleanup(cleanup)).await
}

#[actix_web::test]
async fn the_cleanup_removes_expired_rows_by_itself() {
    let world = short_lived(Cleanup::Every(Duration::from_millis(20))).await;
    world.customer().await;
    world.clock.advance(31 * SECOND);
    let fresh = world.customer().await;
    assert_eq!(world.rows(), 2);
    for _ in 0..500 {
        if world.rows() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.rows(), 1);
    assert!(lives(&fresh).await);
}

/// A backlog takes a while, and sessions that are dropped close their store at once.
#[actix_web::test]
async fn the_cleanup_of_a_backlog_ends_with_the_sessions() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), ManualClock::default());
    let store = SqliteStore::open(folder.path().join("sessions.db")).expect("opens");
    let in_use = Arc::new(());
    let hook = {
        let in_use = in_use.clone();
        move |_| drop(in_use.clone())
    };
    let builder = Sessions::<Shop>::builder(store).danger_plaintext().idle(30 * SECOND);
    let sessions = builder.clock(clock.clone()).cleanup(Cleanup::Every(SECOND / 50)).on_started(hook);
    let sessions = sessions.build().await.expect("builds");
    for _ in 0..400 {
        sessions.create(Shop::defaults()).await.expect("stored");
    }
    let rows = || {
        let database = rusqlite::Connection::open(folder.path().join("sessions.db")).expect("opens");
        let count = database.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0));
        count.expect("a number")
    };
    clock.advance(31 * SECOND);
    while rows() == 400 {
        tokio::time::sleep(SECOND / 1000).await;
    }
    drop(sessions);
    while Arc::strong_count(&in_use) > 1 {
        tokio::time::sleep(SECOND / 1000).await;
    }
    assert!(rows() > 0, "the cleanup was still at work");
}

#[actix_web::test]
async fn the_cleanup_survives_a_store_that_was_down() {
    let world = short_lived(Cleanup::Every(Duration::from_millis(20))).await;
    world.customer().await;
    world.watch.fail(Call::Prune, databag_tests::Fault::Down);
    world.clock.advance(31 * SECOND);
    world.watch.until("two rounds fail", |watch| watch.count(Call::Prune) > 2).await;
    assert_eq!(world.rows(), 1);
    world.watch.heal();
    let before = world.watch.count(Call::Prune);
    world.watch.until("another round", |watch| watch.count(Call::Prune) > before + 2).await;
    assert_eq!(world.rows(), 0);
}

#[actix_web::test]
async fn cleanup_with_every_request_runs_with_requests_that_write() {
    let world = short_lived(Cleanup::EveryRequest).await;
    world.customer().await;
    world.clock.advance(31 * SECOND);
    let before = world.watch.count(Call::Prune);
    read_session(&world.browser()).await;
    assert_eq!((world.watch.count(Call::Prune), world.rows()), (before, 1), "nothing was stored");
    world.customer().await;
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn a_clock_that_is_far_ahead_for_a_while_removes_no_session() {
    for cleanup in [Cleanup::EveryRequest, Cleanup::Every(Duration::from_millis(5))] {
        let world = shop_with(|builder| builder.cleanup(cleanup)).await;
        let browser = world.customer().await;
        let before = world.watch.count(Call::Prune);
        world.clock.advance(48 * 60 * MINUTE);
        for _ in 0..10 {
            world.customer().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(world.watch.count(Call::Prune), before);
        world.clock.turn_back(48 * 60 * MINUTE);
        assert!(lives(&browser).await);
        world.customer().await;
        world.watch.until("the cleanup goes on", |watch| watch.count(Call::Prune) > before).await;
    }
}

#[actix_web::test]
async fn prune_removes_expired_sessions_only() {
    let world = shop().await;
    for _ in 0..3 {
        world.customer().await;
    }
    world.clock.advance(BEFORE_IDLE);
    let fresh = world.customer().await;
    world.clock.advance(2 * SECOND);
    assert_eq!(world.sessions.prune().await.expect("answers"), 3);
    assert_eq!((world.rows(), lives(&fresh).await), (1, true));
}
