//! How much memory a row takes that another program has made far too long: each store, read by its token and in lists.
//!
//! The measure is the peak of the resident memory, which includes what SQLite allocates. The servers are started by
//! `tests/servers`.
#![cfg(target_os = "linux")]

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_web::cookie::Cookie;
use actix_web::dev::Service as _;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use session_runtime::access::{Access, Backing, Listed};
use session_runtime::{
    CookieStore, Databag, Keyring, MemoryStore, Session, SessionId, SessionMiddleware, Sessions, SqliteStore,
    Token,
};

const MIB: u64 = 1 << 20;

/// What a call may take besides.
const LIMIT: u64 = 8 * MIB;

/// What a removal may take: SQLite fills its cache with the pages that become free.
const LIMIT_OF_REMOVAL: u64 = 2 * LIMIT;

const TABLE: &str = "bounded";

#[derive(Databag)]
#[databag(table = "bounded")]
struct Shop {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(column)]
    tenant: Option<String>,
}

/// The memory of the process is measured by one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a line of the process's status, in bytes.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
    let kib: u64 =
        line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse().expect("a number");
    kib * 1_024
}

/// Runs a call, and returns how far the memory of the process rose meanwhile.
async fn peak<T>(call: impl Future<Output = T>) -> (T, u64) {
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    let before = status("VmRSS");
    let result = call.await;
    (result, status("VmHWM").saturating_sub(before))
}

/// Returns how much memory the removal of all rows took.
#[expect(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn takes_no_memory<S: Backing<Access = Listed>>(
    what: &str,
    store: S,
    lengthen: impl AsyncFn(SessionId, u64),
) -> u64 {
    let _alone = alone();
    let keyring = Keyring::generate();
    let sessions = Sessions::<Shop>::builder(store)
        .keyring(keyring)
        .deadline(std::time::Duration::from_secs(20))
        .build()
        .await
        .expect("the store answers");
    let bag = || Shop { user_id: Some(7), tenant: Some("acme".to_owned()) };
    let (good, _) = sessions.create(bag()).await.expect("stored");
    let (long, session) = sessions.create(bag()).await.expect("stored");
    let (_, ended) = sessions.create(bag()).await.expect("stored");
    // The first calls allocate caches.
    assert_eq!(sessions.of_user(7).await.expect("answers").len(), 3);
    assert!(sessions.load(&good).await.expect("answers").is_some());
    for id in [session.id(), ended.id()] {
        lengthen(id, 64 * MIB).await;
    }

    let (deleted, taken) = peak(sessions.delete(ended.id())).await;
    assert!(deleted.expect("it is no failure"));
    assert!(taken < LIMIT_OF_REMOVAL, "{what}: a deletion took {taken} bytes");
    let (loaded, taken) = peak(sessions.load(&long)).await;
    assert!(loaded.expect("it is no failure").is_none());
    assert!(taken < LIMIT, "{what}: a load took {taken} bytes");
    let (listed, taken) = peak(sessions.of_user(7)).await;
    assert_eq!(listed.expect("one row fails no list").len(), 1);
    assert!(taken < LIMIT, "{what}: a list took {taken} bytes");
    let (report, taken) = peak(sessions.check()).await;
    assert_eq!(report.expect("one row fails no check").skipped, 1);
    assert!(taken < LIMIT, "{what}: a check took {taken} bytes");
    let (cleared, taken) = peak(sessions.clear()).await;
    assert_eq!(cleared.expect("it is no failure"), 2);
    taken
}

#[tokio::test]
async fn a_long_row_of_sqlite_takes_no_memory() {
    for column in ["state", "tenant", "created"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bounded.db");
        let store = SqliteStore::open(&path).expect("a database");
        let cleared = takes_no_memory(column, store, async |id, _| {
            let raw = rusqlite::Connection::open(&path).expect("a database");
            let value = if column == "state" { "zeroblob(?1)" } else { "CAST(zeroblob(?1) AS TEXT)" };
            let sql = format!("UPDATE {TABLE} SET {column} = {value} WHERE id = ?2");
            raw.execute(&sql, ((200 * MIB).cast_signed(), id.as_bytes().as_slice())).expect("it fits");
        })
        .await;
        assert!(cleared < LIMIT_OF_REMOVAL, "{column}: clearing took {cleared} bytes");
    }
}

/// Counts what is allocated to read a row in the clear whose state another program has filled with unknown fields, of sessions that may be large.
macro_rules! takes_little_memory {
    ($bag:ident, $fill:expr) => {{
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bounded.db");
        let sessions = Sessions::<$bag>::builder(SqliteStore::open(&path).expect("a database"))
            .danger_plaintext()
            .max_state_bytes(32 << 20)
            .build()
            .await
            .expect("builds");
        let (token, _) = sessions.create($bag { visits: 1 }).await.expect("stored");
        assert!(sessions.load(&token).await.expect("answers").is_some());
        let raw = rusqlite::Connection::open(&path).expect("a database");
        let table = $bag::SCHEMA.table;
        let select = format!("SELECT CAST(state AS BLOB) FROM {table}");
        let state: Vec<u8> = raw.query_row(&select, [], |row| row.get(0)).expect("the row");
        let state: Vec<u8> = $fill(state);
        assert!(state.len() as u64 > 15 * MIB);
        let is_text = state.contains(&b'{');
        let update =
            format!("UPDATE {table} SET state = {}", if is_text { "CAST(?1 AS TEXT)" } else { "?1" });
        assert_eq!(raw.execute(&update, [&state]).expect("it fits"), 1);
        drop(raw);
        let started = std::time::Instant::now();
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let loaded = sessions.load(&token).await;
        let taken = (ALLOCATED.peak_usage() - before) as u64;
        assert!(loaded.expect("it is no failure").is_none(), "it has too many fields");
        println!("{table}: {} MiB in {:?}", taken / MIB, started.elapsed());
        assert!(taken < 64 * MIB, "{table}: a load took {taken} bytes");
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "a watchdog: it takes milliseconds");
    }};
}

/// Returns bytes that look random: an id is a hash.
fn invented(number: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    *Token::from_bytes(bytes).session_id().as_bytes()
}

/// Sends cookies that no server has issued, and returns how much stays allocated.
async fn kept_of_invented_cookies<A: Access>(
    sessions: Sessions<Shop, A>,
    count: usize,
    invent: impl Fn(&[u8; 32]) -> String,
) -> usize {
    let visit = async |session: Session<Shop>| session.tenant().unwrap_or_default().to_owned();
    let name = sessions.cookie(&Token::from_bytes([0; 32])).name().to_owned();
    let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/", web::get().to(visit));
    let app = init_service(app).await;
    let mut before = 0;
    for number in 0..=count {
        // Each is sent twice.
        let random = invented(number / 2);
        let request = TestRequest::get().cookie(Cookie::new(&name, invent(&random))).to_request();
        let answer = app.call(request).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        drop(answer);
        // The first requests fill caches that have a fixed size.
        if number == 1_000 {
            before = ALLOCATED.current_usage();
        }
    }
    ALLOCATED.current_usage().saturating_sub(before)
}

#[actix_web::test]
#[expect(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn invented_cookies_leave_nothing_in_memory() {
    let _alone = alone();
    let count = std::env::var("DATABAG_COOKIES").map_or(20_000, |count| count.parse().expect("a number"));
    let token = |random: &[u8; 32]| Token::from_bytes(*random).encode().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("bounded.db")).expect("a database");
    let sqlite = Sessions::<Shop>::builder(store).keyring(Keyring::generate()).build().await.expect("builds");
    let memory = Sessions::<Shop>::builder(MemoryStore::new()).keyring(Keyring::generate());
    let memory = memory.build().await.expect("builds");
    let cookie = Sessions::<Shop>::builder(CookieStore).keyring(Keyring::generate());
    let begin = || std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
    let cookie = cookie.clock(begin).build().await.expect("builds");
    // The id, the version, three numbers and an envelope of a key that is not known.
    let sealed = |random: &[u8; 32]| {
        let now = 1_000_u64.to_be_bytes();
        let later = 2_000_000_u64.to_be_bytes();
        let parts: [&[u8]; 9] = [random, &[1], &now, &later, &[0; 8], &[1], random, random, random];
        URL_SAFE_NO_PAD.encode(parts.concat())
    };
    for (what, kept) in [
        ("SQLite", kept_of_invented_cookies(sqlite, count, token).await),
        ("memory", kept_of_invented_cookies(memory, count, token).await),
        ("cookies", kept_of_invented_cookies(cookie, count, sealed).await),
    ] {
        println!("{what}: {kept} bytes after {count} invented cookies");
        assert!(kept < 256 * 1024, "{what}: {kept} bytes after {count} invented cookies");
    }
}

/// What Rust allocates; SQLite's own memory is not in it.
#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

#[derive(Databag)]
#[databag(table = "tiny_fields")]
struct Tiny {
    visits: u32,
}

#[derive(Databag)]
#[databag(table = "tiny_json_fields", codec = "json")]
struct TinyJson {
    visits: u32,
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn sixteen_mib_of_tiny_fields_take_little_memory() {
    takes_little_memory!(Tiny, |mut state: Vec<u8>| {
        for field in 0..1_200_000_u32 {
            state.extend_from_slice(&field.to_be_bytes());
            state.extend_from_slice(&[0; 10]);
        }
        state
    });
    takes_little_memory!(TinyJson, |state: Vec<u8>| {
        let state = String::from_utf8(state).expect("text");
        let list = |of: fn(u32) -> String| (0..800_000).map(of).collect::<Vec<_>>().concat();
        let types = list(|field| format!("\"f{field}\":\"0\","));
        let values = list(|field| format!(",\"f{field}\":1"));
        let state = state.replace("\"types\":{", &format!("\"types\":{{{types}"));
        format!("{}{values}}}}}", state.strip_suffix("}}").expect("a record")).into_bytes()
    });
}

#[cfg(feature = "servers")]
mod servers {
    use databag_tests::server;
    use session_runtime::{MysqlStore, PostgresStore, RedisStore};
    use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

    use super::*;

    #[tokio::test]
    async fn a_long_row_of_postgres_takes_no_memory() {
        let url = server::url("POSTGRES_URL");
        let store = PostgresStore::connect(&url).await.expect("the server answers");
        let cleared = takes_no_memory("PostgreSQL", store, async |id, length| {
            let mut raw = sqlx::PgConnection::connect(&url).await.expect("the server answers");
            let sql =
                format!("UPDATE {TABLE} SET state = decode(repeat('5a', {length}), 'hex') WHERE id = $1");
            let update = sqlx::query(AssertSqlSafe(sql)).bind(id.as_bytes().as_slice());
            assert_eq!(raw.execute(update).await.expect("it fits").rows_affected(), 1);
        })
        .await;
        assert!(cleared < LIMIT_OF_REMOVAL, "clearing took {cleared} bytes");
    }

    #[tokio::test]
    async fn a_long_row_of_mariadb_takes_no_memory() {
        let url = server::url("MYSQL_URL");
        let mut raw = sqlx::MySqlConnection::connect(&url).await.expect("the server answers");
        raw.execute("SET GLOBAL max_allowed_packet = 1073741824").await.expect("it is a setting");
        let store = MysqlStore::connect(&url).await.expect("the server answers");
        let cleared = takes_no_memory("MariaDB", store, async |id, length| {
            let mut raw = sqlx::MySqlConnection::connect(&url).await.expect("the server answers");
            let alter = format!("ALTER TABLE {TABLE} MODIFY state LONGBLOB NOT NULL");
            raw.execute(AssertSqlSafe(alter)).await.expect("it fits");
            let sql = format!("UPDATE {TABLE} SET state = REPEAT('x', {length}) WHERE id = ?");
            let update = sqlx::query(AssertSqlSafe(sql)).bind(id.as_bytes().as_slice());
            assert_eq!(raw.execute(update).await.expect("it fits").rows_affected(), 1);
        })
        .await;
        assert!(cleared < LIMIT_OF_REMOVAL, "clearing took {cleared} bytes");
        raw.execute("SET GLOBAL max_allowed_packet = DEFAULT").await.expect("it is a setting");
    }

    #[tokio::test]
    async fn a_long_row_of_redis_takes_no_memory() {
        let url = server::url("REDIS_URL");
        let user = "local row = redis.call('GET', KEYS[1])
            row = string.sub(row, 1, 133) .. struct.pack('>I4', ARGV[1] + 1) .. string.sub(row, 138, 141)
                .. 't' .. string.rep('x', ARGV[1]) .. string.sub(row, 142)
            redis.call('SET', KEYS[1], row, 'KEEPTTL')
            return #row";
        let state = "return redis.call('APPEND', KEYS[1], string.rep('x', ARGV[1]))";
        for script in [state, user] {
            let store = RedisStore::connect(&url).await.expect("the server answers");
            let cleared = takes_no_memory(script, store, async |id, length| {
                let client = redis::Client::open(url.as_str()).expect("a URL");
                let mut raw = client.get_connection().expect("the server answers");
                let key = format!("databag:{{{TABLE}:{:02x}}}:{id}", id.as_bytes()[0]);
                let mut long = redis::cmd("EVAL");
                let stored: u64 =
                    long.arg(script).arg(1).arg(key).arg(length).query(&mut raw).expect("it fits");
                assert!(stored > length + 100, "there was a row");
            })
            .await;
            assert!(cleared < LIMIT_OF_REMOVAL, "clearing took {cleared} bytes");
        }
    }
}
