//! Stores while their servers are down, and after their servers are back.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers`. The servers are stopped and paused
//! here, so these tests are a program of their own and run one after the other.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{App, web};
use databag_tests::rows::{row, table, touch};
use databag_tests::server::{Server, address, between, intercept, replace, silence, url};
use databag_tests::{Logs, Site};
use redis::aio::MultiplexedConnection;
use session_runtime::store::{Filter, LimitedWrite, Outcome, Page, Row, Update, Write};
use session_runtime::{
    Cleanup, Databag, Directory, Error, Keyring, MysqlStore, PostgresStore, RedisStore, Session,
    SessionMiddleware, Sessions, Store, StoreError, Value,
};

#[derive(Databag)]
#[databag(table = "outage_shop")]
struct Shop {
    items: u32,
}

const DEADLINE: Duration = Duration::from_secs(1);

/// The deadline of a call.
fn soon() -> Instant {
    Instant::now() + DEADLINE
}

/// How much later than the deadline a call may end on a busy machine.
const MARGIN: Duration = Duration::from_secs(1);

/// How long a server may take to recover.
const RECOVERY: Duration = Duration::from_secs(30);

static TURN: Mutex<()> = Mutex::new(());

async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let begun = Instant::now();
    let result = call.await;
    assert!(begun.elapsed() < DEADLINE + MARGIN, "the call took {:?}", begun.elapsed());
    result
}

/// Checks that each call fails within the deadline, and none is answered as if there were no row.
async fn is_away<S: Directory>(store: &S) {
    let stored = row(1);
    in_time(store.load(stored.id, soon())).await.expect_err("a load");
    in_time(store.insert(row(2), soon())).await.expect_err("an insert");
    in_time(store.delete(row(3).id, soon())).await.expect_err("a deletion");
    in_time(store.update(touch(&row(4)), soon())).await.expect_err("an update");
    in_time(store.find(&Filter::All, Page::new(None, 1), soon())).await.expect_err("a listing");
    in_time(store.prune(stored.created, 1, soon())).await.expect_err("pruning");
    in_time(store.health(soon())).await.expect_err("the health check");
}

/// Checks that the same handle works again and has every acknowledged row.
async fn comes_back<S: Directory>(store: &S) {
    let begun = Instant::now();
    while let Err(error) = in_time(store.health(soon())).await {
        assert!(begun.elapsed() < RECOVERY, "it does not come back: {error}: {error:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut stored = None;
    while stored.is_none() {
        // Each connection that broke while idle fails one call.
        stored = in_time(store.load(row(1).id, soon())).await.ok();
        assert!(begun.elapsed() < RECOVERY);
    }
    let stored = stored.flatten().expect("it was acknowledged");
    let mut outcome = in_time(store.update(touch(&stored), soon())).await;
    while outcome.is_err() && begun.elapsed() < RECOVERY {
        let stored =
            in_time(store.load(row(1).id, soon())).await.expect("it is back").expect("it was acknowledged");
        outcome = in_time(store.update(touch(&stored), soon())).await;
    }
    assert_eq!(outcome.expect("it is back"), Outcome::Stored);
}

/// Returns the rows that were inserted, deleted and updated while the server was down.
async fn aftermath<S: Store>(store: &S) -> (Option<Row>, bool, Row) {
    let inserted = store.load(row(2).id, soon()).await.expect("it is back");
    let deleted = store.load(row(3).id, soon()).await.expect("it is back").is_none();
    let updated = store.load(row(4).id, soon()).await.expect("it is back").expect("it was not deleted");
    (inserted, deleted, updated)
}

async fn survives<S: Directory + Clone>(mut store: S, servers: &[Server]) {
    let table = table("outage");
    store.prepare(&table, DEADLINE).await.expect("the server answers");
    let (one, three, four) = (row(1), row(3), row(4));
    for stored in [&one, &three, &four] {
        store.insert(stored.clone(), soon()).await.expect("the server answers");
    }
    for server in servers {
        server.kill();
    }
    is_away(&store).await;
    for server in servers {
        server.restart();
    }
    comes_back(&store).await;
    // No write that the caller gave up takes effect later.
    tokio::time::sleep(DEADLINE).await;
    assert_eq!(aftermath(&store).await, (None, false, four.clone()));
    for server in servers {
        server.pause();
    }
    is_away(&store).await;
    for server in servers {
        server.resume();
    }
    comes_back(&store).await;
    // A write that reached the server before its caller gave up may have taken effect: completely, and at once.
    tokio::time::sleep(DEADLINE).await;
    let found = aftermath(&store).await;
    let (inserted, _, updated) = &found;
    assert!(inserted.as_ref().is_none_or(|inserted| inserted.state == row(2).state), "{inserted:?}");
    assert!(*updated == four || *updated == touch(&four).row, "{updated:?}");
    tokio::time::sleep(DEADLINE).await;
    assert_eq!(aftermath(&store).await, found);
}

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn postgres_comes_back() {
    let _turn = turn();
    let store = PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers");
    Box::pin(survives(store, &[Server("postgres")])).await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn mysql_comes_back() {
    let _turn = turn();
    let store = MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers");
    Box::pin(survives(store, &[Server("mysql")])).await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn redis_comes_back() {
    let _turn = turn();
    let store = RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers");
    Box::pin(survives(store, &[Server("redis")])).await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_redis_cluster_comes_back() {
    let _turn = turn();
    let store = RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("the cluster answers");
    Box::pin(survives(store, &[Server("cluster-1"), Server("cluster-2"), Server("cluster-3")])).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let begun = Instant::now();
    let (postgres, mysql) = (format!("postgres://a@{address}/a"), format!("mysql://a@{address}/a"));
    let (redis, cluster) = (format!("redis://{address}"), format!("redis-cluster://{address}"));
    let sentinel = format!("redis-sentinel://{address}/databag");
    let (postgres, mysql, redis, cluster, sentinel) = tokio::join!(
        PostgresStore::connect(&postgres),
        MysqlStore::connect(&mysql),
        RedisStore::connect(&redis),
        RedisStore::connect(&cluster),
        RedisStore::connect(&sentinel)
    );
    postgres.expect_err("nobody answers");
    mysql.expect_err("nobody answers");
    redis.expect_err("nobody answers");
    cluster.expect_err("nobody answers");
    sentinel.expect_err("nobody answers");
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
}

/// The tests of a store with a connection pool and row locks.
macro_rules! every_pool {
    ($module:ident, $store:ident, $pool:ty, $variable:literal, $options:path, $others:literal, $end:literal, $run:expr) => {
        mod $module {
            use super::*;

            /// Returns the numbers of the other connections.
            const OTHERS: &str = $others;

            /// Ends the connection of a number.
            const END: &str = $end;

            /// The place and the value of the byte by which a client runs a prepared statement.
            const RUN: (usize, u8) = $run;

            #[tokio::test]
            #[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
            async fn a_pool_without_a_free_connection_is_an_error_at_the_deadline() {
                let _turn = turn();
                let options = <$options>::new().max_connections(1);
                let pool = options.connect(&url($variable)).await.expect("the server answers");
                let mut store = $store::from_pool(pool.clone()).await.expect("the server answers");
                store.prepare(&table("exhausted"), DEADLINE).await.expect("the server answers");
                store.insert(row(1), soon()).await.expect("there is a connection");
                let held = pool.acquire().await.expect("there is a connection");
                in_time(store.load(row(1).id, soon())).await.expect_err("there is no connection");
                drop(held);
                assert!(
                    in_time(store.load(row(1).id, soon())).await.expect("there is a connection").is_some()
                );
            }

            #[tokio::test]
            #[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
            async fn a_statement_that_waits_for_a_lock_has_no_effect_after_its_deadline() {
                let _turn = turn();
                let mut store = $store::connect(&url($variable)).await.expect("the server answers");
                let table = table("locked");
                store.prepare(&table, DEADLINE).await.expect("the server answers");
                store.insert(row(1), soon()).await.expect("the server answers");
                let pool = <$options>::new().connect(&url($variable)).await.expect("the server answers");
                let mut lock = pool.begin().await.expect("the server answers");
                let select = format!("SELECT 1 FROM {} FOR UPDATE", table.name);
                sqlx::query(sqlx::AssertSqlSafe(select)).execute(&mut *lock).await.expect("it is locked");
                in_time(store.update(touch(&row(1)), soon())).await.expect_err("it is locked");
                // A server may check its timeouts only once a second.
                tokio::time::sleep(2 * DEADLINE).await;
                lock.rollback().await.expect("the server answers");
                tokio::time::sleep(DEADLINE).await;
                let row = store.load(row(1).id, soon()).await.expect("it answers").expect("it is there");
                assert_eq!(row.revision, 1);
            }

            /// Ends every connection but this one.
            async fn end_idle_connections(pool: &$pool) {
                let mut connection = pool.acquire().await.expect("the server answers");
                let ids = sqlx::query_scalar::<_, i64>(OTHERS).fetch_all(&mut *connection);
                for id in ids.await.expect("the server answers") {
                    let end = sqlx::AssertSqlSafe(END.replace("ID", &id.to_string()));
                    // It may have ended by itself.
                    sqlx::raw_sql(end).execute(&mut *connection).await.ok();
                }
            }

            /// Opens as many connections as a store has.
            async fn use_all_connections(store: &$store) {
                let load = || async { store.load(row(1).id, soon()).await.expect("the server answers") };
                futures_util::future::join_all((0..$store::MAX_CONNECTIONS).map(|_| load())).await;
            }

            /// A worker of actix-web ends when a handler panics, and another one begins.
            #[test]
            fn connections_whose_runtime_has_ended_cost_no_call() {
                let _turn = turn();
                let runtime = || {
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    runtime.enable_all().build().expect("a runtime")
                };
                let worker = runtime();
                let store = worker.block_on(async {
                    let mut store = $store::connect(&url($variable)).await.expect("the server answers");
                    store.prepare(&table("ended"), DEADLINE).await.expect("the server answers");
                    use_all_connections(&store).await;
                    store
                });
                drop(worker);
                runtime().block_on(async {
                    for n in 1..4 {
                        store.insert(row(n), soon()).await.expect("the server answers");
                        assert!(store.load(row(n).id, soon()).await.expect("the server answers").is_some());
                    }
                });
            }

            #[tokio::test]
            #[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
            async fn connections_that_are_closed_while_idle_cost_no_call() {
                let _turn = turn();
                let mut store = $store::connect(&url($variable)).await.expect("the server answers");
                store.prepare(&table("closed"), DEADLINE).await.expect("the server answers");
                let other = <$options>::new().connect(&url($variable)).await.expect("the server answers");
                for call in 0..9 {
                    let (stored, renamed) = (row(1), Update::new(row(1).id, 1, row(2)));
                    store.remove(&Filter::All, soon()).await.expect("the server answers");
                    store.insert(stored.clone(), soon()).await.expect("the server answers");
                    use_all_connections(&store).await;
                    end_idle_connections(&other).await;
                    // A write that cannot be repeated asks a connection that was idle for a second.
                    tokio::time::sleep(Duration::from_millis(1_100)).await;
                    let done = match call {
                        0 => store.load(stored.id, soon()).await.map(|row| row.is_some()),
                        1 => store.update(touch(&stored), soon()).await.map(|it| it == Outcome::Stored),
                        2 => store.update(renamed, soon()).await.map(|it| it == Outcome::Stored),
                        3 => store.delete(stored.id, soon()).await,
                        4 => store.remove(&Filter::All, soon()).await.map(|ids| ids == [stored.id]),
                        5 => store.prune(stored.expiration, 9, soon()).await.map(|pruned| pruned == 1),
                        6 => store.insert(row(2), soon()).await.map(|()| true),
                        7 => store.count(&Filter::All, soon()).await.map(|count| count == 1),
                        _ => store.health(soon()).await.map(|()| true),
                    };
                    assert!(done.as_ref().is_ok_and(|done| *done), "call {call}: {done:?}");
                }
            }

            #[tokio::test]
            #[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
            async fn connections_that_fall_silent_cost_no_read_and_no_change() {
                let _turn = turn();
                let (url, heard) = (url($variable), Arc::new(Mutex::new((1..=10).collect::<BTreeSet<u8>>())));
                // Each row's first call is not answered, and neither is anything after it on that connection.
                let (server, silent) = (address(&url), Arc::clone(&heard));
                let proxy = silence(server, move |said| {
                    let has = |n: &u8| said.windows(32).any(|bytes| bytes == [*n; 32]);
                    said.get(RUN.0) == Some(&RUN.1)
                        && (1..=10).find(has).is_some_and(|n| silent.lock().expect("no panic").insert(n))
                });
                let url = url.replace(&server.to_string(), &proxy.to_string());
                let mut store = $store::connect(&url).await.expect("the server answers");
                store.prepare(&table("silent"), DEADLINE).await.expect("the server answers");
                let rows: Vec<_> = (1..=10).map(row).collect();
                for row in &rows {
                    store.insert(row.clone(), soon()).await.expect("the server answers");
                    // Each kind of call is prepared.
                    assert_eq!(store.update(touch(row), soon()).await.expect("it answers"), Outcome::Stored);
                }
                for is_read in [true, false] {
                    use_all_connections(&store).await;
                    heard.lock().expect("no panic").clear();
                    let later = || Instant::now() + 6 * DEADLINE;
                    let calls = rows.iter().map(async |row| match is_read {
                        true => store.load(row.id, later()).await.map(|row| row.is_some()),
                        false => store.delete(row.id, later()).await,
                    });
                    for done in futures_util::future::join_all(calls).await {
                        assert!(done.as_ref().is_ok_and(|done| *done), "{done:?}");
                    }
                    assert_eq!(
                        heard.lock().expect("no panic").len(),
                        rows.len(),
                        "all connections fell silent"
                    );
                }
            }

            /// A change that was made, and whose answer was lost, is sent again and finds another row than the first time.
            #[tokio::test]
            #[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
            async fn a_change_whose_answer_was_lost_is_an_error_and_is_not_made_twice() {
                let _turn = turn();
                let (url, armed) = (url($variable), Arc::new(AtomicBool::new(false)));
                let (server, is_armed) = (address(&url), Arc::clone(&armed));
                let proxy = between(move || server, move |_| !is_armed.swap(false, Ordering::SeqCst));
                let url = url.replace(&server.to_string(), &proxy.to_string());
                let mut store = $store::connect(&url).await.expect("the server answers");
                store.prepare(&table("lost"), DEADLINE).await.expect("the server answers");
                // Each kind of call is prepared.
                let (one, two) = (row(1), row(2));
                store.insert(two.clone(), soon()).await.expect("the server answers");
                assert_eq!(store.update(touch(&two), soon()).await.expect("it answers"), Outcome::Stored);
                assert!(store.delete(two.id, soon()).await.expect("it answers"));
                store.insert(one.clone(), soon()).await.expect("the server answers");
                armed.store(true, Ordering::SeqCst);
                store.update(touch(&one), soon()).await.expect_err("whether it was made is unknown");
                let stored = store.load(one.id, soon()).await.expect("it answers").expect("it is there");
                assert_eq!(stored.revision, 2);
                assert_eq!(store.update(touch(&stored), soon()).await.expect("it answers"), Outcome::Stored);
                assert!(!store.delete(two.id, soon()).await.expect("it answers"));
                armed.store(true, Ordering::SeqCst);
                store.delete(one.id, soon()).await.expect_err("whether it was made is unknown");
                assert_eq!(store.load(one.id, soon()).await.expect("it answers"), None);
                store.insert(one.clone(), soon()).await.expect("the server answers");
                armed.store(true, Ordering::SeqCst);
                store.insert(two.clone(), soon()).await.expect_err("it is not sent again");
                assert!(store.load(two.id, soon()).await.expect("it answers").is_some());
            }
        }
    };
}

every_pool!(
    postgres,
    PostgresStore,
    sqlx::PgPool,
    "POSTGRES_URL",
    sqlx::postgres::PgPoolOptions,
    "SELECT pid::bigint FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "SELECT pg_terminate_backend(ID)",
    (0, b'B')
);
every_pool!(
    mysql,
    MysqlStore,
    sqlx::MySqlPool,
    "MYSQL_URL",
    sqlx::mysql::MySqlPoolOptions,
    "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE user = 'databag' AND id <> CONNECTION_ID()",
    "KILL ID",
    (4, 0x17)
);

/// Gives a store connections that are all to a server that takes no writes, as after a failover behind one address, while new ones
/// are to one that does. `new_ones_write` makes it so for the connections from then on, and `end` ends those that there are.
async fn writes_survive_a_failover<S: Directory>(
    mut store: S,
    connections: u32,
    new_ones_write: impl AsyncFn(bool),
    end: impl AsyncFn(),
) {
    store.prepare(&table("failover"), DEADLINE).await.expect("the server answers");
    store.insert(row(1), soon()).await.expect("the server answers");
    let of_user = |n| {
        let mut row = row(n);
        row.user = Some(Value::Integer(7));
        row
    };
    for call in 0..5 {
        new_ones_write(false).await;
        end().await;
        let load = || async {
            let begun = Instant::now();
            while store.load(row(1).id, soon()).await.is_err() && begun.elapsed() < RECOVERY {}
        };
        let use_all_connections =
            async || drop(futures_util::future::join_all((0..connections).map(|_| load())).await);
        use_all_connections().await;
        let refused = in_time(store.insert(row(2), soon())).await;
        use_all_connections().await;
        // Other tests need the server too, whatever becomes of this one.
        new_ones_write(true).await;
        let refused = refused.expect_err("the server takes no writes");
        assert!(format!("{refused:?}").contains("the server takes no writes"), "{refused:?}");
        assert!(!refused.is_refused(), "{refused:?}");
        let stored = store.load(row(1).id, soon()).await.expect("the server answers").expect("it is there");
        let done = match call {
            0 => in_time(store.insert(of_user(3), soon())).await.map(|()| true),
            1 => {
                let write = LimitedWrite::new(Write::Insert(of_user(4)), 1, stored.created);
                let written = in_time(store.write_limited(write, soon())).await;
                written.map(|(outcome, ended)| outcome == Outcome::Stored && ended == [row(3).id])
            }
            2 => in_time(store.update(touch(&stored), soon())).await.map(|it| it == Outcome::Stored),
            3 => in_time(store.remove(&Filter::Id(row(4).id), soon())).await.map(|ids| ids == [row(4).id]),
            _ => in_time(store.delete(stored.id, soon())).await,
        };
        assert!(done.as_ref().is_ok_and(|done| *done), "call {call}: {done:?}");
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn postgres_writes_survive_a_failover() {
    let _turn = turn();
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let raw = options.connect(&url("POSTGRES_URL")).await.expect("the server answers");
    let run = async |statement: &'static str| {
        sqlx::raw_sql(statement).execute(&raw).await.expect("good SQL");
    };
    let new_ones_write = async |write| {
        run(if write {
            "ALTER ROLE CURRENT_USER RESET default_transaction_read_only"
        } else {
            "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on"
        })
        .await;
    };
    let end = async || {
        run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
        .await;
    };
    let store = PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers");
    writes_survive_a_failover(store, PostgresStore::MAX_CONNECTIONS, new_ones_write, end).await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn mysql_writes_survive_a_failover() {
    let _turn = turn();
    let options = sqlx::mysql::MySqlPoolOptions::new().max_connections(1);
    let raw = options.connect(&url("MYSQL_URL")).await.expect("the server answers");
    let run = async |statement: &'static str| {
        sqlx::raw_sql(statement).execute(&raw).await.expect("good SQL");
    };
    let new_ones_write = async |write| {
        run(if write {
            "SET GLOBAL init_connect = ''"
        } else {
            "SET GLOBAL init_connect = 'SET SESSION TRANSACTION READ ONLY'"
        })
        .await;
    };
    let end = async || run("KILL USER ordinary@'%'").await;
    let store = MysqlStore::connect(&url("MYSQL_ORDINARY_URL")).await.expect("the server answers");
    writes_survive_a_failover(store, MysqlStore::MAX_CONNECTIONS, new_ones_write, end).await;
}

/// What becomes of the `COMMIT` of a log-in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Commit {
    Made,
    /// It does not reach the server, and the connection is closed.
    Cut,
    /// It reaches the server; the answer is lost, and the connection is closed.
    AnswerLost,
    /// The server does not understand it once, so the transaction stays open.
    Misspelt,
    /// The server refuses each one by this code, and the log-in has this status.
    Refused(&'static str, u16),
}

/// How many sessions a user may have in [`Few`].
const MAX: usize = 2;

#[derive(Databag)]
#[databag(table = "commit_shop", cookie = "commits", max_per_user = 2)]
struct Few {
    #[databag(user_id)]
    user_id: Option<i64>,
    visits: u32,
}

/// Log-ins of one user over a proxy that spoils the `COMMIT`, and by another program without it. `refuse` tells the server
/// the code by which it is to refuse them; `rewrite` makes a statement of a `COMMIT` that the server refuses so.
async fn log_ins_survive_a_failed_commit<S: Directory>(
    variable: &str,
    connect: impl AsyncFn(&str) -> Result<S, StoreError>,
    refusals: [Commit; 3],
    refuse: impl AsyncFn(Option<&'static str>),
    rewrite: fn(&mut [u8], &str),
) {
    let (url, next) = (url(variable), Arc::new(Mutex::new(Commit::Made)));
    let (server, of_proxy, is_lost) = (address(&url), Arc::clone(&next), Arc::new(AtomicBool::new(false)));
    let loses_answer = Arc::clone(&is_lost);
    let on_request = move |message: &mut [u8]| {
        // Not `READ COMMITTED`.
        if !message.windows(7).any(|text| text.starts_with(b"COMMIT") && text[6] != b'T') {
            return true;
        }
        let mut next = of_proxy.lock().unwrap_or_else(PoisonError::into_inner);
        match *next {
            Commit::Refused(code, _) => rewrite(message, code),
            commit => {
                *next = Commit::Made;
                match commit {
                    Commit::Cut => return false,
                    Commit::AnswerLost => loses_answer.store(true, Ordering::SeqCst),
                    Commit::Misspelt => replace(message, "COMMIT", "COMNIT"),
                    Commit::Made | Commit::Refused(..) => {}
                }
            }
        }
        true
    };
    let proxy = intercept(server, on_request, move |_| !is_lost.swap(false, Ordering::SeqCst));
    let keyring = Keyring::generate();
    let open = async |url: &str| {
        let store = connect(url).await.expect("the server answers");
        let builder = Sessions::<Few>::builder(store).keyring(keyring.clone());
        let sessions =
            builder.cleanup(Cleanup::Never).deadline(DEADLINE).build().await.expect("good settings");
        let log_in = async |mut session: Session<Few>, user: web::Path<i64>| {
            session.log_in(*user);
            "in"
        };
        let visit = async |mut session: Session<Few>| {
            session.visits += 1;
            "seen"
        };
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone()));
        let app = app.route("/login/{user}", web::post().to(log_in)).route("/visit", web::post().to(visit));
        (sessions, Site::new(actix_web::test::init_service(app).await))
    };
    let (sessions, near) = open(&url).await;
    let (_, far) = open(&url.replace(&server.to_string(), &proxy.to_string())).await;
    for commit in
        [Commit::Made, Commit::Cut, Commit::AnswerLost, Commit::Misspelt].into_iter().chain(refusals)
    {
        for is_new in [true, false] {
            let (user, case) = (databag_tests::users::user(), format!("{commit:?}, a new visitor: {is_new}"));
            let of_user = async || {
                let found = sessions.of_user(user).await.expect("it answers");
                found.iter().map(session_runtime::Snapshot::id).collect::<BTreeSet<_>>()
            };
            for _ in 0..MAX {
                assert_eq!(near.browser().post(&format!("/login/{user}")).await.status, 200, "{case}");
            }
            let (before, visitor) = (of_user().await, far.browser());
            if !is_new {
                assert_eq!(visitor.post("/visit").await.status, 200, "{case}");
            }
            if let Commit::Refused(code, _) = commit {
                refuse(Some(code)).await;
            }
            *next.lock().unwrap_or_else(PoisonError::into_inner) = commit;
            let answer = visitor.post(&format!("/login/{user}")).await;
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Commit::Made;
            let after = of_user().await;
            println!("{case}: {}", answer.status);
            let status = answer.status.as_u16();
            match commit {
                Commit::Made | Commit::AnswerLost => assert_eq!(status, 200, "{case}"),
                Commit::Refused(_, expected) => assert_eq!(status, expected, "{case}"),
                // The write was not made. That of a visitor's session is made again, a new one is not.
                Commit::Cut | Commit::Misspelt => assert!([200, 503].contains(&status), "{case}"),
            }
            assert_eq!(
                (after.len(), answer.set_cookies().len()),
                (MAX, usize::from(status == 200)),
                "{case}"
            );
            if status == 200 {
                let token = visitor.cookie("commits").expect("a cookie");
                let newcomer = session_runtime::Token::parse(&token).expect("a token").session_id();
                assert!(after.contains(&newcomer), "{case}: {after:?}");
            } else {
                // The last one that was sent may be made after the answer.
                let begun = after.difference(&before).count();
                assert!(begun <= usize::from(status == 503), "{case}: {after:?}");
            }
            if matches!(commit, Commit::Refused(..)) {
                refuse(None).await;
            }
            // The lock of the user is free.
            let other = near.browser();
            assert_eq!(other.post(&format!("/login/{user}")).await.status, 200, "{case}");
            assert_eq!(of_user().await.len(), MAX, "{case}");
        }
    }
}

#[actix_web::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn postgres_leaves_no_half_log_in_and_no_lock_when_a_commit_fails() {
    let _turn = turn();
    // A deferred trigger runs at `COMMIT`.
    let refuse = async |code: Option<&'static str>| {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url("POSTGRES_URL"))
            .await
            .expect("the server answers");
        let mut sql = "DROP TRIGGER IF EXISTS refuse ON commit_shop;".to_owned();
        if let Some(code) = code {
            let refusal = format!(
                "CREATE OR REPLACE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE 'refused' USING ERRCODE = '{code}'; END $$; \
                 CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON commit_shop \
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_commit()"
            );
            sql.push_str(&refusal);
        }
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("it is understood");
    };
    let connect = async |url: &str| PostgresStore::connect(url).await;
    // A serialization failure, a full disk, and a foreign key.
    let refusals =
        [("40001", 503), ("53100", 503), ("23503", 500)].map(|(code, status)| Commit::Refused(code, status));
    Box::pin(log_ins_survive_a_failed_commit("POSTGRES_URL", connect, refusals, refuse, |_, _| ())).await;
}

#[actix_web::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn mysql_leaves_no_half_log_in_and_no_lock_when_a_commit_fails() {
    let _turn = turn();
    // As a server of a Galera cluster refuses it, a full disk, and a foreign key.
    let refusals =
        [("1213", 503), ("1021", 503), ("1452", 500)].map(|(code, status)| Commit::Refused(code, status));
    let rewrite = |message: &mut [u8], code: &str| {
        let signal = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO={code}");
        let at = message.windows(7).position(|text| text == b"COMMIT;").expect("it is there");
        message[at..].fill(b' ');
        message[at..at + signal.len()].copy_from_slice(signal.as_bytes());
    };
    let connect = async |url: &str| MysqlStore::connect(url).await;
    let refuse = async |_: Option<&'static str>| ();
    Box::pin(log_ins_survive_a_failed_commit("MYSQL_URL", connect, refusals, refuse, rewrite)).await;
}

/// As a proxy that shuts down after its server has made the change.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn postgres_is_not_believed_that_a_change_was_not_made() {
    let _turn = turn();
    let (url, armed) = (url("POSTGRES_URL"), Arc::new(AtomicBool::new(false)));
    let (server, is_armed) = (address(&url), Arc::clone(&armed));
    let proxy = between(
        move || server,
        move |answer| {
            if is_armed.swap(false, Ordering::SeqCst) {
                let length = u32::try_from(answer.len() - 1).expect("it is short").to_be_bytes();
                let end = answer.len() - 2;
                answer[..end].fill(b' ');
                answer[end..].fill(0);
                answer[0] = b'E';
                answer[1..5].copy_from_slice(&length);
                answer[5..20].copy_from_slice(b"SFATAL\0C57P01\0M");
            }
            true
        },
    );
    let mut store = PostgresStore::connect(&url.replace(&server.to_string(), &proxy.to_string()))
        .await
        .expect("the server answers");
    store.prepare(&table("believed"), DEADLINE).await.expect("the server answers");
    store.insert(row(1), soon()).await.expect("the server answers");
    assert_eq!(store.update(touch(&row(1)), soon()).await.expect("it answers"), Outcome::Stored);
    let stored = store.load(row(1).id, soon()).await.expect("it answers").expect("it is there");
    armed.store(true, Ordering::SeqCst);
    store.update(touch(&stored), soon()).await.expect_err("whether it was made is unknown");
    assert!(!armed.load(Ordering::SeqCst), "the proxy has spoken");
    let found = store.load(row(1).id, soon()).await.expect("it answers").expect("it is there");
    assert_eq!(found.revision, 3);
}

/// Uses a store in every way while a server has other settings than it should.
async fn works<S: Directory + Clone>(name: &str, store: Result<S, StoreError>, again: Result<S, StoreError>) {
    let table = table("settings");
    let (mut store, mut other) = (store.expect(name), again.expect(name));
    store.prepare(&table, DEADLINE).await.expect(name);
    other.prepare(&table, DEADLINE).await.expect(name);
    for n in 1..=3 {
        store.insert(row(n), soon()).await.expect(name);
    }
    assert_eq!(store.update(touch(&row(1)), soon()).await.expect(name), Outcome::Stored, "{name}");
    assert!(store.delete(row(2).id, soon()).await.expect(name), "{name}");
    store.health(soon()).await.expect(name);
    assert_eq!(store.prune(row(1).created, 9, soon()).await.expect(name), 0, "{name}");
    drop(store);
    let loaded = other.load(row(1).id, soon()).await.expect(name).expect(name);
    assert_eq!(loaded.revision, 2, "{name}");
    assert_eq!(other.load(row(2).id, soon()).await.expect(name), None, "{name}");
    let listed = other.find(&Filter::All, Page::new(None, 9), soon()).await.expect(name);
    assert_eq!(listed.len(), 2, "{name}");
    assert_eq!(other.remove(&Filter::All, soon()).await.expect(name).len(), 2, "{name}");
    assert_eq!(other.count(&Filter::All, soon()).await.expect(name), 0, "{name}");
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn mysql_works_whatever_the_settings_of_the_server() {
    let _turn = turn();
    let raw = sqlx::MySqlPool::connect(&url("MYSQL_URL")).await.expect("the server answers");
    let mut set = raw.acquire().await.expect("the server answers");
    for (name, value) in [
        ("autocommit", "0"),
        ("completion_type", "'CHAIN'"),
        ("sql_safe_updates", "1"),
        ("sql_select_limit", "1"),
        ("sql_mode", "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'"),
        ("sql_mode", "'ORACLE'"),
        ("sql_mode", "'EMPTY_STRING_IS_NULL,IGNORE_SPACE'"),
        ("tx_isolation", "'SERIALIZABLE'"),
        ("character_set_server", "latin1"),
        ("collation_connection", "latin1_swedish_ci"),
        ("max_statement_time", "5"),
    ] {
        let sql = |value: &str| sqlx::AssertSqlSafe(format!("SET GLOBAL {name} = {value}"));
        let before: (String,) =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)")))
                .fetch_one(&mut *set)
                .await
                .expect("it is a setting");
        sqlx::raw_sql(sql(value)).execute(&mut *set).await.expect("it is a setting");
        let (store, again) =
            (MysqlStore::connect(&url("MYSQL_URL")).await, MysqlStore::connect(&url("MYSQL_URL")).await);
        let stored =
            tokio::spawn(async move { works(&format!("{name} = {value}"), store, again).await }).await;
        let before = if before.0.parse::<f64>().is_ok() { before.0 } else { format!("'{}'", before.0) };
        sqlx::raw_sql(sql(&before)).execute(&mut *set).await.expect("it is a setting");
        stored.expect("the store works");
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn postgres_works_whatever_the_settings_of_the_server() {
    let _turn = turn();
    let raw = sqlx::PgPool::connect(&url("POSTGRES_URL")).await.expect("the server answers");
    for (name, value) in [
        ("default_transaction_isolation", "'serializable'"),
        ("default_transaction_deferrable", "on"),
        ("standard_conforming_strings", "off"),
        ("synchronous_commit", "off"),
        ("bytea_output", "'escape'"),
        ("lock_timeout", "'1s'"),
        ("client_encoding", "'LATIN1'"),
        ("statement_timeout", "'5s'"),
    ] {
        let set = |to: String| sqlx::raw_sql(sqlx::AssertSqlSafe(format!("ALTER ROLE databag {to}")));
        set(format!("SET {name} = {value}")).execute(&raw).await.expect("it is a setting");
        let (logs, guard) = Logs::of_this_thread();
        let (store, again) = (
            PostgresStore::connect(&url("POSTGRES_URL")).await,
            PostgresStore::connect(&url("POSTGRES_URL")).await,
        );
        drop(guard);
        let warned = logs.lines(&["WARN", "synchronous_commit is off"]).len();
        assert_eq!(warned, if name == "synchronous_commit" { 2 } else { 0 }, "{name}: {}", logs.text());
        let stored =
            tokio::spawn(async move { works(&format!("{name} = {value}"), store, again).await }).await;
        set(format!("RESET {name}")).execute(&raw).await.expect("it is a setting");
        stored.expect("the store works");
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_write_without_its_replicas_is_an_error() {
    let _turn = turn();
    for variable in ["REDIS_URL", "REDIS_CLUSTER_URL"] {
        let mut store =
            RedisStore::connect(&url(variable)).await.expect("the server answers").min_replicas(1);
        store.prepare(&table("replicas"), DEADLINE).await.expect("the server answers");
        in_time(store.insert(row(1), soon())).await.expect_err("there is no replica");
        in_time(store.clone().min_replicas(0).load(row(1).id, soon())).await.expect("reading needs none");
    }
    // A connection of the program waits no longer.
    let client = redis::Client::open(url("REDIS_URL")).expect("a URL");
    let config = redis::aio::ConnectionManagerConfig::new().set_response_timeout(None);
    let given = redis::aio::ConnectionManager::new_with_config(client, config).await.expect("it answers");
    let mut given = RedisStore::from_manager(given).await.expect("the server answers").min_replicas(1);
    given.prepare(&table("replicas"), DEADLINE).await.expect("the server answers");
    let (begun, time) = (Instant::now(), Duration::from_secs(6));
    given.insert(row(1), begun + time).await.expect_err("there is no replica");
    assert!(begun.elapsed() < time * 3 / 4, "{:?}", begun.elapsed());
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_server_that_may_evict_sessions_causes_a_warning() {
    let _turn = turn();
    let client = redis::Client::open(url("REDIS_URL")).expect("a URL");
    let mut raw = client.get_multiplexed_async_connection().await.expect("the server answers");
    // Without a memory limit nothing is evicted, whatever the policy.
    for (limit, policy, warnings) in
        [("1gb", "allkeys-lru", 1), ("1gb", "noeviction", 0), ("0", "allkeys-lru", 0), ("0", "noeviction", 0)]
    {
        for (name, value) in [("maxmemory", limit), ("maxmemory-policy", policy)] {
            let set = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut raw).await;
            set.expect("it is a setting");
        }
        let (logs, _guard) = Logs::of_this_thread();
        RedisStore::connect(&url("REDIS_URL")).await.expect("it is no reason to refuse it");
        let told = logs.lines(&["WARN", "set maxmemory-policy to noeviction", policy]);
        assert_eq!(told.len(), warnings, "{limit} {policy}: {}", logs.text());
        let indexes = logs.lines(&["WARN", "by which a user's sessions are found and revoked"]);
        assert_eq!(indexes.len(), warnings, "{limit} {policy}: {}", logs.text());
    }
}

async fn raw_sentinel() -> MultiplexedConnection {
    let url = format!("redis://{}", address(&url("REDIS_SENTINEL_URL")));
    let client = redis::Client::open(url).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("the sentinel answers")
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn sentinels_get_their_own_password() {
    let _turn = turn();
    let mut raw = raw_sentinel().await;
    let mut acl = async |words: &[&str]| {
        redis::cmd("ACL").arg("SETUSER").arg(words).exec_async(&mut raw).await.expect("it is a rule");
    };
    let url = url("REDIS_SENTINEL_URL");
    acl(&["shop", "on", ">open sesame", "~*", "&*", "+@all"]).await;
    acl(&["default", "off"]).await;
    let nobody = RedisStore::connect(&url).await;
    let somebody = format!("{url}?sentinel-user=shop&sentinel-password=open+sesame&protocol=resp3");
    let somebody = RedisStore::connect(&somebody).await;
    acl(&["default", "on"]).await;
    nobody.expect_err("it did not say who it is");
    let mut store = somebody.expect("it said who it is");
    store.prepare(&table("guarded"), DEADLINE).await.expect("the master answers");
    in_time(store.insert(row(1), soon())).await.expect("the master answers");
}

/// The failover of a managed service: one address, and the old master keeps its connections.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn the_store_reconnects_from_a_demoted_server_to_the_new_master() {
    let _turn = turn();
    let client = redis::Client::open(url("REDIS_URL")).expect("a URL");
    let mut demoted = client.get_multiplexed_async_connection().await.expect("the server answers");
    let mut sentinel = raw_sentinel().await;
    let mut of_master = redis::cmd("SENTINEL");
    of_master.arg("GET-MASTER-ADDR-BY-NAME").arg("databag");
    let (host, port): (String, u16) = of_master.query_async(&mut sentinel).await.expect("it knows");
    let promoted = format!("{host}:{port}").parse().expect("an address");

    let now = Arc::new(Mutex::new(address(&url("REDIS_URL"))));
    let target = Arc::clone(&now);
    let endpoint = between(move || *target.lock().unwrap_or_else(PoisonError::into_inner), |_| true);
    let mut store = RedisStore::connect(&format!("redis://{endpoint}")).await.expect("the server answers");
    store.prepare(&table("endpoint"), DEADLINE).await.expect("the server answers");
    store.insert(row(1), soon()).await.expect("it is the master");

    *now.lock().unwrap_or_else(PoisonError::into_inner) = promoted;
    let replicate = |of: &'static str, port: &'static str| {
        let mut command = redis::cmd("REPLICAOF");
        command.arg(of).arg(port);
        command
    };
    // A replica of no server: it keeps its rows for the other tests.
    replicate("127.0.0.1", "1").exec_async(&mut demoted).await.expect("it is demoted");
    // The refusal of the replica is no answer: the call is sent to the new master.
    let inserted = in_time(store.insert(row(2), soon())).await;
    let health = in_time(store.health(soon())).await;
    replicate("NO", "ONE").exec_async(&mut demoted).await.expect("it is a master again");
    inserted.expect("the new master answers");
    health.expect("the new master answers");
}

/// Connecting is slow, as with TLS over a long distance.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_connection_that_takes_longer_than_a_deadline_is_established() {
    const SHORT: Duration = Duration::from_millis(100);
    let _turn = turn();
    let (server, breaks) = (address(&url("REDIS_URL")), Arc::new(AtomicBool::new(false)));
    let breaking = Arc::clone(&breaks);
    let far = between(
        move || {
            std::thread::sleep(3 * SHORT);
            server
        },
        move |_| !breaking.swap(false, Ordering::Relaxed),
    );
    let mut store = RedisStore::connect(&format!("redis://{far}")).await.expect("it takes its time");
    store.prepare(&table("far"), SHORT).await.expect("the server answers");
    store.insert(row(1), soon()).await.expect("the server answers");
    breaks.store(true, Ordering::Relaxed);
    store.load(row(1).id, Instant::now() + SHORT).await.expect_err("the connection breaks");
    let begun = Instant::now();
    while store.load(row(1).id, Instant::now() + SHORT).await.is_err() {
        assert!(begun.elapsed() < RECOVERY, "it does not come back");
    }
}

#[actix_web::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_write_waits_for_its_replica_and_the_store_finds_the_master_that_sentinels_promote() {
    let _turn = turn();
    let store = RedisStore::connect(&url("REDIS_SENTINEL_URL")).await.expect("the sentinel answers");
    let mut careful = store.min_replicas(1);
    careful.prepare(&table("failover"), DEADLINE).await.expect("the master answers");
    careful.insert(row(1), soon()).await.expect("the replica has it");
    let store = careful.clone().min_replicas(0);
    let keyring = Keyring::generate();
    let shop = Sessions::<Shop>::builder(careful.clone()).keyring(keyring).deadline(8 * DEADLINE);
    let shop = shop.cleanup(Cleanup::Never).build().await.expect("the master answers");
    let (_, bought) = shop.create(Shop { items: 1 }).await.expect("the replica has it");
    let app = App::new()
        .wrap(SessionMiddleware::new(shop.clone()))
        .route(
            "/buy",
            web::post().to(async |mut shop: Session<Shop>| {
                shop.items += 1;
                "bought"
            }),
        )
        .route(
            "/save",
            web::post().to(async |mut shop: Session<Shop>| {
                shop.items += 1;
                shop.save().await.map(|()| "saved")
            }),
        );
    let site = Site::new(actix_web::test::init_service(app).await);
    let browser = site.browser();
    assert_eq!(browser.post("/buy").await.status, 200);

    Server("replica").pause();
    // The sessions find the row of such a write, and it is an error all the same.
    let created = shop.create(Shop { items: 2 }).await.map(drop);
    let updated = shop.update(bought.id(), |shop| shop.items += 1).await;
    let (ended, saved) = (browser.post("/buy").await, site.browser().post("/save").await);
    for failed in [created, updated] {
        let Err(Error::Store(failed)) = failed else { panic!("the replica has it not") };
        assert!(!failed.is_refused());
    }
    for answer in [ended, saved] {
        assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (503, 0));
    }
    let begun = Instant::now();
    loop {
        // Long enough for the answer that says more than a missed deadline.
        let deadline = Instant::now() + 6 * DEADLINE;
        let late = careful.insert(row(2), deadline).await.expect_err("the replica has it not");
        let cause = std::error::Error::source(&late).expect("a cause").to_string();
        if cause.contains("0 of 1 replicas have acknowledged the write") {
            break;
        }
        // On a busy machine the sentinel may take the master for down meanwhile.
        assert!(begun.elapsed() < RECOVERY, "{cause}");
        drop(store.delete(row(2).id, soon()).await);
    }
    in_time(store.insert(row(3), soon())).await.expect("it asks for no replica");
    Server("replica").resume();
    let begun = Instant::now();
    while in_time(careful.insert(row(5), soon())).await.is_err() {
        // A write without its acknowledgement is stored all the same, and would block the next insert.
        in_time(store.delete(row(5).id, soon())).await.expect("it asks for no replica");
        assert!(begun.elapsed() < RECOVERY, "the replica does not catch up");
    }

    Server("master").kill();
    is_away(&store).await;
    comes_back(&store).await;
    in_time(careful.insert(row(4), soon())).await.expect_err("no replica is left");
}
