//! A switch for the database of the demo: calls enter, and fail while it is off, as those to a server that is down do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use session_runtime::store::{Filter, Outcome, Page, Row, Table, Update};
use session_runtime::{Directory, SessionId, Store, StoreError, Timestamp};

/// The switch. Clones are the same switch.
#[derive(Clone, Default)]
pub(crate) struct Outage(Arc<AtomicBool>);

impl Outage {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        if self.is_on() { Err(StoreError::new(operation, "a visitor has switched it off")) } else { Ok(()) }
    }
}

/// A store behind the switch.
pub(crate) struct Switched<S> {
    pub(crate) store: S,
    pub(crate) outage: Outage,
}

impl<S: Store> Store for Switched<S> {
    async fn prepare(&mut self, table: &Table, timeout: Duration) -> Result<(), StoreError> {
        self.store.prepare(table, timeout).await
    }

    async fn claim(&self, table: &Table, bag: &str, deadline: Instant) -> Result<String, StoreError> {
        self.store.claim(table, bag, deadline).await
    }

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.outage.check("load a row")?;
        self.store.load(id, deadline).await
    }

    async fn load_cached(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.outage.check("load a row")?;
        self.store.load_cached(id, deadline).await
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        self.outage.check("insert a row")?;
        self.store.insert(row, deadline).await
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        self.outage.check("update a row")?;
        self.store.update(update, deadline).await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        self.outage.check("delete a row")?;
        self.store.delete(id, deadline).await
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        self.outage.check("remove expired rows")?;
        self.store.prune(now, limit, deadline).await
    }
}

impl<S: Directory> Directory for Switched<S> {
    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        self.outage.check("list rows")?;
        self.store.find(filter, page, deadline).await
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        self.outage.check("count rows")?;
        self.store.count(filter, deadline).await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        self.outage.check("delete rows")?;
        self.store.remove(filter, deadline).await
    }

    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        self.outage.check("answer a health check")?;
        self.store.health(deadline).await
    }
}
