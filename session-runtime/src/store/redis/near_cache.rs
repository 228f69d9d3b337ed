//! The near cache: rows that requests have read lately, until Redis says that they have changed.
//!
//! A read that is to be kept is preceded by `CLIENT CACHING YES`, over a connection with `CLIENT TRACKING`. So the server
//! names the row over the same connection as soon as anybody changes it. One cache serves all runtimes of a store, so a write
//! of one is seen by all.
//!
//! A row is returned only while its connection is open, and for a limited time since it was asked for: what the
//! server says can be lost or late. The reply to a read can arrive after the row was dropped, and is older then. So each
//! drop is counted, and a reply is kept only if the count is what it was when the read was sent. What this process writes is
//! dropped before it is sent, and again before it is acknowledged. Rows are kept as they are stored: sealed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};

use crate::clock::Timestamp;
use crate::store::{Row, Table};
use crate::token::SessionId;

/// Each has a lock of its own, for rows by the first byte of their ids.
const SHARDS: usize = 64;

/// The most rows and bytes of a shard: 32,768 rows and 16 MiB in all.
const SHARD_ROWS: usize = 512;
const SHARD_BYTES: usize = 256 * 1024;

/// The rows of a store.
pub(super) struct NearCache {
    max_age: Duration,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    rows: HashMap<SessionId, Entry>,
    bytes: usize,
    /// How often a row was dropped because it has changed.
    drops: u64,
}

struct Entry {
    /// The table, as one handle reads it.
    table: Arc<Table>,
    row: Row,
    asked: Instant,
    connection: Tracking,
}

/// A connection over which the server names the rows that have changed; dangling when it has ended.
pub(super) type Tracking = Weak<()>;

/// A read that is about to be sent.
#[derive(Clone, Copy)]
pub(super) struct Read {
    asked: Instant,
    drops: u64,
}

impl NearCache {
    pub(super) fn new(max_age: Duration) -> Self {
        Self { max_age, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub(super) fn max_age(&self) -> Duration {
        self.max_age
    }

    /// Returns a row, or the read that has to be made.
    pub(super) fn find(&self, table: &Arc<Table>, id: SessionId) -> Result<Row, Read> {
        let shard = self.shard(id);
        match shard.rows.get(&id) {
            Some(entry) if Arc::ptr_eq(&entry.table, table) && self.is_usable(entry) => Ok(entry.row.clone()),
            _ => Err(Read { asked: Instant::now(), drops: shard.drops }),
        }
    }

    /// Keeps the reply to a read, unless the row may have changed since.
    pub(super) fn keep(&self, read: Read, table: &Arc<Table>, row: &Row, connection: Tracking) {
        let size = size(row);
        let mut shard = self.shard(row.id);
        if shard.drops != read.drops || size > SHARD_BYTES / 2 {
            return;
        }
        shard.remove(row.id);
        if shard.rows.len() == SHARD_ROWS || shard.bytes + size > SHARD_BYTES {
            shard.make_room(|entry| self.is_usable(entry));
        }
        shard.bytes += size;
        let entry = Entry { table: Arc::clone(table), row: row.clone(), asked: read.asked, connection };
        shard.rows.insert(row.id, entry);
    }

    /// Drops the rows of these keys, and again when the returned value is dropped: what this process changes meanwhile.
    pub(super) fn change<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Change<'_> {
        let change = Change { cache: self, ids: keys.filter_map(id_of).collect() };
        change.drop_rows();
        change
    }

    /// Takes in what the server says.
    fn receive(&self, PushInfo { kind, data }: &PushInfo) {
        match (kind, data.as_slice()) {
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                let keys = keys
                    .iter()
                    .filter_map(|key| if let Value::BulkString(key) = key { id_of(key) } else { None });
                keys.for_each(|id| self.drop_row(id));
            }
            // The server was emptied, or it is not known what it says.
            (PushKind::Invalidate, _) => self.drop_all(),
            _ => {}
        }
    }

    fn drop_row(&self, id: SessionId) {
        let mut shard = self.shard(id);
        shard.drops += 1;
        shard.remove(id);
    }

    fn drop_all(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.drops += 1;
            shard.rows.clear();
            shard.bytes = 0;
        }
    }

    fn is_usable(&self, entry: &Entry) -> bool {
        entry.connection.strong_count() > 0
            && entry.asked.elapsed() < self.max_age
            // Another process may have extended it.
            && entry.row.expiration > Timestamp::from(SystemTime::now())
    }

    fn shard(&self, id: SessionId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(id.as_bytes()[0]) % SHARDS])
    }
}

impl Shard {
    fn remove(&mut self, id: SessionId) {
        if let Some(entry) = self.rows.remove(&id) {
            self.bytes -= size(&entry.row);
        }
    }

    /// Drops what is not usable, and of the rest every second row until half of the room is free.
    fn make_room(&mut self, is_usable: impl Fn(&Entry) -> bool) {
        self.rows.retain(|_, entry| is_usable(entry));
        loop {
            self.bytes = self.rows.values().map(|entry| size(&entry.row)).sum();
            if self.rows.len() <= SHARD_ROWS / 2 && self.bytes <= SHARD_BYTES / 2 {
                return;
            }
            let mut is_kept = true;
            self.rows.retain(|_, _| {
                is_kept = !is_kept;
                is_kept
            });
        }
    }
}

/// A change of rows by this process, until it is acknowledged or given up.
pub(super) struct Change<'a> {
    cache: &'a NearCache,
    ids: Vec<SessionId>,
}

impl Change<'_> {
    fn drop_rows(&self) {
        self.ids.iter().for_each(|id| self.cache.drop_row(*id));
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.drop_rows();
    }
}

/// Takes in what the server says over one connection. The connection owns it, and drops it when it ends.
pub(super) struct Receiver {
    cache: Arc<NearCache>,
    is_open: Arc<()>,
}

impl Receiver {
    pub(super) fn new(cache: &Arc<NearCache>) -> Self {
        Self { cache: Arc::clone(cache), is_open: Arc::default() }
    }

    pub(super) fn tracking(&self) -> Tracking {
        Arc::downgrade(&self.is_open)
    }
}

impl AsyncPushSender for Receiver {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        self.cache.receive(&push);
        Ok(())
    }
}

/// Returns the id at the end of the key of a row; `None` for any other key.
fn id_of(key: &[u8]) -> Option<SessionId> {
    let id = key.rsplit(|byte| *byte == b':').next()?;
    str::from_utf8(id).ok()?.parse().ok()
}

/// About how many bytes an entry takes. Of the buckets of the map, half may be empty.
fn size(row: &Row) -> usize {
    2 * size_of::<(SessionId, Entry)>() + row.heap_size()
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
