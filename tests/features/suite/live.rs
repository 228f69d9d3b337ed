//! Connections that outlive their request: what keeps their session alive, and what ends them.

use std::time::Duration;

use actix_web::{App, HttpResponse, Responder, web};
use databag_tests::{ManualClock, Site};
use futures_util::StreamExt as _;
use session_runtime::{
    AnyStore, Cleanup, Databag, Error, Keyring, Session, SessionEnd, SessionId, SessionMiddleware,
    SessionWatch, Sessions, Token,
};
use tokio::time::timeout;

use super::app::{Account, COOKIE, MINUTE};

/// No test waits for it.
const NEVER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(20);

struct World {
    sessions: Sessions<Account>,
    clock: ManualClock,
    site: Site,
}

impl World {
    async fn open(store: AnyStore, period: Duration) -> Self {
        Self::open_with(store, period, Keyring::generate(), ManualClock::default()).await
    }

    async fn open_with(store: AnyStore, period: Duration, keyring: Keyring, clock: ManualClock) -> Self {
        let sessions = Sessions::<Account>::builder(store)
            .keyring(keyring)
            .cleanup(Cleanup::Never)
            .clock(clock.clone())
            .watch_period(period);
        let sessions = sessions.build().await.expect("good settings");
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
        let site = Site::new(actix_web::test::init_service(app).await);
        Self { sessions, clock, site }
    }

    /// Stores a session of nobody; `None` if the store keeps no rows.
    async fn session(&self) -> Option<SessionId> {
        let (_, session) = self.sessions.create(Databag::defaults()).await.expect("stored");
        match self.sessions.touch(session.id()).await {
            Ok(_) => Some(session.id()),
            Err(error) => {
                assert!(matches!(error, Error::Usage(_)), "{error}");
                let watch = self.sessions.watch(session.id()).await;
                assert!(matches!(watch, Err(Error::Usage(_))), "{watch:?}");
                None
            }
        }
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/login/{user}", web::post().to(log_in))
        .route("/logout", web::post().to(log_out))
        .route("/rotate", web::post().to(rotate));
}

async fn log_in(mut session: Session<Account>, user: web::Path<String>) -> impl Responder {
    session.log_in(user.into_inner());
    HttpResponse::Ok()
}

async fn log_out(mut session: Session<Account>) -> impl Responder {
    session.log_out();
    HttpResponse::Ok()
}

async fn rotate(mut session: Session<Account>) -> impl Responder {
    session.rotate();
    HttpResponse::Ok()
}

/// Waits at most ten seconds.
async fn end(watch: &mut SessionWatch) -> SessionEnd {
    timeout(Duration::from_secs(10), watch.ended()).await.expect("the watch ends")
}

async fn goes_on(watch: &mut SessionWatch) -> bool {
    timeout(SOON * 5, watch.ended()).await.is_err()
}

pub(crate) async fn a_touch_extends_the_idle_limit_as_a_request_does(store: AnyStore) {
    let world = World::open(store, NEVER).await;
    let Some(id) = world.session().await else { return };
    let sessions = &world.sessions;
    for _ in 0..3 {
        world.clock.advance(20 * MINUTE);
        assert!(sessions.touch(id).await.expect("the store answers"));
        let session = sessions.get(id).await.expect("the store answers").expect("it lives");
        assert_eq!(session.last_used(), session_runtime::Clock::now(&world.clock));
        assert_eq!(session.expires(), session.last_used() + 30 * MINUTE);
        // It is stored once a minute.
        world.clock.advance(MINUTE / 2);
        assert!(sessions.touch(id).await.expect("the store answers"));
        let again = sessions.get(id).await.expect("the store answers").expect("it lives");
        assert_eq!((again.last_used(), again.expires()), (session.last_used(), session.expires()));
    }
    // An application that changes the session does not use it.
    world.clock.advance(20 * MINUTE);
    sessions.update(id, |account| account.count += 1).await.expect("stored");
    world.clock.advance(10 * MINUTE);
    assert!(!sessions.touch(id).await.expect("the store answers"), "an expired session never comes back");
    assert!(sessions.get(id).await.expect("the store answers").is_none());
}

pub(crate) async fn a_touch_leaves_the_absolute_limit(store: AnyStore) {
    let world = World::open(store, NEVER).await;
    let Some(id) = world.session().await else { return };
    for _ in 0..35 {
        world.clock.advance(20 * MINUTE);
        assert!(world.sessions.touch(id).await.expect("the store answers"));
    }
    world.clock.advance(20 * MINUTE);
    assert!(!world.sessions.touch(id).await.expect("the store answers"));
}

pub(crate) async fn a_touch_revives_nothing(store: AnyStore) {
    let world = World::open(store, NEVER).await;
    let Some(id) = world.session().await else { return };
    world.clock.advance(20 * MINUTE);
    assert!(world.sessions.delete(id).await.expect("the store answers"));
    assert!(!world.sessions.touch(id).await.expect("the store answers"));
    assert!(world.sessions.get(id).await.expect("the store answers").is_none());
}

pub(crate) async fn a_watch_ends_at_once_when_this_process_ends_the_session(store: AnyStore) {
    let world = World::open(store, NEVER).await;
    let Some(id) = world.session().await else { return };
    let mut watch = world.sessions.watch(id).await.expect("the store answers");
    assert!(goes_on(&mut watch).await);
    assert!(world.sessions.delete(id).await.expect("the store answers"));
    assert_eq!(end(&mut watch).await, SessionEnd::Ended);
    assert_eq!(watch.collect::<Vec<_>>().await, [SessionEnd::Ended]);

    let browser = world.site.browser();
    // The tests share a table: no other one has this user.
    browser.post("/login/robin").await;
    let session =
        || Token::parse(&browser.cookie(COOKIE).expect("a cookie")).expect("canonical").session_id();
    let mut revoked = world.sessions.watch(session()).await.expect("the store answers");
    assert_eq!(world.sessions.revoke_user("robin").await.expect("the store answers"), 1);
    assert_eq!(end(&mut revoked).await, SessionEnd::Ended);

    browser.post("/login/robin").await;
    let mut left = world.sessions.watch(session()).await.expect("the store answers");
    browser.post("/logout").await;
    assert_eq!(end(&mut left).await, SessionEnd::Ended);

    let mut gone = world.sessions.watch(id).await.expect("the store answers");
    assert_eq!(end(&mut gone).await, SessionEnd::Ended);
}

pub(crate) async fn a_watch_follows_a_session_and_ends_with_its_user(store: AnyStore) {
    let world = World::open(store, NEVER).await;
    if world.session().await.is_none() {
        return;
    }
    let browser = world.site.browser();
    browser.post("/login/kim").await;
    let session =
        || Token::parse(&browser.cookie(COOKIE).expect("a cookie")).expect("canonical").session_id();
    let first = session();
    let mut watch = world.sessions.watch(first).await.expect("the store answers");
    browser.post("/rotate").await;
    browser.post("/login/kim").await;
    assert_ne!(session(), first);
    assert!(goes_on(&mut watch).await);
    assert_eq!(watch.id(), session());
    assert!(world.sessions.touch(watch.id()).await.expect("the store answers"));
    // A watch that begins with a former id follows it too.
    let mut late = world.sessions.watch(first).await.expect("the store answers");
    assert_eq!((late.end(), late.id()), (None, session()));
    browser.post("/login/lee").await;
    assert_eq!(end(&mut watch).await, SessionEnd::UserChanged);
    assert_eq!(end(&mut late).await, SessionEnd::UserChanged);
    let mut later = world.sessions.watch(first).await.expect("the store answers");
    assert_eq!(end(&mut later).await, SessionEnd::UserChanged);
}

pub(crate) async fn a_watch_ends_when_the_session_expires(store: AnyStore) {
    let world = World::open(store, SOON).await;
    let Some(id) = world.session().await else { return };
    let mut watch = world.sessions.watch(id).await.expect("the store answers");
    world.clock.advance(20 * MINUTE);
    assert!(world.sessions.touch(id).await.expect("the store answers"));
    world.clock.advance(20 * MINUTE);
    assert!(goes_on(&mut watch).await);
    world.clock.advance(10 * MINUTE);
    assert_eq!(end(&mut watch).await, SessionEnd::Expired);
}

/// Two processes on one store, with clocks that agree.
pub(crate) async fn a_watch_ends_when_another_process_ends_the_session(one: AnyStore, other: AnyStore) {
    let (keyring, clock) = (Keyring::generate(), ManualClock::default());
    let one = World::open_with(one, SOON, keyring.clone(), clock.clone()).await;
    let other = World::open_with(other, NEVER, keyring, clock).await;

    let ended = one.session().await.expect("rows");
    let mut watch = one.sessions.watch(ended).await.expect("the store answers");
    assert!(other.sessions.touch(ended).await.expect("the store answers"));
    other.sessions.update(ended, |account| account.count += 1).await.expect("stored");
    assert!(goes_on(&mut watch).await);
    assert!(other.sessions.delete(ended).await.expect("the store answers"));
    assert_eq!(end(&mut watch).await, SessionEnd::Ended);

    let changed = one.session().await.expect("rows");
    let mut watch = one.sessions.watch(changed).await.expect("the store answers");
    other.sessions.update(changed, |account| account.user_id = Some("kim".to_owned())).await.expect("stored");
    assert_eq!(end(&mut watch).await, SessionEnd::Ended, "the former id is gone");
}

/// Shows what 10,000 watches cost, of sessions of `WATCHED` bytes: `cargo test --release .. ten_thousand -- --ignored --nocapture`.
pub(crate) async fn measure_ten_thousand_watches(store: AnyStore) {
    const PERIOD: Duration = Duration::from_secs(5);
    let world = World::open(store, PERIOD).await;
    let (mut ids, mut watches) = (Vec::new(), Vec::new());
    let bytes = std::env::var("WATCHED").map_or(0, |bytes| bytes.parse().expect("a number"));
    for _ in 0..10_000 {
        let account = Account { code: Some("x".repeat(bytes)), ..Databag::defaults() };
        ids.push(world.sessions.create(account).await.expect("stored").1.id());
    }
    let cpu = || {
        // proc(5): user and system time, in ticks of 10 ms.
        let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
        let fields: Vec<_> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        10 * (fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks"))
    };
    let before = cpu();
    tokio::time::sleep(PERIOD).await;
    println!("without watches: {} ms of CPU in 5 seconds", cpu() - before);
    let begun = (std::time::Instant::now(), cpu());
    for id in ids {
        watches.push(world.sessions.watch(id).await.expect("the store answers"));
    }
    println!("10,000 watches begun in {:?}, {} ms of CPU", begun.0.elapsed(), cpu() - begun.1);
    tokio::time::sleep(2 * PERIOD).await;
    let before = cpu();
    tokio::time::sleep(4 * PERIOD).await;
    println!("with 10,000 watches: {} ms of CPU in 5 seconds", (cpu() - before) / 4);
    assert!(watches.iter().all(|watch| watch.end().is_none()));
}
