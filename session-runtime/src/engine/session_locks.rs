//! Locks: in one process the writers of one session wait for each other, so that conflicts stay rare.
//!
//! Correctness does not depend on them: the revision decides, across processes too.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::token::{IdMap, SessionId};

const SHARDS: usize = 16;

type Shard = Mutex<Semaphores>;
type Semaphores = IdMap<Arc<Semaphore>>;

/// The sessions that are being written.
#[derive(Debug, Default)]
pub(crate) struct SessionLocks {
    shards: [Shard; SHARDS],
}

/// The right to write a session, until it is dropped.
#[derive(Debug)]
pub(crate) struct SessionLockGuard<'a> {
    shard: &'a Shard,
    id: SessionId,
    permit: Option<OwnedSemaphorePermit>,
    has_waited: bool,
}

impl SessionLocks {
    /// Waits for the lock of a session, in the order of the calls.
    pub(crate) async fn lock(&self, id: SessionId) -> SessionLockGuard<'_> {
        // An id is a hash: its bytes are uniformly distributed.
        let shard = &self.shards[usize::from(id.as_bytes()[0]) % SHARDS];
        let semaphore = open(shard).entry(id).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
        let has_waited = semaphore.available_permits() == 0;
        let mut guard = SessionLockGuard { shard, id, permit: None, has_waited };
        guard.permit = semaphore.acquire_owned().await.ok();
        guard
    }
}

impl SessionLockGuard<'_> {
    /// Returns whether another request had the lock, and so has likely written the session.
    pub(crate) fn has_waited(&self) -> bool {
        self.has_waited
    }
}

impl Drop for SessionLockGuard<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut semaphores = open(self.shard);
        // A waiting request holds a clone of the semaphore until after its own turn.
        if let Entry::Occupied(semaphore) = semaphores.entry(self.id)
            && Arc::strong_count(semaphore.get()) == 1
        {
            semaphore.remove();
        }
    }
}

fn open(shard: &Shard) -> MutexGuard<'_, Semaphores> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_second_writer_waits_and_nothing_is_left_behind() {
        let locks = SessionLocks::default();
        let id = SessionId::from_bytes([1; 32]);
        let first = locks.lock(id).await;
        let other = locks.lock(SessionId::from_bytes([2; 32])).await;
        assert!(timeout(Duration::from_millis(20), locks.lock(id)).await.is_err());
        drop((first, other));
        let third = timeout(Duration::from_secs(5), locks.lock(id)).await.expect("the lock is free");
        assert!(!third.has_waited());
        drop(third);
        assert!(locks.shards.iter().all(|shard| open(shard).is_empty()));
    }
}
