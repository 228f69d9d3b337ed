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

/// Scripts that leave what a rename on Redis has done before a crash. Key: a row. Value: the bytes of the other id.
pub mod marks {
    /// The row of the new id, after the first step.
    pub const PENDING: &str = "local row = redis.call('GET', KEYS[1])
        row = 'p' .. string.sub(row, 2, 13) .. ARGV[1] .. string.sub(row, 14)
        return redis.call('SET', KEYS[1], row, 'KEEPTTL')";

    /// The mark in the place of the old row, after the second step.
    pub const MOVED: &str = "local row = redis.call('GET', KEYS[1])
        return redis.call('SET', KEYS[1], 'm' .. string.sub(row, 2, 13) .. ARGV[1], 'KEEPTTL')";
}
