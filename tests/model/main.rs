//! `Sessions` answer what a plain model answers: SQLite and memory.
//!
//! `PROPTEST_CASES=n` is the number of sequences per store; a failure prints the shortest sequence that was found.
#![allow(missing_docs)]

mod model;

use std::time::{Duration, Instant};

use session_runtime::store::{Filter, Outcome, Page, Row, Update};
use session_runtime::{Directory, MemoryStore, SessionId, SqliteStore, Store, StoreError, Timestamp};

use self::model::try_all;

const CASES: u32 = 256;

/// Two handles of one store.
fn twice<S: Clone>(store: S) -> [S; 2] {
    [store.clone(), store]
}

#[test]
fn sessions_in_sqlite_do_what_the_model_does() {
    let open = async || twice(SqliteStore::in_memory().expect("memory"));
    try_all("SQLite", CASES, open).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn sessions_in_memory_do_what_the_model_does() {
    try_all("memory", CASES, async || twice(MemoryStore::new())).unwrap_or_else(|error| panic!("{error}"));
}

/// A promise that a store can break. The model must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Expired rows are listed, counted and removed like live ones.
    ExpiryIsIgnored,
    /// Pruning removes live rows.
    PruneTakesAll,
    /// An update is acknowledged and not made.
    UpdateIsForgotten,
    /// A row that is deleted stays.
    DeleteIsForgotten,
    /// A renamed row stays under its old id too.
    OldRowStays,
    /// A list lacks its first row.
    ListingIsShort,
}

#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    fault: Fault,
}

impl Faulty {
    fn filter(&self, filter: &Filter) -> Filter {
        match filter {
            Filter::LiveAt(_) if self.fault == Fault::ExpiryIsIgnored => Filter::All,
            Filter::Not(one) => Filter::Not(Box::new(self.filter(one))),
            Filter::And(one, other) => Filter::And(Box::new(self.filter(one)), Box::new(self.filter(other))),
            Filter::Or(one, other) => Filter::Or(Box::new(self.filter(one)), Box::new(self.filter(other))),
            other => other.clone(),
        }
    }
}

impl Store for Faulty {
    databag_tests::forward!(store: prepare, load, insert);

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        match self.fault {
            Fault::UpdateIsForgotten => Ok(Outcome::Stored),
            Fault::OldRowStays if update.id != update.row.id => {
                let old = self.store.load(update.id, deadline).await?;
                let outcome = self.store.update(update, deadline).await?;
                if let (Outcome::Stored, Some(old)) = (outcome, old) {
                    self.store.insert(old, deadline).await?;
                }
                Ok(outcome)
            }
            _ => self.store.update(update, deadline).await,
        }
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        if self.fault == Fault::DeleteIsForgotten {
            return Ok(self.store.load(id, deadline).await?.is_some());
        }
        self.store.delete(id, deadline).await
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        let much_later = now.saturating_add(Duration::from_hours(24));
        let now = if self.fault == Fault::PruneTakesAll { much_later } else { now };
        self.store.prune(now, limit, deadline).await
    }
}

impl Directory for Faulty {
    databag_tests::forward!(store: health);

    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        let mut rows = self.store.find(&self.filter(filter), page, deadline).await?;
        if self.fault == Fault::ListingIsShort {
            rows.drain(..1.min(rows.len()));
        }
        Ok(rows)
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        self.store.count(&self.filter(filter), deadline).await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        self.store.remove(&self.filter(filter), deadline).await
    }
}

#[test]
fn every_planted_fault_is_found() {
    for (fault, shown_by) in [
        (Fault::ExpiryIsIgnored, "counts"),
        (Fault::PruneTakesAll, "Prune"),
        (Fault::UpdateIsForgotten, "differ"),
        (Fault::DeleteIsForgotten, "Delete"),
        (Fault::OldRowStays, "ChangeUser"),
        (Fault::ListingIsShort, "differ"),
    ] {
        let open = async || twice(Faulty { store: MemoryStore::new(), fault });
        let Err(found) = try_all("a faulty store", CASES, open) else {
            panic!("nothing was found of {fault:?}")
        };
        assert!(found.contains(shown_by), "{fault:?}: {found}");
    }
}
