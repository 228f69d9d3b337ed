//! Rows, and the stores that keep them.
//!
//! A store keeps [`Row`]s and compares revisions. It does not know what a row's state means, who may read it, or when a
//! session has ended: the floors above decide that. So a store is small, and each of its promises is tested from
//! outside.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::future::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::timeout_at;

use crate::clock::Timestamp;
use crate::error_chain::readable_debug;
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod damage;
mod filter;
#[cfg_attr(not(feature = "memory"), expect(unreachable_pub, reason = "only tests of handlers use it then"))]
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod servers;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(any(test, feature = "testing"))]
pub mod suite;

/// What a store keeps for one session. `Debug` shows no content: neither the state, which could be in the clear, nor the
/// user, the address and the columns.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The key: the public name of the session.
    pub id: SessionId,
    /// The session's content, opaque to the store. UTF-8 where [`Table::state_is_text`].
    pub state: Vec<u8>,
    /// The user, where the table has a column for one.
    pub user: Option<Value>,
    /// The address, where the table has a column for one.
    pub ip: Option<IpAddr>,
    /// When the session was first stored, or its user last logged in.
    pub created: Timestamp,
    /// When the row expires, unless an update extends it before.
    pub expiration: Timestamp,
    /// A counter: each update names the value that it replaces.
    pub revision: i64,
    /// The values of [`Table::projected`], in that order; `None` is `NULL`.
    pub columns: Vec<Option<Value>>,
    /// The first column whose value cannot be read; its value here means nothing. `None` for a good row, and in every
    /// row that is written.
    ///
    /// Other programs can write anything into a store. One such row must not fail a list of many rows, so it is
    /// returned with this mark, and the session is not accepted.
    pub damaged: Option<String>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, state, user, ip, created, expiration, revision, columns, damaged } = self;
        f.debug_struct("Row")
            .field("id", id)
            .field("state", &format_args!("{} bytes", state.len()))
            .field("user", user)
            .field("ip", &ip.map(|_| format_args!("..")))
            .field("created", created)
            .field("expiration", expiration)
            .field("revision", revision)
            .field("columns", columns)
            .field("damaged", damaged)
            .finish()
    }
}

impl Row {
    /// Makes a row without a user, an address and projected columns; set what the table has of them.
    pub fn new(
        id: SessionId,
        state: Vec<u8>,
        created: Timestamp,
        expiration: Timestamp,
        revision: i64,
    ) -> Self {
        Self {
            id,
            state,
            user: None,
            ip: None,
            created,
            expiration,
            revision,
            columns: Vec::new(),
            damaged: None,
        }
    }

    /// Returns how many bytes its values take besides the struct.
    #[cfg(any(feature = "redis", feature = "sqlite"))]
    fn heap_size(&self) -> usize {
        let value = |value: &Option<Value>| match value {
            Some(Value::Text(text)) => text.len(),
            Some(Value::Blob(blob)) => blob.len(),
            _ => 0,
        };
        let columns = self.columns.iter().map(|column| size_of_val(column) + value(column)).sum::<usize>();
        self.state.len() + columns + value(&self.user)
    }
}

/// What every write of a row changes: it tells whether a row is still the one that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowVersion {
    /// [`Row::revision`].
    pub revision: i64,
    /// [`Row::expiration`].
    pub expiration: Timestamp,
}

impl RowVersion {
    /// Makes a version.
    pub fn new(revision: i64, expiration: Timestamp) -> Self {
        Self { revision, expiration }
    }

    /// Returns the version of a row: the default one if the row is damaged, so that it is read.
    pub fn of(row: &Row) -> Self {
        if row.damaged.is_some() { Self::default() } else { Self::new(row.revision, row.expiration) }
    }
}

/// What [`Store::load_versions`] returns.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RowVersions {
    /// The versions, in any order; none for an id without a row. A row whose version is not known without reading the row
    /// has the default one.
    pub found: Vec<(SessionId, RowVersion)>,
    /// The ids for which the store cannot answer.
    pub failed: Vec<(SessionId, StoreError)>,
}

/// A row to be replaced if it still has the expected revision: a compare-and-swap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Update {
    /// The id of the row to replace. It differs from `row.id` when the session changes its id.
    pub id: SessionId,
    /// The revision the row must still have.
    pub expected: i64,
    /// How much of the row differs from what is stored.
    pub scope: Scope,
    /// What replaces it.
    pub row: Row,
}

impl Update {
    /// Makes an update of all that a row has ([`Scope::Row`]).
    pub fn new(id: SessionId, expected: i64, row: Row) -> Self {
        Self { id, expected, scope: Scope::Row, row }
    }
}

/// How much of a row an [`Update`] changes. A store may always write the whole row; writing less spares the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `state` and `revision`.
    State,
    /// `state`, `revision` and `expiration`.
    Expiration,
    /// Any column.
    Row,
}

/// The result of an [`Update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The row is stored, as durably as the store is configured.
    Stored,
    /// The row has another revision. Nothing was changed.
    Conflict,
    /// There is no such row. Nothing was changed.
    Gone,
}

/// A write that gives a user one more session, or leaves the user no other one: see [`Store::write_limited`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitedWrite {
    /// The write. Its row has a user.
    pub write: Write,
    /// How many rows the user may have after it, this one included: at least 1.
    pub max: u32,
    /// The current time of the caller.
    pub now: Timestamp,
}

/// A row on its way to a store.
#[derive(Clone, Debug)]
pub enum Write {
    /// As [`Store::insert`] adds it.
    Insert(Row),
    /// As [`Store::update`] makes it, [`Scope::Row`].
    Update(Update),
}

impl LimitedWrite {
    /// Makes a write after which the user of the row has at most `max` rows.
    pub fn new(write: Write, max: u32, now: Timestamp) -> Self {
        Self { write, max, now }
    }

    /// Returns the row that is written.
    pub fn row(&self) -> &Row {
        match &self.write {
            Write::Insert(row) | Write::Update(Update { row, .. }) => row,
        }
    }

    /// Returns how many other rows of the user stay.
    pub fn others(&self) -> u32 {
        self.max.saturating_sub(1)
    }
}

/// The table of a bag. A store quotes every name, because names are not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Table {
    /// The table's own name.
    pub name: String,
    /// The column of [`Row::id`]: the primary key, 32 bytes.
    pub id: String,
    /// The column of [`Row::state`].
    pub state: String,
    /// Whether `state` holds text rather than bytes.
    pub state_is_text: bool,
    /// The longest [`Row::state`] that a reader accepts, in bytes; rows that are written have no longer one.
    ///
    /// Of a longer state, which another program has written, a store should return `max_state + 1` bytes and not read
    /// the rest: the length says that the state is too long, and its bytes mean nothing. A store that cannot cut a
    /// value returns the whole state.
    pub max_state: usize,
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

impl Table {
    /// Makes a table with the default names of the runtime's own columns and without any other.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            id: "id".to_owned(),
            state: "state".to_owned(),
            state_is_text: false,
            max_state: usize::MAX,
            user: None,
            ip: None,
            created: "created".to_owned(),
            expiration: "expiration".to_owned(),
            revision: "revision".to_owned(),
            projected: Vec::new(),
        }
    }
}

/// What a column holds, for a store that has no types of its own.
impl Table {
    /// Returns the columns whose types come from the bag, with the word that a store notes of each type.
    fn column_types(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let ip = self.ip.iter().map(|ip| (ip.as_str(), ColumnType::Text));
        let columns = self.user.iter().chain(&self.projected);
        let columns = ip.chain(columns.map(|column| (column.name.as_str(), column.ty)));
        columns.map(|(name, ty)| {
            let word = match ty {
                ColumnType::Integer => "integers",
                ColumnType::Real => "reals",
                ColumnType::Text => "text",
                ColumnType::Blob => "bytes",
            };
            (name, word)
        })
    }

    /// Says what is wrong with a column that holds something else.
    fn column_mismatch(&self, column: &str, noted: &str, needed: &str) -> String {
        let Self { name, .. } = self;
        format!(
            "column {column:?} of table {name:?} holds {noted}, where the bag has {needed}: queries would not find the sessions \
             that are stored; give the column another name"
        )
    }
}

/// A column whose name and type come from the bag. It is always nullable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableColumn {
    /// The column's name.
    pub name: String,
    /// What it holds.
    pub ty: ColumnType,
    /// Whether it has an index.
    pub index: bool,
}

impl TableColumn {
    /// Makes a column without an index.
    pub fn new(name: impl Into<String>, ty: ColumnType) -> Self {
        Self { name: name.into(), ty, index: false }
    }

    /// Gives the column an index.
    #[must_use]
    pub fn indexed(self) -> Self {
        Self { index: true, ..self }
    }
}

/// Which rows a call of [`Directory`] is about.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Filter {
    /// Every row.
    All,
    /// The row of this id.
    Id(SessionId),
    /// Rows whose value compares so. `NULL` matches no comparison.
    Compare(ColumnRef, Comparison, Value),
    /// Rows whose value is one of these.
    OneOf(ColumnRef, Vec<Value>),
    /// Rows whose value is `NULL`.
    IsNull(ColumnRef),
    /// Rows whose `expiration` is later than this.
    LiveAt(Timestamp),
    /// Rows that the filter does not match, those with `NULL` included.
    Not(Box<Filter>),
    /// Rows that both filters match.
    And(Box<Filter>, Box<Filter>),
    /// Rows that either filter matches.
    Or(Box<Filter>, Box<Filter>),
}

impl Filter {
    /// Matches the rows that both filters match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }

    /// Matches the rows that either filter matches.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }

    /// Matches the rows that this filter does not match.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn not(self) -> Self {
        Self::Not(Box::new(self))
    }
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

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Only rows with a greater id than this; all if `None`.
    pub after: Option<SessionId>,
    /// At most so many rows, the first ones in this order.
    pub limit: u32,
    /// The order of the rows.
    pub order: Order,
}

impl Page {
    /// Makes the page of at most `limit` rows after `after`, in the order of their ids.
    pub fn new(after: Option<SessionId>, limit: u32) -> Self {
        Self { after, limit, order: Order::Id }
    }

    /// Makes the page of the `limit` newest rows.
    pub fn newest(limit: u32) -> Self {
        Self { after: None, limit, order: Order::NewestFirst }
    }
}

/// The order of the rows of a [`Page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// By [`Row::id`].
    Id,
    /// By [`Row::created`], the latest first. Of two rows of the same time the one with the greater id comes first.
    NewestFirst,
}

/// Keeps rows.
///
/// # What an implementation promises
///
/// - An acknowledged `insert`, `update` or `delete` is visible to every later call, from any process; only
///   [`load_cached`](Store::load_cached) may miss those of other processes.
/// - [`update`](Store::update) compares and writes in one step, changes the id in the same step if it differs, and never
///   creates a row.
/// - Ids are compared byte for byte.
/// - A call that the store cannot answer returns an error: never `None`, never [`Outcome::Gone`].
/// - Expired rows may be returned; the caller checks the time. They may also be removed at any time.
/// - A state of up to [`Table::max_state`] bytes is returned whole, and a longer one as more than `max_state` bytes. A
///   store that can, cuts a longer one to `max_state + 1` bytes before it reads the rest.
/// - A row with a value that cannot be read is returned and says so ([`Row::damaged`]); it fails no call.
/// - `deadline` is when the caller stops waiting: a write that has not begun by then must not begin.
///
/// Futures may be dropped at any point; a write under way then happens completely or not at all.
///
/// With the feature `testing` the module `suite`, beside this trait, checks all of these promises.
///
/// # Examples
///
/// A complete store, which keeps its promises within one process:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
/// use std::time::{Duration, Instant};
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
///     async fn load(&self, id: SessionId, _: Instant) -> Result<Option<Row>, StoreError> {
///         Ok(self.0.lock().unwrap().get(&id).cloned())
///     }
///
///     async fn insert(&self, row: Row, _: Instant) -> Result<(), StoreError> {
///         let mut rows = self.0.lock().unwrap();
///         if rows.contains_key(&row.id) {
///             return Err(StoreError::new("insert a row", "there is a row of this id"));
///         }
///         rows.insert(row.id, row);
///         Ok(())
///     }
///
///     async fn update(&self, update: Update, _: Instant) -> Result<Outcome, StoreError> {
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
///     async fn delete(&self, id: SessionId, _: Instant) -> Result<bool, StoreError> {
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
    /// Makes the store ready for a table: creates it, or adds what it lacks.
    ///
    /// Called once, before any other call but [`claim`](Store::claim), while sessions are built. `timeout` is the longest time that any call
    /// is given, for time limits that a server keeps.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or has such a table that does not fit: the error names the column.
    fn prepare(
        &mut self,
        table: &Table,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes in the store that the table belongs to `bag`, unless it belongs to another bag, and returns the bag it
    /// belongs to. So a second program finds out that it would read, count and end the sessions of the first.
    ///
    /// Called once, before `prepare`: a bag that is refused must not change the table of another. A store without a place
    /// for the note returns `bag`, as the default does.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn claim(
        &self,
        table: &Table,
        bag: &str,
        deadline: Instant,
    ) -> impl Future<Output = Result<String, StoreError>> + Send {
        let (bag, _) = (bag.to_owned(), (table, deadline));
        async { Ok(bag) }
    }

    /// Returns the row of this id.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn load(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> impl Future<Output = Result<Option<Row>, StoreError>> + Send;

    /// Returns the row of this id for a request that begins, perhaps from a copy that this process keeps. The copy has all
    /// that this process has acknowledged; a change of another process can be missing for as long as the docs of the
    /// store say. Nothing else calls it: what was read before is read again by [`load`](Store::load).
    ///
    /// The default is [`load`](Store::load).
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn load_cached(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> impl Future<Output = Result<Option<Row>, StoreError>> + Send {
        self.load(id, deadline)
    }

    /// Returns the versions of the rows of these ids: for many sessions that are watched, of which few have changed.
    ///
    /// What fails for one row, or for the rows of one server, fails for no other one. An error is for a store that answers
    /// for none of them. The default loads the rows, at most 256 at once. A store should ask for all versions at once if that costs
    /// less, and for nothing else of the rows.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn load_versions(
        &self,
        ids: &[SessionId],
        deadline: Instant,
    ) -> impl Future<Output = Result<RowVersions, StoreError>> + Send {
        let load = |id| {
            let load = self.load(id, deadline);
            async move {
                // A load that is not answered takes no time of the others, as all of them begin at once.
                let loaded = timeout_at(deadline.into(), load).await;
                (id, loaded.unwrap_or_else(|_| Err(StoreError::deadline("load a row"))))
            }
        };
        let loads: FuturesUnordered<_> = ids.iter().copied().map(load).collect();
        loads
            .fold(RowVersions::default(), async |mut versions, (id, loaded)| {
                match loaded {
                    Ok(Some(row)) => versions.found.push((id, RowVersion::of(&row))),
                    Ok(None) => {}
                    Err(error) => versions.failed.push((id, error)),
                }
                versions
            })
            .map(Ok)
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// If the store cannot answer, or has a row of this id. [`StoreError::refused`] if it never takes such a value.
    fn insert(&self, row: Row, deadline: Instant) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces a row if it still has the expected revision.
    ///
    /// # Errors
    ///
    /// If the store cannot answer. Whether the row was replaced is then unknown. [`StoreError::refused`] if it never takes
    /// such a value.
    fn update(
        &self,
        update: Update,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Removes the row of this id and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn delete(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes at most `limit` rows that expired at `now` or before, and returns how many. A store that removes expired
    /// rows by itself does nothing.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn prune(
        &self,
        now: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        let _ = (now, limit, deadline);
        async { Ok(0) }
    }

    /// Makes a write and removes the user's surplus rows, in one step: both happen or neither, and no call ever finds more
    /// than [`LimitedWrite::max`] rows of a user, if all rows of that user are written so. Writes of one user that
    /// arrive at the same time, from any process, are made one after the other.
    ///
    /// The row that is written stays, whatever its `created` is: the clocks of two writers may differ. Of the user's
    /// other rows, [`LimitedWrite::others`] stay: first those whose `expiration` is later than `now`, of these the ones
    /// with the latest `created`, of these the ones with the greatest id. A row whose id is changed meanwhile is counted
    /// once.
    ///
    /// Returns the outcome of the write, and the ids of the rows that were removed, none unless [`Outcome::Stored`]. A
    /// store that cannot find the rows of a user refuses every call, as the default does: a bag without `max_per_user`
    /// makes none, unless it calls [`Session::rotate_and_end_others`](crate::Session::rotate_and_end_others).
    ///
    /// # Errors
    ///
    /// As those of [`insert`](Store::insert) and [`update`](Store::update). It is then unknown whether both happened or
    /// neither.
    fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Outcome, Vec<SessionId>), StoreError>> + Send {
        let _ = (write, deadline);
        async {
            let cause = "it does not count the sessions of a user: implement `Store::write_limited`";
            Err(StoreError::refused("limit the sessions of a user", None, cause))
        }
    }
}

/// A store that lists its rows.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list its rows",
    label = "this store cannot list, find or count sessions",
    note = "implement `Directory` for it, or wrap it: `Unlisted(store)` gives sessions that are found by their ids alone"
)]
pub trait Directory: Store {
    /// Returns a page of the rows that match, in the order of the page. Rows whose key is no session id are left out.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn find(
        &self,
        filter: &Filter,
        page: Page,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Counts the rows that match, those whose key is no session id included if the store can have such rows.
    ///
    /// # Errors
    ///
    /// If the store cannot answer.
    fn count(
        &self,
        filter: &Filter,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Removes all rows that match, and returns their ids. A row whose id is changed meanwhile is removed all the same.
    ///
    /// In one step if the store can; otherwise each row in a step of its own, and the store's docs say so.
    ///
    /// # Errors
    ///
    /// If the store cannot answer. Some rows may have been removed, if it is not one step.
    fn remove(
        &self,
        filter: &Filter,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<SessionId>, StoreError>> + Send;

    /// Checks that the store answers reads and takes writes.
    ///
    /// # Errors
    ///
    /// If it does not.
    fn health(&self, deadline: Instant) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a store says of a table to a program that does not know its bag.
#[cfg(feature = "admin")]
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The bag that the table belongs to, if that is noted.
    pub(crate) owner: Option<String>,
    /// The table with the columns that it has; `None` if there is no such table.
    pub(crate) table: Option<Table>,
    /// A column that every table has, and this one lacks.
    pub(crate) missing: Option<String>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A call of a store failed.
///
/// Most failures pass: the store is down, or busy. A store that refuses a value for good says so by
/// [`refused`](Self::refused), so that a request is answered 500 and not 503, which would ask the client to try again.
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
///
/// let error = StoreError::refused("insert a row", Some("tenant"), "it is longer than 100 bytes");
/// assert_eq!(error.to_string(), "the store could not insert a row: it refuses the value of column \"tenant\"");
/// assert!(error.is_refused());
/// ```
pub struct StoreError {
    operation: &'static str,
    source: BoxError,
    refusal: Option<Refusal>,
    /// Whether a write may be stored, and is not as durable as asked.
    is_undurable: bool,
}

/// What a store refuses for good.
struct Refusal {
    column: Option<String>,
}

impl StoreError {
    /// Names the operation, as in "the store could not ..", and its cause. The cause is logged: it must not show the
    /// state or a value of a row.
    pub fn new(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self { operation, source: source.into(), refusal: None, is_undurable: false }
    }

    /// Makes the error of a call that the store refuses for good, because of the value of a column if one is named:
    /// nothing was stored, and the same call would fail again. The cause is logged: it must not show a value of a row.
    pub fn refused(operation: &'static str, column: Option<&str>, source: impl Into<BoxError>) -> Self {
        let refusal = Refusal { column: column.map(str::to_owned) };
        Self { refusal: Some(refusal), ..Self::new(operation, source) }
    }

    /// Makes the error of a write that may be stored, and is not as durable as asked: to find it in the store is no success.
    #[cfg(feature = "redis")]
    pub(crate) fn undurable(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self { is_undurable: true, ..Self::new(operation, source) }
    }

    /// Makes the error of a call that the store refuses for good if there is a refusal, perhaps of a column.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    #[expect(clippy::option_option, reason = "no refusal, one of no column, or one of a column")]
    fn with_refusal(
        operation: &'static str,
        refusal: Option<Option<String>>,
        source: impl Into<BoxError>,
    ) -> Self {
        match refusal {
            Some(column) => Self::refused(operation, column.as_deref(), source),
            None => Self::new(operation, source),
        }
    }

    /// Makes the error of a call that missed its deadline.
    pub fn deadline(operation: &'static str) -> Self {
        Self::new(operation, "the deadline has passed")
    }

    /// Returns whether the store refuses the call for good. `false` for a store that is down, busy or slow.
    pub fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Returns whether a write may be stored, and is not as durable as asked.
    pub(crate) fn is_undurable(&self) -> bool {
        self.is_undurable
    }

    /// Returns the column whose value the store refuses for good, if it is known.
    pub fn column(&self) -> Option<&str> {
        self.refusal.as_ref()?.column.as_deref()
    }
}

readable_debug!(StoreError);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store could not {}", self.operation)?;
        match &self.refusal {
            None => Ok(()),
            Some(Refusal { column: None }) => f.write_str(": it refuses the call"),
            Some(Refusal { column: Some(column) }) => {
                write!(f, ": it refuses the value of column {column:?}")
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// A store that keeps rows and cannot list them, such as a key-value store: `Sessions` over it find a session by
/// its token or its id, and have no lists and no queries.
#[derive(Clone, Copy, Debug)]
pub struct Unlisted<S>(pub S);

pub(crate) type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A [`Store`] whose type is not named.
pub(crate) trait DynStore: Send + Sync {
    fn load(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Option<Row>>;
    fn load_cached(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Option<Row>>;
    fn load_versions<'a>(&'a self, ids: &'a [SessionId], deadline: Instant) -> StoreFuture<'a, RowVersions>;
    fn insert(&self, row: Row, deadline: Instant) -> StoreFuture<'_, ()>;
    fn update(&self, update: Update, deadline: Instant) -> StoreFuture<'_, Outcome>;
    fn delete(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, bool>;
    fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> StoreFuture<'_, u64>;
    fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> StoreFuture<'_, (Outcome, Vec<SessionId>)>;
}

impl<S: Store> DynStore for S {
    fn load(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Option<Row>> {
        Box::pin(Store::load(self, id, deadline))
    }

    fn load_cached(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Option<Row>> {
        Box::pin(Store::load_cached(self, id, deadline))
    }

    fn load_versions<'a>(&'a self, ids: &'a [SessionId], deadline: Instant) -> StoreFuture<'a, RowVersions> {
        Box::pin(Store::load_versions(self, ids, deadline))
    }

    fn insert(&self, row: Row, deadline: Instant) -> StoreFuture<'_, ()> {
        Box::pin(Store::insert(self, row, deadline))
    }

    fn update(&self, update: Update, deadline: Instant) -> StoreFuture<'_, Outcome> {
        Box::pin(Store::update(self, update, deadline))
    }

    fn delete(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, bool> {
        Box::pin(Store::delete(self, id, deadline))
    }

    fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> StoreFuture<'_, u64> {
        Box::pin(Store::prune(self, now, limit, deadline))
    }

    fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> StoreFuture<'_, (Outcome, Vec<SessionId>)> {
        Box::pin(Store::write_limited(self, write, deadline))
    }
}

/// A [`Directory`] whose type is not named.
pub(crate) trait DynDirectory: Send + Sync {
    fn find<'a>(&'a self, filter: &'a Filter, page: Page, deadline: Instant) -> StoreFuture<'a, Vec<Row>>;
    fn count<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> StoreFuture<'a, u64>;
    fn remove<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> StoreFuture<'a, Vec<SessionId>>;
    fn health(&self, deadline: Instant) -> StoreFuture<'_, ()>;
}

impl<S: Directory> DynDirectory for S {
    fn find<'a>(&'a self, filter: &'a Filter, page: Page, deadline: Instant) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(Directory::find(self, filter, page, deadline))
    }

    fn count<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> StoreFuture<'a, u64> {
        Box::pin(Directory::count(self, filter, deadline))
    }

    fn remove<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> StoreFuture<'a, Vec<SessionId>> {
        Box::pin(Directory::remove(self, filter, deadline))
    }

    fn health(&self, deadline: Instant) -> StoreFuture<'_, ()> {
        Box::pin(Directory::health(self, deadline))
    }
}
