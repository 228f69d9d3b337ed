//! A write after which its user has no surplus sessions.
//!
//! On one server a script reaches all rows of a user. The new row is inserted with a mark, so that it is not usable, and one
//! script makes it usable and removes the surplus. The server does nothing else meanwhile. So if a user has very many
//! sessions, most of the surplus ends before, each row in a step of its own, and the script has a bounded number of rows left.
//!
//! In a cluster the rows are in different slots, and no script reaches all of them. So the surplus ends before the new row
//! becomes usable:
//!
//! ```text
//! 1  insert the new row, with a mark                        not usable
//! 2  add its id to the set of its user, and read the set    not usable
//! 3  remove the surplus among the rows of these ids         not usable
//! 4  remove the mark, or commit the rename                  usable
//! ```
//!
//! Step 2 is one script, so it gives the log-ins of one user an order. Each of them sees the rows of all that came before it,
//! usable or not yet, and leaves at most `others` of these. So there are never more usable rows than allowed. A row that is
//! removed before its own step 4 never becomes usable: its log-in came first, and its session has ended already. A log-in that
//! fails after step 3 has ended sessions and begun none.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::failure::Failure;
use super::fields::{self, Stored, parse_id};
use super::link::Call;
use super::lists::CONCURRENT_CALLS;
use super::near_cache::NearCache;
use super::rows::{MARK_LIFETIME, ONLY_MARKS, Rows, ScriptReply, call_id, reply_with_values};
use super::scripts;
use crate::store::{ColumnRef, LimitedWrite, Outcome, Row, Update, Write};
use crate::token::SessionId;

/// How many rows one script may look at besides those that stay. It takes some 10 to 50 microseconds for each.
const AT_ONCE: u32 = 1_000;

/// What a script needs to remove the surplus rows of a user.
pub(super) struct Limit<'a> {
    limited: &'a LimitedWrite,
    /// The key of the user's set.
    pub(super) set: String,
    /// The values of `evict`, in `scripts`, but for the last one.
    values: [Vec<u8>; 6],
    /// The last one: how many ids the script may look at.
    most_ids: u64,
}

impl Limit<'_> {
    /// Adds the values of `evict` to a script.
    pub(super) fn add_to(&self, script: Call) -> Call {
        self.values.iter().fold(script, Call::value).value(self.most_ids.to_string())
    }
}

impl Rows<'_> {
    pub(super) async fn write_limited(
        &self,
        limited: &LimitedWrite,
    ) -> Result<(Outcome, Vec<SessionId>), Failure> {
        // The rows that end are not among the keys of the script, and if its answer is lost, they are not known.
        let _change = self.near_cache.map(NearCache::change_any);
        match (&limited.write, self.link.is_cluster()) {
            (Write::Insert(row), false) => Ok((Outcome::Stored, self.insert_limited(limited, row).await?)),
            (Write::Update(update), false) => self.rename_limited(limited, update).await,
            (Write::Insert(row), true) => Ok((Outcome::Stored, self.insert_in_cluster(limited, row).await?)),
            (Write::Update(update), true) => self.rename_in_cluster(limited, update).await,
        }
    }

    fn limit<'a>(&self, limited: &'a LimitedWrite) -> Result<Limit<'a>, Failure> {
        let LimitedWrite { now, .. } = limited;
        let user = fields::user(self.table, limited.row()).unwrap_or_default();
        Ok(Limit {
            limited,
            set: self.user_key(limited.row().user.as_ref().ok_or(Failure::NoColumn(ColumnRef::User))?),
            values: [
                self.prefix.as_bytes().to_vec(),
                user,
                limited.others().to_string().into_bytes(),
                now.as_millis().to_string().into_bytes(),
                call_id().to_vec(),
                MARK_LIFETIME.as_millis().to_string().into_bytes(),
            ],
            most_ids: u64::from(limited.others()) + u64::from(AT_ONCE),
        })
    }

    /// Removes the dead entries of the user's set; without any, it ends surplus sessions of the user, but for the newest ones,
    /// which are left to the script, and lets the script look at as many entries as are left then. `old` is the id of the row
    /// that is written or replaced. Ids of rows that were renamed meanwhile are followed, and the script finds what was missed.
    pub(super) async fn thin_out(
        &self,
        limit: &mut Limit<'_>,
        old: SessionId,
    ) -> Result<Vec<SessionId>, Failure> {
        if self.drop_dead(&limit.set).await? {
            return Ok(Vec::new());
        }
        let LimitedWrite { now, .. } = limit.limited;
        let new = limit.limited.row();
        let user = new.user.as_ref().ok_or(Failure::NoColumn(ColumnRef::User))?;
        let left = u64::from(limit.limited.others()) + u64::from(AT_ONCE / 2);
        let (mut newest, mut removed) = (BTreeSet::new(), Vec::new());
        let mut entries = 0;
        let mut scan = self.scan_of(user)?;
        while let Some(ids) = self.scan(&mut scan).await? {
            entries += ids.len();
            for ids in ids.chunks(CONCURRENT_CALLS) {
                let rows = self.follow_all(ids, user).await?.into_iter();
                let others = rows.filter(|row| row.id != new.id && row.id != old);
                newest.extend(others.map(|row| (row.expiration > *now, row.created, row.id)));
                let mut surplus = Vec::new();
                while newest.len() as u64 > left {
                    surplus.extend(newest.pop_first());
                }
                // A session that has begun anew meanwhile is a newer one.
                let ends = surplus.iter().map(|(_, created, id)| {
                    self.revoke(*id, |row| row.user.as_ref() == Some(user) && row.created <= *created)
                });
                for ended in join_all(ends).await {
                    removed.extend(ended?);
                }
            }
        }
        // Entries without a row are few: they are those of calls that have failed.
        limit.most_ids = entries.saturating_sub(removed.len()) as u64 + left;
        Ok(removed)
    }

    async fn insert_limited(&self, limited: &LimitedWrite, row: &Row) -> Result<Vec<SessionId>, Failure> {
        let mut limit = self.limit(limited)?;
        let admit = |limit: &Limit<'_>| {
            let [key, list] = self.keys(row.id);
            let call = Call::script(&scripts::ADMIT, &[key, list, limit.set.clone()]);
            limit.add_to(call.value(row.id.as_bytes()))
        };
        let mut removed = Vec::new();
        let mut admitted = self.insert_row_then(row, Some(row.id), Some(admit(&limit))).await?;
        loop {
            match reply_with_values(admitted.unwrap_or(redis::Value::Nil))? {
                (ScriptReply::Many, _) => removed.extend(self.thin_out(&mut limit, row.id).await?),
                // If it is not there any more, a log-in after this one has ended it, or this call was sent twice.
                (_, ids) => {
                    removed.extend(ids.iter().filter_map(|id| parse_id(id)));
                    return Ok(removed);
                }
            }
            admitted = self.write(&[admit(&limit)]).await?.values.pop();
        }
    }

    async fn rename_limited(
        &self,
        limited: &LimitedWrite,
        update: &Update,
    ) -> Result<(Outcome, Vec<SessionId>), Failure> {
        let limit = self.limit(limited)?;
        self.begin_rename(update, self.insert_row(&update.row, Some(update.id))).await?;
        let (outcome, user, removed) = self.commit_rename(update, Some(limit)).await?;
        self.end_rename(update, outcome, user.as_ref()).await?;
        Ok((outcome, removed))
    }

    async fn insert_in_cluster(&self, limited: &LimitedWrite, row: &Row) -> Result<Vec<SessionId>, Failure> {
        self.insert_unlisted(row, row.id).await?;
        let earlier = self.announce(row).await?;
        let removed = self.evict(limited, None, &earlier).await?;
        let admit = Call::script(&scripts::COMPLETE_RENAME, &self.keys(row.id)).value(row.id.as_bytes());
        self.write_all(&[admit]).await?;
        Ok(removed)
    }

    async fn rename_in_cluster(
        &self,
        limited: &LimitedWrite,
        update: &Update,
    ) -> Result<(Outcome, Vec<SessionId>), Failure> {
        let Update { id: old, expected, row, .. } = update;
        self.begin_rename(update, self.insert_unlisted(row, *old)).await?;
        let earlier = self.announce(row).await?;
        // No session ends for a log-in that is known to fail.
        let (outcome, user, removed) = match self.look_up(*old).await? {
            Stored::Row(stored) if stored.revision != *expected => (Outcome::Conflict, None, Vec::new()),
            Stored::Nothing => (Outcome::Gone, None, Vec::new()),
            Stored::Row(_) | Stored::Pending(..) | Stored::Moved(..) => {
                let removed = self.evict(limited, Some(*old), &earlier).await?;
                let (outcome, user, _) = self.commit_rename(update, None).await?;
                (outcome, user, removed)
            }
        };
        self.end_rename(update, outcome, user.as_ref()).await?;
        Ok((outcome, removed))
    }

    /// Makes step 1.
    async fn insert_unlisted(&self, row: &Row, from: SessionId) -> Result<(), Failure> {
        match self.run(self.insert_call(row, Some(from))?).await? {
            (ScriptReply::Stored, _) => Ok(()),
            _ => Err(Failure::Taken),
        }
    }

    /// Makes step 2, and returns the ids of the user's rows.
    async fn announce(&self, row: &Row) -> Result<Vec<SessionId>, Failure> {
        let user = row.user.as_ref().filter(|_| self.table.user.is_some());
        let Some(user) = user else { return Ok(Vec::new()) };
        loop {
            let (_, ids) = self.run(self.index_under(user, row).value("ids")).await?;
            // Each of them is looked up, also if its row expired long ago.
            if ids.len() < AT_ONCE as usize || !self.drop_dead(&self.user_key(user)).await? {
                return Ok(ids.iter().filter_map(|id| parse_id(id)).collect());
            }
        }
    }

    /// Makes step 3: removes the surplus among the rows of these ids, and returns the ids of what was removed. `old` is the
    /// id of the row that the new one replaces.
    async fn evict(
        &self,
        limited: &LimitedWrite,
        old: Option<SessionId>,
        ids: &[SessionId],
    ) -> Result<Vec<SessionId>, Failure> {
        let new = limited.row();
        let mut others = BTreeMap::new();
        for ids in ids.chunks(CONCURRENT_CALLS) {
            for other in join_all(ids.iter().map(|id| self.other(*id))).await {
                others.extend(other?.map(|other| (other.row.id, other)));
            }
        }
        // A row that is being renamed is one session under both ids.
        let renamed: BTreeSet<_> = others.values().filter_map(|other| other.from).collect();
        others.retain(|id, Other { row, from }| {
            let is_this = *id == new.id || Some(*id) == old || (from.is_some() && *from == old);
            !is_this && row.user == new.user && (from.is_some() || !renamed.contains(id))
        });
        let mut others: Vec<_> = others.into_values().collect();
        others.sort_by_key(|Other { row, .. }| Reverse((row.expiration > limited.now, row.created, row.id)));
        let kept = usize::try_from(limited.others()).unwrap_or(usize::MAX).min(others.len());
        let mut removed = Vec::new();
        for surplus in others[kept..].chunks(CONCURRENT_CALLS) {
            for ids in join_all(surplus.iter().map(|other| self.end(other))).await {
                removed.extend(ids?);
            }
        }
        Ok(removed)
    }

    /// Returns the session under an id.
    async fn other(&self, id: SessionId) -> Result<Option<Other>, Failure> {
        Ok(match self.look_up(id).await? {
            Stored::Row(row) => Some(Other { row, from: None }),
            Stored::Pending(from, row) => {
                let is_usable = self.is_readable(from, id).await?;
                Some(Other { row, from: Some(from).filter(|_| !is_usable) })
            }
            Stored::Moved(to, _) => self.follow(to).await?.map(|row| Other { row, from: None }),
            Stored::Nothing => None,
        })
    }

    /// Ends a session, and returns the ids of what was removed.
    async fn end(&self, Other { row, from }: &Other) -> Result<Vec<SessionId>, Failure> {
        let mut id = row.id;
        let mut removed = Vec::new();
        loop {
            match self.take(id, ONLY_MARKS).await? {
                ScriptReply::Stored => removed.push(id),
                ScriptReply::To(to) => {
                    id = to;
                    continue;
                }
                _ => {}
            }
            break;
        }
        // A visitor's session that was about to become one of the user goes on, and has no new id then.
        if let Some(from) = from.filter(|from| *from != row.id) {
            removed.extend(self.revoke(from, |other| other.user == row.user).await?);
        }
        Ok(removed)
    }
}

/// Another session of a user.
struct Other {
    row: Row,
    /// The mark of a row that is not usable yet.
    from: Option<SessionId>,
}
