//! A store whose calls are timed for observers. Without an observer there is none.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Timestamp;
use crate::engine::event::{CallOutcome, Event, StoreOperation};
use crate::engine::observers::Observers;
use crate::store::{
    Directory, DynDirectory, DynStore, Filter, LimitedWrite, Outcome, Page, Row, RowVersions, Store,
    StoreError, StoreFuture, Update,
};
use crate::token::SessionId;

pub(super) struct Observed<S> {
    store: S,
    name: &'static str,
    observers: Arc<Observers>,
}

impl<S> Observed<S> {
    pub(super) fn new(store: S, observers: Arc<Observers>) -> Self {
        Self { store, name: short_name::<S>(), observers }
    }

    fn begin(&self, operation: StoreOperation) -> Call<'_> {
        let Self { name, observers, .. } = self;
        let (begun, outcome) = (Instant::now(), CallOutcome::Abandoned);
        Call { store: name, observers, operation, begun, outcome }
    }
}

/// A call that has begun. It is told of when it is dropped.
struct Call<'a> {
    store: &'static str,
    observers: &'a Observers,
    operation: StoreOperation,
    begun: Instant,
    outcome: CallOutcome,
}

impl<'a> Call<'a> {
    fn time<R>(self, answer: impl Future<Output = Result<R, StoreError>> + Send + 'a) -> StoreFuture<'a, R> {
        Box::pin(async move {
            // All of it moves here, so that it is dropped at the end.
            let mut call = self;
            let result = answer.await;
            call.outcome = if result.is_ok() { CallOutcome::Answered } else { CallOutcome::Failed };
            result
        })
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let (store, operation, outcome) = (self.store, self.operation, self.outcome);
        let duration = self.begun.elapsed();
        self.observers.tell(Event::StoreCall { store, operation, outcome, duration });
    }
}

/// Returns the name of a type without its path and its parameters.
fn short_name<S>() -> &'static str {
    let name = std::any::type_name::<S>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

impl<S: Store> DynStore for Observed<S> {
    fn load(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Option<Row>> {
        self.begin(StoreOperation::Load).time(self.store.load(id, deadline))
    }

    fn load_cached(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Option<Row>> {
        self.begin(StoreOperation::Load).time(self.store.load_cached(id, deadline))
    }

    fn load_versions<'a>(&'a self, ids: &'a [SessionId], deadline: Instant) -> StoreFuture<'a, RowVersions> {
        self.begin(StoreOperation::LoadVersions).time(self.store.load_versions(ids, deadline))
    }

    fn insert(&self, row: Row, deadline: Instant) -> StoreFuture<'_, ()> {
        self.begin(StoreOperation::Insert).time(self.store.insert(row, deadline))
    }

    fn update(&self, update: Update, deadline: Instant) -> StoreFuture<'_, Outcome> {
        self.begin(StoreOperation::Update).time(self.store.update(update, deadline))
    }

    fn delete(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, bool> {
        self.begin(StoreOperation::Delete).time(self.store.delete(id, deadline))
    }

    fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> StoreFuture<'_, u64> {
        self.begin(StoreOperation::Prune).time(self.store.prune(now, limit, deadline))
    }

    fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> StoreFuture<'_, (Outcome, Vec<SessionId>)> {
        self.begin(StoreOperation::WriteLimited).time(self.store.write_limited(write, deadline))
    }
}

impl<S: Directory> DynDirectory for Observed<S> {
    fn find<'a>(&'a self, filter: &'a Filter, page: Page, deadline: Instant) -> StoreFuture<'a, Vec<Row>> {
        self.begin(StoreOperation::Find).time(self.store.find(filter, page, deadline))
    }

    fn count<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> StoreFuture<'a, u64> {
        self.begin(StoreOperation::Count).time(self.store.count(filter, deadline))
    }

    fn remove<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> StoreFuture<'a, Vec<SessionId>> {
        self.begin(StoreOperation::Remove).time(self.store.remove(filter, deadline))
    }

    fn health(&self, deadline: Instant) -> StoreFuture<'_, ()> {
        self.begin(StoreOperation::Health).time(self.store.health(deadline))
    }
}
