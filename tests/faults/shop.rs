//! The application, its visitors, and what they check.
//!
//! A visitor sends one request after another and knows what was acknowledged. An answer of 200 contains the session as the
//! request read it, so every answer checks all that was acknowledged before. A visitor is answered 200 or 503.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::cookie::Cookie;
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use databag_tests::{Client, Jar, Random, Reply};
use serde::{Deserialize, Serialize};
use session_runtime::{
    AnyStore, Cleanup, Databag, Error, Keyring, RedisStore, Session, SessionMiddleware, SessionRef, Sessions,
};

use crate::clock::now;

/// How long a request may wait for the store.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// How much later an answer may come on a busy machine. It is less than a second deadline.
pub(crate) const MARGIN: Duration = Duration::from_millis(900);

#[derive(Databag)]
#[databag(table = "faults", cookie = "__Host-fault")]
struct Bag {
    #[databag(user_id)]
    user_id: Option<i64>,
    /// Changed plainly: each write adds its tag.
    written: BTreeSet<u64>,
    /// Changed by `update` alone: each adds its tag at the end.
    counted: Vec<u64>,
}

/// The session as a request read it, before its change.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    is_new: bool,
    user: Option<i64>,
    written: BTreeSet<u64>,
    counted: Vec<u64>,
}

impl Seen {
    fn of(is_new: bool, bag: &Bag) -> Self {
        Self { is_new, user: bag.user_id, written: bag.written.clone(), counted: bag.counted.clone() }
    }
}

/// What a visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    Read,
    Write,
    Update,
    LogIn,
    Rotate,
    LogOut,
}

impl Act {
    pub(crate) const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Update, Self::LogIn, Self::Rotate, Self::LogOut];
}

/// A promise that an application can break. The visitors must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// One write in 30 is acknowledged and not made.
    Forgets,
    /// One `update` in 30 is made twice.
    CountsTwice,
    /// A log-out is acknowledged and not made.
    SkipsLogOut,
    /// One page in 30 is shown as to a stranger.
    ForgetsVisitor,
    /// One request in 30 waits twice for the deadline.
    Late,
    /// One request in 30 is answered 500.
    Fails,
}

async fn read(session: SessionRef<Bag>, broken: web::Data<Option<Broken>>) -> HttpResponse {
    let mut seen = Seen::of(session.is_new(), &session);
    if breaks(**broken, Broken::ForgetsVisitor) {
        seen = Seen { is_new: true, ..Seen::default() };
    }
    HttpResponse::Ok().json(seen)
}

/// `/{act}/{user}/{tag}`
async fn act(
    mut session: Session<Bag>,
    path: web::Path<(Act, i64, u64)>,
    broken: web::Data<Option<Broken>>,
) -> Result<HttpResponse, Error> {
    let (act, user, tag) = path.into_inner();
    let mut answer = HttpResponse::Ok();
    let seen = Seen::of(session.is_new(), &session);
    if breaks(**broken, Broken::Late) {
        tokio::time::sleep(2 * DEADLINE).await;
    }
    if breaks(**broken, Broken::Fails) {
        answer = HttpResponse::InternalServerError();
    }
    match act {
        Act::Read => {}
        Act::Write if breaks(**broken, Broken::Forgets) => {}
        Act::Write => drop(session.written.insert(tag)),
        Act::Update => {
            let times = if breaks(**broken, Broken::CountsTwice) { 2 } else { 1 };
            session.update(|bag| bag.counted.extend(std::iter::repeat_n(tag, times))).await?;
        }
        Act::LogIn => session.log_in(user),
        Act::Rotate => session.rotate(),
        Act::LogOut if **broken == Some(Broken::SkipsLogOut) => {
            let mut cookie = Cookie::build("__Host-fault", "").path("/").secure(true).finish();
            cookie.make_removal();
            answer.cookie(cookie);
        }
        Act::LogOut => session.log_out(),
    }
    Ok(answer.json(seen))
}

/// Returns whether this is the one time in 30.
fn breaks(planted: Option<Broken>, promise: Broken) -> bool {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    planted == Some(promise) && TIMES.fetch_add(1, Ordering::Relaxed) % 30 == 29
}

/// A running application.
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    server: ServerHandle,
}

impl Shop {
    /// Starts the application with the store that a URL names.
    pub(crate) async fn open(url: &str, near_cache: Option<Duration>, broken: Option<Broken>) -> Self {
        count_panics();
        let store = match near_cache {
            Some(max_age) => {
                RedisStore::connect(url).await.map(|store| AnyStore::from(store.near_cache(max_age)))
            }
            None => AnyStore::connect(url).await,
        };
        let store = store.expect("the server answers");
        let builder = Sessions::<Bag>::builder(store).keyring(keys()).cleanup(Cleanup::Never);
        let sessions = builder.deadline(DEADLINE).build().await.expect("good settings");
        let server = HttpServer::new(move || {
            App::new()
                .wrap(SessionMiddleware::new(sessions.clone()))
                .app_data(web::Data::new(broken))
                .route("/Read/{user}/{tag}", web::post().to(read))
                .route("/{act}/{user}/{tag}", web::post().to(act))
        });
        // An idle visitor keeps the connection.
        let server = server.workers(2).keep_alive(Duration::from_hours(1)).disable_signals();
        let server = server.bind("127.0.0.1:0").expect("a free port");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { address, server: handle }
    }

    pub(crate) async fn close(self) {
        self.server.stop(false).await;
    }
}

fn keys() -> Keyring {
    Keyring::generate()
}

/// Returns whether a new program can use the store that a URL names.
pub(crate) async fn is_up(url: &str) -> bool {
    let Ok(store) = AnyStore::connect(url).await else { return false };
    match Sessions::<Bag>::builder(store).keyring(keys()).cleanup(Cleanup::Never).build().await {
        Ok(sessions) => sessions.health().await.is_ok(),
        Err(_) => false,
    }
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of panics so far, without those of the tests.
pub(crate) fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|at| at.file().starts_with("tests/")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            report(panic);
        }));
    });
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum User {
    #[default]
    Nobody,
    SignedIn,
    /// A log-in was not acknowledged.
    Unknown,
}

/// What a visitor knows of the present session.
#[derive(Debug, Default)]
struct Expected {
    /// A change was acknowledged.
    exists: bool,
    user: User,
    /// Tags that were acknowledged, or have been seen.
    written: BTreeSet<u64>,
    counted: BTreeSet<u64>,
    /// Tags of changes that were not acknowledged.
    unacknowledged: BTreeSet<u64>,
    /// The first change of the id that was not acknowledged.
    id_change: Option<String>,
    /// A change of the id was not acknowledged by the deadline: the store could not be asked in time what became of it.
    may_have_moved: bool,
}

/// What the answers were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answers: usize,
    pub(crate) unavailable: usize,
    /// Of these, how many before the deadline.
    pub(crate) early: usize,
    /// Visitors whose session has another id since a change of it was not acknowledged by the deadline.
    pub(crate) moved: usize,
    pub(crate) slowest: Duration,
    pub(crate) last_unavailable: Option<Duration>,
}

/// A visitor with one tab.
pub(crate) struct Visitor {
    client: Client,
    jar: Jar,
    user: i64,
    tag: u64,
    random: Random,
    expected: Expected,
    /// The cookies of sessions that have ended.
    ended: Vec<String>,
    pub(crate) tally: Tally,
    /// What was wrong.
    pub(crate) wrong: Vec<String>,
}

impl Visitor {
    pub(crate) fn new(shop: SocketAddr, user: i64, random: Random) -> Self {
        let jar = Jar::default();
        Self {
            client: Client::new(shop, jar.clone()),
            jar,
            user,
            tag: 0,
            random,
            expected: Expected::default(),
            ended: Vec::new(),
            tally: Tally::default(),
            wrong: Vec::new(),
        }
    }

    pub(crate) fn is_signed_in(&self) -> bool {
        self.expected.user == User::SignedIn
    }

    /// Chooses what to do.
    pub(crate) fn plan(&mut self) -> Act {
        const PLAN: [Act; 12] = [
            Act::Read,
            Act::Read,
            Act::Write,
            Act::Write,
            Act::Write,
            Act::Update,
            Act::Update,
            Act::Update,
            Act::LogIn,
            Act::Rotate,
            Act::Rotate,
            Act::LogOut,
        ];
        if self.is_signed_in() { *self.random.pick(&PLAN) } else { Act::LogIn }
    }

    /// Sends a request and checks its answer; returns whether it was 200.
    pub(crate) async fn act(&mut self, act: Act) -> bool {
        self.tag += 1;
        let (tag, cookie, begun) = (self.tag, self.jar.cookie(), now());
        let reply = self.send(act).await;
        match reply.status {
            200 => match serde_json::from_str(&reply.body) {
                Ok(seen) => {
                    self.check(act, &seen);
                    self.acknowledged(act, tag);
                }
                Err(error) => self.wrong.push(format!("{act:?} was answered {:?}: {error}", reply.body)),
            },
            503 => self.unacknowledged(act, tag, now().saturating_sub(begun)),
            status => self.wrong.push(format!("{act:?} {tag} was answered {status}")),
        }
        let is_over = act == Act::LogOut && reply.status == 200;
        match (cookie, self.jar.cookie()) {
            (Some(old), None) if act == Act::LogOut => self.ended.push(old),
            // The session was lost before: an unknown cookie stays.
            (Some(old), Some(_)) if is_over => self.ended.push(old),
            (Some(_), None) => self.wrong.push(format!("{act:?} {tag} removed the cookie")),
            (_, Some(_)) => return reply.status == 200,
            (None, None) => {}
        }
        self.expected = Expected::default();
        reply.status == 200
    }

    async fn send(&mut self, act: Act) -> Reply {
        let begun = now();
        let reply = self.client.post(&format!("/{act:?}/{}/{}", self.user, self.tag)).await;
        let took = now().saturating_sub(begun);
        let tally = &mut self.tally;
        tally.answers += 1;
        tally.slowest = tally.slowest.max(took);
        if reply.status == 503 {
            tally.unavailable += 1;
            tally.early += usize::from(took < DEADLINE);
            tally.last_unavailable = Some(now());
        }
        if took > DEADLINE + MARGIN {
            self.wrong.push(format!("{act:?} {} was answered after {took:?}", self.tag));
        }
        reply
    }

    /// Compares what a request read with what was acknowledged before.
    fn check(&mut self, act: Act, seen: &Seen) {
        let (name, expected) = (format!("{act:?} {}", self.tag), &mut self.expected);
        let counted: BTreeSet<u64> = seen.counted.iter().copied().collect();
        let is_stranger =
            expected.exists && seen.is_new || expected.user == User::SignedIn && seen.user.is_none();
        if is_stranger && std::mem::take(&mut expected.may_have_moved) {
            self.tally.moved += 1;
        } else if is_stranger {
            let cause = expected.id_change.take().unwrap_or_default();
            self.wrong.push(format!("{name} is shown as anonymous{cause}"));
        } else {
            for tag in expected.written.difference(&seen.written).chain(expected.counted.difference(&counted))
            {
                self.wrong.push(format!("{name} has lost {tag}, which was acknowledged"));
            }
        }
        if counted.len() < seen.counted.len() {
            self.wrong.push(format!("{name} counts twice: {:?}", seen.counted));
        }
        let known: BTreeSet<u64> = &(&expected.written | &expected.counted) | &expected.unacknowledged;
        let is_of_another = seen.user.is_some_and(|user| user != self.user || expected.user == User::Nobody);
        if is_of_another || seen.written.union(&counted).any(|tag| !known.contains(tag)) {
            self.wrong.push(format!("{name} is shown another session: {seen:?}"));
        }
        // What was wrong once is reported once.
        expected.exists = !seen.is_new;
        expected.user = if seen.user.is_some() { User::SignedIn } else { User::Nobody };
        expected.unacknowledged.retain(|tag| !seen.written.contains(tag) && !counted.contains(tag));
        (expected.written, expected.counted) = (seen.written.clone(), counted);
    }

    fn acknowledged(&mut self, act: Act, tag: u64) {
        match act {
            Act::Write => drop(self.expected.written.insert(tag)),
            Act::Update => drop(self.expected.counted.insert(tag)),
            Act::LogIn => self.expected.user = User::SignedIn,
            Act::Read | Act::Rotate | Act::LogOut => {}
        }
        // A rotation creates no session.
        self.expected.exists |= matches!(act, Act::Write | Act::Update | Act::LogIn);
        if matches!(act, Act::LogIn | Act::Rotate) {
            (self.expected.id_change, self.expected.may_have_moved) = (None, false);
        }
    }

    fn unacknowledged(&mut self, act: Act, tag: u64, took: Duration) {
        if matches!(act, Act::LogIn | Act::Rotate) {
            let cause = || format!(", after {act:?} {tag} was answered 503 within {took:.2?}");
            self.expected.id_change.get_or_insert_with(cause);
            self.expected.may_have_moved |= took >= DEADLINE * 9 / 10;
        }
        match act {
            Act::Write | Act::Update => drop(self.expected.unacknowledged.insert(tag)),
            Act::LogIn if self.expected.user == User::Nobody => self.expected.user = User::Unknown,
            Act::Read | Act::LogIn | Act::Rotate | Act::LogOut => {}
        }
    }

    /// Checks that ended sessions stay ended.
    pub(crate) async fn replay(&mut self) {
        for cookie in &self.ended {
            self.client.use_jar(Jar::of(cookie.clone()));
            let reply = self.client.post(&format!("/Read/{}/{}", self.user, self.tag)).await;
            let is_open = serde_json::from_str::<Seen>(&reply.body).is_ok_and(|seen| !seen.is_new);
            if reply.status == 200 && is_open {
                self.wrong.push("a log-out came back".to_owned());
            }
        }
        self.client.use_jar(self.jar.clone());
    }
}
