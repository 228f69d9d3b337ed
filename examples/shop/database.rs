//! What the database holds of a session: its row, as any program reads it that can open the file.

use std::path::Path;

use session_runtime::SessionId;
use session_runtime::rusqlite::types::Value;
use session_runtime::rusqlite::{Connection, OpenFlags, OptionalExtension as _, Result};

/// A row: the name of each column, and its value.
pub(crate) type Row = Vec<(String, Value)>;

/// Reads the row of a session, without the library and without the key.
pub(crate) fn row(path: &Path, id: SessionId) -> Result<Option<Row>> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut query = database.prepare("SELECT * FROM shop_sessions WHERE id = ?1")?;
    let names: Vec<String> = query.column_names().map(str::to_owned).collect();
    let row = query.query_row([id.as_bytes()], |row| {
        names.iter().enumerate().map(|(index, name)| Ok((name.clone(), row.get(index)?))).collect()
    });
    row.optional()
}
