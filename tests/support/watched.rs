//! A real store whose calls are counted and can fail, hang or wait.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use session_runtime::store::{Filter, LimitedWrite, Outcome, Page, Row, Update, Write};
use session_runtime::{Directory, SessionId, SqliteStore, Store, StoreError, Timestamp};
use tokio::sync::Semaphore;

/// A call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `Store::load`
    Load,
    /// `Store::insert`
    Insert,
    /// `Store::update`
    Update,
    /// `Store::delete`
    Delete,
    /// `Store::prune`
    Prune,
    /// `Directory::find` and `Directory::count`
    List,
    /// `Directory::remove`
    Remove,
    /// `Directory::health`
    Health,
}

impl Call {
    const ALL: [Self; 8] = [
        Self::Load,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Prune,
        Self::List,
        Self::Remove,
        Self::Health,
    ];
}

/// The fault of a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It fails before it is executed.
    Down,
    /// It is refused for good, because of the column `tenant`.
    Refused,
    /// It is executed, and its answer is lost.
    AnswerLost,
    /// It is executed, its answer is lost, and the store is down from then on.
    Breaks,
    /// It is never answered.
    Hangs,
    /// It waits at a gate before it is executed.
    Waits(Gate),
    /// It is executed, and its answer waits at a gate.
    AnswerWaits(Gate),
    /// It is refused as by `Refused`, when it has passed a gate.
    RefusalWaits(Gate),
}

/// A gate where calls wait until a test opens it.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    /// Waits until a call has arrived.
    pub async fn arrival(&self) {
        self.arrived.acquire().await.map(tokio::sync::SemaphorePermit::forget).ok();
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Reports an arrival, and waits until the gate is open.
    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.map(tokio::sync::SemaphorePermit::forget).ok();
    }
}

type Action = BoxFuture<'static, ()>;

#[derive(Default)]
struct Shared {
    counts: HashMap<Call, usize>,
    faults: HashMap<Call, Fault>,
    faults_once: HashMap<Call, Fault>,
    actions: VecDeque<(Call, Action)>,
}

/// Counts and controls the calls of a [`Watched`] store.
#[derive(Clone, Default)]
pub struct Watch {
    shared: Arc<Mutex<Shared>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("counts", &self.shared().counts).finish_non_exhaustive()
    }
}

impl Watch {
    /// Returns the number of calls of one kind.
    pub fn count(&self, call: Call) -> usize {
        self.shared().counts.get(&call).copied().unwrap_or(0)
    }

    /// Returns the number of all calls.
    pub fn calls(&self) -> usize {
        self.shared().counts.values().sum()
    }

    /// Returns the number of calls that write.
    pub fn writes(&self) -> usize {
        [Call::Insert, Call::Update, Call::Delete, Call::Prune, Call::Remove]
            .into_iter()
            .map(|call| self.count(call))
            .sum()
    }

    /// Applies a fault to every call of one kind from now on.
    pub fn fail(&self, call: Call, fault: Fault) {
        self.shared().faults.insert(call, fault);
    }

    /// Applies a fault to the next call of one kind.
    pub fn fail_next(&self, call: Call, fault: Fault) {
        self.shared().faults_once.insert(call, fault);
    }

    /// Applies a fault to every call from now on.
    pub fn fail_all(&self, fault: &Fault) {
        for call in Call::ALL {
            self.fail(call, fault.clone());
        }
    }

    /// Removes all faults.
    pub fn heal(&self) {
        let mut shared = self.shared();
        shared.faults.clear();
        shared.faults_once.clear();
    }

    /// Runs an action before the next call of one kind reaches the store. Each further action belongs to a further call.
    pub fn before_next(&self, call: Call, action: impl Future<Output = ()> + Send + 'static) {
        self.shared().actions.push_back((call, Box::pin(action)));
    }

    /// Waits at most ten seconds for a condition.
    ///
    /// # Panics
    ///
    /// If the condition does not hold by then.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} within ten seconds: {self:?}");
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn guard<R>(
        &self,
        call: Call,
        work: impl Future<Output = Result<R, StoreError>>,
    ) -> Result<R, StoreError> {
        let (action, fault) = {
            let mut shared = self.shared();
            *shared.counts.entry(call).or_default() += 1;
            let next = shared.actions.iter().position(|(at, _)| *at == call);
            let fault = shared.faults_once.remove(&call).or_else(|| shared.faults.get(&call).cloned());
            (next.and_then(|next| shared.actions.remove(next)), fault)
        };
        if let Some((_, action)) = action {
            action.await;
        }
        match fault {
            None => {}
            Some(Fault::Down) => return Err(StoreError::new("be reached", "the store is down")),
            Some(Fault::Refused) => return Err(refusal()),
            Some(Fault::RefusalWaits(gate)) => {
                gate.pass().await;
                return Err(refusal());
            }
            Some(fault @ (Fault::AnswerLost | Fault::Breaks)) => {
                work.await?;
                if matches!(fault, Fault::Breaks) {
                    self.fail_all(&Fault::Down);
                }
                return Err(StoreError::new("be heard", "the connection was lost"));
            }
            Some(Fault::Hangs) => return pending().await,
            Some(Fault::Waits(gate)) => gate.pass().await,
            Some(Fault::AnswerWaits(gate)) => {
                let answer = work.await;
                gate.pass().await;
                return answer;
            }
        }
        work.await
    }
}

fn refusal() -> StoreError {
    StoreError::refused("take a value", Some("tenant"), "it is too long")
}

/// An SQLite store in memory or in a file, and a [`Watch`] on it.
#[derive(Clone, Debug)]
pub struct Watched {
    store: SqliteStore,
    watch: Watch,
}

impl Watched {
    /// Watches a store.
    pub fn new(store: SqliteStore) -> (Self, Watch) {
        let watch = Watch::default();
        (Self { store, watch: watch.clone() }, watch)
    }
}

impl Store for Watched {
    crate::forward!(store: prepare);

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.watch.guard(Call::Load, self.store.load(id, deadline)).await
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        self.watch.guard(Call::Insert, self.store.insert(row, deadline)).await
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        self.watch.guard(Call::Update, self.store.update(update, deadline)).await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        self.watch.guard(Call::Delete, self.store.delete(id, deadline)).await
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        self.watch.guard(Call::Prune, self.store.prune(now, limit, deadline)).await
    }

    /// Counts as the write that it is.
    async fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        let call = match write.write {
            Write::Insert(_) => Call::Insert,
            Write::Update(_) => Call::Update,
        };
        self.watch.guard(call, self.store.write_limited(write, deadline)).await
    }
}

impl Directory for Watched {
    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        self.watch.guard(Call::List, self.store.find(filter, page, deadline)).await
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        self.watch.guard(Call::List, self.store.count(filter, deadline)).await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        self.watch.guard(Call::Remove, self.store.remove(filter, deadline)).await
    }

    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        self.watch.guard(Call::Health, self.store.health(deadline)).await
    }
}
