//! A store with a fault, for every fault: what a checker is worth that finds none.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::*;
use crate::MemoryStore;
use crate::store::StoreError;

/// What is wrong with a store.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Nothing,
    UpdateCreates,
    RevisionIsIgnored,
    RevisionIsComparedFirst,
    OldIdStays,
    TakenIdIsOverwritten,
    InsertOverwrites,
    DeleteSaysYes,
    PruneTakesAll,
    ExpiryIsIgnored,
    TrimKeepsTheOldest,
    RemoveLooksFirst,
    TrimLooksFirst,
    PagesOverlap,
    CaseIsFolded,
}

#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    fault: Fault,
    turn: Arc<Mutex<()>>,
}

impl Faulty {
    /// Others get in between.
    async fn look_and_remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        let rows = self.store.find(filter, Page { after: None, limit: 9 }).await?;
        tokio::task::yield_now().await;
        let mut removed = Vec::new();
        for row in rows {
            removed.extend(self.store.delete(row.id).await?.then_some(row.id));
        }
        Ok(removed)
    }
}

impl Store for Faulty {
    async fn prepare(&mut self, table: &Table, deadline: Duration) -> Result<(), StoreError> {
        self.store.prepare(table, deadline).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        self.store.load(id).await
    }

    async fn insert(&self, row: Row) -> Result<(), StoreError> {
        if self.fault == Fault::InsertOverwrites {
            self.store.delete(row.id).await?;
        }
        self.store.insert(row).await
    }

    async fn update(&self, mut update: Update) -> Result<Outcome, StoreError> {
        let turn = self.turn.lock().await;
        let there = self.store.load(update.id).await?;
        match (self.fault, there) {
            (Fault::UpdateCreates, None) => {
                self.store.insert(update.row).await?;
                return Ok(Outcome::Stored);
            }
            (Fault::RevisionIsIgnored, Some(row)) => update.expected = row.revision,
            (Fault::RevisionIsComparedFirst, Some(row)) if row.revision == update.expected => {
                // Others get in between the comparison and the write.
                drop(turn);
                tokio::task::yield_now().await;
                self.store.delete(row.id).await?;
                self.store.insert(update.row).await?;
                return Ok(Outcome::Stored);
            }
            (Fault::OldIdStays, Some(row)) if row.id != update.row.id && row.revision == update.expected => {
                self.store.insert(update.row).await?;
                return Ok(Outcome::Stored);
            }
            (Fault::TakenIdIsOverwritten, Some(row)) if row.id != update.row.id => {
                self.store.delete(update.row.id).await?;
            }
            _ => {}
        }
        self.store.update(update).await
    }

    async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
        let deleted = self.store.delete(id).await?;
        Ok(deleted || self.fault == Fault::DeleteSaysYes)
    }

    async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let now = if self.fault == Fault::PruneTakesAll { now.saturating_add(hour()) } else { now };
        self.store.prune(now, limit).await
    }

    async fn trim(&self, user: &Value, keep: u32, now: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        if self.fault == Fault::TrimLooksFirst && keep == 0 {
            let is_user = Filter::Compare(ColumnRef::User, Comparison::Eq, user.clone());
            return self.look_and_remove(&is_user).await;
        }
        if self.fault != Fault::TrimKeepsTheOldest {
            return self.store.trim(user, keep, now).await;
        }
        let rows = self.find(&Filter::LiveAt(now), Page { after: None, limit: 9 }).await?;
        let mut ids: Vec<_> =
            rows.iter().filter(|row| row.user.as_ref() == Some(user)).map(|row| row.id).collect();
        ids.drain(..ids.len().min(2));
        for id in &ids {
            self.store.delete(*id).await?;
        }
        Ok(ids)
    }
}

impl Directory for Faulty {
    async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, StoreError> {
        let folded = match filter {
            Filter::Compare(column, Comparison::Eq, Value::Text(text))
                if self.fault == Fault::CaseIsFolded =>
            {
                let texts = [text.to_lowercase(), text.to_uppercase()].map(Value::Text);
                Filter::OneOf(*column, texts.into())
            }
            Filter::LiveAt(_) if self.fault == Fault::ExpiryIsIgnored => Filter::All,
            other => other.clone(),
        };
        let mut rows = self.store.find(&folded, page).await?;
        if self.fault == Fault::PagesOverlap && page.limit == 2 && rows.len() == 2 {
            rows.swap(0, 1);
        }
        Ok(rows)
    }

    async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        self.store.count(filter).await
    }

    async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        if self.fault == Fault::RemoveLooksFirst {
            return self.look_and_remove(filter).await;
        }
        self.store.remove(filter).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.store.health().await
    }
}

#[tokio::test]
async fn every_planted_fault_is_found() {
    for (fault, found) in [
        (Fault::UpdateCreates, "an update of a missing row creates nothing"),
        (Fault::RevisionIsIgnored, "an update of another revision is a conflict"),
        (Fault::RevisionIsComparedFirst, "of concurrent updates of one revision one wins"),
        (Fault::OldIdStays, "a new id replaces the old one"),
        (Fault::TakenIdIsOverwritten, "a new id that is taken changes neither row"),
        (Fault::InsertOverwrites, "a second row of one id is refused"),
        (Fault::DeleteSaysYes, "deleting tells whether there was a row"),
        (Fault::PruneTakesAll, "pruning keeps to its limit"),
        (Fault::ExpiryIsIgnored, "filters select as documented"),
        (Fault::TrimKeepsTheOldest, "trimming ends what began first"),
        (Fault::RemoveLooksFirst, "a session whose id changes is not missed: what is left"),
        (Fault::TrimLooksFirst, "a session whose id changes is not missed: what is left"),
        (Fault::PagesOverlap, "pages follow one another"),
        (Fault::CaseIsFolded, "text is compared byte for byte"),
    ] {
        let open = async || Faulty { store: MemoryStore::new(), fault, turn: Arc::default() };
        let mut broken = check_store(&open).await;
        broken.extend(check_directory(&open).await);
        assert!(broken.iter().any(|line| line.contains(found)), "{found}: {broken:?}");
    }
    run(async || Faulty { store: MemoryStore::new(), fault: Fault::Nothing, turn: Arc::default() }).await;
}
