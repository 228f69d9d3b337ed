//! Connections: a call takes one and gives it back.
//!
//! A connection of the store's own is not asked whether it lives: that costs a round trip, and the call itself finds
//! out. A connection that failed is dropped, and so are those that have been idle since it was taken.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Pool;
use sqlx::pool::PoolConnection;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{sleep, timeout, timeout_at};

use super::driver::{Connection, Failure, Options, SqlDriver};

/// A connection that was idle for this long is closed: servers and balancers drop idle connections, some after four
/// minutes, and some of them silently.
const MAX_IDLE: Duration = Duration::from_mins(3);

/// A connection of this age is closed, so that a server that joins a name gets its share.
const MAX_AGE: Duration = Duration::from_mins(30);

/// How long a connection may take to close, or to go back to the application's pool.
const RETURN_TIMEOUT: Duration = Duration::from_secs(2);

/// The pauses between attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Where a store takes its connections from.
pub(super) enum Connections<D: SqlDriver> {
    Own(Arc<OwnConnections<D>>),
    /// Made by the application.
    Pool(Pool<D::Database>),
}

/// Connections of the store's own.
pub(super) struct OwnConnections<D: SqlDriver> {
    options: Options<D>,
    /// How long the server itself may work on a statement, in milliseconds; zero for no limit. A caller that stops
    /// waiting cannot take back a statement that waits for a lock.
    statement_timeout: AtomicU64,
    /// Calls that may run at once.
    calls: Semaphore,
    max: usize,
    /// The one that was used last is taken first.
    idle: Mutex<Vec<Idle<D>>>,
}

struct Idle<D: SqlDriver> {
    owned: Owned<D>,
    since: Instant,
}

/// A connection of the store's own. It works for calls of all runtimes, until the one that has made it ends.
struct Owned<D: SqlDriver> {
    connection: Connection<D>,
    created: Instant,
    /// Is closed when that runtime has ended.
    runtime_ended: oneshot::Sender<Infallible>,
}

impl<D: SqlDriver> Owned<D> {
    fn new(connection: Connection<D>) -> Self {
        let (runtime_ended, dropped) = oneshot::channel();
        // The task ends with its runtime, or with the connection.
        tokio::spawn(dropped);
        Self { connection, created: Instant::now(), runtime_ended }
    }
}

impl<D: SqlDriver> Connections<D> {
    pub(super) fn own(options: Options<D>, max: u32) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let calls = Semaphore::new(max.min(Semaphore::MAX_PERMITS));
        let (statement_timeout, idle) = (AtomicU64::new(0), Mutex::default());
        Self::Own(Arc::new(OwnConnections { options, statement_timeout, calls, max, idle }))
    }

    /// Gives the statements of later connections a timeout, unless they have a longer one.
    pub(super) fn raise_statement_timeout(&self, timeout: Duration) {
        if let Self::Own(own) = self {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            own.statement_timeout.fetch_max(millis, Ordering::Relaxed);
        }
    }

    /// Waits until the call may run. The pool of an application has its own limit.
    pub(super) async fn turn(&self, deadline: Instant) -> Result<Option<SemaphorePermit<'_>>, Failure> {
        let Self::Own(own) = self else { return Ok(None) };
        let permit = timeout_at(deadline.into(), own.calls.acquire()).await;
        // The semaphore is never closed.
        Ok(permit.map_err(|_| Failure::Deadline)?.ok())
    }

    /// Takes the connection that was used last, or makes one.
    pub(super) async fn take(&self, deadline: Instant) -> Result<Lease<D>, Failure> {
        let idle = match self {
            Self::Own(own) => own.pop(),
            Self::Pool(_) => None,
        };
        match idle {
            Some(lease) => Ok(lease),
            None => self.connect(deadline).await,
        }
    }

    /// Makes a connection, or takes one of the application's pool.
    ///
    /// A server that is starting refuses connections, so that is tried again until the deadline.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Lease<D>, Failure> {
        let own = match self {
            Self::Own(own) => own,
            Self::Pool(pool) => {
                let taken = timeout_at(deadline.into(), pool.acquire()).await;
                let connection = taken.map_err(|_| Failure::Deadline)??;
                let lease = Lease { held: Some(Held::Pool(connection)), idle_since: None };
                let is_late = Instant::now() >= deadline;
                return if is_late { lease.end(Err(Failure::NotConnected)) } else { Ok(lease) };
            }
        };
        let (mut pause, max_pause) = PAUSES;
        let mut refused = None;
        loop {
            // Boxed, as it is large and rare.
            let connect = Box::pin(D::connect(&own.options, own.statement_timeout.load(Ordering::Relaxed)));
            let error = match timeout_at(deadline.into(), connect).await {
                // A timeout polls its future before its clock, and no write may begin after the deadline.
                Ok(Ok(_)) if Instant::now() >= deadline => return Err(Failure::NotConnected),
                Ok(Ok(connection)) => {
                    let held = Held::Own { own: Arc::clone(own), owned: Owned::new(connection) };
                    return Ok(Lease { held: Some(held), idle_since: None });
                }
                Ok(Err(error)) => Failure::Connect(error),
                Err(_) => return Err(refused.unwrap_or(Failure::NotConnected)),
            };
            if !error.is_of_a_starting_server::<D>() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            refused = Some(error);
            sleep(pause).await;
            pause = max_pause.min(2 * pause);
        }
    }

    /// Returns how often [`connect`](Self::connect) is called until it has surely returned a connection that is made anew, if the
    /// others are not given back: an application's pool returns those that it has before.
    pub(super) fn calls_until_new(&self) -> u32 {
        match self {
            Self::Own(_) => 1,
            Self::Pool(pool) => pool.size() + 1,
        }
    }

    /// Drops the idle connections that were not used since one failed that was taken then: what broke one of them,
    /// such as a restart of the server, may have broken all.
    pub(super) fn drop_idle_since(&self, taken: Instant) {
        if let Self::Own(own) = self {
            own.idle().retain(|idle| idle.since > taken);
        }
    }
}

impl<D: SqlDriver> Clone for Connections<D> {
    fn clone(&self) -> Self {
        match self {
            Self::Own(own) => Self::Own(Arc::clone(own)),
            Self::Pool(pool) => Self::Pool(pool.clone()),
        }
    }
}

impl<D: SqlDriver> OwnConnections<D> {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle<D>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(self: &Arc<Self>) -> Option<Lease<D>> {
        let mut idle = self.idle();
        idle.retain(|idle| !idle.owned.runtime_ended.is_closed());
        let Idle { owned, since } = idle.pop()?;
        if since.elapsed() > MAX_IDLE {
            // The others have been idle for longer.
            let others = idle.drain(..).map(|idle| idle.owned.connection);
            close(std::iter::once(owned.connection).chain(others));
            return None;
        }
        let held = Held::Own { own: Arc::clone(self), owned };
        Some(Lease { held: Some(held), idle_since: Some(since) })
    }

    fn push(&self, owned: Owned<D>) {
        if owned.created.elapsed() > MAX_AGE {
            return close([owned.connection]);
        }
        let mut idle = self.idle();
        let outdated = idle.iter().take_while(|idle| idle.since.elapsed() > MAX_IDLE).count();
        let surplus = (idle.len() + 1).saturating_sub(self.max);
        close(idle.drain(..outdated.max(surplus)).map(|idle| idle.owned.connection));
        idle.push(Idle { owned, since: Instant::now() });
    }
}

/// Says good-bye to the server, which would log an aborted connection otherwise.
fn close<C: sqlx::Connection + 'static>(connections: impl IntoIterator<Item = C>) {
    for connection in connections {
        tokio::spawn(timeout(RETURN_TIMEOUT, async move { connection.close().await.is_ok() }));
    }
}

/// A connection while it is in use.
///
/// It is dropped if its work failed or was dropped midway: it may wait for a server that never answers. The server
/// rolls back what it was doing.
pub(super) struct Lease<D: SqlDriver> {
    held: Option<Held<D>>,
    /// When it was used last; `None` for a new connection, and for one of an application's pool.
    idle_since: Option<Instant>,
}

enum Held<D: SqlDriver> {
    Own { own: Arc<OwnConnections<D>>, owned: Owned<D> },
    Pool(PoolConnection<D::Database>),
}

impl<D: SqlDriver> Lease<D> {
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    pub(super) fn connection(&mut self) -> &mut Connection<D> {
        match self.held.as_mut().expect("it is there until the lease ends") {
            Held::Own { owned, .. } => &mut owned.connection,
            Held::Pool(connection) => connection,
        }
    }

    /// Gives the connection back, unless the failure of the work leaves it in another state.
    pub(super) fn end<T>(mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.as_ref().err().is_none_or(Failure::leaves_connection_clean) {
            match self.held.take() {
                Some(Held::Own { own, owned }) => own.push(owned),
                // Dropping the connection would return it too, but without a timeout: the pool pings the connection,
                // and counts it among its own until the answer is there (sqlx-core 0.9, pool/connection.rs).
                Some(Held::Pool(mut connection)) => {
                    tokio::spawn(timeout(RETURN_TIMEOUT, connection.return_to_pool()));
                }
                None => {}
            }
        }
        result
    }

    /// Ends the work of start-up, whose connection has no statement timeout.
    pub(super) fn end_startup<T>(mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        match self.held.take() {
            Some(Held::Own { owned, .. }) if result.is_ok() => close([owned.connection]),
            held => {
                self.held = held;
                return self.end(result);
            }
        }
        result
    }
}

impl<D: SqlDriver> Drop for Lease<D> {
    fn drop(&mut self) {
        // Not back into the pool of the application.
        if let Some(Held::Pool(connection)) = self.held.take() {
            drop(connection.detach());
        }
    }
}
