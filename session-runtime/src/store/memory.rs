//! Rows in the memory of this process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{
    Directory, Filter, LimitedWrite, Order, Outcome, Page, Row, Store, StoreError, Table, Update, Write,
};
use crate::clock::Timestamp;
use crate::token::SessionId;

/// Keeps sessions in the memory of this process: for tests, and for sessions that may end with it. Clones share their
/// sessions.
///
/// Each table holds a bounded number of sessions. A full table drops expired sessions; if none has expired, it refuses
/// new ones, and the old ones live on.
///
/// # Examples
///
/// ```
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// # #[cfg(feature = "memory")]
/// use session_runtime::{Databag, Keyring, MemoryStore, Sessions};
///
/// # #[cfg(feature = "memory")]
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::<Shop>::builder(MemoryStore::new())
///     .keyring(Keyring::generate())
///     .build()
///     .await?;
/// let (token, _) = sessions.create(Shop { visits: 1 }).await?;
/// assert_eq!(sessions.load(&token).await?.expect("just created").visits, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    /// By name: bags that share a store must not find, count or end each other's sessions.
    tables: Arc<Mutex<BTreeMap<String, Arc<Mutex<Rows>>>>>,
    rows: Arc<Mutex<Rows>>,
    capacity: usize,
    /// [`Table::max_state`].
    max_state: usize,
}

#[derive(Default)]
struct Rows {
    by_id: BTreeMap<SessionId, Row>,
    by_expiration: BTreeSet<(Timestamp, SessionId)>,
    /// The bag that the rows belong to.
    owner: Option<String>,
    /// What the columns hold.
    column_types: BTreeMap<String, &'static str>,
}

impl MemoryStore {
    /// How many sessions a table holds by default.
    pub const CAPACITY: usize = 100_000;

    /// Makes an empty store for [`CAPACITY`](Self::CAPACITY) sessions in each table.
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// Makes an empty store for so many sessions in each table.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { tables: Arc::default(), rows: Arc::default(), capacity, max_state: usize::MAX }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a row, and of a state that is too long only the part that shows it.
    fn copy(&self, row: &Row) -> Row {
        let state = row.state.get(..=self.max_state).unwrap_or(&row.state).to_vec();
        let Row { id, created, expiration, revision, .. } = *row;
        let (user, columns, damaged) = (row.user.clone(), row.columns.clone(), row.damaged.clone());
        Row { id, state, user, ip: row.ip, created, expiration, revision, columns, damaged }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn prepare(&mut self, table: &Table, _: Duration) -> Result<(), StoreError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        self.rows = tables.entry(table.name.clone()).or_default().clone();
        self.max_state = table.max_state;
        Ok(())
    }

    async fn claim(&self, table: &Table, bag: &str, _: Instant) -> Result<String, StoreError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = tables.entry(table.name.clone()).or_default();
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = rows.owner.get_or_insert_with(|| bag.to_owned()).clone();
        if owner == bag {
            for (column, needed) in table.column_types() {
                let noted = rows.column_types.get(column).copied().unwrap_or(needed);
                if noted != needed {
                    let mismatch = table.column_mismatch(column, noted, needed);
                    return Err(StoreError::new("note the columns of its table", mismatch));
                }
            }
            let types = table.column_types().map(|(column, ty)| (column.to_owned(), ty));
            rows.column_types.extend(types);
        }
        Ok(owner)
    }

    async fn load(&self, id: SessionId, _: Instant) -> Result<Option<Row>, StoreError> {
        Ok(self.rows().by_id.get(&id).map(|row| self.copy(row)))
    }

    async fn insert(&self, row: Row, _: Instant) -> Result<(), StoreError> {
        self.rows().insert(row, self.capacity)
    }

    async fn update(&self, update: Update, _: Instant) -> Result<Outcome, StoreError> {
        self.rows().update(update)
    }

    async fn delete(&self, id: SessionId, _: Instant) -> Result<bool, StoreError> {
        Ok(self.rows().take(id).is_some())
    }

    async fn prune(&self, now: Timestamp, limit: u32, _: Instant) -> Result<u64, StoreError> {
        Ok(self.rows().prune(now, usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    async fn write_limited(
        &self,
        limited: LimitedWrite,
        _: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        let (user, id, others) = (limited.row().user.clone(), limited.row().id, limited.others());
        let mut rows = self.rows();
        let outcome = match limited.write {
            Write::Insert(row) => rows.insert(row, self.capacity).map(|()| Outcome::Stored)?,
            Write::Update(update) => rows.update(update)?,
        };
        let mut surplus = Vec::new();
        if outcome == Outcome::Stored {
            let of_user = rows.by_id.values().filter(|row| row.user == user && row.id != id);
            surplus.extend(of_user.map(|row| (row.expiration > limited.now, row.created, row.id)));
            surplus.sort_unstable_by(|one, other| other.cmp(one));
            surplus.drain(..surplus.len().min(usize::try_from(others).unwrap_or(usize::MAX)));
        }
        let surplus: Vec<_> = surplus.into_iter().map(|(_, _, id)| id).collect();
        for id in &surplus {
            rows.take(*id);
        }
        Ok((outcome, surplus))
    }
}

#[diagnostic::do_not_recommend]
impl Directory for MemoryStore {
    async fn find(&self, filter: &Filter, page: Page, _: Instant) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows();
        let matching = rows.by_id.values().filter(|row| page.after.is_none_or(|after| row.id > after));
        let matching = matching.filter(|row| filter.matches(row));
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        Ok(match page.order {
            Order::Id => matching.take(limit).map(|row| self.copy(row)).collect(),
            Order::NewestFirst => {
                let mut newest: Vec<_> = matching.collect();
                newest.sort_unstable_by_key(|row| Reverse((row.created, row.id)));
                newest.into_iter().take(limit).map(|row| self.copy(row)).collect()
            }
        })
    }

    async fn count(&self, filter: &Filter, _: Instant) -> Result<u64, StoreError> {
        Ok(self.rows().by_id.values().filter(|row| filter.matches(row)).count() as u64)
    }

    async fn remove(&self, filter: &Filter, _: Instant) -> Result<Vec<SessionId>, StoreError> {
        let mut rows = self.rows();
        let ids: Vec<_> = rows.by_id.values().filter(|row| filter.matches(row)).map(|row| row.id).collect();
        for id in &ids {
            rows.take(*id);
        }
        Ok(ids)
    }

    async fn health(&self, _: Instant) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Rows {
    fn insert(&mut self, row: Row, capacity: usize) -> Result<(), StoreError> {
        if self.by_id.contains_key(&row.id) {
            return Err(StoreError::new("insert a row", "there is a row of this id"));
        }
        // The creation time of the new session is the current time of the sessions' clock.
        if self.by_id.len() >= capacity && self.prune(row.created, usize::MAX) == 0 {
            return Err(StoreError::new("insert a row", "the memory store is full"));
        }
        self.put(row);
        Ok(())
    }

    fn update(&mut self, update: Update) -> Result<Outcome, StoreError> {
        match self.by_id.get(&update.id) {
            None => Ok(Outcome::Gone),
            Some(row) if row.revision != update.expected => Ok(Outcome::Conflict),
            Some(_) if update.row.id != update.id && self.by_id.contains_key(&update.row.id) => {
                Err(StoreError::new("update a row", "there is a row of the new id"))
            }
            Some(_) => {
                self.take(update.id);
                self.put(update.row);
                Ok(Outcome::Stored)
            }
        }
    }

    fn put(&mut self, row: Row) {
        self.by_expiration.insert((row.expiration, row.id));
        self.by_id.insert(row.id, row);
    }

    fn take(&mut self, id: SessionId) -> Option<Row> {
        let row = self.by_id.remove(&id)?;
        self.by_expiration.remove(&(row.expiration, id));
        Some(row)
    }

    fn prune(&mut self, now: Timestamp, limit: usize) -> u64 {
        let expired = self.by_expiration.iter().take_while(|(expiration, _)| *expiration <= now);
        let ids: Vec<_> = expired.take(limit).map(|(_, id)| *id).collect();
        for id in &ids {
            self.take(*id);
        }
        ids.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_store() {
        crate::store::suite::run(async || MemoryStore::new()).await;
    }

    fn row(id: u8, created: i64, expiration: i64) -> Row {
        let (created, expiration) = (Timestamp::from_millis(created), Timestamp::from_millis(expiration));
        Row::new(SessionId::from_bytes([id; 32]), Vec::new(), created, expiration, 1)
    }

    #[tokio::test]
    async fn a_long_state_is_cut_and_the_rest_of_the_row_is_whole() {
        let mut store = MemoryStore::new();
        store.prepare(&Table { max_state: 3, ..Table::new("t") }, Duration::ZERO).await.expect("no server");
        let later = Instant::now() + Duration::from_hours(1);
        for (n, length) in [(1, 3), (2, 4), (3, 5_000_000)] {
            let stored = Row { state: vec![7; length], user: Some(Value::Integer(1)), ..row(n, 0, 10) };
            store.insert(stored.clone(), later).await.expect("there is room");
            let expected = Row { state: vec![7; length.min(4)], ..stored };
            assert_eq!(store.load(expected.id, later).await.expect("it answers"), Some(expected.clone()));
            let listed = store.find(&Filter::Id(expected.id), Page::newest(1), later).await;
            assert_eq!(listed.expect("it answers"), [expected]);
        }
    }

    #[derive(crate::Databag)]
    #[databag(table = "customers")]
    struct Customer {
        #[databag(user_id)]
        user_id: Option<i64>,
    }

    #[derive(crate::Databag)]
    #[databag(table = "admins")]
    struct Admin {
        #[databag(user_id)]
        user_id: Option<i64>,
    }

    async fn sessions<T: crate::Databag>(store: &MemoryStore) -> crate::Sessions<T> {
        crate::Sessions::<T>::builder(store.clone()).danger_plaintext().build().await.expect("builds")
    }

    /// Django CVE-2011-4136: two kinds of sessions in one key space.
    #[tokio::test]
    async fn bags_that_share_a_store_are_in_tables_of_their_own() {
        let store = MemoryStore::new();
        let customers = sessions::<Customer>(&store).await;
        let admins = sessions::<Admin>(&store).await;
        let (token, _) = admins.create(Admin { user_id: Some(7) }).await.expect("is stored");
        assert!(customers.load(&token).await.expect("answers").is_none());
        assert_eq!(customers.revoke_user(7).await.expect("answers"), 0);
        assert_eq!(customers.clear().await.expect("answers"), 0);
        let again = sessions::<Admin>(&store).await;
        assert!(again.load(&token).await.expect("answers").is_some(), "clones share a table");
    }

    #[tokio::test]
    async fn a_full_store_refuses_new_sessions_until_old_ones_expire() {
        let store = MemoryStore::with_capacity(2);
        let later = Instant::now() + Duration::from_hours(1);
        store.insert(row(1, 0, 10), later).await.expect("there is room");
        store.insert(row(2, 15, 20), later).await.expect("there is room");
        assert_eq!(
            store.count(&Filter::All, later).await.expect("counts"),
            2,
            "and so the clock may be wrong"
        );
        assert!(store.insert(row(3, 9, 30), later).await.is_err());
        store.insert(row(3, 10, 30), later).await.expect("the first has expired");
        assert_eq!(store.count(&Filter::All, later).await.expect("counts"), 2);
    }
}
