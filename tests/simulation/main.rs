//! The whole library in one thread, with a simulated clock and a seeded random generator, over a store that fails. Two
//! processes share the store, and both serve each browser.
//!
//! The seed decides everything: what browsers do, how long it takes, when the clock jumps, which store call is late or
//! fails. `SEED=n` repeats one seed, `SEEDS=n` runs so many seeds from `FIRST_SEED` on.
#![allow(missing_docs)]

mod app;
mod model;
mod store;

use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, Error, web};
use databag_tests::Random;
use session_runtime::{Cleanup, Keyring, SessionMiddleware, Sessions, Token};
use tokio::time::Instant;

use self::app::{Begun, Sim, Task};
use self::model::{Answer, Kind, Millis, Model, Request};
use self::store::{Broken, SimStore};

const BROWSERS: usize = 4;
const PROCESSES: usize = 2;
const REQUESTS: u64 = 200;
const MINUTES: u64 = 10;
/// The first time on the server's clock.
const BEGINNING: Millis = 1_700_000_000_000;
const KEY: &str = "5f0c9a1e7d3b48266e91c4f87a2d50b3e8164c9f03a7d5be21946f8c7b3ad0e5";

/// How long the work of a disconnected browser may continue.
const AFTERMATH: Duration = Duration::from_secs(10);
/// How long after a late or failed call no request waits for it any more.
const RECOVERY: Duration = Duration::from_secs(5);

/// The result of a seed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    violations: Vec<String>,
    /// Every request and its answer, if requested.
    trace: Vec<String>,
}

/// Runs one seed and returns the violations.
fn simulate(seed: u64, broken: Option<Broken>) -> Vec<String> {
    trace(seed, broken, false).violations
}

/// Runs one seed and returns the violations and, if requested, all answers.
fn trace(seed: u64, broken: Option<Broken>, keep_trace: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.expect("a runtime"), run(seed, broken, keep_trace))
}

/// The servers' clock: the simulated time and its offset.
#[derive(Clone)]
struct Watch {
    began: Instant,
    off: Arc<AtomicI64>,
    /// The view of each process.
    seen: Arc<Mutex<[Seen; PROCESSES]>>,
    /// How often it was set back.
    set_back: Arc<AtomicU64>,
}

/// The clock as a process has seen it.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// The latest time that the process may assume: it does not follow a clock far behind this.
    latest: Millis,
    /// When the process read the clock last.
    looked: Duration,
}

impl Watch {
    fn passed(&self) -> Duration {
        self.began.elapsed()
    }

    fn shown(&self) -> Millis {
        let since = millis(self.passed()).cast_signed() + self.off.load(Ordering::Relaxed);
        BEGINNING.checked_add_signed(since).expect("this century")
    }

    /// A process reads the clock. If the clock is behind by more than a minute, time continues for the process.
    fn look(&self, process: usize) -> Millis {
        let (shown, passed) = (self.shown(), self.passed());
        let Seen { latest, looked } = &mut self.seen()[process];
        let expected = *latest + millis(passed.saturating_sub(*looked));
        let behind = expected.saturating_sub(shown) > 60_000;
        (*latest, *looked) = (if behind { expected } else { shown.max(*latest) }, passed);
        shown
    }

    fn latest(&self) -> Millis {
        self.seen().iter().map(|seen| seen.latest).max().unwrap_or_default()
    }

    fn seen(&self) -> MutexGuard<'_, [Seen; PROCESSES]> {
        self.seen.lock().expect("no thread panics while it reads the clock")
    }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).expect("ten minutes")
}

/// The state that all browsers of a simulation share.
struct World<S> {
    /// Each process serves the same application from the same store, without knowledge of the other.
    processes: Vec<(S, Sessions<Sim>)>,
    store: SimStore,
    model: RefCell<Model>,
    watch: Watch,
    begun: web::Data<Begun>,
    number: AtomicU64,
    trace: Option<RefCell<Vec<String>>>,
}

async fn run(seed: u64, broken: Option<Broken>, keep_trace: bool) -> Run {
    let mut random = Random::new(seed);
    let chance = match broken {
        Some(Broken::Unseeded) => Random::new(RandomState::new().hash_one(seed)),
        _ => random.fork(),
    };
    let store = SimStore::new(chance, broken);
    let watch =
        Watch { began: Instant::now(), off: Arc::default(), seen: Arc::default(), set_back: Arc::default() };
    let begun = web::Data::new(Begun::new(watch.clone()));
    let mut processes = Vec::new();
    for number in 0..PROCESSES {
        let sessions = process(number, store.clone(), watch.clone(), random.next(), broken).await;
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .app_data(begun.clone())
            .configure(app::routes);
        processes.push((init_service(app).await, sessions));
    }
    let world = Rc::new(World {
        processes,
        store: store.clone(),
        model: RefCell::default(),
        watch: watch.clone(),
        begun,
        number: AtomicU64::new(0),
        trace: keep_trace.then(RefCell::default),
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
    let faults = tokio::task::spawn_local(inject_faults(store.clone(), watch, random.fork()));
    for browser in browsers {
        browser.await.expect("a browser does not panic");
    }
    faults.abort();
    let mut violations = world.model.borrow().violations.clone();
    violations.extend(store.violations());
    let trace = world.trace.as_ref().map(RefCell::take).unwrap_or_default();
    Run { violations, trace }
}

/// Builds the sessions of one process.
async fn process(
    number: usize,
    store: SimStore,
    watch: Watch,
    seed: u64,
    broken: Option<Broken>,
) -> Sessions<Sim> {
    let clock = move || {
        let shown = watch.look(number);
        let shown = if broken == Some(Broken::ClockStopped) { BEGINNING } else { shown };
        SystemTime::UNIX_EPOCH + Duration::from_millis(shown)
    };
    let tokens = AtomicU64::new(seed);
    let token = move || {
        let mut tokens = Random::new(tokens.fetch_add(1, Ordering::Relaxed));
        let mut token = [0; 32];
        for part in token.chunks_exact_mut(8) {
            part.copy_from_slice(&tokens.next().to_le_bytes());
        }
        token
    };
    let builder = Sessions::<Sim>::builder(store);
    let builder = match broken {
        Some(Broken::ExpiryIgnored | Broken::StuckExpiration) => builder.danger_plaintext(),
        _ => builder.keyring(Keyring::parse(KEY).expect("a key")),
    };
    builder
        .cleanup(Cleanup::Every(Duration::from_mins(1)))
        .clock(clock)
        .token_source(token)
        .build()
        .await
        .expect("nothing is called yet")
}

/// Lets the store and the clock fail for a while, repeatedly.
async fn inject_faults(store: SimStore, watch: Watch, mut random: Random) {
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
    /// All its tokens, for replays.
    all: Vec<String>,
}

/// The operations of tabs; each is as frequent as it is listed.
const KINDS: [Kind; 18] = [
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
    Kind::Both,
    Kind::Save,
    Kind::HastySave,
    Kind::HastyUpdate,
    Kind::LogIn,
    Kind::LogOut,
    Kind::Rotate,
    Kind::Revoke,
];
/// The operations in flight when a session ends or expires.
const COMPANIONS: [Kind; 7] =
    [Kind::Rotate, Kind::Rotate, Kind::LogIn, Kind::Add, Kind::Count, Kind::Both, Kind::Save];

/// Sends requests with pauses until the time is over.
async fn browse<S, B>(world: Rc<World<S>>, jar: Rc<RefCell<Jar>>, browser: usize, mut random: Random)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let tabs = 2 * BROWSERS as u64;
    let pause = MINUTES * 60_000 * tabs / REQUESTS;
    let mut left = REQUESTS / tabs;
    while left > 0 {
        left -= 1;
        // Bursts, and pauses long enough for a session to expire.
        let wait = if random.percent(60) { random.below(200) } else { random.below(5 * pause) };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let mut token = jar.borrow().token.clone();
        let mut kind = *random.pick(&KINDS);
        let mut companion = None;
        let mut takes = if random.percent(20) { random.below(3_000) } else { random.below(20) };
        if random.percent(10) && !jar.borrow().all.is_empty() {
            // A replayed token.
            token = Some(random.pick(&jar.borrow().all).clone());
            kind = Kind::Read;
        } else if random.percent(5) {
            // A slow request of a session that is about to expire.
            let edge = token.as_ref().and_then(|token| world.model.borrow().edge(token)).unwrap_or(0);
            let until = edge.saturating_sub(world.watch.shown() + random.below(2_000));
            tokio::time::sleep(Duration::from_millis(until)).await;
            kind = *random.pick(&COMPANIONS);
            takes = random.below(4_000);
            // Another request may extend it.
            companion =
                random.percent(50).then(|| (*random.pick(&[Kind::Read, Kind::Add]), random.below(20)));
        } else if matches!(kind, Kind::LogOut | Kind::Revoke) && random.percent(70) {
            // A log-out or a revocation has another request in flight, which ends before or after it.
            let longest = if random.percent(50) { 40 } else { 3_000 };
            companion = Some((*random.pick(&COMPANIONS), random.below(longest)));
        }
        let errand = Errand::by(&mut random, kind, takes, browser, token.clone());
        if let Some((kind, takes)) = companion.filter(|_| left > 0) {
            left -= 1;
            let companion = Errand::by(&mut random, kind, takes, browser, token);
            tokio::join!(exchange(&world, &jar, errand), exchange(&world, &jar, companion));
        } else {
            exchange(&world, &jar, errand).await;
        }
    }
}

/// A request before it is sent.
struct Errand {
    kind: Kind,
    takes: u64,
    patience: u64,
    browser: usize,
    process: usize,
    token: Option<String>,
    /// When the browser stops waiting for the answer.
    hangs_up: Option<Duration>,
}

impl Errand {
    fn by(random: &mut Random, kind: Kind, takes: u64, browser: usize, token: Option<String>) -> Self {
        let process = usize::from(random.percent(50));
        let patience = if random.percent(50) { random.below(12) } else { random.below(3_000) };
        let hangs_up = random.percent(3).then(|| Duration::from_millis(takes + random.below(30)));
        Self { kind, takes, patience, browser, process, token, hangs_up }
    }
}

/// Sends a request and checks the answer.
async fn exchange<S, B>(world: &Rc<World<S>>, jar: &RefCell<Jar>, errand: Errand)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let number = world.number.fetch_add(1, Ordering::Relaxed) + 1;
    let (kind, takes, patience, user) = (errand.kind, errand.takes, errand.patience, errand.browser as u64);
    let what = (kind, errand.browser, errand.process);
    let request = world.model.borrow_mut().begin(number, what, errand.token, world.watch.shown());
    let task = Task { number, takes, patience, user };
    let set_back = world.watch.set_back.load(Ordering::Relaxed);
    let began = Instant::now();
    let answer = match errand.hangs_up {
        Some(after) => tokio::time::timeout(after, send(world, &request, &task)).await.ok(),
        None => Some(send(world, &request, &task).await),
    };
    let Some(mut answer) = answer else {
        // The work that it has started continues for a while.
        let world = world.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(AFTERMATH).await;
            let set_back = set_back != world.watch.set_back.load(Ordering::Relaxed);
            world.learn(&request, &Answer { set_back, ..Answer::default() });
        });
        return;
    };
    answer.set_back = set_back != world.watch.set_back.load(Ordering::Relaxed);
    answer.handled |= world.begun.handled(number);
    answer.wrote = world.begun.wrote(number);
    answer.calm = began.checked_sub(RECOVERY).is_some_and(|since| world.store.was_well_since(since));
    world.learn(&request, &answer);
    let mut jar = jar.borrow_mut();
    if let Some(set) = answer.set {
        jar.token = (!set.is_empty()).then_some(set);
        let fresh = jar.token.clone();
        jar.all.extend(fresh);
    }
}

impl<S> World<S> {
    fn learn(&self, request: &Request, answer: &Answer) {
        if let Some(trace) = &self.trace {
            let line = format!("{} {request:?}\n{} {answer:?}", request.shown, self.watch.shown());
            trace.borrow_mut().push(line);
        }
        self.model.borrow_mut().end(request, answer, self.watch.latest(), self.watch.passed());
    }
}

async fn send<S, B>(world: &World<S>, request: &Request, task: &Task) -> Answer
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let path = match request.kind {
        Kind::Revoke => return revoke(world, request, task).await,
        Kind::Read => "/read",
        Kind::Peek => "/peek",
        Kind::Add => "/add",
        Kind::Count => "/count",
        Kind::Sum => "/sum",
        Kind::Both => "/both",
        Kind::Save => "/save",
        Kind::HastySave => "/hasty_save",
        Kind::HastyUpdate => "/hasty_update",
        Kind::LogIn => "/login",
        Kind::LogOut => "/logout",
        Kind::Rotate => "/rotate",
    };
    let Task { number, takes, patience, user } = task;
    let uri = format!("{path}?number={number}&takes={takes}&patience={patience}&user={user}");
    let reads = matches!(request.kind, Kind::Read | Kind::Peek);
    let mut http = if reads { TestRequest::get() } else { TestRequest::post() }.uri(&uri);
    if let Some(token) = &request.token {
        http = http.insert_header(("Cookie", format!("__Host-sim={token}")));
    }
    let response = match world.processes[request.process].0.call(http.to_request()).await {
        Ok(response) => response,
        Err(error) => panic!("the service failed: {error}"),
    };
    let status = Some(response.status().as_u16());
    let set = response.headers().get("Set-Cookie").and_then(|set| set.to_str().ok());
    let set = set.and_then(|set| Some(set.strip_prefix("__Host-sim=")?.split(';').next()?.to_owned()));
    let view = serde_json::from_slice(&read_body(response).await).ok();
    Answer { status, set, view, ..Answer::default() }
}

/// Ends the session of the request's token by its id, as from a list of devices.
async fn revoke<S>(world: &World<S>, request: &Request, task: &Task) -> Answer {
    tokio::time::sleep(Duration::from_millis(task.takes)).await;
    let token = request.token.as_deref().and_then(Token::parse);
    let status = match token {
        None => 204,
        Some(token) => match world.processes[request.process].1.delete(token.session_id()).await {
            Ok(true) => 204,
            // It is gone, or has another id: no session was ended.
            Ok(false) => 409,
            Err(_) => 503,
        },
    };
    Answer { status: Some(status), handled: true, ..Answer::default() }
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
        let Run { violations, trace } = trace(seed, None, count == 1);
        for line in trace {
            eprintln!("{line}");
        }
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
    for seed in 1..20 {
        // Runs with failures show the most.
        for broken in [None, Some(Broken::NoCompare)] {
            let (run, again) = (trace(seed, broken, true), trace(seed, broken, true));
            assert!(run.trace.len() > 150, "it tells of {} requests", run.trace.len());
            for (one, other) in run.trace.iter().zip(&again.trace) {
                assert_eq!(one, other, "SEED={seed}");
            }
            assert!(run == again, "SEED={seed}");
        }
    }
}

#[test]
fn a_run_that_depends_on_more_than_its_seed_is_found_out() {
    let run = || trace(1, Some(Broken::Unseeded), true);
    assert!(run() != run());
}

/// Returns whether some seed shows a violation.
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
fn a_store_that_fails_without_reason_is_found_out() {
    assert!(is_found_out(Broken::Sulky, "while the store was well"));
}

#[test]
fn a_store_that_answers_a_stored_write_as_a_conflict_is_found_out() {
    assert!(is_found_out(Broken::FalseConflict, "has made changes twice"));
}

#[test]
fn a_store_that_acknowledges_before_it_writes_is_found_out() {
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
fn a_store_cannot_ignore_the_expiry_of_sealed_rows() {
    // The expiration is sealed with the row: a live session is rejected, and a wrong expiration admits no request.
    let violations: Vec<_> = (1..=20).flat_map(|seed| simulate(seed, Some(Broken::ExpiryForged))).collect();
    assert!(violations.iter().any(|violation| violation.contains("which lives")));
    assert!(!violations.iter().any(|violation| violation.contains("which had expired")), "{violations:#?}");
}

#[test]
fn a_server_that_checks_no_expiration_is_found_out() {
    assert!(is_found_out(Broken::ClockStopped, "which had expired"));
}
