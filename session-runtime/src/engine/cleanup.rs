//! The removal of expired rows: in the background, or with requests.

use std::ops::Deref;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::config::Cleanup;
use super::core::{Engine, best_effort, within};
use super::event::Event;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorChain};
use crate::store::Filter;

/// How many expired rows are removed at a time, at most.
pub(crate) const PRUNE_BATCH: u32 = 500;
/// How many expired rows are removed with a request, at most: more than a request can make.
const PRUNE_WITH_REQUEST: u32 = 16;
/// How long small batches are tried: if sessions expire faster than that removes them, larger ones follow.
const SMALL_BATCHES: Duration = Duration::from_mins(30);
/// The shortest pause after a batch. Longer batches have longer pauses, so that requests go first.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// How long a batch in the background may take: no request waits for it.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

impl Engine {
    /// Removes a batch of expired rows, if that is done with requests.
    pub(super) async fn prune_with_request(&self, deadline: Instant) {
        if self.context.config.cleanup == Cleanup::EveryRequest
            && let Some(now) = self.clock.agreed()
        {
            let pruned = self.prune_batch(now, PRUNE_WITH_REQUEST, best_effort(deadline)).await;
            if let Err(error) = pruned {
                warn(&error);
            }
        }
    }

    /// Removes a batch of the rows that have expired at this time, and returns how many.
    async fn prune_batch(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, Error> {
        let prune = |end| self.backend.prune(now, limit, end);
        let removed = within(deadline, "remove expired rows", prune).await?;
        self.tell(Event::CleanedUp { removed });
        Ok(removed)
    }

    /// Counts the live sessions for the observers.
    pub(crate) async fn count_live(&self, now: Timestamp) -> Result<(), Error> {
        let Some(directory) = self.directory.as_ref().filter(|_| self.observers.measures()) else {
            return Ok(());
        };
        let (filter, deadline) = (Filter::LiveAt(now), Instant::now() + BATCH_TIMEOUT);
        let live = within(deadline, "count rows", |end| directory.count(&filter, end)).await?;
        self.tell(Event::Counted { live });
        Ok(())
    }
}

/// Removes all rows that have expired at this time, for as long as there is an engine, and returns how many. `timeout` is
/// that of each batch.
pub(crate) async fn prune_all<E: Deref<Target = Engine>>(
    engine: impl Fn() -> Option<E>,
    now: Timestamp,
    timeout: Duration,
) -> Result<u64, Error> {
    // It is not held during a pause, so that sessions that are dropped close their store.
    let batch = |limit, deadline| {
        let engine = engine();
        async move {
            match engine {
                Some(engine) => engine.prune_batch(now, limit, deadline).await,
                None => Ok(0),
            }
        }
    };
    prune_in_batches(batch, timeout).await
}

/// Calls `batch` until it removes no row, and returns how many were removed. Its arguments are the most rows to remove, and
/// its deadline.
pub(crate) async fn prune_in_batches<F: Future<Output = Result<u64, Error>>>(
    batch: impl Fn(u32, Instant) -> F,
    timeout: Duration,
) -> Result<u64, Error> {
    let begun = Instant::now();
    let mut removed = 0;
    loop {
        let batch_begun = Instant::now();
        let limit = if begun.elapsed() < SMALL_BATCHES { PRUNE_BATCH } else { 16 * PRUNE_BATCH };
        let count = batch(limit, batch_begun + timeout).await?;
        if count == 0 {
            return Ok(removed);
        }
        removed += count;
        sleep(SHORTEST_PAUSE.max(4 * batch_begun.elapsed())).await;
    }
}

/// Removes expired rows for as long as the sessions exist. Errors are logged; the next round tries again.
pub(crate) async fn clean_up(engine: Weak<Engine>, pause: Duration) {
    loop {
        sleep(pause).await;
        let Some(now) = engine.upgrade().map(|engine| engine.clock.agreed()) else { return };
        let Some(now) = now else {
            tracing::warn!(
                "the clock was set: expired sessions are not removed until the clocks agree again"
            );
            continue;
        };
        let pruned = prune_all(|| engine.upgrade(), now, BATCH_TIMEOUT).await;
        if let Err(error) = pruned {
            warn(&error);
        }
        let Some(engine) = engine.upgrade() else { return };
        if let Err(error) = engine.count_live(now).await {
            tracing::warn!(error = %ErrorChain(&error), "could not count the live sessions");
        }
    }
}

fn warn(error: &Error) {
    tracing::warn!(error = %ErrorChain(error), "could not remove expired sessions");
}
