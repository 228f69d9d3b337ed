//! Why a call failed, and whether the connection is to blame.

use std::io;
use std::path::PathBuf;

use rusqlite::{ErrorCode, ffi};

use crate::store::sql::Mismatch;

/// Why a call failed. Ends up in logs: it names tables and columns, and shows no value of a row.
/// SQLite's own messages show none either, because values are bound and never part of a statement.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", text(.0))]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("the database file {path:?} cannot be created; does its folder exist?")]
    Create { path: PathBuf, source: io::Error },
    #[cfg(feature = "admin")]
    #[error("the database file {path:?} cannot be opened")]
    Missing { path: PathBuf, source: io::Error },
    #[error("the folder of {path:?} is not writable, and SQLite must create files beside the database")]
    Folder { path: PathBuf },
    #[error("a path cannot name a database in memory; use `SqliteStore::in_memory`")]
    NoPath,
    #[error("{path:?} is a URL; give the path of the file, or the URL to `AnyStore::connect`")]
    Url { path: PathBuf },
    #[error("{path:?} is a folder; give the path of a file in it, such as {:?}", path.join("sessions.db"))]
    IsFolder { path: PathBuf },
    #[error("SQLite {linked} is linked, but 3.51.3 or later is needed", linked = rusqlite::version())]
    OldVersion,
    #[error("the database cannot have a write-ahead log, which the store needs")]
    NoLog,
    #[error(
        "the database stores text as {0}; use a new file, with `PRAGMA encoding = 'UTF-8'`, the default of SQLite"
    )]
    Encoding(String),
    #[error("the connection is inside a transaction; commit it or roll it back first")]
    OpenTransaction,
    #[error(
        "the connection has the TEMP {kind} {name:?}: it would change what the store reads and writes, and SQLite has no setting \
         against it; drop it first"
    )]
    Temporary { kind: String, name: String },
    #[error("the writer thread cannot be started")]
    Thread(#[source] io::Error),
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
}

fn text(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            format!("{error}: nothing of this is stored; make room on the disk of the database")
        }
        _ => error.to_string(),
    }
}

impl Failure {
    /// Returns whether the same call would fail again, and the column because of which, if it is known.
    #[expect(clippy::option_option, reason = "no refusal, one of no column, or one of a column")]
    pub(super) fn refusal(&self) -> Option<Option<String>> {
        if let Self::Mismatch(mismatch) = self {
            return mismatch.refusal();
        }
        match self.code()? {
            ErrorCode::TooBig => Some(None),
            ErrorCode::ConstraintViolation => match self.extended_code()? {
                // A row of this id: another one may do.
                ffi::SQLITE_CONSTRAINT_PRIMARYKEY => None,
                ffi::SQLITE_CONSTRAINT_NOTNULL
                | ffi::SQLITE_CONSTRAINT_UNIQUE
                | ffi::SQLITE_CONSTRAINT_DATATYPE => Some(self.column()),
                _ => Some(None),
            },
            _ => None,
        }
    }

    /// Returns the column that the message names, if it is one alone: `UNIQUE constraint failed: sessions.user_id`,
    /// `cannot store TEXT value in INTEGER column sessions.tenant`.
    fn column(&self) -> Option<String> {
        let Self::Sqlite(rusqlite::Error::SqliteFailure(_, Some(message))) = self else { return None };
        let (_, column) = message.rsplit_once('.')?;
        (!message.contains([',', '\''])).then(|| column.to_owned())
    }

    /// Whether a retry may succeed: another connection holds a lock.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// Whether a new connection may not have the error: this one may be broken, or its view of the file outdated.
    pub(super) fn is_of_connection(&self) -> bool {
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

    pub(super) fn extended_code(&self) -> Option<i32> {
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
