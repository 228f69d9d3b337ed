//! Which sessions are over although the store may not say so: ended, renamed, or still to be deleted.
//!
//! A store answers "no such row" for a session that has ended and for a session that has another id now. A log-out
//! must tell the two apart: the first is what it wants, the second is a session that still lives. And a session
//! whose deletion failed is refused by this process until the store has deleted it.
//!
//! Both memories are bounded, because clients can fill them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::store::DynStore;
use crate::token::SessionId;

/// How many ended and renamed sessions are remembered: more than can change while one request is in flight.
const RECENT: usize = 4096;
/// How many sessions can wait for their deletion: 4 MiB of ids.
const BLOCKED: usize = 65_536;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What became of a session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tombstone {
    Ended,
    RenamedTo(Renamed),
}

/// The next id of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    pub(crate) id: SessionId,
    /// Whether the session is of the same user as before, or of none as before.
    pub(crate) keeps_user: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    recent: Mutex<Recent>,
    /// Spares a load the lock of `blocked`, which is nearly always empty.
    blocked_count: AtomicUsize,
    blocked: Mutex<Blocked>,
}

#[derive(Debug, Default)]
struct Recent {
    by_id: HashMap<SessionId, Tombstone>,
    oldest_first: VecDeque<SessionId>,
}

#[derive(Debug, Default)]
struct Blocked {
    by_id: HashMap<SessionId, Block>,
    /// The ids that the store still has to delete, in the order of the attempts.
    undeleted: VecDeque<SessionId>,
    /// Whether a task retries the deletions.
    is_retrying: bool,
}

#[derive(Clone, Copy, Debug)]
enum Block {
    UntilDeleted,
    Until(Instant),
}

impl Tombstones {
    pub(crate) fn note(&self, id: SessionId, tombstone: Tombstone) {
        let mut recent = lock(&self.recent);
        if recent.by_id.insert(id, tombstone).is_none() {
            recent.oldest_first.push_back(id);
        }
        if recent.oldest_first.len() > RECENT
            && let Some(oldest) = recent.oldest_first.pop_front()
        {
            recent.by_id.remove(&oldest);
        }
    }

    pub(crate) fn of(&self, id: SessionId) -> Option<Tombstone> {
        lock(&self.recent).by_id.get(&id).copied()
    }

    /// Follows the renames that this process has made.
    pub(crate) fn latest_id(&self, mut id: SessionId) -> SessionId {
        let recent = lock(&self.recent);
        while let Some(Tombstone::RenamedTo(next)) = recent.by_id.get(&id) {
            id = next.id;
        }
        id
    }

    pub(super) fn is_blocked(&self, id: SessionId) -> bool {
        self.blocked_count.load(Ordering::Acquire) != 0 && lock(&self.blocked).by_id.contains_key(&id)
    }

    /// Refuses a session from now on, and retries its deletion until the store confirms it.
    pub(super) fn block(self: &Arc<Self>, id: SessionId, store: Arc<dyn DynStore>) {
        let mut blocked = lock(&self.blocked);
        if !matches!(blocked.by_id.insert(id, Block::UntilDeleted), Some(Block::UntilDeleted)) {
            blocked.undeleted.push_back(id);
        }
        if blocked.by_id.len() > BLOCKED
            && let Some(oldest) = blocked.undeleted.pop_front()
        {
            blocked.by_id.remove(&oldest);
            tracing::error!(
                session = ?oldest,
                "too many sessions wait for their deletion: one that was to end lives on until it expires"
            );
        }
        self.count(&blocked);
        if !blocked.is_retrying
            && let Ok(runtime) = Handle::try_current()
        {
            blocked.is_retrying = true;
            runtime.spawn(retry_deletions(RetryTask(Arc::downgrade(self)), store));
        }
    }

    /// Returns the next id to delete. It stays in the queue, in case the attempt is never finished.
    fn next_undeleted(&self) -> Option<SessionId> {
        lock(&self.blocked).undeleted.front().copied()
    }

    fn retry_later(&self, id: SessionId) {
        let mut blocked = lock(&self.blocked);
        if blocked.dequeue(id) {
            blocked.undeleted.push_back(id);
        }
    }

    fn unblock(&self, id: SessionId) {
        let mut blocked = lock(&self.blocked);
        blocked.dequeue(id);
        blocked.by_id.remove(&id);
        self.count(&blocked);
    }

    fn block_until(&self, id: SessionId, end: Instant) {
        let mut blocked = lock(&self.blocked);
        if blocked.dequeue(id) {
            blocked.by_id.insert(id, Block::Until(end));
        }
    }

    /// Drops the blocks that have passed; returns whether any is left to wait for.
    fn sweep(&self) -> bool {
        let mut blocked = lock(&self.blocked);
        let now = Instant::now();
        blocked.by_id.retain(|_, block| !matches!(block, Block::Until(end) if *end <= now));
        self.count(&blocked);
        blocked.is_retrying = !blocked.by_id.is_empty();
        blocked.is_retrying
    }

    fn count(&self, blocked: &Blocked) {
        self.blocked_count.store(blocked.by_id.len(), Ordering::Release);
    }
}

impl Blocked {
    /// Takes an id out of the queue; returns whether it was the next one. A full queue may have dropped it.
    fn dequeue(&mut self, id: SessionId) -> bool {
        let is_next = self.undeleted.front() == Some(&id);
        if is_next {
            self.undeleted.pop_front();
        }
        is_next
    }
}

/// The task that retries deletions. If it is dropped with its runtime, or the store panics, the next failed deletion
/// starts another one.
struct RetryTask(Weak<Tombstones>);

impl Drop for RetryTask {
    fn drop(&mut self) {
        if let Some(tombstones) = self.0.upgrade() {
            lock(&tombstones.blocked).is_retrying = false;
        }
    }
}

async fn retry_deletions(mut task: RetryTask, store: Arc<dyn DynStore>) {
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        let Some(tombstones) = task.0.upgrade() else { return };
        let longer = LONGEST_PAUSE.min(pause * 2);
        pause = FIRST_PAUSE;
        while let Some(id) = tombstones.next_undeleted() {
            let deadline = Instant::now() + LONGEST_PAUSE;
            match timeout_at(deadline, store.delete(id, deadline.into_std())).await {
                Ok(Ok(true)) => tombstones.unblock(id),
                // A request may be renaming it at this moment, and must find that the session was to end.
                Ok(Ok(false)) => tombstones.block_until(id, Instant::now() + LONGEST_PAUSE),
                Ok(Err(_)) | Err(_) => {
                    tombstones.retry_later(id);
                    pause = longer;
                    break;
                }
            }
        }
        if !tombstones.sweep() {
            // Another task may have been started since.
            task.0 = Weak::new();
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed_to(n: usize) -> Tombstone {
        Tombstone::RenamedTo(Renamed { id: id(n), keeps_user: true })
    }

    fn id(n: usize) -> SessionId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        SessionId::from_bytes(bytes)
    }

    #[test]
    fn the_oldest_tombstones_are_forgotten() {
        let tombstones = Tombstones::default();
        for n in 0..=RECENT {
            tombstones.note(id(n), renamed_to(n + 1));
        }
        let kept = (tombstones.of(id(0)), tombstones.of(id(1)));
        assert_eq!(kept, (None, Some(renamed_to(2))));
        assert_eq!(lock(&tombstones.recent).by_id.len(), RECENT);
        assert_eq!(tombstones.latest_id(id(1)), id(RECENT + 1));
    }

    #[cfg(feature = "memory")]
    mod with_a_store {
        use super::*;
        use crate::clock::Timestamp;
        use crate::store::memory::MemoryStore;
        use crate::store::{Row, Store};

        #[test]
        fn a_flood_of_failed_deletions_is_bounded() {
            let tombstones = Arc::new(Tombstones::default());
            let store: Arc<dyn DynStore> = Arc::new(MemoryStore::new());
            for n in 0..=BLOCKED {
                tombstones.block(id(n), store.clone());
            }
            assert_eq!(lock(&tombstones.blocked).by_id.len(), BLOCKED);
            assert!(!tombstones.is_blocked(id(0)) && tombstones.is_blocked(id(BLOCKED)));
        }

        #[tokio::test(start_paused = true)]
        async fn a_session_is_blocked_until_the_store_has_deleted_it() {
            let (tombstones, store) = (Arc::new(Tombstones::default()), Arc::new(MemoryStore::new()));
            let later = Instant::now().into_std() + Duration::from_hours(1);
            let end = Timestamp::from_millis(i64::MAX);
            let row = Row::new(id(1), Vec::new(), Timestamp::default(), end, 1);
            Store::insert(&*store, row, later).await.expect("there is room");
            tombstones.block(id(1), store.clone());
            tombstones.block(id(2), store.clone());
            assert!(tombstones.is_blocked(id(1)) && tombstones.is_blocked(id(2)));
            sleep(FIRST_PAUSE * 2).await;
            assert!(Store::load(&*store, id(1), later).await.expect("memory answers").is_none());
            assert!(!tombstones.is_blocked(id(1)) && tombstones.is_blocked(id(2)));
            tombstones.block(id(2), store.clone());
            sleep(LONGEST_PAUSE * 2).await;
            assert!(!tombstones.is_blocked(id(2)), "blocked again while the first block was ending");
            assert!(!lock(&tombstones.blocked).is_retrying);
        }

        #[test]
        fn deletions_are_retried_again_after_their_runtime_has_ended() {
            let runtime = || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_time().start_paused(true).build().expect("a runtime")
            };
            let (tombstones, store) = (Arc::new(Tombstones::default()), Arc::new(MemoryStore::new()));
            runtime().block_on(async { tombstones.block(id(1), store.clone()) });
            assert!(!lock(&tombstones.blocked).is_retrying);
            runtime().block_on(async {
                tombstones.block(id(2), store.clone());
                sleep(LONGEST_PAUSE * 2).await;
            });
            assert!(!tombstones.is_blocked(id(1)) && !tombstones.is_blocked(id(2)));
        }
    }
}
