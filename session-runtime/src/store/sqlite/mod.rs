//! SQLite: one file, no server.
//!
//! Rows and filters enter, rows and outcomes leave. Reads run on the calling thread (`reader`), or need no statement
//! because nobody has changed the database since the row was read (`cache`, by the header of the log's `index`). Changes
//! are committed together, on the thread of a caller or on one of their own (`writer`). Neither waits for the other.

mod cache;
mod driver;
mod failure;
mod file;
mod index;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use self::cache::Cache;
use self::driver::TableStatements;
use self::failure::Failure;
pub use self::file::Durability;
use self::file::{File, Link, STARTUP_TIMEOUT};
use self::reader::Readers;
use self::writer::{Affected, WriteOptions, Writer};
use super::{Directory, Filter, LimitedWrite, Outcome, Page, Row, Store, StoreError, Table, Update, Write};
use crate::clock::Timestamp;
use crate::token::SessionId;

/// Listings take long, and few run at the same time.
const LISTING_CONNECTIONS: usize = 2;

/// Sessions in an SQLite database.
///
/// Any number of processes on one machine can share the file. It must not be on a network file system, because its
/// write-ahead log does not work there. A clone is cheap and shares the connections. A store is used within a Tokio
/// runtime, such as that of actix-web.
///
/// The file is never created a second time: if it is deleted while a store uses it, calls fail until there is a
/// database at its path again.
///
/// Dropping the last clone waits for the changes under way and closes the file.
///
/// Columns are in the clear. Of a session that has ended they are overwritten in the file (`secure_delete = FAST`), but for
/// pages that became free as a whole, and for the log until it starts over.
///
/// Triggers of the database do not run when the store changes it, and views cannot be read: whoever can write to the file could
/// make some that undo a log-out. TEMP ones belong to a connection, and only the program can make them there.
///
/// On Linux, up to about 16 MiB of rows are kept in memory as they are stored, sealed. A row is returned from there only
/// after a look at the database has shown that no process has changed it since.
///
/// # Beside other clients of SQLite
///
/// A program links one SQLite, so all its crates must agree on one `rusqlite`, or one `libsqlite3-sys`. The store works with
/// `rusqlite` 0.39 to 0.43, and Cargo takes the highest that the other crates allow. Use it as
/// [`session_runtime::rusqlite`](crate::rusqlite), which is always the store's own:
///
/// | `rusqlite` | `libsqlite3-sys` | bundled SQLite | beside it |
/// | --- | --- | --- | --- |
/// | 0.42, 0.43 | 0.40 | 3.54.1 | |
/// | 0.41 | 0.39 | 3.54.1 | `refinery` 0.10 |
/// | 0.40 | 0.38 | 3.53.2 | `deadpool-sqlite` 0.14, `diesel` 2.3, `r2d2_sqlite` 0.35, `rusqlite_migration` 2.6, `tokio-rusqlite` 0.8 |
/// | 0.39 | 0.37 | 3.51.3 | `r2d2_sqlite` 0.34; `sqlx` 0.9 with `sqlite`, `macros` or `migrate` |
///
/// What is older than that cannot be in the same program, for example `sqlx` 0.8 with `sqlite`: `rusqlite` 0.38 bundles SQLite
/// 3.51.1, in which the write-ahead log can lose a commit in a race, and the store refuses any before 3.51.3.
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
    statements: Option<Arc<TableStatements>>,
    /// Whether nobody but the owner of the file may access it.
    is_private: bool,
}

/// The writer closes the file last, after all readers, and leaves no log behind.
struct Database {
    readers: Arc<Readers>,
    listings: Arc<Readers>,
    writer: Writer,
    cache: Arc<Cache>,
    file: Option<Arc<File>>,
}

impl SqliteStore {
    /// Opens a database file, and creates it if there is none.
    ///
    /// Only the owner can access the file and the `-wal` and `-shm` files beside it (mode 0600). If others can access
    /// an existing file, their access is removed, with a warning in the log; from a file with other tables when sessions are built that have a
    /// table in it. To share a file with a group, open the
    /// connection yourself and use [`from_connection`](Self::from_connection).
    ///
    /// # Errors
    ///
    /// If the folder is missing, or the file cannot be opened, is not a database or stores text as UTF-16.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let open = || {
            let file = File::create(path.as_ref())?;
            let link = file.writer(STARTUP_TIMEOUT)?;
            // The path may be that of another program's database: then not before sessions have a table in it.
            if driver::is_ours(&link.connection)? {
                file.make_private();
            }
            Self::new(Some(file), link).map(|store| Self { is_private: true, ..store })
        };
        open().map_err(failed("open its database"))
    }

    /// Opens a file that exists, as [`open`](Self::open) does, and leaves the permissions as they are: they are the
    /// application's.
    #[cfg(feature = "admin")]
    pub(crate) fn open_existing(path: &Path) -> Result<Self, StoreError> {
        let open = || {
            let file = File::existing(path)?;
            let link = file.writer(STARTUP_TIMEOUT)?;
            Self::new(Some(file), link)
        };
        open().map_err(failed("open its database"))
    }

    /// Creates a database in memory: for tests, and for sessions that may end with the process.
    ///
    /// # Errors
    ///
    /// If there is not enough memory, or no thread can be started.
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
        let open = || Self::new(None, Link::writer(Connection::open_in_memory()?, None, STARTUP_TIMEOUT)?);
        Ok(open().map_err(failed("open its database"))?.durability(Durability::Normal))
    }

    /// Takes over a connection of [`session_runtime::rusqlite`](crate::rusqlite), for example one with a VFS or with functions
    /// of the application.
    ///
    /// The connection becomes the one that writes, and the store changes its settings to those that it needs. More
    /// connections are opened from its path; without a path, all calls share this connection. The modes of the files
    /// stay as they are.
    ///
    /// A file that was replaced after the connection was opened and before this call is not noticed.
    ///
    /// # Errors
    ///
    /// If the connection is inside a transaction, has TEMP tables, views or triggers, its SQLite is older than 3.51.3, or its
    /// database stores text as UTF-16. A TEMP trigger can undo a log-out, and a TEMP table or view can stand in the place of
    /// the sessions.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_runtime::{SqliteStore, rusqlite};
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
            file::check_temporary(&connection)?;
            let file = File::of(&connection);
            let place = file.as_ref().and_then(File::place);
            Self::new(file, Link::writer(connection, place, STARTUP_TIMEOUT)?)
        };
        take().map_err(failed("take over the connection"))
    }

    fn new(file: Option<File>, link: Link) -> Result<Self, Failure> {
        let slot = Arc::new(Mutex::new(Some(link)));
        let (readers, listings, file) = match file {
            Some(file) => {
                let file = Arc::new(file);
                // One per worker thread, and one for a read that has to wait on a blocking thread.
                let threads = thread::available_parallelism().map_or(1, usize::from);
                let readers = Readers::of_file(file.clone(), threads + 1);
                (readers, Readers::of_file(file.clone(), LISTING_CONNECTIONS), Some(file))
            }
            None => (Readers::shared(slot.clone()), Readers::shared(slot.clone()), None),
        };
        let (readers, listings) = (Arc::new(readers), Arc::new(listings));
        let cache = Arc::new(Cache::new(file.clone()));
        let writer = Writer::start(file.clone(), slot, [readers.clone(), listings.clone()], cache.clone())?;
        let database = Arc::new(Database { readers, listings, writer, cache, file });
        Ok(Self { database, durability: Durability::default(), statements: None, is_private: false })
    }

    /// Sets what the writes of this handle, and of clones made from it, survive. The default is [`Durability::Full`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Describes a table, and changes nothing.
    #[cfg(feature = "admin")]
    pub(crate) async fn survey(&self, wanted: &Table) -> Result<super::Survey, StoreError> {
        let (database, wanted) = (self.database.clone(), wanted.clone());
        let survey =
            move || database.writer.with_connection(|connection| driver::survey(connection, &wanted));
        run_blocking("describe its table", survey).await
    }

    /// Runs a query that may take long.
    async fn list<T: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Instant,
        read: impl Fn(&TableStatements, &Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let statements = self.statements(operation)?.clone();
        let database = self.database.clone();
        let read = move || database.listings.read(deadline, |connection| read(&statements, connection));
        run_blocking(operation, read).await
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        affected: Affected,
        deadline: Instant,
        change: impl FnOnce(&TableStatements, &Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let statements = self.statements(operation)?.clone();
        let options = WriteOptions { deadline, durability: self.durability, affected };
        let written =
            self.database.writer.write(options, move |connection| change(&statements, connection)).await;
        written.map_err(|failure| StoreError::with_refusal(operation, failure.refusal(), failure))
    }

    fn statements(&self, operation: &'static str) -> Result<&Arc<TableStatements>, StoreError> {
        self.statements.as_ref().ok_or_else(|| StoreError::new(operation, Failure::NotPrepared))
    }
}

/// Runs work that may block on a thread that may block.
async fn run_blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(failed(operation)),
        Err(error) => Err(StoreError::new(operation, error)),
    }
}

/// Names the operation that failed.
fn failed<E: Into<Failure>>(operation: &'static str) -> impl FnOnce(E) -> StoreError {
    move |failure| {
        let failure = failure.into();
        StoreError::with_refusal(operation, failure.refusal(), failure)
    }
}

impl Store for SqliteStore {
    async fn prepare(&mut self, table: &Table, _: Duration) -> Result<(), StoreError> {
        let database = self.database.clone();
        let statements = Arc::new(TableStatements::new(table));
        let table = table.clone();
        let is_private = self.is_private;
        let prepare = move || {
            let is_readonly = database.writer.with_connection(|connection| {
                driver::prepare_table(connection, &table)?;
                Ok(connection.is_readonly(c"main")?)
            })?;
            if let Some(file) = database.file.as_ref().filter(|_| is_private) {
                file.make_private();
            }
            Ok(is_readonly)
        };
        if run_blocking("prepare its table", prepare).await? {
            tracing::warn!(
                path = self.database.file.as_ref().map(|file| tracing::field::display(file.path().display())),
                "the database file is read-only: sessions are read, and no change of them is stored"
            );
        }
        self.statements = Some(statements);
        Ok(())
    }

    async fn claim(&self, table: &Table, bag: &str, _: Instant) -> Result<String, StoreError> {
        let (database, table, bag) = (self.database.clone(), table.name.clone(), bag.to_owned());
        let claim =
            move || database.writer.with_connection(|connection| driver::claim(connection, &table, &bag));
        run_blocking("note the bag of its table", claim).await
    }

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        const OPERATION: &str = "load a row";
        let statements = self.statements(OPERATION)?;
        let cache = &self.database.cache;
        let header = match cache.find(statements.number, &id) {
            Ok(row) => return Ok(Some(row)),
            Err(header) => header,
        };
        if let Some(loaded) = self.database.readers.try_read(|connection| statements.load(connection, id)) {
            if let (Some(header), Ok(Some(row))) = (header, &loaded) {
                cache.keep(header, statements.number, row);
            }
            return loaded.map_err(failed(OPERATION));
        }
        let database = self.database.clone();
        let statements = statements.clone();
        let load = move || database.readers.read(deadline, |connection| statements.load(connection, id));
        run_blocking(OPERATION, load).await
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        let affected = Affected::Rows([Some(row.id), None]);
        self.write("insert a row", affected, deadline, move |statements, connection| {
            statements.insert(connection, &row)
        })
        .await
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        let (old, new) = (update.id, update.row.id);
        let cache = self.database.cache.clone();
        let affected = Affected::Rows([Some(old), Some(new).filter(|new| *new != old)]);
        self.write("update a row", affected, deadline, move |statements, connection| {
            let outcome = statements.update(connection, &update)?;
            if outcome == Outcome::Stored && cache.has(&old) {
                // Otherwise as others will read it: what was bound may be stored in another form.
                let load = || statements.load(connection, new).ok().flatten();
                if let Some(row) = cache.renewed(statements.number, &update).or_else(load) {
                    cache.stage(statements.number, row);
                }
            }
            Ok(outcome)
        })
        .await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        let affected = Affected::Rows([Some(id), None]);
        self.write("delete a row", affected, deadline, move |statements, connection| {
            statements.delete(connection, id)
        })
        .await
    }

    /// Removes few rows of those that it may: each one changes several pages, and other writes wait meanwhile.
    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        let limit = limit.min((limit / 250).max(2));
        self.write("remove expired rows", Affected::Any, deadline, move |statements, connection| {
            statements.prune(connection, now, limit)
        })
        .await
    }

    async fn write_limited(
        &self,
        limited: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        const OPERATION: &str = "limit the sessions of a user";
        let surplus = self.statements(OPERATION)?.rows.surplus(&limited).map_err(failed(OPERATION))?;
        let old = match &limited.write {
            Write::Insert(_) => None,
            Write::Update(update) => Some(update.id),
        };
        let affected = Affected::Rows([old, Some(limited.row().id)]);
        self.write(OPERATION, affected, deadline, move |statements, connection| {
            statements.write_limited(connection, &limited.write, &surplus)
        })
        .await
    }
}

#[diagnostic::do_not_recommend]
impl Directory for SqliteStore {
    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        const OPERATION: &str = "list rows";
        let statement = self.statements(OPERATION)?.rows.find(filter, page).map_err(failed(OPERATION))?;
        let find = move |statements: &TableStatements, connection: &Connection| {
            statements.find(connection, &statement)
        };
        self.list(OPERATION, deadline, find).await
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        const OPERATION: &str = "count rows";
        let statement = self.statements(OPERATION)?.rows.count(filter).map_err(failed(OPERATION))?;
        let count = move |_: &TableStatements, connection: &Connection| {
            TableStatements::count(connection, &statement)
        };
        self.list(OPERATION, deadline, count).await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "delete rows";
        let statement = self.statements(OPERATION)?.rows.remove(filter).map_err(failed(OPERATION))?;
        let remove = move |statements: &TableStatements, connection: &Connection| {
            statements.remove(connection, &statement)
        };
        self.write(OPERATION, Affected::Any, deadline, remove).await
    }

    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        const OPERATION: &str = "answer a health check";
        self.list(OPERATION, deadline, TableStatements::probe).await?;
        // An empty transaction takes the write lock, and finds out whether the file is still at its path. In a
        // read-only database, SQLite turns it into a transaction that reads.
        let probe = |_: &TableStatements, connection: &Connection| {
            if connection.is_readonly("main")? { Err(Failure::ReadOnly) } else { Ok(()) }
        };
        self.write(OPERATION, Affected::Rows([None; 2]), deadline, probe).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("durability", &self.durability).finish_non_exhaustive()
    }
}
