//! Writes: a plan is executed, and made again on top of what other requests stored first.

use std::pin::pin;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::commit::{Plan, RowWrite, plan, readable_fields};
use super::confirm::Effort;
use super::core::{CookieUpdate, Engine, not_read_back, within};
use super::event::{EndCause, Event};
use super::load::{Active, Intent, LoadOutcome, Stored};
use super::session_locks::SessionLockGuard;
use super::span;
use super::watched::SessionEnd;
use crate::backend::Reloaded;
use crate::backend::tombstones::{Renamed, Tombstone};
use crate::bag::Databag;
use crate::bag::merge::merge;
use crate::clock::until;
use crate::error::{Error, ErrorChain, Rejection};
use crate::store::{Outcome, Update};
use crate::token::{SessionId, Token};

/// When the session that an update begins with was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// By the same call.
    Now,
    /// When the request began, or later.
    Before,
}

/// The result of one attempt to execute a [`Plan`].
enum CommitOutcome {
    Done(Option<CookieUpdate>),
    /// Another request has written the session first.
    Conflict,
}

impl Engine {
    /// Stores what has become of a session, and returns what its cookie has to become.
    ///
    /// A session that was to end and could not be ended is refused by this process from now on.
    pub(crate) async fn commit<T: Databag>(
        &self,
        active: &mut Active<T>,
        deadline: Instant,
    ) -> Result<Option<CookieUpdate>, Error> {
        active.set_times();
        let plan = self.prepare(active);
        self.commit_plan(active, plan, deadline).await
    }

    /// Decides what [`commit`](Self::commit) stores, without waiting. After [`Plan::Keep`] there is nothing to store.
    pub(crate) fn prepare<T: Databag>(&self, active: &Active<T>) -> Result<Plan, Error> {
        refuse_unconfirmed(active)?;
        self.plan(active)
    }

    /// Executes the plan of [`prepare`](Self::prepare), as [`commit`](Self::commit) does.
    pub(crate) async fn commit_plan<T: Databag>(
        &self,
        active: &mut Active<T>,
        plan: Result<Plan, Error>,
        deadline: Instant,
    ) -> Result<Option<CookieUpdate>, Error> {
        let (id, ends) = (active.id, active.is_ending());
        let span = span::commit(T::SCHEMA.name, id, span::plan_name(&plan));
        let outcome = self.try_commit_plan(active, plan, deadline).instrument(span.clone()).await;
        span::note_commit(&span, &outcome);
        self.block_if_end_failed(ends, id, outcome)
    }

    async fn try_commit_plan<T: Databag>(
        &self,
        active: &mut Active<T>,
        plan: Result<Plan, Error>,
        deadline: Instant,
    ) -> Result<Option<CookieUpdate>, Error> {
        let plan = match plan {
            // What this request read has expired; another request may have extended it since.
            Err(Error::Ended) => {
                Box::pin(self.rebase(active, deadline)).await?;
                self.plan(active)?
            }
            plan => plan?,
        };
        if matches!(plan, Plan::Keep) {
            return Ok(None);
        }
        let is_touch = matches!(plan, Plan::Touch(_));
        let update = match self.commit_with_retry(active, plan, deadline).await {
            Err(error) if is_touch => {
                log_failed_touch::<T>(active.id, &error);
                None
            }
            outcome => outcome?,
        };
        self.prune_with_request(deadline).await;
        active.unconfirmed = false;
        Ok(update)
    }

    /// Executes a plan, on top of what other requests stored first.
    async fn commit_with_retry<T: Databag>(
        &self,
        active: &mut Active<T>,
        mut plan: Plan,
        deadline: Instant,
    ) -> Result<Option<CookieUpdate>, Error> {
        let lock = self.lock(active.id, deadline).await?;
        // Likely the other request has written the session, and this plan would meet a conflict.
        if lock.has_waited() && matches!(plan, Plan::Write(_) | Plan::Rotate(_)) {
            Box::pin(self.rebase(active, deadline)).await?;
            plan = self.plan(active)?;
        }
        loop {
            match self.execute_plan(active, plan, deadline).await? {
                CommitOutcome::Done(update) => return Ok(update),
                CommitOutcome::Conflict => {
                    yield_before_retry(deadline).await?;
                    Box::pin(self.rebase(active, deadline)).await?;
                    plan = self.plan(active)?;
                }
            }
        }
    }

    /// Applies a change to what is stored and stores the result in one step, with retries.
    pub(crate) async fn update<T: Databag, R>(
        &self,
        active: &mut Active<T>,
        read: Read,
        mut change: impl FnMut(&mut T) -> R,
        deadline: Instant,
    ) -> Result<(R, Option<CookieUpdate>), Error> {
        let (id, ends) = (active.id, active.is_ending());
        let span = span::commit(T::SCHEMA.name, id, "update");
        let outcome = self.try_update(active, read, &mut change, deadline).instrument(span.clone()).await;
        span::note_commit(&span, &outcome);
        let updated = self.block_if_end_failed(ends, id, outcome)?;
        self.prune_with_request(deadline).await;
        active.unconfirmed = false;
        Ok(updated)
    }

    async fn try_update<T: Databag, R>(
        &self,
        active: &mut Active<T>,
        mut read: Read,
        change: &mut impl FnMut(&mut T) -> R,
        deadline: Instant,
    ) -> Result<(R, Option<CookieUpdate>), Error> {
        refuse_unconfirmed(active)?;
        let lock = self.lock(active.id, deadline).await?;
        let mut is_outdated = lock.has_waited() || self.has_expired(active);
        loop {
            if is_outdated && active.stored.is_some() {
                Box::pin(self.rebase(active, deadline)).await?;
                read = Read::Now;
            }
            let before = readable_fields(&self.context, active)?;
            active.forget_replaced_flash(&before);
            let value = change(&mut active.bag);
            active.set_times();
            let outcome = match self.plan(active) {
                // No write tells whether it decided on what is stored now.
                Ok(Plan::Keep | Plan::Touch(_)) if read == Read::Before && active.stored.is_some() => {
                    Ok(CommitOutcome::Conflict)
                }
                Ok(plan) => self.execute_plan(active, plan, deadline).await,
                Err(error) => Err(error),
            };
            if let Ok(CommitOutcome::Done(update)) = outcome {
                return Ok((value, update));
            }
            // The change was not stored. It is applied again to what other requests stored, or, after a failure,
            // must not be stored with the rest of the request.
            let restored = before.decode_into(&mut active.bag);
            active.set_up_bag();
            restored.map_err(|error| not_read_back::<T>(&self.context.layout, error))?;
            outcome?;
            yield_before_retry(deadline).await?;
            is_outdated = true;
        }
    }

    /// Returns whether what this request has read has expired. Another request may have extended it since.
    fn has_expired<T>(&self, active: &Active<T>) -> bool {
        active.stored.as_ref().is_some_and(|stored| stored.expiration <= self.now())
    }

    pub(super) fn plan<T: Databag>(&self, active: &Active<T>) -> Result<Plan, Error> {
        plan(&self.context, active, self.now(), || self.fresh_token())
    }

    /// Waits until no other request of this process writes the session.
    pub(super) async fn lock(&self, id: SessionId, deadline: Instant) -> Result<SessionLockGuard<'_>, Error> {
        until(deadline, pin!(self.locks.lock(id))).await.ok_or(Error::Contended)
    }

    /// Makes one attempt to execute a plan. `active.unconfirmed` stays set after a write that may be stored, until the
    /// caller has nothing more to wait for: the result of a call that is dropped before is lost.
    async fn execute_plan<T: Databag>(
        &self,
        active: &mut Active<T>,
        plan: Plan,
        deadline: Instant,
    ) -> Result<CommitOutcome, Error> {
        let outcome = self.attempt(active, plan, deadline).await;
        let is_known = match &outcome {
            Ok(CommitOutcome::Conflict) | Err(Error::Ended) => true,
            Ok(CommitOutcome::Done(_)) => false,
            Err(error) => error.is_refused(),
        };
        if is_known {
            active.unconfirmed = false;
        }
        outcome
    }

    async fn attempt<T: Databag>(
        &self,
        active: &mut Active<T>,
        plan: Plan,
        deadline: Instant,
    ) -> Result<CommitOutcome, Error> {
        let old = active.id;
        if !active.is_ending() && self.backend.is_ended_here(old) {
            return Err(Error::Ended);
        }
        if let Plan::Create(write) | Plan::Write(write) | Plan::Rotate(write) = &plan
            && let Some(uncounted) = self.uncounted(write)
        {
            Box::pin(self.rehash::<T>(&uncounted, old, deadline)).await?;
        }
        match plan {
            Plan::Keep => Ok(CommitOutcome::Done(None)),
            Plan::Create(write) => {
                Box::pin(self.insert(active, &write, deadline)).await?;
                Ok(CommitOutcome::Done(self.adopt(active, write)))
            }
            Plan::Touch(write) => match self.touch_row(active, &write, deadline).await {
                Ok(Outcome::Conflict) => Ok(CommitOutcome::Conflict),
                Ok(Outcome::Stored) => Ok(CommitOutcome::Done(self.adopt(active, write))),
                Ok(Outcome::Gone) => Ok(CommitOutcome::Done(None)),
                Err(error) => {
                    log_failed_touch::<T>(old, &error);
                    Ok(CommitOutcome::Done(None))
                }
            },
            Plan::Write(write) => match self.replace_row(active, &write, deadline).await? {
                Outcome::Stored => Ok(CommitOutcome::Done(self.adopt(active, write))),
                Outcome::Conflict => Ok(CommitOutcome::Conflict),
                Outcome::Gone => Err(Error::Ended),
            },
            // Boxed, as what is rare is everywhere here: the future of a plain write stays small.
            Plan::Rotate(write) => Box::pin(self.rotate(active, write, deadline)).await,
            Plan::Delete => {
                Box::pin(self.end(active, deadline)).await?;
                let fresh = self.fresh(active.client.clone())?;
                *active = Active { unconfirmed: active.unconfirmed, ..fresh };
                Ok(CommitOutcome::Done(Some(CookieUpdate::Remove)))
            }
        }
    }

    async fn rotate<T: Databag>(
        &self,
        active: &mut Active<T>,
        write: Box<RowWrite>,
        deadline: Instant,
    ) -> Result<CommitOutcome, Error> {
        let (old, new, ends) = (active.id, write.row.id, active.is_ending());
        let was_unconfirmed = active.unconfirmed;
        match self.replace_row(active, &write, deadline).await? {
            // The session was to end while this write was under way, and the deletion under its old id failed.
            Outcome::Stored if !ends && self.backend.is_ended_here(old) => {
                self.block(new);
                Err(Error::Ended)
            }
            Outcome::Stored => {
                self.context.protection.forget(old);
                if ends {
                    self.note_ended(old, active.end_cause);
                    self.tell(Event::Created { session: new });
                } else {
                    let user = active.stored.as_ref().and_then(|stored| stored.projection.user.as_ref());
                    let keeps_user = user == write.stored.projection.user.as_ref();
                    let renamed = Renamed { id: new, keeps_user };
                    self.backend.tombstones().note(old, Tombstone::RenamedTo(renamed));
                    self.watches.rename(old, renamed);
                    // A revocation may have found the new id before its watches did.
                    if self.backend.is_ended_here(new) {
                        self.watches.end(new, SessionEnd::Ended);
                    }
                    self.tell(Event::Rotated { from: old, to: new });
                }
                Ok(CommitOutcome::Done(self.adopt(active, write)))
            }
            Outcome::Conflict => Ok(CommitOutcome::Conflict),
            // After the session has ended, what the bag holds now begins another one.
            Outcome::Gone if ends => {
                active.unconfirmed = was_unconfirmed;
                self.end(active, deadline).await?;
                self.insert(active, &write, deadline).await?;
                Ok(CommitOutcome::Done(self.adopt(active, write)))
            }
            Outcome::Gone => Err(Error::Ended),
        }
    }

    /// Ends a session, under the id it has now.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if it is gone and this process does not know why: another process may have renamed it.
    async fn end<T>(&self, active: &mut Active<T>, deadline: Instant) -> Result<(), Error> {
        let mut id = active.id;
        let was_unconfirmed = std::mem::replace(&mut active.unconfirmed, true);
        loop {
            if self.delete_row(id, deadline).await? {
                self.note_ended(id, active.end_cause);
                return Ok(());
            }
            match self.backend.tombstones().of(id) {
                Some(Tombstone::RenamedTo(next)) => id = next.id,
                Some(Tombstone::Ended) => return Ok(()),
                // An earlier call of this request was not answered, and may have ended it.
                None if was_unconfirmed => return Err(Error::Unconfirmed),
                None => return Err(Error::Ended),
            }
        }
    }

    /// Deletes the row of an id and returns whether there was one.
    pub(crate) async fn delete(&self, id: SessionId) -> Result<bool, Error> {
        let outcome = self.delete_row(id, self.deadline()).await;
        let deleted = self.block_if_end_failed(true, id, outcome)?;
        if deleted {
            self.note_ended(id, EndCause::Revoked);
        }
        Ok(deleted)
    }

    pub(crate) fn note_ended(&self, id: SessionId, cause: EndCause) {
        self.context.protection.forget(id);
        self.backend.tombstones().note(id, Tombstone::Ended);
        self.watches.end(id, SessionEnd::Ended);
        self.tell(Event::Ended { session: id, cause });
    }

    async fn insert<T>(
        &self,
        active: &mut Active<T>,
        write: &RowWrite,
        deadline: Instant,
    ) -> Result<(), Error> {
        active.unconfirmed = true;
        self.insert_row(write, deadline).await?;
        self.tell(Event::Created { session: write.row.id });
        self.tell_written(write);
        Ok(())
    }

    async fn replace_row<T>(
        &self,
        active: &mut Active<T>,
        write: &RowWrite,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        active.unconfirmed = true;
        let renames = active.id != write.row.id;
        let effort = if renames && !active.is_ending() { Effort::UntilDeadline } else { Effort::Once };
        let outcome = self.update_row((active.id, revision(active)), write, effort, deadline).await?;
        match outcome {
            Outcome::Stored => self.tell_written(write),
            Outcome::Conflict => self.tell(Event::Conflicted { session: active.id }),
            Outcome::Gone => {}
        }
        Ok(outcome)
    }

    fn tell_written(&self, write: &RowWrite) {
        self.tell(Event::Written { session: write.row.id, bytes: write.size });
    }

    /// Makes an update once: it is not worth a second try.
    pub(super) fn touch_row<'a, T>(
        &'a self,
        active: &Active<T>,
        write: &RowWrite,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome, Error>> + use<'a, T> {
        let (id, expected) = (active.id, revision(active));
        let update = Update { id, expected, scope: write.scope, row: write.row.clone() };
        let replaced = within(deadline, "update a row", move |end| self.backend.replace(update, end));
        async move {
            let outcome = replaced.await?;
            match outcome {
                Outcome::Stored => self.tell(Event::Touched { session: id }),
                Outcome::Conflict => self.tell(Event::Conflicted { session: id }),
                Outcome::Gone => {}
            }
            Ok(outcome)
        }
    }

    /// Refuses a session that was to end, if the store did not end it.
    pub(crate) fn block_if_end_failed<R>(
        &self,
        ends: bool,
        id: SessionId,
        outcome: Result<R, Error>,
    ) -> Result<R, Error> {
        if ends && outcome.is_err() {
            // Another request may have renamed it while this one was in flight.
            self.block(self.backend.tombstones().latest_id(id));
        }
        outcome
    }

    /// Refuses a session in this process from now on.
    fn block(&self, id: SessionId) {
        self.backend.block(id);
        self.watches.end(id, SessionEnd::Ended);
    }

    /// Takes over what was stored. The cookie changes if its token or its date does.
    fn adopt<T>(&self, active: &mut Active<T>, write: Box<RowWrite>) -> Option<CookieUpdate> {
        let write = *write;
        let dates = |stored: &Stored| (stored.header.lifetime.persistent, stored.expiration);
        let is_dated = active.stored.as_ref().map(dates) == Some(dates(&write.stored));
        let token = self.backend.token(&write.row, write.token);
        let is_changed = token.is_some() || !is_dated;
        active.id = write.row.id;
        active.token = token.or(active.token.take());
        active.base = write.base;
        active.intent = Intent::Continue;
        active.lifetime = None;
        active.authenticated = false;
        active.ends_others = false;
        let token = active.token.clone().filter(|_| is_changed);
        set_cookie(token, active.stored.insert(write.stored))
    }

    /// Reads what other requests have stored, and merges this request's changes into it.
    async fn rebase<T: Databag>(&self, active: &mut Active<T>, deadline: Instant) -> Result<(), Error> {
        let reload = within(deadline, "load a row", |end| self.backend.reload(active.id, end));
        let row = match reload.await? {
            Reloaded::Row(row) => row,
            Reloaded::Unchanged => return Ok(()),
            // A request that ends the session finds out later why it is gone.
            Reloaded::Gone if active.is_ending() => return Ok(()),
            Reloaded::Gone => return Err(Error::Ended),
        };
        let theirs = match self.open::<T>(row, None, None)? {
            LoadOutcome::Live(theirs) => theirs,
            LoadOutcome::Rejected(Rejection::Expired) => return Err(Error::Ended),
            LoadOutcome::Rejected(rejection) => return Err(Error::Unreadable(rejection)),
        };
        // A session that ends takes over nothing that was written meanwhile.
        if !active.is_ending() {
            let ours = readable_fields(&self.context, active)?;
            // A flash value that was read is still in the bag, and is not a change that would undo another request's.
            let none = |field| self.context.layout.none(field);
            let is_replaced = |&field: &usize| {
                active.base.get(field) == none(field) && theirs.base.get(field) != none(field)
            };
            let replaced: Vec<usize> = active.received_flash(&ours).filter(is_replaced).collect();
            let ours_changed = ours.with(&replaced, none);
            let merged = merge::<T>(&active.base, &ours_changed, &theirs.base)?;
            if ours_changed != active.base && theirs.base != active.base {
                self.tell(Event::Merged { session: active.id });
            }
            active.forget_replaced_flash(&ours);
            active.flash.retain(|(field, _)| !replaced.contains(field));
            let decoded = merged.decode_into(&mut active.bag);
            active.set_up_bag();
            decoded.map_err(|error| not_read_back::<T>(&self.context.layout, error))?;
        }
        active.base = theirs.base;
        active.stored = theirs.stored;
        Ok(())
    }
}

/// Returns the revision that an update has to find.
fn revision<T>(active: &Active<T>) -> i64 {
    active.stored.as_ref().map_or(0, |stored| stored.revision)
}

/// Refuses to write what may be stored already: a second write could count it twice. Ending a session counts nothing.
fn refuse_unconfirmed<T>(active: &Active<T>) -> Result<(), Error> {
    if active.unconfirmed && active.intent != Intent::End { Err(Error::Unconfirmed) } else { Ok(()) }
}

/// Lets other requests continue before a retry, if there is time for one.
pub(super) async fn yield_before_retry(deadline: Instant) -> Result<(), Error> {
    tokio::task::yield_now().await;
    if Instant::now() < deadline { Ok(()) } else { Err(Error::Contended) }
}

pub(super) fn log_failed_touch<T: Databag>(id: SessionId, error: &Error) {
    tracing::warn!(bag = T::SCHEMA.name, session = ?id, error = %ErrorChain(error), "could not extend the session's expiry");
}

/// Returns the cookie of a session; `None` for a session that was found by its id.
pub(crate) fn set_cookie(token: Option<Token>, stored: &Stored) -> Option<CookieUpdate> {
    let (persistent, expires) = (stored.header.lifetime.persistent, stored.expiration);
    token.map(|token| CookieUpdate::Set { token, persistent, expires })
}
