//! Writing: one thread per database, which commits all waiting changes in one transaction.
//!
//! A commit costs the same for one row as for a hundred, so the changes that arrive during one commit share the next
//! one. A change is acknowledged only after the commit that contains it has succeeded. A change that fails does not
//! affect the others of its transaction.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::failure::Failure;
use super::file::{Durability, File, Link, Slot, lock};
use super::reader::Readers;

/// The most changes in one transaction: the first one waits until the last one is made.
const MAX_BATCH: usize = 128;

/// The pause between two attempts to get the write lock.
const PAUSE: Duration = Duration::from_millis(1);

/// How a change is made.
#[derive(Clone, Copy)]
pub(super) struct WriteOptions {
    /// A change that has not begun by then is not made.
    pub(super) deadline: Instant,
    pub(super) durability: Durability,
    pub(super) size: WriteSize,
}

/// How many rows a change affects.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum WriteSize {
    /// One row, which takes microseconds.
    OneRow,
    /// Any number of rows, which may take long.
    ManyRows,
}

/// The queue of changes, and the thread that makes them.
pub(super) struct Writer {
    /// `None` while being dropped.
    queue: Option<mpsc::Sender<Message>>,
    /// How many messages are in the queue.
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
    slot: Slot,
}

enum Message {
    Change(Box<dyn Change>),
    MaintainLog,
}

impl Writer {
    /// Starts the thread. If a connection breaks and there is a file, the thread opens its connection again, after
    /// it has closed those of all readers.
    pub(super) fn start(
        file: Option<Arc<File>>,
        slot: Slot,
        readers: [Arc<Readers>; 2],
    ) -> Result<Self, Failure> {
        let (queue, messages) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (log, shared) = (file.map(Log::new), slot.clone());
        let worker = Worker { messages, waiting: waiting.clone(), slot: shared, log, readers };
        let thread = thread::Builder::new().name("databag-sqlite".to_owned()).spawn(|| worker.run());
        Ok(Self { queue: Some(queue), waiting, thread: Some(thread.map_err(Failure::Thread)?), slot })
    }

    /// Makes a change and returns when it is committed.
    ///
    /// The change is made even if the future is dropped. `make` must change the database by one statement, so that a
    /// failure undoes all of it.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        options: WriteOptions,
        make: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Arc<Failure>> {
        let (reply, result) = oneshot::channel();
        let job = Job { options, make: Some(make), result: None, reply };
        if let Err(change) = self.write_here(Box::new(job)) {
            self.send(Message::Change(change));
        }
        // When the thread ends, it drops the changes that are left in its queue.
        result.await.unwrap_or_else(|_| Err(Arc::new(Failure::Closed)))
    }

    /// Makes a change on the calling thread, or returns it.
    ///
    /// A commit without a sync takes less time than waking the writer thread and being woken by it. This never waits:
    /// not for a change in the queue, not for one under way, and not for another process.
    fn write_here(&self, change: Box<dyn Change>) -> Result<(), Box<dyn Change>> {
        let options = change.options();
        let is_short = options.durability == Durability::Normal && options.size == WriteSize::OneRow;
        // The writer thread rejects a change whose deadline has passed.
        let is_late = options.deadline <= Instant::now();
        if !is_short || is_late || self.waiting.load(Ordering::Relaxed) > 0 {
            return Err(change);
        }
        let Ok(mut slot) = self.slot.try_lock() else { return Err(change) };
        let Some(link) = slot.as_mut().filter(|link| !link.broken) else { return Err(change) };
        // The writer thread gets the same failure, and can wait or open the file again.
        if begin(link, Durability::Normal).is_err() {
            return Err(change);
        }
        if complete(link, vec![change]) {
            self.send(Message::MaintainLog);
        }
        Ok(())
    }

    fn send(&self, message: Message) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(queue) = &self.queue {
            drop(queue.send(message));
        }
    }

    /// Lends the connection between two transactions. Blocks its thread.
    pub(super) fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut slot = lock(&self.slot);
        work(&mut slot.as_mut().ok_or(Failure::Closed)?.connection)
    }
}

impl Drop for Writer {
    /// Waits until the thread has made the queued changes and has closed the database, which merges the log into it.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            drop(thread.join());
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
}

impl Worker {
    fn run(mut self) {
        let slot = self.slot.clone();
        while let Ok(first) = self.messages.recv() {
            let mut batch = Vec::new();
            let mut log_is_due = false;
            let mut taken = 0;
            for message in std::iter::once(first).chain(self.messages.try_iter().take(MAX_BATCH - 1)) {
                taken += 1;
                match message {
                    Message::Change(change) => batch.push(change),
                    Message::MaintainLog => log_is_due = true,
                }
            }
            let mut slot = lock(&slot);
            log_is_due |= self.commit(&mut slot, batch);
            if let (Some(log), Some(link)) = (&mut self.log, &*slot)
                && (log_is_due || log.checkpoint.is_some())
            {
                log.maintain(&link.connection);
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

    /// Commits a batch, or fails it as a whole. Returns whether the length of the log is to be checked.
    fn commit(&mut self, slot: &mut Option<Link>, mut batch: Vec<Box<dyn Change>>) -> bool {
        loop {
            for late in batch.extract_if(.., |change| change.options().deadline <= Instant::now()) {
                late.finish(Err(Arc::new(Failure::Deadline)));
            }
            // One change that needs a sync gives it to the whole batch.
            let Some(durability) = batch.iter().map(|change| change.options().durability).max() else {
                return false;
            };
            let failure = match self.connected(slot) {
                Ok(link) => match begin(link, durability) {
                    Ok(()) => return complete(link, batch),
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
                finish(batch, &Err(Arc::new(failure)));
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
fn complete(link: &mut Link, mut batch: Vec<Box<dyn Change>>) -> bool {
    link.changes += batch.len();
    let committed = commit(link, &mut batch);
    if let Err(failure) = &committed {
        link.broken |= failure.is_of_connection();
        if !link.connection.is_autocommit() {
            link.broken |= link.connection.execute_batch("ROLLBACK").is_err();
        }
    }
    finish(batch, &committed);
    let log_is_due = link.changes >= CHANGES_PER_LOG_CHECK;
    if log_is_due {
        link.changes = 0;
    }
    log_is_due
}

fn commit(link: &mut Link, batch: &mut [Box<dyn Change>]) -> Result<(), Arc<Failure>> {
    for change in batch {
        if let Err(failure) = change.make(&link.connection) {
            link.broken |= failure.is_of_connection();
            // Some errors, such as a full disk, undo the whole transaction and not only the statement.
            if link.connection.is_autocommit() {
                return Err(failure);
            }
        }
    }
    let committed = link.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
    committed.map_err(|error| Arc::new(error.into()))?;
    // Checked after the commit: a row is acknowledged only if other processes can read it.
    if link.has_moved() { Err(Arc::new(Failure::Moved)) } else { Ok(()) }
}

fn finish(batch: Vec<Box<dyn Change>>, committed: &Result<(), Arc<Failure>>) {
    for change in batch {
        change.finish(committed.clone());
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
/// long, the writer thread copies the pages however many are left.
struct Log {
    file: Arc<File>,
    checkpoint: Option<JoinHandle<()>>,
    restart_at: i64,
}

impl Log {
    fn new(file: Arc<File>) -> Self {
        Self { file, checkpoint: None, restart_at: RESTART_PAGES }
    }

    fn maintain(&mut self, connection: &Connection) {
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
            self.restart(connection, length.pages);
        } else if is_long || behind >= CHECKPOINT_PAGES {
            let file = self.file.clone();
            let copy = move || {
                if let Ok(link) = file.writer(Duration::ZERO) {
                    // SQLite refuses it while another process makes a checkpoint, which has the same effect.
                    drop(checkpoint(&link.connection, "PASSIVE"));
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
