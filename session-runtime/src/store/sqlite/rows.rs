//! The statements of one table: rows and filters in, SQL with bound values out, and rows back.
//!
//! Names are quoted and values are bound; no value ever becomes part of a statement's text.

use std::net::IpAddr;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement};

use super::Failure;
use crate::clock::Timestamp;
use crate::store::{ColumnRef, Comparison, Filter, Outcome, Page, Row, Scope, Table, Update};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// SQLite's own limit on the values of one statement, `SQLITE_MAX_VARIABLE_NUMBER`.
const MAX_VALUES: usize = 32_766;

/// The statements of one table.
///
/// `OR ABORT` overrules a conflict clause in a table that was there before: `REPLACE` would turn a
/// duplicate into an overwritten session.
#[derive(Debug)]
pub(super) struct Rows {
    table: Table,
    select: String,
    load: String,
    insert: String,
    update_state: String,
    update_expiration: String,
    update_row: String,
    exists: String,
    delete: String,
    prune: String,
    probe: String,
}

impl Rows {
    pub(super) fn new(table: &Table) -> Self {
        let name = quoted(&table.name);
        let id = quoted(&table.id);
        let state = quoted(&table.state);
        let expiration = quoted(&table.expiration);
        let revision = quoted(&table.revision);
        let columns: Vec<_> = columns(table).map(quoted).collect();
        let count = columns.len();
        let parameters = (1..=count).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        let assignments = columns
            .iter()
            .zip(1..)
            .map(|(column, n)| format!("{column} = ?{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        let columns = columns.join(", ");
        let select = format!("SELECT {columns} FROM {name}");
        Self {
            load: format!("{select} WHERE {id} = ?1"),
            select,
            insert: format!("INSERT OR ABORT INTO {name} ({columns}) VALUES ({parameters})"),
            update_state: format!(
                "UPDATE {name} SET {state} = ?1, {revision} = ?2 WHERE {id} = ?3 AND {revision} = ?4"
            ),
            update_expiration: format!(
                "UPDATE {name} SET {state} = ?1, {revision} = ?2, {expiration} = ?3 \
                 WHERE {id} = ?4 AND {revision} = ?5"
            ),
            update_row: format!(
                "UPDATE OR ABORT {name} SET {assignments} WHERE {id} = ?{} AND {revision} = ?{}",
                count + 1,
                count + 2
            ),
            exists: format!("SELECT 1 FROM {name} WHERE {id} = ?1"),
            delete: format!("DELETE FROM {name} WHERE {id} = ?1"),
            prune: format!(
                "DELETE FROM {name} WHERE {id} IN \
                 (SELECT {id} FROM {name} WHERE {expiration} <= ?1 LIMIT ?2)"
            ),
            probe: format!("SELECT 1 FROM {name} LIMIT 1"),
            table: table.clone(),
        }
    }

    pub(super) fn load(&self, connection: &Connection, id: SessionId) -> Result<Option<Row>, Failure> {
        let mut statement = connection.prepare_cached(&self.load)?;
        let mut rows = statement.query([id.as_bytes()])?;
        rows.next()?.map(|row| self.row(row)).transpose()
    }

    pub(super) fn insert(&self, connection: &Connection, row: &Row) -> Result<(), Failure> {
        let mut statement = connection.prepare_cached(&self.insert)?;
        self.bind_row(&mut statement, row)?;
        statement.raw_execute()?;
        Ok(())
    }

    pub(super) fn update(&self, connection: &Connection, update: &Update) -> Result<Outcome, Failure> {
        let Update { id, expected, scope, row } = update;
        // A row that changes its name changes as a whole, whatever its scope says.
        let scope = if row.id == *id { *scope } else { Scope::Row };
        let sql = match scope {
            Scope::State => &self.update_state,
            Scope::Expiration => &self.update_expiration,
            Scope::Row => &self.update_row,
        };
        let mut statement = connection.prepare_cached(sql)?;
        let next = match scope {
            Scope::Row => self.bind_row(&mut statement, row)?,
            Scope::State | Scope::Expiration => {
                statement.raw_bind_parameter(1, self.state(row))?;
                statement.raw_bind_parameter(2, row.revision)?;
                if scope == Scope::Expiration {
                    statement.raw_bind_parameter(3, row.expiration.as_millis())?;
                    4
                } else {
                    3
                }
            }
        };
        statement.raw_bind_parameter(next, id.as_bytes())?;
        statement.raw_bind_parameter(next + 1, expected)?;
        if statement.raw_execute()? > 0 {
            return Ok(Outcome::Stored);
        }
        let exists = connection.prepare_cached(&self.exists)?.exists([id.as_bytes()])?;
        Ok(if exists { Outcome::Conflict } else { Outcome::Gone })
    }

    pub(super) fn delete(&self, connection: &Connection, id: SessionId) -> Result<bool, Failure> {
        Ok(connection.prepare_cached(&self.delete)?.execute([id.as_bytes()])? > 0)
    }

    pub(super) fn prune(&self, connection: &Connection, now: Timestamp, limit: u32) -> Result<u64, Failure> {
        let removed = connection.prepare_cached(&self.prune)?.execute((now.as_millis(), limit))?;
        Ok(removed as u64)
    }

    /// Reads whatever row comes first.
    pub(super) fn probe(&self, connection: &Connection) -> Result<(), Failure> {
        connection.prepare_cached(&self.probe)?.exists([])?;
        Ok(())
    }

    pub(super) fn select(&self, filter: &Filter, page: Page) -> Result<Query, Failure> {
        let mut query = Query::new(&self.select);
        query.push(" WHERE (");
        query.push_filter(&self.table, filter)?;
        query.push(")");
        let id = quoted(&self.table.id);
        if let Some(after) = page.after {
            query.push(&format!(" AND {id} > "));
            query.push_value(id_value(after));
        }
        query.push(&format!(" ORDER BY {id} LIMIT "));
        query.push_value(Value::Integer(page.limit.into()));
        query.checked()
    }

    pub(super) fn count(&self, filter: &Filter) -> Result<Query, Failure> {
        let mut query = Query::new(&format!("SELECT count(*) FROM {} WHERE ", quoted(&self.table.name)));
        query.push_filter(&self.table, filter)?;
        query.checked()
    }

    pub(super) fn remove(&self, filter: &Filter) -> Result<Query, Failure> {
        let mut query = Query::new(&format!("DELETE FROM {} WHERE ", quoted(&self.table.name)));
        query.push_filter(&self.table, filter)?;
        query.push(&format!(" RETURNING {}", quoted(&self.table.id)));
        query.checked()
    }

    /// Names the live rows of a user but for those that began last; [`take`](Self::take) removes them.
    pub(super) fn trim(&self, user: &Value, keep: u32, now: Timestamp) -> Result<Query, Failure> {
        let (name, id, created) = (&self.table.name, &self.table.id, &self.table.created);
        let (name, id, created) = (quoted(name), quoted(id), quoted(created));
        let user = Filter::Compare(ColumnRef::User, Comparison::Eq, user.clone());
        let live = Filter::And(Box::new(user), Box::new(Filter::LiveAt(now)));
        let mut query =
            Query::new(&format!("DELETE FROM {name} WHERE {id} IN (SELECT {id} FROM {name} WHERE "));
        query.push_filter(&self.table, &live)?;
        query.push(&format!(" ORDER BY {created} DESC, {id} DESC LIMIT -1 OFFSET "));
        query.push_value(Value::Integer(keep.into()));
        query.push(&format!(") RETURNING {id}"));
        query.checked()
    }

    pub(super) fn find(&self, connection: &Connection, query: &Query) -> Result<Vec<Row>, Failure> {
        let mut statement = query.prepare(connection)?;
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(self.row(row)?);
        }
        Ok(found)
    }

    /// Runs a [`remove`](Self::remove). What is no session id goes as well, but has no name to return.
    pub(super) fn take(connection: &Connection, query: &Query) -> Result<Vec<SessionId>, Failure> {
        let mut statement = query.prepare(connection)?;
        let mut rows = statement.raw_query();
        let mut taken = Vec::new();
        while let Some(row) = rows.next()? {
            taken.extend(id(row.get_ref(0)?));
        }
        Ok(taken)
    }

    /// Runs a [`count`](Self::count).
    pub(super) fn total(connection: &Connection, query: &Query) -> Result<u64, Failure> {
        let mut statement = query.prepare(connection)?;
        let mut rows = statement.raw_query();
        let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(row.get::<_, i64>(0)?.cast_unsigned())
    }

    /// Binds a row to the parameters from 1 on and returns the number of the next one.
    fn bind_row(&self, statement: &mut Statement<'_>, row: &Row) -> Result<usize, Failure> {
        if row.columns.len() != self.table.projected.len() {
            return Err(Failure::ColumnCount { table: self.table.projected.len(), row: row.columns.len() });
        }
        statement.raw_bind_parameter(1, row.id.as_bytes())?;
        statement.raw_bind_parameter(2, self.state(row))?;
        statement.raw_bind_parameter(3, row.created.as_millis())?;
        statement.raw_bind_parameter(4, row.expiration.as_millis())?;
        statement.raw_bind_parameter(5, row.revision)?;
        let mut next = 6;
        if self.table.user.is_some() {
            statement.raw_bind_parameter(next, bound(row.user.as_ref()))?;
            next += 1;
        }
        if self.table.ip.is_some() {
            statement.raw_bind_parameter(next, row.ip.map(|ip| ip.to_string()))?;
            next += 1;
        }
        for value in &row.columns {
            statement.raw_bind_parameter(next, bound(value.as_ref()))?;
            next += 1;
        }
        Ok(next)
    }

    fn state<'a>(&self, row: &'a Row) -> ToSqlOutput<'a> {
        ToSqlOutput::Borrowed(if self.table.state_is_text {
            ValueRef::Text(&row.state)
        } else {
            ValueRef::Blob(&row.state)
        })
    }

    /// Reads a row. Whoever can write the file can put anything into it, so nothing is taken for
    /// granted, and nothing is made up: a mandatory value of the wrong kind is an error, and optional
    /// ones come back as what they are.
    fn row(&self, row: &rusqlite::Row<'_>) -> Result<Row, Failure> {
        let mut cells = Cells { row, next: 0 };
        Ok(Row {
            id: cells.id(&self.table.id)?,
            state: cells.state(&self.table.state)?,
            created: Timestamp::from_millis(cells.integer(&self.table.created)?),
            expiration: Timestamp::from_millis(cells.integer(&self.table.expiration)?),
            revision: cells.integer(&self.table.revision)?,
            user: if self.table.user.is_some() { cells.value()? } else { None },
            ip: self.table.ip.as_ref().map(|column| cells.ip(column)).transpose()?.flatten(),
            columns: self.table.projected.iter().map(|_| cells.value()).collect::<Result<_, _>>()?,
        })
    }
}

/// The columns, in the order in which rows are bound and read.
fn columns(table: &Table) -> impl Iterator<Item = &str> {
    [&table.id, &table.state, &table.created, &table.expiration, &table.revision]
        .into_iter()
        .chain(table.user.as_ref().map(|user| &user.name))
        .chain(table.ip.as_ref())
        .chain(table.projected.iter().map(|column| &column.name))
        .map(String::as_str)
}

/// Quotes an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn bound(value: Option<&Value>) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        None => ValueRef::Null,
        Some(Value::Integer(integer)) => ValueRef::Integer(*integer),
        Some(Value::Real(real)) => ValueRef::Real(*real),
        Some(Value::Text(text)) => ValueRef::Text(text.as_bytes()),
        Some(Value::Blob(blob)) => ValueRef::Blob(blob),
    })
}

fn id_value(id: SessionId) -> Value {
    Value::Blob(id.as_bytes().to_vec())
}

fn id(cell: ValueRef<'_>) -> Option<SessionId> {
    cell.as_blob().ok()?.try_into().ok().map(SessionId::from_bytes)
}

/// The cells of a row, read from left to right.
struct Cells<'a> {
    row: &'a rusqlite::Row<'a>,
    next: usize,
}

impl<'a> Cells<'a> {
    fn cell(&mut self) -> Result<ValueRef<'a>, Failure> {
        let cell = self.row.get_ref(self.next)?;
        self.next += 1;
        Ok(cell)
    }

    fn id(&mut self, column: &str) -> Result<SessionId, Failure> {
        id(self.cell()?).ok_or_else(|| Failure::malformed(column, "32 bytes"))
    }

    fn state(&mut self, column: &str) -> Result<Vec<u8>, Failure> {
        match self.cell()? {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Ok(bytes.to_vec()),
            _ => Err(Failure::malformed(column, "bytes or text")),
        }
    }

    fn integer(&mut self, column: &str) -> Result<i64, Failure> {
        match self.cell()? {
            ValueRef::Integer(integer) => Ok(integer),
            _ => Err(Failure::malformed(column, "an integer")),
        }
    }

    fn ip(&mut self, column: &str) -> Result<Option<IpAddr>, Failure> {
        let parsed = match self.cell()? {
            ValueRef::Null => return Ok(None),
            ValueRef::Text(text) => str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        parsed.map(Some).ok_or_else(|| Failure::malformed(column, "an IP address"))
    }

    fn value(&mut self) -> Result<Option<Value>, Failure> {
        Ok(match self.cell()? {
            ValueRef::Null => None,
            ValueRef::Integer(integer) => Some(Value::Integer(integer)),
            ValueRef::Real(real) => Some(Value::Real(real)),
            ValueRef::Text(text) => Some(match str::from_utf8(text) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(_) => Value::Blob(text.to_vec()),
            }),
            ValueRef::Blob(blob) => Some(Value::Blob(blob.to_vec())),
        })
    }
}

/// A statement that was made for one call, with the values to bind.
#[derive(Debug)]
pub(super) struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Query {
    fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new() }
    }

    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    fn push_value(&mut self, value: Value) {
        self.push("?");
        self.values.push(value);
    }

    fn push_filter(&mut self, table: &Table, filter: &Filter) -> Result<(), Failure> {
        match filter {
            Filter::All => self.push("TRUE"),
            Filter::Id(id) => {
                self.push(&format!("{} = ", quoted(&table.id)));
                self.push_value(id_value(*id));
            }
            Filter::Compare(column, comparison, value) => {
                self.push(&operand(table, *column)?);
                self.push(match comparison {
                    Comparison::Eq => " = ",
                    Comparison::Ne => " <> ",
                    Comparison::Lt => " < ",
                    Comparison::Le => " <= ",
                    Comparison::Gt => " > ",
                    Comparison::Ge => " >= ",
                });
                self.push_value(value.clone());
            }
            Filter::OneOf(column, values) => {
                self.push(&operand(table, *column)?);
                self.push(" IN (");
                for (n, value) in values.iter().enumerate() {
                    self.push(if n == 0 { "" } else { ", " });
                    self.push_value(value.clone());
                }
                self.push(")");
            }
            Filter::IsNull(column) => {
                self.push(&operand(table, *column)?);
                self.push(" IS NULL");
            }
            Filter::LiveAt(time) => {
                self.push(&format!("{} > ", quoted(&table.expiration)));
                self.push_value(Value::Integer(time.as_millis()));
            }
            Filter::Not(inner) => {
                self.push("(");
                self.push_filter(table, inner)?;
                // `NOT` of `NULL` is `NULL`, and such a row would be in neither half.
                self.push(") IS NOT TRUE");
            }
            Filter::And(left, right) => self.push_pair(table, left, " AND ", right)?,
            Filter::Or(left, right) => self.push_pair(table, left, " OR ", right)?,
        }
        Ok(())
    }

    fn push_pair(&mut self, table: &Table, left: &Filter, word: &str, right: &Filter) -> Result<(), Failure> {
        self.push("((");
        self.push_filter(table, left)?;
        self.push(")");
        self.push(word);
        self.push("(");
        self.push_filter(table, right)?;
        self.push("))");
        Ok(())
    }

    fn checked(self) -> Result<Self, Failure> {
        if self.values.len() > MAX_VALUES { Err(Failure::TooManyValues(self.values.len())) } else { Ok(self) }
    }

    fn prepare<'c>(&self, connection: &'c Connection) -> Result<Statement<'c>, Failure> {
        let mut statement = connection.prepare(&self.sql)?;
        for (n, value) in (1..).zip(&self.values) {
            statement.raw_bind_parameter(n, bound(Some(value)))?;
        }
        Ok(statement)
    }
}

/// A column as comparisons see it: text byte for byte, however the table collates it.
fn operand(table: &Table, column: ColumnRef) -> Result<String, Failure> {
    let (name, is_text) = match column {
        ColumnRef::User => table.user.as_ref().map(|user| (&user.name, user.ty == ColumnType::Text)),
        ColumnRef::Ip => table.ip.as_ref().map(|name| (name, true)),
        ColumnRef::Projected(n) => {
            table.projected.get(n).map(|column| (&column.name, column.ty == ColumnType::Text))
        }
    }
    .ok_or(Failure::NoColumn(column))?;
    Ok(quoted(name) + if is_text { " COLLATE BINARY" } else { "" })
}
