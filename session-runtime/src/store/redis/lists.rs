//! The calls on many rows: a user's by an index, all others by reading the shards, a few at a time.

use std::cmp::Reverse;
#[cfg(feature = "admin")]
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::slice;

use futures_util::future::join_all;

use super::failure::Failure;
use super::fields;
use super::link::Call;
use super::rows::{Rows, ScriptReply, reply};
use super::scripts;
use crate::clock::Timestamp;
use crate::store::{ColumnRef, Comparison, Filter, Order, Page, Row};
#[cfg(feature = "admin")]
use crate::store::{Survey, Table, TableColumn};
use crate::token::SessionId;
#[cfg(feature = "admin")]
use crate::value::ColumnType;
use crate::value::Value;

/// How many calls one listing makes at a time.
pub(super) const CONCURRENT_CALLS: usize = 32;

/// The shards of a table, by the first byte of the ids.
static SHARDS: [u8; 256] = {
    let mut shards = [0; 256];
    let mut shard = u8::MAX;
    while shard > 0 {
        shards[shard as usize] = shard;
        shard -= 1;
    }
    shards
};

/// How many ids of one list are kept in memory at a time.
const IDS: usize = 1_000;

impl Rows<'_> {
    pub(super) async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, Failure> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut pruned = 0;
        for shards in SHARDS.chunks(CONCURRENT_CALLS) {
            let expired = self.expired(shards, now, limit - pruned).await?;
            let expired: Vec<_> = expired.into_iter().take(limit - pruned).collect();
            for ids in expired.chunks(CONCURRENT_CALLS) {
                let prune = ids.iter().map(|id| {
                    let call = Call::script(&scripts::PRUNE, &self.keys(*id));
                    self.ask(call.value(now.as_millis().to_string()))
                });
                for answer in join_all(prune).await {
                    pruned += usize::from(reply(answer?)? == ScriptReply::Stored);
                }
            }
            if pruned >= limit {
                break;
            }
        }
        Ok(pruned as u64)
    }

    pub(super) async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, Failure> {
        let mut found = FirstRows::of(page);
        let start = page.after.filter(|_| page.order == Order::Id);
        let add = |rows: Vec<Row>| {
            found.add(rows.into_iter().filter(|row| page.after.is_none_or(|after| row.id > after)));
            page.order == Order::Id && found.is_full()
        };
        self.search(filter, start, add).await?;
        Ok(found.rows)
    }

    pub(super) async fn count(&self, filter: &Filter) -> Result<u64, Failure> {
        if let Some(now) = all_live_at(filter) {
            let mut total = 0;
            for shards in SHARDS.chunks(CONCURRENT_CALLS) {
                let counts = shards.iter().map(async |shard| {
                    let count = Call::command("ZCOUNT", self.list(*shard));
                    self.ask::<u64>(count.value(format!("({}", now.as_millis())).value("+inf")).await
                });
                for count in join_all(counts).await {
                    total += count?;
                }
            }
            return Ok(total);
        }
        let (mut total, mut seen, is_of_users) = (0, BTreeSet::new(), users_of(filter).is_some());
        let add = |rows: Vec<Row>| {
            total += rows.iter().filter(|row| !is_of_users || seen.insert(row.id)).count() as u64;
            false
        };
        self.search(filter, None, add).await?;
        Ok(total)
    }

    /// Gives `take` the rows that match a filter, some at a time. Rows of the whole table come in the order of their ids,
    /// from behind an id and until `take` returns that it has enough. Rows of the filter's users come in no order: all of
    /// them, and some twice, since the server may return an id twice and a row may be found under two ids.
    async fn search(
        &self,
        filter: &Filter,
        after: Option<SessionId>,
        mut take: impl FnMut(Vec<Row>) -> bool,
    ) -> Result<(), Failure> {
        if let Some(users) = users_of(filter) {
            for user in users {
                let mut scan = self.scan_of(user)?;
                while let Some(ids) = self.scan(&mut scan).await? {
                    for ids in ids.chunks(CONCURRENT_CALLS) {
                        let mut rows = self.follow_all(ids, user).await?;
                        rows.retain(|row| filter.matches(row));
                        take(rows);
                    }
                }
            }
            return Ok(());
        }
        let mut walk = Walk::after(after);
        while let Some(ids) = self.next_ids(&mut walk, Kind::Listed).await? {
            for ids in ids.chunks(CONCURRENT_CALLS) {
                let mut rows = self.load_all(ids).await?;
                rows.retain(|row| filter.matches(row));
                if take(rows) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, Failure> {
        let is_matching = |row: &Row| filter.matches(row);
        if let Some(users) = users_of(filter) {
            let mut ids = Vec::new();
            for user in users {
                ids.extend(self.ids_of(user).await?);
            }
            return self.revoke_all(&ids, is_matching).await;
        }
        let (mut removed, mut walk) = (Vec::new(), Walk::after(None));
        while let Some(ids) = self.next_ids(&mut walk, Kind::Ever).await? {
            removed.extend(self.revoke_all(&ids, is_matching).await?);
        }
        Ok(removed)
    }

    /// Writes a key to each server: a replica and a full server refuse it.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let write = |shard: &u8| {
            let key = format!("{}:health", self.list(*shard));
            Call::command("SET", key).value("1").value("PX").value("1000")
        };
        let calls: Vec<_> = SHARDS.iter().step_by(SHARDS.len() / 16).map(write).collect();
        self.write_all(&calls).await
    }

    /// Notes that the table belongs to a bag, unless it belongs to another, and returns the one it belongs to.
    pub(super) async fn claim(&self, bag: &str) -> Result<String, Failure> {
        let key = format!("{}owner}}", self.prefix);
        self.write_all(&[Call::command("SET", key.clone()).value(bag).value("NX")]).await?;
        self.ask(Call::command("GET", key)).await
    }

    /// Notes what the columns of the table hold, where it is not noted.
    pub(super) async fn note_columns(&self) -> Result<(), Failure> {
        // None is noted of a declaration that is refused. Another program may note its own meanwhile.
        self.check_columns().await?;
        let note =
            |(column, ty): (&str, &str)| Call::command("SET", self.column_key(column)).value(ty).value("NX");
        self.write_all(&self.table.column_types().map(note).collect::<Vec<_>>()).await?;
        self.check_columns().await
    }

    /// Compares the columns of the table with what is noted of them.
    async fn check_columns(&self) -> Result<(), Failure> {
        for (column, needed) in self.table.column_types() {
            let key = self.column_key(column);
            let noted: Option<String> = self.ask(Call::command("GET", key.clone())).await?;
            if let Some(noted) = noted.filter(|noted| noted != needed) {
                let mismatch = self.table.column_mismatch(column, &noted, needed);
                return Err(Failure::Column { mismatch, key });
            }
        }
        Ok(())
    }

    fn column_key(&self, column: &str) -> String {
        format!("{}columns}}:{column}", self.prefix)
    }

    /// Describes the table by all of its rows: which columns they have, and of which types.
    #[cfg(feature = "admin")]
    pub(super) async fn survey(&self, wanted: &Table) -> Result<Survey, Failure> {
        let owner: Option<String> = self.ask(Call::command("GET", format!("{}owner}}", self.prefix))).await?;
        let (mut counts, mut walk) = (Counts::default(), Walk::after(None));
        while let Some(ids) = self.next_ids(&mut walk, Kind::Listed).await? {
            for ids in ids.chunks(CONCURRENT_CALLS) {
                let reads = ids.iter().map(|id| self.read_bytes(*id, fields::most_bytes(self.table)));
                for bytes in join_all(reads).await {
                    if let Some(found) = bytes?.as_deref().and_then(fields::columns_of) {
                        counts.add(found);
                    }
                }
            }
        }
        let exists = counts.rows > 0 || owner.is_some();
        Ok(Survey { table: exists.then(|| counts.table(wanted)), owner, missing: None })
    }

    /// Starts reading the ids of a user's sessions. It may miss a session whose id changes meanwhile.
    pub(super) fn scan_of(&self, user: &Value) -> Result<Scan, Failure> {
        if self.table.user.is_none() {
            return Err(Failure::NoColumn(ColumnRef::User));
        }
        Ok(Scan { has_dead: true, ..Scan::of(self.user_key(user)) })
    }

    /// Returns the ids of a user's sessions as they are at one time, for calls that must miss none.
    async fn ids_of(&self, user: &Value) -> Result<Vec<SessionId>, Failure> {
        let Scan { key, .. } = self.scan_of(user)?;
        self.drop_dead(&key).await?;
        let ids: Vec<Vec<u8>> = self.ask(Call::command("ZRANGE", key).value("0").value("-1")).await?;
        Ok(ids.iter().filter_map(|id| fields::parse_id(id)).collect())
    }

    /// Returns the rows of a user among these ids; a session that is renamed meanwhile is found under its new id.
    pub(super) async fn follow_all(&self, ids: &[SessionId], user: &Value) -> Result<Vec<Row>, Failure> {
        let rows = join_all(ids.iter().map(|id| self.follow(*id))).await;
        let rows: Vec<_> = rows.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(rows.into_iter().filter(|row| row.user.as_ref() == Some(user)).collect())
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

    /// Returns the ids of these shards that have expired at a time.
    async fn expired(&self, shards: &[u8], now: Timestamp, limit: usize) -> Result<Vec<SessionId>, Failure> {
        let lists = shards.iter().map(async |shard| {
            let expired = Call::command("ZRANGEBYSCORE", self.list(*shard)).value("0");
            let expired = expired.value(now.as_millis().to_string());
            let expired = expired.value("LIMIT").value("0").value(limit.to_string());
            self.ask::<Vec<Vec<u8>>>(expired).await
        });
        let mut expired = Vec::new();
        for ids in join_all(lists).await {
            expired.extend(ids?.iter().filter_map(|id| fields::parse_id(id)));
        }
        Ok(expired)
    }

    /// Returns the next ids of a walk, in their order; `None` at its end.
    async fn next_ids(&self, walk: &mut Walk, kind: Kind) -> Result<Option<Vec<SessionId>>, Failure> {
        if walk.shard >= SHARDS.len() {
            return Ok(None);
        }
        let shards = SHARDS.iter().skip(walk.shard).take(walk.shards);
        let lists = join_all(shards.map(|shard| self.first_ids(*shard, walk.after, kind))).await;
        walk.shards = (2 * walk.shards).min(CONCURRENT_CALLS);
        let mut ids = Vec::new();
        for list in lists {
            let (list, is_cut) = list?;
            ids.extend(list);
            if is_cut {
                walk.after = ids.last().copied();
                return Ok(Some(ids));
            }
            walk.shard += 1;
        }
        Ok(Some(ids))
    }

    /// Returns the first ids of a shard after an id, in their order, and whether there are more.
    async fn first_ids(
        &self,
        shard: u8,
        after: Option<SessionId>,
        kind: Kind,
    ) -> Result<(BTreeSet<SessionId>, bool), Failure> {
        let (mut ids, mut is_cut) = (BTreeSet::new(), false);
        let mut scan = Scan { kind, ..Scan::of(self.list(shard)) };
        while let Some(found) = self.scan(&mut scan).await? {
            ids.extend(found.into_iter().filter(|id| after.is_none_or(|after| *id > after)));
            while ids.len() > IDS {
                ids.pop_last();
                is_cut = true;
            }
        }
        Ok((ids, is_cut))
    }

    /// Returns some ids of a sorted set; `None` at its end. An id that is there all the time is returned, perhaps twice.
    pub(super) async fn scan(&self, scan: &mut Scan) -> Result<Option<Vec<SessionId>>, Failure> {
        let Some(cursor) = scan.cursor.take() else { return Ok(None) };
        let part = Call::command("ZSCAN", scan.key.clone()).value(cursor.to_string());
        let part = part.value("COUNT").value(IDS.to_string());
        let (next, entries): (u64, Vec<Vec<u8>>) = self.ask(part).await?;
        scan.cursor = (next != 0).then_some(next);
        // A reader needs no server that takes writes.
        if scan.cursor.is_some()
            && std::mem::take(&mut scan.has_dead)
            && let Err(error) = self.drop_dead(&scan.key).await
        {
            tracing::debug!(%error, "a reader removes no dead entries of a user's set");
        }
        let is_asked = |score: &[u8]| scan.kind == Kind::Ever || !score.starts_with(b"-");
        let ids = entries.chunks_exact(2).filter(|entry| is_asked(&entry[1]));
        Ok(Some(ids.filter_map(|entry| fields::parse_id(&entry[0])).collect()))
    }
}

/// Which ids of a list are asked for.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Those of rows.
    Listed,
    /// Those of rows and of marks, which have negative scores.
    Ever,
}

/// A sorted set that is read in parts.
pub(super) struct Scan {
    key: String,
    /// Where the next part begins; `None` at the end.
    cursor: Option<u64>,
    kind: Kind,
    /// Whether it may have entries of rows that expired long ago: the set of a user, unless they were removed.
    has_dead: bool,
}

impl Scan {
    fn of(key: String) -> Self {
        Self { key, cursor: Some(0), kind: Kind::Ever, has_dead: false }
    }
}

/// A walk through all ids of a table, in their order.
struct Walk {
    /// The next shard.
    shard: usize,
    /// How many shards are read at a time: one first, then twice as many each time. A page of a large table needs few
    /// shards, and a small table needs few calls.
    shards: usize,
    after: Option<SessionId>,
}

impl Walk {
    fn after(after: Option<SessionId>) -> Self {
        Self { shard: after.map_or(0, |after| after.as_bytes()[0].into()), shards: 1, after }
    }
}

/// The first rows of a page, of all that are added.
struct FirstRows {
    rows: Vec<Row>,
    order: Order,
    limit: usize,
}

impl FirstRows {
    fn of(page: Page) -> Self {
        Self { rows: Vec::new(), order: page.order, limit: usize::try_from(page.limit).unwrap_or(usize::MAX) }
    }

    fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
        match self.order {
            Order::Id => self.rows.sort_by_key(|row| row.id),
            Order::NewestFirst => self.rows.sort_by_key(|row| Reverse((row.created, row.id))),
        }
        // A search may find a row twice, and another program may have put an id into a second list.
        self.rows.dedup_by_key(|row| row.id);
        self.rows.truncate(self.limit);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit
    }
}

/// What the rows of a table have, so that a damaged one decides nothing.
#[cfg(feature = "admin")]
#[derive(Default)]
struct Counts {
    rows: usize,
    texts: usize,
    users: Vec<(ColumnType, usize)>,
    /// `None` is the type of an address.
    columns: BTreeMap<String, Vec<(Option<ColumnType>, usize)>>,
}

#[cfg(feature = "admin")]
impl Counts {
    fn add(&mut self, row: fields::Found) {
        self.rows += 1;
        self.texts += usize::from(row.state_is_text);
        if let Some(ty) = row.user {
            count(&mut self.users, ty);
        }
        for (name, ty) in row.columns {
            count(self.columns.entry(name).or_default(), ty);
        }
    }

    /// Makes the table that most of the rows are of.
    fn table(self, wanted: &Table) -> Table {
        let mut table = Table { user: None, ip: None, ..wanted.clone() };
        table.state_is_text = 2 * self.texts > self.rows;
        table.user = wanted.user.clone().zip(most(&self.users)).map(|(user, ty)| TableColumn { ty, ..user });
        for (name, types) in self.columns {
            match most(&types) {
                Some(Some(ty)) => table.projected.push(TableColumn::new(name, ty)),
                Some(None) => table.ip = Some(name),
                None => {}
            }
        }
        table
    }
}

#[cfg(feature = "admin")]
fn count<T: PartialEq>(counts: &mut Vec<(T, usize)>, ty: T) {
    match counts.iter_mut().find(|(counted, _)| *counted == ty) {
        Some((_, count)) => *count += 1,
        None => counts.push((ty, 1)),
    }
}

#[cfg(feature = "admin")]
fn most<T: Copy>(counts: &[(T, usize)]) -> Option<T> {
    counts.iter().max_by_key(|(_, count)| *count).map(|(ty, _)| *ty)
}

/// Returns the users of which a filter requires one of every row.
fn users_of(filter: &Filter) -> Option<&[Value]> {
    match filter {
        Filter::Compare(ColumnRef::User, Comparison::Eq, user) => Some(slice::from_ref(user)),
        Filter::OneOf(ColumnRef::User, users) => Some(users),
        Filter::And(left, right) => users_of(left).or_else(|| users_of(right)),
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
