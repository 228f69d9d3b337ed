//! A store whose rows a target writes, sessions over it, and the frame of a record in the clear.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use session_runtime::access::ById;
use session_runtime::builder::Protected;
use session_runtime::store::{Outcome, Row, Table, Unlisted, Update};
use session_runtime::{
    Builder, Cleanup, Databag, Keyring, SessionId, Sessions, Store, StoreError, Timestamp, Token,
};

/// The time of every target.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// When rows expire that a target writes.
pub const LATER: Timestamp = Timestamp::from_millis(1_800_000_060_000);

/// The rows of a target.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<BTreeMap<SessionId, Row>>>);

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shelf(..)")
    }
}

impl Shelf {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<SessionId, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a row in the place of all.
    pub fn replace(&self, row: Row) {
        let mut rows = self.rows();
        rows.clear();
        rows.insert(row.id, row);
    }

    /// Returns a row.
    pub fn get(&self, id: SessionId) -> Option<Row> {
        self.rows().get(&id).cloned()
    }
}

impl Store for Shelf {
    async fn prepare(&mut self, _: &Table, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load(&self, id: SessionId, _: Instant) -> Result<Option<Row>, StoreError> {
        Ok(self.get(id))
    }

    async fn insert(&self, row: Row, _: Instant) -> Result<(), StoreError> {
        self.rows().insert(row.id, row);
        Ok(())
    }

    async fn update(&self, update: Update, _: Instant) -> Result<Outcome, StoreError> {
        let mut rows = self.rows();
        let Some(row) = rows.get(&update.id) else { return Ok(Outcome::Gone) };
        if row.revision != update.expected {
            return Ok(Outcome::Conflict);
        }
        rows.remove(&update.id);
        rows.insert(update.row.id, update.row);
        Ok(Outcome::Stored)
    }

    async fn delete(&self, id: SessionId, _: Instant) -> Result<bool, StoreError> {
        Ok(self.rows().remove(&id).is_some())
    }
}

/// Sessions by their ids.
pub type Loads<T> = Sessions<T, ById>;

/// The token of the row that a target writes.
pub fn token() -> Token {
    Token::from_bytes([7; 32])
}

/// The keys of every target.
///
/// # Panics
///
/// Never: the keys are good ones.
pub fn keyring() -> Keyring {
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    let master = |seed| {
        std::iter::successors(Some(seed), next).skip(1).take(4).flat_map(u64::to_be_bytes).collect::<Vec<_>>()
    };
    Keyring::new(master(11)).and_then(|keys| keys.with_older(master(90))).expect("good keys")
}

/// Settles the clock and stops the cleanup.
pub fn steady<T: Databag, S: session_runtime::access::Backing>(
    builder: Builder<T, S, Protected>,
) -> Builder<T, S, Protected> {
    builder.clock(|| SystemTime::from(NOW)).cleanup(Cleanup::Never).deadline(Duration::from_mins(1))
}

/// Builds sessions in the clear over a shelf.
///
/// # Panics
///
/// If they cannot be built.
pub fn plain<T: Databag>(shelf: &Shelf) -> Loads<T> {
    let builder = Sessions::<T>::builder(Unlisted(shelf.clone())).danger_plaintext();
    crate::http::run(steady(builder).build()).expect("sessions in the clear")
}

/// Makes the row of [`token`].
pub fn row(state: Vec<u8>) -> Row {
    Row::new(token().session_id(), state, NOW, LATER, 1)
}

/// Returns what stands before and after a record in the clear.
pub fn frame<T: Databag>(is_text: bool) -> (Vec<u8>, &'static [u8]) {
    let names = [T::SCHEMA.name, T::SCHEMA.table];
    if is_text {
        let [bag, table] = names;
        return (format!("{{\"bag\":{bag:?},\"table\":{table:?},\"record\":").into_bytes(), b"}");
    }
    let mut head = vec![0];
    for name in names {
        head.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
        head.extend(name.as_bytes());
    }
    (head, b"")
}

/// Frames a record.
pub fn framed<T: Databag>(is_text: bool, record: &[u8]) -> Vec<u8> {
    let (head, tail) = frame::<T>(is_text);
    [&head, record, tail].concat()
}

/// Takes a record out of its frame.
///
/// # Panics
///
/// If the state is not framed as a row of the bag.
pub fn unframed<T: Databag>(is_text: bool, state: &[u8]) -> Vec<u8> {
    let (head, tail) = frame::<T>(is_text);
    state
        .strip_prefix(&*head)
        .and_then(|state| state.strip_suffix(tail))
        .expect("the frame of the bag")
        .to_vec()
}
