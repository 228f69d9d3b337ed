//! A store in memory that fails like real stores: late, before the write, after the write, for a while, for good.
//!
//! It also checks its callers: an ended id is never written again, and revisions only grow.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant as StdInstant};

use databag_tests::Random;
use session_runtime::store::{Filter, LimitedWrite, Outcome, Page, Row, Update};
use session_runtime::{Directory, MemoryStore, SessionId, Store, StoreError, Timestamp};

use tokio::time::Instant;

/// A promise that a store can break. The checks must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A row that is gone is written all the same.
    Upsert,
    /// A row is written whatever its revision is.
    NoCompare,
    /// A write is acknowledged before it is made, and lost with the power.
    EarlyAnswer,
    /// A rename inserts the new row first and deletes the old one later.
    TwoSteps,
    /// A written row keeps its old expiration. Rows are not sealed, so only the simulation can find it.
    StuckExpiration,
    /// A row is returned with an expiration an hour too late. Rows are not sealed, so only the simulation can find it.
    ExpiryIgnored,
    /// The same with sealed rows.
    ExpiryForged,
    /// Loading a row fails at times although the store works.
    Sulky,
    /// A stored write is answered as a conflict.
    FalseConflict,
    /// Not a fault of the store: it fails at random instead of by the seed.
    Unseeded,
    /// Not a fault of the store: the server's clock stands still, so every expiration is in the future.
    ClockStopped,
}

#[derive(Clone)]
pub(crate) struct SimStore {
    rows: MemoryStore,
    state: Arc<Mutex<State>>,
    broken: Option<Broken>,
}

struct State {
    random: Random,
    down: bool,
    /// The start of the last call that was late or failed.
    troubled: Option<Instant>,
    /// Counts power losses: a call in flight at a power loss is not answered with success.
    epoch: u64,
    ended: BTreeSet<SessionId>,
    violations: Vec<String>,
    /// With [`Broken::EarlyAnswer`]: writes that are acknowledged and not made yet.
    unwritten: Vec<Update>,
}

impl SimStore {
    pub(crate) fn new(random: Random, broken: Option<Broken>) -> Self {
        let state = State {
            random,
            down: false,
            troubled: None,
            epoch: 0,
            ended: BTreeSet::new(),
            violations: Vec::new(),
            unwritten: Vec::new(),
        };
        Self { rows: MemoryStore::new(), state: Arc::new(Mutex::new(state)), broken }
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    pub(crate) fn lose_power(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.unwritten.clear();
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Returns whether no call has been late or failed since then.
    pub(crate) fn was_well_since(&self, since: Instant) -> bool {
        self.state().troubled.is_none_or(|troubled| troubled < since)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no check panics while it holds the state")
    }

    /// Makes a call that may be late, fail, or both.
    async fn call<R>(&self, call: impl AsyncFnOnce() -> Result<R, StoreError>) -> Result<R, StoreError> {
        self.failing(3, call).await
    }

    /// The same for a call that fails with this probability in percent.
    async fn failing<R>(
        &self,
        percent: u64,
        call: impl AsyncFnOnce() -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let failure = || {
            self.state().troubled = Some(Instant::now());
            StoreError::new("do what it was asked for", "simulated")
        };
        let (before, after, fails_before, fails_after, epoch) = {
            let mut state = self.state();
            let (late, fails_before, fails_after) =
                (state.random.percent(2), state.random.percent(percent), state.random.percent(2));
            if late {
                state.troubled = Some(Instant::now());
            }
            let longest = if late { 4_000 } else { 8 };
            let before = Duration::from_millis(state.random.below(longest));
            let after = Duration::from_millis(state.random.below(4));
            (before, after, fails_before, fails_after, state.epoch)
        };
        tokio::time::sleep(before).await;
        if self.state().down || self.state().epoch != epoch || fails_before {
            return Err(failure());
        }
        self.write_late();
        let answer = call().await?;
        tokio::time::sleep(after).await;
        if self.state().epoch != epoch || fails_after { Err(failure()) } else { Ok(answer) }
    }

    /// Makes the writes that [`Broken::EarlyAnswer`] has acknowledged.
    fn write_late(&self) {
        let unwritten = std::mem::take(&mut self.state().unwritten);
        for update in unwritten {
            drop(poll_once(self.rows.update(update, StdInstant::now())));
        }
    }

    async fn replace(&self, mut update: Update, deadline: StdInstant) -> Result<Outcome, StoreError> {
        let stored = self.rows.load(update.id, deadline).await?;
        match (self.broken, &stored) {
            (Some(Broken::Upsert), None) => {
                self.note_written(&update.row, None);
                self.rows.insert(update.row, deadline).await?;
                return Ok(Outcome::Stored);
            }
            (Some(Broken::NoCompare), Some(row)) => update.expected = row.revision,
            (Some(Broken::EarlyAnswer), Some(row))
                if row.revision == update.expected && update.row.id == update.id =>
            {
                self.state().unwritten.push(update);
                return Ok(Outcome::Stored);
            }
            (Some(Broken::TwoSteps), Some(row))
                if row.revision == update.expected && update.row.id != update.id =>
            {
                self.rows.insert(update.row, deadline).await?;
                tokio::time::sleep(Duration::from_millis(3)).await;
                if !self.state().down && self.state().random.percent(50) {
                    self.rows.delete(update.id, deadline).await?;
                }
                return Ok(Outcome::Stored);
            }
            (Some(Broken::StuckExpiration), Some(row)) => update.row.expiration = row.expiration,
            _ => {}
        }
        let (old, next) = (update.id, update.row.clone());
        let outcome = self.rows.update(update, deadline).await?;
        let falsely = self.broken == Some(Broken::FalseConflict) && self.state().random.percent(20);
        if outcome == Outcome::Stored {
            self.note_written(&next, stored.as_ref());
            if next.id != old {
                self.state().ended.insert(old);
            }
        }
        Ok(if falsely { Outcome::Conflict } else { outcome })
    }

    fn note_written(&self, row: &Row, before: Option<&Row>) {
        let mut state = self.state();
        if state.ended.contains(&row.id) {
            state.violations.push(format!("{:?} was written after it had ended", row.id));
        }
        if let Some(before) = before
            && row.revision <= before.revision
        {
            state.violations.push(format!("{:?} went back from revision {}", row.id, before.revision));
        }
    }
}

/// Polls a future that never waits.
fn poll_once<R>(future: impl Future<Output = R>) -> Option<R> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

impl Store for SimStore {
    databag_tests::forward!(rows: prepare);

    async fn load(&self, id: SessionId, deadline: StdInstant) -> Result<Option<Row>, StoreError> {
        let mut row = self.call(async || self.rows.load(id, deadline).await).await?;
        if self.broken == Some(Broken::Sulky) && self.state().random.percent(5) {
            return Err(StoreError::new("load a row", "it does not feel like it"));
        }
        if let (Some(Broken::ExpiryIgnored | Broken::ExpiryForged), Some(row)) = (self.broken, &mut row) {
            row.expiration = row.expiration.saturating_add(Duration::from_hours(1));
        }
        Ok(row)
    }

    async fn insert(&self, row: Row, deadline: StdInstant) -> Result<(), StoreError> {
        let insert = async || {
            self.note_written(&row, None);
            self.rows.insert(row, deadline).await
        };
        self.call(insert).await
    }

    async fn update(&self, update: Update, deadline: StdInstant) -> Result<Outcome, StoreError> {
        self.call(async || self.replace(update, deadline).await).await
    }

    async fn delete(&self, id: SessionId, deadline: StdInstant) -> Result<bool, StoreError> {
        let delete = async || {
            self.state().ended.insert(id);
            self.rows.delete(id, deadline).await
        };
        // Deletions fail more often: a failed log-out has the most to keep.
        self.failing(10, delete).await
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: StdInstant) -> Result<u64, StoreError> {
        self.call(async || self.rows.prune(now, limit, deadline).await).await
    }

    async fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: StdInstant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        self.call(async || self.rows.write_limited(write, deadline).await).await
    }
}

impl Directory for SimStore {
    async fn find(&self, filter: &Filter, page: Page, deadline: StdInstant) -> Result<Vec<Row>, StoreError> {
        self.call(async || self.rows.find(filter, page, deadline).await).await
    }

    async fn count(&self, filter: &Filter, deadline: StdInstant) -> Result<u64, StoreError> {
        self.call(async || self.rows.count(filter, deadline).await).await
    }

    async fn remove(&self, filter: &Filter, deadline: StdInstant) -> Result<Vec<SessionId>, StoreError> {
        let remove = async || {
            let removed = self.rows.remove(filter, deadline).await?;
            self.state().ended.extend(removed.iter().copied());
            Ok(removed)
        };
        self.call(remove).await
    }

    async fn health(&self, _: StdInstant) -> Result<(), StoreError> {
        self.call(async || Ok(())).await
    }
}
