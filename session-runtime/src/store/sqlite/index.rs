//! The header of the log's index: the same header means that no process has changed the database.
//!
//! SQLite keeps the index of the write-ahead log in a file beside the database, `-shm`, which all processes map into
//! memory. A commit becomes visible when its writer changes the header of that file, and SQLite itself trusts what it
//! has in memory as long as the header is the same. One read of the header is one system call, where a read of a row
//! takes two locks of the file and the statement.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::Identity;
#[cfg(unix)]
use super::file::{companion, hold, identity};

/// The header of the index, as sqlite.org, "WAL-mode File Format" §2.1 describes it.
///
/// It names the log by its salts, which change each time the log starts over, and how far the log is valid. Frames that
/// were committed are never written again, so two equal headers stand for the same content of the database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header([u8; Self::LENGTH]);

impl Header {
    const LENGTH: usize = 48;
    const VERSION: u32 = 3_007_000;

    /// A writer changes the second copy before the first, so a header that is being written is not two equal copies.
    fn parse(copies: &[u8; 2 * Self::LENGTH]) -> Option<Self> {
        let (first, second) = copies.split_first_chunk::<{ Self::LENGTH }>()?;
        let header = Self(*first);
        let is_written = header.word(0) == Self::VERSION && header.0[12] != 0;
        // The salts of a log without a file are zero, whatever is in the database.
        let names_a_log = header.word(8) != 0 || header.word(9) != 0;
        (first == second && is_written && names_a_log && header.has_checksum()).then_some(header)
    }

    /// How many transactions were committed since the index was made, by all processes.
    pub(super) fn commits(&self) -> u32 {
        self.word(2)
    }

    fn has_checksum(&self) -> bool {
        let (mut first, mut second) = (0_u32, 0_u32);
        for pair in (0..10).step_by(2) {
            first = first.wrapping_add(self.word(pair)).wrapping_add(second);
            second = second.wrapping_add(self.word(pair + 1)).wrapping_add(first);
        }
        (first, second) == (self.word(10), self.word(11))
    }

    /// The numbers are in the byte order of the machine.
    fn word(&self, n: usize) -> u32 {
        self.0[4 * n..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }
}

/// The index of an open database.
pub(super) struct Index {
    file: Arc<fs::File>,
    path: PathBuf,
    identity: Identity,
    database_path: PathBuf,
    database: Identity,
}

#[cfg(unix)]
impl Index {
    /// Opens the index of a database that a connection of this process has open.
    ///
    /// Another VFS or an index in memory have no such file, or an abandoned one: who opens it must see that a commit of
    /// its own changes the header.
    pub(super) fn open(database: &Path) -> Option<Self> {
        // Where a file is mapped into memory, other systems need not show its content to a read.
        if !cfg!(target_os = "linux") {
            return None;
        }
        // SQLite keeps the companions beside the target of a symbolic link.
        let database_path = fs::canonicalize(database).ok()?;
        let database = identity(&fs::metadata(&database_path).ok()?);
        let path = companion(&database_path, "-shm");
        let (identity, file) = hold(&path)?;
        Some(Self { file, path, identity, database_path, database })
    }

    /// Returns the header, unless it is being written.
    pub(super) fn header(&self) -> Option<Header> {
        use std::os::unix::fs::FileExt as _;

        let mut copies = [0; 2 * Header::LENGTH];
        self.file.read_exact_at(&mut copies, 0).ok()?;
        Header::parse(&copies)
    }

    /// Returns whether the paths still lead to the files that were there when this was opened.
    pub(super) fn is_in_place(&self) -> bool {
        let is = |path: &Path, expected| fs::metadata(path).is_ok_and(|found| identity(&found) == expected);
        is(&self.database_path, self.database) && is(&self.path, self.identity)
    }
}

#[cfg(not(unix))]
impl Index {
    pub(super) fn open(_: &Path) -> Option<Self> {
        None
    }

    pub(super) fn header(&self) -> Option<Header> {
        None
    }

    pub(super) fn is_in_place(&self) -> bool {
        false
    }
}
