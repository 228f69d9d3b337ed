//! Start-up on a server: its version and its settings are checked, and the table is created or completed.

use std::time::Duration;

use tokio::time::timeout;

use super::driver::{Connection, Failure, Query, SqlDriver};
#[cfg(feature = "admin")]
use crate::store::Survey;
use crate::store::Table;
use crate::store::sql::owner::{OWNERS, Owners};
#[cfg(feature = "admin")]
use crate::store::sql::table::TableSurvey;
use crate::store::sql::table::{Limits, Question, TableCheck};
use crate::store::sql::{Cells, Datum};
use crate::value::{ColumnType, Value};

/// How long start-up waits for a connection, and for the answer to a statement.
pub(super) const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long start-up waits for a lock. The server itself gives up after 30 seconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(40);

/// Checks that the server is not too old, and the settings of the connection.
pub(super) async fn check_server<D: SqlDriver>(connection: &mut Connection<D>) -> Result<(), Failure> {
    let query = Query::once(D::SERVER.version, [], &[ColumnType::Text]);
    let rows = within(STARTUP_TIMEOUT, D::fetch(connection, &query)).await?;
    let version = match first_cell(&rows) {
        Some(Value::Text(version)) => version.as_str(),
        _ => "",
    };
    (D::SERVER.supports)(version)
        .map_err(|needed| Failure::OldServer { found: version.to_owned(), needed })?;
    let query = Query::once(D::SERVER.settings, [], &[ColumnType::Text, ColumnType::Text]);
    let rows = within(STARTUP_TIMEOUT, D::fetch(connection, &query)).await?;
    let said = |n: usize| match rows.first().and_then(|cells| cells.get(n)) {
        Some(Some(Value::Text(text))) => text.clone(),
        _ => String::new(),
    };
    if !said(1).is_empty() {
        tracing::warn!("{}", said(1));
    }
    if said(0).is_empty() { Ok(()) } else { Err(Failure::Settings(said(0))) }
}

/// Makes the database ready for a table, and returns which of its columns hold only short values.
///
/// A table that fits is left alone, without a lock: the user of a read-only server can still read from it, if its bag
/// was noted before. Otherwise
/// the table is checked again under a lock, because another process may be changing it at the same time.
///
/// Every answer has a timeout, except those to the statements that change the table: an index of many rows takes long
/// to build.
pub(super) async fn prepare_table<D: SqlDriver>(
    connection: &mut Connection<D>,
    table: &Table,
) -> Result<Limits, Failure> {
    let (statements, mut limits) = missing::<D>(connection, table).await?;
    if statements.is_empty() {
        return Ok(limits);
    }
    let number = lock::<D>(connection, &table.name).await?;
    for _columns_then_indexes in 0..2 {
        let statements;
        (statements, limits) = missing::<D>(connection, table).await?;
        run::<D>(connection, statements).await?;
    }
    within(STARTUP_TIMEOUT, run::<D>(connection, (D::SERVER.unlock)(number))).await?;
    Ok(limits)
}

/// Notes that a table belongs to a bag, unless it belongs to another, and returns the one it belongs to.
pub(super) async fn claim<D: SqlDriver>(
    connection: &mut Connection<D>,
    table: &Table,
    bag: &str,
) -> Result<String, Failure> {
    // A note is made for a table that can be prepared.
    TableCheck::new(D::DIALECT, table)?;
    let (table, owners) = (table.name.as_str(), Owners::new(D::DIALECT));
    if let Some(owner) = owner::<D>(connection, &owners, table).await? {
        return Ok(owner);
    }
    // All bags share this table, so that all wait for one lock.
    let number = lock::<D>(connection, OWNERS).await?;
    within(STARTUP_TIMEOUT, run::<D>(connection, vec![owners.create.clone()])).await?;
    let owner = if let Some(owner) = owner::<D>(connection, &owners, table).await? {
        owner
    } else {
        let values = [table, bag].map(|text| Datum::Text(text.into()));
        let insert = Query::once(&*owners.insert, values, &[]);
        within(STARTUP_TIMEOUT, D::execute(connection, &insert)).await?;
        bag.to_owned()
    };
    within(STARTUP_TIMEOUT, run::<D>(connection, (D::SERVER.unlock)(number))).await?;
    Ok(owner)
}

/// Describes a table, and changes nothing.
#[cfg(feature = "admin")]
pub(super) async fn survey<D: SqlDriver>(
    connection: &mut Connection<D>,
    wanted: &Table,
) -> Result<Survey, Failure> {
    let owner = owner::<D>(connection, &Owners::new(D::DIALECT), &wanted.name).await?;
    let survey = TableSurvey::new(D::DIALECT, wanted);
    if ask::<D>(connection, &survey.kind()).await?.is_empty() {
        return Ok(Survey { owner, ..Survey::default() });
    }
    let columns = ask::<D>(connection, &survey.columns()).await?;
    Ok(survey.answer(owner, &columns))
}

async fn owner<D: SqlDriver>(
    connection: &mut Connection<D>,
    owners: &Owners,
    table: &str,
) -> Result<Option<String>, Failure> {
    let (exists, subject) = &owners.exists;
    for (sql, parameter) in [(*exists, subject.as_str()), (owners.select.as_str(), table)] {
        let query = Query::once(sql, [Datum::Text(parameter.into())], &[ColumnType::Text]);
        let rows = within(STARTUP_TIMEOUT, D::fetch(connection, &query)).await?;
        match first_cell(&rows) {
            None => return Ok(None),
            Some(Value::Text(bag)) if sql == owners.select => return Ok(Some(bag.clone())),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Takes the lock of a table, and returns its number.
async fn lock<D: SqlDriver>(connection: &mut Connection<D>, table: &str) -> Result<i64, Failure> {
    let number = lock_number(table.as_bytes());
    let mut lock = (D::SERVER.lock)(number);
    let last = lock.pop().unwrap_or_default();
    within(STARTUP_TIMEOUT, run::<D>(connection, lock)).await?;
    if !is_one::<D>(connection, LOCK_TIMEOUT, &last).await? {
        return Err(Failure::Locked { table: table.to_owned() });
    }
    Ok(number)
}

/// Returns the statements that bring the table nearer to what it must be, and which columns hold only short values.
async fn missing<D: SqlDriver>(
    connection: &mut Connection<D>,
    table: &Table,
) -> Result<(Vec<String>, Limits), Failure> {
    let mut check = TableCheck::new(D::DIALECT, table)?;
    while let Some(question) = check.question() {
        let rows = ask::<D>(connection, &question).await?;
        check.answer(&rows)?;
    }
    let limits = check.take_limits();
    Ok((check.into_statements(), limits))
}

async fn ask<D: SqlDriver>(
    connection: &mut Connection<D>,
    question: &Question<'_>,
) -> Result<Vec<Cells>, Failure> {
    let query = Query::once(question.sql, [Datum::Text(question.subject.into())], question.types);
    within(STARTUP_TIMEOUT, D::fetch(connection, &query)).await
}

async fn run<D: SqlDriver>(connection: &mut Connection<D>, statements: Vec<String>) -> Result<(), Failure> {
    for statement in statements {
        D::execute(connection, &Query::once(statement, [], &[])).await?;
    }
    Ok(())
}

async fn is_one<D: SqlDriver>(
    connection: &mut Connection<D>,
    limit: Duration,
    sql: &str,
) -> Result<bool, Failure> {
    let query = Query::once(sql, [], &[ColumnType::Integer]);
    let rows = within(limit, D::fetch(connection, &query)).await?;
    Ok(matches!(first_cell(&rows), Some(Value::Integer(1))))
}

fn first_cell(rows: &[Cells]) -> Option<&Value> {
    rows.first()?.first()?.as_ref()
}

/// Waits for an answer: a server may stop answering after it has accepted the connection.
async fn within<T, F: Into<Failure>>(
    limit: Duration,
    call: impl Future<Output = Result<T, F>>,
) -> Result<T, Failure> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::Deadline),
    }
}

/// The number of a lock, for servers whose locks have numbers (FNV-1a). Two locks with the same number are one.
pub(super) fn lock_number(name: &[u8]) -> i64 {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}
