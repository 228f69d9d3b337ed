//! Watches: outages, what they hold and what they cost, and sessions that end while a watch begins.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use databag_tests::{Call, Fault, Logs, ManualClock};
use futures_util::future::{join, join_all};
use session_runtime::store::Row;
use session_runtime::{
    Cleanup, Databag, Error, Keyring, MemoryStore, SessionEnd, SessionId, SessionWatch, Sessions,
    SqliteStore, Store, StoreError,
};
use tokio::time::{sleep, timeout};

use crate::app::{Shop, id, keys, shop_with};

const NEVER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(20);
const ROUNDS: u32 = 1_000;

async fn end(watch: &mut SessionWatch) -> SessionEnd {
    timeout(Duration::from_secs(30), watch.ended()).await.expect("the watch ends")
}

/// Waits for all of them no longer than for one.
async fn ends(watches: Vec<SessionWatch>) -> Vec<SessionEnd> {
    let ends = join_all(watches.into_iter().map(async |mut watch| watch.ended().await));
    timeout(Duration::from_secs(30), ends).await.expect("the watches end")
}

async fn session(sessions: &Sessions<Shop>) -> SessionId {
    sessions.create(Shop::defaults()).await.expect("stored").1.id()
}

#[actix_web::test]
async fn a_period_is_longer_than_nothing_and_at_most_a_day() {
    let builder = || Sessions::<Shop>::builder(MemoryStore::new()).keyring(Keyring::generate());
    let refused = builder().watch_period(Duration::ZERO).build().await.expect_err("it would never pause");
    assert!(refused.to_string().contains("`watch_period` is zero"), "{refused}");
    let sessions = builder().watch_period(Duration::MAX).build().await.expect("good settings");
    let one = session(&sessions).await;
    assert_eq!(sessions.watch(one).await.expect("the store answers").end(), None);
}

#[actix_web::test]
async fn an_outage_ends_no_watch_and_is_logged_once() {
    let world = shop_with(|builder| builder.watch_period(SOON)).await;
    let (one, other) = (session(&world.sessions).await, session(&world.sessions).await);
    let mut watch = world.sessions.watch(one).await.expect("the store answers");
    let mut ends = world.sessions.watch(other).await.expect("the store answers");
    let (logs, _guard) = Logs::of_this_thread();
    world.watch.fail(Call::Load, Fault::Down);
    let reads = world.watch.count(Call::Load);
    world.watch.until("many reads fail", |store| store.count(Call::Load) > reads + 10).await;
    assert_eq!((watch.end(), ends.end()), (None, None));
    assert_eq!(logs.lines(&["WARN", "could not read watched sessions"]).len(), 1, "{}", logs.text());
    assert!(world.sessions.watch(one).await.is_err(), "it is not known whether there is such a session");
    let elsewhere = world.elsewhere().await;
    assert!(elsewhere.delete(other).await.expect("its store answers"));
    sleep(SOON * 3).await;
    assert_eq!(ends.end(), None);
    world.watch.heal();
    assert_eq!(end(&mut ends).await, SessionEnd::Ended);
    assert_eq!(watch.end(), None);
    assert_eq!(logs.lines(&["could not read watched sessions"]).len(), 1, "{}", logs.text());
    world.watch.fail(Call::Load, Fault::Down);
    let reads = world.watch.count(Call::Load);
    world.watch.until("it fails again", |store| store.count(Call::Load) > reads + 3).await;
    assert_eq!(logs.lines(&["could not read watched sessions"]).len(), 2, "{}", logs.text());
    world.watch.heal();
    assert!(world.sessions.delete(one).await.expect("the store answers"));
    assert_eq!(end(&mut watch).await, SessionEnd::Ended);
}

/// Rows in memory, of which some cannot be read.
#[derive(Clone, Default)]
struct Patchy {
    rows: MemoryStore,
    unread: Arc<Mutex<HashMap<SessionId, Fault>>>,
}

impl Patchy {
    fn fault(&self, id: SessionId) -> Option<Fault> {
        self.unread.lock().expect("no panic").get(&id).cloned()
    }
}

impl Store for Patchy {
    databag_tests::forward!(rows: prepare, insert, update, delete, prune, write_limited);

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        match self.fault(id) {
            None => self.rows.load(id, deadline).await,
            Some(Fault::Hangs) => pending().await,
            Some(_) => Err(StoreError::new("load a row", "its server is down")),
        }
    }
}

impl session_runtime::Directory for Patchy {
    databag_tests::forward!(rows: find, count, remove, health);
}

#[actix_web::test]
async fn a_row_that_cannot_be_read_keeps_no_other_watch_from_its_end() {
    for fault in [Fault::Down, Fault::Hangs] {
        let store = Patchy::default();
        let keyring = Keyring::generate();
        let builder = Sessions::<Shop>::builder(store.clone()).keyring(keyring.clone());
        let sessions = builder.watch_period(SOON).build().await.expect("builds");
        let elsewhere = Sessions::<Shop>::builder(store.rows.clone()).keyring(keyring).build();
        let elsewhere = elsewhere.await.expect("builds");
        let mut watches = Vec::new();
        for _ in 0..300 {
            watches.push(sessions.watch(session(&sessions).await).await.expect("the store answers"));
        }
        let mut unread = watches.swap_remove(100);
        store.unread.lock().expect("no panic").insert(unread.id(), fault);
        for watch in &watches {
            assert!(elsewhere.delete(watch.id()).await.expect("the store answers"));
        }
        assert_eq!(ends(watches).await, [SessionEnd::Ended; 299]);
        assert_eq!(unread.end(), None);
        assert!(elsewhere.delete(unread.id()).await.expect("the store answers"));
        store.unread.lock().expect("no panic").clear();
        assert_eq!(end(&mut unread).await, SessionEnd::Ended);
    }
}

#[actix_web::test]
async fn an_outage_keeps_no_watch_beyond_the_absolute_limit() {
    for fault in [Fault::Down, Fault::Hangs] {
        let deadline = Duration::from_millis(200);
        let world = shop_with(|builder| builder.watch_period(SOON).deadline(deadline)).await;
        let browser = world.user(7).await;
        let mut rotated = world.sessions.watch(id(&browser)).await.expect("the store answers");
        let mut long = world.sessions.watch(session(&world.sessions).await).await.expect("the store answers");
        // The row with the new id was not read.
        let failing = world.watch.clone();
        let fails = fault.clone();
        world.watch.before_next(Call::Update, async move { failing.fail(Call::Load, fails) });
        browser.post("/rotate").await;
        world.clock.advance(Duration::from_secs(12 * 3_600 - 1));
        sleep(SOON * 20).await;
        assert_eq!(
            (long.end(), rotated.end()),
            (None, None),
            "the idle limit may have been extended elsewhere"
        );
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(end(&mut long).await, SessionEnd::Expired);
        assert_eq!(end(&mut rotated).await, SessionEnd::Expired);
    }
}

/// Another process seals rows under a key that this one does not have.
#[actix_web::test]
async fn a_row_under_a_missing_key_ends_no_watch_and_hides_no_outage() {
    let world = shop_with(|builder| builder.watch_period(SOON)).await;
    let one = session(&world.sessions).await;
    let mut watch = world.sessions.watch(one).await.expect("the store answers");
    let (logs, _guard) = Logs::of_this_thread();
    let elsewhere = world.elsewhere_with(keys(&format!("{},{}", *Keyring::generate_text(), world.key))).await;
    elsewhere.update(one, |shop| shop.count += 1).await.expect("stored");
    let turns = async |count| {
        let reads = world.watch.count(Call::Load);
        world.watch.until("the rows are read", |store| store.count(Call::Load) > reads + count).await;
    };
    turns(20).await;
    assert_eq!(watch.end(), None);
    assert_eq!(logs.lines(&["WARN", "could not open watched sessions"]).len(), 1, "{}", logs.text());
    assert_eq!(logs.lines(&["could not read watched sessions"]).len(), 0, "{}", logs.text());
    let refused = world.sessions.watch(one).await;
    assert!(matches!(refused, Err(Error::UnknownKey { .. })), "{refused:?}");
    for outage in 1..=2 {
        world.watch.fail(Call::Load, Fault::Down);
        turns(10).await;
        assert_eq!(logs.lines(&["WARN", "could not read watched sessions"]).len(), outage, "{}", logs.text());
        world.watch.heal();
        turns(10).await;
        assert_eq!(logs.lines(&["INFO", "watched sessions are read again"]).len(), outage, "{}", logs.text());
    }
    assert_eq!(logs.lines(&["could not open watched sessions"]).len(), 1, "{}", logs.text());
    assert!(elsewhere.delete(one).await.expect("the store answers"));
    assert_eq!(end(&mut watch).await, SessionEnd::Ended);
}

#[actix_web::test]
async fn a_session_that_is_refused_because_its_deletion_failed_ends_its_watches() {
    let world = shop_with(|builder| builder.watch_period(NEVER)).await;
    let id = session(&world.sessions).await;
    let mut watch = world.sessions.watch(id).await.expect("the store answers");
    world.watch.fail(Call::Delete, Fault::Down);
    assert!(world.sessions.delete(id).await.is_err());
    assert_eq!(end(&mut watch).await, SessionEnd::Ended);
    let mut late = world.sessions.watch(id).await.expect("the store answers");
    assert_eq!(end(&mut late).await, SessionEnd::Ended);
}

#[actix_web::test]
async fn a_row_that_was_changed_by_hand_ends_its_watches() {
    let world = shop_with(|builder| builder.watch_period(SOON)).await;
    let id = session(&world.sessions).await;
    let mut watch = world.sessions.watch(id).await.expect("the store answers");
    assert_eq!(world.sql("UPDATE sessions SET expiration = expiration + 1"), 1);
    assert_eq!(end(&mut watch).await, SessionEnd::Ended);
}

#[actix_web::test]
async fn watches_of_one_session_are_read_once_and_none_is_read_when_all_are_dropped() {
    let world = shop_with(|builder| builder.watch_period(SOON)).await;
    let one = session(&world.sessions).await;
    let mut watches = Vec::new();
    for _ in 0..100 {
        watches.push(world.sessions.watch(one).await.expect("the store answers"));
    }
    let (begun, before) = (Instant::now(), world.watch.count(Call::Load));
    sleep(SOON * 10).await;
    let reads = u32::try_from(world.watch.count(Call::Load) - before).expect("few");
    assert!(SOON * reads <= begun.elapsed() + SOON, "{reads} reads in {:?}", begun.elapsed());
    drop(watches);
    // A read that is under way.
    sleep(SOON * 2).await;
    let before = world.watch.count(Call::Load);
    sleep(SOON * 5).await;
    assert_eq!(world.watch.count(Call::Load), before);
    // The next watch is read again.
    let mut watch = world.sessions.watch(one).await.expect("the store answers");
    assert!(world.elsewhere().await.delete(one).await.expect("the store answers"));
    assert_eq!(end(&mut watch).await, SessionEnd::Ended);
}

#[actix_web::test]
async fn more_watches_than_a_page_are_all_read_in_a_period() {
    let world = shop_with(|builder| builder.watch_period(SOON * 10)).await;
    let (mut ids, mut watches) = (Vec::new(), Vec::new());
    for _ in 0..700 {
        ids.push(session(&world.sessions).await);
        watches.push(world.sessions.watch(ids[ids.len() - 1]).await.expect("the store answers"));
    }
    let elsewhere = world.elsewhere().await;
    for id in ids {
        assert!(elsewhere.delete(id).await.expect("the store answers"));
    }
    assert_eq!(ends(watches).await, [SessionEnd::Ended; 700]);
}

#[actix_web::test]
async fn a_watch_does_not_keep_the_sessions_alive() {
    let store = MemoryStore::new();
    let sessions =
        Sessions::<Shop>::builder(store).keyring(Keyring::generate()).build().await.expect("builds");
    let one = session(&sessions).await;
    let mut watch = sessions.watch(one).await.expect("the store answers");
    drop(sessions);
    assert_eq!(end(&mut watch).await, SessionEnd::Closed);
}

/// The task that reads the rows ends with its runtime, such as that of a worker.
#[test]
fn a_watch_goes_on_when_the_runtime_that_began_it_is_gone() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (store, keyring) = (MemoryStore::new(), Keyring::generate());
    let build = |period| {
        let builder = Sessions::<Shop>::builder(store.clone()).keyring(keyring.clone());
        builder.cleanup(Cleanup::Never).watch_period(period).build()
    };
    let (sessions, one, mut watch) = runtime().block_on(async {
        let sessions = build(SOON).await.expect("builds");
        let one = session(&sessions).await;
        let watch = sessions.watch(one).await.expect("the store answers");
        (sessions, one, watch)
    });
    runtime().block_on(async {
        let elsewhere = build(NEVER).await.expect("builds");
        assert!(elsewhere.delete(one).await.expect("the store answers"));
        assert_eq!(end(&mut watch).await, SessionEnd::Ended);
    });
    drop(sessions);
}

/// Begins a watch while `change` happens, and returns how the watch ends; no read helps.
async fn race<S: Store + session_runtime::Directory, F: Future<Output = ()> + Send + 'static>(
    store: S,
    prepare: impl Fn(&mut Shop),
    change: impl Fn(Sessions<Shop>, SessionId) -> F,
    expected: SessionEnd,
) {
    let builder = Sessions::<Shop>::builder(store).keyring(Keyring::generate()).cleanup(Cleanup::Never);
    let sessions = builder.watch_period(NEVER).build().await.expect("builds");
    let mut at_once = 0;
    for round in 0..ROUNDS {
        let mut shop = Shop::defaults();
        prepare(&mut shop);
        let id = sessions.create(shop).await.expect("stored").1.id();
        let watch = {
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.watch(id).await.expect("the store answers") })
        };
        let change = tokio::spawn(change(sessions.clone(), id));
        let mut watch = watch.await.expect("no panic");
        at_once += u32::from(watch.end().is_some());
        assert_eq!(end(&mut watch).await, expected, "round {round}");
        change.await.expect("no panic");
    }
    println!("{at_once} of {ROUNDS} watches were over when they began");
}

async fn delete(sessions: Sessions<Shop>, id: SessionId) {
    assert!(sessions.delete(id).await.expect("the store answers"));
}

/// The future of `update` is as `Send` as the bag, whose future the compiler does not see through.
async fn change_user(sessions: Sessions<Shop>, id: SessionId) {
    sessions.update(id, |shop| shop.user_id = Some(8)).await.expect("stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_ends_while_a_watch_begins_ends_it() {
    race(MemoryStore::new(), |_| {}, delete, SessionEnd::Ended).await;
    race(SqliteStore::in_memory().expect("a database"), |_| {}, delete, SessionEnd::Ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_changes_its_user_while_a_watch_begins_ends_it() {
    let of_seven = |shop: &mut Shop| shop.user_id = Some(7);
    race(MemoryStore::new(), of_seven, change_user, SessionEnd::UserChanged).await;
    let store = SqliteStore::in_memory().expect("a database");
    race(store, of_seven, change_user, SessionEnd::UserChanged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_expires_while_a_watch_begins_ends_it() {
    let clock = ManualClock::default();
    let builder = Sessions::<Shop>::builder(MemoryStore::new()).keyring(Keyring::generate());
    let builder = builder.cleanup(Cleanup::Never).clock(clock.clone()).watch_period(Duration::from_millis(1));
    let sessions = builder.build().await.expect("builds");
    for round in 0..ROUNDS {
        let id = session(&sessions).await;
        let watch = {
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.watch(id).await.expect("the store answers") })
        };
        let clock = clock.clone();
        let expiry = tokio::spawn(async move { clock.advance(Duration::from_hours(1)) });
        let mut watch = watch.await.expect("no panic");
        assert_eq!(end(&mut watch).await, SessionEnd::Expired, "round {round}");
        expiry.await.expect("no panic");
    }
}

/// A request that gives the session another id, and keeps its user, ends no watch. The rows are read all the time: between
/// the store's answer to the request and its note of the new id the former one is gone.
#[actix_web::test]
async fn a_session_that_rotates_while_a_watch_begins_is_followed() {
    let world = shop_with(|builder| builder.watch_period(Duration::from_micros(100))).await;
    let browser = world.user(7).await;
    let mut long = world.sessions.watch(id(&browser)).await.expect("the store answers");
    for round in 0..ROUNDS {
        let (watch, answer) = join(world.sessions.watch(id(&browser)), browser.post("/rotate")).await;
        let watch = watch.expect("the store answers");
        assert!(answer.status.is_success());
        assert_eq!((watch.end(), watch.id()), (None, id(&browser)), "round {round}");
        assert_eq!((long.end(), long.id()), (None, id(&browser)), "round {round}");
    }
    browser.post("/logout").await;
    assert_eq!(end(&mut long).await, SessionEnd::Ended);
}

/// The store has renamed the row, and its answer is under way.
#[actix_web::test]
async fn a_row_that_is_gone_because_this_process_renames_it_ends_no_watch() {
    let world = shop_with(|builder| builder.watch_period(SOON)).await;
    let browser = world.user(7).await;
    let mut watch = world.sessions.watch(id(&browser)).await.expect("the store answers");
    let gate = databag_tests::Gate::default();
    world.watch.fail_next(Call::Update, Fault::AnswerWaits(gate.clone()));
    let reads = Arc::new(world.watch.clone());
    let (answer, ()) = join(browser.post("/rotate"), async {
        gate.arrival().await;
        let before = reads.count(Call::Load);
        reads.until("the row is read", |store| store.count(Call::Load) > before).await;
        gate.open();
    })
    .await;
    assert!(answer.status.is_success());
    sleep(SOON * 3).await;
    assert_eq!((watch.end(), watch.id()), (None, id(&browser)));
    browser.post("/login/8").await;
    assert_eq!(end(&mut watch).await, SessionEnd::UserChanged);
}
