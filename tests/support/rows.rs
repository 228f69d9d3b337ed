//! Rows for tests of stores.

use std::time::{Duration, Instant, SystemTime};

use session_runtime::store::{Row, Scope, Table, TableColumn, Update};
use session_runtime::{ColumnType, SessionId, Timestamp, Value};

/// Changes a value, where a struct literal cannot.
pub fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// The deadline of a call that has enough time.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A table that no other test uses.
pub fn table(name: &str) -> Table {
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    with(Table::new(format!("{name}_{nanos}")), |table| {
        table.user = Some(TableColumn::new("user_id", ColumnType::Integer).indexed());
    })
}

/// A row that lives for an hour.
pub fn row(n: u8) -> Row {
    let now = Timestamp::from(SystemTime::now());
    let expiration = now.saturating_add(Duration::from_hours(1));
    with(Row::new(SessionId::from_bytes([n; 32]), vec![n; 600], now, expiration, 1), |row| {
        row.user = Some(Value::Integer(n.into()));
    })
}

/// The next revision of a row.
pub fn touch(row: &Row) -> Update {
    let next = with(row.clone(), |row| row.revision += 1);
    with(Update::new(row.id, row.revision, next), |update| update.scope = Scope::State)
}
