//! SQL as text: a table, a row or a filter goes in; statements and the values to bind come out.
//!
//! It knows no driver. What differs between SQLite, PostgreSQL and MySQL is in their [`Dialect`](dialect::Dialect).
//! Names are quoted and values are bound: no value ever becomes part of a statement's text.

pub(super) mod dialect;
pub(super) mod filter;
pub(super) mod owner;
pub(super) mod rows;
pub(super) mod table;

use std::borrow::Cow;

use super::{ColumnRef, Table};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// A value on its way to or from a driver; `None` beside it is `NULL`. Borrowed where the driver allows it.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
    Blob(Cow<'a, [u8]>),
}

/// The cells of a row that was read.
pub(super) type Cells = Vec<Option<Value>>;

impl Datum<'_> {
    /// Returns the session id that it holds, if it holds one.
    pub(super) fn id(&self) -> Option<SessionId> {
        match self {
            Self::Blob(bytes) => bytes.as_ref().try_into().ok().map(SessionId::from_bytes),
            _ => None,
        }
    }
}

impl<'a> From<&'a SessionId> for Datum<'a> {
    fn from(id: &'a SessionId) -> Self {
        Self::Blob(id.as_bytes().as_slice().into())
    }
}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Integer(integer) => Self::Integer(*integer),
            Value::Real(real) => Self::Real(*real),
            Value::Text(text) => Self::Text(text.into()),
            Value::Blob(blob) => Self::Blob(blob.into()),
        }
    }
}

impl From<Value> for Datum<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(integer) => Self::Integer(integer),
            Value::Real(real) => Self::Real(real),
            Value::Text(text) => Self::Text(text.into()),
            Value::Blob(blob) => Self::Blob(blob.into()),
        }
    }
}

impl From<Datum<'_>> for Value {
    fn from(datum: Datum<'_>) -> Self {
        match datum {
            Datum::Integer(integer) => Self::Integer(integer),
            Datum::Real(real) => Self::Real(real),
            Datum::Text(text) => Self::Text(text.into_owned()),
            Datum::Blob(blob) => Self::Blob(blob.into_owned()),
        }
    }
}

/// A column that the table must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequiredColumn<'a> {
    pub(super) name: &'a str,
    pub(super) ty: ColumnType,
    pub(super) role: ColumnRole,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ColumnRole {
    /// The primary key: ids of 32 bytes.
    Key,
    /// The state: as many bytes as a session may have.
    State,
    /// Any other column that is never `NULL`.
    Mandatory,
    /// A column that may be `NULL`.
    Nullable,
}

/// Returns the columns of a table, in the order in which a table is created and rows are bound and read.
pub(super) fn required_columns(table: &Table) -> impl Iterator<Item = RequiredColumn<'_>> {
    let state = if table.state_is_text { ColumnType::Text } else { ColumnType::Blob };
    let mandatory = |name| (name, ColumnType::Integer, ColumnRole::Mandatory);
    let nullable = |name, ty| (name, ty, ColumnRole::Nullable);
    [(&table.id, ColumnType::Blob, ColumnRole::Key), (&table.state, state, ColumnRole::State)]
        .into_iter()
        .chain(table.user.as_ref().map(move |user| nullable(&user.name, user.ty)))
        .chain(table.ip.as_ref().map(move |ip| nullable(ip, ColumnType::Text)))
        .chain([&table.created, &table.expiration, &table.revision].map(mandatory))
        .chain(table.projected.iter().map(move |column| nullable(&column.name, column.ty)))
        .map(|(name, ty, role)| RequiredColumn { name, ty, role })
}

/// A row, a filter or the table in the database does not fit the table of the bag. Ends up in logs: it names tables
/// and columns, and shows no value of a row.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("table {table:?} {reason}")]
    Table { table: String, reason: String },
    #[error("the table has no column {0:?}")]
    NoColumn(ColumnRef),
    #[error("the table has {table} projected columns, and the row has {row}")]
    ColumnCount { table: usize, row: usize },
    #[error("a filter of {0} values is too large for one statement")]
    TooManyValues(usize),
    #[error("column {column:?} of the row does not hold {expected}")]
    Malformed { column: String, expected: &'static str },
    #[error("column {column:?} cannot hold {value}")]
    Refused { column: String, value: Cow<'static, str> },
}

impl Mismatch {
    /// Returns whether the same call would fail again, and the column because of which, if there is one.
    #[expect(clippy::option_option, reason = "no refusal, one of no column, or one of a column")]
    pub(super) fn refusal(&self) -> Option<Option<String>> {
        match self {
            Self::Table { .. } => None,
            Self::NoColumn(_) | Self::ColumnCount { .. } | Self::TooManyValues(_) => Some(None),
            Self::Malformed { column, .. } | Self::Refused { column, .. } => Some(Some(column.clone())),
        }
    }

    fn malformed(column: &str, expected: &'static str) -> Self {
        Self::Malformed { column: column.to_owned(), expected }
    }

    fn table(table: &Table, reason: impl Into<String>) -> Self {
        Self::Table { table: table.name.clone(), reason: reason.into() }
    }
}
