//! Rows for tests of stores.

use std::time::{Duration, SystemTime};

use session_runtime::store::{Row, Scope, Table, TableColumn, Update};
use session_runtime::{ColumnType, SessionId, Timestamp, Value};

/// A table that no other test uses.
pub fn table(name: &str) -> Table {
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    Table {
        name: format!("{name}_{nanos}"),
        id: "id".to_owned(),
        state: "state".to_owned(),
        state_is_text: false,
        user: Some(TableColumn { name: "user_id".to_owned(), ty: ColumnType::Integer, index: true }),
        ip: None,
        created: "created".to_owned(),
        expiration: "expiration".to_owned(),
        revision: "revision".to_owned(),
        projected: Vec::new(),
    }
}

/// A row that lives for an hour.
pub fn row(n: u8) -> Row {
    let now = Timestamp::from(SystemTime::now());
    Row {
        id: SessionId::from_bytes([n; 32]),
        state: vec![n; 600],
        user: Some(Value::Integer(n.into())),
        ip: None,
        created: now,
        expiration: now.saturating_add(Duration::from_hours(1)),
        revision: 1,
        columns: Vec::new(),
    }
}

/// The next revision of a row.
pub fn touch(row: &Row) -> Update {
    let next = Row { revision: row.revision + 1, ..row.clone() };
    Update { id: row.id, expected: row.revision, scope: Scope::State, row: next }
}
