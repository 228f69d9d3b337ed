//! Rows that were read or written lately, as long as nobody has changed the database.
//!
//! A row is returned only if the [`Header`] of the log's index is, at that moment, the one under which the row was read.
//! So a commit of any process is seen by the next read. The store's own commits keep the rows: the writer holds the write
//! lock when it reads the header before, so if the header after counts one commit more, that one is its own, and it knows
//! what it has changed. Rows are kept as they are stored: sealed.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::file::File;
use super::index::{Header, Index};
use crate::store::{Row, Scope, Update};
use crate::token::SessionId;

/// The most bytes of all rows: 16 MiB.
const MAX_BYTES: usize = 16 << 20;

/// How often the paths of the files are checked, as readers check the path of the database.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// How many reads leave the cache alone after a change of another process: while others write all the time, looking into
/// it would cost, and find nothing.
const PAUSE: u32 = 16;

/// How many commits make it certain that a counter was not set back: that happens when a process died while it wrote the
/// header, and another one made the index anew.
const CERTAIN: u32 = 64;

/// The rows of one database.
pub(super) struct Cache {
    /// `None` for a database in memory.
    file: Option<Arc<File>>,
    state: RwLock<State>,
    /// How many reads leave the cache alone.
    pause: AtomicU32,
    /// How many reads have found a row since the cache was emptied.
    hits: AtomicU32,
}

struct State {
    index: Option<Index>,
    /// When the paths of the files were last checked.
    checked: Instant,
    /// Whether a commit of the writer has changed the header of this index: it is not that of another file.
    is_proven: bool,
    /// What the rows are valid under.
    header: Option<Header>,
    rows: HashMap<SessionId, Entry>,
    /// What the rows take.
    bytes: usize,
    /// Rows of a transaction under way.
    written: Vec<Entry>,
    /// Whether a transaction of the writer is under way: a new header may be its own.
    is_writing: bool,
}

struct Entry {
    /// The table, as one handle reads it.
    table: u64,
    row: Row,
}

impl State {
    fn empty(&mut self, header: Option<Header>) {
        self.rows = HashMap::new();
        self.bytes = 0;
        self.header = header;
    }

    fn remove(&mut self, id: &SessionId) {
        if let Some(entry) = self.rows.remove(id) {
            self.bytes -= size(&entry.row);
            // The buckets of many rows that are no longer here.
            if self.rows.len() < self.rows.capacity() / 4 {
                self.rows.shrink_to(2 * self.rows.len());
            }
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.remove(&entry.row.id);
        self.bytes += size(&entry.row);
        self.rows.insert(entry.row.id, entry);
    }
}

/// About how many bytes an entry takes. Of the buckets of the map, half may be empty.
fn size(row: &Row) -> usize {
    2 * size_of::<(SessionId, Entry)>() + row.heap_size()
}

impl Cache {
    pub(super) fn new(file: Option<Arc<File>>) -> Self {
        let state = State {
            index: None,
            checked: Instant::now(),
            is_proven: false,
            header: None,
            rows: HashMap::new(),
            bytes: 0,
            written: Vec::new(),
            is_writing: false,
        };
        Self { file, state: RwLock::new(state), pause: AtomicU32::new(0), hits: AtomicU32::new(0) }
    }

    /// Returns a row, or the header under which it is to be read and kept.
    pub(super) fn find(&self, table: u64, id: &SessionId) -> Result<Row, Option<Header>> {
        if self.file.is_none() {
            return Err(None);
        }
        let pause = self.pause.load(Ordering::Relaxed);
        if pause > 0 {
            // A read that is not counted makes the pause longer by one.
            self.pause.store(pause - 1, Ordering::Relaxed);
            return Err(None);
        }
        let state = self.read();
        if !state.is_proven || state.checked.elapsed() >= CHECK_AFTER {
            drop(state);
            self.check();
            return Err(None);
        }
        let header = state.index.as_ref().and_then(Index::header);
        match state.rows.get(id) {
            Some(entry) if header.is_some() && header == state.header && entry.table == table => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Ok(entry.row.clone())
            }
            _ => Err(header),
        }
    }

    /// Keeps a row that was read after [`find`](Self::find) had returned the header, if that one is still the header.
    pub(super) fn keep(&self, header: Header, table: u64, row: &Row) {
        if size(row) > MAX_BYTES / 16 {
            return;
        }
        let mut state = self.write();
        if state.index.as_ref().and_then(Index::header) != Some(header) {
            return;
        }
        if state.header != Some(header) {
            if state.is_writing {
                return;
            }
            self.leave(&mut state, Some(header));
        }
        if state.bytes > MAX_BYTES {
            // If few of so many sessions come back, most of the time the cache is left alone.
            let rows = u32::try_from(state.rows.len()).unwrap_or(u32::MAX);
            if self.hits.swap(0, Ordering::Relaxed) < rows {
                self.pause.store(rows.saturating_mul(8), Ordering::Relaxed);
            }
            state.empty(Some(header));
        }
        state.insert(Entry { table, row: row.clone() });
    }

    /// Returns whether it has a row, so that a new version of it is wanted.
    pub(super) fn has(&self, id: &SessionId) -> bool {
        self.file.is_some() && self.read().rows.contains_key(id)
    }

    /// Returns the row that an update within the transaction under way has left, if the row before it is here: what the
    /// update does not name has not changed.
    pub(super) fn renewed(&self, table: u64, update: &Update) -> Option<Row> {
        let Update { id, expected, scope, row } = update;
        let state = self.read();
        let Entry { row: former, .. } = state.rows.get(id).filter(|entry| entry.table == table)?;
        // Another change of the same transaction may have changed it before.
        let is_former = former.revision == *expected && former.damaged.is_none() && row.id == *id;
        let expiration = match scope {
            Scope::State => former.expiration,
            Scope::Expiration => row.expiration,
            Scope::Row => return None,
        };
        is_former.then(|| Row {
            id: *id,
            state: row.state.clone(),
            user: former.user.clone(),
            ip: former.ip,
            created: former.created,
            expiration,
            revision: row.revision,
            columns: former.columns.clone(),
            damaged: None,
        })
    }

    /// Takes the new version of a row, for when the transaction under way is committed.
    pub(super) fn stage(&self, table: u64, row: Row) {
        self.write().written.push(Entry { table, row });
    }

    /// Returns the header. The writer calls it when it holds the write lock, and [`end`](Self::end) afterwards.
    pub(super) fn begin(&self) -> Option<Header> {
        let file = self.file.as_ref()?;
        let mut state = self.write();
        if state.index.is_none() {
            state.index = Index::open(file.path());
            state.checked = Instant::now();
        }
        let header = state.index.as_ref()?.header();
        if state.header != header {
            self.leave(&mut state, header);
        }
        state.is_writing = true;
        header
    }

    /// Adopts a commit of the writer. `changed` is `None` if it is not known which rows were changed, or whether.
    pub(super) fn end(&self, before: Option<Header>, changed: Option<Vec<SessionId>>) {
        if self.file.is_none() {
            return;
        }
        let mut state = self.write();
        state.is_writing = false;
        let written = mem::take(&mut state.written);
        let after = state.index.as_ref().and_then(Index::header);
        if before.is_some() && before == after {
            return;
        }
        let (Some(before), Some(after), Some(mut changed)) = (before, after, changed) else {
            return state.empty(None);
        };
        let is_own = after.commits().wrapping_sub(before.commits()) == 1;
        state.is_proven |= is_own;
        if !is_own || before.commits() < CERTAIN || state.header != Some(before) {
            return self.leave(&mut state, Some(after));
        }
        state.header = Some(after);
        for id in &changed {
            state.remove(id);
        }
        changed.sort_unstable();
        for entry in written {
            let from = changed.partition_point(|id| *id < entry.row.id);
            // Of a row that was changed twice it is not known which change was the last.
            let is_last = changed.get(from + 1).is_none_or(|next| *next != entry.row.id);
            if is_last {
                state.insert(entry);
            }
        }
    }

    /// Runs what starts the log over. That changes the header, and no row.
    pub(super) fn keep_over<T>(&self, restart: impl FnOnce() -> T) -> T {
        let before = self.read().index.as_ref().and_then(Index::header);
        let result = restart();
        let mut state = self.write();
        let after = state.index.as_ref().and_then(Index::header);
        if let (Some(before), Some(after)) = (before, after)
            && state.header == Some(before)
            && before.commits() == after.commits()
            && before.commits() >= CERTAIN
        {
            state.header = Some(after);
        }
        result
    }

    /// Forgets everything, and the file: its connections are closed.
    pub(super) fn reset(&self) {
        let mut state = self.write();
        state.is_writing = false;
        state.written.clear();
        state.empty(None);
        state.index = None;
        state.is_proven = false;
    }

    /// Empties the cache because of a change that is not the writer's own.
    fn leave(&self, state: &mut State, header: Option<Header>) {
        if !state.rows.is_empty() {
            self.pause.store(PAUSE, Ordering::Relaxed);
        }
        state.empty(header);
    }

    /// Checks whether the files are still in their place, if the last check is old enough.
    fn check(&self) {
        let mut state = self.write();
        if !state.is_proven || state.checked.elapsed() < CHECK_AFTER {
            return;
        }
        state.checked = Instant::now();
        if !state.index.as_ref().is_some_and(Index::is_in_place) {
            state.empty(None);
            // Proven again by a commit of a connection to the file that is there.
            state.is_proven = false;
            state.index = None;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn no_buckets_are_left_of_many_rows() {
        let cache = Cache::new(None);
        let mut state = cache.write();
        let id = |n: u16| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&n.to_be_bytes());
            SessionId::from_bytes(id)
        };
        let fill = |state: &mut State| {
            for n in 0..2_000 {
                let row = Row::new(id(n), Vec::new(), Timestamp::default(), Timestamp::default(), 1);
                state.insert(Entry { table: 0, row });
            }
            assert!(state.rows.capacity() >= 2_000);
        };
        fill(&mut state);
        (0..2_000).for_each(|n| state.remove(&id(n)));
        // A map with few buckets has room for three.
        assert!(state.rows.capacity() <= 3 && state.bytes == 0, "{}", state.rows.capacity());
        fill(&mut state);
        state.empty(None);
        assert_eq!((state.rows.capacity(), state.bytes), (0, 0));
    }
}
