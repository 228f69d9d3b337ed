//! What the stores of SQL servers have in common: calls enter, statements go to a server, rows come back.
//!
//! It does not know which server it is: an [`Engine`] sends statements and reads cells, and its [`Dialect`]
//! is all in which two of them differ.

mod rows;
mod schema;
pub(super) mod tls;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::time::{Instant, timeout, timeout_at};

pub(super) use self::rows::{Cells, Dialect, Meaning, Parameter, Query, id};
use self::rows::{Rows, total};
pub(super) use self::schema::Catalog;
#[cfg(feature = "mysql")]
pub(super) use self::schema::Kind;
use super::{ColumnRef, Filter, Outcome, Page, Row, StoreError, Table, Update};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::Value;

/// How long start-up waits for a connection.
pub(super) const START_UP_PATIENCE: Duration = Duration::from_secs(10);

/// A connection that was idle for so long is asked whether it still works before it is used.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// How long a connection that is given back may take to answer.
const RETURN_PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts of a call that the server has undone.
const PAUSE: Duration = Duration::from_millis(2);

type Connection<E> = <<E as Engine>::Database as Database>::Connection;

/// A kind of server: how its client is called.
pub(super) trait Engine: Send + Sync + 'static {
    type Database: Database;

    const DIALECT: &'static Dialect;

    /// Returns the cells of all rows.
    fn fetch(
        connection: &mut Connection<Self>,
        query: &Query,
    ) -> impl Future<Output = Result<Vec<Cells>, sqlx::Error>> + Send;

    /// Returns how many rows there were to change.
    fn execute(
        connection: &mut Connection<Self>,
        query: &Query,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Removes the rows of a query made by [`Dialect::take`] or [`Dialect::trim`], all or none, and returns their
    /// ids. A row that is there throughout is removed, even while its id changes. `delete` begins a statement that
    /// removes rows and ends before the list of their ids.
    fn take(
        connection: &mut Connection<Self>,
        query: &Query,
        delete: &str,
    ) -> impl Future<Output = Result<Vec<Cells>, sqlx::Error>> + Send;
}

/// A store on a server of the kind `E`.
pub(super) struct SqlStore<E: Engine> {
    pool: Pool<E::Database>,
    /// None where the pool is somebody else's.
    patience: Option<Patience>,
    table: Option<Prepared>,
}

/// How long the server itself may work on a statement, in milliseconds; zero for any time. A caller who gave
/// up has no way to take back a statement that waits for a lock.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicU64>);

impl Patience {
    pub(super) fn millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A table that is ready, as a handle uses it.
#[derive(Clone)]
struct Prepared {
    rows: Arc<Rows>,
    deadline: Duration,
}

/// What is done with a statement.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Fetch,
    Execute,
    Take,
}

/// What came of it.
#[derive(Default)]
struct Answer {
    rows: Vec<Cells>,
    changed: u64,
}

impl<E: Engine> SqlStore<E> {
    pub(super) fn new(pool: Pool<E::Database>, patience: Option<Patience>) -> Self {
        Self { pool, patience, table: None }
    }

    /// Connects, and checks that the server is one that serves.
    pub(super) async fn greet(&self) -> Result<(), Failure> {
        let mut lease = self.lease().await?;
        let checked = schema::check_server::<E>(lease.connection()).await;
        self.end(lease, checked).await
    }

    pub(super) async fn prepare(&mut self, table: &Table, deadline: Duration) -> Result<(), StoreError> {
        const OPERATION: &str = "prepare its table";
        let prepared = self.prepare_table(table).await;
        prepared.map_err(|failure| StoreError::new(OPERATION, failure))?;
        if let Some(patience) = &self.patience {
            let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            patience.0.fetch_max(millis, Ordering::Relaxed);
        }
        let rows = Arc::new(Rows::new(E::DIALECT, table));
        self.table = Some(Prepared { rows, deadline });
        Ok(())
    }

    async fn prepare_table(&self, table: &Table) -> Result<(), Failure> {
        let mut lease = self.lease().await?;
        let prepared = schema::prepare::<E>(lease.connection(), table).await;
        self.end(lease, prepared).await
    }

    /// Ends what start-up does. Its connection has all the time in the world, so it is not kept.
    async fn end<T>(&self, mut lease: Lease<E>, result: Result<T, Failure>) -> Result<T, Failure> {
        if self.patience.is_some()
            && result.is_ok()
            && let Some(connection) = lease.0.take()
        {
            drop(timeout(START_UP_PATIENCE, connection.close()).await);
        }
        lease.end(result)
    }

    /// Borrows a connection for start-up.
    async fn lease(&self) -> Result<Lease<E>, Failure> {
        match timeout(START_UP_PATIENCE, self.pool.acquire()).await {
            Ok(connection) => Ok(Lease(Some(connection?))),
            Err(_) => Err(Failure::Deadline),
        }
    }

    pub(super) async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        const OPERATION: &str = "load a row";
        let rows = self.rows(OPERATION)?;
        let answer = self.run(OPERATION, Work::Fetch, &rows.load(id)).await?;
        let loaded = answer.rows.into_iter().next().map(|cells| rows.row(cells)).transpose();
        loaded.map_err(|failure| StoreError::new(OPERATION, failure))
    }

    pub(super) async fn insert(&self, row: Row) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a row";
        let query = self.rows(OPERATION)?.insert(&row);
        self.run(OPERATION, Work::Execute, &made(OPERATION, query)?).await?;
        Ok(())
    }

    pub(super) async fn update(&self, update: Update) -> Result<Outcome, StoreError> {
        const OPERATION: &str = "update a row";
        let rows = self.rows(OPERATION)?;
        let query = made(OPERATION, rows.update(&update))?;
        if self.run(OPERATION, Work::Execute, &query).await?.changed > 0 {
            return Ok(Outcome::Stored);
        }
        let found = self.run(OPERATION, Work::Fetch, &rows.exists(update.id)).await?;
        Ok(if found.rows.is_empty() { Outcome::Gone } else { Outcome::Conflict })
    }

    pub(super) async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
        const OPERATION: &str = "delete a row";
        let query = self.rows(OPERATION)?.delete(id);
        Ok(self.run(OPERATION, Work::Execute, &query).await?.changed > 0)
    }

    pub(super) async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        const OPERATION: &str = "prune expired rows";
        let query = self.rows(OPERATION)?.prune(now, limit);
        Ok(self.run(OPERATION, Work::Execute, &query).await?.changed)
    }

    pub(super) async fn trim(
        &self,
        user: &Value,
        keep: u32,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "trim the sessions of a user";
        let query = made(OPERATION, self.rows(OPERATION)?.trim(user, keep, now))?;
        self.take(OPERATION, &query).await
    }

    pub(super) async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, StoreError> {
        const OPERATION: &str = "find rows";
        let rows = self.rows(OPERATION)?;
        let query = made(OPERATION, rows.select(filter, page))?;
        let answer = self.run(OPERATION, Work::Fetch, &query).await?;
        made(OPERATION, answer.rows.into_iter().map(|cells| rows.row(cells)).collect())
    }

    pub(super) async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        const OPERATION: &str = "count rows";
        let query = made(OPERATION, self.rows(OPERATION)?.count(filter))?;
        Ok(total(&self.run(OPERATION, Work::Fetch, &query).await?.rows))
    }

    pub(super) async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "remove rows";
        let query = made(OPERATION, self.rows(OPERATION)?.remove(filter))?;
        self.take(OPERATION, &query).await
    }

    /// Removes a row that cannot be there: a server that only reads refuses to look for it.
    pub(super) async fn health(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "pass its health check";
        let query = self.rows(OPERATION)?.probe();
        self.run(OPERATION, Work::Execute, &query).await?;
        Ok(())
    }

    async fn take(&self, operation: &'static str, query: &Query) -> Result<Vec<SessionId>, StoreError> {
        let answer = self.run(operation, Work::Take, query).await?;
        Ok(answer.rows.iter().filter_map(id).collect())
    }

    /// Runs a statement within the deadline.
    ///
    /// What the server has undone to resolve a deadlock is done again, and so is what only reads and met a
    /// connection that had broken unnoticed. A write on such a connection may have been made: that is an error.
    async fn run(&self, operation: &'static str, work: Work, query: &Query) -> Result<Answer, StoreError> {
        let Prepared { rows, deadline } = self.prepared(operation)?;
        let deadline = Instant::now() + *deadline;
        loop {
            let attempt = timeout_at(deadline, self.attempt(work, query, rows.delete_list())).await;
            match attempt {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failure::Undone(_))) => tokio::time::sleep(PAUSE).await,
                Ok(Err(Failure::Broken(_))) if work == Work::Fetch => tokio::time::sleep(PAUSE).await,
                Ok(Err(failure)) => return Err(StoreError::new(operation, failure)),
                Err(_) => return Err(StoreError::deadline(operation)),
            }
        }
    }

    async fn attempt(&self, work: Work, query: &Query, delete: &str) -> Result<Answer, Failure> {
        let mut lease = Lease::<E>(Some(self.pool.acquire().await?));
        let connection = lease.connection();
        let answer = match work {
            Work::Fetch => E::fetch(connection, query).await.map(|rows| Answer { rows, changed: 0 }),
            Work::Execute => {
                E::execute(connection, query).await.map(|changed| Answer { changed, ..Answer::default() })
            }
            Work::Take => E::take(connection, query, delete).await.map(|rows| Answer { rows, changed: 0 }),
        };
        lease.end(answer.map_err(|error| E::DIALECT.explain(error)))
    }

    fn rows(&self, operation: &'static str) -> Result<&Rows, StoreError> {
        Ok(&self.prepared(operation)?.rows)
    }

    fn prepared(&self, operation: &'static str) -> Result<&Prepared, StoreError> {
        self.table.as_ref().ok_or_else(|| StoreError::new(operation, Failure::NotPrepared))
    }
}

impl<E: Engine> Clone for SqlStore<E> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), patience: self.patience.clone(), table: self.table.clone() }
    }
}

fn made<T>(operation: &'static str, result: Result<T, Failure>) -> Result<T, StoreError> {
    result.map_err(|failure| StoreError::new(operation, failure))
}

/// A connection while it is in use.
///
/// One that is dropped in the middle of its work, or whose work failed, is not given back: it may wait for a
/// server that never answers, and the pool would wait with it. What it was about is undone by the server. Giving
/// one back takes an answer of the server too, which is not waited for without end either.
struct Lease<E: Engine>(Option<PoolConnection<E::Database>>);

impl<E: Engine> Lease<E> {
    fn connection(&mut self) -> &mut Connection<E> {
        self.0.as_mut().expect("it is there until the lease ends")
    }

    fn end<T>(mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.as_ref().err().is_none_or(Failure::is_of_statement) {
            // The pool's own way back, which dropping takes as well, but for the patience: the pool pings, and the
            // connection counts as one of the pool's until it has the answer (sqlx-core 0.9, pool/connection.rs).
            if let Some(mut connection) = self.0.take() {
                tokio::spawn(timeout(RETURN_PATIENCE, connection.return_to_pool()));
            }
        }
        result
    }
}

impl<E: Engine> Drop for Lease<E> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Why a call failed. Ends up in logs: it names tables and columns, and shows no value of a row.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    #[error("the connection broke")]
    Broken(#[source] sqlx::Error),
    /// Without the server's words, which can hold the value.
    #[error("the server refused a value of the row (error {0})")]
    Refused(String),
    #[error("the server undid the statement (error {0})")]
    Undone(String),
    #[error("there is a row of this id")]
    Taken,
    #[error("the URL does not begin with `{0}://`")]
    Scheme(&'static str),
    #[error(
        "its sql_mode has values cut that do not fit: add STRICT_ALL_TABLES to that of the pool's connections"
    )]
    Lax,
    #[error("another program has held the lock of table {table:?} for too long")]
    Locked { table: String },
    #[error("{found} is too old: {needed} or later is needed")]
    OldServer { found: String, needed: &'static str },
    #[error("{parameter:?} is no parameter of the URL: TLS is asked for by `{verified}`")]
    UnknownTls { parameter: String, verified: &'static str },
    #[error(
        "{parameter:?} has no effect, since the URL does not ask for the server to be verified: add `{verified}`"
    )]
    UnusedRoots { parameter: String, verified: &'static str },
    #[error("table {table:?} {reason}")]
    Unfit { table: String, reason: String },
    #[error("the store was not prepared for a table")]
    NotPrepared,
    #[error("the deadline has passed")]
    Deadline,
    #[error("the table has no column {0:?}")]
    NoColumn(ColumnRef),
    #[error("the table has {table} projected columns, and the row {row}")]
    ColumnCount { table: usize, row: usize },
    #[error("a filter of {0} values is too large")]
    TooManyValues(usize),
    #[error("column {column:?} of the row does not hold {expected}")]
    Malformed { column: String, expected: &'static str },
}

impl Failure {
    fn malformed(column: &str, expected: &'static str) -> Self {
        Self::Malformed { column: column.to_owned(), expected }
    }

    /// Whether the connection is as good as before.
    fn is_of_statement(&self) -> bool {
        !matches!(
            self,
            Self::Sqlx(_) | Self::Broken(_) | Self::Unfit { .. } | Self::Locked { .. } | Self::Deadline
        )
    }
}

/// Implements the two traits by what is inside: a driver's types are no part of a store's.
macro_rules! delegate {
    ($store:ty) => {
        impl Store for $store {
            async fn prepare(&mut self, table: &Table, deadline: Duration) -> Result<(), StoreError> {
                self.0.prepare(table, deadline).await
            }

            async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
                self.0.load(id).await
            }

            async fn insert(&self, row: Row) -> Result<(), StoreError> {
                self.0.insert(row).await
            }

            async fn update(&self, update: Update) -> Result<Outcome, StoreError> {
                self.0.update(update).await
            }

            async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
                self.0.delete(id).await
            }

            async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
                self.0.prune(now, limit).await
            }

            async fn trim(
                &self,
                user: &Value,
                keep: u32,
                now: Timestamp,
            ) -> Result<Vec<SessionId>, StoreError> {
                self.0.trim(user, keep, now).await
            }
        }

        #[diagnostic::do_not_recommend]
        impl Directory for $store {
            async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, StoreError> {
                self.0.find(filter, page).await
            }

            async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
                self.0.count(filter).await
            }

            async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
                self.0.remove(filter).await
            }

            async fn health(&self) -> Result<(), StoreError> {
                self.0.health().await
            }
        }
    };
}

pub(super) use delegate;
