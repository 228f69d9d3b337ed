//! A store of your own, on the embedded database redb: `cargo run -p examples --example custom_store`.
//!
//! `cargo test -p examples --example custom_store` checks every promise of a store.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable, StorageError, TableDefinition};
use serde::{Deserialize, Serialize};
use session_runtime::store::{
    ColumnRef, Comparison, Filter, LimitedWrite, Order, Outcome, Page, Row, Table, TableColumn, Update, Write,
};
use session_runtime::{
    Databag, Directory, Keyring, SessionId, Sessions, Store, StoreError, Timestamp, Value,
};

/// Sessions in a file, which one process at a time can open.
#[derive(Clone)]
struct RedbStore {
    database: Arc<Database>,
    /// None until the store is prepared.
    table: Option<Arc<Table>>,
}

type BoxError = Box<dyn Error + Send + Sync>;

/// The rows by id: the state, and the rest as MessagePack.
type Rows<'a> = TableDefinition<'a, [u8; 32], Stored>;
type Stored = (&'static [u8], &'static [u8]);

/// The ids by expiration, so that pruning reads expired rows only.
type Ends<'a> = TableDefinition<'a, (i64, [u8; 32]), ()>;

/// The rest of a row: all but its id and its state.
#[derive(Serialize, Deserialize)]
struct Rest {
    user: Option<Cell>,
    ip: Option<IpAddr>,
    created: i64,
    expiration: i64,
    revision: i64,
    /// By name: another version of the program may have other columns, and this one keeps them.
    columns: Columns,
}

type Columns = BTreeMap<String, Option<Cell>>;

#[derive(Clone, Serialize, Deserialize)]
enum Cell {
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(integer) => Self::Integer(integer),
            Value::Real(real) => Self::Real(real),
            Value::Text(text) => Self::Text(text),
            Value::Blob(blob) => Self::Blob(blob),
        }
    }
}

impl From<Cell> for Value {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Integer(integer) => Self::Integer(integer),
            Cell::Real(real) => Self::Real(real),
            Cell::Text(text) => Self::Text(text),
            Cell::Blob(blob) => Self::Blob(blob),
        }
    }
}

impl RedbStore {
    fn open(path: impl AsRef<Path>) -> Result<Self, BoxError> {
        let database = Arc::new(Database::create(path)?);
        Ok(Self { database, table: None })
    }

    /// Reads a consistent snapshot of the database.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Table, &ReadOnlyTable<[u8; 32], Stored>) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(operation, move |database, table| {
            work(table, &database.begin_read()?.open_table(Rows::new(&rows_of(table)))?)
        })
        .await
    }

    /// Writes everything or nothing. Writes run one after the other.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Instant,
        work: impl FnOnce(&mut Writing<'_>) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(operation, move |database, table| {
            let transaction = database.begin_write()?;
            // Earlier writes may have taken long. The caller stopped waiting at the deadline and answered an error.
            if Instant::now() >= deadline {
                return Err("the deadline has passed".into());
            }
            let rows = transaction.open_table(Rows::new(&rows_of(table)))?;
            let ends = transaction.open_table(Ends::new(&ends_of(table)))?;
            let done = work(&mut Writing { table, rows, ends })?;
            // Returns when the change is on the disk.
            transaction.commit()?;
            Ok(done)
        })
        .await
    }

    /// Runs blocking work on a thread for it. Work that has begun is finished, even if the future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Database, &Table) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = |error: BoxError| StoreError::new(operation, error);
        let table = self.table.clone().ok_or_else(|| failed("it was not prepared for a table".into()))?;
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || work(&database, &table)).await;
        done.map_err(|error| failed(error.into()))?.map_err(failed)
    }
}

impl Store for RedbStore {
    async fn prepare(&mut self, table: &Table, timeout: Duration) -> Result<(), StoreError> {
        self.table = Some(Arc::new(table.clone()));
        // The first transaction that writes to a table creates it.
        self.write("prepare its table", Instant::now() + timeout, |_| Ok(())).await
    }

    async fn load(&self, id: SessionId, _: Instant) -> Result<Option<Row>, StoreError> {
        self.read("load a row", move |table, rows| Ok(get(table, rows, id)?.map(|(row, _)| row))).await
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        self.write("insert a row", deadline, move |writing| writing.put(row, BTreeMap::new())).await
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        self.write("update a row", deadline, move |writing| writing.update(update)).await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        self.write("delete a row", deadline, move |writing| {
            Ok(!writing.remove_all(&Filter::Id(id))?.is_empty())
        })
        .await
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        self.write("remove expired rows", deadline, move |writing| {
            let expired = writing.ends.range(..=(now.as_millis(), [u8::MAX; 32]))?.take(limit as usize);
            let expired =
                expired.map(|entry| Ok(entry?.0.value())).collect::<Result<Vec<_>, StorageError>>()?;
            for end in &expired {
                writing.ends.remove(end)?;
                writing.rows.remove(end.1)?;
            }
            Ok(expired.len() as u64)
        })
        .await
    }

    async fn write_limited(
        &self,
        limited: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        let Row { id: new, user, .. } = limited.row().clone();
        let Some(user) = user else {
            return Err(StoreError::new("limit the sessions of a user", "the row has no user"));
        };
        let (now, others) = (limited.now, limited.others() as usize);
        // One transaction: both the write and the removal, or neither.
        self.write("limit the sessions of a user", deadline, move |writing| {
            let outcome = match limited.write {
                Write::Insert(row) => writing.put(row, BTreeMap::new()).map(|()| Outcome::Stored)?,
                Write::Update(update) => writing.update(update)?,
            };
            if outcome != Outcome::Stored {
                return Ok((outcome, Vec::new()));
            }
            let of_user = Filter::Compare(ColumnRef::User, Comparison::Eq, user);
            let mut rows =
                select(writing.table, &writing.rows, &of_user, None)?.collect::<Result<Vec<_>, _>>()?;
            // The new row stays, whatever its time says.
            rows.retain(|row| row.id != new);
            rows.sort_by_key(|row| Reverse((row.expiration > now, row.created, row.id)));
            let surplus = rows.split_off(rows.len().min(others));
            surplus.iter().try_for_each(|row| writing.remove(row))?;
            Ok((outcome, surplus.iter().map(|row| row.id).collect()))
        })
        .await
    }
}

/// Lists and queries read every row, which is fast enough for some ten thousand.
impl Directory for RedbStore {
    async fn find(&self, filter: &Filter, page: Page, _: Instant) -> Result<Vec<Row>, StoreError> {
        let filter = filter.clone();
        self.read("list rows", move |table, rows| {
            let (mut found, limit) = (select(table, rows, &filter, page.after)?, page.limit as usize);
            if page.order == Order::Id {
                return found.take(limit).collect();
            }
            // Twice the page is in memory at most.
            let mut newest = Vec::new();
            while let Some(row) = found.next().transpose()? {
                newest.push(row);
                if newest.len() >= 2 * limit.max(64) {
                    keep_newest(&mut newest, limit);
                }
            }
            keep_newest(&mut newest, limit);
            Ok(newest)
        })
        .await
    }

    async fn count(&self, filter: &Filter, _: Instant) -> Result<u64, StoreError> {
        let filter = filter.clone();
        self.read("count rows", move |table, rows| {
            select(table, rows, &filter, None)?.try_fold(0, |count, row| row.map(|_| count + 1))
        })
        .await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        let filter = filter.clone();
        self.write("delete rows", deadline, move |writing| writing.remove_all(&filter)).await
    }

    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        self.write("answer a health check", deadline, |_| Ok(())).await
    }
}

fn keep_newest(rows: &mut Vec<Row>, limit: usize) {
    rows.sort_by_key(|row| Reverse((row.created, row.id)));
    rows.truncate(limit);
}

fn rows_of(table: &Table) -> String {
    format!("rows of {}", table.name)
}

fn ends_of(table: &Table) -> String {
    format!("ends of {}", table.name)
}

/// The tables of a write transaction.
struct Writing<'a> {
    table: &'a Table,
    rows: redb::Table<'a, [u8; 32], Stored>,
    ends: redb::Table<'a, (i64, [u8; 32]), ()>,
}

impl Writing<'_> {
    /// Adds a row, and keeps the columns of it that only other versions of the program know.
    fn put(&mut self, row: Row, mut columns: Columns) -> Result<(), BoxError> {
        let names = self.table.projected.iter().map(|column| column.name.clone());
        columns.extend(names.zip(row.columns.into_iter().map(|value| value.map(Cell::from))));
        let rest = Rest {
            user: row.user.map(Cell::from),
            ip: row.ip,
            created: row.created.as_millis(),
            expiration: row.expiration.as_millis(),
            revision: row.revision,
            columns,
        };
        let (id, rest) = (*row.id.as_bytes(), rmp_serde::to_vec_named(&rest)?);
        if self.rows.insert(id, (row.state.as_slice(), rest.as_slice()))?.is_some() {
            // The transaction is dropped, and with it what it has written so far.
            return Err("there is a row of this id".into());
        }
        self.ends.insert((row.expiration.as_millis(), id), ())?;
        Ok(())
    }

    fn update(&mut self, update: Update) -> Result<Outcome, BoxError> {
        let Some((old, columns)) = get(self.table, &self.rows, update.id)? else {
            return Ok(Outcome::Gone);
        };
        if old.revision != update.expected {
            return Ok(Outcome::Conflict);
        }
        self.remove(&old)?;
        self.put(update.row, columns)?;
        Ok(Outcome::Stored)
    }

    fn remove(&mut self, row: &Row) -> Result<(), BoxError> {
        self.rows.remove(row.id.as_bytes())?;
        self.ends.remove((row.expiration.as_millis(), *row.id.as_bytes()))?;
        Ok(())
    }

    fn remove_all(&mut self, filter: &Filter) -> Result<Vec<SessionId>, BoxError> {
        let rows = match filter {
            Filter::Id(id) => get(self.table, &self.rows, *id)?.map(|(row, _)| row).into_iter().collect(),
            _ => select(self.table, &self.rows, filter, None)?.collect::<Result<Vec<_>, _>>()?,
        };
        rows.iter().try_for_each(|row| self.remove(row))?;
        Ok(rows.iter().map(|row| row.id).collect())
    }
}

/// Returns a row, and its columns by name.
fn get(
    table: &Table,
    rows: &impl ReadableTable<[u8; 32], Stored>,
    id: SessionId,
) -> Result<Option<(Row, Columns)>, BoxError> {
    rows.get(id.as_bytes())?.map(|stored| decode(table, id, stored.value())).transpose()
}

/// Returns the rows of a filter after an id, in the order of their ids.
fn select<'r>(
    table: &'r Table,
    rows: &'r impl ReadableTable<[u8; 32], Stored>,
    filter: &'r Filter,
    after: Option<SessionId>,
) -> Result<impl Iterator<Item = Result<Row, BoxError>> + 'r, BoxError> {
    let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id.as_bytes()));
    let rows = rows.range::<[u8; 32]>((start, Bound::Unbounded))?.map(move |entry| {
        let (id, stored) = entry?;
        Ok(decode(table, SessionId::from_bytes(id.value()), stored.value())?.0)
    });
    Ok(rows.filter(|row| row.as_ref().map_or(true, |row| filter.matches(row))))
}

fn decode(table: &Table, id: SessionId, (state, rest): (&[u8], &[u8])) -> Result<(Row, Columns), BoxError> {
    // The cause would quote the value, and errors are logged.
    let rest: Rest = rmp_serde::from_slice(rest).map_err(|_| "a row is not as it was written")?;
    // Of a state that is too long, its first bytes show it.
    let state = state.get(..=table.max_state).unwrap_or(state);
    let value = |column: &TableColumn| rest.columns.get(&column.name).cloned().flatten().map(Value::from);
    let (created, expiration) =
        (Timestamp::from_millis(rest.created), Timestamp::from_millis(rest.expiration));
    let mut row = Row::new(id, state.to_vec(), created, expiration, rest.revision);
    row.columns = table.projected.iter().map(value).collect();
    row.user = rest.user.map(Value::from);
    row.ip = rest.ip;
    Ok((row, rest.columns))
}

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    user_id: Option<i64>,
    cart: BTreeMap<String, u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let sessions = Sessions::<Shop>::builder(RedbStore::open(folder.path().join("sessions.redb"))?)
        .keyring(Keyring::generate())
        .build()
        .await?;
    let cart = BTreeMap::from([("apple".to_owned(), 3)]);
    let (token, _) = sessions.create(Shop { user_id: Some(7), cart }).await?;
    let session = sessions.load(&token).await?.ok_or("the session is gone")?;
    println!("the cart: {:?}", session.cart());
    println!("sessions of its user: {}", sessions.of_user(7).await?.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use session_runtime::store::suite;

    use super::*;

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_store() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let store = RedbStore::open(folder.path().join("sessions.redb")).expect("the file is new");
        suite::run(async || store.clone()).await;
    }

    #[test]
    fn the_program_runs() {
        main().expect("the example runs");
    }
}
