//! The statements of one table: their texts, the values of a row to bind, and rows made from cells.

use std::net::IpAddr;
use std::sync::Arc;

use super::dialect::{Dialect, Names};
use super::filter::{Statement, StatementBuilder};
use super::{Datum, Mismatch, required_columns};
use crate::clock::Timestamp;
use crate::store::{ColumnRef, Comparison, Filter, Page, Row, Scope, Table, Update};
use crate::token::SessionId;
use crate::value::Value;

/// The statements of one table. What every call needs is made once.
#[derive(Debug)]
pub(in crate::store) struct Rows {
    dialect: &'static Dialect,
    table: Table,
    names: Names,
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
        let select = format!("SELECT {} FROM {name}", columns.join(", "));
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
        }
    }

    /// Returns the name of the table.
    pub(in crate::store) fn table(&self) -> &str {
        &self.table.name
    }

    /// Returns the statement of an update and the values to bind to it.
    pub(in crate::store) fn update<'a>(
        &'a self,
        update: &'a Update,
    ) -> Result<(&'a Arc<str>, impl Iterator<Item = Option<Datum<'a>>>), Mismatch> {
        let Update { id, expected, scope, row } = update;
        // A row whose id changes is written whole, whatever its scope.
        let scope = if row.id == *id { *scope } else { Scope::Row };
        let sql = match scope {
            Scope::State => &self.update_state,
            Scope::Expiration => &self.update_expiration,
            Scope::Row => &self.update_row,
        };
        let whole = if scope == Scope::Row { Some(self.values(row)?) } else { None };
        let part = if scope == Scope::Row {
            None
        } else {
            Some([Some(self.state(row)?), Some(Datum::Integer(row.revision))])
        };
        let expiration =
            (scope == Scope::Expiration).then(|| Some(Datum::Integer(row.expiration.as_millis())));
        let values = whole
            .into_iter()
            .flatten()
            .chain(part.into_iter().flatten())
            .chain(expiration)
            .chain([Some(id_datum(id)), Some(Datum::Integer(*expected))]);
        Ok((sql, values))
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
        let user = table.user.as_ref().map(|_| row.user.as_ref().map(Datum::from));
        let ip = table.ip.as_ref().map(|_| row.ip.map(|ip| Datum::Text(ip.to_string().into())));
        let counters = [row.created.as_millis(), row.expiration.as_millis(), row.revision];
        Ok([Some(id_datum(&row.id)), Some(self.state(row)?)]
            .into_iter()
            .chain(user)
            .chain(ip)
            .chain(counters.map(|counter| Some(Datum::Integer(counter))))
            .chain(row.columns.iter().map(|value| value.as_ref().map(Datum::from))))
    }

    fn state<'a>(&self, row: &'a Row) -> Result<Datum<'a>, Mismatch> {
        if !self.table.state_is_text {
            return Ok(Datum::Blob(row.state.as_slice().into()));
        }
        let text = str::from_utf8(&row.state);
        Ok(Datum::Text(text.map_err(|_| Mismatch::malformed(&self.table.state, "text"))?.into()))
    }

    /// Makes a row from its cells, which `cell` returns in the order of [`required_columns`].
    ///
    /// Other programs can write anything into the database. So a mandatory value of the wrong type is an error, and
    /// never replaced by a default.
    pub(in crate::store) fn read<'c>(
        &self,
        mut cell: impl FnMut() -> Option<Datum<'c>>,
    ) -> Result<Row, Mismatch> {
        let table = &self.table;
        let integer = |column: &str, cell| match cell {
            Some(Datum::Integer(integer)) => Ok(integer),
            _ => Err(Mismatch::malformed(column, "an integer")),
        };
        Ok(Row {
            id: cell()
                .and_then(|datum| datum.id())
                .ok_or_else(|| Mismatch::malformed(&table.id, "32 bytes"))?,
            state: match cell() {
                Some(Datum::Blob(state)) => state.into_owned(),
                Some(Datum::Text(state)) => state.into_owned().into_bytes(),
                _ => return Err(Mismatch::malformed(&table.state, "bytes or text")),
            },
            user: if table.user.is_some() { cell().map(Value::from) } else { None },
            ip: match &table.ip {
                Some(column) => ip(column, cell())?,
                None => None,
            },
            created: Timestamp::from_millis(integer(&table.created, cell())?),
            expiration: Timestamp::from_millis(integer(&table.expiration, cell())?),
            revision: integer(&table.revision, cell())?,
            columns: table.projected.iter().map(|_| cell().map(Value::from)).collect(),
        })
    }

    pub(in crate::store) fn find(&self, filter: &Filter, page: Page) -> Result<Statement, Mismatch> {
        let mut statement = self.begin(&self.select);
        statement.push(" WHERE (");
        statement.push_filter(filter)?;
        statement.push(")");
        if let Some(after) = page.after {
            statement.push(" AND ");
            statement.push(&self.names.id);
            statement.push(" > ");
            statement.push_id(after);
        }
        statement.push(" ORDER BY ");
        statement.push(&self.names.id);
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
        statement.wrap(None, |condition, _| (self.dialect.remove)(&self.names, condition));
        statement.finish()
    }

    /// Removes the live rows of a user but for the `keep` that began last, as [`Dialect::evict_oldest`] does.
    pub(in crate::store) fn evict_oldest(
        &self,
        user: &Value,
        keep: u32,
        now: Timestamp,
    ) -> Result<Statement, Mismatch> {
        let user = Filter::Compare(ColumnRef::User, Comparison::Eq, user.clone());
        let mut statement = self.begin("");
        statement.push_filter(&Filter::And(Box::new(user), Box::new(Filter::LiveAt(now))))?;
        statement.wrap(Some(Value::Integer(keep.into())), |condition, keep| {
            (self.dialect.evict_oldest)(&self.names, condition, keep)
        });
        statement.finish()
    }

    fn begin(&self, sql: &str) -> StatementBuilder<'_> {
        StatementBuilder::new(self.dialect, &self.table, sql)
    }
}

fn id_datum(id: &SessionId) -> Datum<'_> {
    Datum::Blob(id.as_bytes().as_slice().into())
}

fn ip(column: &str, cell: Option<Datum<'_>>) -> Result<Option<IpAddr>, Mismatch> {
    let parsed = match cell {
        None => return Ok(None),
        Some(Datum::Text(text)) => text.parse().ok(),
        Some(_) => None,
    };
    parsed.map(Some).ok_or_else(|| Mismatch::malformed(column, "an IP address"))
}
