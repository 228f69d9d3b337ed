//! A real application and its real store servers, with a faulty network between them.
//!
//! `proxy` makes the faults, `clock` measures, `shop` has the application and its visitors. For each store and each fault:
//!
//! - every write that was acknowledged is there afterwards; each acknowledged `update` counts once, any other at most once;
//! - a log-out never comes back, whether it was answered 200 or 503;
//! - a visitor who is signed in and does not log out is never shown as anonymous;
//! - every answer is 200 or 503, and comes within the deadline;
//! - five seconds after the fault every answer is 200; so it is one deadline after connections fell silent or were closed
//!   while no request used them, and the latter is never answered 503 at once;
//! - nothing panics.
//!
//! `ROUNDS=n` runs n rounds, `ROUND=n` that one: its number decides what visitors do and which requests a fault hits.
#![allow(missing_docs)]

mod clock;
mod proxy;
mod shop;
mod trips;

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use databag_tests::Random;
use databag_tests::server::{Server, addresses, url};
use futures_util::future::{join, join_all};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use self::clock::now;
use self::proxy::{Fault, Proxy, Which};
use self::shop::{Act, Broken, DEADLINE, MARGIN, Shop, Tally, Visitor, is_up, panics};

const VISITORS: i64 = 6;

/// How long a shop may take to recover.
const RECOVERY: Duration = Duration::from_secs(5);

/// How many answers of 200 in a row show that a visitor is served again.
const RECOVERED: usize = 6;

/// The servers of a store.
pub(crate) struct Servers {
    name: &'static str,
    variable: &'static str,
    /// How long the shop may use a row of its near cache.
    near_cache: Option<Duration>,
    turn: Mutex<()>,
}

pub(crate) static POSTGRES: Servers = Servers::new("PostgreSQL", "POSTGRES_URL");
pub(crate) static MYSQL: Servers = Servers::new("MariaDB", "MYSQL_URL");
pub(crate) static REDIS: Servers = Servers::new("Redis", "REDIS_URL");
static NEAR_CACHE: Servers = Servers {
    near_cache: Some(Duration::from_hours(1)),
    ..Servers::new("Redis with near cache", "REDIS_URL")
};
static SENTINEL: Servers = Servers::new("Redis Sentinel", "REDIS_SENTINEL_URL");
static CLUSTER: Servers = Servers::new("Redis Cluster", "REDIS_CLUSTER_URL");

impl Servers {
    const fn new(name: &'static str, variable: &'static str) -> Self {
        Self { name, variable, near_cache: None, turn: Mutex::const_new(()) }
    }

    /// Waits until no other test uses them.
    async fn turn(&self) -> MutexGuard<'_, ()> {
        let same = if self.variable == REDIS.variable { &REDIS } else { self };
        same.turn.lock().await
    }

    fn is_watched(&self) -> bool {
        url(self.variable).starts_with("redis-sentinel:")
    }

    /// Returns their addresses, the one that can be restarted last.
    async fn addresses(&self) -> Vec<SocketAddr> {
        let mut all = addresses(&url(self.variable));
        if self.is_watched() {
            let name = ["GET-MASTER-ADDR-BY-NAME", "databag"];
            let (host, port): (String, u16) = sentinel(all[0], &name).await;
            all.push(format!("{host}:{port}").parse().expect("an address"));
        }
        all
    }

    /// Tells the sentinel how long a server may be away.
    async fn expect_back_within(&self, millis: &str) {
        if self.is_watched() {
            let at = addresses(&url(self.variable))[0];
            let () = sentinel(at, &["SET", "databag", "down-after-milliseconds", millis]).await;
        }
    }
}

async fn sentinel<T: redis::FromRedisValue>(at: SocketAddr, words: &[&str]) -> T {
    let client = redis::Client::open(format!("redis://{at}")).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the sentinel answers");
    redis::cmd("SENTINEL").arg(words).query_async(&mut connection).await.expect("the sentinel answers")
}

/// How a fault is used.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// For so many milliseconds, while visitors send requests.
    Lasting(u64),
    /// Three times, each at a moment without requests.
    AtRest,
    /// On each round trip of each kind of request once.
    OnEachTrip,
    /// A server is killed and started again; the network has no fault.
    Restart,
}

const TROUBLES: [(&str, Fault, Use); 20] = [
    ("none", Fault::None, Use::Lasting(300)),
    ("delay", Fault::Delay, Use::Lasting(500)),
    ("jitter", Fault::Jitter, Use::Lasting(500)),
    ("byte by byte", Fault::ByteByByte, Use::Lasting(500)),
    ("throttle", Fault::Throttle, Use::Lasting(500)),
    ("freeze, 0.3 s", Fault::Freeze, Use::Lasting(300)),
    ("freeze, 1.3 s", Fault::Freeze, Use::Lasting(1_300)),
    ("half-open", Fault::HalfOpen, Use::Lasting(700)),
    ("refusal", Fault::Refusal, Use::Lasting(500)),
    ("close on accept", Fault::CloseOnAccept, Use::Lasting(500)),
    ("slow connect", Fault::SlowConnect, Use::Lasting(500)),
    ("reset storm", Fault::ResetStorm, Use::Lasting(500)),
    ("requests cut", Fault::CutRequest(Which::OneInSeven), Use::Lasting(500)),
    ("answers lost", Fault::LostAnswer(Which::OneInSeven), Use::Lasting(500)),
    ("answers cut", Fault::CutAnswer(Which::OneInSeven), Use::Lasting(500)),
    ("each request cut", Fault::CutRequest(Which::Nth(0)), Use::OnEachTrip),
    ("each answer lost", Fault::LostAnswer(Which::Nth(0)), Use::OnEachTrip),
    ("silence at rest", Fault::Silence, Use::AtRest),
    ("close at rest", Fault::Close, Use::AtRest),
    ("server restart", Fault::None, Use::Restart),
];

/// What a fault has caused.
#[derive(Default)]
struct Effect {
    tally: Tally,
    recovery: Duration,
    wrong: Vec<String>,
}

impl Effect {
    fn add(&mut self, visitor: &mut Visitor) {
        let Tally { answers, unavailable, early, moved, slowest, .. } = visitor.tally;
        self.tally.answers += answers;
        self.tally.unavailable += unavailable;
        self.tally.early += early;
        self.tally.moved += moved;
        self.tally.slowest = self.tally.slowest.max(slowest);
        self.wrong.append(&mut visitor.wrong);
    }

    fn recovered(&mut self, visitor: &Visitor, healed: Duration) {
        let last = visitor.tally.last_unavailable;
        let recovery = last.map_or(Duration::ZERO, |last| last.saturating_sub(healed));
        self.recovery = self.recovery.max(recovery);
    }
}

/// Visits until the fault is over and the visitor is served again.
async fn visit(visitor: &mut Visitor, healed: &Cell<Option<Duration>>) {
    let mut served = 0;
    while served < RECOVERED {
        let act = visitor.plan();
        let is_over = healed.get();
        served = if visitor.act(act).await && is_over.is_some() { served + 1 } else { 0 };
        // Other visitors and the proxy have their turn.
        sleep(Duration::from_millis(2)).await;
        if served == 0 && is_over.is_some_and(|healed| now().saturating_sub(healed) > RECOVERY) {
            return visitor.wrong.push(format!("{act:?} was answered 503 {RECOVERY:?} after the fault"));
        }
    }
}

async fn visit_all(visitors: &mut [Visitor], healed: &Cell<Option<Duration>>) {
    join_all(visitors.iter_mut().map(|visitor| visit(visitor, healed))).await;
}

/// Visits while something goes wrong, and until every visitor is served again.
async fn struggle(
    visitors: &mut [Visitor],
    healed: &Cell<Option<Duration>>,
    trouble: impl Future<Output = ()>,
) {
    healed.set(None);
    let trouble = async {
        // Requests are on their way.
        sleep(Duration::from_millis(50)).await;
        trouble.await;
        healed.set(Some(now()));
    };
    join(visit_all(visitors, healed), trouble).await;
}

/// A shop, and the proxy between it and its servers.
struct World {
    servers: &'static Servers,
    addresses: Vec<SocketAddr>,
    proxy: Proxy,
    shop: Shop,
}

impl World {
    async fn open(servers: &'static Servers, seed: u64) -> Self {
        let addresses = servers.addresses().await;
        let proxy = Proxy::new(&addresses, seed);
        let shop = Shop::open(&proxy.url(&url(servers.variable)), servers.near_cache, None).await;
        Self { servers, addresses, proxy, shop }
    }

    async fn suffer(&self, fault: Fault, how: Use, random: &mut Random) -> Effect {
        let mut effect = Effect::default();
        let mut visitors: Vec<_> =
            (1..=VISITORS).map(|user| Visitor::new(self.shop.address, user, random.fork())).collect();
        // Each has a session before the fault.
        let healed = Cell::new(Some(now()));
        visit_all(&mut visitors, &healed).await;
        match how {
            Use::Lasting(millis) => {
                let trouble = async {
                    self.proxy.strike(fault);
                    sleep(Duration::from_millis(millis)).await;
                    self.proxy.heal();
                };
                struggle(&mut visitors, &healed, trouble).await;
            }
            Use::Restart => Box::pin(struggle(&mut visitors, &healed, self.restart())).await,
            Use::AtRest => {
                for _ in 0..3 {
                    self.proxy.strike(fault);
                    self.proxy.heal();
                    healed.set(Some(now()));
                    visit_all(&mut visitors, &healed).await;
                    for visitor in &visitors {
                        effect.recovered(visitor, healed.get().expect("it was set"));
                    }
                }
            }
            Use::OnEachTrip => {
                for act in Act::ALL {
                    self.hit_each_trip(fault, act, &mut visitors[0], &mut effect).await;
                }
            }
        }
        for visitor in &mut visitors {
            if how != Use::OnEachTrip {
                effect.recovered(visitor, healed.get().expect("it was set"));
            }
            visitor.act(Act::Read).await;
            visitor.replay().await;
            effect.add(visitor);
        }
        effect
    }
    /// Hits the first round trip of a request, then the second of another, until there is none.
    async fn hit_each_trip(&self, fault: Fault, act: Act, visitor: &mut Visitor, effect: &mut Effect) {
        for nth in 1.. {
            let mut healed = now();
            while !visitor.is_signed_in() || !visitor.act(Act::Write).await {
                visitor.act(Act::LogIn).await;
                if now().saturating_sub(healed) > RECOVERY {
                    return visitor
                        .wrong
                        .push(format!("{act:?} was hit, and {RECOVERY:?} later there is a 503"));
                }
            }
            // The connection is back in its pool.
            sleep(Duration::from_millis(10)).await;
            self.proxy.strike(match fault {
                Fault::CutRequest(_) => Fault::CutRequest(Which::Nth(nth)),
                _ => Fault::LostAnswer(Which::Nth(nth)),
            });
            visitor.act(act).await;
            let trips = self.proxy.trips();
            self.proxy.heal();
            healed = now();
            while !visitor.act(Act::Read).await && now().saturating_sub(healed) < RECOVERY {}
            effect.recovered(visitor, healed);
            visitor.replay().await;
            if trips < nth {
                return;
            }
        }
    }

    async fn restart(&self) {
        let address = self.addresses.last().expect("there is a server");
        let server = Server::at(*address);
        // Not in this thread, where the visitors are.
        let restart = move || {
            server.kill();
            server.restart();
        };
        actix_web::rt::task::spawn_blocking(restart).await.expect("it starts");
        let begun = Instant::now();
        while !is_up(&url(self.servers.variable)).await {
            assert!(begun.elapsed() < Duration::from_mins(1), "{} does not start", self.servers.name);
        }
    }
}

/// Runs every fault, prints what it caused, and fails if something was wrong.
async fn survives(servers: &'static Servers) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds: Vec<u64> = match number("ROUND") {
        Some(one) => vec![one],
        None => (1..=number("ROUNDS").unwrap_or(1)).collect(),
    };
    let _turn = servers.turn().await;
    // Sentinels would give the place of a server that is started again to its replica, which may lack the latest writes.
    servers.expect_back_within("60000").await;
    let (mut table, mut wrong) = (String::new(), Vec::new());
    for round in rounds {
        let (mut random, begun) = (Random::new(round), Instant::now());
        let _ =
            writeln!(table, "{}, round {round}: answers, 503, moved, slowest, recovery, wrong", servers.name);
        for (name, fault, how) in TROUBLES {
            // A shop of its own: what one fault has broken does not count for the next.
            let (world, before) = (World::open(servers, random.next()).await, panics());
            let mut effect = Box::pin(world.suffer(fault, how, &mut random)).await;
            let Effect { tally, recovery, .. } = effect;
            if recovery > RECOVERY || how == Use::AtRest && recovery > DEADLINE + MARGIN {
                effect.wrong.push(format!("the last 503 came {recovery:?} after the fault"));
            }
            if matches!(fault, Fault::None | Fault::Close) && how != Use::Restart && tally.early > 0 {
                effect.wrong.push(format!("{} answers were 503 at once", tally.early));
            }
            world.shop.close().await;
            if panics() > before {
                effect.wrong.push("the application panicked".to_owned());
            }
            let (slowest, recovery) = (tally.slowest.as_secs_f32(), recovery.as_secs_f32());
            let _ = writeln!(
                table,
                "  {name:18}{:6}{:6}{:6}{slowest:7.2} s{recovery:7.2} s{:6}",
                tally.answers,
                tally.unavailable,
                tally.moved,
                effect.wrong.len()
            );
            wrong.extend(effect.wrong.iter().map(|wrong| format!("ROUND={round} {name}: {wrong}")));
        }
        let _ = writeln!(table, "  all in {:.0?}", begun.elapsed());
    }
    servers.expect_back_within("1000").await;
    println!("{table}");
    assert!(wrong.is_empty(), "{}: {} wrong: {wrong:#?}", servers.name, wrong.len());
}

#[actix_web::test]
async fn a_shop_on_postgresql_survives_each_fault() {
    survives(&POSTGRES).await;
}

#[actix_web::test]
async fn a_shop_on_mariadb_survives_each_fault() {
    survives(&MYSQL).await;
}

#[actix_web::test]
async fn a_shop_on_redis_survives_each_fault() {
    survives(&REDIS).await;
}

#[actix_web::test]
async fn a_shop_on_redis_with_a_near_cache_survives_each_fault() {
    survives(&NEAR_CACHE).await;
}

#[actix_web::test]
async fn a_shop_on_redis_behind_a_sentinel_survives_each_fault() {
    survives(&SENTINEL).await;
}

#[actix_web::test]
async fn a_shop_on_a_redis_cluster_survives_each_fault() {
    survives(&CLUSTER).await;
}

/// Visits a shop without a network, until a visitor notices what is wrong.
async fn is_noticed(broken: Broken, shown: &str) {
    let shop = Shop::open("memory:", None, Some(broken)).await;
    let mut visitor = Visitor::new(shop.address, 1, Random::new(1));
    for _ in 0..2_000 {
        let act = visitor.plan();
        visitor.act(act).await;
        visitor.replay().await;
        if visitor.wrong.iter().any(|wrong| wrong.contains(shown)) {
            return shop.close().await;
        }
    }
    panic!("nothing was noticed of {broken:?}: {:?}", visitor.wrong);
}

#[actix_web::test]
async fn a_shop_that_forgets_one_write_in_thirty_is_found_out() {
    is_noticed(Broken::Forgets, "has lost").await;
}

#[actix_web::test]
async fn a_shop_that_counts_twice_is_found_out() {
    is_noticed(Broken::CountsTwice, "counts twice").await;
}

#[actix_web::test]
async fn a_shop_that_logs_nobody_out_is_found_out() {
    is_noticed(Broken::SkipsLogOut, "a log-out came back").await;
}

#[actix_web::test]
async fn a_shop_that_takes_one_visitor_in_thirty_for_a_stranger_is_found_out() {
    is_noticed(Broken::ForgetsVisitor, "is shown as anonymous").await;
}

#[actix_web::test]
async fn a_shop_that_answers_after_two_deadlines_is_found_out() {
    is_noticed(Broken::Late, "was answered after").await;
}

#[actix_web::test]
async fn a_shop_that_answers_500_is_found_out() {
    is_noticed(Broken::Fails, "was answered 500").await;
}
