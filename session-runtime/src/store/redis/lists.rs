//! The calls on many rows: a user's by an index, all others by reading the shards, a few at a time.

use std::sync::LazyLock;

use futures_util::future::join_all;

use super::failure::Failure;
use super::link::Call;
use super::rows::{Rows, ScriptReply};
use super::scripts;
use crate::clock::Timestamp;
use crate::store::{ColumnRef, Comparison, Filter, Page, Row};
use crate::token::SessionId;
use crate::value::Value;

/// How many calls one listing makes at a time.
const CONCURRENT_CALLS: usize = 32;

/// The number of shards of a table, by the first byte of the ids.
const SHARDS: usize = 256;

/// The scores of rows, and the scores of rows and marks.
static LISTED: LazyLock<[String; 2]> = LazyLock::new(|| ["0".to_owned(), "+inf".to_owned()]);
static EVER: LazyLock<[String; 2]> = LazyLock::new(|| ["-inf".to_owned(), "+inf".to_owned()]);

impl Rows<'_> {
    pub(super) async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, Failure> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let range = ["0".to_owned(), now.as_millis().to_string()];
        let mut pruned = 0;
        for shards in shards().chunks(CONCURRENT_CALLS) {
            let expired = self.members(shards, &range, limit - pruned).await?;
            let expired: Vec<_> = expired.into_iter().take(limit - pruned).collect();
            for ids in expired.chunks(CONCURRENT_CALLS) {
                let prune = ids.iter().map(|id| {
                    let call = Call::new(self.keys(*id)).value(id.to_string()).value(&*range[1]);
                    self.run(&scripts::PRUNE, call)
                });
                for answer in join_all(prune).await {
                    pruned += usize::from(answer? == ScriptReply::Stored);
                }
            }
            if pruned >= limit {
                break;
            }
        }
        Ok(pruned as u64)
    }

    pub(super) async fn evict_oldest(
        &self,
        user: &Value,
        keep: u32,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, Failure> {
        let mut live = self.of_user(user).await?;
        live.retain(|row| row.expiration > now);
        live.sort_unstable_by_key(|row| std::cmp::Reverse((row.created, row.id)));
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let surplus: Vec<_> = live.into_iter().skip(keep).map(|row| row.id).collect();
        self.revoke_all(&surplus, |row| row.user.as_ref() == Some(user)).await
    }

    pub(super) async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, Failure> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let is_asked = |row: &Row| page.after.is_none_or(|after| row.id > after) && filter.matches(row);
        if let Some(user) = user_of(filter) {
            let mut rows = self.of_user(user).await?;
            rows.retain(is_asked);
            rows.sort_unstable_by_key(|row| row.id);
            rows.truncate(limit);
            return Ok(rows);
        }
        let mut found = Vec::new();
        let first = page.after.map_or(0, |after| after.as_bytes()[0]);
        for shards in groups(first) {
            let mut ids = self.members(&shards, &LISTED, usize::MAX).await?;
            ids.retain(|id| page.after.is_none_or(|after| *id > after));
            ids.sort_unstable();
            for ids in ids.chunks(CONCURRENT_CALLS) {
                found.extend(self.load_all(ids).await?.into_iter().filter(is_asked));
                if found.len() >= limit {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn count(&self, filter: &Filter) -> Result<u64, Failure> {
        if let Some(now) = all_live_at(filter) {
            let mut total = 0;
            for shards in shards().chunks(CONCURRENT_CALLS) {
                let counts = shards.iter().map(async |shard| {
                    let mut count = redis::cmd("ZCOUNT");
                    count.arg(self.list(*shard)).arg(format!("({}", now.as_millis())).arg("+inf");
                    self.link.ask::<u64>(&count).await
                });
                for count in join_all(counts).await {
                    total += count?;
                }
            }
            return Ok(total);
        }
        if user_of(filter).is_some() {
            return Ok(self.find(filter, Page::new(None, u32::MAX)).await?.len() as u64);
        }
        let mut total = 0;
        for shards in groups(0) {
            for ids in self.members(&shards, &LISTED, usize::MAX).await?.chunks(CONCURRENT_CALLS) {
                total += self.load_all(ids).await?.iter().filter(|row| filter.matches(row)).count();
            }
        }
        Ok(total as u64)
    }

    pub(super) async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, Failure> {
        let is_matching = |row: &Row| filter.matches(row);
        if let Some(user) = user_of(filter) {
            return self.revoke_all(&self.ids_of(user).await?, is_matching).await;
        }
        let mut removed = Vec::new();
        for shards in groups(0) {
            let ids = self.members(&shards, &EVER, usize::MAX).await?;
            removed.extend(self.revoke_all(&ids, is_matching).await?);
        }
        Ok(removed)
    }

    /// Writes a key to each server: a replica and a full server refuse it.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        for shard in shards().iter().step_by(SHARDS / 16) {
            let key = format!("{}:health", self.list(*shard));
            let _: () = self.link.ask(redis::cmd("SET").arg(key).arg(1).arg("PX").arg(1_000)).await?;
        }
        self.wait_for_replicas().await
    }

    /// Notes that the table belongs to a bag, unless it belongs to another, and returns the one it belongs to.
    pub(super) async fn claim(&self, bag: &str) -> Result<String, Failure> {
        let key = format!("{}owner}}", self.prefix);
        let _: bool = self.link.ask(redis::cmd("SETNX").arg(&key).arg(bag)).await?;
        self.wait_for_replicas().await?;
        Ok(self.link.ask(redis::cmd("GET").arg(&key)).await?)
    }

    /// Returns the rows of a user; a session that is renamed meanwhile is found under its new id.
    async fn of_user(&self, user: &Value) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for ids in self.ids_of(user).await?.chunks(CONCURRENT_CALLS) {
            for row in join_all(ids.iter().map(|id| self.follow(*id))).await {
                rows.extend(row?);
            }
        }
        rows.retain(|row| row.user.as_ref() == Some(user));
        rows.sort_unstable_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        Ok(rows)
    }

    async fn ids_of(&self, user: &Value) -> Result<Vec<SessionId>, Failure> {
        if self.table.user.is_none() {
            return Err(Failure::NoColumn(ColumnRef::User));
        }
        self.range(self.user_key(user), &EVER, usize::MAX).await
    }

    async fn load_all(&self, ids: &[SessionId]) -> Result<Vec<Row>, Failure> {
        let rows = join_all(ids.iter().map(|id| self.load(*id))).await;
        rows.into_iter().filter_map(Result::transpose).collect()
    }

    async fn revoke_all(
        &self,
        ids: &[SessionId],
        is_matching: impl Fn(&Row) -> bool + Copy,
    ) -> Result<Vec<SessionId>, Failure> {
        let mut revoked = Vec::new();
        for ids in ids.chunks(CONCURRENT_CALLS) {
            for id in join_all(ids.iter().map(|id| self.revoke(*id, is_matching))).await {
                revoked.extend(id?);
            }
        }
        Ok(revoked)
    }

    /// Returns the ids of these shards whose score is in the range.
    async fn members(
        &self,
        shards: &[u8],
        range: &[String; 2],
        limit: usize,
    ) -> Result<Vec<SessionId>, Failure> {
        let lists = join_all(shards.iter().map(|shard| self.range(self.list(*shard), range, limit))).await;
        let lists: Vec<_> = lists.into_iter().collect::<Result<_, _>>()?;
        Ok(lists.concat())
    }

    async fn range(&self, key: String, range: &[String; 2], limit: usize) -> Result<Vec<SessionId>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(-1);
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(key).arg(&range[0]).arg(&range[1]).arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<Vec<u8>> = self.link.ask(&command).await?;
        Ok(ids.iter().filter_map(|id| str::from_utf8(id).ok()?.parse().ok()).collect())
    }
}

fn shards() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// Returns the shards from one on in groups: the first alone, then twice as many each time. A page of a large table needs
/// few shards, and a small table needs few groups.
fn groups(first: u8) -> impl Iterator<Item = Vec<u8>> {
    let (mut rest, mut many) = (first..=u8::MAX, 1);
    std::iter::from_fn(move || {
        let group: Vec<_> = rest.by_ref().take(many).collect();
        many = (2 * many).min(CONCURRENT_CALLS);
        (!group.is_empty()).then_some(group)
    })
}

/// Returns the user that a filter requires of every row.
fn user_of(filter: &Filter) -> Option<&Value> {
    match filter {
        Filter::Compare(ColumnRef::User, Comparison::Eq, user) => Some(user),
        Filter::And(left, right) => user_of(left).or_else(|| user_of(right)),
        _ => None,
    }
}

/// Returns the time, if the filter matches all rows that are live at that time.
fn all_live_at(filter: &Filter) -> Option<Timestamp> {
    match filter {
        Filter::LiveAt(now) => Some(*now),
        Filter::And(left, right) => match (&**left, &**right) {
            (Filter::All, other) | (other, Filter::All) => all_live_at(other),
            _ => None,
        },
        _ => None,
    }
}
