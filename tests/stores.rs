//! Every store on its real server: the suite, and what only that server can do wrong.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers`. Without a server its tests fail.

use databag_tests::rows::{row, table, touch};
use databag_tests::server;
use session_runtime::store::{
    ColumnRef, Comparison, Filter, Outcome, Page, Row, Scope, Table, TableColumn, Update,
};
use session_runtime::{
    ColumnType, Directory, MysqlStore, PostgresStore, RedisStore, SessionId, Store, StoreError, Value,
};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

fn tenant() -> TableColumn {
    TableColumn { name: "tenant".to_owned(), ty: ColumnType::Text, index: true }
}

async fn gains_a_column<S: Directory>(open: impl AsyncFn() -> S) {
    let (mut old, mut new) = (open().await, open().await);
    let mut table = table("columns");
    old.prepare(&table, DEADLINE).await.expect("a new table");
    old.insert(row(1)).await.expect("it fits");
    table.projected.push(tenant());
    new.prepare(&table, DEADLINE).await.expect("a missing column is added");
    let mut loaded = new.load(row(1).id).await.expect("it answers").expect("it is there");
    assert_eq!(loaded.columns, [None]);
    loaded.columns = vec![Some(Value::Text("acme".to_owned()))];
    let update = Update { scope: Scope::Row, ..touch(&loaded) };
    assert_eq!(new.update(update).await.expect("it answers"), Outcome::Stored);
    // The old node does not know the column, goes on, and does not erase it.
    let seen = old.load(row(1).id).await.expect("it answers").expect("it is there");
    assert!(seen.columns.is_empty());
    let update = Update { scope: Scope::Row, ..touch(&seen) };
    assert_eq!(old.update(update).await.expect("it answers"), Outcome::Stored);
    let kept = new.load(row(1).id).await.expect("it answers").expect("it is there");
    assert_eq!(kept.columns, [Some(Value::Text("acme".to_owned()))]);
}

async fn takes_any_name<S: Directory>(open: impl AsyncFn() -> S, [one, two, three]: [&str; 3]) {
    let mut store = open().await;
    let odd = Table {
        name: one.to_owned(),
        state: two.to_owned(),
        created: "where".to_owned(),
        projected: vec![TableColumn { name: three.to_owned(), ..tenant() }],
        ..table("names")
    };
    store.prepare(&odd, DEADLINE).await.expect("every name is quoted");
    let stored = Row { columns: vec![None], ..row(1) };
    store.insert(stored.clone()).await.expect("it fits");
    assert_eq!(store.update(touch(&stored)).await.expect("it answers"), Outcome::Stored);
    assert_eq!(store.remove(&Filter::All).await.expect("it answers"), [stored.id]);
}

async fn refuses<S: Store + std::fmt::Debug>(
    open: impl AsyncFn() -> S,
    cases: &[(&str, &str, &str)],
    create: impl AsyncFn(&str, (&str, &str)),
) {
    for (from, to, named) in cases {
        let table = table("unfit");
        create(&table.name, (from, to)).await;
        let mut store = open().await;
        match store.prepare(&table, DEADLINE).await {
            Ok(()) => {
                assert_eq!(*named, "", "{to:?} was accepted");
                store.insert(row(1)).await.expect("it fits");
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).expect("a cause").to_string();
                assert!(!named.is_empty() && cause.contains(named), "{to:?}: {cause}");
                assert!(cause.contains(&table.name), "{cause}");
            }
        }
    }
}

async fn starts_at_once<S: Directory>(open: impl AsyncFn() -> S) {
    let table = {
        let mut table = table("start");
        table.projected.push(tenant());
        table
    };
    let stores = futures_util::future::join_all((0..8).map(|_| open())).await;
    let prepared = stores.into_iter().map(async |mut store| {
        store.prepare(&table, DEADLINE).await.expect("one creates the table, the others find it");
        store
    });
    for store in futures_util::future::join_all(prepared).await {
        assert_eq!(store.count(&Filter::All).await.expect("it answers"), 0);
    }
}

/// The real server, but for the first digit of its version.
async fn refuses_an_old_server<S: std::fmt::Debug>(
    variable: &str,
    version: &str,
    connect: impl AsyncFn(&str) -> Result<S, StoreError>,
) {
    let told = format!("0{}", &version[1..]);
    let url = server::url(variable);
    let address = server::address(&url);
    let disguised = server::disguise(address, version, &told).to_string();
    let error = connect(&url.replace(&address.to_string(), &disguised)).await.expect_err("it is too old");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains(&told) && cause.contains(" is too old: "), "{cause}");
    assert!(cause.ends_with(" or later is needed"), "{cause}");
}

fn is_user(user: i64) -> Filter {
    Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(user))
}

/// All that a log could show of an error.
fn told(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    format!("{text} ({error:?})")
}

/// A call that is to wait for another connection's lock.
async fn meanwhile<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let call = tokio::spawn(call);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    call
}

/// What is asked of every store. Its module has names that must be quoted (`NAMES`).
macro_rules! every_store {
    ($store:ident, $variable:literal, $refused:literal) => {
        async fn store() -> $store {
            $store::connect(&server::url($variable)).await.expect("the server answers")
        }

        #[tokio::test]
        async fn it_keeps_the_promises_of_a_store() {
            suite::run(store).await;
        }

        #[tokio::test]
        async fn a_column_that_is_missing_is_added_and_old_handles_go_on() {
            gains_a_column(store).await;
        }

        #[tokio::test]
        async fn any_name_that_can_be_quoted_serves() {
            takes_any_name(store, NAMES).await;
        }

        #[tokio::test]
        async fn several_processes_may_start_at_once() {
            starts_at_once(store).await;
        }

        #[tokio::test]
        async fn no_credential_is_in_debug_or_in_an_error() {
            let store = format!("{:?}", store().await);
            let error = format!("{:?}", $store::connect($refused).await.expect_err("nobody is there"));
            assert!(!store.contains("databag:") && !error.contains("hunter2"), "{store} {error}");
        }
    };
}

/// What is asked of a store that has tables. Its module has a table that fits (`GOOD`), and says what of it is replaced,
/// by what, and what the error names (`UNFIT`); two parameters of a statement (`PARAMETERS`); a last column that holds 20
/// characters, each value once, and one not at all (`TENANT_OF_20`); what of its questions at start-up stands out
/// (`ASKED`), and what its pool asks of a connection that is given back (`PING`).
macro_rules! every_store_of_tables {
    ($store:ident, $database:ident, $pool:ident, $variable:literal, $version:literal) => {
        async fn pool() -> sqlx::$pool {
            sqlx::$pool::connect(&server::url($variable)).await.expect("the server answers")
        }

        async fn create(table: &str, (from, to): (&str, &str)) {
            let sql = format!("CREATE TABLE {table} ({})", GOOD.replace(from, to));
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool().await).await.expect("it is a table");
        }

        async fn version() -> String {
            sqlx::query_scalar($version).fetch_one(&pool().await).await.expect("the server answers")
        }

        #[tokio::test]
        async fn a_table_that_does_not_fit_is_refused_and_the_column_named() {
            refuses(store, UNFIT, create).await;
        }

        #[tokio::test]
        async fn an_old_server_is_refused() {
            refuses_an_old_server($variable, &version().await, $store::connect).await;
        }

        #[tokio::test]
        async fn a_url_of_another_server_is_refused_and_not_repeated() {
            let url = server::url($variable);
            let (scheme, rest) = url.split_once("://").expect("a scheme");
            let error = $store::connect(&format!("https://{rest}")).await.expect_err("it is no database");
            let told = told(&error);
            assert!(told.contains(&format!("does not begin with `{scheme}://`")), "{told}");
            assert!(!told.contains("127.0.0.1"), "{told}");
        }

        async fn prepared(table: &Table) -> $store {
            let mut store = store().await;
            store.prepare(table, DEADLINE).await.expect("it is ready");
            store
        }

        /// Begins to give each row of a table another id.
        async fn rename(table: &Table, from: u8, to: u8) -> sqlx::Transaction<'static, sqlx::$database> {
            let mut change = pool().await.begin().await.expect("the server answers");
            let sql = format!(
                "UPDATE {} SET id = {}, revision = 2 WHERE id = {}",
                table.name, PARAMETERS[0], PARAMETERS[1]
            );
            let renamed = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(vec![to; 32]).bind(vec![from; 32]);
            assert_eq!(renamed.execute(&mut *change).await.expect("it is there").rows_affected(), 1);
            change
        }

        #[tokio::test]
        async fn a_session_whose_id_is_being_changed_is_ended_all_the_same() {
            for (to, is_trim) in [(9, false), (5, false), (9, true), (5, true)] {
                let table = table("moving");
                let store = prepared(&table).await;
                store.insert(row(7)).await.expect("it fits");
                let change = rename(&table, 7, to).await;
                let other = store.clone();
                let ending = meanwhile(async move {
                    match is_trim {
                        true => other.trim(&Value::Integer(7), 0, row(7).created).await,
                        false => other.remove(&is_user(7)).await,
                    }
                })
                .await;
                change.commit().await.expect("the server answers");
                let ended = ending.await.expect("no panic").expect("it answers");
                assert_eq!(store.count(&Filter::All).await.expect("it answers"), 0, "{ended:?}");
                assert_eq!(ended, [row(to).id]);
            }
        }

        #[tokio::test]
        async fn a_session_that_moves_behind_the_search_is_found() {
            for is_trim in [false, true] {
                let table = table("behind");
                let store = prepared(&table).await;
                let of_7 = |n| Row { user: Some(Value::Integer(7)), ..row(n) };
                store.insert(of_7(6)).await.expect("it fits");
                store.insert(of_7(8)).await.expect("it fits");
                let mut lock = pool().await.begin().await.expect("the server answers");
                let select = format!("SELECT 1 FROM {} WHERE id = {} FOR UPDATE", table.name, PARAMETERS[0]);
                let select = sqlx::query(sqlx::AssertSqlSafe(select)).bind(vec![6_u8; 32]);
                select.execute(&mut *lock).await.expect("it is locked");
                let other = store.clone();
                let ending = meanwhile(async move {
                    match is_trim {
                        true => other.trim(&Value::Integer(7), 0, row(7).created).await,
                        false => other.remove(&is_user(7)).await,
                    }
                })
                .await;
                let moved =
                    Update { row: Row { revision: 2, ..of_7(5) }, scope: Scope::Row, ..touch(&of_7(8)) };
                assert_eq!(store.update(moved).await.expect("it answers"), Outcome::Stored);
                lock.rollback().await.expect("the server answers");
                let mut ended = ending.await.expect("no panic").expect("it answers");
                ended.sort();
                assert_eq!(store.count(&Filter::All).await.expect("it answers"), 0, "{ended:?}");
                assert_eq!(ended, [row(5).id, row(6).id]);
            }
        }

        #[tokio::test]
        async fn the_session_that_is_kept_is_kept_while_its_id_changes() {
            for to in [9, 5] {
                let table = table("kept");
                let store = prepared(&table).await;
                let newest = row(7);
                let earlier = newest.created.as_millis() - 1;
                let created = session_runtime::Timestamp::from_millis(earlier);
                let older = Row { created, user: newest.user.clone(), ..row(6) };
                store.insert(older).await.expect("it fits");
                store.insert(newest).await.expect("it fits");
                let change = rename(&table, 7, to).await;
                let other = store.clone();
                let trim =
                    meanwhile(async move { other.trim(&Value::Integer(7), 1, row(7).created).await }).await;
                change.commit().await.expect("the server answers");
                assert_eq!(trim.await.expect("no panic").expect("it answers"), [row(6).id]);
                assert!(store.load(row(to).id).await.expect("it answers").is_some());
            }
        }

        #[tokio::test]
        async fn what_a_deadlock_has_undone_is_done_again() {
            let table = table("deadlock");
            let store = prepared(&table).await;
            store.insert(row(1)).await.expect("it fits");
            store.insert(row(2)).await.expect("it fits");
            let mut rival = rename(&table, 2, 3).await;
            // The server undoes who has done less, or has waited longer. The search meets these rows last.
            let insert = format!(
                "INSERT INTO {} (id, state, created, expiration, revision, user_id) \
                 VALUES ({}, 'x', 1, 9000000000000000, 1, 9)",
                table.name, PARAMETERS[0]
            );
            for n in 100..150_u8 {
                let insert = sqlx::query(sqlx::AssertSqlSafe(insert.clone())).bind(vec![n; 32]);
                insert.execute(&mut *rival).await.expect("it fits");
            }
            let other = store.clone();
            let removal = meanwhile(async move { other.remove(&Filter::All).await }).await;
            let delete = format!("DELETE FROM {} WHERE id = {}", table.name, PARAMETERS[0]);
            let delete = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(vec![1_u8; 32]).execute(&mut *rival);
            delete.await.expect("the other is undone");
            rival.rollback().await.expect("the server answers");
            let mut removed =
                removal.await.expect("no panic").map_err(|error| told(&error)).expect("it is tried again");
            removed.sort();
            assert_eq!(removed, [row(1).id, row(2).id]);
        }

        #[tokio::test]
        async fn a_taken_id_is_an_error_that_says_so() {
            let store = prepared(&table("taken")).await;
            store.insert(row(65)).await.expect("it fits");
            store.insert(row(66)).await.expect("it fits");
            let insert = store.insert(row(65)).await.expect_err("it is taken");
            let update = Update { id: row(66).id, expected: 1, scope: Scope::Row, row: row(65) };
            for error in [insert, store.update(update).await.expect_err("it is taken")] {
                let told = told(&error);
                assert!(told.contains(": there is a row of this id (") && !told.contains("AAA"), "{told}");
            }
        }

        #[tokio::test]
        async fn no_error_shows_a_value() {
            let mut table = table("shown");
            create(&table.name, ("revision BIGINT", TENANT_OF_20)).await;
            table.projected.push(tenant());
            let store = prepared(&table).await;
            let of = |n, tenant: &str| Row { columns: vec![Some(Value::Text(tenant.to_owned()))], ..row(n) };
            store.insert(of(1, "hunter2")).await.expect("it fits");
            for (n, tenant) in [(2, "hunter2"), (3, "hunter3"), (4, "hunter4hunter4hunter4hunter4")] {
                let told = told(&store.insert(of(n, tenant)).await.expect_err("it does not fit"));
                assert!(!told.contains("hunter") && !told.contains("7575"), "{told}");
                assert_eq!(store.load(row(n).id).await.expect("it answers"), None);
            }
        }

        #[tokio::test]
        async fn a_server_that_goes_silent_at_start_up_is_an_error() {
            let url = server::url($variable);
            let begun = std::time::Instant::now();
            let silenced = async |word: &'static str| {
                let address = server::address(&url);
                let is_last = move |said: &[u8]| said.windows(word.len()).any(|part| part == word.as_bytes());
                let silent = server::silence(address, is_last).to_string();
                let mut store = $store::connect(&url.replace(&address.to_string(), &silent)).await?;
                store.prepare(&table("silent"), DEADLINE).await
            };
            let [version, kind, columns] = ASKED;
            let (version, kind, columns) = tokio::join!(silenced(version), silenced(kind), silenced(columns));
            for answer in [version, kind, columns] {
                let told = told(&answer.expect_err("nobody answers"));
                assert!(told.contains("the deadline has passed"), "{told}");
            }
            assert!(begun.elapsed().as_secs() < 15, "it took {:?}", begun.elapsed());
        }

        /// Each call is answered, and then nothing more on its connection.
        #[tokio::test]
        async fn connections_to_a_host_that_has_gone_do_not_hold_the_pool() {
            const DEADLINE: std::time::Duration = std::time::Duration::from_secs(1);
            let url = server::url($variable);
            let address = server::address(&url);
            let silent = server::silence(address, |said| said == PING).to_string();
            let mut store =
                $store::connect(&url.replace(&address.to_string(), &silent)).await.expect("it answers");
            store.prepare(&table("gone"), DEADLINE).await.expect("it answers");
            for _ in 0..$store::MAX_CONNECTIONS {
                store.load(row(1).id).await.expect("there is a connection");
            }
            tokio::time::sleep(3 * DEADLINE).await;
            store.load(row(1).id).await.expect("there is a connection again");
        }
    };
}

mod postgres {
    use session_runtime::store::suite;

    use super::*;

    every_store!(PostgresStore, "POSTGRES_URL", "postgres://eve:hunter2@127.0.0.1:1/x?x=%");
    every_store_of_tables!(PostgresStore, Postgres, PgPool, "POSTGRES_URL", "SHOW server_version");

    /// Reserved words, quotes, spaces, as long as a name may be.
    const NAMES: [&str; 3] = [
        "select \"from\" x; --",
        "\u{FC}ser \u{1F36A}",
        "n123456789012345678901234567890123456789012345678901234567890x",
    ];

    const PARAMETERS: [&str; 2] = ["$1", "$2"];

    const TENANT_OF_20: &str =
        "revision BIGINT, user_id BIGINT, tenant VARCHAR(20) UNIQUE CHECK (tenant <> 'hunter3')";

    const ASKED: [&str; 3] = ["SHOW server_version", "FROM pg_class", "FROM pg_attribute"];

    const PING: &[u8] = b"S\0\0\0\x04";

    const GOOD: &str =
        "id BYTEA PRIMARY KEY, state BYTEA, created BIGINT, expiration BIGINT, revision BIGINT";

    const UNFIT: &[(&str, &str, &str)] = &[
        ("state BYTEA", "state TEXT", "\"state\" declared text"),
        ("created BIGINT", "created INTEGER", "\"created\" declared integer"),
        ("created BIGINT", "created TIMESTAMPTZ", "timestamp with time zone"),
        ("id BYTEA PRIMARY KEY", "id BYTEA", "primary key"),
        ("id BYTEA PRIMARY KEY", "id TEXT PRIMARY KEY", "\"id\" declared text"),
        (", revision BIGINT", "", "no column \"revision\""),
        ("revision BIGINT", "revision BIGINT, user_id TEXT", "\"user_id\" declared text"),
        ("revision BIGINT", "revision BIGINT, user_id BIGINT NOT NULL", "\"user_id\" that must be allowed"),
        ("revision BIGINT", "revision BIGINT, other TEXT NOT NULL", "\"other\""),
        ("revision BIGINT", "revision BIGINT, other TEXT NOT NULL DEFAULT ''", ""),
        ("created BIGINT", "created BIGINT GENERATED ALWAYS AS (1) STORED", "generated"),
    ];
}

mod mysql {
    use session_runtime::store::suite;
    use sqlx::Executor as _;

    use super::*;

    every_store!(MysqlStore, "MYSQL_URL", "mysql://eve:hunter2@127.0.0.1:1/x?x=%");
    every_store_of_tables!(MysqlStore, MySql, MySqlPool, "MYSQL_URL", "SELECT VERSION()");

    /// Reserved words, quotes, spaces, as long as a name may be. Names have no characters beyond U+FFFF here.
    const NAMES: [&str; 3] = [
        "select `from` x; --",
        "\u{FC}ser \u{20AC}",
        "n1234567890123456789012345678901234567890123456789012345678901x",
    ];

    const PARAMETERS: [&str; 2] = ["?"; 2];

    const TENANT_OF_20: &str = "revision BIGINT, user_id BIGINT, \
         tenant VARCHAR(20) CHARACTER SET utf8mb4 UNIQUE CHECK (tenant <> 'hunter3')";

    const ASKED: [&str; 3] = ["SELECT VERSION()", "sql_mode LIKE", "information_schema.TABLES"];

    const PING: &[u8] = b"\x01\0\0\0\x0e";

    const GOOD: &str =
        "id VARBINARY(32) PRIMARY KEY, state MEDIUMBLOB, created BIGINT, expiration BIGINT, revision BIGINT";

    const UNFIT: &[(&str, &str, &str)] = &[
        ("state MEDIUMBLOB", "state MEDIUMTEXT", "\"state\" declared mediumtext"),
        ("created BIGINT", "created INT", "\"created\" declared int"),
        ("created BIGINT", "created BIGINT UNSIGNED", "unsigned"),
        ("created BIGINT", "created DATETIME", "datetime"),
        ("VARBINARY(32) PRIMARY KEY", "VARBINARY(32)", "primary key"),
        ("VARBINARY(32) PRIMARY KEY", "VARCHAR(32) PRIMARY KEY", "\"id\" declared varchar"),
        (", revision BIGINT", "", "no column \"revision\""),
        ("revision BIGINT", "revision BIGINT, user_id TEXT", "\"user_id\" declared text"),
        ("revision BIGINT", "revision BIGINT, user_id BIGINT NOT NULL", "\"user_id\" that must be allowed"),
        ("revision BIGINT", "revision BIGINT, other INT NOT NULL", "\"other\""),
        ("revision BIGINT", "revision BIGINT, other INT NOT NULL DEFAULT 1", ""),
        ("created BIGINT", "created BIGINT AS (1)", "generated"),
        ("VARBINARY(32)", "VARBINARY(31)", "\"id\" declared varbinary(31) where VARBINARY(32) is needed"),
        ("VARBINARY(32)", "BINARY(31)", "\"id\" declared binary(31) where VARBINARY(32) is needed"),
        ("VARBINARY(32)", "BINARY(32)", ""),
        ("VARBINARY(32)", "VARBINARY(100)", ""),
        ("state MEDIUMBLOB", "state BINARY(32)", "\"state\" declared binary(32) where MEDIUMBLOB is needed"),
        ("state MEDIUMBLOB", "state TINYBLOB", "\"state\" declared tinyblob where MEDIUMBLOB is needed"),
        ("state MEDIUMBLOB", "state BLOB", "\"state\" declared blob where MEDIUMBLOB is needed"),
        (
            "state MEDIUMBLOB",
            "state VARBINARY(60000)",
            "\"state\" declared varbinary(60000) where MEDIUMBLOB",
        ),
        ("state MEDIUMBLOB", "state LONGBLOB", ""),
    ];

    #[tokio::test]
    async fn a_value_that_does_not_fit_is_refused_whatever_the_server_is_set_to() {
        let raw = pool().await;
        let mut table = table("lax");
        create(&table.name, ("revision BIGINT", TENANT_OF_20)).await;
        table.projected.push(tenant());
        raw.execute("SET GLOBAL sql_mode = ''").await.expect("it is a setting");
        let mut ours = store().await;
        let prepared = ours.prepare(&table, DEADLINE).await;
        let long = Row { columns: vec![Some(Value::Text("x".repeat(21)))], ..row(1) };
        let inserted = ours.insert(long).await;
        raw.execute("SET GLOBAL sql_mode = DEFAULT").await.expect("it is a setting");
        prepared.expect("it is ready");
        let told = told(&inserted.expect_err("it does not fit"));
        assert!(told.contains("refused a value"), "{told}");
    }

    #[tokio::test]
    async fn a_pool_that_cuts_values_is_refused() {
        for (mode, is_refused) in [("''", true), ("'STRICT_TRANS_TABLES'", false), ("'TRADITIONAL'", false)] {
            let options = sqlx::mysql::MySqlPoolOptions::new().after_connect(move |connection, _| {
                let set = sqlx::AssertSqlSafe(format!("SET SESSION sql_mode = {mode}"));
                Box::pin(async move { connection.execute(set).await.map(drop) })
            });
            let pool = options.connect(&server::url("MYSQL_URL")).await.expect("the server answers");
            match MysqlStore::from_pool(pool).await {
                Ok(_) => assert!(!is_refused, "{mode}"),
                Err(error) => {
                    assert!(is_refused && told(&error).contains("add STRICT_ALL_TABLES"), "{error:?}");
                }
            }
        }
    }

    /// The number that stands for a table is made here as the store makes it (FNV-1a).
    #[tokio::test]
    async fn start_up_does_not_go_on_without_the_lock_that_another_holds() {
        let table = table("held");
        let number = table.name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut holder = pool().await.acquire().await.expect("the server answers");
        let lock = format!("SELECT GET_LOCK('databag {}', 0)", number.cast_signed());
        holder.execute(sqlx::AssertSqlSafe(lock)).await.expect("it is free");
        let error = store().await.prepare(&table, DEADLINE).await.expect_err("another holds it");
        assert!(told(&error).contains("has held the lock"), "{}", told(&error));
    }
}

mod redis_cluster {
    use session_runtime::store::suite;

    use super::redis::NAMES;
    use super::*;

    every_store!(RedisStore, "REDIS_CLUSTER_URL", "redis-cluster://eve:hunter2@127.0.0.1:1");
}

mod redis {
    use ::redis::aio::MultiplexedConnection;
    use session_runtime::store::suite;

    use super::*;

    every_store!(RedisStore, "REDIS_URL", "redis://eve:hunter2@127.0.0.1:1");

    pub(super) const NAMES: [&str; 3] = ["a}b{c}", "\u{FC}ser \u{1F36A}", ":%7D"];

    /// A connection beside the store's.
    async fn raw() -> MultiplexedConnection {
        let client = ::redis::Client::open(server::url("REDIS_URL")).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("the server answers")
    }

    async fn version() -> String {
        let info: String = ::redis::cmd("INFO")
            .arg("server")
            .query_async(&mut raw().await)
            .await
            .expect("the server answers");
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        version.expect("it says which").to_owned()
    }

    #[tokio::test]
    async fn an_old_server_is_refused() {
        refuses_an_old_server("REDIS_URL", &version().await, RedisStore::connect).await;
    }

    /// The raw fields of a row, by its key.
    fn key(table: &str, id: SessionId) -> String {
        format!("databag:{{{table}:{:02x}}}:{id}", id.as_bytes()[0])
    }

    /// A change of an id that stopped after its first step, and after its second.
    #[tokio::test]
    async fn a_crash_between_two_steps_of_a_new_id_leaves_one_id_that_works() {
        let mut store = store().await;
        let table = table("crash");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let mut raw = raw().await;
        for steps in [1, 2] {
            let (old, new) = (row(steps * 10), row(steps * 10 + 1));
            let (old_key, new_key) = (key(&table.name, old.id), key(&table.name, new.id));
            store.insert(old.clone()).await.expect("it fits");
            store.insert(new.clone()).await.expect("it fits");
            let mut step = ::redis::pipe();
            step.hset(&new_key, "", format!("from:{}", old.id));
            if steps == 2 {
                step.del(&old_key).hset(&old_key, "", format!("to:{}", new.id));
            }
            let _: () = step.query_async(&mut raw).await.expect("the server answers");

            let (works, other) = if steps == 1 { (&old, &new) } else { (&new, &old) };
            // First the writes, which meet the marks as they were left.
            assert_eq!(store.update(touch(other)).await.expect("it answers"), Outcome::Gone);
            assert!(!store.delete(other.id).await.expect("it answers"));
            assert_eq!(store.load(other.id).await.expect("it answers"), None);
            assert_eq!(store.update(touch(works)).await.expect("it answers"), Outcome::Stored);
            assert!(store.load(works.id).await.expect("it answers").is_some());
            let listed: Vec<_> = store
                .find(&Filter::All, Page { after: None, limit: 10 })
                .await
                .expect("it answers")
                .iter()
                .map(|row| row.id)
                .collect();
            assert!(listed.contains(&works.id) && !listed.contains(&other.id), "{listed:?}");
            assert!(store.delete(works.id).await.expect("it answers"));
            assert_eq!(store.load(works.id).await.expect("it answers"), None);
        }
    }

    #[tokio::test]
    async fn the_sessions_of_a_user_are_found_again_after_their_set_was_lost() {
        let mut store = store().await;
        let table = table("heals");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let mut stored = row(7);
        store.insert(stored.clone()).await.expect("it fits");
        let mut raw = raw().await;
        let set = format!("databag:{{{}:user:i7}}", table.name);
        let _: () = ::redis::cmd("DEL").arg(&set).query_async(&mut raw).await.expect("the server answers");
        // The next time that the session's life is prolonged.
        stored.expiration = stored.expiration.saturating_add(DEADLINE);
        let update = Update { scope: Scope::Expiration, ..touch(&stored) };
        assert_eq!(store.update(update).await.expect("it answers"), Outcome::Stored);
        let of_user = Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(7));
        assert_eq!(store.count(&of_user).await.expect("it answers"), 1);
    }
}
