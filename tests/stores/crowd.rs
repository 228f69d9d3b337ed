//! One user with very many sessions, which end in one step: how long it takes, and how long other visitors wait.
//!
//! `CROWD` is the number of sessions. Prints a table: `store | sessions | way | time | longest wait of others`.

use std::time::{Duration, Instant, SystemTime};

use databag_tests::rows::{row, soon, table, touch, with};
use databag_tests::server::url;
use futures_util::future::join_all;
use session_runtime::store::{ColumnRef, Comparison, Filter, LimitedWrite, Outcome, Page, Row, Write};
use session_runtime::{
    Directory, MemoryStore, MysqlStore, PostgresStore, RedisStore, SessionId, SqliteStore, Store, Timestamp,
    Value,
};

const PREPARATION: Duration = Duration::from_secs(10);

fn crowd() -> u32 {
    std::env::var("CROWD").map_or(2_000, |crowd| crowd.parse().expect("a number"))
}

/// A session of the user with many; a greater number is a later one.
fn session(n: u32) -> Row {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    id[4..8].copy_from_slice(&n.to_be_bytes());
    with(row(7), |it| {
        it.id = SessionId::from_bytes(id);
        it.created = Timestamp::from_millis(1_000_000 + i64::from(n));
    })
}

fn patience() -> Instant {
    Instant::now() + Duration::from_mins(2)
}

async fn fill<S: Store + Clone + 'static>(store: &S, count: u32) {
    const CALLERS: u32 = 64;
    let callers = (0..CALLERS).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (caller..count).step_by(CALLERS as usize) {
                store.insert(session(n), patience()).await.expect("it fits");
            }
        })
    });
    for caller in join_all(callers).await {
        caller.expect("it answers");
    }
}

/// Makes a call, and returns how long it took, and the longest time that another visitor's read and write have taken meanwhile.
async fn beside<S: Store + Clone + 'static, T>(
    store: &S,
    call: impl Future<Output = T>,
) -> (T, Duration, Duration) {
    let (done, mut is_done) = tokio::sync::oneshot::channel::<()>();
    let visitor = tokio::spawn({
        let store = store.clone();
        async move {
            let mut longest = Duration::ZERO;
            while is_done.try_recv().is_err() {
                let begun = Instant::now();
                let stored =
                    store.load(row(1).id, patience()).await.expect("it answers").expect("it is there");
                let updated = store.update(touch(&stored), patience()).await.expect("it answers");
                assert_eq!(updated, Outcome::Stored);
                longest = longest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            longest
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    let result = call.await;
    let took = begun.elapsed();
    let _ = done.send(());
    (result, took, visitor.await.expect("it ends"))
}

/// How many sessions the log-in leaves.
const MAX: u32 = 3;

/// Ends sessions of the user by a log-in where few are allowed, and then all by a removal.
async fn ends_all<S: Directory + Clone + 'static>(name: &str, mut store: S) {
    let (count, of_user) = (crowd(), Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(7)));
    for way in ["one step", "removal"] {
        store.prepare(&table("crowd"), PREPARATION).await.expect("it is ready");
        store.insert(row(1), soon()).await.expect("it fits");
        fill(&store, count).await;
        let log_in = LimitedWrite::new(Write::Insert(session(count)), MAX, SystemTime::now().into());
        let ending = async {
            match way {
                "one step" => {
                    let (outcome, ended) = store.write_limited(log_in, patience()).await.expect("it answers");
                    assert_eq!(outcome, Outcome::Stored, "{name}");
                    ended
                }
                _ => store.remove(&of_user, patience()).await.expect("it answers"),
            }
        };
        let (ended, took, waited) = beside(&store, ending).await;
        println!("{name} | {count} | {way} | {took:.0?} | {waited:.0?}");
        let mut left = Vec::new();
        for n in (0..=count).rev().take(10) {
            left.extend(store.load(session(n).id, soon()).await.expect("it answers").map(|_| n));
        }
        let newest = [count, count - 1, count - 2];
        let expected = if way == "one step" { &newest[..] } else { &[] };
        assert_eq!(left, expected, "{name}");
        assert_eq!(
            ended.len(),
            (count + 1) as usize - expected.len() - usize::from(expected.is_empty()),
            "{name}"
        );
        let live = store.count(&of_user, patience()).await.expect("it answers");
        assert_eq!(live, expected.len() as u64, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    ends_all("memory", MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    ends_all("sqlite", SqliteStore::open(folder.path().join("crowd.db")).expect("a store")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres() {
    ends_all("postgres", PostgresStore::connect(&url("POSTGRES_URL")).await.expect("it answers")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_mariadb() {
    ends_all("mariadb", MysqlStore::connect(&url("MYSQL_URL")).await.expect("it answers")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_redis() {
    let store = RedisStore::connect(&url("REDIS_URL")).await.expect("it answers");
    Box::pin(ends_all("redis", store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster() {
    let store = RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("it answers");
    Box::pin(ends_all("redis cluster", store)).await;
}

/// The set of the user, and entries in it that have no row.
struct Entries<C> {
    raw: C,
    key: String,
}

impl<C: redis::aio::ConnectionLike> Entries<C> {
    /// Adds as many as the crowd has, with this expiration.
    async fn add(&mut self, expiration: i64) {
        for first in (0..crowd()).step_by(1_000) {
            let mut add = redis::cmd("ZADD");
            add.arg(&self.key);
            for n in first..(first + 1_000).min(crowd()) {
                add.arg(expiration).arg(session(1_000_000 + n).id.to_string());
            }
            add.exec_async(&mut self.raw).await.expect("it answers");
        }
    }

    async fn count(&mut self) -> u32 {
        redis::cmd("ZCARD").arg(&self.key).query_async(&mut self.raw).await.expect("it answers")
    }
}

/// However many rows of a user have expired, no call looks at each of them, and their entries go.
async fn drops_the_dead(name: &str, mut store: RedisStore, raw: impl redis::aio::ConnectionLike) {
    let table = table("dead");
    let mut entries = Entries { raw, key: format!("databag:{{{}:user:i7}}", table.name) };
    store.prepare(&table, PREPARATION).await.expect("it is ready");
    store.insert(row(1), soon()).await.expect("it fits");
    let of_user = Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(7));
    let now = Timestamp::from(SystemTime::now());
    for n in 0..2 {
        entries.add(1).await;
        let log_in = LimitedWrite::new(Write::Insert(session(n)), MAX, now);
        let (written, took, waited) = beside(&store, store.write_limited(log_in, patience())).await;
        println!("{name} | {} | log-in over dead entries | {took:.0?} | {waited:.0?}", crowd());
        assert_eq!(written.expect("it answers"), (Outcome::Stored, Vec::new()), "{name}");
        assert_eq!(entries.count().await, n + 1, "{name}");
    }
    entries.add(1).await;
    let found = store.find(&of_user, Page::new(None, 10), patience()).await.expect("it answers");
    assert_eq!((found.len(), entries.count().await), (2, 2), "{name}");
    entries.add(1).await;
    let removed = store.remove(&of_user, patience()).await.expect("it answers");
    assert_eq!((removed.len(), entries.count().await), (2, 0), "{name}");

    // Calls that failed have left entries: they stay until they are dead, and cost little.
    entries.add(now.as_millis() + 60_000).await;
    let log_in = LimitedWrite::new(Write::Insert(session(2)), MAX, now);
    let (written, took, waited) = beside(&store, store.write_limited(log_in, patience())).await;
    println!("{name} | {} | log-in over empty entries | {took:.0?} | {waited:.0?}", crowd());
    assert_eq!(written.expect("it answers"), (Outcome::Stored, Vec::new()), "{name}");
    assert_eq!(entries.count().await, crowd() + 1, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entries_of_expired_rows_go_in_redis() {
    let url = url("REDIS_URL");
    let raw = redis::Client::open(url.as_str()).expect("a URL").get_multiplexed_async_connection().await;
    let store = RedisStore::connect(&url).await.expect("it answers");
    Box::pin(drops_the_dead("redis", store, raw.expect("it answers"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entries_of_expired_rows_go_in_a_cluster() {
    let url = url("REDIS_CLUSTER_URL");
    let nodes = url.trim_start_matches("redis-cluster://").split(',').map(|node| format!("redis://{node}"));
    let raw = redis::cluster::ClusterClient::new(nodes).expect("URLs").get_async_connection().await;
    let store = RedisStore::connect(&url).await.expect("it answers");
    Box::pin(drops_the_dead("redis cluster", store, raw.expect("it answers"))).await;
}
