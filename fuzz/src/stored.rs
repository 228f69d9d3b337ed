//! Rows as stores hold them, written by another program: a row is read as it is, or is damaged, and fails no call.
//!
//! The SQL servers make rows of cells by the same function as SQLite.

use std::time::Duration;

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, params_from_iter};
use session_runtime::__private::fuzz::{redis_bytes, redis_row};
use session_runtime::store::{Row, Table, TableColumn};
use session_runtime::{
    ColumnType, Databag, Durability, Error, SessionId, Sessions, SqliteStore, Token, Value,
};
use tempfile::TempDir;

use crate::Target;
use crate::http::run as wait;
use crate::input::Input;
use crate::rows::{LATER, NOW, keyring, steady, token};

/// Cells of a real database of SQLite.
pub const SQLITE: Target = Target {
    name: "sqlite_row",
    run: |data| DATABASE.with(|database| database.run(data)),
    starts: || {
        let mut starts = vec![vec![]];
        starts.extend((0..8).flat_map(|column| (0..5).map(move |ty| vec![column, ty, 3, b'1', b'0', b'.'])));
        starts
    },
    weight: 4,
    words: &["10.0.0.1", "::1", "acme", "\0", "\u{E9}", "9223372036854775807", "1e999"],
};

/// The bytes of a row of Redis.
pub const REDIS: Target = Target {
    name: "redis_row",
    run: run_redis,
    starts: || {
        let table = table();
        let mut row = Row::new(token().session_id(), b"state".to_vec(), NOW, LATER, 3);
        row.columns = vec![None, None];
        let empty = redis_bytes(&table, &row).expect("it fits");
        row.user = Some(Value::Integer(7));
        row.ip = Some([10, 0, 0, 1].into());
        row.columns = vec![Some(Value::Text("acme".to_owned())), Some(Value::Real(0.5))];
        let full = redis_bytes(&table, &row).expect("it fits");
        let mark = [b"m".as_slice(), &[1; 44]].concat();
        let pending = [b"p", &full[1..13], &[9; 32], &full[13..]].concat();
        vec![empty, full, mark, pending, b"g".to_vec()]
    },
    weight: 1,
    words: &[
        "r",
        "p",
        "m",
        "c",
        "g",
        "a",
        "i7",
        "i-9223372036854775808",
        "rNaN",
        "rinf",
        "t",
        "b",
        "tenant",
        "10.0.0.1",
    ],
};

/// With a column of each kind.
#[derive(Clone, Debug, PartialEq, Databag)]
#[databag(name = "Stored", table = "stored")]
struct Stored {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(ip_addr)]
    ip_addr: Option<std::net::IpAddr>,
    #[databag(column)]
    tenant: Option<String>,
    #[databag(column)]
    score: Option<f64>,
}

struct Database {
    _folder: TempDir,
    sessions: Sessions<Stored>,
    other: Connection,
    good: SessionId,
    token: Token,
    id: SessionId,
    columns: Vec<String>,
    genuine: Vec<Cell>,
    update: String,
}

thread_local! {
    static DATABASE: Database = Database::new();
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fuzz.db");
        let store = SqliteStore::open(&path).expect("a database").durability(Durability::Normal);
        let builder =
            steady(Sessions::<Stored>::builder(store).keyring(keyring())).deadline(Duration::from_mins(10));
        let sessions: Sessions<Stored> = wait(builder.build()).expect("good settings");
        let bag =
            || Stored { user_id: Some(7), ip_addr: None, tenant: Some("acme".to_owned()), score: Some(0.5) };
        let (_, good) = wait(sessions.create(bag())).expect("stored");
        let (token, session) = wait(sessions.create(bag())).expect("stored");
        let other = Connection::open(&path).expect("a database");
        other.pragma_update(None, "synchronous", "OFF").expect("a setting");
        let mut columns = Vec::new();
        let statement = other.prepare("SELECT * FROM stored").expect("a table");
        columns.extend(statement.column_names().filter(|name| *name != "id").map(str::to_owned));
        drop(statement);
        let select = format!("SELECT {} FROM stored WHERE id = ?1", columns.join(", "));
        let id = session.id();
        let genuine = other.query_row(&select, [id.as_bytes()], |row| {
            (0..columns.len()).map(|column| row.get(column)).collect::<Result<Vec<Cell>, _>>()
        });
        let assignments: Vec<_> =
            columns.iter().zip(2..).map(|(column, n)| format!("{column} = ?{n}")).collect();
        let update = format!("UPDATE OR IGNORE stored SET {} WHERE id = ?1", assignments.join(", "));
        let (good, genuine) = (good.id(), genuine.expect("the row"));
        Self { _folder: folder, sessions, other, good, token, id, columns, genuine, update }
    }

    fn write(&self, cells: &[Cell]) {
        let id = Cell::Blob(self.id.as_bytes().to_vec());
        let mut statement = self.other.prepare_cached(&self.update).expect("a statement");
        statement.execute(params_from_iter([&id].into_iter().chain(cells))).expect("a table");
    }

    fn run(&self, data: &[u8]) {
        let mut input = Input(data);
        let mut cells = self.genuine.clone();
        let mut as_text = None;
        while !input.0.is_empty() {
            let column = usize::from(input.byte()) % self.columns.len();
            cells[column] = match input.byte() % 6 {
                0 => Cell::Null,
                1 => Cell::Integer(input.integer()),
                2 => Cell::Real(f64::from_bits(input.number())),
                3 => Cell::Text(input.text()),
                4 => Cell::Blob(input.bytes().to_vec()),
                // Text that is not UTF-8.
                _ => {
                    as_text = Some(column);
                    Cell::Blob(input.bytes().to_vec())
                }
            };
        }
        self.write(&cells);
        if let Some(column) = as_text {
            let column = &self.columns[column];
            let cast = format!("UPDATE stored SET {column} = CAST({column} AS TEXT) WHERE id = ?1");
            self.other
                .prepare_cached(&cast)
                .and_then(|mut cast| cast.execute([self.id.as_bytes()]))
                .expect("the row");
        }
        let loaded = match wait(self.sessions.load(&self.token)) {
            // A mistake in the configuration, as far as a program can tell.
            Err(Error::UnknownKey { .. }) => None,
            loaded => loaded.expect("one row fails no load"),
        };
        if let Some(session) = loaded {
            assert_eq!(
                (session.user_id, session.tenant.as_deref(), session.score),
                (Some(7), Some("acme"), Some(0.5))
            );
        } else {
            assert_ne!(cells, self.genuine, "a good row is read");
        }
        // A list takes much longer than a row.
        if !data.iter().copied().fold(0, u8::wrapping_add).is_multiple_of(8) {
            return;
        }
        let listed = wait(self.sessions.of_user(7)).expect("one row fails no list");
        assert!(listed.iter().any(|session| session.id() == self.good), "the good row is listed");
        let report = wait(self.sessions.check()).expect("one row fails no check");
        assert!(report.skipped <= 1);
    }
}

fn table() -> Table {
    let mut table = Table::new("stored");
    table.max_state = 4096;
    table.user = Some(TableColumn::new("user_id", ColumnType::Integer));
    table.ip = Some("ip_addr".to_owned());
    table.projected =
        vec![TableColumn::new("tenant", ColumnType::Text), TableColumn::new("score", ColumnType::Real)];
    table
}

fn run_redis(data: &[u8]) {
    let table = table();
    let Some(row) = redis_row(&table, token().session_id(), data) else { return };
    assert_eq!(row.columns.len(), 2);
    assert!(row.state.len() <= table.max_state + 1);
    if row.damaged.is_none() {
        let bytes = redis_bytes(&table, &row).expect("what was read fits the table");
        let again = redis_row(&table, row.id, &bytes).expect("a row");
        // NaN equals nothing.
        assert_eq!(format!("{again:?}"), format!("{row:?}"));
        assert_eq!(again.state, row.state);
    }
}
