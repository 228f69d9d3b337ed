//! Stores with one planted fault each: a checker that finds no planted fault proves nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::fixture::hour;
use super::*;
use crate::MemoryStore;
use crate::clock::Timestamp;
use crate::store::{
    ColumnRef, Comparison, Filter, LimitedWrite, Order, Outcome, Page, Row, StoreError, Table, Update, Write,
};
use crate::token::SessionId;
use crate::value::Value;

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    UpdateCreates,
    UpdateIgnoresRevision,
    UpdateComparesBeforeItWrites,
    UpdateKeepsOldId,
    UpdateOverwritesTakenId,
    InsertOverwrites,
    DeleteAlwaysReturnsTrue,
    PruneRemovesLiveRows,
    FilterIgnoresExpiration,
    LimitKeepsTheOldest,
    LimitRemovesTheNewcomer,
    LimitIsAFirstStep,
    LimitIsASecondStep,
    LimitCountsTheOldId,
    LimitFindsIdsFirst,
    RemovalFindsIdsFirst,
    PagesOverlap,
    NewestComesLast,
    LongStateLooksGood,
    TextIgnoresCase,
    CachedRowIsOld,
}

#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    fault: Fault,
    update_lock: Arc<Mutex<()>>,
    cached: Arc<Mutex<HashMap<SessionId, Row>>>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { store: MemoryStore::new(), fault, update_lock: Arc::default(), cached: Arc::default() }
    }

    async fn surplus(
        &self,
        others: &Filter,
        write: &LimitedWrite,
        deadline: Instant,
    ) -> Result<Vec<SessionId>, StoreError> {
        let rows = self.store.find(others, Page::newest(100), deadline).await?;
        let keep = usize::try_from(write.others()).expect("a small number");
        Ok(rows.iter().skip(keep).map(|row| row.id).collect())
    }

    /// Finds ids and deletes their rows in a second step, so that other calls run in between.
    async fn find_and_delete(
        &self,
        filter: &Filter,
        deadline: Instant,
    ) -> Result<Vec<SessionId>, StoreError> {
        let rows = self.store.find(filter, Page::new(None, 9), deadline).await?;
        tokio::task::yield_now().await;
        let mut removed = Vec::new();
        for row in rows {
            removed.extend(self.store.delete(row.id, deadline).await?.then_some(row.id));
        }
        Ok(removed)
    }
}

impl Store for Faulty {
    async fn prepare(&mut self, table: &Table, timeout: Duration) -> Result<(), StoreError> {
        self.store.prepare(table, timeout).await
    }

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        let mut loaded = self.store.load(id, deadline).await?;
        if let Some(row) = loaded.as_mut().filter(|_| self.fault == Fault::LongStateLooksGood) {
            row.state.truncate(1_000);
        }
        Ok(loaded)
    }

    async fn load_cached(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        let loaded = self.load(id, deadline).await?;
        let (Fault::CachedRowIsOld, Some(row)) = (self.fault, &loaded) else { return Ok(loaded) };
        Ok(Some(self.cached.lock().await.entry(id).or_insert_with(|| row.clone()).clone()))
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        if self.fault == Fault::InsertOverwrites {
            self.store.delete(row.id, deadline).await?;
        }
        self.store.insert(row, deadline).await
    }

    async fn update(&self, mut update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        let lock = self.update_lock.lock().await;
        let stored = self.store.load(update.id, deadline).await?;
        match (self.fault, stored) {
            (Fault::UpdateCreates, None) => {
                self.store.insert(update.row, deadline).await?;
                return Ok(Outcome::Stored);
            }
            (Fault::UpdateIgnoresRevision, Some(row)) => update.expected = row.revision,
            (Fault::UpdateComparesBeforeItWrites, Some(row)) if row.revision == update.expected => {
                // Other calls run between the comparison and the write.
                drop(lock);
                tokio::task::yield_now().await;
                self.store.delete(row.id, deadline).await?;
                self.store.insert(update.row, deadline).await?;
                return Ok(Outcome::Stored);
            }
            (Fault::UpdateKeepsOldId, Some(row))
                if row.id != update.row.id && row.revision == update.expected =>
            {
                self.store.insert(update.row, deadline).await?;
                return Ok(Outcome::Stored);
            }
            (Fault::UpdateOverwritesTakenId, Some(row)) if row.id != update.row.id => {
                self.store.delete(update.row.id, deadline).await?;
            }
            _ => {}
        }
        self.store.update(update, deadline).await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        let deleted = self.store.delete(id, deadline).await?;
        Ok(deleted || self.fault == Fault::DeleteAlwaysReturnsTrue)
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        let now = if self.fault == Fault::PruneRemovesLiveRows { now.saturating_add(hour()) } else { now };
        self.store.prune(now, limit, deadline).await
    }

    async fn write_limited(
        &self,
        mut write: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        let (user, id) = (write.row().user.clone().expect("a user"), write.row().id);
        let others = Filter::Compare(ColumnRef::User, Comparison::Eq, user).and(Filter::Id(id).not());
        match self.fault {
            Fault::LimitFindsIdsFirst if write.max == 1 => {
                write.max = u32::MAX;
                let removed = self.find_and_delete(&others, deadline).await?;
                return Ok((self.store.write_limited(write, deadline).await?.0, removed));
            }
            Fault::LimitIsASecondStep => {
                let written = LimitedWrite { max: u32::MAX, ..write.clone() };
                let (outcome, _) = self.store.write_limited(written, deadline).await?;
                let Some(row) = self.store.load(id, deadline).await?.filter(|_| outcome == Outcome::Stored)
                else {
                    return Ok((outcome, Vec::new()));
                };
                tokio::task::yield_now().await;
                let same = Write::Update(Update::new(id, row.revision, row));
                return self.store.write_limited(LimitedWrite { write: same, ..write }, deadline).await;
            }
            Fault::LimitIsAFirstStep => {
                let removed = self.surplus(&others, &write, deadline).await?;
                for id in &removed {
                    self.store.delete(*id, deadline).await?;
                }
                write.max = u32::MAX;
                return Ok((self.store.write_limited(write, deadline).await?.0, removed));
            }
            Fault::LimitRemovesTheNewcomer => {
                let is_earlier = |row: &Row| row.created < write.row().created;
                let rows = self.store.find(&others, Page::new(None, 100), deadline).await?;
                let max = usize::try_from(write.max).expect("a small number");
                if rows.len() >= max && !rows.iter().any(is_earlier) {
                    return Ok((Outcome::Stored, Vec::new()));
                }
            }
            Fault::LimitKeepsTheOldest => {
                let keep = usize::try_from(write.others()).expect("a small number");
                write.max = u32::MAX;
                let (outcome, _) = self.store.write_limited(write, deadline).await?;
                let mut rows = self.store.find(&others, Page::new(None, 100), deadline).await?;
                rows.sort_by_key(|row| row.created);
                let removed: Vec<_> = rows.iter().skip(keep).map(|row| row.id).collect();
                for id in &removed {
                    self.store.delete(*id, deadline).await?;
                }
                return Ok((outcome, removed));
            }
            Fault::LimitCountsTheOldId => {
                if let Write::Update(update) = &write.write {
                    let is_of_user =
                        self.store.load(update.id, deadline).await?.is_some_and(|row| row.user.is_some());
                    write.max -= u32::from(is_of_user && write.max > 1);
                }
            }
            _ => {}
        }
        self.store.write_limited(write, deadline).await
    }
}

impl Directory for Faulty {
    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        let filter = match filter {
            Filter::Compare(column, Comparison::Eq, Value::Text(text))
                if self.fault == Fault::TextIgnoresCase =>
            {
                let texts = [text.to_lowercase(), text.to_uppercase()].map(Value::Text);
                Filter::OneOf(*column, texts.into())
            }
            Filter::LiveAt(_) if self.fault == Fault::FilterIgnoresExpiration => Filter::All,
            other => other.clone(),
        };
        let mut rows = self.store.find(&filter, page, deadline).await?;
        if self.fault == Fault::PagesOverlap && page.limit == 2 && rows.len() == 2 {
            rows.swap(0, 1);
        }
        if self.fault == Fault::NewestComesLast && page.order == Order::NewestFirst {
            rows.reverse();
        }
        Ok(rows)
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        self.store.count(filter, deadline).await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        if self.fault == Fault::RemovalFindsIdsFirst {
            return self.find_and_delete(filter, deadline).await;
        }
        self.store.remove(filter, deadline).await
    }

    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        self.store.health(deadline).await
    }
}

#[tokio::test]
async fn every_planted_fault_is_found() {
    for (fault, found) in [
        (Fault::UpdateCreates, "an update of a missing row creates nothing"),
        (Fault::UpdateIgnoresRevision, "an update of another revision is a conflict"),
        (Fault::UpdateComparesBeforeItWrites, "one of concurrent updates of one revision wins"),
        (Fault::UpdateKeepsOldId, "a new id replaces the old one"),
        (Fault::UpdateOverwritesTakenId, "a new id that is taken changes neither row"),
        (Fault::InsertOverwrites, "a second row of one id is refused"),
        (Fault::DeleteAlwaysReturnsTrue, "delete returns whether there was a row"),
        (Fault::PruneRemovesLiveRows, "pruning removes only expired rows"),
        (Fault::FilterIgnoresExpiration, "filters select as documented"),
        (Fault::LimitKeepsTheOldest, "a limited write removes the rows that began first"),
        (Fault::LimitRemovesTheNewcomer, "the row of a limited write stays"),
        (Fault::LimitIsAFirstStep, "a limited write that fails removes nothing"),
        (Fault::LimitIsASecondStep, "parallel limited writes never leave more"),
        (Fault::LimitCountsTheOldId, "a limited update renames and removes in one step"),
        (Fault::RemovalFindsIdsFirst, "a session is removed even while its id changes: what is left"),
        (Fault::LimitFindsIdsFirst, "a session is removed even while its id changes: what is left"),
        (Fault::PagesOverlap, "pages follow one another"),
        (Fault::NewestComesLast, "the newest rows come first"),
        (Fault::LongStateLooksGood, "a long state is seen to be too long"),
        (Fault::CachedRowIsOld, "a cached load has what was acknowledged"),
        (Fault::TextIgnoresCase, "text is compared byte for byte"),
    ] {
        let open = async || Faulty::new(fault);
        let mut broken = check_store(&open).await;
        broken.extend(check_directory(&open).await);
        assert!(broken.iter().any(|line| line.contains(found)), "{found}: {broken:?}");
    }
    run(async || Faulty::new(Fault::None)).await;
}
