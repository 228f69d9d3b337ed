//! Fills a database: sessions enter as `Sessions::create` seals them, rows leave in large transactions.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use session_runtime::store::{Outcome, Row, Table, Unlisted, Update};
use session_runtime::{Sessions, Store, StoreError, Timestamp, Value};

use crate::Result;
use crate::steps::{Visitor, builder, open, token};

/// One session of so many has expired, from the first one on.
pub(crate) const EXPIRED: u64 = 10;

const TRANSACTION: u64 = 100_000;

/// Creates so many sessions, and prints the bytes on disk of each.
pub(crate) async fn fill(file: &Path, rows: u64) -> Result<()> {
    // Makes the table and its indexes.
    drop(open(file).await?);
    let connection = Connection::open(file)?;
    // No log and no sync: a database that is filled halfway is worth nothing. The indexes stay in memory.
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = OFF;
         PRAGMA synchronous = OFF;
         PRAGMA cache_size = -1500000;
         BEGIN;",
    )?;
    let connection = Arc::new(Mutex::new(connection));
    let begun = Instant::now();
    let filler =
        Filler { connection: connection.clone(), insert: String::new(), inserted: AtomicU64::new(0) };
    let next = AtomicU64::new(0);
    let tokens = move || token(next.fetch_add(1, Ordering::Relaxed));
    let sessions: Sessions<Visitor, _> = builder(Unlisted(filler))?.token_source(tokens).build().await?;
    for n in 0..rows {
        sessions.create(Visitor::new(n)).await?;
        if (n + 1).is_multiple_of(TRANSACTION) {
            lock(&connection).execute_batch("COMMIT; BEGIN")?;
            eprintln!("filling: {} of {rows} sessions, {:.0} s", n + 1, begun.elapsed().as_secs_f64());
        }
    }
    lock(&connection).execute_batch("COMMIT")?;
    drop(sessions);
    println!("bytes {}", file.metadata()?.len() as f64 / rows as f64);
    Ok(())
}

/// Adds rows to the transaction that is open.
struct Filler {
    connection: Arc<Mutex<Connection>>,
    insert: String,
    inserted: AtomicU64,
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for Filler {
    async fn prepare(&mut self, table: &Table, _: Duration) -> std::result::Result<(), StoreError> {
        let Table { name, id, state, created, expiration, revision, .. } = table;
        self.insert = format!(
            "INSERT INTO \"{name}\" (\"{id}\", \"{state}\", user_id, \"{created}\", \"{expiration}\", \"{revision}\") \
             VALUES (?, ?, ?, ?, ?, ?)"
        );
        Ok(())
    }

    async fn load(
        &self,
        _: session_runtime::SessionId,
        _: Instant,
    ) -> std::result::Result<Option<Row>, StoreError> {
        Err(StoreError::new("load a row", "the database is only filled"))
    }

    async fn insert(&self, row: Row, _: Instant) -> std::result::Result<(), StoreError> {
        let n = self.inserted.fetch_add(1, Ordering::Relaxed);
        let mut expiration = row.expiration;
        if n.is_multiple_of(EXPIRED) {
            // In the last hour, in no order: sessions do not expire in the order of their creation.
            let now = Timestamp::from(SystemTime::now()).as_millis();
            expiration = Timestamp::from_millis(now - (mixed(n) % 3_600_000).cast_signed());
        }
        let Some(Value::Integer(user)) = row.user else {
            return Err(StoreError::new("insert a row", "it has no user"));
        };
        let connection = lock(&self.connection);
        let insert = || {
            connection.prepare_cached(&self.insert)?.execute((
                row.id.as_bytes(),
                &row.state,
                user,
                row.created.as_millis(),
                expiration.as_millis(),
                row.revision,
            ))
        };
        insert().map(drop).map_err(|error| StoreError::new("insert a row", error))
    }

    async fn update(&self, _: Update, _: Instant) -> std::result::Result<Outcome, StoreError> {
        Err(StoreError::new("update a row", "the database is only filled"))
    }

    async fn delete(
        &self,
        _: session_runtime::SessionId,
        _: Instant,
    ) -> std::result::Result<bool, StoreError> {
        Err(StoreError::new("delete a row", "the database is only filled"))
    }
}

/// A number that looks random (the finaliser of `SplitMix64`).
pub(crate) fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
