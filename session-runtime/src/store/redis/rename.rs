//! The rename: how a session changes its id.
//!
//! The old id and the new one are usually in different slots, and no script reaches both. So there are three steps, and
//! the second commits:
//!
//! ```text
//!                                                    old id     new id
//! 1  insert the new row, with a mark: the old id     usable     not usable
//! 2  replace the old row by a mark: the new id       gone       usable
//! 3  remove the mark from the new row                gone       usable
//! ```
//!
//! A reader of a row with a mark reads the old id. If that has a mark of the new id, the rename has committed, and the
//! reader completes step 3. Otherwise there is no such row yet. So after a crash between any two steps exactly one of
//! the two ids is usable. Marks expire with their rows. A row that stopped at step 1 is counted by `count` until then.
//!
//! The old row may have columns that only another version of the program knows. Step 2 returns them then and commits
//! nothing. The row of step 1 is written again, with them, before step 2 is repeated.
//!
//! The mark of step 2 stays for a minute after step 3, and in the list of its shard, with the time of its end as a
//! negative score. A revocation follows it: a call that read the old id before step 2 finds the session under its new id.

use super::failure::Failure;
use super::fields::{self, CallId, Completion, Kept, Stored};
use super::limited::Limit;
use super::link::Call;
use super::rows::{LAST_EXPIRY, MARK_LIFETIME, MARKS, Rows, ScriptReply, key_expiry, reply};
use super::scripts;
use crate::store::{Outcome, Row, Update};
use crate::token::SessionId;
use crate::value::Value;

/// How many marks are followed. A session is renamed less often within the lifetime of a mark; marks that someone else has
/// written may lead in a circle.
const MAX_RENAMES: u32 = 100;

impl Rows<'_> {
    /// Changes the id of a row.
    pub(super) async fn rename(&self, update: &Update) -> Result<Outcome, Failure> {
        self.begin_rename(update, self.insert_row(&update.row, Some(update.id))).await?;
        let (outcome, user, _) = self.commit_rename(update, None).await?;
        self.end_rename(update, outcome, user.as_ref()).await?;
        Ok(outcome)
    }

    /// Makes step 1: `insert` inserts the new row.
    pub(super) async fn begin_rename(
        &self,
        Update { id: old, row, .. }: &Update,
        insert: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        match insert.await {
            // This rename was sent before, and came so far or further. Its other steps are confirmed by replicas too.
            Err(Failure::Taken) => match (self.look_up(row.id).await?, self.look_up(*old).await?) {
                (Stored::Pending(from, _), _) if from == *old => {}
                (Stored::Row(_), Stored::Moved(to, _)) if to == row.id => {}
                _ => return Err(Failure::Taken),
            },
            inserted => return inserted,
        }
        Ok(())
    }

    /// Makes step 3 of a rename that has committed, and takes step 1 of another one back.
    pub(super) async fn end_rename(
        &self,
        Update { id: old, row, .. }: &Update,
        outcome: Outcome,
        user: Option<&Value>,
    ) -> Result<(), Failure> {
        if outcome == Outcome::Stored {
            return self.complete_rename(*old, row.id, user).await;
        }
        let abort = Call::script(&scripts::ABORT_RENAME, &self.keys(row.id))
            .value(old.as_bytes())
            .value(MARK_LIFETIME.as_millis().to_string());
        self.ask::<redis::Value>(abort).await.map(drop)
    }

    /// Replaces the old row by a mark, and returns the user that it had. With a limit it removes the surplus rows of the new
    /// row's user in the same step, and returns their ids.
    pub(super) async fn commit_rename(
        &self,
        update: &Update,
        mut limit: Option<Limit<'_>>,
    ) -> Result<(Outcome, Option<Value>, Vec<SessionId>), Failure> {
        let Update { id: old, row, .. } = update;
        let [key, list] = self.keys(*old);
        let (mut kept, mut removed) = (Kept::default(), Vec::new());
        loop {
            let commit = match &limit {
                None => Call::script(&scripts::COMMIT_RENAME, &[key.clone(), list.clone()]),
                Some(limit) => {
                    let keys = [key.clone(), list.clone(), limit.set.clone()];
                    Call::script(&scripts::COMMIT_RENAME_AND_EVICT, &keys)
                }
            };
            let commit = commit
                .value(update.expected.to_be_bytes())
                .value(row.id.as_bytes())
                .value(key_expiry(row.expiration))
                .value(fields::most_bytes(self.table).to_string())
                .value(if self.table.user.is_some() { b"-" } else { kept.user.as_slice() })
                .value(&kept.columns);
            let commit = match &limit {
                None => commit,
                Some(limit) => limit.add_to(commit).value(row.id.to_string()),
            };
            let commit = fields::column_names(self.table).fold(commit, Call::value);
            match self.run(commit).await? {
                (ScriptReply::Stored, user) => {
                    let mut values = user.into_iter();
                    let user = values.next().and_then(|user| fields::decode(&user));
                    removed.extend(values.filter_map(|id| fields::parse_id(&id)));
                    return Ok((Outcome::Stored, user, removed));
                }
                (ScriptReply::More, more) => {
                    let [user, columns] = more.try_into().unwrap_or_default();
                    kept = Kept { user, columns };
                    self.complement(update, &kept).await?;
                }
                (ScriptReply::Many, _) => {
                    let Some(limit) = &mut limit else { return Ok((Outcome::Gone, None, removed)) };
                    removed.extend(self.thin_out(limit, *old).await?);
                }
                (ScriptReply::Conflict, _) => return Ok((Outcome::Conflict, None, removed)),
                // An earlier rename has given the row this id.
                (ScriptReply::From(from), _) if self.has_committed(from, *old).await? => {}
                _ => return Ok((Outcome::Gone, None, removed)),
            }
        }
    }

    /// Writes the new row again, with what only another version of the program knows.
    async fn complement(&self, update: &Update, kept: &Kept) -> Result<(), Failure> {
        let Update { id: old, row, .. } = update;
        let written = fields::write(self.table, row, CallId::default(), Some(*old), kept)?;
        let complement =
            Call::script(&scripts::COMPLEMENT, &[self.key(row.id)]).value(old.as_bytes()).value(written);
        let user = if self.table.user.is_none() { fields::decode(&kept.user) } else { None };
        let index = user.map(|user| self.index_under(&user, row));
        let calls: Vec<_> = index.into_iter().chain([complement]).collect();
        for answer in self.write(&calls).await?.values {
            // Another sending of this rename may have come further.
            if reply(answer)? != ScriptReply::Stored {
                return Err(Failure::Unconfirmed);
            }
        }
        Ok(())
    }

    /// Returns whether a rename has committed, and completes it then.
    pub(super) async fn has_committed(&self, from: SessionId, id: SessionId) -> Result<bool, Failure> {
        if self.is_to_complete(from, id).await? {
            self.complete_rename(from, id, None).await?;
            return Ok(true);
        }
        // Another call may have completed it since. A mark that is still there belongs to a rename that met a conflict.
        Ok(matches!(self.look_up(id).await?, Stored::Row(_)))
    }

    /// The same for a reader, who needs no server that takes writes: a later call can complete the rename.
    pub(super) async fn is_readable(&self, from: SessionId, id: SessionId) -> Result<bool, Failure> {
        if self.is_to_complete(from, id).await? {
            // It waits for no replica.
            let reader = Self { min_replicas: 0, ..*self };
            if let Err(error) = reader.complete_rename(from, id, None).await {
                tracing::debug!(%error, "a rename is not completed by a reader");
            }
            return Ok(true);
        }
        Ok(matches!(self.look_up(id).await?, Stored::Row(_)))
    }

    /// Returns whether a rename has committed, and not noted that it is complete.
    async fn is_to_complete(&self, from: SessionId, id: SessionId) -> Result<bool, Failure> {
        let mark = self.read(from, fields::MARK).await?;
        Ok(matches!(mark, Stored::Moved(to, Completion::Open) if to == id))
    }

    /// Removes the old id from the set of its user, and the mark from the new row, and lets the mark of the old one expire.
    async fn complete_rename(
        &self,
        from: SessionId,
        id: SessionId,
        user: Option<&Value>,
    ) -> Result<(), Failure> {
        let complete = Call::script(&scripts::COMPLETE_RENAME, &self.keys(id)).value(from.as_bytes());
        let expire = Call::script(&scripts::EXPIRE_MARK, &self.keys(from))
            .value(id.as_bytes())
            .value(MARK_LIFETIME.as_millis().to_string())
            .value(LAST_EXPIRY.to_string());
        let unindex = user.map(|user| self.unindex_call(user, from));
        let calls: Vec<_> = unindex.into_iter().chain([complete, expire]).collect();
        self.write_all(&calls).await
    }

    /// Loads a row by its id, or by an id that it was renamed from a moment ago.
    pub(super) async fn follow(&self, mut id: SessionId) -> Result<Option<Row>, Failure> {
        let mut pending = None;
        for _ in 0..MAX_RENAMES {
            match self.look_up(id).await? {
                Stored::Moved(to, _) => id = to,
                Stored::Row(row) => return Ok(Some(row)),
                Stored::Pending(from, row) if self.is_readable(from, id).await? => return Ok(Some(row)),
                // The rename may have committed since, and another one followed.
                Stored::Pending(..) if pending != Some(id) => pending = Some(id),
                Stored::Pending(..) | Stored::Nothing => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Removes a matching row by its id, or by an id that it was renamed from a moment ago; returns its last id.
    pub(super) async fn revoke(
        &self,
        mut id: SessionId,
        is_matching: impl Fn(&Row) -> bool,
    ) -> Result<Option<SessionId>, Failure> {
        loop {
            match self.follow(id).await? {
                Some(row) if is_matching(&row) => id = row.id,
                _ => return Ok(None),
            }
            match self.take(id, MARKS).await? {
                ScriptReply::Stored => return Ok(Some(id)),
                ScriptReply::To(to) => id = to,
                // It was renamed since it was read.
                ScriptReply::From(_) => {}
                _ => return Ok(None),
            }
        }
    }
}
