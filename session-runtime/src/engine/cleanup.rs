//! The removal of expired rows: in the background, or with requests.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use super::config::Cleanup;
use super::core::{Engine, best_effort, within};
use crate::error::ErrorChain;

/// How many expired rows are removed at a time.
pub(crate) const PRUNE_BATCH: u32 = 500;
/// How long a batch in the background may take: no request waits for it.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

impl Engine {
    /// Removes a batch of expired rows, if that is done with requests.
    pub(super) async fn prune_with_request(&self, deadline: Instant) {
        if self.context.config.cleanup == Cleanup::EveryRequest
            && let Some(now) = self.clock.agreed()
        {
            let deadline = best_effort(deadline);
            let prune = self.backend.prune(now, PRUNE_BATCH, deadline.into_std());
            if let Err(error) = within(deadline, "remove expired rows", prune).await {
                tracing::warn!(error = %ErrorChain(&error), "could not remove expired sessions");
            }
        }
    }
}

/// Removes expired rows for as long as the sessions exist. Errors are logged; the next round tries again.
pub(crate) async fn clean_up(engine: Weak<Engine>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(engine) = engine.upgrade() else { return };
        let Some(now) = engine.clock.agreed() else {
            tracing::warn!(
                "the clock was set: expired sessions are not removed until the clocks agree again"
            );
            continue;
        };
        loop {
            let deadline = Instant::now() + BATCH_TIMEOUT;
            match within(
                deadline,
                "remove expired rows",
                engine.backend.prune(now, PRUNE_BATCH, deadline.into_std()),
            )
            .await
            {
                Ok(0) => break,
                // Requests go first.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "could not remove expired sessions");
                    break;
                }
            }
        }
    }
}
