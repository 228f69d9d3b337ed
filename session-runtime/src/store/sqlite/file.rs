//! The database file: a path goes in, configured connections come out.
//!
//! Only [`File::create`] creates a file. Every later connection opens an existing one, so a database that was deleted
//! is an error and never a new, empty one.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, ffi};

use super::failure::Failure;

/// In older versions, resetting the write-ahead log could lose a race against a checkpoint.
const MINIMUM_VERSION: i32 = 3_051_003;

/// How long start-up waits for a lock: another process may be adding an index to the table.
pub(super) const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Enough for the tables that one process is likely to keep in one file.
const CACHED_STATEMENTS: usize = 128;

/// How often a reader checks the path of its file. A file that was replaced is found soon, without a `stat` on each
/// read.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Held from before a file is created until it is closed again.
///
/// When a process closes any descriptor of a file, POSIX drops all locks that the process has on it, including those of
/// SQLite. So [`File::create`] closes only a file that it created itself, and no other store may open that file
/// meanwhile.
static CREATING: Mutex<()> = Mutex::new(());

/// What an acknowledged write survives.
///
/// In both cases the database stays intact, and every later read, of any process, sees an acknowledged write. The more
/// durable value is the greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// A crash of the process, but not always a crash of the machine: after a power failure the writes of the last
    /// seconds may be missing (`PRAGMA synchronous = NORMAL`). A log-out may be among them.
    ///
    /// Writes are a few times faster. They run on the threads of the callers, up to 128 rows in one transaction.
    Normal,
    /// A crash of the machine and a power failure (`PRAGMA synchronous = FULL`).
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

/// The file that connections are opened from.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
}

impl File {
    /// Creates the file if there is none, readable by its owner only.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str().is_empty() || path == Path::new(":memory:") {
            return Err(Failure::NoPath);
        }
        let is_url = |path: &str| path.starts_with("sqlite:") || path.contains("://");
        if path.to_str().is_some_and(is_url) {
            return Err(Failure::Url { path: path.into() });
        }
        if path.is_dir() {
            return Err(Failure::IsFolder { path: path.into() });
        }
        // An absolute path stays valid when the working directory changes, and is never read as a `file:` URI.
        let path =
            std::path::absolute(path).map_err(|source| Failure::Create { path: path.into(), source })?;
        let _creating = lock(&CREATING);
        match create_private(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self { path }),
            Err(source) => Err(Failure::Create { path, source }),
            Ok(()) => {
                tracing::info!(path = %path.display(), "created a database file for sessions");
                Ok(Self { path })
            }
        }
    }

    /// A file that exists. Its permissions stay as they are.
    #[cfg(feature = "admin")]
    pub(super) fn existing(path: &Path) -> Result<Self, Failure> {
        let absolute = std::path::absolute(path).and_then(|path| fs::metadata(&path).map(|_| path));
        absolute.map(|path| Self { path }).map_err(|source| Failure::Missing { path: path.into(), source })
    }

    /// The file of a connection, if it has one.
    pub(super) fn of(connection: &Connection) -> Option<Self> {
        let path = connection.path().filter(|path| !path.is_empty())?;
        Some(Self { path: path.into() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a connection that writes. Opening waits for locks up to the timeout.
    pub(super) fn writer(&self, timeout: Duration) -> Result<Link, Failure> {
        self.make_companions_writable();
        let (connection, place) = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Link::writer(connection, place, timeout).map_err(|failure| match failure.extended_code() {
            Some(ffi::SQLITE_READONLY_DIRECTORY) => Failure::Folder { path: self.path.clone() },
            _ => failure,
        })
    }

    /// Opens a connection that only reads and never waits for a lock.
    pub(super) fn reader(&self) -> Result<Link, Failure> {
        let (connection, place) = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::ZERO)?;
        configure(&connection)?;
        Ok(Link::new(connection, place))
    }

    /// Opens a connection, and finds out which file it is to: the one that was at the path before and after.
    fn connect(&self, access: OpenFlags) -> Result<(Connection, Option<Place>), Failure> {
        let place = self.place();
        let connection = Connection::open_with_flags(&self.path, flags(access))?;
        if place.as_ref().is_some_and(Place::is_left) { Err(Failure::Moved) } else { Ok((connection, place)) }
    }

    /// Returns where the file is now, if there is one.
    #[cfg(unix)]
    pub(super) fn place(&self) -> Option<Place> {
        let identity = identity(&fs::metadata(&self.path).ok()?);
        Some(Place { path: self.path.clone(), identity })
    }

    /// This operating system does not let an open file be deleted or replaced.
    #[cfg(not(unix))]
    pub(super) fn place(&self) -> Option<Place> {
        None
    }

    /// Waits until what is in the file is on the disk. A checkpoint that does not reach the end of the log leaves that to
    /// the one that does.
    #[cfg(unix)]
    pub(super) fn sync(&self) {
        if let Some((_, file)) = hold(&self.path) {
            // SQLite syncs it again, and reports a failure.
            drop(file.sync_data());
        }
    }

    #[cfg(not(unix))]
    pub(super) fn sync(&self) {}

    /// Makes the `-wal` and `-shm` files writable for those who can write the database file.
    ///
    /// SQLite creates them with the permissions that the database file has at that time. When a read-only database
    /// becomes writable again, they would stay read-only.
    #[cfg(unix)]
    fn make_companions_writable(&self) {
        use std::os::unix::fs::PermissionsExt as _;

        const OWNER_WRITES: u32 = 0o200;
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let Ok(metadata) = fs::metadata(&path) else { return };
        let writers = metadata.permissions().mode() & 0o222;
        for suffix in ["-wal", "-shm"] {
            let companion = companion(&path, suffix);
            let Ok(metadata) = fs::metadata(&companion) else { continue };
            let mode = metadata.permissions().mode() & 0o7777;
            if writers & !mode & OWNER_WRITES != 0 {
                // If another user owns it, the next write fails and reports that.
                drop(fs::set_permissions(&companion, fs::Permissions::from_mode(mode | writers)));
            }
        }
    }

    #[cfg(not(unix))]
    fn make_companions_writable(&self) {}

    /// Removes the permissions of other users on the file and its companions.
    #[cfg(unix)]
    pub(super) fn make_private(&self) {
        use std::os::unix::fs::PermissionsExt as _;

        // SQLite keeps the companions beside the target of a symbolic link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        for suffix in ["", "-wal", "-shm"] {
            let companion = companion(&path, suffix);
            let Ok(metadata) = fs::metadata(&companion) else { continue };
            let mode = metadata.permissions().mode() & 0o7777;
            let private = mode & 0o7700;
            if mode == private {
                continue;
            }
            match fs::set_permissions(&companion, fs::Permissions::from_mode(private)) {
                Ok(()) => {
                    let path = companion.display();
                    tracing::warn!(%path, "removed the access of other users to the session database");
                }
                Err(error) => {
                    let (path, error) = (companion.display(), &error as &dyn std::error::Error);
                    tracing::warn!(%path, error, "other users can access the session database");
                }
            }
        }
    }

    #[cfg(not(unix))]
    pub(super) fn make_private(&self) {}
}

/// The path of an open file. SQLite can say whether the file has left it (`SQLITE_FCNTL_HAS_MOVED`), but not through every
/// version of `rusqlite`.
pub(super) struct Place {
    path: PathBuf,
    identity: Identity,
}

impl Place {
    /// Returns whether the path no longer leads to the file.
    #[cfg(unix)]
    fn is_left(&self) -> bool {
        fs::metadata(&self.path).map_or(true, |metadata| identity(&metadata) != self.identity)
    }

    #[cfg(not(unix))]
    fn is_left(&self) -> bool {
        false
    }
}

#[cfg(unix)]
pub(super) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut companion = path.as_os_str().to_owned();
    companion.push(suffix);
    companion.into()
}

/// The device and the number of a file.
pub(super) type Identity = (u64, u64);

/// The files of databases that this process has opened beside SQLite.
///
/// When a process closes any descriptor of a file, POSIX drops all locks that the process has on it, those of SQLite
/// too. So each file is opened once, and closed only when it is deleted.
#[cfg(unix)]
static HELD: Mutex<Vec<(Identity, Arc<fs::File>)>> = Mutex::new(Vec::new());

/// Opens a file that SQLite has open as well.
#[cfg(unix)]
pub(super) fn hold(path: &Path) -> Option<(Identity, Arc<fs::File>)> {
    use std::os::unix::fs::MetadataExt as _;

    let mut held = lock(&HELD);
    held.retain(|(_, file)| {
        Arc::strong_count(file) > 1 || file.metadata().map_or(true, |metadata| metadata.nlink() > 0)
    });
    let expected = identity(&fs::metadata(path).ok()?);
    if let Some((_, file)) = held.iter().find(|(identity, _)| *identity == expected) {
        return Some((expected, file.clone()));
    }
    let file = Arc::new(fs::File::open(path).ok()?);
    held.push((expected, file.clone()));
    let found = identity(&file.metadata().ok()?);
    (found == expected).then_some((found, file))
}

#[cfg(unix)]
pub(super) fn identity(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;

    (metadata.dev(), metadata.ino())
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Switches to a write-ahead log and returns the journal mode that the database has then.
///
/// If two processes switch a new file at the same time, SQLite refuses one of them at once, because each holds a lock
/// that the other one waits for. So the switch is tried again here.
fn switch_to_wal(connection: &Connection, timeout: Duration) -> Result<String, Failure> {
    const PAUSE: Duration = Duration::from_millis(5);
    let until = Instant::now() + timeout;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(Failure::from) {
            Err(failure) if failure.is_busy() && Instant::now() < until => std::thread::sleep(PAUSE),
            mode => return mode,
        }
    }
}

/// One thread at a time uses a connection, under the mutex of its [`Slot`].
fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// A connection and its state.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// `None` for a database in memory.
    place: Option<Place>,
    /// The current setting of `PRAGMA synchronous`.
    synchronous: Durability,
    /// When the path of the file was last checked.
    checked: Instant,
    /// How many changes were made over it since the length of the log was checked.
    pub(super) changes: usize,
    /// Whether it had an error that a new connection may not have.
    pub(super) broken: bool,
}

/// The place of a connection: empty until the connection is needed, and again after it broke.
pub(super) type Slot = Arc<Mutex<Option<Link>>>;

impl Link {
    fn new(connection: Connection, place: Option<Place>) -> Self {
        let checked = Instant::now();
        Self { connection, place, synchronous: Durability::Full, checked, changes: 0, broken: false }
    }

    /// Configures a connection for writing, and waits for locks up to the timeout.
    ///
    /// After that the connection waits for no lock. SQLite's own pauses grow to a tenth of a second, which is long for
    /// a lock that is held for microseconds; a caller with time left tries again.
    pub(super) fn writer(
        connection: Connection,
        place: Option<Place>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        connection.busy_timeout(timeout)?;
        configure(&connection)?;
        if !connection.is_readonly("main")? {
            let mode = switch_to_wal(&connection, timeout)?;
            // A database in memory has no log, and no other process shares it.
            if !matches!(mode.as_str(), "wal" | "memory") {
                return Err(Failure::NoLog);
            }
        }
        // Checkpoints run beside the commits, not within them: see `writer::Log`. What is deleted is overwritten in the pages
        // that are written anyhow: columns are in the clear. To overwrite whole pages that become free would cost writes.
        connection.execute_batch(
            "PRAGMA wal_autocheckpoint = 0;
             PRAGMA secure_delete = FAST;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA cache_size = -8192;
             PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;",
        )?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(Self::new(connection, place))
    }

    /// Sets how durable the next commit is.
    pub(super) fn synchronize(&mut self, durability: Durability) -> Result<(), Failure> {
        if self.synchronous != durability {
            self.connection.pragma_update(None, "synchronous", durability.pragma())?;
            self.synchronous = durability;
        }
        Ok(())
    }

    /// Returns whether the file has left its path. Checks the path only if the last check is old enough.
    pub(super) fn is_stale(&mut self) -> bool {
        if self.checked.elapsed() < STALE_AFTER {
            return false;
        }
        self.checked = Instant::now();
        self.has_moved()
    }

    /// Returns whether the path no longer leads to the open file: the file was deleted, renamed or replaced, and other
    /// processes do not see what is written to it.
    pub(super) fn has_moved(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_left)
    }
}

/// Applies the settings that all connections have in common.
///
/// `mmap_size` is not among them: if another program truncates a memory-mapped file, a signal ends the process, while a
/// failing read is only an error.
fn configure(connection: &Connection) -> Result<(), Failure> {
    check_version(rusqlite::version_number())?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // A misspelt column must be an error, not a string.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    // sqlite.org, "Defense Against The Dark Arts": the file may come from an untrusted source. A trigger could insert a
    // row again that was deleted, and `Cache::renewed` knows what an update leaves because none of the database changes it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY;",
    )?;
    // The first access to the file: it fails if the file is not a database.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    // SQLite counts the bytes of a text, and compares texts, as the database stores them.
    let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    if encoding == "UTF-8" { Ok(()) } else { Err(Failure::Encoding(encoding)) }
}

/// Checks that a connection of the application has nothing in its `temp` schema. The settings of `configure` do not turn off
/// its triggers and views, and its names go before those of the database.
pub(super) fn check_temporary(connection: &Connection) -> Result<(), Failure> {
    let first = "SELECT type, name FROM temp.sqlite_schema WHERE type <> 'index' LIMIT 1";
    let found = connection.query_row(first, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.map_or(Ok(()), |(kind, name)| Err(Failure::Temporary { kind, name }))
}

fn check_version(linked: i32) -> Result<(), Failure> {
    if linked < MINIMUM_VERSION { Err(Failure::OldVersion) } else { Ok(()) }
}

/// Locks a value that stays valid even if its last user panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_library_with_the_log_reset_race_is_refused() {
        assert!(matches!(check_version(3_051_002), Err(Failure::OldVersion)));
        assert!(check_version(3_051_003).is_ok());
    }
}
