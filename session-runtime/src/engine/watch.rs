//! The rows of watched sessions, read in turns: each once a period, however many there are.
//!
//! A watch ends when its row is gone or is no live session any more. An answer that does not come ends nothing, until the
//! absolute limit of the session, as it was read last, has passed. A row is read whole only if its version has changed.

use std::sync::{Arc, Weak};

use futures_util::stream::{self, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::core::{Engine, best_effort, within};
use super::load::LoadOutcome;
use super::watched::{ReadingTask, SessionEnd, SessionWatch};
use crate::backend::Reloaded;
use crate::backend::tombstones::Tombstone;
use crate::bag::Databag;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorChain, Rejection};
use crate::store::{RowVersion, RowVersions};
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
            // Before the row is read: another request may extend the session after that.
            let (now, deadline) = (self.now(), self.deadline());
            self.look_at_row::<T>(id, now, deadline).await?;
            if watch.end().is_some() || watch.id() == id {
                return Ok(watch);
            }
        }
    }

    /// Ends the watches of those sessions that are over, and says what is not known of the others.
    async fn look_at<T: Databag>(&self, ids: &[SessionId]) -> Looked {
        const AT_A_TIME: usize = 16;
        let mut looked = Looked::default();
        let (now, deadline) = (self.now(), self.deadline());
        // A store that waits for some of the rows has to answer before this call gives up all of them.
        let versions = self.backend.load_versions(ids, best_effort(deadline).into_std());
        let RowVersions { found, failed } = match within(deadline, "load rows", versions).await {
            Ok(versions) => versions,
            Err(error) => {
                looked.note(Err(error));
                return looked;
            }
        };
        let mut found: IdMap<_> = found.into_iter().collect();
        let failed: IdMap<_> = failed.into_iter().collect();
        let mut changed = Vec::new();
        for id in ids.iter().copied().filter(|id| !failed.contains_key(id)) {
            match found.remove(&id) {
                // It is looked for again beside the others: who renames it may take its time.
                None => changed.push(id),
                Some(_) if self.backend.is_ended_here(id) => self.watches.end(id, SessionEnd::Ended),
                Some(version) if !self.watches.is_seen(id, version) => changed.push(id),
                Some(version) if version.expiration <= now => self.watches.end(id, SessionEnd::Expired),
                Some(_) => {}
            }
        }
        if let Some(error) = failed.into_values().next() {
            looked.note(Err(Error::Store(error)));
        }
        let changed: Vec<_> =
            changed.into_iter().map(|id| self.look_at_row::<T>(id, now, deadline)).collect();
        let mut changed = stream::iter(changed).buffer_unordered(AT_A_TIME);
        while let Some(result) = changed.next().await {
            looked.note(result);
        }
        looked
    }

    /// Reads the row of a session, and ends its watches if the session is over.
    ///
    /// # Errors
    ///
    /// If the store fails, or the row cannot be opened.
    async fn look_at_row<T: Databag>(
        &self,
        id: SessionId,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(), Error> {
        let reload = self.backend.reload(id, deadline.into_std());
        let Reloaded::Row(row) = within(deadline, "load a row", reload).await? else {
            return self.look_at_gone(id, now, deadline).await;
        };
        if self.backend.is_ended_here(id) {
            self.watches.end(id, SessionEnd::Ended);
            return Ok(());
        }
        let version = RowVersion::of(&row);
        match self.open_at::<T>(row, None, None, now)? {
            LoadOutcome::Live(active) => {
                let limit = active.stored.map(|stored| stored.header.absolute);
                self.watches.note_seen(id, version, limit);
            }
            LoadOutcome::Rejected(Rejection::Expired) => self.watches.end(id, SessionEnd::Expired),
            LoadOutcome::Rejected(_) => self.watches.end(id, SessionEnd::Ended),
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

/// Why some sessions of a page are not known: the first error of each kind.
#[derive(Default)]
struct Looked {
    /// The store has failed.
    unread: Option<Error>,
    /// A row has no key.
    unopened: Option<Error>,
}

impl Looked {
    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            let is_read = matches!(error, Error::UnknownKey { .. });
            let first = if is_read { &mut self.unopened } else { &mut self.unread };
            first.get_or_insert(error);
        }
    }
}

/// Whether errors of one kind go on, so that they are logged once.
#[derive(Default)]
struct Trouble {
    is_on: bool,
    /// How many pages in a row had none.
    good: u32,
}

/// What a page has changed.
enum News {
    Begun(Error),
    Over,
}

impl Trouble {
    /// Notes a page of so many; it is over when a whole turn had no error.
    fn note(&mut self, error: Option<Error>, pages: u32) -> Option<News> {
        self.good = if error.is_some() { 0 } else { self.good.saturating_add(1) };
        let was_on = self.is_on;
        self.is_on = error.is_some() || was_on && self.good < pages;
        match error {
            Some(error) => (!was_on).then_some(News::Begun(error)),
            None => (was_on && !self.is_on).then_some(News::Over),
        }
    }
}

/// Reads the rows for as long as any is watched, each once a period. They are read page by page, with pauses between, so
/// that many watches are no burst of calls.
async fn read_in_turns<T: Databag>(engine: Weak<Engine>, mut task: ReadingTask) {
    let bag = T::SCHEMA.name;
    let (mut last, mut outage, mut missing_key) = (None, Trouble::default(), Trouble::default());
    let mut due = Instant::now();
    while let Some(pages) = task.pages() {
        let Some(period) = engine.upgrade().map(|engine| engine.context.config.watch_period) else { return };
        // The time that a page takes is part of the pause. What is late is not caught up.
        due = Instant::now().max(due + period / pages);
        sleep_until(due).await;
        let Some(engine) = engine.upgrade() else { return };
        let ids = task.page(last);
        last = ids.last().copied();
        let Looked { unread, unopened } = engine.look_at::<T>(&ids).await;
        let is_read = unread.is_none();
        if !is_read {
            engine.watches.end_at_limit(engine.now());
        }
        match outage.note(unread, pages) {
            Some(News::Begun(error)) => tracing::warn!(
                bag,
                error = %ErrorChain(&error),
                "could not read watched sessions: their connections go on until it is known what became of them, or to \
                 the absolute limit of the session"
            ),
            Some(News::Over) => tracing::info!(bag, "watched sessions are read again"),
            None => {}
        }
        if !is_read && unopened.is_none() {
            // It is not known.
            continue;
        }
        match missing_key.note(unopened, pages) {
            Some(News::Begun(error)) => tracing::warn!(
                bag,
                error = %ErrorChain(&error),
                "could not open watched sessions: their connections go on"
            ),
            Some(News::Over) => tracing::info!(bag, "all watched sessions are opened again"),
            None => {}
        }
    }
}
