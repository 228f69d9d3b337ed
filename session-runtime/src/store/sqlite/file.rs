//! The database file: a path goes in, configured connections come out.
//!
//! Only [`File::create`] ever makes a file. Every later connection opens what is there, so a database
//! that was deleted is an error and never a new, empty one.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::{Durability, Failure};

/// Before it, resetting the write-ahead log could lose a race against a checkpoint.
const MINIMUM_VERSION: i32 = 3_051_003;

/// How long start-up waits for locks: another process may be adding an index to the table.
pub(super) const START_UP_PATIENCE: Duration = Duration::from_secs(10);

/// More than any number of tables one process is likely to keep in one file.
const CACHED_STATEMENTS: usize = 128;

/// A reader looks after its file this often, so that a file put in its place is found without
/// paying for a `stat` on each read.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Held from before a file is created until it is closed again.
///
/// POSIX drops all locks that a process has on a file when it closes any descriptor of it, and
/// SQLite's are among them. So [`File::create`] closes only a file that it made itself, and no other
/// store may open that one meanwhile.
static CREATING: Mutex<()> = Mutex::new(());

/// The file that connections are opened from.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
}

impl File {
    /// Makes sure that there is a file, readable by its owner only if it was not there before.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str().is_empty() || path == Path::new(":memory:") {
            return Err(Failure::NoPath);
        }
        // An absolute path outlives a change of directory, and is never taken for a `file:` URI.
        let path =
            std::path::absolute(path).map_err(|source| Failure::Create { path: path.into(), source })?;
        let _creating = lock(&CREATING);
        match create_private(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self { path }),
            Err(source) => Err(Failure::Create { path, source }),
            Ok(()) => Ok(Self { path }),
        }
    }

    /// The file of a connection, if it has one.
    pub(super) fn of(connection: &Connection) -> Option<Self> {
        let path = connection.path().filter(|path| !path.is_empty())?;
        Some(Self { path: path.into() })
    }

    /// Opens a connection that writes, waiting so long for locks.
    pub(super) fn writer(&self, patience: Duration) -> Result<Link, Failure> {
        self.let_companions_be_written();
        let connection = Connection::open_with_flags(&self.path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))?;
        Link::writer(connection, patience).map_err(|failure| match failure.extended_code() {
            Some(ffi::SQLITE_READONLY_DIRECTORY) => Failure::Folder { path: self.path.clone() },
            _ => failure,
        })
    }

    /// Opens a connection that only reads, and that never waits for a lock.
    pub(super) fn reader(&self) -> Result<Link, Failure> {
        let connection = Connection::open_with_flags(&self.path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))?;
        connection.busy_timeout(Duration::ZERO)?;
        configure(&connection)?;
        Ok(Link::new(connection))
    }

    /// Lets whoever may write the file write its companions.
    ///
    /// SQLite makes them with the permissions that the file has at the time. When a file that could only be
    /// read can be written again, they would be what still cannot.
    #[cfg(unix)]
    fn let_companions_be_written(&self) {
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
                // Where it is not ours, the next write tells.
                drop(fs::set_permissions(&companion, fs::Permissions::from_mode(mode | writers)));
            }
        }
    }

    #[cfg(not(unix))]
    fn let_companions_be_written(&self) {}

    /// Takes away what others may do with the file and its companions.
    #[cfg(unix)]
    pub(super) fn make_private(&self) {
        use std::os::unix::fs::PermissionsExt as _;

        // SQLite keeps the companions beside the file that a link leads to.
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
                    tracing::warn!(path = %companion.display(), "took the session database from other users");
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

#[cfg(unix)]
fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut companion = path.as_os_str().to_owned();
    companion.push(suffix);
    companion.into()
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Switches to a write-ahead log and returns the mode that the database has then.
///
/// Of two processes that switch a new file at once SQLite refuses one without any patience, since both
/// hold a lock that the other one waits for.
fn write_ahead(connection: &Connection, patience: Duration) -> Result<String, Failure> {
    const PAUSE: Duration = Duration::from_millis(5);
    let until = Instant::now() + patience;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(Failure::from) {
            Err(failure) if failure.is_busy() && Instant::now() < until => std::thread::sleep(PAUSE),
            mode => return mode,
        }
    }
}

/// Every connection is used by one thread at a time, under the mutex of its [`Slot`].
fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// A connection, and what is known of it.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// What `PRAGMA synchronous` stands at.
    synchronous: Durability,
    /// When the file was last found at its path.
    seen: Instant,
    /// How many changes were made over it since the log was looked at.
    pub(super) changes: usize,
    /// Whether it had an error that a new connection may not have.
    pub(super) broken: bool,
}

/// The place of a connection: empty until it is needed, and again once it proved broken.
pub(super) type Slot = Arc<Mutex<Option<Link>>>;

impl Link {
    fn new(connection: Connection) -> Self {
        Self { connection, synchronous: Durability::Full, seen: Instant::now(), changes: 0, broken: false }
    }

    /// Makes a connection fit to write, waiting so long for locks.
    ///
    /// After that it waits for none. SQLite's own pauses grow to a tenth of a second, which is long
    /// for a lock that is held for microseconds; who has time asks again.
    pub(super) fn writer(connection: Connection, patience: Duration) -> Result<Self, Failure> {
        connection.busy_timeout(patience)?;
        configure(&connection)?;
        if !connection.is_readonly("main")? {
            let mode = write_ahead(&connection, patience)?;
            // A database in memory has no log, and no other process to share it with.
            if !matches!(mode.as_str(), "wal" | "memory") {
                return Err(Failure::NoLog);
            }
        }
        // Checkpoints are made beside the commits, not within them: see `writer::Log`.
        connection.execute_batch(
            "PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA cache_size = -8192;
             PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;",
        )?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(Self::new(connection))
    }

    /// Sets how durable the next commit is.
    pub(super) fn synchronize(&mut self, durability: Durability) -> Result<(), Failure> {
        if self.synchronous != durability {
            self.connection.pragma_update(None, "synchronous", durability.pragma())?;
            self.synchronous = durability;
        }
        Ok(())
    }

    /// Tells whether the file may have left its path since it was last looked for.
    pub(super) fn is_stale(&mut self) -> bool {
        if self.seen.elapsed() < STALE_AFTER {
            return false;
        }
        self.seen = Instant::now();
        self.has_moved()
    }

    /// Tells whether the path no longer leads to the file that is open: it was deleted, renamed or
    /// replaced, and what is written to it is lost to everybody else.
    #[cfg(unix)]
    pub(super) fn has_moved(&self) -> bool {
        let mut moved = 0;
        let asked = self.connection.file_control(Some("main"), rusqlite::FileControl::HasMoved(&mut moved));
        asked.is_ok() && moved != 0
    }

    /// An open file can neither be deleted nor replaced here.
    #[cfg(not(unix))]
    pub(super) fn has_moved(&self) -> bool {
        false
    }
}

/// Sets what all connections have in common.
///
/// No `mmap_size`: a memory-mapped file that somebody truncates ends the process by a signal, where
/// a read that fails is an error.
fn configure(connection: &Connection) -> Result<(), Failure> {
    check_version(rusqlite::version_number())?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // A misspelt column must be an error, not a string.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    // Sqlite.org, "Defense Against The Dark Arts": the file may come from anywhere.
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY;",
    )?;
    // The first access to the file: it is here that a file of another kind is found out.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(())
}

fn check_version(linked: i32) -> Result<(), Failure> {
    if linked < MINIMUM_VERSION { Err(Failure::OldVersion) } else { Ok(()) }
}

/// Locks what stays valid whatever a panic interrupted.
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
