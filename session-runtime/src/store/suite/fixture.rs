//! What the checks have in common: tables, rows, and a store whose calls have a deadline.

use std::error::Error;
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::Timestamp;
use crate::store::{
    ColumnRef, Comparison, Directory, Filter, LimitedWrite, Outcome, Page, Row, RowVersions, Scope, Store,
    StoreError, Table, TableColumn, Update, Write,
};
use crate::token::{Hex, SessionId, fill_random};
use crate::value::{ColumnType, Value};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a check may take: one that hangs must not keep the others from running.
const CHECK_TIMEOUT: Duration = Duration::from_mins(1);

/// `Err` says how a promise is broken.
pub(super) type CheckResult = Result<(), CheckError>;

pub(super) type CheckError = Box<dyn Error + Send + Sync>;

/// Runs checks by name, and collects the messages of those that fail.
macro_rules! checks {
    ($open:expr, $($check:ident),+ $(,)?) => {{
        let mut broken = Vec::new();
        $(broken.extend(fixture::run_check(stringify!($check), $open().await, $check).await);)+
        broken
    }};
}
pub(super) use checks;

/// Prepares a store for a table of its own, runs a check, and returns the message if it fails.
pub(super) async fn run_check<S: Store, F: Future<Output = CheckResult>>(
    name: &str,
    store: S,
    check: impl FnOnce(TimedStore<S>) -> F,
) -> Option<String> {
    let result = match TimedStore(store).prepared(&table(name)).await {
        Ok(store) => match tokio::time::timeout(CHECK_TIMEOUT, Box::pin(check(store))).await {
            Ok(result) => result,
            Err(timeout) => Err(timeout.into()),
        },
        Err(error) => Err(error.into()),
    };
    result.err().map(|error| format!("- {}: {}", name.replace('_', " "), with_causes(error.as_ref())))
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[expect(clippy::needless_pass_by_value, reason = "most values are made for the call")]
pub(super) fn ensure<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> CheckResult {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}").into()) }
}

/// A store whose calls have a deadline each.
#[derive(Clone)]
pub(super) struct TimedStore<S>(pub(super) S);

fn deadline() -> Instant {
    Instant::now() + TIMEOUT
}

impl<S: Store> TimedStore<S> {
    pub(super) async fn prepared(mut self, table: &Table) -> Result<Self, StoreError> {
        self.0.prepare(table, TIMEOUT).await?;
        Ok(self)
    }

    pub(super) async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        self.0.load(id, deadline()).await
    }

    pub(super) async fn load_cached(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        self.0.load_cached(id, deadline()).await
    }

    pub(super) async fn load_versions(&self, ids: &[SessionId]) -> Result<RowVersions, StoreError> {
        self.0.load_versions(ids, deadline()).await
    }

    pub(super) async fn insert(&self, row: Row) -> Result<(), StoreError> {
        self.0.insert(row, deadline()).await
    }

    pub(super) async fn update(&self, update: Update) -> Result<Outcome, StoreError> {
        self.0.update(update, deadline()).await
    }

    pub(super) async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
        self.0.delete(id, deadline()).await
    }

    pub(super) async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.0.prune(now, limit, deadline()).await
    }

    pub(super) async fn insert_limited(
        &self,
        row: Row,
        max: u32,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        self.write_limited(Write::Insert(row), max).await
    }

    /// Makes a limited write, and sorts the ids of the removed rows.
    pub(super) async fn write_limited(
        &self,
        write: Write,
        max: u32,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        let write = LimitedWrite::new(write, max, now());
        let (outcome, mut removed) = self.0.write_limited(write, deadline()).await?;
        removed.sort();
        Ok((outcome, removed))
    }
}

impl<S: Directory> TimedStore<S> {
    pub(super) async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, StoreError> {
        self.0.find(filter, page, deadline()).await
    }

    /// Finds the ids of the rows of a filter.
    pub(super) async fn ids(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        let rows = self.find(filter, Page::new(None, 1_000)).await?;
        Ok(rows.iter().map(|row| row.id).collect())
    }

    pub(super) async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        self.0.count(filter, deadline()).await
    }

    pub(super) async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        self.0.remove(filter, deadline()).await
    }

    pub(super) async fn health(&self) -> Result<(), StoreError> {
        self.0.health(deadline()).await
    }
}

/// Makes a table that no other check and no other run uses.
pub(super) fn table(check: &str) -> Table {
    let mut random = [0; 6];
    fill_random(&mut random);
    // PostgreSQL has 63 bytes for a name.
    let check: String = check.chars().take(40).collect();
    Table {
        state_is_text: check.starts_with("text_state"),
        max_state: if check.starts_with("a_long_state") { MAX_STATE } else { usize::MAX },
        user: Some(TableColumn::new("user_id", ColumnType::Integer).indexed()),
        ip: Some("ip_addr".to_owned()),
        projected: vec![
            TableColumn::new("tenant", ColumnType::Text).indexed(),
            TableColumn::new("score", ColumnType::Real),
            TableColumn::new("visits", ColumnType::Integer),
            TableColumn::new("tag", ColumnType::Blob),
        ],
        ..Table::new(format!("suite_{check}_{}", Hex(&random)))
    }
}

/// The longest state in the tables of the checks of long states.
pub(super) const MAX_STATE: usize = 1_000;

/// Checks what is returned of a state: it is whole, or cut so that it is seen to be too long.
pub(super) fn ensure_bounded(what: &str, found: &Row, stored: &Row) -> CheckResult {
    let length = stored.state.len();
    let is_cut = length > MAX_STATE && found.state.len() == MAX_STATE + 1;
    let state = if is_cut { stored.state.clone() } else { found.state.clone() };
    let what = format!("{what} with a state of {length} bytes, of {MAX_STATE} accepted");
    ensure(&what, &Row { state, ..found.clone() }, stored)
}

/// The position of the column `tenant`.
pub(super) const TENANT: usize = 0;

pub(super) fn now() -> Timestamp {
    SystemTime::now().into()
}

pub(super) fn hour() -> Duration {
    Duration::from_hours(1)
}

pub(super) fn id(n: u64) -> SessionId {
    let mut bytes = [0; 32];
    // Spread over the whole range, as random ids are, and in the order of `n` up to 255.
    bytes[0] = n.to_le_bytes()[0];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    SessionId::from_bytes(bytes)
}

pub(super) fn row(n: u64) -> Row {
    let state = format!("\"state of {n}\"").into_bytes();
    Row { columns: vec![None; 4], ..Row::new(id(n), state, now(), now().saturating_add(hour()), 1) }
}

/// A row with a value in every column.
pub(super) fn full_row(n: u64) -> Row {
    Row {
        user: Some(Value::Integer(-7)),
        ip: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
        columns: vec![
            Some(Value::Text("ac'me\\ \u{1F36A}".to_owned())),
            Some(Value::Real(0.5)),
            Some(Value::Integer(i64::MIN)),
            Some(Value::Blob(vec![0, 255, 10])),
        ],
        ..row(n)
    }
}

pub(super) fn of_user(n: u64, user: i64) -> Row {
    Row { user: Some(Value::Integer(user)), ..row(n) }
}

/// The same row with the next revision.
pub(super) fn next(row: &Row) -> Row {
    Row { revision: row.revision + 1, ..row.clone() }
}

/// The update that replaces a row as it is stored by another one.
pub(super) fn replace(row: &Row, scope: Scope, by: Row) -> Update {
    Update { scope, ..Update::new(row.id, row.revision, by) }
}

pub(super) fn is_user(user: i64) -> Filter {
    Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(user))
}
