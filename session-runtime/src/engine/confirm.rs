//! Writes of one row, and what became of a write whose answer did not come.
//!
//! Such a write is looked for under its id. An update that was not made is sent again: it names the revision that it
//! replaces, so it is made once at most. An insert is never sent again: it could arrive after the new session has ended.
//! The first sending is still awaited meanwhile, because the store may be slow and not silent.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};

use super::commit::RowWrite;
use super::core::{Engine, within};
use crate::backend::Reloaded;
use crate::clock::until;
use crate::envelope::Protection;
use crate::error::Error;
use crate::store::{self, LimitedWrite, Outcome, Row, Scope, Update};
use crate::token::SessionId;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A row on its way to the store.
enum Write<'a> {
    Insert {
        row: &'a Row,
        max_per_user: Option<u32>,
    },
    /// In the place of the row of this id and revision.
    Update {
        id: SessionId,
        expected: i64,
        scope: Scope,
        row: &'a Row,
        max_per_user: Option<u32>,
    },
}

/// How long it is tried to find out what became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Once: if it is not known then, the request fails, and the cookie works again afterwards.
    Once,
    /// Until the deadline: the visitor's cookie names an id that is gone if the write was made.
    UntilDeadline,
}

impl Write<'_> {
    fn row(&self) -> &Row {
        match self {
            Self::Insert { row, .. } | Self::Update { row, .. } => row,
        }
    }

    /// Returns whether the row gets a new id, which only this write can have stored.
    fn is_under_new_id(&self) -> bool {
        match self {
            Self::Insert { .. } => true,
            Self::Update { id, row, .. } => *id != row.id,
        }
    }
}

impl Engine {
    /// Inserts a row.
    ///
    /// # Errors
    ///
    /// If the store refuses it, or it is not known whether the row is stored.
    pub(super) async fn insert_row(
        &self,
        RowWrite { row, max_per_user, .. }: &RowWrite,
        deadline: Instant,
    ) -> Result<(), Error> {
        let write = Write::Insert { row, max_per_user: *max_per_user };
        // Boxed: the futures of all callers stay small.
        Box::pin(self.write(&write, Effort::Once, deadline)).await.map(drop)
    }

    /// Replaces a row.
    ///
    /// # Errors
    ///
    /// As [`insert_row`](Self::insert_row).
    pub(super) async fn update_row(
        &self,
        (id, expected): (SessionId, i64),
        RowWrite { row, scope, max_per_user, .. }: &RowWrite,
        effort: Effort,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let write = Write::Update { id, expected, scope: *scope, row, max_per_user: *max_per_user };
        Box::pin(self.write(&write, effort, deadline)).await
    }

    /// Deletes a row, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If it is not known whether this call has deleted it: a row that is gone may also have another id.
    pub(super) async fn delete_row(&self, id: SessionId, deadline: Instant) -> Result<bool, Error> {
        let delete = || within(deadline, "delete a row", self.backend.delete(id, deadline.into_std()));
        let mut first = pin!(delete());
        let (one, other) = match until(late(deadline), first.as_mut()).await {
            Some(Ok(is_deleted)) => return Ok(is_deleted),
            Some(error) => (error, delete().await),
            None => match select(first, pin!(delete())).await {
                Either::Left((Ok(true), _)) | Either::Right((Ok(true), _)) => return Ok(true),
                Either::Left((one, other)) | Either::Right((one, other)) => (one, other.await),
            },
        };
        match (one, other) {
            (Ok(true), _) | (_, Ok(true)) => Ok(true),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(false), Ok(false)) => Ok(false),
        }
    }

    async fn write(&self, write: &Write<'_>, effort: Effort, deadline: Instant) -> Result<Outcome, Error> {
        let is_sent_again = AtomicBool::new(false);
        let mut sent = pin!(self.send(write, deadline));
        // Whether an answer to the first sending says what became of the write. The second one may have been made first.
        let is_final = |answer: &Result<Outcome, Error>| match answer {
            Ok(outcome) => *outcome == Outcome::Stored || !is_sent_again.load(Ordering::Relaxed),
            Err(error) => error.is_final(),
        };
        let answer = match until(late(deadline), sent.as_mut()).await {
            Some(answer) if is_final(&answer) => return answer,
            answer => answer,
        };
        let confirmed = Box::pin(self.confirm(write, effort, &is_sent_again, deadline));
        let (answer, found) = match answer {
            Some(answer) => (answer, confirmed.await),
            None => match select(sent, confirmed).await {
                Either::Left((answer, _)) if is_final(&answer) => return answer,
                Either::Left((answer, confirmed)) => (answer, confirmed.await),
                Either::Right((Ok(outcome), _)) => return Ok(outcome),
                Either::Right((found, sent)) => match sent.await {
                    answer if is_final(&answer) => return answer,
                    answer => (answer, found),
                },
            },
        };
        match (answer, found) {
            (_, Ok(outcome)) => Ok(outcome),
            (_, Err(error)) if error.is_final() => Err(error),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn send(&self, write: &Write<'_>, deadline: Instant) -> Result<Outcome, Error> {
        let (backend, end) = (&self.backend, deadline.into_std());
        match *write {
            Write::Insert { row, max_per_user: None } => {
                within(deadline, "insert a row", backend.insert(row.clone(), end)).await?;
                Ok(Outcome::Stored)
            }
            Write::Insert { row, max_per_user: Some(max) } => {
                self.send_limited(store::Write::Insert(row.clone()), max, deadline).await
            }
            Write::Update { id, expected, scope, row, max_per_user } => {
                let update = Update { id, expected, scope, row: row.clone() };
                match max_per_user {
                    None => within(deadline, "update a row", backend.replace(update, end)).await,
                    Some(max) => self.send_limited(store::Write::Update(update), max, deadline).await,
                }
            }
        }
    }

    /// Sends a write that ends surplus sessions of its user, and notes which. If the answer is lost, it is not known which.
    async fn send_limited(&self, write: store::Write, max: u32, deadline: Instant) -> Result<Outcome, Error> {
        let write = LimitedWrite::new(write, max, self.now());
        let sent = self.backend.write_limited(write, deadline.into_std());
        let (outcome, ended) = within(deadline, "limit the sessions of a user", sent).await?;
        for id in ended {
            self.note_ended(id);
        }
        Ok(outcome)
    }

    /// Finds out what became of a write.
    async fn confirm(
        &self,
        write: &Write<'_>,
        effort: Effort,
        is_sent_again: &AtomicBool,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.try_confirm(write, is_sent_again, deadline).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if effort == Effort::Once || error.is_final() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn try_confirm(
        &self,
        write: &Write<'_>,
        is_sent_again: &AtomicBool,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        if let Some(outcome) = self.look_for(write, deadline).await? {
            return Ok(outcome);
        }
        if matches!(write, Write::Insert { .. }) {
            return Err(Error::Unconfirmed);
        }
        is_sent_again.store(true, Ordering::Relaxed);
        match self.send(write, deadline).await {
            Ok(Outcome::Stored) => Ok(Outcome::Stored),
            Err(error) if error.is_final() => Err(error),
            // The first sending may have been made since, or this one without an answer.
            answer => match self.look_for(write, deadline).await? {
                Some(outcome) => Ok(outcome),
                None => answer,
            },
        }
    }

    /// Returns what became of a write that was sent; `None` if it was not made so far.
    async fn look_for(&self, write: &Write<'_>, deadline: Instant) -> Result<Option<Outcome>, Error> {
        let row = write.row();
        let stored = within(deadline, "load a row", self.backend.reload(row.id, deadline.into_std())).await?;
        match (stored, write) {
            (Reloaded::Row(_), write) if write.is_under_new_id() => Ok(Some(Outcome::Stored)),
            (Reloaded::Gone, write) if write.is_under_new_id() => Ok(None),
            (Reloaded::Row(stored), Write::Update { expected, .. }) if stored.revision == *expected => {
                Ok(None)
            }
            (Reloaded::Row(stored), _) if stored.revision == row.revision => {
                // No two seals are equal. In the clear another request may have stored the same.
                match &self.context.protection {
                    _ if stored.state != row.state => Ok(Some(Outcome::Conflict)),
                    Protection::Sealed(_) => Ok(Some(Outcome::Stored)),
                    Protection::Plain => Err(Error::Unconfirmed),
                }
            }
            // Other requests have written it since, renamed it or ended it, after this write or without it.
            (Reloaded::Row(_) | Reloaded::Gone | Reloaded::Unchanged, _) => Err(Error::Unconfirmed),
        }
    }
}

/// Returns when a write counts as unanswered: most of the time until the deadline has passed then. Stores that repeat a
/// call by themselves do so earlier.
fn late(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) * 3 / 4
}
