//! The table, the rows and the filters of an SQLite database.

mod faults;
mod shared;

use std::error::Error as _;
use std::path::PathBuf;

use rusqlite::config::DbConfig;
use tempfile::TempDir;

use super::*;
use crate::store::{ColumnRef, Comparison, Scope, TableColumn};
use crate::value::ColumnType;
use crate::value::Value;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The deadline of a call that needs no more than [`TIMEOUT`].
fn soon() -> Instant {
    Instant::now() + TIMEOUT
}

fn table() -> Table {
    Table {
        user: Some(TableColumn::new("user_id", ColumnType::Integer).indexed()),
        ip: Some("ip_addr".to_owned()),
        projected: vec![
            TableColumn::new("tenant", ColumnType::Text).indexed(),
            TableColumn::new("score", ColumnType::Real),
            TableColumn::new("visits", ColumnType::Integer),
            TableColumn::new("tag", ColumnType::Blob),
        ],
        ..Table::new("sessions")
    }
}

fn id(n: u64) -> SessionId {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    SessionId::from_bytes(bytes)
}

fn row(n: u64) -> Row {
    Row { columns: vec![None; 4], ..bare_row(n) }
}

fn bare_row(n: u64) -> Row {
    let (created, expiration) = (Timestamp::from_millis(1), Timestamp::from_millis(1_000));
    Row::new(id(n), format!("state of {n}").into_bytes(), created, expiration, 1)
}

fn full_row(n: u64) -> Row {
    Row {
        user: Some(Value::Integer(-7)),
        ip: Some("2001:db8::1".parse().expect("an address")),
        columns: vec![
            Some(Value::Text("ac'me\0\u{1F36A}".to_owned())),
            Some(Value::Real(0.5)),
            Some(Value::Integer(i64::MIN)),
            Some(Value::Blob(vec![0, 255])),
        ],
        ..row(n)
    }
}

fn update(row: &Row, scope: Scope) -> Update {
    let next = Row { revision: row.revision + 1, ..row.clone() };
    Update { scope, ..Update::new(row.id, row.revision, next) }
}

struct Fixture {
    folder: TempDir,
    store: SqliteStore,
}

impl Fixture {
    fn path(&self) -> PathBuf {
        self.folder.path().join("sessions.db")
    }

    fn sql(&self) -> Connection {
        Connection::open(self.path()).expect("the database can be opened")
    }
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("sessions.db"), &table()).await.expect("a store");
    Fixture { folder, store }
}

async fn open(path: &Path, table: &Table) -> Result<SqliteStore, StoreError> {
    let mut store = SqliteStore::open(path)?;
    store.prepare(table, TIMEOUT).await?;
    Ok(store)
}

fn cause(error: &StoreError) -> String {
    error.source().expect("a cause").to_string()
}

async fn ids(store: &SqliteStore, filter: Filter) -> Vec<SessionId> {
    let page = Page::new(None, 1_000);
    store.find(&filter, page, soon()).await.expect("rows").iter().map(|row| row.id).collect()
}

/// Whoever can write to the file could make a trigger that inserts a session again when it ends, and a view that
/// shows others.
#[tokio::test]
async fn no_trigger_and_no_view_of_the_database_has_an_effect() {
    let fixture = fixture().await;
    let store = &fixture.store;
    let sql = "CREATE TRIGGER revive AFTER DELETE ON sessions BEGIN INSERT INTO sessions VALUES \
               (old.id, old.state, old.user_id, old.ip_addr, old.created, old.expiration, old.revision, old.tenant, \
               old.score, old.visits, old.tag); END; \
               CREATE TRIGGER keep BEFORE DELETE ON sessions BEGIN SELECT RAISE(IGNORE); END; \
               CREATE TRIGGER other AFTER INSERT ON sessions BEGIN UPDATE sessions SET revision = 70; END; \
               CREATE TRIGGER own AFTER UPDATE ON sessions BEGIN UPDATE sessions SET revision = 80; END; \
               CREATE VIEW w AS SELECT id FROM sessions";
    fixture.sql().execute_batch(sql).expect("they are made");
    for n in 1..4 {
        store.insert(row(n), soon()).await.expect("stored");
    }
    let updated = store.update(update(&row(1), Scope::State), soon()).await.expect("stored");
    assert_eq!(updated, Outcome::Stored);
    let revision = async |n| store.load(id(n), soon()).await.expect("read").map(|row| row.revision);
    assert_eq!([revision(1).await, revision(2).await], [Some(2), Some(1)]);
    assert!(store.delete(id(1), soon()).await.expect("deleted"));
    store.remove(&Filter::Id(id(2)), soon()).await.expect("removed");
    assert_eq!([revision(1).await, revision(2).await, revision(3).await], [None, None, Some(1)]);
    let show = |connection: &Connection| {
        Ok(connection.query_row("SELECT id FROM w", [], |row| row.get::<_, Vec<u8>>(0))?)
    };
    let shown = store.database.writer.with_connection(|connection| show(connection));
    assert!(shown.is_err(), "{shown:?}");
    for readers in [&store.database.readers, &store.database.listings] {
        let shown = readers.read(soon(), show);
        assert!(shown.is_err(), "{shown:?}");
        let is_defensive = readers
            .read(soon(), |connection| Ok(connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE)?))
            .expect("answers");
        assert!(is_defensive);
    }
}

/// SQLite runs TEMP triggers whatever the settings are, and finds a TEMP table before that of the database.
#[tokio::test]
async fn a_connection_with_temporary_triggers_views_and_tables_is_refused() {
    for (sql, kind) in [
        (
            "CREATE TEMP TRIGGER revive AFTER DELETE ON sessions BEGIN INSERT INTO sessions SELECT old.id, old.state, \
          old.user_id, old.ip_addr, old.created, old.expiration, old.revision, old.tenant, old.score, old.visits, \
          old.tag; END",
            "trigger \"revive\"",
        ),
        ("CREATE TEMP TABLE sessions (id)", "table \"sessions\""),
        ("CREATE TEMP VIEW sessions AS SELECT 1 AS id", "view \"sessions\""),
    ] {
        let fixture = fixture().await;
        let connection = fixture.sql();
        connection.execute_batch(sql).expect("it is made");
        let Err(error) = SqliteStore::from_connection(connection) else {
            panic!("it is taken over with {kind}");
        };
        assert!(cause(&error).contains(&format!("the TEMP {kind}")), "{}", cause(&error));
    }
    let fixture = fixture().await;
    assert!(SqliteStore::from_connection(fixture.sql()).is_ok());
}

#[tokio::test]
async fn what_was_deleted_or_replaced_is_overwritten_in_the_file() {
    let fixture = fixture().await;
    let is_in_file = |text: &str| {
        fixture.sql().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("it is copied");
        let bytes = std::fs::read(fixture.path()).expect("it can be read");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let with = |tenant: &str, revision| {
        let mut row = Row { revision, ..row(1) };
        row.columns[0] = Some(Value::Text(tenant.to_owned()));
        row
    };
    // Others keep the page from becoming free as a whole.
    for n in 2..5 {
        fixture.store.insert(row(n), soon()).await.expect("stored");
    }
    fixture.store.insert(with("the first tenant", 1), soon()).await.expect("stored");
    assert!(is_in_file("the first tenant"));
    let change = Update::new(id(1), 1, with("another one", 2));
    assert_eq!(fixture.store.update(change, soon()).await.expect("stored"), Outcome::Stored);
    assert!(is_in_file("another one") && !is_in_file("the first tenant"));
    assert!(fixture.store.delete(id(1), soon()).await.expect("deleted"));
    assert!(!is_in_file("another one") && !is_in_file("state of 1"));
}

#[tokio::test]
async fn a_value_that_a_column_does_not_take_is_refused_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let table = Table { projected: table().projected, ..Table::new("sessions") };
    let sql = "CREATE TABLE sessions (id BLOB PRIMARY KEY, state BLOB, created INTEGER, expiration INTEGER, \
               revision INTEGER, tenant TEXT CHECK (length(tenant) < 5), score REAL, visits INTEGER UNIQUE, tag BLOB) \
               STRICT";
    Connection::open(&path).expect("the database can be opened").execute_batch(sql).expect("it is a table");
    let store = open(&path, &table).await.expect("it fits");
    let with = |n: usize, value| {
        let mut row = row(1);
        row.columns[n] = Some(value);
        row
    };
    let long = with(0, Value::Text("hunter2".to_owned()));
    for (row, column) in [
        (long, None),
        (with(1, Value::Real(f64::NAN)), Some("score")),
        (with(2, Value::Real(0.5)), Some("visits")),
    ] {
        let error = store.insert(row, soon()).await.expect_err("it is refused");
        assert!(error.is_refused() && !cause(&error).contains("hunter2"), "{error:?}");
        assert_eq!(error.column(), column, "{error:?}");
    }
    store.insert(row(1), soon()).await.expect("it fits");
    assert!(!store.insert(row(1), soon()).await.expect_err("it is there").is_refused(), "another id may do");
    let of = |n| Row { columns: with(2, Value::Integer(7)).columns, ..row(n) };
    store.insert(of(2), soon()).await.expect("it fits");
    let error = store.insert(of(3), soon()).await.expect_err("it is there");
    assert!(error.is_refused() && error.column() == Some("visits"), "{error:?}");
}

#[tokio::test]
async fn the_store_keeps_its_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    crate::store::suite::run(async || SqliteStore::open(&path).expect("a store")).await;
    crate::store::suite::run(async || SqliteStore::in_memory().expect("a store")).await;
}

#[tokio::test]
async fn a_row_comes_back_as_it_was_stored() {
    let Fixture { store, folder: _folder } = fixture().await;
    for stored in [row(1), full_row(2), Row { state: Vec::new(), ..row(3) }] {
        store.insert(stored.clone(), soon()).await.unwrap();
        assert_eq!(store.load(stored.id, soon()).await.unwrap(), Some(stored));
    }
    assert_eq!(store.load(id(9), soon()).await.unwrap(), None);
}

#[tokio::test]
async fn text_state_is_stored_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let table = Table { state_is_text: true, ..Table::new("sessions") };
    let store = open(&path, &table).await.unwrap();
    let stored = Row { state: b"{\"a\":1}".to_vec(), ..bare_row(1) };
    store.insert(stored.clone(), soon()).await.unwrap();
    assert_eq!(store.update(update(&stored, Scope::State), soon()).await.unwrap(), Outcome::Stored);
    assert_eq!(store.load(stored.id, soon()).await.unwrap().unwrap().state, stored.state);
    let kind: String = Connection::open(path)
        .unwrap()
        .query_row("SELECT typeof(state) FROM sessions", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kind, "text");
}

#[tokio::test]
async fn an_update_writes_what_its_scope_says() {
    let Fixture { store, folder: _folder } = fixture().await;
    let before = row(1);
    store.insert(before.clone(), soon()).await.unwrap();
    let state = Row { state: b"new".to_vec(), revision: 2, ..before.clone() };
    let elsewhere =
        Row { expiration: Timestamp::from_millis(7), user: Some(Value::Integer(7)), ..state.clone() };
    let change = Update { id: id(1), expected: 1, scope: Scope::State, row: elsewhere };
    assert_eq!(store.update(change, soon()).await.unwrap(), Outcome::Stored);
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(state.clone()));

    let touched = Row { expiration: Timestamp::from_millis(2_000), revision: 3, ..state };
    let elsewhere = Row { user: Some(Value::Integer(7)), ..touched.clone() };
    let change = Update { id: id(1), expected: 2, scope: Scope::Expiration, row: elsewhere };
    assert_eq!(store.update(change, soon()).await.unwrap(), Outcome::Stored);
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(touched));

    let whole = Row { revision: 4, ..full_row(1) };
    let change = Update { id: id(1), expected: 3, scope: Scope::Row, row: whole.clone() };
    assert_eq!(store.update(change, soon()).await.unwrap(), Outcome::Stored);
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(whole));
}

#[tokio::test]
async fn a_damaged_row_is_returned_and_names_the_column() {
    let fixture = fixture().await;
    for (n, column, value) in [
        (1, "ip_addr", "'not an ip'"),
        (2, "revision", "'seven'"),
        (3, "expiration", "x'00'"),
        (4, "state", "5"),
        (5, "created", "'x'"),
        (6, "user_id", "'eve'"),
        (7, "tenant", "x'ff'"),
        (8, "visits", "1.5"),
        (9, "tag", "'text'"),
        (10, "ip_addr", "x'00'"),
    ] {
        fixture.store.insert(row(n), soon()).await.unwrap();
        let bytes = id(n);
        let sql = format!("UPDATE sessions SET {column} = {value} WHERE id = ?1");
        assert_eq!(fixture.sql().execute(&sql, [bytes.as_bytes()]).unwrap(), 1);
        let loaded = fixture.store.load(id(n), soon()).await.unwrap().unwrap();
        assert_eq!(loaded.damaged.as_deref(), Some(column), "{value}");
        let listed = fixture.store.find(&Filter::Id(id(n)), Page::new(None, 9), soon()).await.unwrap();
        assert_eq!(listed, [loaded]);
    }
    assert_eq!(ids(&fixture.store, Filter::All).await.len(), 10);
}

#[tokio::test]
async fn a_row_whose_key_is_no_session_id_is_in_no_list_and_is_removed() {
    let fixture = fixture().await;
    fixture.store.insert(row(1), soon()).await.unwrap();
    for key in ["x''", "x'01'", "zeroblob(33)", "'0123456789abcdef0123456789abcdef'"] {
        let sql = format!(
            "INSERT INTO sessions (id, state, created, expiration, revision) VALUES ({key}, x'', 1, 9, 1)"
        );
        fixture.sql().execute(&sql, []).unwrap();
    }
    assert_eq!(ids(&fixture.store, Filter::All).await, [id(1)]);
    let first = fixture.store.find(&Filter::All, Page::new(None, 1), soon()).await.unwrap();
    assert_eq!(first[0].id, id(1), "a page is not filled with rows that are left out");
    let now = Timestamp::from_millis(10);
    for removed in [2, 2, 0] {
        assert_eq!(fixture.store.prune(now, 100, soon()).await.unwrap(), removed);
    }
    fixture.sql().execute("UPDATE sessions SET id = x'01'", []).unwrap();
    assert_eq!(fixture.store.remove(&Filter::All, soon()).await.unwrap(), []);
    assert_eq!(fixture.store.count(&Filter::All, soon()).await.unwrap(), 0);
}

#[tokio::test]
async fn of_a_value_that_is_too_long_only_its_length_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let store = open(&path, &Table { max_state: 100, ..table() }).await.unwrap();
    store.insert(full_row(1), soon()).await.unwrap();
    let sql = Connection::open(path).unwrap();
    for (column, value, damaged) in [
        ("state", "zeroblob(100)", None),
        ("state", "zeroblob(101)", None),
        ("state", "zeroblob(100000)", None),
        ("state", "replace(hex(zeroblob(5000)), '0', '\u{E4}')", None),
        ("tenant", "hex(zeroblob(5000))", Some("tenant")),
        ("created", "replace(hex(zeroblob(5000)), '0', 'x')", Some("created")),
        ("visits", "zeroblob(5000)", Some("visits")),
    ] {
        sql.execute(&format!("UPDATE sessions SET {column} = {value}"), []).unwrap();
        let loaded = store.load(id(1), soon()).await.unwrap().unwrap();
        let expected = if value == "zeroblob(100)" { 100 } else { 101 };
        assert_eq!(loaded.damaged.as_deref(), damaged, "{column} = {value}");
        assert_eq!(loaded.state.len(), expected, "{column} = {value}");
        if damaged.is_some() {
            store.delete(id(1), soon()).await.unwrap();
            let long = Row { state: vec![0; 101], ..full_row(1) };
            store.insert(long, soon()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_the_table_is_refused() {
    let Fixture { store, folder: _folder } = fixture().await;
    store.insert(bare_row(1), soon()).await.unwrap_err();
    assert_eq!(store.count(&Filter::All, soon()).await.unwrap(), 0);
}

#[tokio::test]
async fn text_is_compared_byte_for_byte_whatever_the_collation_of_the_table() {
    let fixture = fixture().await;
    let table = Table { name: "loose".to_owned(), ..table() };
    fixture.sql().execute_batch(&create_loose("tenant TEXT COLLATE NOCASE")).unwrap();
    let mut store = fixture.store.clone();
    store.prepare(&table, TIMEOUT).await.unwrap();
    let mut stored = row(1);
    stored.columns[0] = Some(Value::Text("acme".to_owned()));
    store.insert(stored, soon()).await.unwrap();
    let is =
        |text: &str| Filter::Compare(ColumnRef::Projected(0), Comparison::Eq, Value::Text(text.to_owned()));
    assert_eq!(store.count(&is("acme"), soon()).await.unwrap(), 1);
    assert_eq!(store.count(&is("ACME"), soon()).await.unwrap(), 0);
}

fn create_loose(columns: &str) -> String {
    format!(
        "CREATE TABLE loose (id BLOB PRIMARY KEY ON CONFLICT REPLACE, state BLOB, created BIGINT, \
         expiration int, revision INTEGER, {columns})"
    )
}

#[tokio::test]
async fn a_conflict_clause_of_the_table_does_not_overwrite_a_row() {
    let fixture = fixture().await;
    fixture.sql().execute_batch(&create_loose("tenant TEXT")).unwrap();
    let mut store = fixture.store.clone();
    store.prepare(&Table { name: "loose".to_owned(), ..table() }, TIMEOUT).await.unwrap();
    store.insert(row(1), soon()).await.unwrap();
    store.insert(full_row(1), soon()).await.unwrap_err();
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(row(1)));
}

#[tokio::test]
async fn a_filter_by_a_missing_column_or_by_too_many_values_is_an_error() {
    let Fixture { store, folder: _folder } = fixture().await;
    store.count(&Filter::IsNull(ColumnRef::Projected(4)), soon()).await.unwrap_err();
    let user = |count| Filter::OneOf(ColumnRef::User, vec![Value::Integer(1); count]);
    assert_eq!(store.count(&user(32_766), soon()).await.unwrap(), 0);
    assert!(cause(&store.count(&user(32_767), soon()).await.unwrap_err()).contains("32767"));
}

#[tokio::test]
async fn a_value_of_another_type_than_its_column_matches_no_row() {
    let Fixture { store, folder: _folder } = fixture().await;
    store.insert(full_row(1), soon()).await.unwrap();
    let user = |comparison, value| Filter::Compare(ColumnRef::User, comparison, value);
    assert_eq!(store.count(&user(Comparison::Eq, Value::Integer(-7)), soon()).await.unwrap(), 1);
    for comparison in [Comparison::Eq, Comparison::Ne] {
        let text = user(comparison, Value::Text("-7".to_owned()));
        assert_eq!(store.count(&text, soon()).await.unwrap(), 0, "{comparison:?}");
    }
    let mixed = Filter::OneOf(ColumnRef::User, vec![Value::Text("-7".to_owned()), Value::Integer(-7)]);
    assert_eq!(store.count(&mixed, soon()).await.unwrap(), 1);
}

#[tokio::test]
async fn preparing_twice_and_from_two_stores_at_once_creates_the_table_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { open(&path, &table()).await })
        })
        .collect();
    for attempt in attempts {
        attempt.await.unwrap().unwrap();
    }
    let indexes: Vec<String> = Connection::open(path)
        .unwrap()
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(indexes, ["sessions.expiration", "sessions.tenant", "sessions.user_id"]);
}

#[tokio::test]
async fn a_missing_column_is_added_and_old_rows_keep_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let old = open(&path, &Table::new("sessions")).await.unwrap();
    old.insert(bare_row(1), soon()).await.unwrap();
    let store = open(&path, &table()).await.unwrap();
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(row(1)));
    store.insert(full_row(2), soon()).await.unwrap();
    assert_eq!(store.load(id(2), soon()).await.unwrap(), Some(full_row(2)));
    // A store that does not know the new columns still works.
    assert_eq!(old.load(id(2), soon()).await.unwrap().map(|row| row.columns), Some(Vec::new()));
    let indexed: i64 = Connection::open(path)
        .unwrap()
        .query_row(
            "SELECT count(*) FROM pragma_index_list('sessions') WHERE name = 'sessions.tenant'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(indexed, 1);
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_refused_and_the_error_names_the_column() {
    let good = "id BLOB PRIMARY KEY, state BLOB, created INTEGER, expiration INTEGER, revision INTEGER";
    let cases = [
        (good.replace("state BLOB", "state TEXT"), ["\"state\"", "TEXT"]),
        (good.replace("state BLOB", "state"), [""; 2]),
        (good.replace("created INTEGER", "created NUMERIC"), ["\"created\"", "NUMERIC"]),
        (good.replace("revision INTEGER", "revision"), ["\"revision\"", "without a type"]),
        (good.replace("id BLOB PRIMARY KEY", "id BLOB"), ["\"id\"", "primary key"]),
        (good.replace("id BLOB PRIMARY KEY", "id TEXT PRIMARY KEY"), ["\"id\"", "TEXT"]),
        (good.replace("created INTEGER", "created INTEGER AS (1)"), ["\"created\"", "generated"]),
        (good.replace(" PRIMARY KEY", "") + ", PRIMARY KEY (id, created)", ["\"created\"", "primary key"]),
        (
            good.replace(" PRIMARY KEY", "") + ", other TEXT, PRIMARY KEY (id, other)",
            ["\"other\"", "primary key"],
        ),
        (good.replace(", revision INTEGER", ""), ["\"revision\"", "no column"]),
        (format!("{good}, tenant INTEGER"), ["\"tenant\"", "INTEGER"]),
        (format!("{good}, tenant TEXT NOT NULL"), ["\"tenant\"", "NULL"]),
        (format!("{good}, other TEXT NOT NULL"), ["\"other\"", "default"]),
        (format!("{good}, other TEXT NOT NULL DEFAULT ''"), [""; 2]),
        (good.to_uppercase(), [""; 2]),
    ];
    for (columns, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(&format!("CREATE TABLE sessions ({columns})"))
            .unwrap();
        let prepared = open(&path, &table()).await;
        if expected == [""; 2] {
            prepared.unwrap().insert(full_row(1), soon()).await.unwrap();
        } else {
            let cause = cause(&prepared.unwrap_err());
            let named = cause.contains("\"sessions\"") && expected.iter().all(|word| cause.contains(word));
            assert!(named, "{columns}: {cause}");
        }
    }
}

#[tokio::test]
async fn a_view_with_the_name_of_the_table_is_refused() {
    let fixture = fixture().await;
    fixture.sql().execute_batch("CREATE VIEW shown AS SELECT * FROM sessions").unwrap();
    let mut store = fixture.store.clone();
    let error = store.prepare(&Table::new("shown"), TIMEOUT).await.unwrap_err();
    assert!(cause(&error).contains("is a view"), "{}", cause(&error));
}

#[tokio::test]
async fn every_name_that_sqlite_can_quote_works() {
    let Fixture { mut store, folder: _folder } = fixture().await;
    let odd = Table {
        name: "select \"from\" x; --".to_owned(),
        id: "primary".to_owned(),
        state: "sta'te".to_owned(),
        user: Some(TableColumn::new("\u{FC}ser \u{1F36A}", ColumnType::Text).indexed()),
        ip: Some("ip addr".to_owned()),
        created: "\"".to_owned(),
        expiration: "where".to_owned(),
        revision: "?1".to_owned(),
        projected: vec![
            TableColumn::new("rowid", ColumnType::Integer).indexed(),
            TableColumn::new("[x]`", ColumnType::Text),
        ],
        ..table()
    };
    store.prepare(&odd, TIMEOUT).await.unwrap();
    let stored = Row {
        user: Some(Value::Text("u".to_owned())),
        columns: vec![Some(Value::Integer(3)), Some(Value::Text("y".to_owned()))],
        ..row(1)
    };
    store.insert(stored.clone(), soon()).await.unwrap();
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(stored.clone()));
    assert_eq!(store.update(update(&stored, Scope::Row), soon()).await.unwrap(), Outcome::Stored);
    let is_3 = Filter::Compare(ColumnRef::Projected(0), Comparison::Eq, Value::Integer(3));
    let filter = is_3.and(Filter::IsNull(ColumnRef::User).not());
    assert_eq!(store.remove(&filter, soon()).await.unwrap(), [id(1)]);
}

#[tokio::test]
async fn two_tables_in_one_file_are_independent() {
    let Fixture { store, folder: _folder } = fixture().await;
    let mut other = store.clone();
    other.prepare(&Table::new("others"), TIMEOUT).await.unwrap();
    store.insert(full_row(1), soon()).await.unwrap();
    other.insert(bare_row(1), soon()).await.unwrap();
    assert!(other.delete(id(1), soon()).await.unwrap());
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(full_row(1)));
}

#[tokio::test]
async fn a_call_before_prepare_is_an_error_that_says_so() {
    let store = SqliteStore::in_memory().unwrap();
    for error in
        [store.load(id(1), soon()).await.unwrap_err(), store.insert(row(1), soon()).await.unwrap_err()]
    {
        assert!(cause(&error).contains("not prepared"));
    }
}
