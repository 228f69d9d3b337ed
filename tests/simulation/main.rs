//! The whole library in one thread, on a clock and with a chance of its own, over a store that fails.
//!
//! A seed decides everything: what browsers do, how long it takes, when the clock jumps, which call to the store
//! is late or fails. `SEED=n` repeats one, `SEEDS=n` runs so many, from `FIRST_SEED` on.
#![allow(missing_docs)]

mod app;
mod model;
mod random;
mod store;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, Error, web};
use session_runtime::{Cleanup, Keyring, SessionMiddleware, Sessions, Token};
use tokio::time::Instant;

use self::app::{Begun, Sim, Task};
use self::model::{Answer, Kind, Millis, Model, Request};
use self::random::Random;
use self::store::{Broken, SimStore};

const BROWSERS: usize = 4;
const REQUESTS: u64 = 200;
const MINUTES: u64 = 10;
/// What the server's clock shows at first.
const BEGINNING: Millis = 1_700_000_000_000;
const KEY: &str = "5f0c9a1e7d3b48266e91c4f87a2d50b3e8164c9f03a7d5be21946f8c7b3ad0e5";

/// Runs one seed and returns what was wrong.
fn simulate(seed: u64, broken: Option<Broken>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.expect("a runtime"), run(seed, broken))
}

/// The server's clock: the simulation's, and how far it is off.
#[derive(Clone)]
struct Watch {
    began: Instant,
    off: Arc<AtomicI64>,
    /// The latest that it may be for the server: it lets no clock fall far behind that.
    latest: Arc<AtomicU64>,
    /// When it looked last, in milliseconds since the beginning.
    looked: Arc<AtomicU64>,
    /// How often it was set back.
    set_back: Arc<AtomicU64>,
}

impl Watch {
    fn passed(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).expect("ten minutes")
    }

    fn shown(&self) -> Millis {
        let passed = self.passed().cast_signed();
        let since = passed + self.off.load(Ordering::Relaxed);
        BEGINNING.checked_add_signed(since).expect("this century")
    }

    /// The server looks at it: time goes on for it where the clock has fallen behind by more than a minute.
    fn look(&self) -> Millis {
        let (shown, latest, passed) = (self.shown(), self.latest(), self.passed());
        let expected = latest + passed - self.looked.swap(passed, Ordering::Relaxed);
        let behind = expected.saturating_sub(shown) > 60_000;
        self.latest.store(if behind { expected } else { latest.max(shown) }, Ordering::Relaxed);
        shown
    }

    fn latest(&self) -> Millis {
        self.latest.load(Ordering::Relaxed)
    }
}

/// What all browsers of a simulation share.
struct World<S> {
    service: S,
    sessions: Sessions<Sim, SimStore>,
    model: RefCell<Model>,
    watch: Watch,
    begun: Begun,
    number: AtomicU64,
    /// Whether every request is told: where one seed is repeated.
    told: bool,
}

async fn run(seed: u64, broken: Option<Broken>) -> Vec<String> {
    let mut random = Random::new(seed);
    let store = SimStore::new(random.fork(), broken);
    let watch = Watch {
        began: Instant::now(),
        off: Arc::default(),
        latest: Arc::default(),
        looked: Arc::default(),
        set_back: Arc::default(),
    };
    let clock = {
        let watch = watch.clone();
        move || {
            let shown = watch.look();
            let shown = if broken == Some(Broken::ClockStopped) { BEGINNING } else { shown };
            SystemTime::UNIX_EPOCH + Duration::from_millis(shown)
        }
    };
    let tokens = AtomicU64::new(random.next());
    let token = move || {
        let mut tokens = Random::new(tokens.fetch_add(1, Ordering::Relaxed));
        let mut token = [0; 32];
        for part in token.chunks_exact_mut(8) {
            part.copy_from_slice(&tokens.next().to_le_bytes());
        }
        token
    };
    let builder = Sessions::<Sim>::builder(store.clone());
    let builder = match broken {
        Some(Broken::ExpiryIgnored) => builder.danger_plaintext(),
        _ => builder.keyring(Keyring::parse(KEY).expect("a key")),
    };
    let sessions = builder
        .cleanup(Cleanup::Every(Duration::from_mins(1)))
        .clock(clock)
        .token_source(token)
        .build()
        .await
        .expect("nothing is called yet");
    let begun = Begun::default();
    let service = init_service(
        App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .app_data(web::Data::new(begun.clone()))
            .configure(app::routes),
    )
    .await;
    let world = Rc::new(World {
        service,
        sessions,
        model: RefCell::default(),
        watch: watch.clone(),
        begun,
        number: AtomicU64::new(0),
        told: number("SEED").is_some(),
    });

    let mut browsers = Vec::new();
    for browser in 0..BROWSERS {
        let jar = Rc::new(RefCell::new(Jar::default()));
        // Two tabs of one browser share its cookies.
        for _ in 0..2 {
            let (world, jar, random) = (world.clone(), jar.clone(), random.fork());
            browsers.push(tokio::task::spawn_local(browse(world, jar, browser, random)));
        }
    }
    let faults = tokio::task::spawn_local(trouble(store.clone(), watch, random.fork()));
    for browser in browsers {
        browser.await.expect("a browser does not panic");
    }
    faults.abort();
    let mut violations = world.model.borrow().violations.clone();
    violations.extend(store.violations());
    violations
}

/// Lets the store and the clock fail for a while, again and again.
async fn trouble(store: SimStore, watch: Watch, mut random: Random) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.below(40_000))).await;
        match random.below(4) {
            0 => {
                store.set_down(true);
                tokio::time::sleep(Duration::from_millis(random.below(8_000))).await;
                store.set_down(false);
            }
            1 => store.lose_power(),
            2 => drop(watch.off.fetch_add(random.below(20_000).cast_signed(), Ordering::Relaxed)),
            _ => {
                watch.off.fetch_sub(random.below(20_000).cast_signed(), Ordering::Relaxed);
                watch.set_back.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The cookies of a browser.
#[derive(Default)]
struct Jar {
    token: Option<String>,
    /// Every token it ever had, for replays.
    all: Vec<String>,
}

/// Sends requests, with pauses, until the time is over.
async fn browse<S, B>(world: Rc<World<S>>, jar: Rc<RefCell<Jar>>, browser: usize, mut random: Random)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let tabs = 2 * BROWSERS as u64;
    let pause = MINUTES * 60_000 * tabs / REQUESTS;
    for _ in 0..REQUESTS / tabs {
        // Bursts, and silence long enough for a session to expire.
        let wait = if random.percent(60) { random.below(200) } else { random.below(5 * pause) };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let kinds = [
            Kind::Read,
            Kind::Read,
            Kind::Peek,
            Kind::Add,
            Kind::Add,
            Kind::Add,
            Kind::Count,
            Kind::Count,
            Kind::Sum,
            Kind::Sum,
            Kind::LogIn,
            Kind::LogOut,
            Kind::Rotate,
            Kind::Revoke,
        ];
        let mut kind = *random.pick(&kinds);
        let mut token = jar.borrow().token.clone();
        if random.percent(10) && !jar.borrow().all.is_empty() {
            // Somebody tries a token that they have found.
            token = Some(random.pick(&jar.borrow().all).clone());
            kind = Kind::Read;
        }
        let takes = if random.percent(20) { random.below(3_000) } else { random.below(20) };
        let number = world.number.fetch_add(1, Ordering::Relaxed) + 1;
        let request =
            world.model.borrow_mut().begin(number, kind, browser, token.clone(), world.watch.shown());
        let task = Task { number, takes, user: browser as u64 };
        let set_back = world.watch.set_back.load(Ordering::Relaxed);
        let mut answer = send(&world, &request, &task).await;
        answer.set_back = set_back != world.watch.set_back.load(Ordering::Relaxed);
        if world.told {
            eprintln!("{} {request:?}\n{} {answer:?}", request.shown, world.watch.shown());
        }
        world.model.borrow_mut().end(&request, &answer, world.watch.latest());
        let mut jar = jar.borrow_mut();
        match answer.set {
            Some(set) if set.is_empty() => jar.token = None,
            Some(set) => {
                jar.all.push(set.clone());
                jar.token = Some(set);
            }
            None => {}
        }
    }
}

async fn send<S, B>(world: &World<S>, request: &Request, task: &Task) -> Answer
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let path = match request.kind {
        Kind::Revoke => return revoke(world, request).await,
        Kind::Read => "/read",
        Kind::Peek => "/peek",
        Kind::Add => "/add",
        Kind::Count => "/count",
        Kind::Sum => "/sum",
        Kind::LogIn => "/login",
        Kind::LogOut => "/logout",
        Kind::Rotate => "/rotate",
    };
    let Task { number, takes, user } = task;
    let uri = format!("{path}?number={number}&takes={takes}&user={user}");
    let reads = matches!(request.kind, Kind::Read | Kind::Peek);
    let mut http = if reads { TestRequest::get() } else { TestRequest::post() }.uri(&uri);
    if let Some(token) = &request.token {
        http = http.insert_header(("Cookie", format!("__Host-sim={token}")));
    }
    let response = match world.service.call(http.to_request()).await {
        Ok(response) => response,
        Err(error) => panic!("the service failed: {error}"),
    };
    let status = response.status().as_u16();
    let set = response.headers().get("Set-Cookie").and_then(|set| set.to_str().ok());
    let set = set.and_then(|set| Some(set.strip_prefix("__Host-sim=")?.split(';').next()?.to_owned()));
    let view = serde_json::from_slice(&read_body(response).await).ok();
    Answer { status, set, view, handled: world.begun.borrow().contains(number), set_back: false }
}

/// Ends the session of the request's token, as somebody does who sees it in a list.
async fn revoke<S>(world: &World<S>, request: &Request) -> Answer {
    let token = request.token.as_deref().and_then(Token::parse);
    let status = match token {
        None => 204,
        Some(token) => match world.sessions.delete(token.session_id()).await {
            Ok(true) => 204,
            // It is gone, or goes on under another id: nothing was ended.
            Ok(false) => 409,
            Err(_) => 503,
        },
    };
    Answer { status, set: None, view: None, handled: true, set_back: false }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn no_seed_breaks_a_promise() {
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (number("FIRST_SEED").unwrap_or(1), number("SEEDS").unwrap_or(200)),
    };
    let since = std::time::Instant::now();
    for seed in first..first + count {
        let violations = simulate(seed, None);
        assert!(violations.is_empty(), "SEED={seed}\n{}", violations.join("\n"));
        let done = seed - first + 1;
        if done.is_multiple_of(10_000) {
            eprintln!("{done} of {count} seeds in {:.0?}", since.elapsed());
        }
    }
    eprintln!("{count} seeds, 0 violations, in {:.1?}", since.elapsed());
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    // Runs that fail tell the most.
    for seed in 1..20 {
        assert_eq!(simulate(seed, Some(Broken::NoCompare)), simulate(seed, Some(Broken::NoCompare)));
    }
}

/// Tells whether some answer shows, within some seeds, what comes of a broken promise.
fn is_found_out(broken: Broken, shown: &str) -> bool {
    (1..=200).any(|seed| simulate(seed, Some(broken)).iter().any(|violation| violation.contains(shown)))
}

#[test]
fn a_store_that_writes_rows_that_are_gone_is_found_out() {
    assert!(is_found_out(Broken::Upsert, "which had ended"));
}

#[test]
fn a_store_that_compares_no_revisions_is_found_out() {
    assert!(is_found_out(Broken::NoCompare, "lost the writes of"));
}

#[test]
fn a_store_that_answers_before_it_has_written_is_found_out() {
    assert!(is_found_out(Broken::EarlyAnswer, "lost the writes of"));
}

#[test]
fn a_store_that_rotates_in_two_steps_is_found_out() {
    assert!(is_found_out(Broken::TwoSteps, "by a token that was replaced"));
}

#[test]
fn a_store_that_does_not_move_expirations_is_found_out() {
    assert!(is_found_out(Broken::StuckExpiration, "which lives"));
}

#[test]
fn a_store_that_ignores_expiry_is_found_out() {
    assert!(is_found_out(Broken::ExpiryIgnored, "which had expired"));
}

#[test]
fn of_sealed_rows_no_store_can_ignore_expiry() {
    // Somebody who lives is missed, since the expiration is sealed with the row; nobody is let in by a wrong one.
    let violations: Vec<_> = (1..=20).flat_map(|seed| simulate(seed, Some(Broken::ExpiryForged))).collect();
    assert!(violations.iter().any(|violation| violation.contains("which lives")));
    assert!(!violations.iter().any(|violation| violation.contains("which had expired")), "{violations:#?}");
}

#[test]
fn a_server_that_looks_at_no_expiration_is_found_out() {
    assert!(is_found_out(Broken::ClockStopped, "which had expired"));
}
