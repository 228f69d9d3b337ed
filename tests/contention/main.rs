//! Racing requests over real connections to several workers of a real server: SQLite and memory.
#![allow(missing_docs)]

mod collide;

use std::time::{Duration, Instant};

use databag_tests::{Client, Jar};
use session_runtime::store::{Outcome, Row, Update};
use session_runtime::{Directory, Durability, MemoryStore, SessionId, SqliteStore, Store, StoreError};

use self::collide::{fifty_writers, of_fifty, of_twenty, race, race_often, races, twenty_increments};

/// A store that delays each call of a request.
#[derive(Clone)]
struct Slow<S> {
    store: S,
    delay: Duration,
}

impl<S> Slow<S> {
    async fn wait(&self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

impl<S: Store> Store for Slow<S> {
    databag_tests::forward!(store: prepare, prune);

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.wait().await;
        self.store.load(id, deadline).await
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        self.wait().await;
        self.store.insert(row, deadline).await
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        self.wait().await;
        self.store.update(update, deadline).await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        self.wait().await;
        self.store.delete(id, deadline).await
    }
}

impl<S: Directory> Directory for Slow<S> {
    databag_tests::forward!(store: find, count, remove, health);
}

fn sqlite(folder: &tempfile::TempDir, durability: Durability) -> SqliteStore {
    let store = SqliteStore::open(folder.path().join("races.db")).expect("a database");
    store.durability(durability)
}

/// A file under stores that take their time, and their names.
fn delayed(folder: &tempfile::TempDir) -> [(String, Slow<SqliteStore>); 3] {
    [0, 1, 5].map(|millis| {
        let (store, delay) = (sqlite(folder, Durability::Normal), Duration::from_millis(millis));
        (format!("SQLite, {millis} ms late"), Slow { store, delay })
    })
}

#[actix_web::test]
async fn fifty_parallel_writers_lose_nothing_with_a_slow_store() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, store) in delayed(&folder) {
        fifty_writers(&name, store).await;
    }
    fifty_writers("memory", MemoryStore::new()).await;
}

#[actix_web::test]
async fn twenty_parallel_increments_are_twenty_by_update_and_by_sum() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, store) in delayed(&folder) {
        twenty_increments(&name, store).await;
    }
    twenty_increments("memory", MemoryStore::new()).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_sqlite_under_full_durability() {
    let folder = tempfile::tempdir().expect("a folder");
    race_often("SQLite, Full", sqlite(&folder, Durability::Full)).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_sqlite_under_normal_durability() {
    let folder = tempfile::tempdir().expect("a folder");
    race_often("SQLite, Normal", sqlite(&folder, Durability::Normal)).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_memory() {
    race_often("memory", MemoryStore::new()).await;
}

/// A promise that a store can break. The tests must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A row that is gone is written all the same.
    Upsert,
    /// A row is written whatever its revision is.
    NoCompare,
}

#[derive(Clone)]
struct Faulty(MemoryStore, Fault);

impl Store for Faulty {
    databag_tests::forward!(0: prepare, load, insert, delete, prune);

    async fn update(&self, mut update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        let row = update.row.clone();
        if let (Fault::NoCompare, Some(stored)) = (self.1, self.0.load(update.id, deadline).await?) {
            update.expected = stored.revision;
        }
        match self.0.update(update, deadline).await? {
            Outcome::Gone if self.1 == Fault::Upsert => {
                self.0.insert(row, deadline).await.map(|()| Outcome::Stored)
            }
            outcome => Ok(outcome),
        }
    }
}

impl Directory for Faulty {
    databag_tests::forward!(0: find, count, remove, health);
}

#[actix_web::test]
async fn a_store_that_revives_sessions_is_found_out() {
    let races = races(Faulty(MemoryStore::new(), Fault::Upsert)).await;
    let mut clients = [(); 2].map(|()| Client::new(races.address, Jar::default()));
    for number in 0..2_000 {
        if race(&races, number, &mut clients).await.is_err_and(|error| error.contains("logged out after")) {
            return races.server.stop(false).await;
        }
    }
    panic!("no race has shown that the store revives sessions");
}

#[actix_web::test]
async fn a_store_that_compares_no_revision_is_found_out() {
    let store = Faulty(MemoryStore::new(), Fault::NoCompare);
    let races = races(Slow { store, delay: Duration::from_millis(1) }).await;
    for kind in ["field", "entry"] {
        let (present, answered) = of_fifty(&races, kind).await;
        assert!(present < 50, "{kind}: all of {answered} are there");
    }
    let (counted, summed, _) = of_twenty(&races).await;
    assert!(counted < 20 && summed < 20, "{counted} and {summed} are counted");
    races.server.stop(false).await;
}
