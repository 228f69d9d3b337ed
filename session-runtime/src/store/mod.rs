//! Rows, and the stores that keep them.
//!
//! A store keeps [`Row`]s and compares revisions. It does not know what a row's state means, who may
//! read it, or when a session counts as ended; all of that is decided above it. So a store is small,
//! and every promise it makes can be tested from outside.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

#[cfg(any(
    feature = "sqlite",
    feature = "memory",
    feature = "redis",
    feature = "postgres",
    feature = "mysql"
))]
pub mod any;
pub mod cookie;
mod filter;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(test, feature = "testing"))]
pub mod suite;

/// The store of [`Sessions`](crate::Sessions) whose type is not named.
#[cfg(feature = "sqlite")]
pub type DefaultStore = sqlite::SqliteStore;

/// The store of [`Sessions`](crate::Sessions) whose type is not named: none without the feature `sqlite`.
#[cfg(not(feature = "sqlite"))]
#[derive(Debug)]
pub enum DefaultStore {}

/// What a store keeps for one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The key: the public name of the session.
    pub id: SessionId,
    /// The session's content, opaque to the store. UTF-8 where [`Table::state_is_text`].
    pub state: Vec<u8>,
    /// The user, where the table has a column for one.
    pub user: Option<Value>,
    /// The address, where the table has a column for one.
    pub ip: Option<IpAddr>,
    /// When the session began.
    pub created: Timestamp,
    /// From when on the row is dead, unless it is moved before.
    pub expiration: Timestamp,
    /// A counter; every update names the value it replaces.
    pub revision: i64,
    /// The values of [`Table::projected`], in that order; `None` is `NULL`.
    pub columns: Vec<Option<Value>>,
}

/// A row to be replaced, on condition of its revision.
#[derive(Clone, Debug)]
pub struct Update {
    /// The row to replace. Differs from `row.id` when the session changes its name.
    pub id: SessionId,
    /// The revision the row must still have.
    pub expected: i64,
    /// How much of the row differs from what is stored.
    pub scope: Scope,
    /// What replaces it.
    pub row: Row,
}

/// How much of a row an [`Update`] changes. A store may always write everything; writing less
/// spares it the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `state` and `revision`.
    State,
    /// `state`, `revision` and `expiration`.
    Expiration,
    /// Any column.
    Row,
}

/// What became of an [`Update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The row is stored, as durably as the store was told to.
    Stored,
    /// The row has another revision. Nothing was changed.
    Conflict,
    /// There is no such row. Nothing was changed.
    Gone,
}

/// The table of a bag: every name quoted by the store, none trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The table's own name.
    pub name: String,
    /// The column of [`Row::id`]: the primary key, 32 bytes.
    pub id: String,
    /// The column of [`Row::state`].
    pub state: String,
    /// Whether `state` holds text rather than bytes.
    pub state_is_text: bool,
    /// The column of [`Row::user`], indexed, where the bag has a user.
    pub user: Option<TableColumn>,
    /// The column of [`Row::ip`], text, where the bag has an address.
    pub ip: Option<String>,
    /// The column of [`Row::created`].
    pub created: String,
    /// The column of [`Row::expiration`], indexed.
    pub expiration: String,
    /// The column of [`Row::revision`].
    pub revision: String,
    /// The columns of [`Row::columns`].
    pub projected: Vec<TableColumn>,
}

/// A column whose name and type come from the bag. It can always be `NULL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// The column's name.
    pub name: String,
    /// What it holds.
    pub ty: ColumnType,
    /// Whether queries by it are to be fast.
    pub index: bool,
}

/// Which rows a [`Directory`] is asked for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Filter {
    /// Every row.
    All,
    /// The row of this id.
    Id(SessionId),
    /// Rows whose value compares so. `NULL` compares to nothing.
    Compare(ColumnRef, Comparison, Value),
    /// Rows whose value is one of these. None of none.
    OneOf(ColumnRef, Vec<Value>),
    /// Rows whose value is `NULL`.
    IsNull(ColumnRef),
    /// Rows whose `expiration` is later than this.
    LiveAt(Timestamp),
    /// Rows that are not in the filter, `NULL` or not.
    Not(Box<Filter>),
    /// Rows in both.
    And(Box<Filter>, Box<Filter>),
    /// Rows in either.
    Or(Box<Filter>, Box<Filter>),
}

/// A column of a [`Filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnRef {
    /// [`Table::user`].
    User,
    /// [`Table::ip`], compared as text.
    Ip,
    /// [`Table::projected`], by position.
    Projected(usize),
}

/// How a [`Filter`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// A part of a listing: rows in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Starts behind this id; at the first row if `None`.
    pub after: Option<SessionId>,
    /// At most so many rows.
    pub limit: u32,
}

/// A place that keeps rows.
///
/// # What an implementation promises
///
/// - An acknowledged `insert`, `update` or `delete` is visible to every later call, from anywhere.
/// - [`update`](Store::update) compares and writes in one step, changes the id in that same step where
///   it differs, and never creates a row.
/// - Ids are compared byte for byte.
/// - A call that cannot be answered is an error: never `None`, never [`Outcome::Gone`].
/// - Expired rows may be returned; the caller checks the time. They may also be removed at any time.
///
/// Futures may be dropped at any point; a write under way then either happens whole or not at all.
///
/// With the feature `testing` the module `suite`, beside this trait, checks all of it.
///
/// # Examples
///
/// A complete store, which keeps its promises within one process:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// use session_runtime::store::{Outcome, Row, Table, Update};
/// use session_runtime::{SessionId, Store, StoreError};
///
/// #[derive(Clone, Default)]
/// struct MapStore(Arc<Mutex<HashMap<SessionId, Row>>>);
///
/// impl Store for MapStore {
///     async fn prepare(&mut self, _: &Table, _: Duration) -> Result<(), StoreError> {
///         Ok(())
///     }
///
///     async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
///         Ok(self.0.lock().unwrap().get(&id).cloned())
///     }
///
///     async fn insert(&self, row: Row) -> Result<(), StoreError> {
///         let mut rows = self.0.lock().unwrap();
///         if rows.contains_key(&row.id) {
///             return Err(StoreError::new("insert a row", "there is a row of this id"));
///         }
///         rows.insert(row.id, row);
///         Ok(())
///     }
///
///     async fn update(&self, update: Update) -> Result<Outcome, StoreError> {
///         let mut rows = self.0.lock().unwrap();
///         let Some(row) = rows.get(&update.id) else { return Ok(Outcome::Gone) };
///         if row.revision != update.expected {
///             return Ok(Outcome::Conflict);
///         }
///         if update.row.id != update.id && rows.contains_key(&update.row.id) {
///             return Err(StoreError::new("update a row", "there is a row of the new id"));
///         }
///         rows.remove(&update.id);
///         rows.insert(update.row.id, update.row);
///         Ok(Outcome::Stored)
///     }
///
///     async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
///         Ok(self.0.lock().unwrap().remove(&id).is_some())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # #[cfg(feature = "testing")]
/// session_runtime::store::suite::run_store(async || MapStore::default()).await;
/// # }
/// ```
pub trait Store: Send + Sync + 'static {
    /// Whether sessions are found by their ids. Those of `CookieStore` travel with their visitors.
    #[doc(hidden)]
    const KEEPS_ROWS: bool = true;

    /// The same of this very store, where its type leaves it open.
    #[doc(hidden)]
    fn keeps_rows(&self) -> bool {
        Self::KEEPS_ROWS
    }

    /// Makes the store ready for a table: creates it, or adds what it lacks.
    ///
    /// Called once, before any other call, while sessions are built. `deadline` is how long a call
    /// may take before its caller gives up; a write that has not begun by then must not begin.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or has such a table that does not fit: the error names the column.
    fn prepare(
        &mut self,
        table: &Table,
        deadline: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the row of this id.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn load(&self, id: SessionId) -> impl Future<Output = Result<Option<Row>, StoreError>> + Send;

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// If the store cannot answer, or has a row of this id.
    fn insert(&self, row: Row) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces a row if it still has the expected revision.
    ///
    /// # Errors
    ///
    /// If the store cannot answer. Whether the row was replaced is then unknown.
    fn update(&self, update: Update) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Removes the row of this id and tells whether there was one.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn delete(&self, id: SessionId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes at most `limit` rows that expired at `now` or before, and returns how many. A store that
    /// forgets rows by itself need not do anything.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn prune(&self, now: Timestamp, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send {
        let _ = (now, limit);
        async { Ok(0) }
    }

    /// Removes the sessions of a user that live at `now`, but for the `keep` that began last, and returns their
    /// ids. A store that does not know the sessions of a user does nothing.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn trim(
        &self,
        user: &Value,
        keep: u32,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<SessionId>, StoreError>> + Send {
        let _ = (user, keep, now);
        async { Ok(Vec::new()) }
    }
}

/// A store that can be asked for more than one row at a time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` keeps no directory of its sessions",
    label = "this store cannot list, find or count sessions",
    note = "a session in a cookie is known to its visitor alone; use a store that keeps rows, such as `SqliteStore`"
)]
pub trait Directory: Store {
    /// Returns a page of the rows that match, in the order of their ids.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn find(&self, filter: &Filter, page: Page) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Counts the rows that match.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn count(&self, filter: &Filter) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Removes all rows that match, and returns their ids. A row whose id is changed meanwhile is removed all the same.
    ///
    /// In one step, where the store can; otherwise each row in a step of its own, and the store says so.
    ///
    /// # Errors
    ///
    /// If the store cannot answer. Some rows may have been removed, where it is no single step.
    fn remove(&self, filter: &Filter) -> impl Future<Output = Result<Vec<SessionId>, StoreError>> + Send;

    /// Checks that the store answers reads and takes writes.
    ///
    /// # Errors
    ///
    /// If it does not.
    fn health(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A store could not do what it was asked for.
///
/// # Examples
///
/// ```
/// use session_runtime::StoreError;
///
/// # fn connect() -> std::io::Result<()> { Err(std::io::ErrorKind::NotConnected.into()) }
/// let error = connect().map_err(|e| StoreError::new("load a row", e)).unwrap_err();
/// assert_eq!(error.to_string(), "the store could not load a row");
/// assert!(std::error::Error::source(&error).is_some());
/// ```
#[derive(Debug)]
pub struct StoreError {
    operation: &'static str,
    source: BoxError,
}

impl StoreError {
    /// Names the operation, as in "the store could not ..", and its cause. The cause may end up in
    /// logs: it must show no state and no value of a row.
    pub fn new(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self { operation, source: source.into() }
    }

    /// The store did not finish within the deadline.
    pub fn deadline(operation: &'static str) -> Self {
        Self::new(operation, "the deadline has passed")
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store could not {}", self.operation)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// A [`Store`] whose type is not named: what the extractors see of it.
pub(crate) trait AnyRows: Send + Sync {
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Row>, StoreError>>;
    fn insert(&self, row: Row) -> BoxFuture<'_, Result<(), StoreError>>;
    fn update(&self, update: Update) -> BoxFuture<'_, Result<Outcome, StoreError>>;
    fn delete(&self, id: SessionId) -> BoxFuture<'_, Result<bool, StoreError>>;
    fn prune(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>>;
    fn trim<'a>(
        &'a self,
        user: &'a Value,
        keep: u32,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>>;
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<S: Store> AnyRows for S {
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Row>, StoreError>> {
        Box::pin(Store::load(self, id))
    }

    fn insert(&self, row: Row) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(Store::insert(self, row))
    }

    fn update(&self, update: Update) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(Store::update(self, update))
    }

    fn delete(&self, id: SessionId) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(Store::delete(self, id))
    }

    fn prune(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(Store::prune(self, now, limit))
    }

    fn trim<'a>(
        &'a self,
        user: &'a Value,
        keep: u32,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        Box::pin(Store::trim(self, user, keep, now))
    }
}
