//! The rows of watched sessions, read in turns: each once a period, however many there are.
//!
//! A watch ends when its row is gone or is no live session any more. An answer that does not come ends nothing.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, sleep_until};

use super::core::{Engine, within};
use super::load::LoadOutcome;
use super::watched::{ReadingTask, SessionEnd, SessionWatch};
use crate::backend::tombstones::Tombstone;
use crate::bag::Databag;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorChain, Rejection};
use crate::store::Row;
use crate::token::{IdMap, SessionId};

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
                // Made here: a future that is dropped before it has begun has to say so too.
                let (engine, task) = (engine.clone(), registry.upgrade().map(ReadingTask::new));
                Box::pin(async move {
                    if let Some(task) = task {
                        read_in_turns::<T>(engine, task).await;
                    }
                })
            })
        });
        loop {
            let id = watch.id();
            self.look_at::<T>(&[id]).await?;
            if watch.end().is_some() || watch.id() == id {
                return Ok(watch);
            }
        }
    }

    /// Reads the rows of watched sessions, and ends the watches of those that are over.
    ///
    /// # Errors
    ///
    /// If the store fails, and if a row cannot be opened: the first error, after all rows were opened.
    async fn look_at<T: Databag>(&self, ids: &[SessionId]) -> Result<(), Error> {
        // Before the rows are read: another request may extend a session after that.
        let (now, deadline) = (self.now(), self.deadline());
        let rows = self.backend.reload_many(ids, deadline.into_std());
        let rows = within(deadline, "load rows", rows).await?;
        let mut rows: IdMap<Row> = rows.into_iter().map(|row| (row.id, row)).collect();
        let mut outcome = Ok(());
        for id in ids {
            let looked = match rows.remove(id) {
                Some(row) => self.look_at_row::<T>(row, now),
                None => self.look_at_gone(*id, now, deadline).await,
            };
            outcome = outcome.and(looked);
        }
        outcome
    }

    fn look_at_row<T: Databag>(&self, row: Row, now: Timestamp) -> Result<(), Error> {
        let id = row.id;
        if self.backend.is_ended_here(id) {
            self.watches.end(id, SessionEnd::Ended);
        } else if row.expiration <= now {
            self.watches.end(id, SessionEnd::Expired);
        } else if let Some(seen) = self.watches.unseen(&row) {
            match self.open_at::<T>(row, None, None, now)? {
                LoadOutcome::Live(_) => self.watches.note_seen(id, seen),
                LoadOutcome::Rejected(Rejection::Expired) => self.watches.end(id, SessionEnd::Expired),
                LoadOutcome::Rejected(_) => self.watches.end(id, SessionEnd::Ended),
            }
        }
        Ok(())
    }

    async fn look_at_gone(&self, id: SessionId, now: Timestamp, deadline: Instant) -> Result<(), Error> {
        // A request of this process that renames the session has noted it when it gives up the lock.
        let _lock = self.lock(id, deadline).await?;
        match self.backend.tombstones().of(id) {
            Some(Tombstone::RenamedTo(renamed)) => self.watches.rename(id, renamed),
            Some(Tombstone::Ended) | None => self.watches.end_gone(id, now),
        }
        Ok(())
    }
}

/// Reads the rows for as long as any is watched, each once a period. They are read page by page, with pauses between, so
/// that many watches are no burst of calls.
async fn read_in_turns<T: Databag>(engine: Weak<Engine>, mut task: ReadingTask) {
    // `good` is how many pages in a row were read.
    let (mut last, mut is_down, mut good) = (None, false, 0_u32);
    let mut due = Instant::now();
    while let Some(pages) = task.pages() {
        let Some(period) = engine.upgrade().map(|engine| engine.context.config.watch_period) else { return };
        // The time that a page takes is part of the pause. What is late is not caught up.
        due = Instant::now().max(due + period / pages);
        sleep_until(due).await;
        let Some(engine) = engine.upgrade() else { return };
        let ids = task.page(last);
        last = ids.last().copied();
        let looked = engine.look_at::<T>(&ids).await;
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
