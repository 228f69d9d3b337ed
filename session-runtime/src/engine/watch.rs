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
            self.check_row::<T>(id, now, deadline).await?;
            if watch.end().is_some() || watch.id() == id {
                return Ok(watch);
            }
        }
    }

    /// Reads the rows of these sessions, and ends the watches of those that are over.
    async fn check_rows<T: Databag>(&self, ids: &[SessionId]) -> CheckErrors {
        const AT_A_TIME: usize = 16;
        let mut errors = CheckErrors::default();
        let (now, deadline) = (self.now(), self.deadline());
        // A store that waits for some of the rows has to answer before this call gives up all of them.
        let versions = |_| self.backend.load_versions(ids, best_effort(deadline).into_std());
        let RowVersions { found, failed } = match within(deadline, "load rows", versions).await {
            Ok(versions) => versions,
            Err(error) => {
                errors.note(error);
                return errors;
            }
        };
        let mut found: IdMap<_> = found.into_iter().collect();
        let failed: IdMap<_> = failed.into_iter().collect();
        let mut unread = Vec::new();
        for id in ids.iter().copied().filter(|id| !failed.contains_key(id)) {
            match found.remove(&id) {
                // Checked beside the others: the request that renames it may hold its lock for long.
                None => unread.push(id),
                Some(_) if self.backend.is_ended_here(id) => self.watches.end(id, SessionEnd::Ended),
                Some(version) if !self.watches.is_seen(id, version) => unread.push(id),
                Some(version) if version.expiration <= now => self.watches.end(id, SessionEnd::Expired),
                Some(_) => {}
            }
        }
        if let Some(error) = failed.into_values().next() {
            errors.note(Error::Store(error));
        }
        let checks: Vec<_> = unread.into_iter().map(|id| self.check_row::<T>(id, now, deadline)).collect();
        let mut checks = stream::iter(checks).buffer_unordered(AT_A_TIME);
        while let Some(result) = checks.next().await {
            if let Err(error) = result {
                errors.note(error);
            }
        }
        errors
    }

    /// Reads the row of a session, and ends its watches if the session is over.
    ///
    /// # Errors
    ///
    /// If the store fails, or the row cannot be opened.
    async fn check_row<T: Databag>(
        &self,
        id: SessionId,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(), Error> {
        let reload = |end| self.backend.reload(id, end);
        let Reloaded::Row(row) = within(deadline, "load a row", reload).await? else {
            return self.check_missing(id, now, deadline).await;
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

    /// Follows a session whose row is gone to its next id, or ends its watches.
    async fn check_missing(&self, id: SessionId, now: Timestamp, deadline: Instant) -> Result<(), Error> {
        // A request of this process that renames the session has noted it when it gives up the lock.
        let _lock = self.lock(id, deadline).await?;
        match self.backend.tombstones().of(id) {
            Some(Tombstone::RenamedTo(renamed)) => self.watches.rename(id, renamed),
            Some(Tombstone::Ended) | None => self.watches.end_gone(id, now),
        }
        Ok(())
    }
}

/// Why some sessions of a page could not be checked: the first error of each kind.
#[derive(Default)]
struct CheckErrors {
    /// A row could not be read.
    unread: Option<Error>,
    /// A row is sealed under a key that the keyring lacks.
    missing_key: Option<Error>,
}

impl CheckErrors {
    fn note(&mut self, error: Error) {
        let first = match error {
            Error::UnknownKey { .. } => &mut self.missing_key,
            _ => &mut self.unread,
        };
        first.get_or_insert(error);
    }
}

/// Errors of one kind that follow each other. The first is logged, and so is the end.
#[derive(Default)]
struct Incident {
    is_open: bool,
    /// How many pages in a row had no error.
    clean_pages: u32,
}

enum IncidentChange {
    Opened(Error),
    Closed,
}

impl Incident {
    /// Notes the result of one page. An incident closes when a whole turn, which has this many pages, had no error.
    fn note(&mut self, error: Option<Error>, pages_of_turn: u32) -> Option<IncidentChange> {
        let was_open = self.is_open;
        if let Some(error) = error {
            (self.is_open, self.clean_pages) = (true, 0);
            return (!was_open).then_some(IncidentChange::Opened(error));
        }
        self.clean_pages = self.clean_pages.saturating_add(1);
        self.is_open = was_open && self.clean_pages < pages_of_turn;
        (was_open && !self.is_open).then_some(IncidentChange::Closed)
    }
}

/// Reads the rows for as long as any is watched, each once a period. They are read page by page, with pauses between, so
/// that many watches are no burst of calls.
async fn read_in_turns<T: Databag>(engine: Weak<Engine>, mut task: ReadingTask) {
    let bag = T::SCHEMA.name;
    let (mut last, mut outage, mut key_loss) = (None, Incident::default(), Incident::default());
    let mut due = Instant::now();
    while let Some(pages) = task.pages() {
        let Some(period) = engine.upgrade().map(|engine| engine.context.config.watch_period) else { return };
        // The time that a page takes is part of the pause. What is late is not caught up.
        due = Instant::now().max(due + period / pages);
        sleep_until(due).await;
        let Some(engine) = engine.upgrade() else { return };
        let ids = task.page(last);
        last = ids.last().copied();
        let CheckErrors { unread, missing_key } = engine.check_rows::<T>(&ids).await;
        let is_read = unread.is_none();
        if !is_read {
            engine.watches.end_at_limit(engine.now());
        }
        match outage.note(unread, pages) {
            Some(IncidentChange::Opened(error)) => tracing::warn!(
                bag,
                error = %ErrorChain(&error),
                "could not read watched sessions: their connections go on until it is known what became of them, or to \
                 the absolute limit of the session"
            ),
            Some(IncidentChange::Closed) => tracing::info!(bag, "watched sessions are read again"),
            None => {}
        }
        if !is_read && missing_key.is_none() {
            // A row that was not read may be under a missing key: this page does not count as one without.
            continue;
        }
        match key_loss.note(missing_key, pages) {
            Some(IncidentChange::Opened(error)) => tracing::warn!(
                bag,
                error = %ErrorChain(&error),
                "could not open watched sessions: their connections go on"
            ),
            Some(IncidentChange::Closed) => tracing::info!(bag, "all watched sessions are opened again"),
            None => {}
        }
    }
}
