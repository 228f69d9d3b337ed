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

use super::fields::parse_id;
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
        let change = Change { cache: self, ids: Some(keys.filter_map(id_of).collect()) };
        change.drop_rows();
        change
    }

    /// The same for a change of rows that are not known before, nor afterwards if its answer is lost.
    pub(super) fn change_any(&self) -> Change<'_> {
        let change = Change { cache: self, ids: None };
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

    pub(super) fn drop_row(&self, id: SessionId) {
        let mut shard = self.shard(id);
        shard.drops += 1;
        shard.remove(id);
    }

    fn drop_all(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.drops += 1;
            shard.rows = HashMap::new();
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
            self.shrink();
        }
    }

    /// Gives back the buckets of many rows that are no longer here.
    fn shrink(&mut self) {
        if self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to(2 * self.rows.len());
        }
    }

    /// Drops what is not usable, and of the rest every second row until half of the room is free.
    fn make_room(&mut self, is_usable: impl Fn(&Entry) -> bool) {
        self.rows.retain(|_, entry| is_usable(entry));
        loop {
            self.bytes = self.rows.values().map(|entry| size(&entry.row)).sum();
            if self.rows.len() <= SHARD_ROWS / 2 && self.bytes <= SHARD_BYTES / 2 {
                return self.shrink();
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
    /// `None` for all.
    ids: Option<Vec<SessionId>>,
}

impl Change<'_> {
    fn drop_rows(&self) {
        match &self.ids {
            Some(ids) => ids.iter().for_each(|id| self.cache.drop_row(*id)),
            None => self.cache.drop_all(),
        }
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
    parse_id(key.rsplit(|byte| *byte == b':').next()?)
}

/// About how many bytes an entry takes. Of the buckets of the map, half may be empty.
fn size(row: &Row) -> usize {
    2 * size_of::<(SessionId, Entry)>() + row.heap_size()
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    struct World {
        cache: Arc<NearCache>,
        table: Arc<Table>,
        connection: Receiver,
    }

    impl World {
        fn new(max_age: Duration) -> Self {
            let cache = Arc::new(NearCache::new(max_age));
            let connection = Receiver::new(&cache);
            Self { cache, table: Arc::new(Table::new("sessions")), connection }
        }

        fn ask(&self, row: &Row) -> Read {
            self.cache.find(&self.table, row.id).expect_err("it has to be read")
        }

        fn answer(&self, read: Read, row: &Row) {
            self.cache.keep(read, &self.table, row, self.connection.tracking());
        }

        fn read(&self, row: &Row) {
            self.answer(self.ask(row), row);
        }

        fn has(&self, row: &Row) -> bool {
            self.cache.find(&self.table, row.id).is_ok_and(|found| found == *row)
        }

        fn says(&self, kind: PushKind, data: Vec<Value>) {
            assert!(self.connection.send(PushInfo { kind, data }).is_ok());
        }
    }

    fn row(n: u32, length: usize) -> Row {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_le_bytes());
        let expiration = Timestamp::from(SystemTime::now()).saturating_add(LONG);
        Row::new(SessionId::from_bytes(id), vec![7; length], Timestamp::default(), expiration, 1)
    }

    fn key(row: &Row) -> Vec<u8> {
        format!("databag:{{sessions:{:02x}}}:{}", row.id.as_bytes()[0], row.id).into_bytes()
    }

    fn names(keys: &[Vec<u8>]) -> Vec<Value> {
        vec![Value::Array(keys.iter().cloned().map(Value::BulkString).collect())]
    }

    #[test]
    fn a_row_is_kept_until_the_server_names_it() {
        let (world, one, two) = (World::new(LONG), row(1, 100), row(2, 100));
        for row in [&one, &two] {
            world.read(row);
            assert!(world.has(row));
        }
        world.says(PushKind::Invalidate, names(&[b"databag:{sessions:01}".to_vec(), key(&one)]));
        assert!(!world.has(&one) && world.has(&two));
        world.says(PushKind::Invalidate, vec![Value::Nil]);
        assert!(!world.has(&two), "the server was emptied");
    }

    #[test]
    fn a_reply_that_may_be_older_than_a_change_is_not_kept() {
        let row = row(1, 100);
        let key = key(&row);
        let keys = || std::iter::once(key.as_slice());
        let named = |world: &World| world.says(PushKind::Invalidate, names(std::slice::from_ref(&key)));
        let emptied = |world: &World| world.says(PushKind::Invalidate, vec![Value::Nil]);
        let written = |world: &World| drop(world.cache.change(keys()));
        let changes: [&dyn Fn(&World); 3] = [&named, &emptied, &written];
        for (n, change) in changes.iter().enumerate() {
            let world = World::new(LONG);
            let read = world.ask(&row);
            change(&world);
            world.answer(read, &row);
            assert!(!world.has(&row), "{n}");
        }
        let world = World::new(LONG);
        world.read(&row);
        let change = world.cache.change(keys());
        assert!(!world.has(&row), "this process is changing it");
        world.read(&row);
        let late = world.ask(&self::row(1 + (1 << 8), 100));
        drop(change);
        assert!(!world.has(&row), "it may have been read before the change");
        world.answer(late, &row);
        assert!(!world.has(&row), "it was asked for before the end of the change");
    }

    #[test]
    fn a_row_is_used_for_a_limited_time_since_it_was_asked_for() {
        const SHORT: Duration = Duration::from_millis(20);
        let (world, row) = (World::new(SHORT), row(1, 100));
        let read = world.ask(&row);
        std::thread::sleep(SHORT);
        world.answer(read, &row);
        assert!(!world.has(&row));
    }

    #[test]
    fn the_rows_of_a_connection_that_has_ended_are_not_used() {
        let (mut world, row) = (World::new(LONG), row(1, 100));
        world.read(&row);
        let next = Receiver::new(&world.cache);
        drop(std::mem::replace(&mut world.connection, next));
        assert!(!world.has(&row));
    }

    #[test]
    fn a_row_that_has_expired_or_is_of_another_handle_is_not_used() {
        let world = World::new(LONG);
        let expired = Row { expiration: Timestamp::from(SystemTime::now()), ..row(1, 100) };
        world.read(&expired);
        assert!(!world.has(&expired));
        world.read(&row(2, 100));
        assert!(world.cache.find(&Arc::new(Table::new("sessions")), row(2, 100).id).is_err());
    }

    /// A way in which rows are dropped.
    type Dropping<'a> = dyn Fn(&World) + 'a;

    #[test]
    fn no_buckets_are_left_of_many_rows() {
        let rows: Vec<_> = (0..20_000).map(|n| row(n, 0)).collect();
        let capacity = |world: &World| -> usize {
            world.cache.shards.iter().map(|shard| lock(shard).rows.capacity()).sum()
        };
        let named = |world: &World| {
            for rows in rows.chunks(100) {
                world.says(PushKind::Invalidate, names(&rows.iter().map(key).collect::<Vec<_>>()));
            }
        };
        let emptied = |world: &World| world.says(PushKind::Invalidate, vec![Value::Nil]);
        let displaced = |world: &World| (20_000..22_000).for_each(|n| world.read(&row(n, SHARD_BYTES / 8)));
        // A map with few buckets has room for three.
        let ways: [(&Dropping<'_>, _); 3] = [(&named, 3), (&emptied, 0), (&displaced, 8 * 4)];
        for (n, (drop_rows, most)) in ways.into_iter().enumerate() {
            let world = World::new(LONG);
            for row in &rows {
                world.read(row);
            }
            assert!(capacity(&world) > 20_000);
            drop_rows(&world);
            assert!(capacity(&world) <= SHARDS * most, "{n}: {}", capacity(&world));
        }
    }

    #[test]
    fn rows_and_bytes_are_bounded() {
        for (length, rows) in [(0, 32_768), (10_000, 2_000), (SHARD_BYTES / 2 - 2_000, 128), (SHARD_BYTES, 0)]
        {
            let world = World::new(LONG);
            for n in 0..50_000 / u32::try_from(1 + length / 1_000).expect("few") {
                let row = row(n, length);
                world.read(&row);
                assert_eq!(world.has(&row), length < SHARD_BYTES);
            }
            let shards: Vec<_> = world.cache.shards.iter().map(lock).collect();
            let kept: usize = shards.iter().map(|shard| shard.rows.len()).sum();
            let bytes: usize = shards.iter().map(|shard| shard.bytes).sum();
            let counted: usize =
                shards.iter().flat_map(|shard| shard.rows.values()).map(|entry| size(&entry.row)).sum();
            assert_eq!(bytes, counted);
            assert!(
                kept <= rows && kept >= rows / 4 && bytes <= 16 << 20,
                "{length}: {kept} rows, {bytes} bytes"
            );
        }
    }
}
