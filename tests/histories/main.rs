//! Histories of real concurrent requests over HTTP, and a checker of their answers.
//!
//! Browsers with several tabs each set, update, log in, log out, rotate and revoke, over a real server with
//! several workers and a database file; every second worker has `Sessions` of its own on the file, as another
//! process has. A *life* is a session from its first request to its end, under all its ids. The checker knows
//! the start and the end of each request, and what it read:
//!
//! - a request reads everything that was acknowledged before it started, and all of it is stored at the end;
//! - no change is stored twice, no refused change is stored, and none of another browser;
//! - no request that starts after the end of a life reads it, and it has no row;
//! - a life that was not ended has one row.
//!
//! `HISTORIES=n` is the number of histories; `HISTORY=n` runs the operations of that one a hundred times.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use databag_tests::{Client, Jar, Random};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use session_runtime::store::{Outcome, Update};
use session_runtime::{
    Cleanup, Databag, Directory, Durability, Error, Keyring, Session, SessionMiddleware, Sessions,
    SqliteStore, Store, StoreError,
};

#[derive(Databag)]
#[databag(cookie = "__Host-history")]
struct Bag {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(column, index)]
    history: u64,
    life: u64,
    browser: u64,
    /// Set by plain requests: each adds its tag to all three.
    marks: BTreeSet<u64>,
    #[databag(merge = "append")]
    log: Vec<u64>,
    #[databag(merge = "sum")]
    sum: u64,
    /// Changed by `update` alone.
    updates: Vec<u64>,
    count: u64,
}

/// The session as a request read it before its change, or as a row holds it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Seen {
    life: u64,
    browser: u64,
    user: Option<i64>,
    marks: BTreeSet<u64>,
    log: Vec<u64>,
    sum: u64,
    updates: Vec<u64>,
    count: u64,
}

impl Seen {
    fn of(bag: &Bag) -> Self {
        Self {
            life: bag.life,
            browser: bag.browser,
            user: bag.user_id,
            marks: bag.marks.clone(),
            log: bag.log.clone(),
            sum: bag.sum,
            updates: bag.updates.clone(),
            count: bag.count,
        }
    }
}

static LIVES: AtomicU64 = AtomicU64::new(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Set,
    Update,
    LogIn,
    LogOut,
    Rotate,
    Revoke,
    Look,
}

const ACTS: [Act; 16] = [
    Act::Set,
    Act::Set,
    Act::Set,
    Act::Set,
    Act::Set,
    Act::Update,
    Act::Update,
    Act::Update,
    Act::Update,
    Act::LogIn,
    Act::LogIn,
    Act::Rotate,
    Act::Look,
    Act::Look,
    Act::LogOut,
    Act::Revoke,
];

/// `/{act}/{history}/{browser}/{tag}`
type Order = web::Path<(usize, u64, u64, u64)>;

async fn act(
    mut session: Session<Bag>,
    order: Order,
    sessions: Sessions<Bag>,
) -> Result<HttpResponse, Error> {
    let (act, history, browser, tag) = order.into_inner();
    let act = ACTS[act];
    if session.is_new() && matches!(act, Act::Set | Act::Update | Act::LogIn | Act::Rotate) {
        session.life = LIVES.fetch_add(1, Ordering::Relaxed);
        session.browser = browser;
        session.set_history(history);
    }
    let seen = Seen::of(&session);
    match act {
        Act::Set => {
            session.marks.insert(tag);
            session.log.push(tag);
            session.sum += 1;
            tokio::task::yield_now().await;
        }
        Act::Update => {
            session
                .update(|bag| {
                    bag.updates.push(tag);
                    bag.count += 1;
                })
                .await?;
        }
        Act::LogIn => session.log_in(user(browser)),
        Act::LogOut => session.log_out(),
        Act::Rotate => session.rotate(),
        Act::Revoke => {
            // The revocation comes from outside of the session.
            drop(session);
            sessions.revoke_user(user(browser)).await?;
        }
        Act::Look => {}
    }
    Ok(HttpResponse::Ok().json(seen))
}

fn user(browser: u64) -> i64 {
    i64::try_from(browser).expect("not so many")
}

/// A promise that a store can break. The checker must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A row that is gone is written all the same.
    Upsert,
    /// A row is written whatever its revision is.
    NoCompare,
    /// A rotation inserts the new row and keeps the old one.
    KeepOld,
    /// One write in twenty is acknowledged and not made.
    Forget,
}

/// A store on a file, with or without a fault.
#[derive(Clone)]
struct Planted {
    store: SqliteStore,
    fault: Fault,
    writes: Arc<AtomicUsize>,
}

impl Store for Planted {
    databag_tests::forward!(store: prepare, load, insert, delete, prune);

    async fn update(&self, mut update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        match self.fault {
            Fault::Upsert => {
                let row = update.row.clone();
                return match self.store.update(update, deadline).await? {
                    Outcome::Gone => self.store.insert(row, deadline).await.map(|()| Outcome::Stored),
                    outcome => Ok(outcome),
                };
            }
            Fault::NoCompare => {
                if let Some(row) = self.store.load(update.id, deadline).await? {
                    update.expected = row.revision;
                }
            }
            Fault::KeepOld if update.row.id != update.id => {
                self.store.insert(update.row, deadline).await?;
                return Ok(Outcome::Stored);
            }
            Fault::None | Fault::KeepOld => {}
            Fault::Forget => {
                if self.writes.fetch_add(1, Ordering::Relaxed) % 20 == 19 {
                    return Ok(Outcome::Stored);
                }
            }
        }
        self.store.update(update, deadline).await
    }
}

impl Directory for Planted {
    databag_tests::forward!(store: find, count, remove, health);
}

/// One server for many histories.
struct World {
    sessions: Sessions<Bag>,
    server: ServerHandle,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

async fn world(fault: Fault) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("histories.db")).expect("a database");
    let store =
        Planted { store: store.durability(Durability::Normal), fault, writes: Arc::new(AtomicUsize::new(0)) };
    let key = Keyring::generate_text();
    let mut processes = Vec::new();
    for _ in 0..2 {
        let builder = Sessions::<Bag>::builder(store.clone())
            .keyring(Keyring::parse(&key).expect("a key"))
            .cleanup(Cleanup::Never)
            .deadline(Duration::from_secs(30));
        processes.push(builder.build().await.expect("good settings"));
    }
    let sessions = processes[0].clone();
    let next = Arc::new(AtomicUsize::new(0));
    let server = HttpServer::new(move || {
        let process = &processes[next.fetch_add(1, Ordering::Relaxed) % processes.len()];
        App::new()
            .wrap(SessionMiddleware::new(process.clone()))
            .app_data(web::Data::new(process.clone()))
            .route("/{act}/{history}/{browser}/{tag}", web::post().to(act))
    })
    .workers(4)
    // An idle tab keeps its connection.
    .keep_alive(Duration::from_hours(1))
    .disable_signals()
    .bind("127.0.0.1:0")
    .expect("a free port");
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    World { sessions, server: handle, address, _folder: folder }
}

/// An answered request, with its start and its end in the order of the clients.
#[derive(Clone, Debug)]
struct Event {
    act: Act,
    browser: u64,
    tag: u64,
    began: u64,
    ended: u64,
    /// What it read, if the answer was 200.
    seen: Option<Seen>,
}

/// Runs one history; returns its number of requests and the violations.
async fn history(world: &World, clients: &mut Vec<Client>, name: u64, number: u64) -> (usize, Vec<String>) {
    let mut random = Random::new(number);
    // Small histories find faults as well and faster; some are large.
    let count = 2 + (0..3).map(|_| random.below(63)).min().unwrap_or_default();
    let tabs = 1 + random.below(count.min(8));
    let moment = Cell::new(0_u64);
    let now = || {
        moment.set(moment.get() + 1);
        moment.get()
    };
    let (events, wrong) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let browsers: Rc<RefCell<BTreeMap<u64, Jar>>> = Rc::default();
    while (clients.len() as u64) < count {
        clients.push(Client::new(world.address, Jar::default()));
    }
    let plans: Vec<_> = (0..count)
        .map(|client| {
            let operations = 10 + random.below(41).min(random.below(41));
            let acts: Vec<_> = (0..operations).map(|_| random.below(ACTS.len() as u64)).collect();
            // Browsers and tags have different numbers in each history.
            (name * 64 + client / tabs, client, acts)
        })
        .collect();
    let run = clients.iter_mut().zip(&plans).map(async |(client, (browser, number, acts))| {
        client.use_jar(browsers.borrow_mut().entry(*browser).or_default().clone());
        for (turn, chosen) in acts.iter().enumerate() {
            let act = ACTS[usize::try_from(*chosen).expect("an index")];
            let tag = (browser * 64 + number) * 64 + turn as u64;
            let began = now();
            let reply = client.post(&format!("/{chosen}/{name}/{browser}/{tag}")).await;
            let seen = match reply.status {
                200 => Some(serde_json::from_str(&reply.body).expect("what was seen")),
                409 => None,
                status => {
                    wrong.borrow_mut().push(format!("{act:?} was answered {status}"));
                    continue;
                }
            };
            let event = Event { act, browser: *browser, tag, began, ended: now(), seen };
            events.borrow_mut().push(event);
        }
    });
    join_all(run).await;
    let rows = world.sessions.find(Bag::HISTORY.eq(name)).await.expect("the store answers");
    let rows: Vec<_> = rows.iter().map(|row| Seen::of(row)).collect();
    world.sessions.find(Bag::HISTORY.eq(name)).delete().await.expect("the store answers");
    let (events, mut wrong) = (events.into_inner(), wrong.into_inner());
    check(&events, &rows, &mut wrong);
    (events.len(), wrong)
}

/// The course of a life.
#[derive(Default)]
struct Life {
    /// When it had certainly ended.
    ended: Option<u64>,
    /// Whether a request may have ended it.
    may_have_ended: bool,
    /// The acknowledged changes, and when.
    acknowledged: Vec<(Act, u64, u64)>,
}

fn check(events: &[Event], rows: &[Seen], wrong: &mut Vec<String>) {
    let mut lives: BTreeMap<u64, Life> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for event in events {
        let Some(seen) = &event.seen else {
            refused.insert(event.tag);
            continue;
        };
        if seen.life == 0 {
            continue;
        }
        let life = lives.entry(seen.life).or_default();
        match event.act {
            Act::Set | Act::Update | Act::LogIn | Act::Rotate => {
                life.acknowledged.push((event.act, event.tag, event.ended));
            }
            Act::LogOut => life.ended = Some(life.ended.map_or(event.ended, |ended| ended.min(event.ended))),
            Act::Revoke | Act::Look => {}
        }
    }
    for event in events.iter().filter(|event| event.seen.is_none() && event.act == Act::LogOut) {
        // The answer does not say which life it was.
        let of_the_browser = events.iter().filter(|other| other.browser == event.browser);
        for life in of_the_browser.filter_map(|other| other.seen.as_ref()).map(|seen| seen.life) {
            lives.entry(life).or_default().may_have_ended = true;
        }
    }
    for revoke in events.iter().filter(|event| event.act == Act::Revoke) {
        let log_ins = events.iter().filter(|other| {
            other.act == Act::LogIn && other.browser == revoke.browser && other.began < revoke.ended
        });
        for log_in in log_ins {
            let Some(seen) = &log_in.seen else { continue };
            let life = lives.entry(seen.life).or_default();
            life.may_have_ended = true;
            if log_in.ended < revoke.began && revoke.seen.is_some() {
                life.ended = Some(life.ended.map_or(revoke.ended, |ended| ended.min(revoke.ended)));
            }
        }
    }
    for event in events {
        if let Some(seen) = &event.seen {
            check_view(seen, &lives, &refused, Some(event), wrong);
        }
    }
    let mut stored = BTreeSet::new();
    for row in rows {
        check_view(row, &lives, &refused, None, wrong);
        if !stored.insert(row.life) {
            wrong.push(format!("life {} has two rows", row.life));
        }
    }
    for (number, life) in &lives {
        let has_begun = !life.acknowledged.is_empty();
        if has_begun && life.ended.is_none() && !life.may_have_ended && !stored.contains(number) {
            wrong.push(format!("life {number} is lost, and no request has ended it"));
        }
    }
}

/// Checks a life, as a request read it or at the end.
fn check_view(
    seen: &Seen,
    lives: &BTreeMap<u64, Life>,
    refused: &BTreeSet<u64>,
    by: Option<&Event>,
    wrong: &mut Vec<String>,
) {
    if seen.life == 0 {
        return;
    }
    let name = match by {
        Some(event) => format!("{:?} {} in life {}", event.act, event.tag, seen.life),
        None => format!("the row of life {}", seen.life),
    };
    let (updates, log): (BTreeSet<_>, BTreeSet<_>) =
        (seen.updates.iter().copied().collect(), seen.log.iter().copied().collect());
    if by.is_some_and(|event| event.browser != seen.browser) {
        wrong.push(format!("{name} is shown the state of browser {}", seen.browser));
    }
    if seen.marks.iter().chain(&log).chain(&updates).any(|tag| tag / 64 / 64 != seen.browser)
        || seen.user.is_some_and(|known| known != user(seen.browser))
    {
        wrong.push(format!("{name} has something of another browser"));
    }
    if log.len() != seen.log.len() || updates.len() != seen.updates.len() {
        wrong.push(format!("{name} has a change twice: {:?}, {:?}", seen.log, seen.updates));
    }
    if log != seen.marks || log.len() as u64 != seen.sum || updates.len() as u64 != seen.count {
        wrong.push(format!("{name} has a part of a change: {seen:?}"));
    }
    if let Some(tag) = log.iter().chain(&updates).find(|tag| refused.contains(tag)) {
        wrong.push(format!("{name} has {tag}, which was refused"));
    }
    let Some(life) = lives.get(&seen.life) else { return };
    let began = by.map_or(u64::MAX, |event| event.began);
    if life.ended.is_some_and(|ended| ended < began) {
        wrong.push(format!("{name} is revived"));
    }
    for (act, tag, _) in life.acknowledged.iter().filter(|(_, _, ended)| *ended < began) {
        let is_there = match act {
            Act::Set => log.contains(tag),
            Act::Update => updates.contains(tag),
            Act::LogIn => seen.user.is_some(),
            _ => true,
        };
        if !is_there {
            wrong.push(format!("{name} has lost the {act:?} {tag}"));
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[actix_web::test]
async fn no_history_loses_repeats_revives_or_mixes_anything() {
    let world = world(Fault::None).await;
    let numbers: Vec<u64> = match number("HISTORY") {
        Some(one) => vec![one; 100],
        None => (1..=number("HISTORIES").unwrap_or(40)).collect(),
    };
    let (since, mut requests, mut clients) = (Instant::now(), 0, Vec::new());
    for (name, number) in (1..).zip(&numbers) {
        let (answered, wrong) = history(&world, &mut clients, name, *number).await;
        requests += answered;
        assert!(wrong.is_empty(), "HISTORY={number} repeats what was wrong: {wrong:#?}");
    }
    println!("{} histories, {requests} requests, 0 violations in {:.1?}", numbers.len(), since.elapsed());
    world.server.stop(false).await;
}

/// Runs histories until one shows a violation.
async fn is_found_out(fault: Fault, shown: &str) {
    let (world, mut clients) = (world(fault).await, Vec::new());
    for number in 1..=200 {
        let (_, wrong) = history(&world, &mut clients, number, number).await;
        if wrong.iter().any(|wrong| wrong.contains(shown)) {
            return world.server.stop(false).await;
        }
    }
    panic!("nothing was found of {fault:?}");
}

#[actix_web::test]
async fn a_store_that_writes_rows_that_are_gone_is_found_out() {
    is_found_out(Fault::Upsert, "is revived").await;
}

#[actix_web::test]
async fn a_store_that_compares_no_revision_is_found_out() {
    is_found_out(Fault::NoCompare, "has lost the").await;
}

#[actix_web::test]
async fn a_store_that_keeps_the_old_row_of_a_rotation_is_found_out() {
    is_found_out(Fault::KeepOld, "has two rows").await;
}

#[actix_web::test]
async fn a_store_that_forgets_what_it_has_acknowledged_is_found_out() {
    is_found_out(Fault::Forget, "has lost the").await;
}
