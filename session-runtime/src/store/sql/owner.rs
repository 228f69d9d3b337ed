//! The note of which bag a table belongs to, in a small table of its own.
//!
//! ```sql
//! CREATE TABLE databag_owners (name TEXT PRIMARY KEY, bag TEXT NOT NULL)
//! ```

use super::dialect::Dialect;
use crate::value::ColumnType;

/// The table of all notes.
pub(in crate::store) const OWNERS: &str = "databag_owners";

/// The statements of the notes.
pub(in crate::store) struct Owners {
    /// The query whether there are notes at all, and its only parameter.
    pub(in crate::store) exists: (&'static str, String),
    pub(in crate::store) create: String,
    /// Returns the bag; takes the name of a table.
    pub(in crate::store) select: String,
    /// Takes the name of a table and the bag.
    pub(in crate::store) insert: String,
}

impl Owners {
    pub(in crate::store) fn new(dialect: &Dialect) -> Self {
        let [owners, name, bag] = [OWNERS, "name", "bag"].map(|name| dialect.quoted(name));
        let (p, catalog, key) = (dialect.parameter, &dialect.catalog, dialect.catalog.name_value);
        let text = (catalog.column_type)(ColumnType::Text);
        Self {
            exists: (catalog.kind, (catalog.subject)(OWNERS, &owners)),
            create: format!(
                "CREATE TABLE IF NOT EXISTS {owners} ({name} {} NOT NULL PRIMARY KEY, {bag} {text} NOT NULL){}",
                catalog.name_type, catalog.table_options
            ),
            select: format!("SELECT {bag} FROM {owners} WHERE {name} = {}", key(&p(1))),
            insert: format!("INSERT INTO {owners} ({name}, {bag}) VALUES ({}, {})", key(&p(1)), p(2)),
        }
    }
}
