//! Writes of one row, and what became of a write whose answer did not come.
//!
//! Each write is safe to send again: an id is inserted once, and an update names the revision that it replaces. So a write that
//! was not answered is looked for under its id, and sent again if it was not made. The first sending is still awaited
//! meanwhile: the store may be slow and not silent.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, timeout_at};

use super::core::{Engine, within};
use crate::backend::Reloaded;
use crate::error::Error;
use crate::store::{Outcome, Row, Update};
use crate::token::SessionId;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A row on its way to the store.
enum Write {
    Insert(Row),
    Update(Update),
}

/// How long it is tried to find out what became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Once: if it is not known then, the request fails, and the cookie works again afterwards.
    Once,
    /// Until the deadline: the visitor's cookie names an id that is gone if the write was made.
    UntilDeadline,
}

impl Write {
    fn row(&self) -> &Row {
        match self {
            Self::Insert(row) | Self::Update(Update { row, .. }) => row,
        }
    }

    /// Returns whether the row gets a new id, which only this write can have stored.
    fn is_under_new_id(&self) -> bool {
        match self {
            Self::Insert(_) => true,
            Self::Update(update) => update.id != update.row.id,
        }
    }
}

impl Engine {
    /// Inserts a row.
    ///
    /// # Errors
    ///
    /// If it is unknown whether the row is stored.
    pub(super) async fn insert_row(&self, row: Row, deadline: Instant) -> Result<(), Error> {
        self.write(&Write::Insert(row), Effort::Once, deadline).await.map(drop)
    }

    /// Replaces a row.
    ///
    /// # Errors
    ///
    /// If it is unknown whether the row is stored.
    pub(super) async fn update_row(
        &self,
        update: Update,
        effort: Effort,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        self.write(&Write::Update(update), effort, deadline).await
    }

    /// Deletes a row, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If it is unknown whether this call has deleted it: a row that is gone may also have another id.
    pub(super) async fn delete_row(&self, id: SessionId, deadline: Instant) -> Result<bool, Error> {
        let delete = || within(deadline, "delete a row", self.backend.delete(id, deadline.into_std()));
        let mut first = pin!(delete());
        let (first, second) = match timeout_at(halfway(deadline), &mut first).await {
            Ok(Ok(is_deleted)) => return Ok(is_deleted),
            Ok(Err(error)) => (Err(error), delete().await),
            Err(_) => match select(first, pin!(delete())).await {
                Either::Left((first @ Ok(true), _)) => return first,
                Either::Left((first, second)) => (first, second.await),
                Either::Right((second @ Ok(true), _)) => return second,
                Either::Right((second, first)) => (first.await, second),
            },
        };
        match (first, second) {
            (Ok(true), _) | (_, Ok(true)) => Ok(true),
            (Ok(false), Ok(false)) => Ok(false),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn write(&self, write: &Write, effort: Effort, deadline: Instant) -> Result<Outcome, Error> {
        let mut sent = pin!(self.send(write, deadline));
        let answer = timeout_at(halfway(deadline), &mut sent).await;
        let error = match answer {
            Ok(Ok(outcome)) => return Ok(outcome),
            // Nothing was written, and nothing would be.
            Ok(Err(error)) if error.is_refused() => return Err(error),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let confirmed = pin!(self.confirm(write, effort, deadline));
        match error {
            Some(error) => confirmed.await.map_err(|_| error),
            None => match select(sent, confirmed).await {
                Either::Left((Ok(Outcome::Stored), _)) => Ok(Outcome::Stored),
                // The write that was sent again may have been made first.
                Either::Left((_, confirmed)) => confirmed.await,
                Either::Right((outcome, _)) => outcome,
            },
        }
    }

    async fn send(&self, write: &Write, deadline: Instant) -> Result<Outcome, Error> {
        let (backend, until) = (&self.backend, deadline.into_std());
        match write {
            Write::Insert(row) => {
                within(deadline, "insert a row", backend.insert(row.clone(), until)).await?;
                Ok(Outcome::Stored)
            }
            Write::Update(update) => {
                within(deadline, "update a row", backend.replace(update.clone(), until)).await
            }
        }
    }

    /// Finds out what became of a write.
    async fn confirm(&self, write: &Write, effort: Effort, deadline: Instant) -> Result<Outcome, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = self.try_confirm(write, deadline).await;
            if outcome.is_ok() || effort == Effort::Once || Instant::now() + pause >= deadline {
                return outcome;
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn try_confirm(&self, write: &Write, deadline: Instant) -> Result<Outcome, Error> {
        if let Some(outcome) = self.look_for(write, deadline).await? {
            return Ok(outcome);
        }
        match self.send(write, deadline).await? {
            Outcome::Stored => Ok(Outcome::Stored),
            // The first sending may have been made since.
            outcome => Ok(self.look_for(write, deadline).await?.unwrap_or(outcome)),
        }
    }

    /// Returns what became of a write that was sent; `None` if it was not made so far.
    async fn look_for(&self, write: &Write, deadline: Instant) -> Result<Option<Outcome>, Error> {
        let row = write.row();
        let stored = within(deadline, "load a row", self.backend.reload(row.id, deadline.into_std())).await?;
        match (stored, write) {
            (Reloaded::Row(_), write) if write.is_under_new_id() => Ok(Some(Outcome::Stored)),
            (Reloaded::Row(stored), _) if stored.state == row.state => Ok(Some(Outcome::Stored)),
            (Reloaded::Row(stored), Write::Update(update)) if stored.revision == update.expected => Ok(None),
            // Another write has taken the revision that this one would have.
            (Reloaded::Row(stored), _) if stored.revision == row.revision => Ok(Some(Outcome::Conflict)),
            (Reloaded::Gone, write) => Ok((!write.is_under_new_id()).then_some(Outcome::Gone)),
            // Other writes have followed, on top of this one or not.
            (Reloaded::Row(_) | Reloaded::Unchanged, _) => Err(Error::Unconfirmed),
        }
    }
}

/// Returns the time by which half of the time until the deadline has passed.
fn halfway(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}
