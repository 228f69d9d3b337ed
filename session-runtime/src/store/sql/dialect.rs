//! What databases do differently: quoting, parameters, types, and the statements that have no common form.
//!
//! Each database has one [`Dialect`], a constant beside its driver. The rest of this folder does not know which
//! database it writes for.

use std::borrow::Cow;
use std::fmt;

use super::ColumnRole;
use crate::value::{ColumnType, Value};

/// How one database wants its SQL.
#[derive(Debug)]
pub(in crate::store) struct Dialect {
    /// Stands around a name, and twice within it.
    pub(in crate::store) quote: char,
    /// The length of a name, in the unit of `max_name_length`.
    pub(in crate::store) name_length: fn(&str) -> usize,
    /// The longest name, in bytes or in characters.
    pub(in crate::store) max_name_length: usize,
    /// The n-th parameter of a statement, from 1.
    pub(in crate::store) parameter: fn(usize) -> Cow<'static, str>,
    /// The most parameters of a statement.
    pub(in crate::store) max_parameters: usize,
    /// Begins a statement that adds a row.
    pub(in crate::store) insert: &'static str,
    /// Begins a statement that changes rows.
    pub(in crate::store) update: &'static str,
    /// Stand before and after a column of text, so that it is compared byte for byte, whatever its collation.
    pub(in crate::store) byte_order: (&'static str, &'static str),
    /// Whether `byte_order` turns text into bytes, which an index of the column does not serve. A comparison with
    /// the column itself is then made besides.
    pub(in crate::store) byte_order_is_blob: bool,
    /// Whether text can hold the character NUL.
    pub(in crate::store) text_holds_nul: bool,
    /// Returns what a value is, if no column of its type can hold it. The second parameter is whether the column is
    /// indexed.
    pub(in crate::store) refuses: fn(&Value, bool) -> Option<&'static str>,
    /// Selects a column, so that no more than so many bytes of a value are read: its quoted name, its type, the most
    /// bytes. What comes of a longer value is longer too, or of another type.
    pub(in crate::store) bounded: fn(&str, ColumnType, usize) -> String,
    /// The condition that a quoted column holds a session id.
    pub(in crate::store) is_id: fn(&str) -> String,
    /// Removes the first rows that have expired; with the parameters of the time and of how many.
    pub(in crate::store) prune: fn(&Names, &str, &str) -> String,
    /// Removes or selects the rows of a condition, and returns their ids.
    pub(in crate::store) remove: fn(&Names, &str) -> String,
    /// The same for all rows of a condition but the first ones in an order; with the parameter of how many stay.
    pub(in crate::store) surplus: fn(&Names, &str, &str, &str) -> String,
    pub(in crate::store) catalog: Catalog,
}

/// Quoted names of a table and of its columns.
#[derive(Debug)]
pub(in crate::store) struct Names {
    pub(in crate::store) table: String,
    pub(in crate::store) id: String,
    pub(in crate::store) created: String,
    pub(in crate::store) expiration: String,
}

/// The longest value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::store) enum MaxLength {
    #[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "only MySQL limits bytes"))]
    Bytes(usize),
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres")),
        expect(dead_code, reason = "SQLite has no limit")
    )]
    Characters(usize),
}

impl MaxLength {
    pub(super) fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Bytes(max), Value::Text(text)) => text.len() <= max,
            (Self::Bytes(max), Value::Blob(blob)) => blob.len() <= max,
            (Self::Characters(max), Value::Text(text)) => text.len() <= max || text.chars().count() <= max,
            _ => true,
        }
    }
}

impl fmt::Display for MaxLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(max) => write!(f, "more than {max} bytes"),
            Self::Characters(max) => write!(f, "more than {max} characters"),
        }
    }
}

/// What a database says of its tables, and how a table is made.
#[derive(Debug)]
pub(in crate::store) struct Catalog {
    /// The parameter of the three queries below, made from the name of a table and its quoted form.
    pub(in crate::store) subject: fn(&str, &str) -> String,
    /// Returns the kind of a table, as text: `table`, `view` and so on. No row if there is no such table.
    pub(in crate::store) kind: &'static str,
    /// Returns the name and the declared type of each column, as text, and then as integers: whether it cannot be
    /// `NULL`, has a default, is generated, and is part of the primary key.
    pub(in crate::store) columns: &'static str,
    /// Returns the first column of each index that covers all rows, as text.
    pub(in crate::store) indexes: &'static str,
    /// Whether two names are names of one column.
    pub(in crate::store) is_same_name: fn(&str, &str) -> bool,
    /// The type of a new column.
    pub(in crate::store) column_type: fn(ColumnType) -> &'static str,
    /// The type of a new primary key.
    pub(in crate::store) key_type: &'static str,
    /// The type of the name of a table, which is equal where the database takes two names for one table.
    pub(in crate::store) name_type: &'static str,
    /// Makes of the parameter of a table's name what all names of that table have in common.
    pub(in crate::store) name_value: fn(&str) -> String,
    /// What a column of this declared type holds, if it can have this role.
    pub(in crate::store) holds: fn(&str, ColumnRole) -> Option<ColumnType>,
    /// The longest value of a column of this declared type, if it is shorter than a session may need.
    pub(in crate::store) max_length: fn(&str) -> Option<MaxLength>,
    /// Stands after the columns of a new table.
    pub(in crate::store) table_options: &'static str,
    /// Creates an index: the quoted name it may take, the quoted table, the quoted column, its type.
    pub(in crate::store) create_index: fn(&str, &str, &str, ColumnType) -> String,
}

impl Dialect {
    pub(in crate::store) fn quoted(&self, name: &str) -> String {
        let mut quoted = String::with_capacity(name.len() + 2);
        self.push_quoted(&mut quoted, name);
        quoted
    }

    pub(super) fn push_quoted(&self, sql: &mut String, name: &str) {
        sql.push(self.quote);
        for c in name.chars() {
            if c == self.quote {
                sql.push(c);
            }
            sql.push(c);
        }
        sql.push(self.quote);
    }
}
