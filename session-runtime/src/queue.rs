//! Turns: writers of one session in one process go one after the other, so that conflicts stay rare.
//!
//! Correctness does not rest on this; the revision does that, across processes too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::token::SessionId;

const SHARDS: usize = 16;

type Shard = Mutex<HashMap<SessionId, Arc<Semaphore>>>;

/// The sessions that are being written.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    shards: [Shard; SHARDS],
}

/// The right to write a session, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    shard: &'a Shard,
    id: SessionId,
    permit: Option<OwnedSemaphorePermit>,
}

impl Queue {
    /// Waits for a turn; first come, first served.
    pub(crate) async fn turn(&self, id: SessionId) -> Turn<'_> {
        // An id is a hash already: its bytes are as good as random.
        let shard = &self.shards[usize::from(id.as_bytes()[0]) % SHARDS];
        let gate = lock(shard).entry(id).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
        let mut turn = Turn { shard, id, permit: None };
        turn.permit = gate.acquire_owned().await.ok();
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut gates = lock(self.shard);
        // One that waits holds a clone of the gate, from before it waited until after its turn.
        if let Entry::Occupied(gate) = gates.entry(self.id)
            && Arc::strong_count(gate.get()) == 1
        {
            gate.remove();
        }
    }
}

fn lock(shard: &Shard) -> MutexGuard<'_, HashMap<SessionId, Arc<Semaphore>>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_second_writer_waits_and_nothing_is_left_behind() {
        let queue = Queue::default();
        let id = SessionId::from_bytes([1; 32]);
        let first = queue.turn(id).await;
        let other = queue.turn(SessionId::from_bytes([2; 32])).await;
        assert!(timeout(Duration::from_millis(20), queue.turn(id)).await.is_err());
        drop((first, other));
        drop(timeout(Duration::from_secs(5), queue.turn(id)).await.expect("the turn is free"));
        assert!(queue.shards.iter().all(|shard| lock(shard).is_empty()));
    }
}
