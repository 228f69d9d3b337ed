//! Watched sessions: which connections wait for the end of which session.
//!
//! This process's own ends and renames come from where they are made; the rest from [`watch`](super::watch), which reads the
//! watched rows in turns.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures_util::stream::Stream;
use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;

use crate::backend::tombstones::Renamed;
use crate::clock::Timestamp;
use crate::store::RowVersion;
use crate::token::SessionId;

/// How many rows are read at a time.
pub(super) const PAGE: usize = 256;

/// Why a watched session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// It was ended: by a log-out, a revocation, a log-in elsewhere beyond `max_per_user`; or another process has changed
    /// its id.
    Ended,
    /// It has passed its idle or absolute limit.
    Expired,
    /// It continues under another id as the session of another user: a visitor has logged in, or as another user.
    UserChanged,
    /// The last clone of the [`Sessions`](crate::Sessions) was dropped: nothing watches any more. A server that stops drops its
    /// clones when its connections have ended, and one that waits on a watch may hold a clone itself: tell it by other means.
    Closed,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the session was ended",
            Self::Expired => "the session has expired",
            Self::UserChanged => "the session is of another user",
            Self::Closed => "the sessions were closed",
        })
    }
}

/// A session that is watched until it ends: made by [`Sessions::watch`](crate::Sessions::watch).
///
/// As a [`Stream`] it has one item, the reason. To drop it is to stop watching.
#[must_use = "a watch that is dropped watches nothing"]
pub struct SessionWatch {
    waiter: Arc<Waiter>,
    registry: Arc<Registry>,
    is_streamed: bool,
}

impl SessionWatch {
    /// Waits until the session ends, expires or changes its user, and returns why. A call that is dropped loses nothing, and
    /// after the end every call returns at once.
    pub async fn ended(&mut self) -> SessionEnd {
        poll_fn(|context| self.poll_end(context)).await
    }

    /// Returns the id that the session has now, as far as this process has changed it.
    pub fn id(&self) -> SessionId {
        lock(&self.waiter.state).id
    }

    /// Returns why the session is over, if it is.
    pub fn end(&self) -> Option<SessionEnd> {
        lock(&self.waiter.state).end
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<SessionEnd> {
        self.waiter.waker.register(context.waker());
        if let Some(end) = self.end() {
            return Poll::Ready(end);
        }
        // The runtime that has read the rows may be gone.
        self.registry.keep_reading();
        Poll::Pending
    }
}

impl Stream for SessionWatch {
    type Item = SessionEnd;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SessionEnd>> {
        if self.is_streamed {
            return Poll::Ready(None);
        }
        let end = self.poll_end(context);
        self.is_streamed = end.is_ready();
        end.map(Some)
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        self.registry.remove(&self.waiter);
    }
}

impl fmt::Debug for SessionWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { id, end } = *lock(&self.waiter.state);
        f.debug_struct("SessionWatch").field("id", &id).field("end", &end).finish_non_exhaustive()
    }
}

/// The watches of an engine. They end when it is dropped.
#[derive(Default)]
pub(crate) struct Watches(Arc<Registry>);

impl Drop for Watches {
    fn drop(&mut self) {
        let watched = std::mem::take(&mut lock(&self.0.inner).by_id);
        for watched in watched.into_values() {
            watched.end(SessionEnd::Closed);
        }
    }
}

/// Makes the future that reads the rows for as long as any is watched.
type Reader = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[derive(Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
    reader: OnceLock<Reader>,
}

#[derive(Default)]
struct Inner {
    by_id: BTreeMap<SessionId, Watched>,
    /// Whether a task reads the rows.
    is_read: bool,
}

#[derive(Default)]
struct Watched {
    waiters: Vec<Arc<Waiter>>,
    /// The version of the row that was found to hold a live session. It is opened again when it has another.
    seen: Option<RowVersion>,
    /// The absolute limit of the session, as it was read last.
    limit: Option<Timestamp>,
}

struct Waiter {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Clone, Copy)]
struct State {
    id: SessionId,
    end: Option<SessionEnd>,
}

impl Watched {
    fn end(self, end: SessionEnd) {
        for waiter in self.waiters {
            lock(&waiter.state).end = Some(end);
            waiter.waker.wake();
        }
    }
}

impl Watches {
    /// Watches the session of an id. `reader` makes the future that reads the rows.
    pub(super) fn add(&self, id: SessionId, reader: impl FnOnce(&Arc<Registry>) -> Reader) -> SessionWatch {
        self.0.reader.get_or_init(|| reader(&self.0));
        let waiter =
            Arc::new(Waiter { state: Mutex::new(State { id, end: None }), waker: AtomicWaker::new() });
        lock(&self.0.inner).by_id.entry(id).or_default().waiters.push(waiter.clone());
        self.0.keep_reading();
        SessionWatch { waiter, registry: self.0.clone(), is_streamed: false }
    }

    /// Ends the watches of a session.
    pub(super) fn end(&self, id: SessionId, end: SessionEnd) {
        let watched = lock(&self.0.inner).by_id.remove(&id);
        if let Some(watched) = watched {
            watched.end(end);
        }
    }

    /// Ends the watches of a session whose row is gone: it has expired if its time had passed when it was last read.
    pub(super) fn end_gone(&self, id: SessionId, now: Timestamp) {
        let watched = lock(&self.0.inner).by_id.remove(&id);
        if let Some(watched) = watched {
            let has_expired = watched.seen.is_some_and(|seen| seen.expiration <= now);
            watched.end(if has_expired { SessionEnd::Expired } else { SessionEnd::Ended });
        }
    }

    /// Follows a session to its next id.
    pub(super) fn rename(&self, id: SessionId, renamed: Renamed) {
        if !renamed.keeps_user {
            return self.end(id, SessionEnd::UserChanged);
        }
        let mut inner = lock(&self.0.inner);
        if let Some(watched) = inner.by_id.remove(&id) {
            for waiter in &watched.waiters {
                lock(&waiter.state).id = renamed.id;
            }
            let next = inner.by_id.entry(renamed.id).or_default();
            next.waiters.extend(watched.waiters);
            // It may be extended by a log-in, which is known when the row is read.
            next.limit = next.limit.or(watched.limit);
        }
    }

    /// Ends the watches of sessions whose absolute limit has passed, whatever their rows are.
    pub(super) fn end_at_limit(&self, now: Timestamp) {
        let is_over = |watched: &Watched| watched.limit.is_some_and(|limit| limit <= now);
        let over: Vec<_> = lock(&self.0.inner).by_id.extract_if(.., |_, watched| is_over(watched)).collect();
        for (_, watched) in over {
            watched.end(SessionEnd::Expired);
        }
    }

    /// Returns whether a row of this version was found to hold a live session.
    pub(super) fn is_seen(&self, id: SessionId, version: RowVersion) -> bool {
        lock(&self.0.inner).by_id.get(&id).is_none_or(|watched| watched.seen == Some(version))
    }

    /// Notes a row that holds a live session, and its absolute limit.
    pub(super) fn note_seen(&self, id: SessionId, version: RowVersion, limit: Option<Timestamp>) {
        if let Some(watched) = lock(&self.0.inner).by_id.get_mut(&id) {
            (watched.seen, watched.limit) = (Some(version), limit);
        }
    }
}

impl Registry {
    fn remove(&self, waiter: &Arc<Waiter>) {
        let mut inner = lock(&self.inner);
        let id = lock(&waiter.state).id;
        if let Some(watched) = inner.by_id.get_mut(&id) {
            watched.waiters.retain(|other| !Arc::ptr_eq(other, waiter));
            if watched.waiters.is_empty() {
                inner.by_id.remove(&id);
            }
        }
    }

    /// Starts the task that reads the rows, unless there is one.
    fn keep_reading(&self) {
        let (Some(reader), Ok(runtime)) = (self.reader.get(), Handle::try_current()) else { return };
        {
            let mut inner = lock(&self.inner);
            if inner.is_read || inner.by_id.is_empty() {
                return;
            }
            inner.is_read = true;
        }
        // A runtime that ends drops the task at once, which takes the lock.
        runtime.spawn(reader());
    }
}

/// The task that reads the rows. If it is dropped with its runtime, or the store panics, the next watch that is polled
/// starts another one.
pub(super) struct ReadingTask {
    registry: Arc<Registry>,
    is_over: bool,
}

impl ReadingTask {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, is_over: false }
    }

    /// Returns how many pages the watched rows are; `None` if there are none, and the task is over.
    pub(super) fn pages(&mut self) -> Option<u32> {
        let mut inner = lock(&self.registry.inner);
        self.is_over = inner.by_id.is_empty();
        inner.is_read = !self.is_over;
        let pages = u32::try_from(inner.by_id.len().div_ceil(PAGE)).unwrap_or(u32::MAX);
        (!self.is_over).then_some(pages)
    }

    /// Returns the watched ids after one of them, or the first ones.
    pub(super) fn page(&self, after: Option<SessionId>) -> Vec<SessionId> {
        let inner = lock(&self.registry.inner);
        let ids = |from: Bound<SessionId>| {
            inner.by_id.range((from, Bound::Unbounded)).map(|(id, _)| *id).take(PAGE).collect::<Vec<_>>()
        };
        let next = after.map(|after| ids(Bound::Excluded(after))).unwrap_or_default();
        if next.is_empty() { ids(Bound::Unbounded) } else { next }
    }
}

impl Drop for ReadingTask {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let waiters: Vec<_> = {
            let mut inner = lock(&self.registry.inner);
            inner.is_read = false;
            inner.by_id.values().flat_map(|watched| &watched.waiters).cloned().collect()
        };
        for waiter in waiters {
            waiter.waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
