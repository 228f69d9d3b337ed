//! Writing: all changes that wait are committed in one transaction.
//!
//! A commit costs nearly the same for one row as for a hundred. A change is acknowledged only after the commit that
//! contains it has succeeded. A change that fails does not affect the others of its transaction.
//!
//! One thread per database may wait: for the disk, for another process, for a change of many rows. Changes that need no
//! sync are committed on the thread of a caller, because that takes less time than waking the writer thread and being
//! woken by it: a change that is alone at once, and changes of many callers in groups. The first one of a group starts a
//! task, its leader. While the leader gives way to the other tasks of its runtime, others join. A caller only waits for
//! its result: what becomes of its future does not concern the group. Each runtime has a group of its own, so a worker
//! that a handler blocks delays no other worker.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use super::cache::Cache;
use super::failure::Failure;
use super::file::{Durability, File, Link, Slot, lock};
use super::reader::Readers;
use crate::token::SessionId;

/// How many changes fill a transaction: the first one waits until the last one is made.
const MAX_BATCH: usize = 128;

/// The pause between two attempts to get the write lock.
const PAUSE: Duration = Duration::from_millis(1);

/// How a change is made.
#[derive(Clone, Copy)]
pub(super) struct WriteOptions {
    /// A change that has not begun by then is not made.
    pub(super) deadline: Instant,
    pub(super) durability: Durability,
    pub(super) affected: Affected,
}

/// Which rows a change affects.
#[derive(Clone, Copy)]
pub(super) enum Affected {
    /// One row: the ids that it has before and after. That takes microseconds.
    Rows([Option<SessionId>; 2]),
    /// Any number of rows, which may take long.
    Any,
}

impl Affected {
    /// Returns how many changes of one row it may be, for the length of the log.
    fn weight(self) -> usize {
        match self {
            Self::Rows(_) => 1,
            Self::Any => 16,
        }
    }
}

/// How many changes in a row are committed at once after a leader that remained alone: a single caller pays for few
/// leaders, and many callers are noticed soon.
const ALONE: u32 = 31;

/// The callers' side of a database, and the thread behind it.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    callers: Mutex<Callers>,
    /// How many messages are in the queue.
    waiting: Arc<AtomicUsize>,
    slot: Slot,
    cache: Arc<Cache>,
}

struct Callers {
    /// The queue of the thread. `None` after the store was dropped.
    queue: Option<mpsc::Sender<Message>>,
    /// The changes that leaders are about to take, one group for each runtime.
    groups: Vec<(runtime::Id, Changes)>,
    /// How many changes are still committed without a leader.
    alone: u32,
}

type Changes = Vec<Box<dyn Change>>;

enum Message {
    Changes(Batch),
    MaintainLog,
}

/// Changes whose results go to their leader, if they have one.
struct Batch {
    changes: Changes,
    leader: Option<oneshot::Sender<Committed>>,
}

/// Changes and what became of their transaction. Each caller is told when this is dropped: by the leader, because one
/// thread wakes another for each message. If the leader has ended, by the writer thread.
struct Committed {
    changes: Changes,
    result: Result<(), Arc<Failure>>,
}

impl Drop for Committed {
    fn drop(&mut self) {
        for change in mem::take(&mut self.changes) {
            change.finish(self.result.clone());
        }
    }
}

impl Writer {
    /// Starts the thread. If a connection breaks and there is a file, the thread opens its connection again, after
    /// it has closed those of all readers.
    pub(super) fn start(
        file: Option<Arc<File>>,
        slot: Slot,
        readers: [Arc<Readers>; 2],
        cache: Arc<Cache>,
    ) -> Result<Self, Failure> {
        let (queue, messages) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            messages,
            waiting: waiting.clone(),
            slot: slot.clone(),
            log: file.map(Log::new),
            readers,
            cache: cache.clone(),
        };
        let thread = thread::Builder::new().name("databag-sqlite".to_owned()).spawn(|| worker.run());
        let callers = Callers { queue: Some(queue), groups: Vec::new(), alone: 0 };
        let shared = Shared { callers: Mutex::new(callers), waiting, slot, cache };
        Ok(Self { shared: Arc::new(shared), thread: Some(thread.map_err(Failure::Thread)?) })
    }

    /// Makes a change and returns when it is committed.
    ///
    /// The change is made even if the future is dropped. `make` must change the database by one statement, or
    /// within a savepoint, so that a failure undoes all of it.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        options: WriteOptions,
        make: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Arc<Failure>> {
        let (reply, result) = oneshot::channel();
        self.shared.start(Box::new(Job { options, make: Some(make), result: None, reply }));
        // When the thread ends, it drops the changes that are left in its queue.
        result.await.unwrap_or_else(|_| Err(Arc::new(Failure::Closed)))
    }

    /// Lends the connection between two transactions. Blocks its thread.
    pub(super) fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut slot = lock(&self.shared.slot);
        work(&mut slot.as_mut().ok_or(Failure::Closed)?.connection)
    }
}

impl Drop for Writer {
    /// Waits until the thread has made the changes that wait and has closed the database, which merges the log into it.
    fn drop(&mut self) {
        let mut callers = lock(&self.shared.callers);
        // A leader may be a task of the thread that waits here.
        for (_, changes) in mem::take(&mut callers.groups) {
            self.shared.send(&callers, Message::Changes(Batch { changes, leader: None }));
        }
        callers.queue = None;
        drop(callers);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Commits a change, or sees that it is committed.
    fn start(self: &Arc<Self>, change: Box<dyn Change>) {
        let options = change.options();
        let mut changes = vec![change];
        let runtime = Handle::try_current().ok().filter(|_| matches!(options.affected, Affected::Rows(_)));
        let mut callers = lock(&self.callers);
        let is_alone = callers.groups.is_empty() && callers.alone > 0;
        if is_alone {
            callers.alone -= 1;
        }
        let needs_thread = is_alone && options.durability == Durability::Full;
        let Some(runtime) = runtime.filter(|_| !needs_thread) else {
            return self.send(&callers, Message::Changes(Batch { changes, leader: None }));
        };
        if is_alone {
            drop(callers);
            match self.commit_here(changes) {
                Ok(()) => return,
                Err(returned) => changes = returned,
            }
            callers = lock(&self.callers);
            callers.alone = 0;
        }
        let id = runtime.id();
        match callers.groups.iter_mut().find(|(of, _)| *of == id) {
            Some((_, group)) if group.len() >= MAX_BATCH => {
                self.send(&callers, Message::Changes(Batch { changes, leader: None }));
            }
            Some((_, group)) => group.append(&mut changes),
            None => {
                callers.groups.push((id, changes));
                drop(callers);
                runtime.spawn(Leader { shared: self.clone(), runtime: id, has_taken: false }.run());
            }
        }
    }

    /// Commits changes on the calling thread, or returns them.
    ///
    /// This never waits: not for the disk, not for a change in the queue, not for one under way, and not for another
    /// process.
    fn commit_here(&self, changes: Changes) -> Result<(), Changes> {
        let needs_sync = changes.iter().any(|change| change.options().durability == Durability::Full);
        // The writer thread rejects a change whose deadline has passed.
        let now = Instant::now();
        let is_late = changes.iter().any(|change| change.options().deadline <= now);
        if needs_sync || is_late || self.waiting.load(Ordering::Relaxed) > 0 {
            return Err(changes);
        }
        let Ok(mut slot) = self.slot.try_lock() else { return Err(changes) };
        let Some(link) = slot.as_mut().filter(|link| !link.broken) else { return Err(changes) };
        // The writer thread gets the same failure, and can wait or open the file again.
        if begin(link, Durability::Normal).is_err() {
            return Err(changes);
        }
        let log_is_due = complete(link, vec![Batch { changes, leader: None }], &self.cache);
        drop(slot);
        if log_is_due {
            self.send(&lock(&self.callers), Message::MaintainLog);
        }
        Ok(())
    }

    fn send(&self, callers: &Callers, message: Message) {
        if let Some(queue) = &callers.queue {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            drop(queue.send(message));
        }
    }
}

/// The task that commits a group.
struct Leader {
    shared: Arc<Shared>,
    runtime: runtime::Id,
    has_taken: bool,
}

/// How often a leader gives way while another thread commits, before its group goes to the writer thread.
const TURNS: u32 = 8;

impl Leader {
    async fn run(mut self) {
        let shared = self.shared.clone();
        for _ in 0..TURNS {
            // Other tasks that are ready run first, and what they change joins the group.
            tokio::task::yield_now().await;
            // The writer thread takes all groups that wait for it at once.
            if shared.waiting.load(Ordering::Relaxed) > 0 || shared.slot.try_lock().is_ok() {
                break;
            }
        }
        let changes = self.take();
        if changes.is_empty() {
            return;
        }
        let Err(changes) = shared.commit_here(changes) else { return };
        let (leader, committed) = oneshot::channel();
        shared.send(&lock(&shared.callers), Message::Changes(Batch { changes, leader: Some(leader) }));
        drop(committed.await);
    }

    /// Takes the group. It is empty if the store was dropped.
    fn take(&mut self) -> Changes {
        self.has_taken = true;
        let mut callers = lock(&self.shared.callers);
        let at = callers.groups.iter().position(|(runtime, _)| *runtime == self.runtime);
        let group = at.map_or_else(Vec::new, |at| callers.groups.swap_remove(at).1);
        callers.alone = if group.len() == 1 { ALONE } else { 0 };
        group
    }
}

impl Drop for Leader {
    /// If its runtime ends before the task, the writer thread commits the group.
    fn drop(&mut self) {
        if !self.has_taken {
            let changes = self.take();
            let batch = Batch { changes, leader: None };
            self.shared.send(&lock(&self.shared.callers), Message::Changes(batch));
        }
    }
}

/// A change in the queue, without the type of its result.
trait Change: Send {
    fn options(&self) -> WriteOptions;
    /// Makes the change within a transaction.
    fn make(&mut self, connection: &Connection) -> Result<(), Arc<Failure>>;
    /// Sends the result of the change, or the failure of its transaction, to the caller.
    fn finish(self: Box<Self>, committed: Result<(), Arc<Failure>>);
}

struct Job<T, F> {
    options: WriteOptions,
    make: Option<F>,
    result: Option<Result<T, Arc<Failure>>>,
    reply: oneshot::Sender<Result<T, Arc<Failure>>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T, Failure> + Send> Change for Job<T, F> {
    fn options(&self) -> WriteOptions {
        self.options
    }

    fn make(&mut self, connection: &Connection) -> Result<(), Arc<Failure>> {
        let Some(make) = self.make.take() else { return Ok(()) };
        let result = make(connection).map_err(Arc::new);
        let outcome = result.as_ref().map(drop).map_err(Arc::clone);
        self.result = Some(result);
        outcome
    }

    fn finish(self: Box<Self>, committed: Result<(), Arc<Failure>>) {
        let result = self.result.unwrap_or_else(|| Err(Arc::new(Failure::Closed)));
        // The caller may have stopped waiting.
        drop(self.reply.send(committed.and(result)));
    }
}

/// The state of the writer thread.
struct Worker {
    messages: mpsc::Receiver<Message>,
    waiting: Arc<AtomicUsize>,
    slot: Slot,
    log: Option<Log>,
    readers: [Arc<Readers>; 2],
    cache: Arc<Cache>,
}

impl Worker {
    fn run(mut self) {
        let slot = self.slot.clone();
        while let Ok(first) = self.messages.recv() {
            let mut batches = Vec::new();
            let mut log_is_due = false;
            let (mut taken, mut changes) = (0, 0);
            let mut next = Some(first);
            while let Some(message) = next {
                taken += 1;
                match message {
                    Message::Changes(batch) => {
                        changes += batch.changes.len();
                        batches.push(batch);
                    }
                    Message::MaintainLog => log_is_due = true,
                }
                next = if changes < MAX_BATCH { self.messages.try_recv().ok() } else { None };
            }
            let mut slot = lock(&slot);
            log_is_due |= self.commit(&mut slot, batches);
            if let (Some(log), Some(link)) = (&mut self.log, &*slot)
                && (log_is_due || log.checkpoint.is_some())
            {
                log.maintain(&link.connection, &self.cache);
            }
            // Only now: a caller that finds no change waiting makes its own change over the connection, and such
            // callers could keep this thread from it for ever.
            self.waiting.fetch_sub(taken, Ordering::Relaxed);
        }
        drop(self.log.take());
        for readers in &self.readers {
            drop(readers.close());
        }
        *lock(&slot) = None;
    }

    /// Commits all batches, or fails them as a whole. Returns whether the length of the log is to be checked.
    fn commit(&mut self, slot: &mut Option<Link>, mut batches: Vec<Batch>) -> bool {
        loop {
            let now = Instant::now();
            for batch in &mut batches {
                for late in batch.changes.extract_if(.., |change| change.options().deadline <= now) {
                    late.finish(Err(Arc::new(Failure::Deadline)));
                }
            }
            // One change that needs a sync gives it to all.
            let changes = batches.iter().flat_map(|batch| &batch.changes);
            let Some(durability) = changes.map(|change| change.options().durability).max() else {
                return false;
            };
            let failure = match self.connected(slot) {
                Ok(link) => match begin(link, durability) {
                    Ok(()) => return complete(link, batches, &self.cache),
                    Err(failure) => {
                        link.broken |= failure.is_of_connection();
                        failure
                    }
                },
                Err(failure) => failure,
            };
            if failure.is_busy() {
                thread::sleep(PAUSE);
            } else {
                finish(batches, &Err(Arc::new(failure)));
                return false;
            }
        }
    }

    fn connected<'a>(&mut self, slot: &'a mut Option<Link>) -> Result<&'a mut Link, Failure> {
        if let Some(log) = &mut self.log
            && slot.as_ref().is_none_or(|link| link.broken)
        {
            // All connections are closed before one is opened again. SQLite shares some state between the connections
            // of a process to one file: its locks, and whether the shared memory beside it is read-only.
            log.join();
            let _closed = self.readers.each_ref().map(|readers| readers.close());
            *slot = None;
            self.cache.reset();
            *slot = Some(log.file.writer(Duration::ZERO)?);
        }
        slot.as_mut().ok_or(Failure::Closed)
    }
}

/// Begins a transaction that holds the write lock from the start. A transaction that asks for the lock later can be
/// refused it for good (sqlite.org, "Transaction" §2.2).
fn begin(link: &mut Link, durability: Durability) -> Result<(), Failure> {
    link.synchronize(durability)?;
    link.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    Ok(())
}

/// Makes the changes in the transaction that has begun, commits it and sends the results. Returns whether the length of
/// the log is to be checked.
fn complete(link: &mut Link, mut batches: Vec<Batch>, cache: &Cache) -> bool {
    let changes = batches.iter().flat_map(|batch| &batch.changes);
    link.changes += changes.map(|change| change.options().affected.weight()).sum::<usize>();
    let header = cache.begin();
    let mut rows = Some(Vec::new());
    let committed = commit(link, &mut batches, &mut rows);
    if let Err(failure) = &committed {
        link.broken |= failure.is_of_connection();
        if !link.connection.is_autocommit() {
            link.broken |= link.connection.execute_batch("ROLLBACK").is_err();
        }
    }
    if link.broken {
        cache.reset();
    } else {
        cache.end(header, rows.filter(|_| committed.is_ok()));
    }
    finish(batches, &committed);
    let log_is_due = link.changes >= CHANGES_PER_LOG_CHECK;
    if log_is_due {
        link.changes = 0;
    }
    log_is_due
}

/// Makes and commits the changes. Notes which rows they change, or `None` if those are not known.
fn commit(
    link: &mut Link,
    batches: &mut [Batch],
    rows: &mut Option<Vec<SessionId>>,
) -> Result<(), Arc<Failure>> {
    for change in batches.iter_mut().flat_map(|batch| &mut batch.changes) {
        let changed = link.connection.total_changes();
        if let Err(failure) = change.make(&link.connection) {
            link.broken |= failure.is_of_connection();
            // Some errors, such as a full disk, undo the whole transaction and not only the statement.
            if link.connection.is_autocommit() {
                return Err(failure);
            }
        }
        // A limited write may have ended other rows, and a foreign key that the application made may have changed some.
        let is_one = link.connection.total_changes() - changed <= 1;
        match (change.options().affected, rows.as_mut()) {
            (Affected::Rows(ids), Some(rows)) if is_one => rows.extend(ids.into_iter().flatten()),
            _ => *rows = None,
        }
    }
    let committed = link.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
    committed.map_err(|error| Arc::new(error.into()))?;
    // Checked after the commit: a row is acknowledged only if other processes can read it.
    if link.has_moved() { Err(Arc::new(Failure::Moved)) } else { Ok(()) }
}

fn finish(batches: Vec<Batch>, result: &Result<(), Arc<Failure>>) {
    for Batch { changes, leader } in batches {
        let committed = Committed { changes, result: result.clone() };
        if let Some(leader) = leader {
            drop(leader.send(committed));
        }
    }
}

/// After how many changes the length of the log is checked.
const CHANGES_PER_LOG_CHECK: usize = 64;

/// At how many pages that are not copied yet a checkpoint starts.
const CHECKPOINT_PAGES: i64 = 4_000;

/// At how many pages the log starts over: 64 MiB.
const RESTART_PAGES: i64 = 16_384;

/// How many pages the writer thread may copy itself. That takes a few milliseconds, in which no change is made.
const RESTART_BEHIND: i64 = 256;

/// How long starting over waits for readers that still use the log.
const RESTART_TIMEOUT: Duration = Duration::from_millis(5);

/// The write-ahead log, kept short.
///
/// By default SQLite makes a checkpoint within a commit, which makes some commits slow. So here a thread of its own
/// copies pages into the database while commits go on. Under constant load that thread never reaches the last page. Until all
/// pages are copied, the log cannot start over, and it would grow for ever. So when the log is long and few pages are
/// left, the writer thread copies them, and the next commit begins at the start of the log. When the log is twice as
/// long, the writer thread copies the pages however many are left. What the other thread has copied it also syncs, so that
/// the writer thread waits for the disk with few pages.
struct Log {
    file: Arc<File>,
    checkpoint: Option<JoinHandle<()>>,
    restart_at: i64,
}

impl Log {
    fn new(file: Arc<File>) -> Self {
        Self { file, checkpoint: None, restart_at: RESTART_PAGES }
    }

    fn maintain(&mut self, connection: &Connection, cache: &Cache) {
        // A failure is not reported here: the next changes report what is wrong with the file.
        let Ok(length) = checkpoint(connection, "NOOP") else { return };
        let behind = length.pages - length.copied;
        let is_long = length.pages >= self.restart_at;
        let is_too_long = length.pages >= 2 * self.restart_at;
        if self.checkpoint.as_ref().is_some_and(|thread| !thread.is_finished()) && !is_too_long {
            return;
        }
        self.join();
        if is_long && behind <= RESTART_BEHIND || is_too_long {
            cache.keep_over(|| self.restart(connection, length.pages));
        } else if is_long || behind >= CHECKPOINT_PAGES {
            let file = self.file.clone();
            let copy = move || {
                if let Ok(link) = file.writer(Duration::ZERO) {
                    // SQLite refuses it while another process makes a checkpoint, which has the same effect.
                    drop(checkpoint(&link.connection, "PASSIVE"));
                    file.sync();
                }
            };
            self.checkpoint = thread::Builder::new().name("databag-checkpoint".to_owned()).spawn(copy).ok();
        }
    }

    /// Waits for the checkpoint under way.
    fn join(&mut self) {
        if let Some(thread) = self.checkpoint.take() {
            drop(thread.join());
        }
    }

    fn restart(&mut self, connection: &Connection, pages: i64) {
        let restarted =
            connection.busy_timeout(RESTART_TIMEOUT).and_then(|()| checkpoint(connection, "RESTART"));
        // Changes wait in the queue, never in SQLite.
        drop(connection.busy_timeout(Duration::ZERO));
        self.restart_at = match restarted {
            Ok(length) if !length.busy => RESTART_PAGES,
            // A long read still uses the log. Waiting for it after each commit would slow down all writes.
            _ => pages + CHECKPOINT_PAGES,
        };
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.join();
    }
}

struct Length {
    busy: bool,
    pages: i64,
    copied: i64,
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Length> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA main.wal_checkpoint({mode})"))?;
    statement.query_row([], |row| Ok(Length { busy: row.get(0)?, pages: row.get(1)?, copied: row.get(2)? }))
}
