//! Writing: one thread per database, which commits all changes that wait as one transaction.
//!
//! A commit costs the same for one row as for a hundred, so the changes that arrive while one commit
//! is under way share the next. Each is answered after the commit that contains it has succeeded, and
//! never before; a change that fails leaves the others of its transaction alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::file::{File, Link, Slot, lock};
use super::reader::Readers;
use super::{Durability, Failure};

/// More would make the first of a transaction wait for the last.
const MAX_BATCH: usize = 128;

/// Between two attempts at the write lock.
const PAUSE: Duration = Duration::from_millis(1);

/// What a change is to be made under.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// A change that has not begun by then is not made.
    pub(super) deadline: Instant,
    pub(super) durability: Durability,
    pub(super) extent: Extent,
}

/// How much a change may touch.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Extent {
    /// One row, in microseconds.
    Row,
    /// Any number of rows, for any time.
    Rows,
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
    TendLog,
}

impl Writer {
    /// Starts the thread. A connection that breaks is opened again from the file, if there is one, and
    /// with it those of all readers.
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
    /// It is made even if the future is dropped. `make` must change the database by one statement, so
    /// that all of it is undone if it fails.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        terms: Terms,
        make: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Arc<Failure>> {
        let (reply, answer) = oneshot::channel();
        let job = Job { terms, make: Some(make), result: None, reply };
        if let Err(change) = self.write_here(Box::new(job)) {
            self.send(Message::Change(change));
        }
        // A thread that has ended drops what was sent to it.
        answer.await.unwrap_or_else(|_| Err(Arc::new(Failure::Closed)))
    }

    /// Makes a change on the calling thread, or hands it back.
    ///
    /// Without a sync a commit takes less time than waking the writing thread and being woken by it.
    /// This waits for nothing: not for a change in the queue, nor one under way, nor another process.
    fn write_here(&self, change: Box<dyn Change>) -> Result<(), Box<dyn Change>> {
        let terms = change.terms();
        let is_short = terms.durability == Durability::Normal && terms.extent == Extent::Row;
        if !is_short || self.waiting.load(Ordering::Relaxed) > 0 {
            return Err(change);
        }
        let Ok(mut slot) = self.slot.try_lock() else { return Err(change) };
        let Some(link) = slot.as_mut().filter(|link| !link.broken) else { return Err(change) };
        // The thread meets the same trouble, and knows how to wait or to open the file again.
        if begin(link, Durability::Normal).is_err() {
            return Err(change);
        }
        if finish(link, vec![change]) {
            self.send(Message::TendLog);
        }
        Ok(())
    }

    fn send(&self, message: Message) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(queue) = &self.queue {
            drop(queue.send(message));
        }
    }

    /// Lends the connection between two transactions. Not for an async thread.
    pub(super) fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut slot = lock(&self.slot);
        work(&mut slot.as_mut().ok_or(Failure::Closed)?.connection)
    }
}

impl Drop for Writer {
    /// Waits until the thread has made what is queued and has closed the database, which folds the
    /// log into it.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported where it happened.
            drop(thread.join());
        }
    }
}

/// A change in the queue, whatever it answers.
trait Change: Send {
    fn terms(&self) -> Terms;
    /// Makes the change within a transaction.
    fn make(&mut self, connection: &Connection) -> Result<(), Arc<Failure>>;
    /// Answers, once it is known what became of the transaction.
    fn answer(self: Box<Self>, committed: Result<(), Arc<Failure>>);
}

struct Job<T, F> {
    terms: Terms,
    make: Option<F>,
    result: Option<Result<T, Arc<Failure>>>,
    reply: oneshot::Sender<Result<T, Arc<Failure>>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T, Failure> + Send> Change for Job<T, F> {
    fn terms(&self) -> Terms {
        self.terms
    }

    fn make(&mut self, connection: &Connection) -> Result<(), Arc<Failure>> {
        let Some(make) = self.make.take() else { return Ok(()) };
        let result = make(connection).map_err(Arc::new);
        let outcome = result.as_ref().map(drop).map_err(Arc::clone);
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, committed: Result<(), Arc<Failure>>) {
        let result = self.result.unwrap_or_else(|| Err(Arc::new(Failure::Closed)));
        // Nobody may be waiting any more.
        drop(self.reply.send(committed.and(result)));
    }
}

/// What runs on the thread.
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
                    Message::TendLog => log_is_due = true,
                }
            }
            let mut slot = lock(&slot);
            log_is_due |= self.commit(&mut slot, batch);
            if let (Some(log), Some(link)) = (&mut self.log, &*slot)
                && (log_is_due || log.checkpoint.is_some())
            {
                log.tend(&link.connection);
            }
            // Not before: whoever finds nothing waiting competes for the connection, and may win for ever.
            self.waiting.fetch_sub(taken, Ordering::Relaxed);
        }
        drop(self.log.take());
        for readers in &self.readers {
            drop(readers.close());
        }
        *lock(&slot) = None;
    }

    /// Commits a batch, or refuses it as a whole. Tells whether it is time to tend to the log.
    fn commit(&mut self, slot: &mut Option<Link>, mut batch: Vec<Box<dyn Change>>) -> bool {
        loop {
            for late in batch.extract_if(.., |change| change.terms().deadline <= Instant::now()) {
                late.answer(Err(Arc::new(Failure::Deadline)));
            }
            // One that insists on a sync gets it for all.
            let Some(durability) = batch.iter().map(|change| change.terms().durability).max() else {
                return false;
            };
            let failure = match self.connected(slot) {
                Ok(link) => match begin(link, durability) {
                    Ok(()) => return finish(link, batch),
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
                answer(batch, &Err(Arc::new(failure)));
                return false;
            }
        }
    }

    fn connected<'a>(&mut self, slot: &'a mut Option<Link>) -> Result<&'a mut Link, Failure> {
        if let Some(log) = &mut self.log
            && slot.as_ref().is_none_or(|link| link.broken)
        {
            // All are closed before one is opened again: SQLite shares between the connections to one
            // file its locks, and that the shared memory beside it could only be opened for reading.
            log.join();
            let _closed = self.readers.each_ref().map(|readers| readers.close());
            *slot = None;
            *slot = Some(log.file.writer(Duration::ZERO)?);
        }
        slot.as_mut().ok_or(Failure::Closed)
    }
}

/// Begins a transaction that holds the write lock from the start: one that takes it later can be
/// refused it for good (sqlite.org, "Transaction" §2.2).
fn begin(link: &mut Link, durability: Durability) -> Result<(), Failure> {
    link.synchronize(durability)?;
    link.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    Ok(())
}

/// Makes the changes in the transaction that has begun, commits it and answers. Tells whether it is
/// time to tend to the log.
fn finish(link: &mut Link, mut batch: Vec<Box<dyn Change>>) -> bool {
    link.changes += batch.len();
    let committed = commit(link, &mut batch);
    if let Err(failure) = &committed {
        link.broken |= failure.is_of_connection();
        if !link.connection.is_autocommit() {
            link.broken |= link.connection.execute_batch("ROLLBACK").is_err();
        }
    }
    answer(batch, &committed);
    let log_is_due = link.changes >= CHANGES_PER_LOOK;
    if log_is_due {
        link.changes = 0;
    }
    log_is_due
}

fn commit(link: &mut Link, batch: &mut [Box<dyn Change>]) -> Result<(), Arc<Failure>> {
    for change in batch {
        if let Err(failure) = change.make(&link.connection) {
            link.broken |= failure.is_of_connection();
            // Some errors, a full disk among them, undo the whole transaction and not the statement.
            if link.connection.is_autocommit() {
                return Err(failure);
            }
        }
    }
    let committed = link.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
    committed.map_err(|error| Arc::new(error.into()))?;
    // Looked for after the commit: a row is acknowledged only if others can find it.
    if link.has_moved() { Err(Arc::new(Failure::Moved)) } else { Ok(()) }
}

fn answer(batch: Vec<Box<dyn Change>>, committed: &Result<(), Arc<Failure>>) {
    for change in batch {
        change.answer(committed.clone());
    }
}

/// After how many changes the length of the log is looked at.
const CHANGES_PER_LOOK: usize = 64;

/// How many pages of the log are worth a checkpoint.
const CHECKPOINT_PAGES: i64 = 4_000;

/// From how many pages on the log is made to start over: 64 MiB.
const RESTART_PAGES: i64 = 16_384;

/// How many pages the writing thread may copy itself: a few milliseconds in which nobody can write.
const RESTART_BEHIND: i64 = 256;

/// How long starting over may wait for readers that still use the log.
const RESTART_PATIENCE: Duration = Duration::from_millis(5);

/// The write-ahead log, kept short.
///
/// A checkpoint made by the committing connection, as is SQLite's default, is what the slowest
/// commits wait for. So a thread of its own copies pages into the database while commits go on. But
/// under constant load it never catches up with the last page, without which the log cannot start
/// over and grows for ever. So when it has become long, the writing thread copies the last few pages,
/// and the next commit begins at the start of the log. If they do not become few, it does so all the
/// same once the log is twice as long.
struct Log {
    file: Arc<File>,
    checkpoint: Option<JoinHandle<()>>,
    restart_at: i64,
}

impl Log {
    fn new(file: Arc<File>) -> Self {
        Self { file, checkpoint: None, restart_at: RESTART_PAGES }
    }

    fn tend(&mut self, connection: &Connection) {
        // What fails here is tried again after more changes; what is wrong with the file, they report.
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
                    // Refused while another process makes one, which does as well.
                    drop(checkpoint(&link.connection, "PASSIVE"));
                }
            };
            self.checkpoint = thread::Builder::new().name("databag-checkpoint".to_owned()).spawn(copy).ok();
        }
    }

    /// Waits for the checkpoint that is being made.
    fn join(&mut self) {
        if let Some(thread) = self.checkpoint.take() {
            drop(thread.join());
        }
    }

    fn restart(&mut self, connection: &Connection, pages: i64) {
        let restarted =
            connection.busy_timeout(RESTART_PATIENCE).and_then(|()| checkpoint(connection, "RESTART"));
        // Changes wait in a queue, not in SQLite.
        drop(connection.busy_timeout(Duration::ZERO));
        self.restart_at = match restarted {
            Ok(length) if !length.busy => RESTART_PAGES,
            // A long read is in the way. To wait for it after each commit would help nobody.
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
