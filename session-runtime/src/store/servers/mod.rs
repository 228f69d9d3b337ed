//! The stores of SQL servers, in what they have in common: calls enter, statements go to a server, rows come back.
//!
//! It does not know which server it is: an [`SqlDriver`] sends statements and reads cells, and its
//! [`Dialect`](super::sql::dialect::Dialect) makes the SQL.

mod driver;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod startup;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::Pool;
use sqlx::pool::PoolConnection;
use tokio::time::{timeout, timeout_at};

use self::driver::{Connection, Failure, Parameter, Query, SqlDriver};
use self::startup::STARTUP_TIMEOUT;
use super::sql::filter::Statement;
use super::sql::rows::Rows;
use super::sql::{Cells, Datum, Mismatch, required_columns};
use super::{Filter, Outcome, Page, Row, StoreError, Table, Update};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// A connection that was idle for this long is pinged before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// How long a connection that goes back to the pool may take to answer the pool's ping.
const RETURN_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before a call is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// A store on a server of the kind of `D`.
struct SqlStore<D: SqlDriver> {
    pool: Pool<D::Database>,
    /// `None` where the application made the pool.
    statement_timeout: Option<StatementTimeout>,
    table: Option<Arc<Prepared>>,
}

/// How long the server itself may work on a statement, in milliseconds; zero for no limit. A caller that stops waiting
/// cannot take back a statement that waits for a lock.
#[derive(Clone, Debug, Default)]
struct StatementTimeout(Arc<AtomicU64>);

impl StatementTimeout {
    fn millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn raise_to(&self, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_max(millis, Ordering::Relaxed);
    }
}

/// A table that is ready.
struct Prepared {
    rows: Rows,
    /// The types of the columns, in the order in which rows are bound and read.
    types: Vec<ColumnType>,
    /// A statement that removes rows, up to the list of their ids.
    delete_list: String,
}

/// How a statement is run.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    Fetch,
    Execute,
    Remove,
}

#[derive(Default)]
struct QueryResult {
    rows: Vec<Cells>,
    changed: u64,
}

impl<D: SqlDriver> SqlStore<D> {
    fn new(pool: Pool<D::Database>, statement_timeout: Option<StatementTimeout>) -> Self {
        Self { pool, statement_timeout, table: None }
    }

    /// Connects, and checks that the server is supported.
    async fn check_server(&self) -> Result<(), Failure> {
        let mut lease = self.startup_lease().await?;
        let checked = startup::check_server::<D>(lease.connection()).await;
        self.end_startup(lease, checked).await
    }

    async fn prepare(&mut self, table: &Table, timeout: Duration) -> Result<(), StoreError> {
        let prepared = self.prepare_table(table).await;
        prepared.map_err(failed("prepare its table"))?;
        if let Some(statement_timeout) = &self.statement_timeout {
            statement_timeout.raise_to(timeout);
        }
        let quoted = |name: &str| D::DIALECT.quoted(name);
        self.table = Some(Arc::new(Prepared {
            rows: Rows::new(D::DIALECT, table),
            types: required_columns(table).map(|column| column.ty).collect(),
            delete_list: format!("DELETE FROM {} WHERE {} IN ", quoted(&table.name), quoted(&table.id)),
        }));
        Ok(())
    }

    async fn prepare_table(&self, table: &Table) -> Result<(), Failure> {
        let mut lease = self.startup_lease().await?;
        let prepared = startup::prepare_table::<D>(lease.connection(), table).await;
        self.end_startup(lease, prepared).await
    }

    async fn claim(&self, table: &str, bag: &str) -> Result<String, StoreError> {
        let claim = async {
            let mut lease = self.startup_lease().await?;
            let owner = startup::claim::<D>(lease.connection(), table, bag).await;
            self.end_startup(lease, owner).await
        };
        claim.await.map_err(failed("note the bag of its table"))
    }

    async fn startup_lease(&self) -> Result<Lease<D>, Failure> {
        match timeout(STARTUP_TIMEOUT, self.pool.acquire()).await {
            Ok(connection) => Ok(Lease(Some(connection?))),
            Err(_) => Err(Failure::Deadline),
        }
    }

    /// Ends a lease of start-up. Its connection has no statement timeout, so it is closed and not reused.
    async fn end_startup<T>(&self, mut lease: Lease<D>, result: Result<T, Failure>) -> Result<T, Failure> {
        if self.statement_timeout.is_some()
            && result.is_ok()
            && let Some(connection) = lease.0.take()
        {
            drop(timeout(STARTUP_TIMEOUT, connection.close()).await);
        }
        lease.end(result)
    }

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        const OPERATION: &str = "load a row";
        let Prepared { rows, types, .. } = self.prepared(OPERATION)?;
        let query = Query { types, ..Query::cached(&rows.load, [id_datum(&id)]) };
        let result = self.run(OPERATION, Call::Fetch, &query, deadline).await?;
        Ok(result.rows.into_iter().next().and_then(|cells| read(rows, cells)))
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a row";
        let Prepared { rows, types, .. } = self.prepared(OPERATION)?;
        let values = rows.values(&row).map_err(failed(OPERATION))?;
        let query = Query { parameters: typed(values, types), ..Query::cached(&rows.insert, []) };
        self.run(OPERATION, Call::Execute, &query, deadline).await?;
        Ok(())
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        const OPERATION: &str = "update a row";
        let Prepared { rows, types, .. } = self.prepared(OPERATION)?;
        let (sql, values) = rows.update(&update).map_err(failed(OPERATION))?;
        let query = Query { parameters: typed(values, types), ..Query::cached(sql, []) };
        if self.run(OPERATION, Call::Execute, &query, deadline).await?.changed > 0 {
            return Ok(Outcome::Stored);
        }
        let query = Query::cached(&rows.exists, [id_datum(&update.id)]);
        let found = self.run(OPERATION, Call::Fetch, &query, deadline).await?;
        Ok(if found.rows.is_empty() { Outcome::Gone } else { Outcome::Conflict })
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        const OPERATION: &str = "delete a row";
        let query = Query::cached(&self.prepared(OPERATION)?.rows.delete, [id_datum(&id)]);
        Ok(self.run(OPERATION, Call::Execute, &query, deadline).await?.changed > 0)
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        const OPERATION: &str = "prune expired rows";
        let values = [now.as_millis(), limit.into()].map(Datum::Integer);
        let query = Query::cached(&self.prepared(OPERATION)?.rows.prune, values);
        Ok(self.run(OPERATION, Call::Execute, &query, deadline).await?.changed)
    }

    async fn evict_oldest(
        &self,
        user: &Value,
        keep: u32,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "evict the oldest sessions of a user";
        let statement = self.prepared(OPERATION)?.rows.evict_oldest(user, keep, now);
        self.run_remove(OPERATION, statement, deadline).await
    }

    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        const OPERATION: &str = "find rows";
        let Prepared { rows, types, .. } = self.prepared(OPERATION)?;
        let Statement { sql, values } = rows.find(filter, page).map_err(failed(OPERATION))?;
        let query = Query::once(sql, values.iter().map(Datum::from), types);
        let result = self.run(OPERATION, Call::Fetch, &query, deadline).await?;
        Ok(result.rows.into_iter().filter_map(|cells| read(rows, cells)).collect())
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        const OPERATION: &str = "count rows";
        let statement = self.prepared(OPERATION)?.rows.count(filter);
        let Statement { sql, values } = statement.map_err(failed(OPERATION))?;
        let query = Query::once(sql, values.iter().map(Datum::from), &[ColumnType::Integer]);
        let result = self.run(OPERATION, Call::Fetch, &query, deadline).await?;
        Ok(match result.rows.first().and_then(|cells| cells.first()) {
            Some(Some(Value::Integer(count))) => count.cast_unsigned(),
            _ => 0,
        })
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "remove rows";
        let statement = self.prepared(OPERATION)?.rows.remove(filter);
        self.run_remove(OPERATION, statement, deadline).await
    }

    /// Deletes a row that cannot exist, because no row has an empty id: a read-only server refuses even that.
    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        const OPERATION: &str = "pass its health check";
        let empty_id = Datum::Blob([].as_slice().into());
        let query = Query::cached(&self.prepared(OPERATION)?.rows.delete, [empty_id]);
        self.run(OPERATION, Call::Execute, &query, deadline).await?;
        Ok(())
    }

    async fn run_remove(
        &self,
        operation: &'static str,
        statement: Result<Statement, Mismatch>,
        deadline: Instant,
    ) -> Result<Vec<SessionId>, StoreError> {
        let Statement { sql, values } = statement.map_err(failed(operation))?;
        let query = Query::once(sql, values.iter().map(Datum::from), &[ColumnType::Blob]);
        let result = self.run(operation, Call::Remove, &query, deadline).await?;
        Ok(result.rows.iter().filter_map(removed_id).collect())
    }

    /// Runs a statement before the deadline.
    ///
    /// Two failures are tried again: a statement that the server rolled back to resolve a deadlock, and a read on a
    /// connection that had broken unnoticed. A write on such a connection may have been made, so that is an error.
    async fn run(
        &self,
        operation: &'static str,
        call: Call,
        query: &Query<'_>,
        deadline: Instant,
    ) -> Result<QueryResult, StoreError> {
        let delete = &self.prepared(operation)?.delete_list;
        // A timeout polls its future before its clock, and no write may begin after the deadline.
        while Instant::now() < deadline {
            match timeout_at(deadline.into(), self.attempt(call, query, delete)).await {
                Ok(Ok(result)) => return Ok(result),
                Ok(Err(Failure::RolledBack(_))) => tokio::time::sleep(RETRY_PAUSE).await,
                Ok(Err(Failure::ConnectionLost(_))) if call == Call::Fetch => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Ok(Err(failure)) => return Err(StoreError::new(operation, failure)),
                Err(_) => break,
            }
        }
        Err(StoreError::deadline(operation))
    }

    async fn attempt(&self, call: Call, query: &Query<'_>, delete: &str) -> Result<QueryResult, Failure> {
        let mut lease = Lease::<D>(Some(self.pool.acquire().await?));
        let connection = lease.connection();
        let rows = |rows| QueryResult { rows, ..QueryResult::default() };
        let result = match call {
            Call::Fetch => D::fetch(connection, query).await.map(rows),
            Call::Remove => D::remove(connection, query, delete).await.map(rows),
            Call::Execute => {
                let changed = D::execute(connection, query).await;
                changed.map(|changed| QueryResult { changed, ..QueryResult::default() })
            }
        };
        lease.end(result.map_err(Failure::of::<D>))
    }

    fn prepared(&self, operation: &'static str) -> Result<&Prepared, StoreError> {
        self.table.as_deref().ok_or_else(|| StoreError::new(operation, Failure::NotPrepared))
    }
}

impl<D: SqlDriver> Clone for SqlStore<D> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            statement_timeout: self.statement_timeout.clone(),
            table: self.table.clone(),
        }
    }
}

/// Names the operation that failed.
fn failed<E: Into<Failure>>(operation: &'static str) -> impl FnOnce(E) -> StoreError {
    move |failure| StoreError::new(operation, failure.into())
}

fn id_datum(id: &SessionId) -> Datum<'_> {
    Datum::Blob(id.as_bytes().as_slice().into())
}

/// Gives `NULL` the type of its column. The values after those of the columns are never `NULL`.
fn typed<'a>(values: impl Iterator<Item = Option<Datum<'a>>>, types: &[ColumnType]) -> Vec<Parameter<'a>> {
    let types = types.iter().copied().chain(std::iter::repeat(ColumnType::Integer));
    values.zip(types).map(|(value, ty)| value.map_or(Parameter::Null(ty), Parameter::Value)).collect()
}

fn read(rows: &Rows, cells: Cells) -> Option<Row> {
    let mut cells = cells.into_iter();
    rows.read(|| cells.next().flatten().map(Datum::from))
}

/// The id in the first cell. A row whose key is no session id was removed as well, but has no id to return.
fn removed_id(cells: &Cells) -> Option<SessionId> {
    cells.first()?.as_ref().and_then(|value| Datum::from(value).id())
}

/// A connection while it is in use.
///
/// It does not go back to the pool if its work failed or was dropped midway: it may wait for a server that never
/// answers, and the pool would wait with it. The server rolls back what it was doing. Going back to the pool takes an
/// answer of the server too, and has a timeout for the same reason.
struct Lease<D: SqlDriver>(Option<PoolConnection<D::Database>>);

impl<D: SqlDriver> Lease<D> {
    fn connection(&mut self) -> &mut Connection<D> {
        self.0.as_mut().expect("it is there until the lease ends")
    }

    fn end<T>(mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.as_ref().err().is_none_or(Failure::leaves_connection_clean) {
            // Dropping the connection would return it too, but without a timeout: the pool pings the connection, and
            // counts it among its own until the answer is there (sqlx-core 0.9, pool/connection.rs).
            if let Some(mut connection) = self.0.take() {
                tokio::spawn(timeout(RETURN_TIMEOUT, connection.return_to_pool()));
            }
        }
        result
    }
}

impl<D: SqlDriver> Drop for Lease<D> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Implements `Store` and `Directory` by the `SqlStore` in the field, so that the driver's types stay private.
macro_rules! delegate {
    ($store:ty) => {
        impl Store for $store {
            async fn prepare(&mut self, table: &Table, timeout: Duration) -> Result<(), StoreError> {
                self.0.prepare(table, timeout).await
            }

            async fn claim(&self, table: &Table, bag: &str, _: Instant) -> Result<String, StoreError> {
                self.0.claim(&table.name, bag).await
            }

            async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
                self.0.load(id, deadline).await
            }

            async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
                self.0.insert(row, deadline).await
            }

            async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
                self.0.update(update, deadline).await
            }

            async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
                self.0.delete(id, deadline).await
            }

            async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
                self.0.prune(now, limit, deadline).await
            }

            async fn evict_oldest(
                &self,
                user: &Value,
                keep: u32,
                now: Timestamp,
                deadline: Instant,
            ) -> Result<Vec<SessionId>, StoreError> {
                self.0.evict_oldest(user, keep, now, deadline).await
            }
        }

        #[diagnostic::do_not_recommend]
        impl Directory for $store {
            async fn find(
                &self,
                filter: &Filter,
                page: Page,
                deadline: Instant,
            ) -> Result<Vec<Row>, StoreError> {
                self.0.find(filter, page, deadline).await
            }

            async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
                self.0.count(filter, deadline).await
            }

            async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
                self.0.remove(filter, deadline).await
            }

            async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
                self.0.health(deadline).await
            }
        }
    };
}

use delegate;
