//! A table of sessions, for tools of operators: they do not know the type of the bag.
//!
//! The names of columns enter; rows leave, and what a record says besides the values of its fields. The names that are left
//! out are the defaults of the derive, and the rest is read from the store: the bag, the types of the columns, whether the
//! state is text. Every write is the call of a [`Store`](crate::Store) that applications make, with their compare-and-swap,
//! so a tool can run beside them: they see what it has ended with their next request.
//!
//! A row is listed, counted and ended without a key. A key opens the envelope and the frame of the record in it; no field is
//! decoded.
//!
//! # Examples
//!
//! ```
//! use session_runtime::admin::{SessionTable, TableOptions};
//! use session_runtime::store::{Filter, Page};
//! use session_runtime::{AnyStore, Error};
//!
//! async fn newest(url: &str) -> Result<(), Error> {
//!     let store = AnyStore::connect(url).await?;
//!     let sessions = SessionTable::open(store, TableOptions::new("sessions")).await?;
//!     for row in sessions.rows(&Filter::All, Page::newest(10)).await? {
//!         println!("{} of {}", row.id, sessions.bag());
//!     }
//!     Ok(())
//! }
//! # let _ = newest;
//! ```

mod candidates;
mod columns;

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use self::candidates::candidates;
use self::columns::{ColumnUse, Match, StoredColumn, is_like_a_hash};
use crate::backend::any::{AnyStore, OpenedTable};
use crate::bag::record::{Outline, OutlinedField, outline, tag};
use crate::clock::Timestamp;
use crate::codec::Framing;
use crate::engine::cleanup::prune_in_batches;
use crate::engine::core::within;
use crate::envelope::{
    Binding, BlindColumn, BlindKey, Keyring, OpenError, Place, Protection, key_id, max_state,
};
use crate::error::Error;
use crate::store::{
    ColumnRef, DynDirectory, DynStore, Filter, Outcome, Page, Row, Scope, StoreError, Table, TableColumn,
    Update,
};
use crate::token::{Hex, SessionId};
use crate::value::{ColumnType, Value};

/// Connects to what a URL names, as [`AnyStore::connect`], but creates no database, as a misspelt path would, and leaves the
/// permissions of its file as they are.
///
/// # Errors
///
/// As [`AnyStore::connect`], and if there is no such file.
pub async fn connect_existing(url: &str) -> Result<AnyStore, StoreError> {
    #[cfg(feature = "sqlite")]
    if url.starts_with("sqlite:")
        && let Some(path) = crate::backend::any::sqlite_file(url)?
    {
        return crate::store::sqlite::SqliteStore::open_existing(path.as_ref()).map(AnyStore::from);
    }
    AnyStore::connect(url).await
}

/// Returns the name of the current key of a keyring: the 8 digits that errors and the log name it by.
pub fn current_key(keyring: &Keyring) -> String {
    Hex(&Protection::sealed(keyring.clone()).current_key().unwrap_or_default()).to_string()
}

/// What a tool must know of a table. Each name is the one in the struct of the application.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TableOptions {
    /// `#[databag(table = "..")]`
    pub table: String,
    /// `#[databag(name = "..")]`. `None` takes the one that is noted in the store beside the table.
    pub bag: Option<String>,
    /// `#[databag(columns(id = ".."))]`, and so on.
    pub id: String,
    /// The column of the sealed record.
    pub state: String,
    /// The column of the user. `None` is `user_id`, if there is such a column.
    pub user: Option<String>,
    /// The column of the address. `None` is `ip_addr`, if there is such a column.
    pub ip: Option<String>,
    /// The column of the time of the first write.
    pub created: String,
    /// The column of the expiry.
    pub expiration: String,
    /// The column of the counter.
    pub revision: String,
    /// The setting `max_state_bytes` of the application: a larger record is not read.
    pub max_state_bytes: usize,
    /// How long a call of the store may take.
    pub timeout: Duration,
}

impl TableOptions {
    /// Returns the defaults for a table of this name.
    pub fn new(table: impl Into<String>) -> Self {
        const TIMEOUT: Duration = Duration::from_secs(30);
        let Table { name, id, state, created, expiration, revision, .. } = Table::new(table);
        Self {
            table: name,
            bag: None,
            id,
            state,
            user: None,
            ip: None,
            created,
            expiration,
            revision,
            max_state_bytes: crate::engine::config::MAX_STATE_BYTES,
            timeout: TIMEOUT,
        }
    }

    /// Returns the table with the names of its columns, and no others.
    fn wanted(&self) -> Table {
        let user = self.user.clone().unwrap_or_else(|| "user_id".to_owned());
        Table {
            id: self.id.clone(),
            state: self.state.clone(),
            user: Some(TableColumn::new(user, ColumnType::Integer).indexed()),
            ip: Some(self.ip.clone().unwrap_or_else(|| "ip_addr".to_owned())),
            created: self.created.clone(),
            expiration: self.expiration.clone(),
            revision: self.revision.clone(),
            // Read first as text, which is longer.
            max_state: max_state(self.max_state_bytes, Framing::JsonObject),
            ..Table::new(self.table.clone())
        }
    }
}

/// The sessions of a table.
pub struct SessionTable {
    store: Arc<dyn DynStore>,
    directory: Arc<dyn DynDirectory>,
    table: Table,
    bag: String,
    protection: Option<Protection>,
    timeout: Duration,
}

impl SessionTable {
    /// Opens an existing table. No row, column or note changes; an index of the runtime is created if it is missing, and a
    /// database of SQLite gets a write-ahead log if it has none.
    ///
    /// # Errors
    ///
    /// If there is no such table, it lacks a column, its bag is not known, or the store fails.
    pub async fn open(store: AnyStore, options: TableOptions) -> Result<Self, Error> {
        let wanted = options.wanted();
        let deadline = Instant::now() + options.timeout;
        let survey = within(deadline, "describe its table", |end| store.survey(&wanted, end)).await?;
        let name = &options.table;
        let Some(mut table) = survey.table else {
            return Err(Error::Usage(format!("there is no table `{name}` in this store: name another one")));
        };
        if let Some(column) = survey.missing {
            return Err(Error::Usage(format!(
                "the table `{name}` has no column `{column}`: name another table, or the column that takes its place"
            )));
        }
        let bag = match (survey.owner, options.bag) {
            (Some(owner), Some(bag)) if owner != bag => return Err(foreign(name, &owner, &bag)),
            (Some(bag), _) | (None, Some(bag)) => bag,
            (None, None) => {
                return Err(Error::Usage(format!(
                    "it is not noted in this store which bag the table `{name}` belongs to: name the bag, as in \
                     `#[databag(name = \"..\")]`; without that it is the name of the package and of the struct, \
                     such as `shop/ShopSession`"
                )));
            }
        };
        let is_found = |column: &String| {
            let mut names = table.projected.iter().map(|column| &column.name).chain(&table.ip);
            names.any(|name| name == column) || table.user.as_ref().is_some_and(|user| user.name == *column)
        };
        if let Some(column) = options.user.iter().chain(&options.ip).find(|column| !is_found(column)) {
            return Err(Error::Usage(format!(
                "the table `{name}` has no column `{column}` that a user or an address can be in"
            )));
        }
        table.max_state = max_state(options.max_state_bytes, framing(&table));
        let opened = store.open_table(&table, None, options.timeout).await?;
        let opened = opened.map_err(|owner| foreign(name, &owner, &bag))?;
        Ok(Self::of(opened, table, bag, options.timeout))
    }

    /// Opens a table of a bag in another store, and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// If the table belongs to another bag, does not fit, or the store fails.
    pub async fn create(store: AnyStore, table: &Table, bag: &str, timeout: Duration) -> Result<Self, Error> {
        let opened = store.open_table(table, Some(bag), timeout).await?;
        let opened = opened.map_err(|owner| foreign(&table.name, &owner, bag))?;
        Ok(Self::of(opened, table.clone(), bag.to_owned(), timeout))
    }

    fn of(opened: OpenedTable, table: Table, bag: String, timeout: Duration) -> Self {
        let OpenedTable { store, directory } = opened;
        Self { store, directory, table, bag, protection: None, timeout }
    }

    /// Takes the keys that open and seal the records.
    #[must_use]
    pub fn keyring(self, keyring: Keyring) -> Self {
        Self { protection: Some(Protection::sealed(keyring)), ..self }
    }

    /// Says that the records are in the clear: the application calls
    /// [`danger_plaintext`](crate::Builder::danger_plaintext).
    #[must_use]
    pub fn danger_plaintext(self) -> Self {
        Self { protection: Some(Protection::Plain), ..self }
    }

    /// Returns the bag that the table belongs to.
    pub fn bag(&self) -> &str {
        &self.bag
    }

    /// Returns the table, with the columns that it has.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Counts the rows that match.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn count(&self, filter: &Filter) -> Result<u64, Error> {
        within(self.deadline(), "count rows", |end| self.directory.count(filter, end)).await
    }

    /// Returns a page of the rows that match.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn rows(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, Error> {
        within(self.deadline(), "list rows", |end| self.directory.find(filter, page, end)).await
    }

    /// Returns the row of an id.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn load(&self, id: SessionId) -> Result<Option<Row>, Error> {
        within(self.deadline(), "load a row", |end| self.store.load(id, end)).await
    }

    /// Returns the rows of these ids, in any order, and none for an id without a row.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn load_many(&self, ids: &[SessionId]) -> Result<Vec<Row>, Error> {
        const AT_A_TIME: usize = 16;
        let load = |end| {
            let loads: Vec<_> = ids.iter().map(|id| self.store.load(*id, end)).collect();
            let rows = stream::iter(loads).buffer_unordered(AT_A_TIME);
            rows.try_filter_map(|row| ready(Ok(row))).try_collect()
        };
        within(self.deadline(), "load rows", load).await
    }

    /// Ends a session for good, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn delete(&self, id: SessionId) -> Result<bool, Error> {
        within(self.deadline(), "delete a row", |end| self.store.delete(id, end)).await
    }

    /// Ends the sessions that match, and returns their ids.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, Error> {
        within(self.deadline(), "delete rows", |end| self.directory.remove(filter, end)).await
    }

    /// Removes all rows that have expired, in batches that leave the store time for other calls, and returns how many.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn prune(&self) -> Result<u64, Error> {
        let now = now();
        let batch = |limit, deadline| {
            within(deadline, "remove expired rows", move |end| self.store.prune(now, limit, end))
        };
        prune_in_batches(batch, self.timeout).await
    }

    /// Returns the hashes that a blind column has for a value, one for each key; none without keys.
    pub fn hashes(&self, column: ColumnRef, value: &Value) -> Vec<Value> {
        let Some(name) = self.column_name(column) else { return Vec::new() };
        let keys = self.protection.iter().flat_map(Protection::blind_keys);
        keys.map(|key| key.hash(self.blind_column(name), value)).collect()
    }

    /// Returns which key a row is sealed with: the 8 digits that errors and the log name it by. `None` for a row that is not
    /// sealed.
    pub fn key_of(&self, row: &Row) -> Option<String> {
        key_id(&self.place(), &row.state).map(|id| Hex(&id).to_string())
    }

    /// Returns the name of the current key.
    pub fn current_key(&self) -> Option<String> {
        Some(Hex(&self.protection.as_ref()?.current_key()?).to_string())
    }

    /// Opens a row, compares its columns with its record, and says what is in the record.
    ///
    /// # Errors
    ///
    /// If it does not open, or a column differs.
    pub fn examine(&self, row: &Row) -> Result<RecordSummary, Fault> {
        let (record, bytes) = self.opened(row)?;
        let not_compared = self.compare_columns(&record, row)?;
        let names: Vec<_> = self.names().collect();
        let field = |field: OutlinedField| FieldSummary {
            name: field.name.or_else(|| {
                // Binary records have no names. Most columns have the name of their field.
                let name = names.iter().find(|name| field.projected && tag(name) == field.tag)?;
                Some((*name).to_owned())
            }),
            bytes: field.value.len(),
            has_column: field.projected,
            expires: field.expires,
        };
        let header = record.header;
        Ok(RecordSummary {
            bytes,
            absolute: header.absolute,
            last_used: header.last_used,
            authenticated: header.authenticated,
            is_remembered: header.lifetime.persistent,
            limit: header.lifetime.limit,
            is_bound_to_agent: header.agent.is_some(),
            not_compared,
            fields: record.fields.into_iter().map(field).collect(),
        })
    }

    /// Seals a row again if it is not sealed under the current key. Its record and its expiry stay as they are, byte for byte;
    /// blind columns have the hashes of the current key then.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn reseal(&self, row: Row) -> Result<Resealed, Error> {
        let deadline = self.deadline();
        let mut row = row;
        while Instant::now() < deadline {
            if row.expiration <= now() {
                return Ok(Resealed::Gone);
            }
            let update = match self.resealed(&row) {
                Ok(Some(update)) => update,
                Ok(None) => return Ok(Resealed::Current),
                Err(fault) => return Ok(Resealed::Skipped(fault)),
            };
            let id = row.id;
            match within(deadline, "update a row", |end| self.store.update(update, end)).await? {
                Outcome::Stored => return Ok(Resealed::Stored),
                Outcome::Gone => return Ok(Resealed::Gone),
                Outcome::Conflict => match self.load(id).await? {
                    Some(current) => row = current,
                    None => return Ok(Resealed::Gone),
                },
            }
        }
        Err(Error::Contended)
    }

    /// Makes the update that seals a row again; `None` if it is sealed under the current key.
    fn resealed(&self, row: &Row) -> Result<Option<Update>, Fault> {
        let protection = self.protection()?;
        let place = self.place();
        if protection.is_current(&place, &row.state) {
            return Ok(None);
        }
        let record = self.record(row)?;
        let outline = outline(framing(&self.table), record.clone()).ok_or(Fault::Malformed)?;
        let mut next = Row { revision: row.revision.wrapping_add(1), ..row.clone() };
        let scope = if self.rehash(&outline, row, &mut next)? { Scope::Row } else { Scope::State };
        next.state = protection.seal(&place, &self.binding(&next), &record);
        Ok(Some(Update { scope, ..Update::new(row.id, row.revision, next) }))
    }

    /// Gives the blind columns of a row the hashes of the current key; returns whether it has such columns.
    ///
    /// A table does not say which of its columns are blind. The record does: it has a value with this hash.
    fn rehash(&self, record: &Outline, row: &Row, next: &mut Row) -> Result<bool, Fault> {
        let protection = self.protection()?;
        let keys = (protection.blind_key_of(&self.place(), &row.state), protection.blind_keys().next());
        let (Some(own), Some(current)) = keys else { return Ok(false) };
        let user = self.table.user.iter().map(|user| user.name.as_str()).zip([&mut next.user]);
        let columns = self.table.projected.iter().map(|column| column.name.as_str()).zip(&mut next.columns);
        let mut is_changed = false;
        for (name, value) in user.chain(columns) {
            let Some(hash) = value.as_mut().filter(|value| is_like_a_hash(value)) else { continue };
            let column = self.blind_column(name);
            let rehashed = rehashed(record, column, hash, own, current);
            if let Some(new) = rehashed.ok_or_else(|| Fault::Blind { column: name.to_owned() })? {
                *hash = new;
                is_changed = true;
            }
        }
        Ok(is_changed)
    }

    /// Compares the columns of a row with its record, and returns those that only the application can compare.
    fn compare_columns(&self, record: &Outline, row: &Row) -> Result<Vec<String>, Fault> {
        let own = self.protection()?.blind_key_of(&self.place(), &row.state);
        let ip = row.ip.map(|ip| Value::Text(ip.to_string()));
        let Table { user, ip: address, projected, .. } = &self.table;
        let user = user.iter().map(|user| (ColumnUse::User, user.name.as_str(), user.ty, row.user.as_ref()));
        let address =
            address.iter().map(|name| (ColumnUse::Address, name.as_str(), ColumnType::Text, ip.as_ref()));
        let others = projected.iter().zip(&row.columns);
        let others =
            others.map(|(column, value)| (ColumnUse::Other, column.name.as_str(), column.ty, value.as_ref()));
        let named: Vec<_> = self.names().map(tag).collect();
        let mut not_compared = Vec::new();
        for (used_for, name, ty, value) in user.chain(address).chain(others) {
            let hash = |value: &Value| Some(own?.hash(self.blind_column(name), value));
            match (StoredColumn { used_for, name, ty, value }).compare(&record.fields, &named, hash) {
                Match::Same => {}
                Match::Different => return Err(Fault::Column { column: name.to_owned() }),
                Match::Unknown => not_compared.push(name.to_owned()),
            }
        }
        Ok(not_compared)
    }

    /// Stores a row of another store, unless there is a newer one: one with the same or a higher revision.
    ///
    /// Revisions order the writes of one history. Call it only until an application uses this store: afterwards it can undo a
    /// write here that has a lower revision, and a session that has ended here, or has another id since, begins again.
    ///
    /// # Errors
    ///
    /// If the store fails, or refuses the row.
    pub async fn put(&self, row: Row) -> Result<Put, Error> {
        let deadline = self.deadline();
        let mut failed = None;
        while Instant::now() < deadline {
            match (self.load(row.id).await?, failed.take()) {
                (None, Some(error)) => return Err(error),
                (None, None) => {
                    let insert = |end| self.store.insert(row.clone(), end);
                    match within(deadline, "insert a row", insert).await {
                        Ok(()) => return Ok(Put::Inserted),
                        // Another writer may have been first, or the answer was lost: the row is looked for.
                        Err(error) if !error.is_refused() => failed = Some(error),
                        Err(error) => return Err(error),
                    }
                }
                (Some(stored), _) if stored.revision >= row.revision => return Ok(Put::Kept),
                (Some(stored), _) => {
                    let update = Update::new(row.id, stored.revision, row.clone());
                    match within(deadline, "update a row", |end| self.store.update(update, end)).await? {
                        Outcome::Stored => return Ok(Put::Updated),
                        // It has ended there, and an ended session stays ended.
                        Outcome::Gone => return Ok(Put::Kept),
                        Outcome::Conflict => {}
                    }
                }
            }
        }
        Err(Error::Contended)
    }

    fn protection(&self) -> Result<&Protection, Fault> {
        self.protection.as_ref().ok_or(Fault::NoKeys)
    }

    fn opened(&self, row: &Row) -> Result<(Outline, usize), Fault> {
        let record = self.record(row)?;
        let bytes = record.len();
        Ok((outline(framing(&self.table), record).ok_or(Fault::Malformed)?, bytes))
    }

    fn record(&self, row: &Row) -> Result<Vec<u8>, Fault> {
        if let Some(column) = &row.damaged {
            return Err(Fault::Damaged { column: column.clone() });
        }
        if row.state.len() > self.table.max_state {
            return Err(Fault::TooLarge);
        }
        let opened = self.protection()?.open(&self.place(), &self.binding(row), row.state.clone());
        opened.map_err(|error| match error {
            OpenError::Malformed => Fault::Malformed,
            OpenError::UnknownKey(id) => Fault::UnknownKey { id: Hex(&id).to_string() },
            OpenError::Forged => Fault::Forged,
        })
    }

    fn binding(&self, row: &Row) -> Binding<'_> {
        let &Row { id, created, expiration, revision, .. } = row;
        Binding { bag: &self.bag, table: &self.table.name, id, created, expiration, revision }
    }

    fn place(&self) -> Place {
        if self.table.state_is_text { Place::Text } else { Place::Bytes }
    }

    fn blind_column<'a>(&'a self, name: &'a str) -> BlindColumn<'a> {
        BlindColumn { bag: &self.bag, table: &self.table.name, name }
    }

    fn column_name(&self, column: ColumnRef) -> Option<&str> {
        match column {
            ColumnRef::User => self.table.user.as_ref().map(|user| user.name.as_str()),
            ColumnRef::Ip => self.table.ip.as_deref(),
            ColumnRef::Projected(index) => self.table.projected.get(index).map(|column| column.name.as_str()),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let user = self.table.user.iter().map(|user| user.name.as_str());
        let projected = self.table.projected.iter().map(|column| column.name.as_str());
        user.chain(self.table.ip.as_deref()).chain(projected)
    }
}

impl fmt::Debug for SessionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionTable")
            .field("bag", &self.bag)
            .field("table", &self.table.name)
            .finish_non_exhaustive()
    }
}

/// Returns what a column of 16 bytes has to hold: another hash; the inner `None` if its bytes are the value itself; `None` if
/// no value of the record explains them.
#[expect(clippy::option_option, reason = "unknown, no hash, or a hash")]
fn rehashed(
    record: &Outline,
    column: BlindColumn<'_>,
    stored: &Value,
    own: &BlindKey,
    current: &BlindKey,
) -> Option<Option<Value>> {
    let projected = record.fields.iter().filter(|field| field.projected);
    let mut values = projected.flat_map(|field| candidates(&field.value));
    values.find_map(|value| match value {
        value if value == *stored => Some(None),
        value if own.hash(column, &value) == *stored => Some(Some(current.hash(column, &value))),
        _ => None,
    })
}

fn framing(table: &Table) -> Framing {
    if table.state_is_text { Framing::JsonObject } else { Framing::Binary }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn foreign(table: &str, owner: &str, bag: &str) -> Error {
    Error::Usage(format!("the table `{table}` belongs to the bag `{owner}`, not to `{bag}`"))
}

/// Why a row is not opened, or not sealed again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There are no keys to open it with.
    #[error("there is no key to open it with")]
    NoKeys,
    /// A value of a column cannot be read.
    #[error("the value of the column `{column}` cannot be read")]
    Damaged {
        /// The name of the column.
        column: String,
    },
    /// It is larger than any that the application writes, and was not read whole.
    #[error("it is larger than `max_state_bytes`")]
    TooLarge,
    /// It is sealed under a key that is missing.
    #[error("it is sealed with the key {id}, which is not given")]
    UnknownKey {
        /// The name of the key: 8 digits.
        id: String,
    },
    /// It was changed, or moved from another row, table or bag.
    #[error("it was tampered with, or belongs to another row, table or bag")]
    Forged,
    /// It is no envelope and no record.
    #[error("it is no sealed session: the bytes are damaged, or the program keeps its records in the clear")]
    Malformed,
    /// A column has not the value of the record. The application rejects such a session.
    #[error(
        "the column `{column}` has another value than the record: it was changed outside of the program, which rejects \
         the session; only if it has changed the type of the field, or the type is its own, `Sessions::check` there can \
         say otherwise"
    )]
    Column {
        /// The name of the column.
        column: String,
    },
    /// A column has a hash, or bytes, that no value of the record explains: only the application can make its hash again.
    #[error(
        "the column `{column}` may be blind, and its value is of a type that only the application knows: call \
         `Sessions::reseal_all` there"
    )]
    Blind {
        /// The name of the column.
        column: String,
    },
}

/// What [`SessionTable::reseal`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resealed {
    /// The row is sealed under the current key now.
    Stored,
    /// It was before.
    Current,
    /// The session has ended or expired.
    Gone,
    /// It stays as it is.
    Skipped(Fault),
}

/// What [`SessionTable::put`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Put {
    /// The row is new.
    Inserted,
    /// It has replaced an older one.
    Updated,
    /// A row of the same or a later revision stays.
    Kept,
}

/// What a record says of its session, besides the values of its fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordSummary {
    /// The size of the record.
    pub bytes: usize,
    /// The absolute expiry: no activity extends it.
    pub absolute: Timestamp,
    /// When the visitor last used the session, as far as that was stored.
    pub last_used: Timestamp,
    /// When the user has logged in, or was last authenticated again.
    pub authenticated: Option<Timestamp>,
    /// Whether the cookie outlives the browser.
    pub is_remembered: bool,
    /// The idle and the absolute limit of this session, in the place of those of the application.
    pub limit: Option<Duration>,
    /// Whether it is bound to a user agent.
    pub is_bound_to_agent: bool,
    /// The columns that were not compared with the record, since only the application knows the types of their fields.
    pub not_compared: Vec<String>,
    /// Its fields, in the order in which they are stored.
    pub fields: Vec<FieldSummary>,
}

/// What a record says of a field, besides its value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FieldSummary {
    /// The stored name, if the record has it: a record of `codec = "json"` has, another one only that of a column.
    pub name: Option<String>,
    /// The size of the encoded value.
    pub bytes: usize,
    /// Whether its value is in a column.
    pub has_column: bool,
    /// When it becomes `None`, if it has a `ttl`.
    pub expires: Option<Timestamp>,
}
