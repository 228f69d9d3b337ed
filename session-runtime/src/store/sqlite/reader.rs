//! Reading: on the calling thread, over a connection that never waits for a lock.
//!
//! With a write-ahead log a reader needs no lock that a writer holds. So reading one row takes microseconds, less than
//! handing the read to another thread. A read that may take longer, and the rare read that finds the database locked,
//! run on a thread that may block.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::failure::Failure;
use super::file::{File, Link, Slot, lock};

/// A pool of connections, each opened when it is first used.
pub(super) struct Readers {
    /// The file to open. `None` for a database in memory, whose only connection is open already.
    file: Option<Arc<File>>,
    slots: Box<[Slot]>,
}

impl Readers {
    pub(super) fn of_file(file: Arc<File>, size: usize) -> Self {
        Self { file: Some(file), slots: (0..size).map(|_| Slot::default()).collect() }
    }

    /// Reads over the writer's own connection, which is the only one of a database in memory.
    pub(super) fn shared(slot: Slot) -> Self {
        Self { file: None, slots: Box::new([slot]) }
    }

    /// Closes every connection to the file. None is opened again until the result is dropped.
    pub(super) fn close(&self) -> Vec<MutexGuard<'_, Option<Link>>> {
        // Without a file the connection belongs to the writer.
        let slots = if self.file.is_some() { &*self.slots } else { &[] };
        let mut closed: Vec<_> = slots.iter().map(|slot| lock(slot)).collect();
        for slot in &mut closed {
            **slot = None;
        }
        closed
    }

    /// Reads without waiting. `None` if every connection is in use or the database is locked.
    pub(super) fn try_read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Option<Result<T, Failure>> {
        let first = own_slot();
        let mut slot = (0..self.slots.len()).find_map(|n| {
            match self.slots[(first + n) % self.slots.len()].try_lock() {
                Ok(slot) => Some(slot),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        })?;
        match self.read_over(&mut slot, |link| read(&link.connection)) {
            Err(failure) if failure.is_busy() => None,
            result => Some(result),
        }
    }

    /// Reads, and waits for a connection and for locks until the deadline. Blocks its thread.
    pub(super) fn read<T>(
        &self,
        deadline: Instant,
        mut read: impl FnMut(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut slot = lock(&self.slots[own_slot() % self.slots.len()]);
        loop {
            if Instant::now() >= deadline {
                return Err(Failure::Deadline);
            }
            match self.read_over(&mut slot, |link| read(&link.connection)) {
                Err(failure) if failure.is_busy() => std::thread::sleep(PAUSE),
                result => return result,
            }
        }
    }

    fn read_over<T>(
        &self,
        slot: &mut Option<Link>,
        read: impl FnOnce(&Link) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(file) = &self.file else {
            return read(slot.as_ref().ok_or(Failure::Closed)?);
        };
        if slot.as_mut().is_some_and(Link::is_stale) {
            *slot = None;
        }
        let link = match slot {
            Some(link) => link,
            None => slot.insert(file.reader()?),
        };
        let result = read(link);
        if result.as_ref().is_err_and(Failure::is_of_connection) {
            *slot = None;
        }
        result
    }
}

/// The pause between two attempts to get a lock.
const PAUSE: Duration = Duration::from_millis(1);

/// The slot that a thread tries first: another one for each thread, so that threads rarely wait for each other.
fn own_slot() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    OWN.with(|own| *own)
}
