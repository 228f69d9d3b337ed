//! Connections of Redis that break, fall silent or may do little.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers --test connections`. Connections of other clients
//! are closed here, so these tests are a program of their own and run one after the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use databag_tests::Logs;
use databag_tests::rows::{marks, row, table, touch, with};
use databag_tests::server::{self, Server, address, url};
use futures_util::future::join_all;
use redis::FromRedisValue as _;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use session_runtime::store::{
    ColumnRef, Comparison, Filter, LimitedWrite, Outcome, Page, Row, Scope, StoreError, Update, Write,
};
use session_runtime::{AnyStore, Databag, Directory, RedisStore, Sessions, Store, Timestamp, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(2);

fn soon() -> Instant {
    Instant::now() + DEADLINE
}

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn raw(address: SocketAddr) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{address}")).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("the server answers")
}

/// Servers of the variable's URL that keep rows.
async fn servers(variable: &str) -> Vec<SocketAddr> {
    let url = url(variable);
    match variable {
        "REDIS_SENTINEL_URL" => {
            let mut of_master = redis::cmd("SENTINEL");
            of_master.arg("GET-MASTER-ADDR-BY-NAME").arg("databag");
            let mut sentinel = raw(address(&url)).await;
            let (host, port): (String, u16) = of_master.query_async(&mut sentinel).await.expect("it knows");
            vec![format!("{host}:{port}").parse().expect("an address")]
        }
        "REDIS_CLUSTER_URL" => {
            let nodes = url.trim_start_matches("redis-cluster://").split(',');
            nodes.map(|node| node.parse().expect("an address")).collect()
        }
        _ => vec![address(&url)],
    }
}

/// A way to the servers of a URL that can be cut: connections made before stay open, and no answer comes through.
struct Way {
    url: String,
    cuts: watch::Sender<(u32, Cut)>,
    /// How many connections were made.
    made: Arc<AtomicUsize>,
}

/// What a cut connection still carries.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Nothing,
    /// The server executes them.
    Requests,
}

impl Way {
    async fn to(variable: &str) -> Self {
        let (cuts, made) = (watch::Sender::new((0, Cut::Nothing)), Arc::new(AtomicUsize::new(0)));
        let mut servers = servers(variable).await;
        let sentinel = (variable == "REDIS_SENTINEL_URL").then(|| address(&url(variable)));
        servers.splice(0..0, sentinel);
        let mut ways = Vec::new();
        for server in servers {
            ways.push((TcpListener::bind("127.0.0.1:0").await.expect("a port"), server));
        }
        // Sentinels and clusters announce their servers; all ports have five digits.
        let port = |address: SocketAddr| address.port().to_string();
        let announced: Vec<_> = ways
            .iter()
            .map(|(way, server)| (port(*server), port(way.local_addr().expect("it is bound"))))
            .filter(|_| variable != "REDIS_URL")
            .flat_map(|(from, to)| {
                let of = |mark: &str| (format!("{mark}{from}\r\n"), format!("{mark}{to}\r\n"));
                [of(":"), of("$5\r\n")]
            })
            .collect();
        let announced = Arc::new(announced);
        let hosts: Vec<_> = ways.iter().map(|(way, _)| way.local_addr().expect("it is bound")).collect();
        for (way, server) in ways {
            let (cuts, made, announced) = (cuts.clone(), Arc::clone(&made), Arc::clone(&announced));
            tokio::spawn(async move {
                loop {
                    let (client, _) = way.accept().await.expect("it listens");
                    made.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(relay(client, server, cuts.subscribe(), Arc::clone(&announced)));
                }
            });
        }
        let url = match variable {
            "REDIS_SENTINEL_URL" => format!("redis-sentinel://{}/databag", hosts[0]),
            "REDIS_CLUSTER_URL" => {
                let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
                format!("redis-cluster://{}", hosts.join(","))
            }
            _ => format!("redis://{}", hosts[0]),
        };
        Self { url, cuts, made }
    }

    fn cut(&self, cut: Cut) {
        self.cuts.send_modify(|last| *last = (last.0 + 1, cut));
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

async fn relay(
    client: TcpStream,
    server: SocketAddr,
    cuts: watch::Receiver<(u32, Cut)>,
    announced: Arc<Vec<(String, String)>>,
) {
    let (before, _) = *cuts.borrow();
    let cut = || Some(*cuts.borrow()).filter(|(cuts, _)| *cuts > before).map(|(_, cut)| cut);
    let server = TcpStream::connect(server).await.expect("the server listens");
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            if !matches!(cut(), Some(Cut::Nothing)) && to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            for (from, to) in &*announced {
                server::replace(&mut buffer[..read], from, to);
            }
            if cut().is_none() && to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}

const TOPOLOGIES: [&str; 3] = ["REDIS_URL", "REDIS_SENTINEL_URL", "REDIS_CLUSTER_URL"];

/// Makes every call on a row, each after an interruption.
async fn works_after_each(store: &RedisStore, n: u8, interrupt: impl AsyncFn()) {
    let stored = row(n);
    let renamed = with(stored.clone(), |it| {
        it.id = row(n + 100).id;
        it.revision = 3;
    });
    interrupt().await;
    store.insert(stored.clone(), soon()).await.expect("an insert");
    interrupt().await;
    assert_eq!(store.load(stored.id, soon()).await.expect("a load"), Some(stored.clone()));
    interrupt().await;
    assert_eq!(store.update(touch(&stored), soon()).await.expect("an update"), Outcome::Stored);
    interrupt().await;
    let rename = Update::new(stored.id, 2, renamed.clone());
    assert_eq!(store.update(rename, soon()).await.expect("a rename"), Outcome::Stored);
    interrupt().await;
    assert_eq!(store.count(&of_user(n), soon()).await.expect("a count"), 1);
    interrupt().await;
    assert!(store.delete(renamed.id, soon()).await.expect("a deletion"));
    interrupt().await;
    assert_eq!(store.count(&of_user(n), soon()).await.expect("a count"), 0);
}

fn of_user(n: u8) -> Filter {
    Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(n.into()))
}

async fn prepared(url: &str, name: &str) -> RedisStore {
    let mut store = RedisStore::connect(url).await.expect("it answers");
    store.prepare(&table(name), DEADLINE).await.expect("it is ready");
    store
}

/// Closes the connections of all clients of the servers, as servers do with idle ones.
async fn close(servers: &[SocketAddr]) {
    for server in servers {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal");
        kill.exec_async(&mut raw(*server).await).await.expect("it answers");
    }
    // The news of it arrive.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_connection_that_was_closed_while_idle_costs_no_call() {
    let _turn = turn();
    for variable in TOPOLOGIES {
        let store = prepared(&url(variable), "idle").await;
        let servers = servers(variable).await;
        for n in 0..20 {
            close(&servers).await;
            store.load(row(n).id, soon()).await.unwrap_or_else(|error| panic!("{variable} {n}: {error:?}"));
        }
        works_after_each(&store, 1, async || close(&servers).await).await;
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_connection_of_the_program_that_was_closed_while_idle_costs_no_call() {
    let _turn = turn();
    let (single, nodes) = (servers("REDIS_URL").await, servers("REDIS_CLUSTER_URL").await);
    let client = redis::Client::open(url("REDIS_URL")).expect("a URL");
    let connection = ConnectionManager::new(client).await.expect("the server answers");
    let single_store = RedisStore::from_manager(connection).await.expect("the server answers");
    let urls = nodes.iter().map(|node| format!("redis://{node}"));
    let client = redis::cluster::ClusterClient::new(urls).expect("URLs");
    let cluster = client.get_async_connection().await.expect("the cluster answers");
    let cluster = RedisStore::from_cluster(cluster).await.expect("the cluster answers");
    for (mut store, servers) in [(single_store, single), (cluster, nodes)] {
        store.prepare(&table("given"), DEADLINE).await.expect("it is ready");
        works_after_each(&store, 1, async || close(&servers).await).await;
    }
}

/// Every call meets a silent connection and succeeds within its own deadline, also if the server has executed it.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_connection_that_falls_silent_costs_no_call() {
    let _turn = turn();
    let silenced = TOPOLOGIES.map(|variable| {
        [Cut::Nothing, Cut::Requests].map(async |cut| {
            let way = Way::to(variable).await;
            let store = prepared(&way.url, "silent").await;
            works_after_each(&store, 1, async || way.cut(cut)).await;
        })
    });
    join_all(silenced.into_iter().flatten()).await;
}

/// Calls in flight on one connection share the next one.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_silent_connection_is_replaced_once() {
    let _turn = turn();
    let way = Way::to("REDIS_URL").await;
    let store = prepared(&way.url, "replaced").await;
    for n in 0..10 {
        store.insert(row(n), soon()).await.expect("it answers");
    }
    assert_eq!(way.made(), 1);
    way.cut(Cut::Nothing);
    let loads = join_all((0..50).map(|n| store.load(row(n).id, soon())));
    let updates = join_all((0..10).map(|n| store.update(touch(&row(n)), soon())));
    let (loads, updates) = tokio::join!(loads, updates);
    for (n, load) in loads.into_iter().enumerate() {
        assert_eq!(load.expect("it is sent again").is_some(), n < 10);
    }
    for update in updates {
        assert_eq!(update.expect("it is sent again"), Outcome::Stored);
    }
    assert_eq!(way.made(), 2);
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn short_deadlines_cause_no_storm_of_connections() {
    const SHORT: Duration = Duration::from_millis(5);
    let _turn = turn();
    let way = Way::to("REDIS_URL").await;
    let store = prepared(&way.url, "storm").await;
    store.insert(row(1), soon()).await.expect("it answers");
    Server("redis").pause();
    let begun = Instant::now();
    for _ in 0..100 {
        store.load(row(1).id, Instant::now() + SHORT).await.expect_err("it is paused");
        tokio::time::sleep(SHORT).await;
    }
    let (took, made) = (begun.elapsed(), way.made());
    Server("redis").resume();
    // A connection has 200 ms to answer.
    let most = usize::try_from(took.as_millis() / 200).expect("a number") + 2;
    assert!(made <= most, "{made} connections in {took:?}");
    assert!(store.load(row(1).id, soon()).await.expect("it is back").is_some());
}

/// The update was made, its answer was lost, and others have changed the row since.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn an_update_that_is_sent_again_is_no_conflict_with_itself() {
    let _turn = turn();
    for variable in TOPOLOGIES {
        let way = Way::to(variable).await;
        let (store, table) = (RedisStore::connect(&way.url).await, table("itself"));
        let mut store = store.expect("it answers");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let mut other = RedisStore::connect(&url(variable)).await.expect("it answers");
        other.prepare(&table, DEADLINE).await.expect("it is ready");
        for (n, ends) in [(1, false), (2, true)] {
            store.insert(row(n), soon()).await.expect("it fits");
            // The server learns the script.
            assert_eq!(store.update(touch(&row(n)), soon()).await.expect("it answers"), Outcome::Stored);
            let revision = |revision| {
                with(touch(&row(n)), |it| (it.expected, it.row.revision) = (revision - 1, revision))
            };
            way.cut(Cut::Requests);
            let lost = store.update(revision(3), Instant::now() + 3 * DEADLINE);
            let others = async {
                while other.load(row(n).id, soon()).await.expect("it answers").expect("it is there").revision
                    < 3
                {}
                if ends {
                    assert!(other.delete(row(n).id, soon()).await.expect("it answers"));
                    return;
                }
                for next in 4..14 {
                    let outcome = other.update(revision(next), soon()).await;
                    assert_eq!(outcome.expect("it answers"), Outcome::Stored);
                }
            };
            let (lost, ()) = tokio::join!(lost, others);
            let error = lost.expect_err("it is not known whether it was made");
            let cause = std::error::Error::source(&error).expect("a cause").to_string();
            assert!(cause.contains("sent twice"), "{variable}: {cause}");
        }
    }
}

/// The client of a call has gone away, and its answer came later.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_call_that_was_dropped_does_not_make_its_connection_silent() {
    let _turn = turn();
    let way = Way::to("REDIS_URL").await;
    let store = prepared(&way.url, "dropped").await;
    Server("redis").pause();
    let dropped = tokio::time::timeout(Duration::from_millis(5), store.load(row(1).id, soon())).await;
    Server("redis").resume();
    dropped.expect_err("it is paused");
    tokio::time::sleep(Duration::from_millis(300)).await;
    Server("redis").pause();
    let hasty = store.load(row(1).id, Instant::now() + Duration::from_millis(100)).await;
    Server("redis").resume();
    hasty.expect_err("it is paused");
    assert_eq!(way.made(), 1);
}

/// A worker of actix-web has a runtime of its own, on a thread that a handler can block.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn each_runtime_has_a_connection_of_its_own() {
    let _turn = turn();
    let way = Way::to("REDIS_URL").await;
    let store = prepared(&way.url, "worker").await;
    let connected_elsewhere = async |make: Box<dyn FnOnce() + Send>| {
        let (done, is_done) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            make();
            done.send(())
        });
        is_done.await.expect("no panic");
    };
    close(&servers("REDIS_URL").await).await;
    let of_worker = store.clone();
    let (blocks, is_blocked) = tokio::sync::oneshot::channel();
    let (unblock, unblocked) = std::sync::mpsc::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let load = async {
            of_worker.load(row(1).id, soon()).await.expect("it connects again");
            blocks.send(()).expect("the test waits");
            unblocked.recv().expect("the test goes on");
            of_worker.load(row(1).id, soon()).await.expect("it is connected");
        };
        runtime.expect("a runtime").block_on(load);
    };
    let elsewhere = async {
        is_blocked.await.expect("the worker runs");
        for n in 0..10 {
            store.load(row(n).id, soon()).await.expect("no thread that is blocked has a part in it");
        }
        unblock.send(()).expect("the worker waits");
    };
    // The worker ends, and with it its connection.
    tokio::join!(connected_elsewhere(Box::new(work)), elsewhere);
    store.load(row(1).id, soon()).await.expect("it connects again");
    assert_eq!(way.made(), 3);

    // The runtime that connected first may end too.
    let (url, slot) = (way.url.clone(), Arc::new(Mutex::new(None)));
    let filled = Arc::clone(&slot);
    let connect = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let store = runtime.expect("a runtime").block_on(prepared(&url, "worker"));
        *filled.lock().expect("no panic") = Some(store);
    };
    connected_elsewhere(Box::new(connect)).await;
    let store = slot.lock().expect("no panic").take().expect("it is connected");
    store.load(row(1).id, soon()).await.expect("it connects again");
}

/// The answer to a call arrives while another handler blocks the thread, until the call has to be sent again or its time is
/// over. A worker of actix-web runs its requests as tasks of a `LocalSet`.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn an_answer_that_arrives_while_the_thread_is_blocked_is_taken() {
    let _turn = turn();
    let (made, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (server, count, counts) = (address(&url("REDIS_URL")), Arc::clone(&made), Arc::clone(&answered));
    let way = server::between(
        move || {
            count.fetch_add(1, Ordering::SeqCst);
            server
        },
        move |_| {
            counts.fetch_add(1, Ordering::SeqCst);
            true
        },
    );
    let url = format!("redis://{way}");
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let block = async |until: Instant| {
            // The connection sends the call.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let before = answered.load(Ordering::SeqCst);
            Server("redis").resume();
            while answered.load(Ordering::SeqCst) == before || Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            let store = prepared(&url, "blocked").await;
            store.insert(row(1), soon()).await.expect("it answers");
            let to = |revision| {
                with(touch(&row(1)), |it| (it.expected, it.row.revision) = (revision - 1, revision))
            };
            // The server learns the script.
            assert_eq!(store.update(to(2), soon()).await.expect("it answers"), Outcome::Stored);
            let time = Duration::from_secs(1);
            for (revision, blocked) in [(3, time / 2), (4, time)] {
                let update = to(revision);
                let call = store.clone();
                Server("redis").pause();
                let begun = Instant::now();
                let call = tokio::task::spawn_local(async move { call.update(update, begun + time).await });
                block(begun + blocked).await;
                let outcome = call.await.expect("no panic").expect("the answer is there");
                assert_eq!(outcome, Outcome::Stored, "{blocked:?}");
                assert_eq!(made.load(Ordering::SeqCst), 1, "{blocked:?}: it is not sent again");
            }
            let sessions = Sessions::<Visits>::builder(store).danger_plaintext().deadline(time).build().await;
            let sessions = sessions.expect("it answers");
            let (token, session) = sessions.create(Visits { visits: 1 }).await.expect("it answers");
            for blocked in [time / 2, time] {
                let (id, of_request, token) = (session.id(), sessions.clone(), token.clone());
                Server("redis").pause();
                let begun = Instant::now();
                let call = tokio::task::spawn_local(async move { of_request.load(&token).await });
                block(begun + blocked).await;
                let loaded = call.await.expect("no panic").expect("the answer is there");
                assert_eq!(loaded.expect("it is stored").id(), id, "{blocked:?}");
                assert_eq!(made.load(Ordering::SeqCst), 1, "{blocked:?}: it is not sent again");
            }
        });
    });
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || ended.send(worker.join().is_ok()));
    assert!(has_ended.await.expect("it is joined"), "the worker has panicked");
}

/// A rename stopped after its second step, and the server takes no writes.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_row_whose_rename_is_not_complete_is_read_from_a_server_that_takes_no_writes() {
    let _turn = turn();
    let mut raw = raw(address(&url("REDIS_URL"))).await;
    let table = table("readonly");
    let mut store = RedisStore::connect(&url("REDIS_URL")).await.expect("it answers");
    store.prepare(&table, DEADLINE).await.expect("it is ready");
    let (old, new) = (row(1), with(row(2), |it| it.user = Some(Value::Integer(1))));
    let key = |row: &Row| format!("databag:{{{}:{:02x}}}:{}", table.name, row.id.as_bytes()[0], row.id);
    store.insert(old.clone(), soon()).await.expect("it fits");
    store.insert(new.clone(), soon()).await.expect("it fits");
    for (script, row, other) in [(marks::PENDING, &new, &old), (marks::MOVED, &old, &new)] {
        let mut step = redis::cmd("EVAL");
        step.arg(script).arg(1).arg(key(row)).arg(other.id.as_bytes());
        step.exec_async(&mut raw).await.expect("it answers");
    }
    for (setting, value, back) in [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")] {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(setting).arg(value).exec_async(&mut raw).await.expect("it is a setting");
        let loaded = store.load(new.id, soon()).await;
        let found = store.find(&of_user(1), Page::newest(9), soon()).await;
        let updated = store.update(touch(&new), soon()).await;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(setting).arg(back).exec_async(&mut raw).await.expect("it is a setting");
        assert_eq!(loaded.expect("it only reads"), Some(new.clone()), "{setting}");
        assert_eq!(found.expect("it only reads"), std::slice::from_ref(&new), "{setting}");
        updated.expect_err("it takes no writes");
    }
    let careful = store.clone().min_replicas(1);
    assert_eq!(careful.load(new.id, soon()).await.expect("it only reads"), Some(new.clone()));
    // The reader has completed it.
    let mut kind = redis::cmd("GETRANGE");
    kind.arg(key(&new)).arg(0).arg(0);
    assert_eq!(kind.query_async::<String>(&mut raw).await.expect("it answers"), "r");
}

/// What needs no memory is done by a server that has none left: the end of a rename, and the answer to a deletion that was
/// made.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_full_server_completes_renames_and_answers_deletions_again() {
    let _turn = turn();
    let mut raw = raw(address(&url("REDIS_URL"))).await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let way = server::silence(address(&url("REDIS_URL")), move |bytes| {
        heard.lock().expect("no panic").extend_from_slice(bytes);
        false
    });
    let (url, table) = (format!("redis://{way}"), table("full"));
    let mut store = RedisStore::connect(&url).await.expect("it answers");
    store.prepare(&table, DEADLINE).await.expect("it is ready");
    let (old, new) = (row(1), with(row(2), |it| it.user = Some(Value::Integer(1))));
    let key = |row: &Row| format!("databag:{{{}:{:02x}}}:{}", table.name, row.id.as_bytes()[0], row.id);
    for stored in [&old, &new, &row(3)] {
        store.insert(stored.clone(), soon()).await.expect("it fits");
    }
    for (script, row, other) in [(marks::PENDING, &new, &old), (marks::MOVED, &old, &new)] {
        let mut step = redis::cmd("EVAL");
        step.arg(script).arg(1).arg(key(row)).arg(other.id.as_bytes());
        step.exec_async(&mut raw).await.expect("it answers");
    }
    said.lock().expect("no panic").clear();
    assert!(store.delete(row(3).id, soon()).await.expect("it answers"));
    let said = std::mem::take(&mut *said.lock().expect("no panic"));
    let names_row = |word: &Vec<u8>| *word == key(&row(3)).into_bytes();
    let deletion = commands(&said).into_iter().rfind(|call| call.iter().any(names_row)).expect("a deletion");

    let limit = async |raw: &mut MultiplexedConnection, limit: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(limit).exec_async(raw).await.expect("it is a setting");
    };
    limit(&mut raw, "1").await;
    let refused = store.insert(row(4), soon()).await;
    let loaded = store.load(new.id, soon()).await;
    let mut again = redis::cmd(str::from_utf8(&deletion[0]).expect("a name"));
    let again = again.arg(&deletion[1..]).query_async::<(String, Vec<u8>)>(&mut raw).await;
    let mut kinds = Vec::new();
    for row in [&old, &new] {
        let kind = redis::cmd("GETRANGE").arg(key(row)).arg(0).arg(0).query_async::<String>(&mut raw).await;
        kinds.push(kind.expect("it answers"));
    }
    limit(&mut raw, "0").await;
    refused.expect_err("it is full");
    assert_eq!(loaded.expect("it only reads"), Some(new));
    assert_eq!(kinds, ["c", "r"], "the rename is complete");
    assert_eq!(again.expect("it was made").0, "stored");
}

/// `WAIT` waits for what was written over the same connection.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_step_of_a_rename_that_is_sent_again_writes_again() {
    let _turn = turn();
    let mut raw = raw(address(&url("REDIS_URL"))).await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let way = server::silence(address(&url("REDIS_URL")), move |bytes| {
        heard.lock().expect("no panic").extend_from_slice(bytes);
        false
    });
    let store = prepared(&format!("redis://{way}"), "again").await;
    store.insert(row(1), soon()).await.expect("it fits");
    assert_eq!(
        store.update(Update::new(row(1).id, 1, row(2)), soon()).await.expect("it answers"),
        Outcome::Stored
    );
    let said = std::mem::take(&mut *said.lock().expect("no panic"));
    let mut steps = commands(&said);
    // The steps of a rename have the bytes of the other id in their values.
    let ids = [row(1).id, row(2).id];
    let names = |word: &[u8]| {
        ids.iter().any(|id| word == id.as_bytes() || word.get(13..45) == Some(id.as_bytes().as_slice()))
    };
    steps.retain(|step| step.iter().any(|word| names(word)));
    let mut writes = async |step: &[Vec<u8>]| {
        let mut changes = Vec::new();
        for _ in 0..2 {
            let info: String =
                redis::cmd("INFO").arg("persistence").query_async(&mut raw).await.expect("it answers");
            let count = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
            changes.push(count.expect("it says how many").parse::<u64>().expect("a number"));
            if changes.len() == 1 {
                let mut again = redis::cmd(str::from_utf8(&step[0]).expect("a name"));
                again.arg(&step[1..]).exec_async(&mut raw).await.expect("it answers");
            }
        }
        changes[1] - changes[0]
    };
    assert!(steps.len() >= 4, "{}", steps.len());
    for step in &steps {
        assert!(writes(step).await > 0, "{}", String::from_utf8_lossy(&step.concat()));
    }
}

/// Reads what a client has said: commands of words.
fn commands(mut said: &[u8]) -> Vec<Vec<Vec<u8>>> {
    fn number(said: &mut &[u8]) -> usize {
        let end = said.iter().position(|byte| *byte == b'\r').expect("a line");
        let number = str::from_utf8(&said[1..end]).expect("a text").parse().expect("a number");
        *said = &said[end + 2..];
        number
    }
    let mut commands = Vec::new();
    while !said.is_empty() {
        let words = (0..number(&mut said)).map(|_| {
            let length = number(&mut said);
            let (word, rest) = said.split_at(length);
            said = &rest[2..];
            word.to_vec()
        });
        commands.push(words.collect());
    }
    commands
}

/// A node that hangs costs the calls on its own rows.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_silent_node_of_a_cluster_does_not_disturb_the_others() {
    let _turn = turn();
    let nodes = servers("REDIS_CLUSTER_URL").await;
    let configure = async |setting: &str, value: &str| {
        for node in &nodes {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg(setting).arg(value);
            set.exec_async(&mut raw(*node).await).await.expect("it is a setting");
        }
    };
    configure("cluster-require-full-coverage", "no").await;
    let store = prepared(&url("REDIS_CLUSTER_URL"), "hangs").await;
    for n in 0..60 {
        store.insert(row(n), soon()).await.expect("it answers");
    }
    Server("cluster-1").pause();
    let first = join_all((0..60).map(|n| store.load(row(n).id, soon()))).await;
    let hangs: Vec<u8> = (0..60).filter(|n| first[usize::from(*n)].is_err()).collect();
    assert!((1..50).contains(&hangs.len()), "{hangs:?}");
    let begun = Instant::now();
    let mut failed = Vec::new();
    while begun.elapsed() < 3 * DEADLINE {
        let answers = join_all((0..60).filter(|n| !hangs.contains(n)).map(|n| store.load(row(n).id, soon())));
        let hanging = store.load(row(hangs[0]).id, soon());
        let (answers, _) = tokio::join!(answers, hanging);
        failed.extend(answers.into_iter().filter_map(Result::err));
    }
    Server("cluster-1").resume();
    while store.load(row(hangs[0]).id, soon()).await.is_err() {
        assert!(begun.elapsed() < 30 * DEADLINE, "it does not come back");
    }
    configure("cluster-require-full-coverage", "yes").await;
    assert!(failed.is_empty(), "{failed:?}");
}

/// What the documentation of the store says about its user.
fn documentation() -> String {
    let docs =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../session-runtime/src/store/redis/mod.rs");
    let docs = std::fs::read_to_string(docs).expect("the source of the store");
    docs.split_once("ACL SETUSER").expect("it is documented").1.to_owned()
}

/// The rules for a user of Redis that the documentation of the store states: for keys, and for commands.
fn documented_rules() -> (Vec<String>, Vec<String>) {
    let docs = documentation();
    let (line, _) = docs.split_once("```").expect("it is a block");
    let rules = line.split_whitespace().filter(|word| *word != "///").map(str::to_owned);
    rules.filter(|rule| rule.starts_with(['~', '+'])).partition(|rule| rule.starts_with('~'))
}

/// The commands that the documentation adds to them for this case.
fn documented_additions(with: &str) -> Vec<String> {
    let docs = documentation();
    let (_, line) = docs.split_once(&format!("/// | {with} | `")).expect("it is in the table");
    let (commands, _) = line.split_once('`').expect("it ends");
    commands.replace("\\|", "|").split(' ').map(str::to_owned).collect()
}

/// Makes the calls of a program with a user who may run these commands. Returns the ones that the servers refused, and why
/// no program begins, if it does not.
async fn refused(
    variable: &str,
    near_cache: Option<Duration>,
    keys: &[String],
    commands: &[String],
) -> (Vec<String>, Option<String>) {
    const USER: &str = "databag";
    let servers = servers(variable).await;
    let mut raws = Vec::new();
    for server in &servers {
        raws.push(raw(*server).await);
    }
    let mut acl = async |words: &[&str]| {
        let mut answers = Vec::new();
        for raw in &mut raws {
            let answer = redis::cmd("ACL").arg(words).query_async::<redis::Value>(raw).await;
            answers.push(answer.expect("it is an ACL command"));
        }
        answers
    };
    let rules = ["on", ">open-sesame", "resetkeys", "resetchannels", "nocommands"];
    let rules = rules.into_iter().chain(keys.iter().chain(commands).map(String::as_str));
    acl(&["SETUSER", USER].into_iter().chain(rules).collect::<Vec<_>>()).await;
    acl(&["LOG", "RESET"]).await;
    // A server that has forgotten the scripts needs their text.
    for raw in &mut raws {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(raw).await.expect("it answers");
    }
    let url = url(variable).replace("://", &format!("://{USER}:open-sesame@"));
    let begun = async {
        let mut store = RedisStore::connect(&url).await?;
        if let Some(max_age) = near_cache {
            store = store.near_cache(max_age);
        }
        store.prepare(&table("rules"), DEADLINE).await?;
        Ok::<_, StoreError>(store)
    };
    let failure = match begun.await {
        Ok(store) => {
            every_call(&store).await;
            None
        }
        Err(error) => Some(format!("{error:?}")),
    };
    let mut refused = Vec::new();
    for raw in &mut raws {
        let log = redis::cmd("ACL").arg("LOG").query_async::<Vec<HashMap<String, redis::Value>>>(raw).await;
        for entry in log.expect("it answers") {
            refused.push(String::from_redis_value(entry["object"].clone()).expect("a text"));
        }
        redis::cmd("ACL").arg("DELUSER").arg(USER).exec_async(raw).await.expect("it answers");
    }
    // The client tells its name to servers that have this command, and ignores the answer.
    refused.retain(|command| command != "client|setinfo");
    refused.sort();
    refused.dedup();
    (refused, failure)
}

/// Makes every call, whether it succeeds or not.
async fn every_call(store: &RedisStore) {
    let (one, two, three) = (row(1), row(2), row(3));
    let now = Timestamp::from(SystemTime::now());
    let _ = store.claim(&table("rules"), "bag", soon()).await;
    for row in [&one, &two, &three, &one] {
        let _ = store.insert(row.clone(), soon()).await;
    }
    let _ = store.load(one.id, soon()).await;
    let _ = store.load_cached(one.id, soon()).await;
    for scope in [Scope::State, Scope::Expiration, Scope::Row] {
        let _ = store.update(with(touch(&one), |it| it.scope = scope), soon()).await;
    }
    let whole = with(touch(&two), |it| (it.scope, it.row.user) = (Scope::Row, None));
    let _ = store.update(whole, soon()).await;
    let _ = store.update(Update::new(three.id, 1, row(4)), soon()).await;
    let _ = store.update(Update::new(three.id, 1, row(5)), soon()).await;
    let _ = store.find(&Filter::All, Page::new(None, 10), soon()).await;
    let _ = store.find(&of_user(1), Page::newest(10), soon()).await;
    let _ = store.count(&Filter::LiveAt(now), soon()).await;
    let _ = store.prune(now.saturating_add(Duration::from_hours(2)), 1, soon()).await;
    let others = LimitedWrite::new(Write::Insert(with(row(6), |it| it.user.clone_from(&one.user))), 1, now);
    let _ = store.write_limited(others, soon()).await;
    let _ = store.remove(&of_user(4), soon()).await;
    let _ = store.delete(two.id, soon()).await;
    let _ = store.health(soon()).await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn the_documented_commands_are_enough_and_all_are_needed() {
    let _turn = turn();
    let (keys, commands) = documented_rules();
    assert_eq!(keys, ["~databag:*"]);
    assert!(commands.len() > 10, "{commands:?}");
    for (variable, near_cache, also) in [
        ("REDIS_URL", None, None),
        ("REDIS_URL", Some(DEADLINE), Some("[`near_cache`](Self::near_cache)")),
        ("REDIS_SENTINEL_URL", None, Some("sentinels")),
        ("REDIS_CLUSTER_URL", None, Some("a cluster")),
    ] {
        let also = also.map(documented_additions).unwrap_or_default();
        let all = [commands.clone(), also.clone()].concat();
        let (logs, guard) = Logs::of_this_thread();
        assert_eq!(
            refused(variable, near_cache, &keys, &all).await,
            (vec!["info".to_owned()], None),
            "{variable}"
        );
        let warnings = logs.lines(&["WARN", "does not let its user run INFO"]);
        assert_eq!(warnings.len(), 1, "{variable}: {}", logs.text());
        drop(guard);
        for missed in if also.is_empty() { commands.clone() } else { also } {
            let fewer: Vec<_> = all.iter().filter(|rule| **rule != missed).cloned().collect();
            let (refused, failure) = refused(variable, near_cache, &keys, &fewer).await;
            assert!(refused.iter().any(|command| missed[1..] == **command), "{missed}: {refused:?}");
            // Else it would keep no row, and nobody would know.
            let named = failure.as_ref().is_some_and(|failure| failure.contains(&missed[1..]));
            assert!(named || near_cache.is_none(), "{missed}: {failure:?}");
        }
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_url_may_name_a_unix_socket() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("redis.sock");
    let mut server = std::process::Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--dir"])
        .arg(folder.path())
        .arg("--unixsocket")
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    while !socket.exists() {
        assert!(server.try_wait().expect("it is a child").is_none(), "the server has ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut results = Vec::new();
    for scheme in ["redis+unix", "unix", "valkey+unix"] {
        let url = format!("{scheme}://{}?db=1", socket.display());
        let sessions = async {
            let store = AnyStore::connect(&url).await.map_err(|error| format!("{error:?}"))?;
            let sessions = Sessions::<Visits>::builder(store).danger_plaintext().build().await;
            sessions
                .map_err(|error| format!("{error:?}"))?
                .create(Visits { visits: 1 })
                .await
                .map_err(|error| format!("{error:?}"))
        };
        results.push(sessions.await.map(drop));
    }
    server.kill().expect("it is running");
    server.wait().expect("it is a child");
    assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
}

#[derive(Databag)]
#[databag(table = "blocked_visits")]
struct Visits {
    visits: u32,
}
