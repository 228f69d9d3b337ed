//! SQLite: one file, no server.
//!
//! Rows and filters enter, rows and outcomes leave. Reads run on the calling thread (`reader`),
//! changes are committed together on one of their own (`writer`), so that neither waits for the
//! other.

mod file;
mod reader;
mod rows;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use self::file::{File, Link, START_UP_PATIENCE};
use self::reader::Readers;
use self::rows::Rows;
use self::writer::{Extent, Terms, Writer};
use super::{ColumnRef, Directory, Filter, Outcome, Page, Row, Store, StoreError, Table, Update};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::Value;

/// Listings read for long, and few are asked for at a time.
const LISTING_CONNECTIONS: usize = 2;

/// Sessions in an SQLite database.
///
/// Any number of processes on one machine can share the file; it must not lie on a network file
/// system, which its write-ahead log does not work on. Cloning is cheap, and the clones share their
/// connections. A store is used within a Tokio runtime, such as that of actix-web.
///
/// The file is never created a second time: when it is deleted under a running store, calls fail
/// until a database is in its place again.
///
/// Dropping the last clone waits for the changes that are under way and closes the file.
///
/// # Examples
///
/// ```
/// use session_runtime::{Durability, SqliteStore};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
/// let store = SqliteStore::open(path)?.durability(Durability::Normal);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    database: Arc<Database>,
    durability: Durability,
    table: Option<Prepared>,
}

/// What an acknowledged write survives.
///
/// Either way the database stays intact, and a write that was acknowledged is seen by every later
/// read, from any process. The more durable one is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// A crash of the process, but maybe not of the machine: after a power failure the last seconds
    /// of writes can be missing (`PRAGMA synchronous = NORMAL`). A logout may be among them.
    ///
    /// Writes are a few times faster, and are made on the calling thread while nobody else writes.
    Normal,
    /// A crash of the machine or a power failure (`PRAGMA synchronous = FULL`).
    #[default]
    Full,
}

impl Durability {
    fn pragma(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Full => "FULL",
        }
    }
}

/// The writer closes the file last, after all readers, and leaves no log behind.
struct Database {
    readers: Arc<Readers>,
    listings: Arc<Readers>,
    writer: Writer,
}

/// A table that is ready, as a handle uses it.
#[derive(Clone)]
struct Prepared {
    rows: Arc<Rows>,
    deadline: Duration,
}

impl SqliteStore {
    /// Opens a database file, and creates it if there is none.
    ///
    /// The file is for its owner only, as are the `-wal` and `-shm` files beside it (mode 0600). A
    /// file that others can access is taken from them, with a warning in the log: to share one with
    /// a group, hand over a connection instead ([`from_connection`](Self::from_connection)).
    ///
    /// # Errors
    ///
    /// If the folder is missing, the file cannot be opened, or it is no database.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let open = || {
            let file = File::create(path.as_ref())?;
            let link = file.writer(START_UP_PATIENCE)?;
            // Only now is it known to be a database, and not somebody's `/etc/hosts`.
            file.make_private();
            Self::new(Some(file), link)
        };
        open().map_err(|failure| StoreError::new("open its database", failure))
    }

    /// Makes a database in memory: for tests, and for sessions that may end with the process.
    ///
    /// # Errors
    ///
    /// If there is no memory or no thread to be had.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_runtime::SqliteStore;
    ///
    /// let store = SqliteStore::in_memory()?;
    /// # Ok::<(), session_runtime::StoreError>(())
    /// ```
    pub fn in_memory() -> Result<Self, StoreError> {
        let open = || Self::new(None, Link::writer(Connection::open_in_memory()?, START_UP_PATIENCE)?);
        let store = open().map_err(|failure| StoreError::new("open its database", failure))?;
        Ok(store.durability(Durability::Normal))
    }

    /// Takes over a connection, such as one that was opened with a VFS or with functions of your own.
    ///
    /// It becomes the one that writes, and its settings are changed to what the store needs. More
    /// connections are opened from its path; without one, all calls share this connection. The modes
    /// of the file are left as they are.
    ///
    /// # Errors
    ///
    /// If the connection is within a transaction, or of an SQLite older than 3.51.3.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_runtime::SqliteStore;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.db");
    /// let connection = rusqlite::Connection::open(path)?;
    /// let store = SqliteStore::from_connection(connection)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_connection(connection: Connection) -> Result<Self, StoreError> {
        let take = || {
            if !connection.is_autocommit() {
                return Err(Failure::OpenTransaction);
            }
            Self::new(File::of(&connection), Link::writer(connection, START_UP_PATIENCE)?)
        };
        take().map_err(|failure| StoreError::new("take over the connection", failure))
    }

    fn new(file: Option<File>, link: Link) -> Result<Self, Failure> {
        let slot = Arc::new(Mutex::new(Some(link)));
        let (readers, listings, file) = match file {
            Some(file) => {
                let file = Arc::new(file);
                // One per worker thread, and one for a read that had to wait elsewhere.
                let threads = thread::available_parallelism().map_or(1, usize::from);
                let readers = Readers::of_file(file.clone(), threads + 1);
                (readers, Readers::of_file(file.clone(), LISTING_CONNECTIONS), Some(file))
            }
            None => (Readers::shared(slot.clone()), Readers::shared(slot.clone()), None),
        };
        let (readers, listings) = (Arc::new(readers), Arc::new(listings));
        let writer = Writer::start(file, slot, [readers.clone(), listings.clone()])?;
        let database = Database { readers, listings, writer };
        Ok(Self { database: Arc::new(database), durability: Durability::default(), table: None })
    }

    /// Sets what the writes of this handle, and of clones made from it, survive. The default is
    /// [`Durability::Full`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Runs a query where it may take its time.
    async fn list<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl Fn(&Rows, &Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let table = self.table(operation)?.clone();
        let database = self.database.clone();
        let deadline = Instant::now() + table.deadline;
        let read = move || database.listings.read(deadline, |connection| read(&table.rows, connection));
        wait(operation, read).await
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        extent: Extent,
        change: impl FnOnce(&Rows, &Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Prepared { rows, deadline } = self.table(operation)?;
        let rows = rows.clone();
        let terms = Terms { deadline: Instant::now() + *deadline, durability: self.durability, extent };
        let written = self.database.writer.write(terms, move |connection| change(&rows, connection)).await;
        written.map_err(|failure| StoreError::new(operation, failure))
    }

    fn table(&self, operation: &'static str) -> Result<&Prepared, StoreError> {
        self.table.as_ref().ok_or_else(|| StoreError::new(operation, Failure::NotPrepared))
    }
}

/// Runs what may block on a thread that may be blocked.
async fn wait<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|failure| StoreError::new(operation, failure)),
        Err(error) => Err(StoreError::new(operation, error)),
    }
}

impl Store for SqliteStore {
    async fn prepare(&mut self, table: &Table, deadline: Duration) -> Result<(), StoreError> {
        let database = self.database.clone();
        let rows = Arc::new(Rows::new(table));
        let table = table.clone();
        let prepare =
            move || database.writer.with_connection(|connection| schema::prepare(connection, &table));
        wait("prepare its table", prepare).await?;
        self.table = Some(Prepared { rows, deadline });
        Ok(())
    }

    async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        const OPERATION: &str = "load a row";
        let table = self.table(OPERATION)?;
        if let Some(loaded) = self.database.readers.try_read(|connection| table.rows.load(connection, id)) {
            return loaded.map_err(|failure| StoreError::new(OPERATION, failure));
        }
        let database = self.database.clone();
        let table = table.clone();
        let deadline = Instant::now() + table.deadline;
        let load = move || database.readers.read(deadline, |connection| table.rows.load(connection, id));
        wait(OPERATION, load).await
    }

    async fn insert(&self, row: Row) -> Result<(), StoreError> {
        self.write("insert a row", Extent::Row, move |rows, connection| rows.insert(connection, &row)).await
    }

    async fn update(&self, update: Update) -> Result<Outcome, StoreError> {
        self.write("update a row", Extent::Row, move |rows, connection| rows.update(connection, &update))
            .await
    }

    async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
        self.write("delete a row", Extent::Row, move |rows, connection| rows.delete(connection, id)).await
    }

    async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write("prune expired rows", Extent::Rows, move |rows, connection| {
            rows.prune(connection, now, limit)
        })
        .await
    }

    async fn trim(&self, user: &Value, keep: u32, now: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "trim the sessions of a user";
        let query = self.table(OPERATION)?.rows.trim(user, keep, now);
        let query = query.map_err(|failure| StoreError::new(OPERATION, failure))?;
        self.write(OPERATION, Extent::Rows, move |_, connection| Rows::take(connection, &query)).await
    }
}

#[diagnostic::do_not_recommend]
impl Directory for SqliteStore {
    async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, StoreError> {
        const OPERATION: &str = "find rows";
        let query = self.table(OPERATION)?.rows.select(filter, page);
        let query = query.map_err(|failure| StoreError::new(OPERATION, failure))?;
        self.list(OPERATION, move |rows, connection| rows.find(connection, &query)).await
    }

    async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        const OPERATION: &str = "count rows";
        let query = self.table(OPERATION)?.rows.count(filter);
        let query = query.map_err(|failure| StoreError::new(OPERATION, failure))?;
        self.list(OPERATION, move |_, connection| Rows::total(connection, &query)).await
    }

    async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "remove rows";
        let query = self.table(OPERATION)?.rows.remove(filter);
        let query = query.map_err(|failure| StoreError::new(OPERATION, failure))?;
        self.write(OPERATION, Extent::Rows, move |_, connection| Rows::take(connection, &query)).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "pass its health check";
        self.list(OPERATION, Rows::probe).await?;
        // An empty transaction takes the write lock, and finds out whether the file is in its place.
        // Of a read-only database, SQLite makes it a transaction that reads.
        let probe = |_: &Rows, connection: &Connection| {
            if connection.is_readonly("main")? { Err(Failure::ReadOnly) } else { Ok(()) }
        };
        self.write(OPERATION, Extent::Row, probe).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("durability", &self.durability).finish_non_exhaustive()
    }
}

/// Why a call failed. Ends up in logs: it names tables and columns, and shows no value of a row.
/// SQLite's own messages hold none either, since values are bound and never part of a statement.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("the database file {path:?} cannot be created; is its folder there?")]
    Create { path: PathBuf, source: io::Error },
    #[error("the folder of {path:?} cannot be written, and SQLite has to make files beside the database")]
    Folder { path: PathBuf },
    #[error("a database in memory is made by `SqliteStore::in_memory`, not by a path")]
    NoPath,
    #[error("SQLite {linked} is linked, but 3.51.3 or later is needed", linked = rusqlite::version())]
    OldVersion,
    #[error("the database cannot have a write-ahead log, which the store needs")]
    NoLog,
    #[error("the connection is within a transaction")]
    OpenTransaction,
    #[error("the writing thread cannot be started")]
    Thread(#[source] io::Error),
    #[error("table {table:?} {reason}")]
    Unfit { table: String, reason: String },
    #[error("the store was not prepared for a table")]
    NotPrepared,
    #[error("the deadline has passed")]
    Deadline,
    #[error("the database file is no longer at its path")]
    Moved,
    #[error("attempt to write a readonly database")]
    ReadOnly,
    #[error("the database has been closed")]
    Closed,
    #[error("the table has no column {0:?}")]
    NoColumn(ColumnRef),
    #[error("the table has {table} projected columns, and the row {row}")]
    ColumnCount { table: usize, row: usize },
    #[error("a filter of {0} values is too large")]
    TooManyValues(usize),
    #[error("column {column:?} of the row does not hold {expected}")]
    Malformed { column: String, expected: &'static str },
}

impl Failure {
    fn malformed(column: &str, expected: &'static str) -> Self {
        Self::Malformed { column: column.to_owned(), expected }
    }

    /// Whether the same call may succeed a moment later.
    fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// Whether the connection may be at fault, or what it knows of its file.
    fn is_of_connection(&self) -> bool {
        matches!(self, Self::Moved | Self::ReadOnly)
            || matches!(
                self.code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                        | ErrorCode::FileLockingProtocolFailed
                )
            )
    }

    fn extended_code(&self) -> Option<i32> {
        match self {
            Self::Sqlite(error) => error.sqlite_error().map(|error| error.extended_code),
            _ => None,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}
