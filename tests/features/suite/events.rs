//! What observers are told, event by event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::{App, HttpResponse, Responder, web};
use databag_tests::{Browser, Gate, ManualClock, Site};
use session_runtime::event::{CallOutcome, EndCause, Failure, Stage, StoreOperation};
use session_runtime::{
    AnyStore, Cleanup, Databag, Error, Event, Keyring, LoggedIn, Rejection, Session, SessionId,
    SessionMiddleware, SessionRef, Sessions, Token, health,
};

use super::app::{MINUTE, SECOND};

#[derive(Databag)]
#[databag(table = "observed", cookie = "__Host-observed")]
struct Guest {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(merge = "sum")]
    visits: u32,
    #[databag(merge = "reject")]
    address: String,
}

/// Ends the older of a user's sessions.
#[derive(Databag)]
#[databag(table = "observed_few", cookie = "__Host-few", max_per_user = 1)]
struct Few {
    #[databag(user_id)]
    user_id: Option<i64>,
}

/// In a table of its own: the clock of its test removes the sessions of others.
#[derive(Databag)]
#[databag(table = "observed_brief", cookie = "__Host-brief", idle = "30s")]
struct Brief {
    visits: u32,
}

const COOKIE: &str = "__Host-observed";

/// What an observer was told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let told = self.clone();
        move |event| told.0.lock().unwrap_or_else(PoisonError::into_inner).push(*event)
    }

    /// Returns what was told since the last call.
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what was told since the last call, without the calls of the store.
    fn of_sessions(&self) -> Vec<Event> {
        let is_call = |event: &Event| matches!(event, Event::StoreCall { .. });
        self.take().into_iter().filter(|event| !is_call(event)).collect()
    }

    /// Waits at most ten seconds for an event, and returns it.
    async fn until(&self, is_it: impl Fn(&Event) -> bool) -> Event {
        for _ in 0..2_000 {
            let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().find(&is_it);
            if let Some(event) = told {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not told within ten seconds: {:?}", self.take());
    }
}

struct World {
    sessions: Sessions<Guest>,
    clock: ManualClock,
    told: Told,
    site: Site,
    gate: Gate,
    has_rows: bool,
}

impl World {
    async fn open(store: AnyStore) -> Self {
        let (clock, told, gate) = (ManualClock::default(), Told::default(), Gate::default());
        let sessions = Sessions::<Guest>::builder(store)
            .keyring(Keyring::generate())
            .cleanup(Cleanup::Never)
            .clock(clock.clone())
            .on_event(told.observer());
        let sessions = sessions.build().await.expect("good settings");
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .app_data(web::Data::new(gate.clone()))
            .configure(routes);
        let site = Site::new(actix_web::test::init_service(app).await);
        let has_rows = sessions.count_all().await.is_ok();
        told.take();
        Self { sessions, clock, told, site, gate, has_rows }
    }

    /// Opens a browser with a session.
    async fn guest(&self) -> Browser {
        let browser = self.site.browser();
        assert!(browser.post("/visit").await.status.is_success());
        self.told.take();
        browser
    }

    /// Opens a browser with a session of a user.
    async fn user(&self, user: i64) -> Browser {
        let browser = self.guest().await;
        assert!(browser.post(&format!("/login/{user}")).await.status.is_success());
        self.told.take();
        browser
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/read", web::get().to(async |guest: SessionRef<Guest>| guest.visits.to_string()))
        .route("/visit", web::post().to(visit))
        .route("/visit-slowly", web::post().to(visit_slowly))
        .route("/move-slowly/{address}", web::post().to(move_slowly))
        .route("/update", web::post().to(update))
        .route("/login/{user}", web::post().to(log_in))
        .route("/logout", web::post().to(log_out))
        .route("/destroy", web::post().to(destroy))
        .route("/rotate", web::post().to(rotate))
        .route("/end-others", web::post().to(end_others))
        .route("/two", web::post().to(two))
        .route("/big", web::post().to(big))
        .route("/ready", web::get().to(health::<Guest>));
}

async fn visit(mut session: Session<Guest>) -> impl Responder {
    session.visits += 1;
    "visited"
}

async fn visit_slowly(mut session: Session<Guest>, gate: web::Data<Gate>) -> impl Responder {
    session.visits += 1;
    gate.pass().await;
    "visited"
}

async fn move_slowly(
    mut session: Session<Guest>,
    address: web::Path<String>,
    gate: web::Data<Gate>,
) -> impl Responder {
    session.set_address(address.into_inner());
    gate.pass().await;
    "moved"
}

async fn update(mut session: Session<Guest>) -> Result<&'static str, Error> {
    session.update(|guest| guest.visits += 1).await?;
    Ok("updated")
}

async fn log_in(mut session: Session<Guest>, user: web::Path<i64>) -> impl Responder {
    session.log_in(*user);
    "in"
}

async fn log_out(mut session: Session<Guest>) -> impl Responder {
    session.log_out();
    "out"
}

async fn destroy(mut session: Session<Guest>) -> impl Responder {
    session.destroy();
    "gone"
}

async fn rotate(mut session: Session<Guest>) -> impl Responder {
    session.rotate();
    "rotated"
}

async fn end_others(mut session: LoggedIn<Guest>) -> Result<&'static str, Error> {
    session.rotate_and_end_others().await?;
    Ok("ended")
}

/// Keeps its session after it has answered.
async fn two(session: Session<Guest>) -> impl Responder {
    std::mem::forget(session);
    "mistaken"
}

async fn big(mut session: Session<Guest>) -> impl Responder {
    session.set_address("a".repeat(70_000));
    HttpResponse::Ok()
}

fn token(browser: &Browser) -> Token {
    Token::parse(&browser.cookie(COOKIE).expect("a cookie")).expect("canonical")
}

fn id(browser: &Browser) -> SessionId {
    token(browser).session_id()
}

/// Takes out the sizes of records, which the seal and the codec decide.
fn sized(events: Vec<Event>) -> Vec<Event> {
    let unsized_of = |event| match event {
        Event::Written { session, bytes } => {
            assert!((20..300).contains(&bytes), "{bytes}");
            Event::Written { session, bytes: 0 }
        }
        event => event,
    };
    events.into_iter().map(unsized_of).collect()
}

fn written(session: SessionId) -> Event {
    Event::Written { session, bytes: 0 }
}

pub(crate) async fn an_observer_is_told_the_life_of_a_session(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.site.browser();
    assert!(browser.get("/read").await.status.is_success());
    assert_eq!(world.told.take(), [], "a visitor without a session leaves no trace");

    browser.post("/visit").await;
    let first = id(&browser);
    assert_eq!(sized(world.told.of_sessions()), [Event::Created { session: first }, written(first)]);

    browser.get("/read").await;
    assert_eq!(world.told.of_sessions(), [Event::Loaded { session: first }]);
    browser.post("/visit").await;
    assert_eq!(sized(world.told.of_sessions()), [Event::Loaded { session: first }, written(first)]);
    browser.post("/update").await;
    assert_eq!(sized(world.told.of_sessions()), [Event::Loaded { session: first }, written(first)]);

    world.clock.advance(2 * MINUTE);
    browser.get("/read").await;
    assert_eq!(
        world.told.of_sessions(),
        [Event::Loaded { session: first }, Event::Touched { session: first }]
    );

    browser.post("/login/7").await;
    let second = id(&browser);
    let rotated = Event::Rotated { from: first, to: second };
    assert_eq!(sized(world.told.of_sessions()), [Event::Loaded { session: first }, written(second), rotated]);

    browser.post("/logout").await;
    let ended = Event::Ended { session: second, cause: EndCause::LoggedOut };
    assert_eq!(world.told.of_sessions(), [Event::Loaded { session: second }, ended]);
}

pub(crate) async fn an_observer_is_told_why_a_session_has_ended(store: AnyStore) {
    let world = World::open(store).await;
    let ends = |told: &Told| -> Vec<(SessionId, EndCause)> {
        let end = |event| match event {
            Event::Ended { session, cause } => Some((session, cause)),
            _ => None,
        };
        told.take().into_iter().filter_map(end).collect()
    };
    let browser = world.guest().await;
    let session = id(&browser);
    browser.post("/destroy").await;
    assert_eq!(ends(&world.told), [(session, EndCause::Destroyed)]);
    let browser = world.user(7).await;
    let session = id(&browser);
    browser.post("/logout").await;
    assert_eq!(ends(&world.told), [(session, EndCause::LoggedOut)]);
    if !world.has_rows {
        return;
    }
    let (one, two, kept) = (world.user(8).await, world.user(8).await, world.user(8).await);
    world.sessions.delete(id(&one)).await.expect("ended");
    assert_eq!(ends(&world.told), [(id(&one), EndCause::Revoked)]);
    kept.post("/end-others").await;
    assert_eq!(ends(&world.told), [(id(&two), EndCause::Revoked)]);
    world.sessions.revoke_user(8).await.expect("ended");
    assert_eq!(ends(&world.told), [(id(&kept), EndCause::Revoked)]);
}

pub(crate) async fn an_observer_is_told_which_sessions_a_log_in_replaces(store: AnyStore) {
    let told = Told::default();
    let sessions = Sessions::<Few>::builder(store).keyring(Keyring::generate()).on_event(told.observer());
    // Sessions in cookies cannot be counted.
    let Ok(sessions) = sessions.build().await else { return };
    let log_in = async || sessions.create(Few { user_id: Some(7) }).await.expect("stored").1.id();
    let first = log_in().await;
    told.take();
    let second = log_in().await;
    let replaced = Event::Ended { session: first, cause: EndCause::Replaced };
    assert_eq!(sized(told.of_sessions()), [replaced, Event::Created { session: second }, written(second)]);
}

pub(crate) async fn an_observer_is_told_of_conflicts_and_merges(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.guest().await;
    let session = id(&browser);
    let slow = browser.clone();
    let (answer, ()) = tokio::join!(slow.post("/visit-slowly"), async {
        world.gate.arrival().await;
        world.told.take();
        assert!(browser.post("/visit").await.status.is_success());
        world.told.take();
        world.gate.open();
    });
    assert!(answer.status.is_success());
    let told = sized(world.told.of_sessions());
    if !world.has_rows {
        // The browser keeps the cookie that arrives last.
        assert_eq!(told, [written(session)]);
        return;
    }
    let expected = [Event::Conflicted { session }, Event::Merged { session }, written(session)];
    assert_eq!(told, expected);
    assert_eq!(browser.get("/read").await.body, "3");
}

pub(crate) async fn an_observer_is_told_of_a_change_that_is_refused(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.guest().await;
    let session = id(&browser);
    let (one, two) = (browser.clone(), browser.clone());
    let (north, south) = (one.post("/move-slowly/north"), two.post("/move-slowly/south"));
    let (one, two, ()) = tokio::join!(north, south, async {
        world.gate.arrival().await;
        world.gate.arrival().await;
        world.told.take();
        world.gate.open();
    });
    let mut told = sized(world.told.of_sessions());
    // Whether the second one had to wait for the first.
    told.retain(|event| !matches!(event, Event::Conflicted { .. }));
    let refused = Event::Failed { session: Some(session), stage: Stage::Store, failure: Failure::Conflict };
    if world.has_rows {
        assert_eq!([one.status.as_u16(), two.status.as_u16()].iter().sum::<u16>(), 200 + 409);
        assert_eq!(told, [written(session), refused]);
    } else {
        assert_eq!(told, [written(session); 2]);
    }

    let answer = browser.post("/big").await;
    assert_eq!(answer.status, 500);
    let failed = Event::Failed { session: Some(session), stage: Stage::Store, failure: Failure::TooLarge };
    assert_eq!(world.told.of_sessions(), [Event::Loaded { session }, failed]);
    let answer = browser.post("/two").await;
    assert_eq!(answer.status, 500);
    let failed = Event::Failed { session: None, stage: Stage::Store, failure: Failure::Usage };
    assert_eq!(world.told.of_sessions(), [Event::Loaded { session }, failed]);
}

pub(crate) async fn an_observer_is_told_of_tokens_that_are_not_accepted(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.site.browser();
    browser.set_cookie(COOKIE, "no-token");
    browser.get("/read").await;
    let malformed = Event::Rejected { session: None, reason: Rejection::Malformed };
    assert_eq!(world.told.take(), [malformed], "no call of the store");

    let unknown = Token::from_bytes([7; 32]);
    browser.set_cookie(COOKIE, &unknown.encode());
    browser.get("/read").await;
    let reason = if world.has_rows { Rejection::Unknown } else { Rejection::Malformed };
    let session = Some(unknown.session_id());
    assert_eq!(world.told.of_sessions(), [Event::Rejected { session, reason }]);

    let browser = world.guest().await;
    let session = id(&browser);
    world.clock.advance(31 * MINUTE);
    browser.get("/read").await;
    assert_eq!(world.told.of_sessions(), [Event::Expired { session }]);
}

pub(crate) async fn an_observer_is_told_of_cleanups(store: AnyStore) {
    let (told, clock) = (Told::default(), ManualClock::default());
    let sessions = Sessions::<Brief>::builder(store)
        .keyring(Keyring::generate())
        .cleanup(Cleanup::Every(SECOND / 50))
        .clock(clock.clone())
        .on_event(told.observer());
    let sessions = sessions.build().await.expect("good settings");
    for visits in 1..=2 {
        sessions.create(Brief { visits }).await.expect("stored");
    }
    let Ok(live) = sessions.count_all().await else { return };
    assert_eq!(live, 2);
    told.take();
    told.until(|event| *event == Event::Counted { live: 2 }).await;
    assert!(told.take().contains(&Event::CleanedUp { removed: 0 }));
    clock.advance(31 * SECOND);
    told.until(|event| *event == Event::CleanedUp { removed: 2 }).await;
    told.until(|event| *event == Event::Counted { live: 0 }).await;
}

pub(crate) async fn an_observer_is_told_how_long_the_store_takes(store: AnyStore) {
    use StoreOperation::{Count, Delete, Health, Insert, Load, Remove, Update};

    let kind = format!("{store:?}");
    let world = World::open(store).await;
    let browser = world.site.browser();
    let calls = |told: &Told| -> Vec<StoreOperation> {
        let operation = |event| match event {
            Event::StoreCall { store, operation, outcome, duration } => {
                assert_eq!(outcome, CallOutcome::Answered);
                assert!(duration < Duration::from_mins(1), "{duration:?}");
                assert!(
                    kind.contains(store.trim_end_matches("Store")) && store.ends_with("Store"),
                    "{store} {kind}"
                );
                Some(operation)
            }
            _ => None,
        };
        told.take().into_iter().filter_map(operation).collect()
    };
    if !world.has_rows {
        browser.post("/visit").await;
        browser.post("/visit").await;
        assert_eq!(calls(&world.told), [], "cookies are no store");
        return;
    }
    browser.post("/visit").await;
    assert_eq!(calls(&world.told), [Insert]);
    browser.post("/visit").await;
    assert_eq!(calls(&world.told), [Load, Update]);
    browser.post("/login/7").await;
    assert_eq!(calls(&world.told), [Load, Update]);
    browser.post("/logout").await;
    assert_eq!(calls(&world.told), [Load, Delete]);
    world.sessions.count_all().await.expect("the store answers");
    world.sessions.revoke_user(77).await.expect("the store answers");
    browser.get("/ready").await;
    assert_eq!(calls(&world.told), [Count, Remove, Health]);
}

pub(crate) async fn an_observer_that_panics_changes_nothing(store: AnyStore) {
    let (told, clock) = (Told::default(), ManualClock::default());
    let sessions = Sessions::<Guest>::builder(store)
        .keyring(Keyring::generate())
        .clock(clock.clone())
        .on_event(|event| panic!("an observer of {event:?}"))
        .on_event(told.observer());
    let sessions = sessions.build().await.expect("good settings");
    let app = App::new().wrap(SessionMiddleware::new(sessions)).configure(routes);
    let site = Site::new(actix_web::test::init_service(app).await);
    let browser = site.browser();
    for path in ["/visit", "/visit", "/update", "/login/7", "/rotate"] {
        assert!(browser.post(path).await.status.is_success(), "{path}");
    }
    assert_eq!(browser.get("/read").await.body, "3");
    clock.advance(2 * MINUTE);
    assert_eq!(browser.get("/read").await.body, "3");
    assert!(browser.post("/logout").await.status.is_success());
    assert!(browser.cookie(COOKIE).is_none());
    assert!(told.take().len() > 10, "the second observer was told all the same");
}

/// It is called while the session is locked.
pub(crate) async fn an_observer_may_use_the_sessions_in_a_task(store: AnyStore) {
    let shared: Arc<Mutex<Option<Sessions<Guest>>>> = Arc::default();
    let (in_observer, (done, mut was_done)) = (shared.clone(), tokio::sync::mpsc::unbounded_channel());
    let builder = Sessions::<Guest>::builder(store).keyring(Keyring::generate()).on_event(move |event| {
        let sessions = in_observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Event::Written { session, .. }, Some(sessions)) = (*event, sessions) {
            let done = done.clone();
            tokio::spawn(async move {
                let found = sessions.get(session).await;
                let touched = sessions.touch(session).await;
                done.send((found.map(|found| found.is_some()), touched)).ok();
            });
        }
    });
    let sessions = builder.build().await.expect("good settings");
    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(sessions.clone());
    let has_rows = sessions.count_all().await.is_ok();
    let app = App::new().wrap(SessionMiddleware::new(sessions)).configure(routes);
    let site = Site::new(actix_web::test::init_service(app).await);
    let browser = site.browser();
    for path in ["/visit", "/update", "/login/7"] {
        assert!(browser.post(path).await.status.is_success(), "{path}");
        match was_done.recv().await.expect("told") {
            (Ok(found), Ok(touched)) => assert!(has_rows && found && touched, "{path}"),
            answer => assert!(!has_rows, "{path}: {answer:?}"),
        }
    }
    shared.lock().unwrap_or_else(PoisonError::into_inner).take();
}

pub(crate) async fn no_event_shows_a_token_or_a_whole_id(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.site.browser();
    let (mut secrets, mut told) = (Vec::new(), Vec::new());
    for path in ["/visit", "/update", "/login/4242424242", "/rotate", "/big", "/logout"] {
        browser.post(path).await;
        if let Some(cookie) = browser.cookie(COOKIE) {
            secrets.extend([id(&browser).to_string()[..9].to_owned(), cookie]);
        }
        told.extend(world.told.take());
    }
    browser.set_cookie(COOKIE, "junk-that-is-no-token");
    browser.get("/read").await;
    told.extend(world.told.take());
    let shown = format!("{told:?}");
    assert!(secrets.len() > 4 && shown.contains("Rejected"), "{shown}");
    secrets.extend(["junk-that-is-no-token".to_owned(), "4242424242".to_owned()]);
    for secret in &secrets {
        assert!(!shown.contains(secret.as_str()), "{secret} in {shown}");
    }
}

pub(crate) async fn a_probe_is_answered_whether_the_store_works(store: AnyStore) {
    let world = World::open(store).await;
    let answer = world.site.browser().get("/ready").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "OK"));
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    assert!(answer.set_cookies().is_empty());
}
