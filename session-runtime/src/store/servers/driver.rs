//! What a driver does for a store: it sends statements, reads cells, and says what an error means.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use sqlx::database::HasStatementCache;
use sqlx::error::DatabaseError;
use sqlx::query::Query as BoundQuery;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Decode, Encode, Type};

use crate::store::StoreError;
use crate::store::sql::dialect::Dialect;
use crate::store::sql::{Cells, Datum, Mismatch};
use crate::value::{ColumnType, Value};

pub(super) type Connection<D> = <<D as SqlDriver>::Database as Database>::Connection;

pub(super) type Options<D> = <Connection<D> as sqlx::Connection>::Options;

/// How the client of one kind of server is called.
pub(super) trait SqlDriver: Send + Sync + 'static {
    type Database: Database;

    const DIALECT: &'static Dialect;

    const SERVER: &'static ServerCheck;

    /// The name of the constraint of a primary key, if all have the same one.
    const PRIMARY_KEY: Option<&'static str>;

    /// The codes of errors that say that the server starts, ends, or has as many connections as it takes.
    const BUSY: &'static [&'static str];

    /// Makes a connection with the settings that a store needs. Its statements have a timeout in milliseconds; zero for
    /// none.
    fn connect(
        options: &Options<Self>,
        statement_timeout: u64,
    ) -> impl Future<Output = Result<Connection<Self>, sqlx::Error>> + Send;

    /// Returns the cells of all rows.
    fn fetch(
        connection: &mut Connection<Self>,
        query: &Query<'_>,
    ) -> impl Future<Output = Result<Vec<Cells>, sqlx::Error>> + Send;

    /// Returns how many rows the statement matched.
    fn execute(
        connection: &mut Connection<Self>,
        query: &Query<'_>,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Removes the rows of a statement made by [`Dialect::remove`], all or none, and returns their ids. A row that matches
    /// all the time is removed even if its id changes meanwhile. `delete` is a statement that removes rows, up to the
    /// list of their ids.
    fn remove(
        connection: &mut Connection<Self>,
        query: &Query<'_>,
        delete: &str,
    ) -> impl Future<Output = Result<Vec<Cells>, Failure>> + Send;

    /// The same within a transaction, also for a statement made by [`Dialect::surplus`].
    fn remove_within(
        connection: &mut Connection<Self>,
        query: &Query<'_>,
        delete: &str,
    ) -> impl Future<Output = Result<Vec<Cells>, sqlx::Error>> + Send;

    /// Returns statements that take the lock of a number and begin a transaction, which reads what is committed when each of
    /// its statements begins. They return 1 if the lock is taken.
    fn begin_locked(number: i64) -> String;

    /// Returns statements that end such a transaction by `COMMIT` or `ROLLBACK`, and release its lock.
    fn end_locked(end: &str, number: i64) -> String;

    /// Runs statements without values in one round trip, and returns whether they return a row of 1.
    fn run(
        connection: &mut Connection<Self>,
        statements: String,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Returns what an error of the server means and what it names.
    fn classify(error: &dyn DatabaseError) -> (ErrorClass, ErrorDetails);
}

/// What start-up asks of a kind of server besides its tables.
#[derive(Debug)]
pub(super) struct ServerCheck {
    /// Returns the server's version, as text.
    pub(super) version: &'static str,
    /// Checks a version; the error is the oldest one that is supported.
    pub(super) supports: fn(&str) -> Result<(), &'static str>,
    /// Returns why a store cannot work with the settings of the connection, and what the user should know of them: two
    /// texts, empty if there is nothing to say.
    pub(super) settings: &'static str,
    /// Take the lock of a table, given its number. The last statement returns 1 if the lock is taken.
    pub(super) lock: fn(i64) -> Vec<String>,
    /// Release it.
    pub(super) unlock: fn(i64) -> Vec<String>,
}

/// What an error of a server names. Its message can quote a value, and is left out.
#[derive(Debug)]
pub(super) struct ErrorDetails {
    pub(super) code: String,
    pub(super) column: Option<String>,
    /// A constraint or an index.
    pub(super) constraint: Option<String>,
}

impl ErrorDetails {
    /// Whether they name the primary key, whose column is `id`.
    fn is_of_key<D: SqlDriver>(&self, id: &str) -> bool {
        let is_key = |name: &str| D::PRIMARY_KEY == Some(name);
        self.column.as_deref() == Some(id) || self.constraint.as_deref().is_some_and(is_key)
    }
}

impl fmt::Display for ErrorDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        self.constraint.as_ref().map_or(Ok(()), |constraint| write!(f, ", constraint {constraint:?}"))
    }
}

/// What an error of a server means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ErrorClass {
    /// Another row has a value that must be unique.
    Duplicate,
    /// The server rolled the statement back because of a deadlock or the like: a retry may succeed.
    RolledBack,
    /// The server closes the connection, and has undone the statement if it had begun. A proxy may say so of a statement
    /// that was made.
    Terminated,
    /// The server closes the connection.
    ConnectionLost,
    /// The server takes no writes, and has not made the statement: it is a replica now, or in a mode for reading only.
    ReadOnly,
    /// A value does not fit its column.
    ValueRefused,
    /// Anything else.
    Other,
}

/// A statement with the values to bind and the types of the cells that come back.
#[derive(Clone, Debug)]
pub(super) struct Query<'a> {
    pub(super) sql: Arc<str>,
    pub(super) parameters: Vec<Parameter<'a>>,
    /// The types of the cells of a row.
    pub(super) types: &'a [ColumnType],
    /// Whether the connection keeps the statement prepared.
    pub(super) is_cached: bool,
    /// The number of the lock that it needs, and the statement that follows it in its transaction.
    pub(super) limit: Option<(i64, Box<Query<'a>>)>,
}

/// A value to bind; here `NULL` has a type too.
#[derive(Clone, Debug)]
pub(super) enum Parameter<'a> {
    Null(ColumnType),
    Value(Datum<'a>),
}

impl<'a> Query<'a> {
    /// A statement that every call of its kind sends.
    pub(super) fn cached(sql: &Arc<str>, values: impl IntoIterator<Item = Datum<'a>>) -> Self {
        let parameters = values.into_iter().map(Parameter::Value).collect();
        Self { sql: sql.clone(), parameters, types: &[], is_cached: true, limit: None }
    }

    /// A statement that is made for one call.
    pub(super) fn once(
        sql: impl Into<Arc<str>>,
        values: impl IntoIterator<Item = Datum<'a>>,
        types: &'a [ColumnType],
    ) -> Self {
        let parameters = values.into_iter().map(Parameter::Value).collect();
        Self { sql: sql.into(), parameters, types, is_cached: false, limit: None }
    }
}

/// Binds the values of a statement.
pub(super) fn bind<'q, D>(query: &'q Query<'_>) -> BoundQuery<'q, D, D::Arguments>
where
    D: Database + HasStatementCache,
    Option<i64>: Encode<'q, D> + Type<D>,
    Option<f64>: Encode<'q, D> + Type<D>,
    Option<&'q str>: Encode<'q, D> + Type<D>,
    Option<&'q [u8]>: Encode<'q, D> + Type<D>,
{
    let statement = sqlx::query(AssertSqlSafe(query.sql.clone())).persistent(query.is_cached);
    query.parameters.iter().fold(statement, |statement, parameter| match parameter {
        Parameter::Value(Datum::Integer(integer)) => statement.bind(Some(*integer)),
        Parameter::Value(Datum::Real(real)) => statement.bind(Some(*real)),
        Parameter::Value(Datum::Text(text)) => statement.bind(Some(text.as_ref())),
        Parameter::Value(Datum::Blob(blob)) => statement.bind(Some(blob.as_ref())),
        Parameter::Null(ColumnType::Integer) => statement.bind(None::<i64>),
        Parameter::Null(ColumnType::Real) => statement.bind(None::<f64>),
        Parameter::Null(ColumnType::Text) => statement.bind(None::<&str>),
        Parameter::Null(ColumnType::Blob) => statement.bind(None::<&[u8]>),
    })
}

/// Reads the cells of a row.
pub(super) fn cells<'r, R: sqlx::Row>(row: &'r R, types: &[ColumnType]) -> Result<Cells, sqlx::Error>
where
    usize: ColumnIndex<R>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    Option<f64>: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    Option<Vec<u8>>: Decode<'r, R::Database> + Type<R::Database>,
{
    let cell = |(n, ty): (usize, &ColumnType)| {
        Ok(match ty {
            ColumnType::Integer => row.try_get::<Option<_>, _>(n)?.map(Value::Integer),
            ColumnType::Real => row.try_get::<Option<_>, _>(n)?.map(Value::Real),
            ColumnType::Text => row.try_get::<Option<_>, _>(n)?.map(Value::Text),
            ColumnType::Blob => row.try_get::<Option<_>, _>(n)?.map(Value::Blob),
        })
    };
    types.iter().enumerate().map(cell).collect()
}

/// Why a call failed. Ends up in logs: it names tables and columns, and shows no value of a row.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("cannot connect to the server")]
    Connect(#[source] sqlx::Error),
    #[error("the server has not completed a connection before the deadline")]
    NotConnected,
    /// Whether the statement was made is unknown.
    #[error("the connection to the server broke")]
    ConnectionLost(#[source] sqlx::Error),
    /// The statement was not made, unless a proxy says so.
    #[error("the server closed the connection")]
    Terminated(#[source] sqlx::Error),
    /// The statement was not made.
    #[error("the server takes no writes: it is a replica, or in a mode for reading only")]
    ReadOnly(#[source] sqlx::Error),
    #[error("the server refused a value of the row (error {0})")]
    ValueRefused(ErrorDetails),
    #[error("another row has a value that must be unique (error {0})")]
    Duplicate(ErrorDetails),
    #[error("the server rolled the statement back (error {0})")]
    RolledBack(String),
    #[error("there is a row of this id")]
    DuplicateId,
    #[error("other log-ins of the user have held the user's lock for too long")]
    UserLocked,
    #[error("the URL does not begin with `{0}://`")]
    Scheme(&'static str),
    /// As [`ServerCheck::settings`] says.
    #[error("{0} for the pool's connections")]
    Settings(String),
    #[error("another program has held the lock of table {table:?} for too long")]
    Locked { table: String },
    #[error("{found} is too old: {needed} or later is needed")]
    OldServer { found: String, needed: &'static str },
    #[error(
        "the URL has the unknown TLS parameter {parameter:?}: write `{verified}` to have the server verified"
    )]
    UnknownTls { parameter: String, verified: &'static str },
    #[error(
        "{parameter:?} has no effect, because the URL does not ask for the server to be verified: add `{verified}`"
    )]
    UnusedRoots { parameter: String, verified: &'static str },
    #[error("the URL has an unknown parameter, or a password with a `?`: write %3F for it")]
    UnknownParameterOrPassword,
    #[error("the URL has the parameter {parameter:?}, which is unknown here{hint}")]
    UnknownParameter { parameter: String, hint: &'static str },
    #[error("the store was not prepared for a table")]
    NotPrepared,
    #[error("the deadline has passed")]
    Deadline,
}

impl Failure {
    /// Names the operation that failed.
    pub(super) fn of_operation(self, operation: &'static str) -> StoreError {
        let refusal = match &self {
            Self::Mismatch(mismatch) => mismatch.refusal(),
            Self::ValueRefused(details) | Self::Duplicate(details) => Some(details.column.clone()),
            _ => None,
        };
        StoreError::with_refusal(operation, refusal, self)
    }

    /// Names the operation whose statement failed. `id` is the column of the primary key, if the statement stores the
    /// values of a row; what the server says of the values of another statement is no refusal of a row.
    pub(super) fn of_statement<D: SqlDriver>(
        self,
        operation: &'static str,
        id: Option<&String>,
    ) -> StoreError {
        match (self, id) {
            (Self::Duplicate(details), Some(id)) if details.is_of_key::<D>(id) => {
                StoreError::new(operation, Self::DuplicateId)
            }
            (failure @ (Self::ValueRefused(_) | Self::Duplicate(_)), None) => {
                StoreError::new(operation, failure)
            }
            (failure, _) => failure.of_operation(operation),
        }
    }

    /// Classifies an error of a statement.
    pub(super) fn of<D: SqlDriver>(error: sqlx::Error) -> Self {
        let (class, details) = match &error {
            sqlx::Error::Database(error) => D::classify(error.as_ref()),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => return Self::ConnectionLost(error),
            _ => return Self::Sqlx(error),
        };
        match class {
            ErrorClass::Duplicate => Self::Duplicate(details),
            ErrorClass::RolledBack => Self::RolledBack(details.code),
            ErrorClass::ConnectionLost => Self::ConnectionLost(error),
            ErrorClass::Terminated => Self::Terminated(error),
            ErrorClass::ReadOnly => Self::ReadOnly(error),
            ErrorClass::ValueRefused => Self::ValueRefused(details),
            ErrorClass::Other => Self::Sqlx(error),
        }
    }

    /// Classifies an error within a transaction. The server undoes what is not committed.
    pub(super) fn undone<D: SqlDriver>(error: sqlx::Error) -> Self {
        match Self::of::<D>(error) {
            Self::ConnectionLost(error) => Self::Terminated(error),
            failure => failure,
        }
    }

    /// Whether the statement may have been made all the same.
    pub(super) fn may_have_been_made(&self) -> bool {
        matches!(self, Self::Sqlx(_) | Self::ConnectionLost(_) | Self::Terminated(_) | Self::Deadline)
    }

    /// Whether the server may accept connections in a moment.
    pub(super) fn is_of_a_starting_server<D: SqlDriver>(&self) -> bool {
        match self {
            // A Unix socket is gone meanwhile.
            Self::Connect(sqlx::Error::Io(error)) => {
                matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
            }
            Self::Connect(sqlx::Error::Database(error)) => {
                let (_, details) = D::classify(error.as_ref());
                D::BUSY.contains(&details.code.as_str())
            }
            _ => false,
        }
    }

    /// Whether the connection is in the state in which the call found it.
    pub(super) fn leaves_connection_clean(&self) -> bool {
        !matches!(
            self,
            Self::Sqlx(_)
                | Self::ConnectionLost(_)
                | Self::Terminated(_)
                | Self::ReadOnly(_)
                | Self::Mismatch(Mismatch::Table { .. })
                | Self::Locked { .. }
                | Self::Deadline
        )
    }
}
