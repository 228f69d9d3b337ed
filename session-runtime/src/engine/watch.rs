//! The rows of watched sessions, read in turns: each once a period, however many there are.
//!
//! A watch ends when its row is gone or is no live session any more. An answer that does not come ends nothing.

use std::sync::{Arc, Weak};

use futures_util::stream::{self, StreamExt as _};
use tokio::time::{Instant, sleep};

use super::core::{Engine, within};
use super::load::LoadOutcome;
use super::watched::{ReadingTask, SessionEnd, SessionWatch};
use crate::backend::Reloaded;
use crate::backend::tombstones::Tombstone;
use crate::bag::Databag;
use crate::error::{Error, ErrorChain, Rejection};
use crate::token::SessionId;

/// How many rows of a page are asked for at the same time.
const AT_A_TIME: usize = 16;

impl Engine {
    /// Watches the session of an id.
    ///
    /// # Errors
    ///
    /// If it is not known whether there is such a session.
    pub(crate) async fn watch<T: Databag>(self: &Arc<Self>, id: SessionId) -> Result<SessionWatch, Error> {
        self.require_rows()?;
        let engine = Arc::downgrade(self);
        // What ends from here on is noted: nothing is missed between the read and the first wait.
        let watch = self.watches.add(id, move |registry| {
            let registry = Arc::downgrade(registry);
            Box::new(move || {
                let (engine, registry) = (engine.clone(), registry.clone());
                Box::pin(async move {
                    if let Some(registry) = registry.upgrade() {
                        read_in_turns::<T>(engine, ReadingTask::new(registry)).await;
                    }
                })
            })
        });
        let deadline = self.deadline();
        loop {
            let id = watch.id();
            self.look_at::<T>(id, deadline).await?;
            if watch.end().is_some() || watch.id() == id {
                return Ok(watch);
            }
        }
    }

    /// Reads the row of a watched session, and ends its watches if it is over.
    async fn look_at<T: Databag>(&self, id: SessionId, deadline: Instant) -> Result<(), Error> {
        // Before the row is read: another request may extend the session after that.
        let now = self.now();
        let found = within(deadline, "load a row", self.backend.reload(id, deadline.into_std())).await?;
        let row = match found {
            Reloaded::Row(_) if self.backend.is_ended_here(id) => {
                self.watches.end(id, SessionEnd::Ended);
                return Ok(());
            }
            Reloaded::Row(row) => row,
            Reloaded::Unchanged => return Ok(()),
            Reloaded::Gone => {
                // A request of this process that renames the session has noted it when it gives up the lock.
                let _lock = self.lock(id, deadline).await?;
                match self.backend.tombstones().of(id) {
                    Some(Tombstone::RenamedTo(renamed)) => self.watches.rename(id, renamed),
                    Some(Tombstone::Ended) | None => self.watches.end_gone(id, now),
                }
                return Ok(());
            }
        };
        if row.expiration <= now {
            self.watches.end(id, SessionEnd::Expired);
        } else if let Some(seen) = self.watches.unseen(&row) {
            match self.open_at::<T>(row, now)? {
                LoadOutcome::Live(_) => self.watches.note_seen(id, seen),
                LoadOutcome::Rejected(Rejection::Expired) => self.watches.end(id, SessionEnd::Expired),
                LoadOutcome::Rejected(_) => self.watches.end(id, SessionEnd::Ended),
            }
        }
        Ok(())
    }

    /// Reads the rows of watched sessions.
    ///
    /// # Errors
    ///
    /// The first one. The other sessions are read all the same.
    async fn look_at_all<T: Databag>(&self, ids: Vec<SessionId>) -> Result<(), Error> {
        let deadline = self.deadline();
        let looks = stream::iter(ids).map(|id| self.look_at::<T>(id, deadline));
        let looks = looks.buffer_unordered(AT_A_TIME);
        looks.fold(Ok(()), async |first: Result<(), Error>, look| first.and(look)).await
    }
}

/// Reads the rows for as long as any is watched, each once a period. They are read page by page, with pauses between, so
/// that many watches are no burst of calls.
async fn read_in_turns<T: Databag>(engine: Weak<Engine>, mut task: ReadingTask) {
    // `good` is how many pages in a row were read.
    let (mut last, mut is_down, mut good) = (None, false, 0_u32);
    while let Some(pages) = task.pages() {
        let Some(period) = engine.upgrade().map(|engine| engine.context.config.watch_period) else { return };
        sleep(period / pages).await;
        let Some(engine) = engine.upgrade() else { return };
        let ids = task.page(last);
        last = ids.last().copied();
        let looked = engine.look_at_all::<T>(ids).await;
        good = if looked.is_ok() { good.saturating_add(1) } else { 0 };
        match looked {
            Err(error) if !is_down => {
                is_down = true;
                tracing::warn!(
                    bag = T::SCHEMA.name,
                    error = %ErrorChain(&error),
                    "could not read watched sessions: their connections go on until it is known what became of them"
                );
            }
            Ok(()) if is_down && good >= pages => {
                is_down = false;
                tracing::info!(bag = T::SCHEMA.name, "watched sessions are read again");
            }
            _ => {}
        }
    }
}
