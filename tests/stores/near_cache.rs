//! The near cache of Redis: what is read from it, and until when.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers --test near_cache`. Connections of other clients
//! are closed here and the server is emptied, so these tests are a program of their own and run one after the other.
//!
//! A test blocks its thread while another runtime or another process writes: nothing that the server says is read meanwhile.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use actix_web::{App, web};
use databag_tests::rows::{row, soon, table, touch, with};
use databag_tests::server::{self, address, url};
use databag_tests::{Browser, Cached, Site};
use redis::aio::{ConnectionManager, MultiplexedConnection};
use session_runtime::store::{
    ColumnRef, Comparison, Filter, LimitedWrite, Outcome, Scope, Table, Update, Write, suite,
};
use session_runtime::{
    Databag, Directory, Error, Keyring, LoggedIn, RedisStore, Session, SessionId, SessionMiddleware,
    Sessions, Store, Timestamp, Value,
};
use tokio::runtime;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

const DEADLINE: Duration = Duration::from_secs(10);

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn prepared(store: RedisStore, table: &Table) -> RedisStore {
    let mut store = store;
    store.prepare(table, DEADLINE).await.expect("it is ready");
    store
}

async fn cached(url: &str, table: &Table, max_age: Duration) -> RedisStore {
    prepared(RedisStore::connect(url).await.expect("it answers").near_cache(max_age), table).await
}

/// The store of another process.
async fn other(variable: &str, table: &Table) -> RedisStore {
    prepared(RedisStore::connect(&url(variable)).await.expect("it answers"), table).await
}

async fn read(store: &RedisStore, n: u8) -> Option<i64> {
    store.load_cached(row(n).id, soon()).await.expect("it answers").map(|row| row.revision)
}

/// Runs a future on a runtime of its own, and blocks this thread meanwhile.
fn elsewhere<T: Send>(run: impl AsyncFnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(run())
        });
        run.join().expect("no panic")
    })
}

/// Waits until a row is read so. What the server says does so, and no time limit.
async fn becomes(store: &RedisStore, n: u8, revision: Option<i64>, what: &str) {
    let begun = Instant::now();
    while read(store, n).await != revision {
        assert!(begun.elapsed() < DEADLINE, "{what}: it is still read");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The changes of a row, and the revision that is there afterwards.
const CHANGES: [(&str, Option<i64>); 8] = [
    ("update", Some(2)),
    ("extend", Some(2)),
    ("replace", Some(2)),
    ("rename", None),
    ("delete", None),
    ("remove", None),
    ("evict", None),
    ("prune", None),
];

async fn change(store: &RedisStore, n: u8, change: &str) {
    let (old, user) = (row(n), Value::Integer(n.into()));
    let now = Timestamp::from(SystemTime::now());
    let update = match change {
        "update" => touch(&old),
        "extend" => with(touch(&old), |it| it.scope = Scope::Expiration),
        "replace" => with(touch(&old), |it| it.scope = Scope::Row),
        "rename" => Update::new(old.id, 1, with(old.clone(), |it| it.id = row(n + 100).id)),
        "delete" => return assert!(store.delete(old.id, soon()).await.expect("it answers")),
        "remove" => {
            let filter = Filter::Compare(ColumnRef::User, Comparison::Eq, user);
            return assert_eq!(store.remove(&filter, soon()).await.expect("it answers"), [old.id]);
        }
        "evict" => {
            let row = with(row(n + 100), |it| it.user = Some(user));
            let write = LimitedWrite::new(Write::Insert(row), 1, now);
            let written = store.write_limited(write, soon()).await.expect("it answers");
            return assert_eq!(written, (Outcome::Stored, vec![old.id]));
        }
        _ => {
            let later = now.saturating_add(Duration::from_hours(2));
            return assert!(store.prune(later, 1_000, soon()).await.expect("it answers") > 0);
        }
    };
    assert_eq!(store.update(update, soon()).await.expect("it answers"), Outcome::Stored);
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_row_that_was_read_before_costs_no_trip() {
    let _turn = turn();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let way = server::silence(address(&url("REDIS_URL")), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        false
    });
    let store = cached(&format!("redis://{way}"), &table("trips"), LONG).await;
    store.insert(row(1), soon()).await.expect("it answers");
    assert_eq!(
        store.load_cached(row(1).id, soon()).await.expect("it answers").map(|row| row.state),
        Some(row(1).state)
    );
    let before = requests.load(Ordering::SeqCst);
    for _ in 0..100 {
        assert_eq!(read(&store, 1).await, Some(1));
    }
    assert_eq!(requests.load(Ordering::SeqCst), before);
    let versions = store.load_versions(&[row(1).id], soon()).await.expect("it answers").found;
    assert_eq!(
        versions.iter().map(|(id, version)| (*id, version.revision)).collect::<Vec<_>>(),
        [(row(1).id, 1)]
    );
    let before = before + 1;
    assert_eq!(
        (requests.load(Ordering::SeqCst), read(&store, 1).await),
        (before, Some(1)),
        "a watch drops no row"
    );
    assert_eq!(requests.load(Ordering::SeqCst), before);
    store.load(row(1).id, soon()).await.expect("it answers");
    assert!(requests.load(Ordering::SeqCst) > before, "every other load asks the server");
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_write_of_another_runtime_is_seen_at_once() {
    let _turn = turn();
    let store = cached(&url("REDIS_URL"), &table("own"), LONG).await;
    for (n, (what, revision)) in (1..).zip(CHANGES) {
        store.insert(row(n), soon()).await.expect("it answers");
        assert_eq!(read(&store, n).await, Some(1));
        elsewhere(async || change(&store, n, what).await);
        assert_eq!(read(&store, n).await, revision, "{what}");
        assert_eq!(read(&store, n).await, revision, "{what}, from the cache");
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_write_of_another_process_is_seen_when_the_server_says_so() {
    let _turn = turn();
    for variable in ["REDIS_URL", "REDIS_SENTINEL_URL"] {
        let table = table("others");
        let (store, other) = (cached(&url(variable), &table, LONG).await, other(variable, &table).await);
        for (n, (what, revision)) in (1..).zip(CHANGES) {
            store.insert(row(n), soon()).await.expect("it answers");
            assert_eq!(read(&store, n).await, Some(1));
            elsewhere(async || change(&other, n, what).await);
            assert_eq!(read(&store, n).await, Some(1), "{what}: this thread has read nothing since");
            becomes(&store, n, revision, what).await;
        }
        store.insert(row(90), soon()).await.expect("it answers");
        assert_eq!(read(&store, 90).await, Some(1));
        if variable == "REDIS_URL" {
            redis::cmd("FLUSHALL").exec_async(&mut raw().await).await.expect("it answers");
            becomes(&store, 90, None, "the server was emptied").await;
        }
    }
}

async fn raw() -> MultiplexedConnection {
    let client = redis::Client::open(url("REDIS_URL")).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("it answers")
}

/// A way to a server that can hold the answers of its connections. New connections are free.
struct Way {
    url: String,
    hold: Arc<Hold>,
}

#[derive(Default)]
struct Hold {
    is_on: AtomicBool,
    /// Whether what follows the first answer is lost. Else all arrive at once.
    loses_rest: AtomicBool,
    /// How many answers were held.
    held: AtomicUsize,
}

impl Way {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
        let (hold, of_all) = (Arc::<Hold>::default(), Arc::default());
        let of_way = Arc::clone(&hold);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client?, TcpStream::connect(server)?);
                let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
                thread::spawn(move || io::copy(&mut from, &mut to));
                let is_free = of_way.is_on.load(Ordering::SeqCst);
                let hold = Arc::clone(if is_free { &of_all } else { &of_way });
                thread::spawn(move || relay(server, client, &hold));
            }
            io::Result::Ok(())
        });
        Self { url, hold }
    }

    /// Runs what happens while the answer to the next call is held.
    async fn while_held<T>(&self, call: impl Future<Output = T>, happens: impl AsyncFnOnce()) -> T {
        let Hold { is_on, held, .. } = &*self.hold;
        let before = held.load(Ordering::SeqCst);
        is_on.store(true, Ordering::SeqCst);
        let happens = async {
            while held.load(Ordering::SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            happens().await;
            is_on.store(false, Ordering::SeqCst);
        };
        tokio::join!(call, happens).0
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, hold: &Hold) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let is_held = hold.is_on.load(Ordering::SeqCst);
        let loses_rest = is_held && hold.loses_rest.load(Ordering::SeqCst);
        if is_held {
            hold.held.fetch_add(1, Ordering::SeqCst);
            while hold.is_on.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            from.set_read_timeout(Some(Duration::from_millis(50)))?;
            while let (false, Ok(more @ 1..)) = (loses_rest, from.read(&mut buffer[read..])) {
                read += more;
            }
            from.set_read_timeout(None)?;
        }
        to.write_all(&buffer[..read])?;
        if loses_rest {
            loop {
                thread::park();
            }
        }
    }
}

/// The reply and the news of the change arrive together, and the client takes in the news first.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_reply_that_arrives_with_the_news_of_a_change_is_not_kept() {
    let _turn = turn();
    let (way, table) = (Way::to(address(&url("REDIS_URL"))), table("together"));
    let (store, other) = (cached(&way.url, &table, LONG).await, other("REDIS_URL", &table).await);
    for n in 1..=3 {
        store.insert(row(n), soon()).await.expect("it answers");
        let change = async || Box::pin(change(&other, n, "update")).await;
        let found = way.while_held(read(&store, n), change).await;
        assert_eq!(found, Some(1), "it was read before the change");
        becomes(&store, n, Some(2), "it was changed before the reply arrived").await;
    }
}

/// Nothing that the server says arrives after the reply.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_reply_that_arrives_after_a_write_of_this_process_is_not_kept() {
    let _turn = turn();
    let (way, table) = (Way::to(address(&url("REDIS_URL"))), table("after"));
    let store = cached(&way.url, &table, LONG).await;
    store.insert(row(1), soon()).await.expect("it answers");
    way.hold.loses_rest.store(true, Ordering::SeqCst);
    let write = async || elsewhere(async || change(&store, 1, "update").await);
    assert_eq!(way.while_held(read(&store, 1), write).await, Some(1), "it was read before the write");
    assert_eq!(read(&store, 1).await, Some(2));
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_row_is_not_used_when_its_connection_has_ended() {
    let _turn = turn();
    let table = table("ended");
    let (store, other) = (cached(&url("REDIS_URL"), &table, LONG).await, other("REDIS_URL", &table).await);
    store.insert(row(1), soon()).await.expect("it answers");
    assert_eq!(read(&store, 1).await, Some(1));
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("normal").exec_async(&mut raw().await).await.expect("it answers");
    elsewhere(async || change(&other, 1, "update").await);
    becomes(&store, 1, Some(2), "the server closed the connection").await;

    // A runtime reads a row, and ends.
    store.insert(row(2), soon()).await.expect("it answers");
    elsewhere(async || assert_eq!(read(&store, 2).await, Some(1)));
    elsewhere(async || change(&other, 2, "update").await);
    assert_eq!(read(&store, 2).await, Some(2));
}

/// The connection falls silent with the first message of the server.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_row_is_not_used_for_longer_than_the_limit() {
    const LIMIT: Duration = Duration::from_secs(1);
    let _turn = turn();
    for (what, revision) in [("update", Some(2)), ("delete", None)] {
        let table = table("silent");
        let way = server::between(
            || address(&url("REDIS_URL")),
            |bytes| {
                while bytes.windows(10).any(|word| word == b"invalidate") {
                    thread::park();
                }
                true
            },
        );
        let store = cached(&format!("redis://{way}"), &table, LIMIT).await;
        let other = other("REDIS_URL", &table).await;
        store.insert(row(1), soon()).await.expect("it answers");
        assert_eq!(read(&store, 1).await, Some(1));
        let end = Instant::now() + LIMIT;
        change(&other, 1, what).await;
        loop {
            let begun = Instant::now();
            if read(&store, 1).await == revision {
                break;
            }
            assert!(begun < end, "{what}: it is read after the limit");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The near cache promises all that the store does to the process that writes.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_store_that_reads_from_its_near_cache_keeps_the_promises_of_a_store() {
    let _turn = turn();
    let open = async || RedisStore::connect(&url("REDIS_URL")).await.expect("it answers").near_cache(LONG);
    suite::run(async || Cached(open().await)).await;
    suite::run(open).await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn tls_and_a_password_work_with_a_near_cache() {
    let _turn = turn();
    for variable in ["REDIS_TLS_URL", "REDIS_TLS_SENTINEL_URL"] {
        let url = format!("{}?tls-ca-cert-file={}/ca.pem", url(variable), url("CERTIFICATES"));
        let store = cached(&url, &table("tls"), LONG).await;
        store.insert(row(1), soon()).await.expect("it answers");
        assert_eq!((read(&store, 1).await, read(&store, 1).await), (Some(1), Some(1)), "{variable}");
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn connections_that_are_replaced_without_notice_have_no_near_cache() {
    let _turn = turn();
    let cluster = RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("it answers");
    let client = redis::Client::open(url("REDIS_URL")).expect("a URL");
    let connection = ConnectionManager::new(client).await.expect("it answers");
    let given = RedisStore::from_manager(connection).await.expect("it answers");
    for store in [cluster, given] {
        let sessions = Sessions::<Shop>::builder(store.near_cache(LONG)).danger_plaintext().build().await;
        let mut error: &dyn std::error::Error = &sessions.expect_err("it is refused");
        let mut text = error.to_string();
        while let Some(cause) = error.source() {
            text = format!("{text}: {cause}");
            error = cause;
        }
        assert!(text.contains("the near cache needs a store of `RedisStore::connect`"), "{text}");
    }
}

#[derive(Databag)]
#[databag(table = "near_visits", cookie = "__Host-near")]
struct Shop {
    #[databag(user_id)]
    user: Option<i64>,
    #[databag(merge = "sum")]
    visits: u64,
    is_closed: bool,
}

async fn look(visits: LoggedIn<Shop>) -> String {
    visits.visits.to_string()
}

async fn add(mut visits: Session<Shop>) -> &'static str {
    visits.visits += 1;
    "added"
}

async fn count(mut visits: Session<Shop>) -> Result<String, Error> {
    let add = |bag: &mut Shop| {
        bag.visits += 1;
        bag.visits
    };
    Ok(visits.update(add).await?.to_string())
}

/// Changes nothing, because of what is stored.
async fn decide(mut visits: Session<Shop>) -> Result<String, Error> {
    Ok(visits.update(|bag| bag.is_closed).await?.to_string())
}

async fn reload(mut visits: Session<Shop>) -> Result<String, Error> {
    visits.reload().await?;
    Ok(visits.visits.to_string())
}

/// An application whose process has a near cache, beside another process of the same sessions.
struct World {
    sessions: Sessions<Shop>,
    other: Sessions<Shop>,
    site: Site,
}

impl World {
    async fn new() -> Self {
        let key = Keyring::generate_text();
        let build = async || {
            let store = RedisStore::connect(&url("REDIS_URL")).await.expect("it answers");
            let builder = Sessions::<Shop>::builder(store.near_cache(LONG)).deadline(DEADLINE);
            builder.keyring(Keyring::parse(&key).expect("a key")).build().await.expect("it answers")
        };
        let (sessions, other) = (build().await, build().await);
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(look))
            .route("/add", web::post().to(add))
            .route("/count", web::post().to(count))
            .route("/decide", web::get().to(decide))
            .route("/reload", web::get().to(reload));
        let site = Site::new(actix_web::test::init_service(app).await);
        Self { sessions, other, site }
    }

    /// Returns a browser whose session this process has in its near cache.
    async fn browser(&self, user: i64) -> (Browser, SessionId) {
        let bag = Shop { user: Some(user), ..Shop::defaults() };
        let (token, session) = self.sessions.create(bag).await.expect("it answers");
        let browser = self.site.browser();
        browser.set_cookie("__Host-near", self.sessions.cookie(&token).value());
        assert_eq!(browser.get("/").await.body, "0");
        (browser, session.id())
    }
}

#[actix_web::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_write_over_an_old_row_loses_nothing() {
    let _turn = turn();
    let world = World::new().await;
    let (browser, id) = world.browser(1).await;
    let mut sum = 0;
    for path in ["/add", "/count"].into_iter().cycle().take(20) {
        assert_eq!(browser.get("/").await.body, sum.to_string());
        elsewhere(async || {
            world.other.update(id, |bag| bag.visits += 1).await.expect("it answers");
        });
        assert_eq!(browser.get("/").await.body, sum.to_string(), "this thread has read nothing since");
        let answer = browser.post(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        sum += 2;
        if path == "/count" {
            assert_eq!(answer.body, sum.to_string());
        }
    }
    assert_eq!(world.other.get(id).await.expect("it answers").map(|session| session.visits), Some(sum));
}

#[actix_web::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn what_decides_on_a_write_is_never_read_from_the_near_cache() {
    let _turn = turn();
    let world = World::new().await;
    for (n, path, expected) in [(1, "/decide", "true"), (2, "/reload", "9")] {
        let (browser, id) = world.browser(n).await;
        elsewhere(async || {
            let close = |bag: &mut Shop| (bag.is_closed, bag.visits) = (true, 9);
            world.other.update(id, close).await.expect("it answers");
        });
        assert_eq!(browser.get("/").await.body, "0", "this thread has read nothing since");
        assert_eq!(browser.get(path).await.body, expected, "{path}");
    }
    let (_, id) = world.browser(3).await;
    elsewhere(async || world.other.update(id, |bag| bag.visits = 9).await.expect("it answers"));
    assert_eq!(world.sessions.get(id).await.expect("it answers").map(|session| session.visits), Some(9));
}

#[actix_web::test]
#[expect(clippy::await_holding_lock, reason = "a test has its thread for itself")]
async fn a_revoked_session_is_gone() {
    let _turn = turn();
    let world = World::new().await;
    let (browser, _) = world.browser(1).await;
    elsewhere(async || world.sessions.clone().revoke_user(1).await.expect("it answers"));
    assert_eq!(browser.get("/").await.status, 401, "this process has revoked it");

    let (browser, _) = world.browser(2).await;
    elsewhere(async || world.other.revoke_user(2).await.expect("it answers"));
    assert_eq!(browser.get("/").await.status, 200, "this thread has read nothing since");
    assert!(browser.post("/add").await.status.is_client_error(), "no write is made to it");
    let (browser, _) = world.browser(3).await;
    elsewhere(async || world.other.revoke_user(3).await.expect("it answers"));
    let begun = Instant::now();
    while browser.get("/").await.status != 401 {
        assert!(begun.elapsed() < DEADLINE, "it is still read");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
