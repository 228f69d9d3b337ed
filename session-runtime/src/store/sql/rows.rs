//! The statements of one table: their texts, the values of a row to bind, and rows made from cells.

use std::sync::Arc;

use super::dialect::{Dialect, Names};
use super::filter::{Statement, StatementBuilder};
use super::table::Limits;
use super::{ColumnRole, Datum, Mismatch, required_columns};
use crate::clock::Timestamp;
use crate::store::damage::Damage;
use crate::store::{
    ColumnRef, Comparison, Filter, LimitedWrite, Order, Page, Row, RowVersion, Scope, Table, TableColumn,
    Update,
};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// The most bytes of a value that are read where the table has no limit. No database here has longer values.
const MAX_VALUE: usize = 1 << 30;

/// The types of the cells of a version: id, revision, expiration.
#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres")),
    expect(dead_code, reason = "SQLite has no server to go to")
)]
pub(in crate::store) const VERSION: [ColumnType; 3] =
    [ColumnType::Blob, ColumnType::Integer, ColumnType::Integer];

/// The statements of one table. What every call needs is made once.
#[derive(Debug)]
pub(in crate::store) struct Rows {
    dialect: &'static Dialect,
    table: Table,
    names: Names,
    limits: Limits,
    select: String,
    /// Takes an id.
    pub(in crate::store) load: Arc<str>,
    /// Takes what [`values`](Self::values) returns.
    pub(in crate::store) insert: Arc<str>,
    update_state: Arc<str>,
    update_expiration: Arc<str>,
    update_row: Arc<str>,
    /// Takes an id.
    pub(in crate::store) exists: Arc<str>,
    /// Takes an id.
    pub(in crate::store) delete: Arc<str>,
    /// Takes a time in milliseconds and how many rows are removed at most.
    pub(in crate::store) prune: Arc<str>,
}

impl Rows {
    pub(in crate::store) fn new(dialect: &'static Dialect, table: &Table) -> Self {
        let [state, revision] = [&table.state, &table.revision].map(|name| dialect.quoted(name));
        let names = Names {
            table: dialect.quoted(&table.name),
            id: dialect.quoted(&table.id),
            created: dialect.quoted(&table.created),
            expiration: dialect.quoted(&table.expiration),
        };
        let Names { table: name, id, expiration, .. } = &names;
        let columns: Vec<_> = required_columns(table).map(|column| dialect.quoted(column.name)).collect();
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let p = dialect.parameter;
        let parameters = (1..=columns.len()).map(p).collect::<Vec<_>>().join(", ");
        let selected = required_columns(table).zip(&columns).map(|(column, name)| match column.role {
            ColumnRole::Key => (*name).to_owned(),
            _ => (dialect.bounded)(name, column.ty, table.max_state.min(MAX_VALUE)),
        });
        let select = format!("SELECT {} FROM {name}", selected.collect::<Vec<_>>().join(", "));
        let update = |columns: &[&str]| {
            let (count, verb) = (columns.len(), dialect.update);
            let assignments: Vec<_> =
                columns.iter().zip(1..).map(|(column, n)| format!("{column} = {}", p(n))).collect();
            let condition = format!("{id} = {} AND {revision} = {}", p(count + 1), p(count + 2));
            format!("{verb} {name} SET {} WHERE {condition}", assignments.join(", "))
        };
        Self {
            dialect,
            load: format!("{select} WHERE {id} = {}", p(1)).into(),
            select,
            insert: format!("{} {name} ({}) VALUES ({parameters})", dialect.insert, columns.join(", "))
                .into(),
            update_state: update(&[&state, &revision]).into(),
            update_expiration: update(&[&state, &revision, expiration]).into(),
            update_row: update(&columns).into(),
            exists: format!("SELECT 1 FROM {name} WHERE {id} = {}", p(1)).into(),
            delete: format!("DELETE FROM {name} WHERE {id} = {}", p(1)).into(),
            prune: (dialect.prune)(&names, &p(1), &p(2)).into(),
            table: table.clone(),
            names,
            limits: Limits::new(),
        }
    }

    /// Adds what the columns of the table in the database can hold.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres")),
        expect(dead_code, reason = "SQLite has no limit")
    )]
    pub(in crate::store) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Returns the statement of an update and the values to bind to it.
    pub(in crate::store) fn update<'a>(
        &'a self,
        update: &'a Update,
    ) -> Result<(&'a Arc<str>, impl Iterator<Item = Option<Datum<'a>>>), Mismatch> {
        let Update { id, expected, scope, row } = update;
        // A row whose id changes is written whole, whatever its scope.
        let scope = if row.id == *id { *scope } else { Scope::Row };
        let [revision, expiration, expected] =
            [row.revision, row.expiration.as_millis(), *expected].map(|number| Some(Datum::Integer(number)));
        let (id, state) = (Some(Datum::from(id)), || self.state(row).map(Some));
        let (sql, values) = match scope {
            Scope::State => (&self.update_state, vec![state()?, revision, id, expected]),
            Scope::Expiration => {
                (&self.update_expiration, vec![state()?, revision, expiration, id, expected])
            }
            Scope::Row => (&self.update_row, self.values(row)?.chain([id, expected]).collect()),
        };
        Ok((sql, values.into_iter()))
    }

    /// Returns the values of a row, in the order of [`required_columns`].
    pub(in crate::store) fn values<'a>(
        &'a self,
        row: &'a Row,
    ) -> Result<impl Iterator<Item = Option<Datum<'a>>>, Mismatch> {
        let table = &self.table;
        if row.columns.len() != table.projected.len() {
            return Err(Mismatch::ColumnCount { table: table.projected.len(), row: row.columns.len() });
        }
        let projected = table.projected.iter().zip(row.columns.iter().map(Option::as_ref));
        for (column, value) in table.user.iter().map(|user| (user, row.user.as_ref())).chain(projected) {
            value.map_or(Ok(()), |value| self.check(column, value))?;
        }
        let user = table.user.as_ref().map(|_| row.user.as_ref().map(Datum::from));
        let ip = table.ip.as_ref().map(|_| row.ip.map(|ip| Datum::Text(ip.to_string().into())));
        let counters = [row.created.as_millis(), row.expiration.as_millis(), row.revision];
        Ok([Some(Datum::from(&row.id)), Some(self.state(row)?)]
            .into_iter()
            .chain(user)
            .chain(ip)
            .chain(counters.map(|counter| Some(Datum::Integer(counter))))
            .chain(row.columns.iter().map(|value| value.as_ref().map(Datum::from))))
    }

    /// Checks that a column can hold a value. A database may shorten a value without an error, such as MySQL and
    /// PostgreSQL text that ends with spaces.
    fn check(&self, column: &TableColumn, value: &Value) -> Result<(), Mismatch> {
        let refused = |value| Err(Mismatch::Refused { column: column.name.clone(), value });
        if let Some(reason) = (self.dialect.refuses)(value, column.index) {
            return refused(reason.into());
        }
        match self.limits.iter().find(|(name, _)| *name == column.name) {
            Some((_, limit)) if !limit.fits(value) => refused(limit.to_string().into()),
            _ => Ok(()),
        }
    }

    fn state<'a>(&self, row: &'a Row) -> Result<Datum<'a>, Mismatch> {
        if !self.table.state_is_text {
            return Ok(Datum::Blob(row.state.as_slice().into()));
        }
        match str::from_utf8(&row.state) {
            Ok(text) if self.dialect.text_holds_nul || !text.contains('\0') => Ok(Datum::Text(text.into())),
            _ => Err(Mismatch::malformed(&self.table.state, "text")),
        }
    }

    /// Makes a version from its cells. `None` if the key is no session id.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres")),
        expect(dead_code, reason = "SQLite has no server to go to")
    )]
    pub(in crate::store) fn read_version<'c>(
        mut cell: impl FnMut() -> Option<Datum<'c>>,
    ) -> Option<(SessionId, RowVersion)> {
        let id = cell()?.id()?;
        let version = match [cell(), cell()] {
            [Some(Datum::Integer(revision)), Some(Datum::Integer(expiration))] => {
                RowVersion::new(revision, Timestamp::from_millis(expiration))
            }
            _ => RowVersion::default(),
        };
        Some((id, version))
    }

    /// Makes a row from its cells, which `cell` returns in the order of [`required_columns`]. `None` if its key is no
    /// session id.
    ///
    /// Other programs can write anything into the database. A value of the wrong type makes the row a damaged one.
    pub(in crate::store) fn read<'c>(&self, mut cell: impl FnMut() -> Option<Datum<'c>>) -> Option<Row> {
        let table = &self.table;
        let mut damage = Damage::default();
        let id = cell()?.id()?;
        let mut state = damage.check(&table.state, bytes(cell()));
        // Characters of text may have several bytes.
        state.truncate(table.max_state.saturating_add(1));
        let user = table.user.as_ref().and_then(|user| damage.check(&user.name, value(user, cell())));
        let ip = table.ip.as_ref().and_then(|ip| {
            let parsed = match cell() {
                None => Some(None),
                Some(Datum::Text(text)) => text.parse().ok().map(Some),
                Some(_) => None,
            };
            damage.check(ip, parsed)
        });
        let [created, expiration, revision] =
            [&table.created, &table.expiration, &table.revision].map(|column| {
                let Some(Datum::Integer(integer)) = cell() else { return damage.check(column, None) };
                integer
            });
        let columns = table.projected.iter().map(|column| damage.check(&column.name, value(column, cell())));
        let columns = columns.collect();
        let [created, expiration] = [created, expiration].map(Timestamp::from_millis);
        Some(Row { id, state, user, ip, created, expiration, revision, columns, damaged: damage.first() })
    }

    /// Selects the versions of the rows of ids: cells of the types [`VERSION`].
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres")),
        expect(dead_code, reason = "SQLite has no server to go to")
    )]
    pub(in crate::store) fn load_versions(&self, ids: &[SessionId]) -> Result<Statement, Mismatch> {
        let Names { table, id, .. } = &self.names;
        let [revision, expiration] = [&self.table.revision, &self.table.expiration]
            .map(|name| (self.dialect.bounded)(&self.dialect.quoted(name), ColumnType::Integer, MAX_VALUE));
        let mut statement =
            self.begin(&format!("SELECT {id}, {revision}, {expiration} FROM {table} WHERE {id} IN ("));
        for (n, id) in ids.iter().enumerate() {
            statement.push(if n == 0 { "" } else { ", " });
            statement.push_id(*id);
        }
        statement.push(")");
        statement.finish()
    }

    pub(in crate::store) fn find(&self, filter: &Filter, page: Page) -> Result<Statement, Mismatch> {
        let mut statement = self.begin(&self.select);
        statement.push(" WHERE (");
        statement.push_filter(filter)?;
        statement.push(") AND ");
        statement.push(&(self.dialect.is_id)(&self.names.id));
        if let Some(after) = page.after {
            statement.push(" AND ");
            statement.push(&self.names.id);
            statement.push(" > ");
            statement.push_id(after);
        }
        statement.push(" ORDER BY ");
        if page.order == Order::NewestFirst {
            statement.push(&(self.dialect.bounded)(&self.names.created, ColumnType::Integer, MAX_VALUE));
            statement.push(" DESC, ");
            statement.push(&self.names.id);
            statement.push(" DESC");
        } else {
            statement.push(&self.names.id);
        }
        statement.push(" LIMIT ");
        statement.push_value(Value::Integer(page.limit.into()));
        statement.finish()
    }

    pub(in crate::store) fn count(&self, filter: &Filter) -> Result<Statement, Mismatch> {
        let mut statement = self.begin(&format!("SELECT count(*) FROM {} WHERE ", self.names.table));
        statement.push_filter(filter)?;
        statement.finish()
    }

    /// Removes the rows of a filter, as [`Dialect::remove`] does.
    pub(in crate::store) fn remove(&self, filter: &Filter) -> Result<Statement, Mismatch> {
        let mut statement = self.begin("");
        statement.push_filter(filter)?;
        let condition = statement.take();
        statement.push(&(self.dialect.remove)(&self.names, &condition));
        statement.finish()
    }

    /// Removes the surplus rows of the user of a write that was made, as [`Dialect::surplus`] does.
    pub(in crate::store) fn surplus(&self, write: &LimitedWrite) -> Result<Statement, Mismatch> {
        let Names { id, created, expiration, .. } = &self.names;
        let mut statement = self.begin("");
        let Some(user) = &write.row().user else { return Err(Mismatch::NoColumn(ColumnRef::User)) };
        let of_user = Filter::Compare(ColumnRef::User, Comparison::Eq, user.clone());
        statement.push_filter(&of_user.and(Filter::Id(write.row().id).not()))?;
        let condition = statement.take();
        statement.push_value(Value::Integer(write.now.as_millis()));
        let is_live = format!("{expiration} > {}", statement.take());
        statement.push_value(Value::Integer(write.others().into()));
        let others = statement.take();
        let order = format!("{is_live} DESC, {created} DESC, {id} DESC");
        statement.push(&(self.dialect.surplus)(&self.names, &condition, &order, &others));
        statement.finish()
    }

    fn begin(&self, sql: &str) -> StatementBuilder<'_> {
        StatementBuilder::new(self.dialect, &self.table, sql)
    }
}

fn bytes(cell: Option<Datum<'_>>) -> Option<Vec<u8>> {
    match cell {
        Some(Datum::Blob(bytes)) => Some(bytes.into_owned()),
        Some(Datum::Text(text)) => Some(text.into_owned().into_bytes()),
        _ => None,
    }
}

/// Reads a cell of a column that may be `NULL`.
#[expect(clippy::option_option, reason = "it cannot be read, is `NULL`, or has a value")]
fn value(column: &TableColumn, cell: Option<Datum<'_>>) -> Option<Option<Value>> {
    let value = cell.map(Value::from);
    value.as_ref().is_none_or(|value| column.ty.holds(value)).then_some(value)
}
