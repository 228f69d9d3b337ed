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
use super::event::EndCause;
use crate::backend::Reloaded;
use crate::clock::until;
use crate::envelope::Protection;
use crate::error::Error;
use crate::store::{self, LimitedWrite, Outcome, Update};
use crate::token::SessionId;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A row on its way to the store.
struct Write<'a> {
    write: &'a RowWrite,
    /// The id and the revision of the row whose place it takes; `None` for an insert.
    replaced: Option<(SessionId, i64)>,
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
    /// Returns whether the row gets a new id, which only this write can have stored.
    fn is_under_new_id(&self) -> bool {
        self.replaced.is_none_or(|(id, _)| id != self.write.row.id)
    }
}

impl Engine {
    /// Inserts a row.
    ///
    /// # Errors
    ///
    /// If the store refuses it, or it is not known whether the row is stored.
    pub(super) async fn insert_row(&self, write: &RowWrite, deadline: Instant) -> Result<(), Error> {
        let write = Write { write, replaced: None };
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
        replaced: (SessionId, i64),
        write: &RowWrite,
        effort: Effort,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let write = Write { write, replaced: Some(replaced) };
        Box::pin(self.write(&write, effort, deadline)).await
    }

    /// Deletes a row, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If it is not known whether this call has deleted it: a row that is gone may also have another id.
    pub(super) async fn delete_row(&self, id: SessionId, deadline: Instant) -> Result<bool, Error> {
        let delete = || within(deadline, "delete a row", move |end| self.backend.delete(id, end));
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
        let RowWrite { row, scope, max_per_user, ends_others, .. } = write.write;
        let (row, backend) = (row.clone(), &self.backend);
        let write = match write.replaced {
            None => store::Write::Insert(row),
            Some((id, expected)) => store::Write::Update(Update { id, expected, scope: *scope, row }),
        };
        match (max_per_user, write) {
            (Some(max), write) => {
                let limited = LimitedWrite::new(write, *max, self.now());
                let sent = |end| backend.write_limited(limited, end);
                // If the answer is lost, it is not known which sessions have ended.
                let (outcome, ended) = within(deadline, "limit the sessions of a user", sent).await?;
                let cause = if *ends_others { EndCause::Revoked } else { EndCause::Replaced };
                for id in ended {
                    self.note_ended(id, cause);
                }
                Ok(outcome)
            }
            (None, store::Write::Insert(row)) => {
                let inserted = within(deadline, "insert a row", |end| backend.insert(row, end)).await;
                inserted.map(|()| Outcome::Stored)
            }
            (None, store::Write::Update(update)) => {
                within(deadline, "update a row", |end| backend.replace(update, end)).await
            }
        }
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
        if write.replaced.is_none() {
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
        let row = &write.write.row;
        let stored = within(deadline, "load a row", |end| self.backend.reload(row.id, end)).await?;
        let expected = write.replaced.map(|(_, revision)| revision);
        match stored {
            Reloaded::Row(_) if write.is_under_new_id() => Ok(Some(Outcome::Stored)),
            Reloaded::Gone if write.is_under_new_id() => Ok(None),
            Reloaded::Row(stored) if Some(stored.revision) == expected => Ok(None),
            Reloaded::Row(stored) if stored.revision == row.revision => {
                // No two seals are equal. In the clear another request may have stored the same.
                match &self.context.protection {
                    _ if stored.state != row.state => Ok(Some(Outcome::Conflict)),
                    Protection::Sealed(_) => Ok(Some(Outcome::Stored)),
                    Protection::Plain => Err(Error::Unconfirmed),
                }
            }
            // Other requests have written it since, renamed it or ended it, after this write or without it.
            Reloaded::Row(_) | Reloaded::Gone | Reloaded::Unchanged => Err(Error::Unconfirmed),
        }
    }
}

/// Returns when a write counts as unanswered: most of the time until the deadline has passed then. Stores that repeat a
/// call by themselves do so earlier.
fn late(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) * 3 / 4
}
