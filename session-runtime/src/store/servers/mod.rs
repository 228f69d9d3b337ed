//! The stores of SQL servers, in what they have in common: calls enter, statements go to a server, rows come back.
//!
//! It does not know which server it is: an [`SqlDriver`] sends statements and reads cells, and its
//! [`Dialect`](super::sql::dialect::Dialect) makes the SQL.

mod connections;
mod driver;
mod limited;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod startup;
mod url;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use sqlx::Connection as _;
use tokio::time::{sleep_until, timeout_at};

use self::connections::{Connections, Lease};
use self::driver::{Failure, Parameter, Query, SqlDriver};
use self::startup::STARTUP_TIMEOUT;
use super::sql::filter::Statement;
use super::sql::rows::{Rows, VERSION};
use super::sql::table::Limits;
use super::sql::{Cells, Datum, Mismatch, required_columns};
use super::{Filter, LimitedWrite, Outcome, Page, Row, RowVersions, StoreError, Table, Update, Write};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// A write that cannot be repeated asks a connection that was idle for this long first whether it lives.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// The pauses before a call is tried again: the first one and the longest one.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(128));

/// A connection is not silent before this time has passed.
const SILENCE: Duration = Duration::from_millis(200);

/// A store on a server of the kind of `D`.
struct SqlStore<D: SqlDriver> {
    connections: Connections<D>,
    table: Option<Arc<Prepared>>,
}

/// A table that is ready.
struct Prepared {
    /// The table's name.
    name: String,
    /// The column of the primary key.
    id: String,
    rows: Rows,
    /// The types of the columns, in the order in which rows are bound and read.
    types: Vec<ColumnType>,
    /// A statement that removes rows, up to the list of their ids.
    delete_list: String,
}

/// What a statement does, and so whether it may be sent twice.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    /// Reads.
    Fetch,
    /// Does no harm when it is made a second time. The result is that of the last one.
    Repeat,
    /// Changes one row or none. Made twice, at most one of the two changes a row.
    Change,
    /// Adds a row, which may be gone again when the statement is made a second time, or makes a write that removes others.
    Add,
    /// Removes rows and returns their ids, which a second one could not return again.
    Remove,
}

impl Call {
    fn may_be_sent_twice(self) -> bool {
        matches!(self, Self::Fetch | Self::Repeat | Self::Change)
    }

    /// Whether it stores the values of a row.
    fn stores_values(self) -> bool {
        matches!(self, Self::Change | Self::Add)
    }

    /// Whether this result of one of two equal statements is that of both.
    fn is_decided(self, result: &Result<QueryResult, Failure>) -> bool {
        result.as_ref().is_ok_and(|result| self != Self::Change || result.changed > 0)
    }

    /// Returns the result of two equal statements.
    fn of_both(
        self,
        one: Result<QueryResult, Failure>,
        other: Result<QueryResult, Failure>,
    ) -> Result<QueryResult, Failure> {
        match (one, other) {
            (one, _) if self.is_decided(&one) => one,
            (_, other) if self.is_decided(&other) => other,
            // It may have changed the row before the other one did not find it as it was.
            (Err(error), _) | (_, Err(error)) if error.may_have_been_made() => Err(error),
            (Err(_), other) => other,
            (one, _) => one,
        }
    }
}

#[derive(Debug, Default)]
struct QueryResult {
    rows: Vec<Cells>,
    changed: u64,
}

impl<D: SqlDriver> SqlStore<D> {
    fn new(connections: Connections<D>) -> Self {
        Self { connections, table: None }
    }

    /// Connects, and checks that the server is supported.
    async fn check_server(&self) -> Result<(), Failure> {
        let mut lease = self.startup_lease().await?;
        let checked = startup::check_server::<D>(lease.connection()).await;
        lease.end_startup(checked)
    }

    async fn prepare(&mut self, table: &Table, timeout: Duration) -> Result<(), StoreError> {
        let limits = self.prepare_table(table).await.map_err(failed("prepare its table"))?;
        self.connections.raise_statement_timeout(timeout);
        let quoted = |name: &str| D::DIALECT.quoted(name);
        self.table = Some(Arc::new(Prepared {
            name: table.name.clone(),
            id: table.id.clone(),
            rows: Rows::new(D::DIALECT, table).with_limits(limits),
            types: required_columns(table).map(|column| column.ty).collect(),
            delete_list: format!("DELETE FROM {} WHERE {} IN ", quoted(&table.name), quoted(&table.id)),
        }));
        Ok(())
    }

    async fn prepare_table(&self, table: &Table) -> Result<Limits, Failure> {
        let mut lease = self.startup_lease().await?;
        let prepared = startup::prepare_table::<D>(lease.connection(), table).await;
        lease.end_startup(prepared)
    }

    async fn claim(&self, table: &Table, bag: &str) -> Result<String, StoreError> {
        let claim = async {
            let mut lease = self.startup_lease().await?;
            let owner = startup::claim::<D>(lease.connection(), table, bag).await;
            lease.end_startup(owner)
        };
        claim.await.map_err(failed("note the bag of its table"))
    }

    #[cfg(feature = "admin")]
    async fn survey(&self, wanted: &Table) -> Result<super::Survey, StoreError> {
        let survey = async {
            let mut lease = self.startup_lease().await?;
            let survey = startup::survey::<D>(lease.connection(), wanted).await;
            lease.end_startup(survey)
        };
        survey.await.map_err(failed("describe its table"))
    }

    async fn startup_lease(&self) -> Result<Lease<D>, Failure> {
        self.connections.connect(Instant::now() + STARTUP_TIMEOUT).await
    }

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        const OPERATION: &str = "load a row";
        let Prepared { rows, types, .. } = self.prepared(OPERATION)?;
        let query = Query { types, ..Query::cached(&rows.load, [Datum::from(&id)]) };
        let result = self.run(OPERATION, Call::Fetch, &query, deadline).await?;
        Ok(result.rows.into_iter().next().and_then(|cells| read(rows, cells)))
    }

    async fn load_versions(&self, ids: &[SessionId], deadline: Instant) -> Result<RowVersions, StoreError> {
        const OPERATION: &str = "load rows";
        let Prepared { rows, .. } = self.prepared(OPERATION)?;
        let mut versions = RowVersions::default();
        if !ids.is_empty() {
            let Statement { sql, values } = rows.load_versions(ids).map_err(failed(OPERATION))?;
            let query = Query::once(sql, values.iter().map(Datum::from), &VERSION);
            let result = self.run(OPERATION, Call::Fetch, &query, deadline).await?;
            versions.found.extend(result.rows.into_iter().filter_map(|cells| {
                let mut cells = cells.into_iter();
                Rows::read_version(|| cells.next().flatten().map(Datum::from))
            }));
        }
        Ok(versions)
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a row";
        let Prepared { rows, types, .. } = self.prepared(OPERATION)?;
        let values = rows.values(&row).map_err(failed(OPERATION))?;
        let query = Query { parameters: typed(values, types), ..Query::cached(&rows.insert, []) };
        self.run(OPERATION, Call::Add, &query, deadline).await?;
        Ok(())
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        const OPERATION: &str = "update a row";
        let Prepared { rows, types, .. } = self.prepared(OPERATION)?;
        let (sql, values) = rows.update(&update).map_err(failed(OPERATION))?;
        let query = Query { parameters: typed(values, types), ..Query::cached(sql, []) };
        if self.run(OPERATION, Call::Change, &query, deadline).await?.changed > 0 {
            return Ok(Outcome::Stored);
        }
        self.not_updated(OPERATION, update.id, deadline).await
    }

    /// Returns why an update has changed no row.
    async fn not_updated(
        &self,
        operation: &'static str,
        id: SessionId,
        deadline: Instant,
    ) -> Result<Outcome, StoreError> {
        let query = Query::cached(&self.prepared(operation)?.rows.exists, [Datum::from(&id)]);
        let found = self.run(operation, Call::Fetch, &query, deadline).await?;
        Ok(if found.rows.is_empty() { Outcome::Gone } else { Outcome::Conflict })
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        const OPERATION: &str = "delete a row";
        let query = Query::cached(&self.prepared(OPERATION)?.rows.delete, [Datum::from(&id)]);
        Ok(self.run(OPERATION, Call::Change, &query, deadline).await?.changed > 0)
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        const OPERATION: &str = "remove expired rows";
        let values = [now.as_millis(), limit.into()].map(Datum::Integer);
        let query = Query::cached(&self.prepared(OPERATION)?.rows.prune, values);
        Ok(self.run(OPERATION, Call::Repeat, &query, deadline).await?.changed)
    }

    async fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        const OPERATION: &str = "limit the sessions of a user";
        let Prepared { name, rows, types, .. } = self.prepared(OPERATION)?;
        let Statement { sql, values } = rows.surplus(&write).map_err(failed(OPERATION))?;
        let surplus = Query {
            is_cached: true,
            ..Query::once(sql, values.iter().map(Datum::from), &[ColumnType::Blob])
        };
        let (sql, parameters) = match &write.write {
            Write::Insert(row) => (&rows.insert, typed(rows.values(row).map_err(failed(OPERATION))?, types)),
            Write::Update(update) => {
                let (sql, values) = rows.update(update).map_err(failed(OPERATION))?;
                (sql, typed(values, types))
            }
        };
        let limit = Some((limited::user_lock(name, write.row().user.as_ref()), Box::new(surplus)));
        let query = Query { parameters, limit, ..Query::cached(sql, []) };
        let result = self.run(OPERATION, Call::Add, &query, deadline).await?;
        match &write.write {
            Write::Update(update) if result.changed == 0 => {
                Ok((self.not_updated(OPERATION, update.id, deadline).await?, Vec::new()))
            }
            _ => Ok((Outcome::Stored, result.rows.iter().filter_map(removed_id).collect())),
        }
    }

    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        const OPERATION: &str = "list rows";
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
        match result.rows.first().and_then(|cells| cells.first()) {
            Some(Some(Value::Integer(count))) => Ok(count.cast_unsigned()),
            _ => Err(StoreError::new(OPERATION, sqlx::Error::RowNotFound)),
        }
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        const OPERATION: &str = "delete rows";
        let statement = self.prepared(OPERATION)?.rows.remove(filter);
        self.run_remove(OPERATION, statement, deadline).await
    }

    /// Deletes a row that cannot exist, because no row has an empty id: a read-only server refuses even that.
    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        const OPERATION: &str = "answer a health check";
        let empty_id = Datum::Blob([].as_slice().into());
        let query = Query::cached(&self.prepared(OPERATION)?.rows.delete, [empty_id]);
        self.run(OPERATION, Call::Repeat, &query, deadline).await?;
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
    /// Tried again are a statement that the server rolled back, to resolve a deadlock or because it closed the
    /// connection, and a read on a connection that broke.
    async fn run(
        &self,
        operation: &'static str,
        call: Call,
        query: &Query<'_>,
        deadline: Instant,
    ) -> Result<QueryResult, StoreError> {
        let Prepared { id, delete_list, .. } = self.prepared(operation)?;
        let (mut pause, longest_pause) = RETRY_PAUSES;
        let mut terminated = None;
        // A timeout polls its future before its clock, and no write may begin after the deadline.
        while Instant::now() < deadline {
            match self.call(call, query, delete_list, deadline).await {
                // A proxy may say that the connection ends after the server has made the statement.
                Ok(result) => {
                    return match terminated {
                        None => Ok(result),
                        Some(error) => call.of_both(Err(error), Ok(result)).map_err(failed(operation)),
                    };
                }
                Err(Failure::RolledBack(_)) => {}
                Err(error @ Failure::Terminated(_)) => terminated = Some(error),
                Err(Failure::ConnectionLost(_)) if call == Call::Fetch => {}
                Err(failure) => {
                    return Err(failure.of_statement::<D>(operation, call.stores_values().then_some(id)));
                }
            }
            sleep_until(deadline.min(Instant::now() + pause).into()).await;
            pause = longest_pause.min(2 * pause);
        }
        Err(StoreError::deadline(operation))
    }

    /// Runs a statement, and again on another connection if the server takes no writes: it may have been the master before a
    /// failover, and the one at its address may be another by now.
    async fn call(
        &self,
        call: Call,
        query: &Query<'_>,
        delete: &str,
        deadline: Instant,
    ) -> Result<QueryResult, Failure> {
        let connections = &self.connections;
        let mut result = self.call_once(call, query, delete, deadline).await;
        let refused = Instant::now();
        for _ in 0..connections.calls_until_new() {
            if !matches!(result, Err(Failure::ReadOnly(_))) {
                break;
            }
            // Without another connection the first answer is what is known.
            let Ok(_turn) = connections.turn(deadline).await else { break };
            let Ok(lease) = connections.connect(deadline).await else { break };
            result = within(deadline, Box::pin(Self::attempt(lease, call, query, delete))).await;
            if result.is_ok() {
                connections.drop_idle_since(refused);
            }
        }
        result
    }

    /// Runs a statement on the connection that was used last. If that connection is broken, or silent for half of the
    /// time, the statement is sent again on a new one, where this is safe. A slow answer is not told from none, so the
    /// first one is still awaited, and the idle connections stay until the new one has answered first.
    async fn call_once(
        &self,
        call: Call,
        query: &Query<'_>,
        delete: &str,
        deadline: Instant,
    ) -> Result<QueryResult, Failure> {
        let connections = &self.connections;
        let _turn = connections.turn(deadline).await?;
        let attempt = |lease| Self::attempt(lease, call, query, delete);
        let taken = Instant::now();
        if taken >= deadline {
            return Err(Failure::Deadline);
        }
        let silent = taken + SILENCE.max(deadline.saturating_duration_since(taken) / 2);
        let silent = silent.min(deadline);
        let mut lease = connections.take(deadline).await?;
        let Some(idle_since) = lease.idle_since() else {
            return within(deadline, attempt(lease)).await;
        };
        if !call.may_be_sent_twice() {
            if idle_since + PING_AFTER_IDLE < taken && !is_alive(&mut lease, silent).await {
                lease = connections.connect(deadline).await?;
                connections.drop_idle_since(taken);
            }
            let result = within(deadline, attempt(lease)).await;
            if matches!(result, Err(Failure::ConnectionLost(_) | Failure::Terminated(_))) {
                connections.drop_idle_since(taken);
            }
            return result;
        }
        let mut first = pin!(attempt(lease));
        let lost = match timeout_at(silent.into(), &mut first).await {
            Ok(Err(error @ Failure::ConnectionLost(_))) => Some(error),
            Ok(Err(error @ Failure::Terminated(_))) => {
                connections.drop_idle_since(taken);
                return Err(error);
            }
            Ok(result) => return result,
            Err(_) if silent == deadline => return Err(Failure::Deadline),
            Err(_) => None,
        };
        // Boxed, as it is large and rare.
        let second = Box::pin(async { attempt(connections.connect(deadline).await?).await });
        if let Some(error) = lost {
            connections.drop_idle_since(taken);
            return call.of_both(Err(error), within(deadline, second).await);
        }
        let both = async {
            match select(first, second).await {
                Either::Left((result, _)) if call.is_decided(&result) => result,
                Either::Left((result, second)) => call.of_both(result, second.await),
                Either::Right((result, first)) => {
                    if result.is_ok() {
                        connections.drop_idle_since(taken);
                    }
                    if call.is_decided(&result) { result } else { call.of_both(result, first.await) }
                }
            }
        };
        within(deadline, both).await
    }

    async fn attempt(
        mut lease: Lease<D>,
        call: Call,
        query: &Query<'_>,
        delete: &str,
    ) -> Result<QueryResult, Failure> {
        let connection = lease.connection();
        let rows = |rows| QueryResult { rows, ..QueryResult::default() };
        if let Some((lock, surplus)) = &query.limit {
            let written = Box::pin(limited::write::<D>(connection, query, (*lock, surplus), delete)).await;
            return lease.end(written.map(|(changed, rows)| QueryResult { rows, changed }));
        }
        let result = match call {
            Call::Fetch => D::fetch(connection, query).await.map(rows).map_err(Failure::of::<D>),
            Call::Remove => Box::pin(D::remove(connection, query, delete)).await.map(rows),
            Call::Repeat | Call::Change | Call::Add => {
                let changed = D::execute(connection, query).await;
                let result = changed.map(|changed| QueryResult { changed, ..QueryResult::default() });
                result.map_err(Failure::of::<D>)
            }
        };
        lease.end(result)
    }

    fn prepared(&self, operation: &'static str) -> Result<&Prepared, StoreError> {
        self.table.as_deref().ok_or_else(|| StoreError::new(operation, Failure::NotPrepared))
    }
}

impl<D: SqlDriver> Clone for SqlStore<D> {
    fn clone(&self) -> Self {
        Self { connections: self.connections.clone(), table: self.table.clone() }
    }
}

async fn within<T>(deadline: Instant, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout_at(deadline.into(), call).await.unwrap_or(Err(Failure::Deadline))
}

async fn is_alive<D: SqlDriver>(lease: &mut Lease<D>, deadline: Instant) -> bool {
    matches!(timeout_at(deadline.into(), lease.connection().ping()).await, Ok(Ok(())))
}

/// Names the operation that failed.
fn failed<E: Into<Failure>>(operation: &'static str) -> impl FnOnce(E) -> StoreError {
    move |failure| failure.into().of_operation(operation)
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

/// Implements `Store` and `Directory` by the `SqlStore` in the field, so that the driver's types stay private.
macro_rules! delegate {
    ($store:ty) => {
        #[cfg(feature = "admin")]
        impl $store {
            /// Describes a table, and changes nothing.
            pub(crate) async fn survey(&self, wanted: &Table) -> Result<crate::store::Survey, StoreError> {
                self.0.survey(wanted).await
            }
        }

        impl Store for $store {
            async fn prepare(&mut self, table: &Table, timeout: Duration) -> Result<(), StoreError> {
                self.0.prepare(table, timeout).await
            }

            async fn claim(&self, table: &Table, bag: &str, _: Instant) -> Result<String, StoreError> {
                self.0.claim(table, bag).await
            }

            async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
                self.0.load(id, deadline).await
            }

            async fn load_versions(
                &self,
                ids: &[SessionId],
                deadline: Instant,
            ) -> Result<RowVersions, StoreError> {
                self.0.load_versions(ids, deadline).await
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

            async fn write_limited(
                &self,
                write: LimitedWrite,
                deadline: Instant,
            ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
                self.0.write_limited(write, deadline).await
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

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<QueryResult, Failure>;

    const CHANGED: fn(u64) -> Outcome = |changed| Ok(QueryResult { changed, ..QueryResult::default() });

    fn lost() -> Outcome {
        Err(Failure::ConnectionLost(sqlx::Error::WorkerCrashed))
    }

    fn terminated() -> Outcome {
        Err(Failure::Terminated(sqlx::Error::WorkerCrashed))
    }

    /// A change that was sent twice changed the row, changed none, or may have changed it.
    #[test]
    fn a_change_that_may_have_been_made_is_never_said_to_have_found_another_row() {
        for (one, other, expected) in [
            (CHANGED(1), CHANGED(0), Some(1)),
            (CHANGED(0), CHANGED(0), Some(0)),
            (lost(), CHANGED(1), Some(1)),
            (lost(), CHANGED(0), None),
            (terminated(), CHANGED(0), None),
            (Err(Failure::NotConnected), CHANGED(0), Some(0)),
            (Err(Failure::Deadline), CHANGED(0), None),
        ] {
            let shown = format!("{one:?} and {other:?}");
            let both = Call::Change.of_both(one, other);
            assert_eq!(both.as_ref().ok().map(|both| both.changed), expected, "{shown}");
            // Nor is it tried again, which would find the row as the lost statement left it.
            assert!(!both.is_err_and(|error| !error.may_have_been_made()), "{shown}");
        }
        let again = [Call::Change.of_both(terminated(), lost()), Call::Change.of_both(lost(), terminated())];
        for both in again {
            assert!(both.as_ref().is_err_and(Failure::may_have_been_made), "{both:?}");
        }
    }
}
