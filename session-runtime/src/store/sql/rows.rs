//! The statements of one table: rows and filters in, SQL with bound values out, and rows back.
//!
//! Names are quoted and values are bound; no value ever becomes part of a statement's text.

use std::net::IpAddr;
use std::sync::Arc;

use sqlx::error::DatabaseError;

use super::Failure;
use super::schema::Catalog;
use crate::clock::Timestamp;
use crate::store::{ColumnRef, Comparison, Filter, Page, Row, Scope, Table, Update};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// How one kind of server wants its SQL.
#[derive(Debug)]
pub(in crate::store) struct Dialect {
    /// Stands around a name, and twice within it.
    pub(in crate::store) quote: char,
    /// The most bytes or characters a name may have.
    pub(in crate::store) name_length: (fn(&str) -> usize, usize),
    /// The n-th parameter of a statement, from 1.
    pub(in crate::store) parameter: fn(usize) -> String,
    /// The most parameters of a statement.
    pub(in crate::store) max_values: usize,
    /// A column of text as comparisons see it: byte for byte, however the table collates it.
    pub(in crate::store) exact: fn(&str) -> String,
    /// Whether an index of text serves only a comparison by the column itself, which is made besides.
    pub(in crate::store) exact_hides_index: bool,
    /// Removes the first rows that have expired: table, id, expiration, parameters of time and limit.
    pub(in crate::store) prune: fn(&str, &str, &str, [&str; 2]) -> String,
    /// The statement of [`Engine::take`](super::Engine::take): table, id, condition.
    pub(in crate::store) take: fn(&str, &str, &str) -> String,
    /// The same for all but the last rows by creation and id: table, id, created, condition, parameter of how many.
    pub(in crate::store) trim: fn(&str, &str, &str, &str, &str) -> String,
    /// What the server calls an error.
    pub(in crate::store) code: fn(&dyn DatabaseError) -> String,
    /// What it means.
    pub(in crate::store) meaning: fn(&str) -> Meaning,
    pub(in crate::store) catalog: Catalog,
}

/// What an error of a server means, by its code.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::store) enum Meaning {
    /// There is such a row.
    Taken,
    /// A deadlock or the like: the same statement may succeed a moment later.
    Undone,
    /// The server goes away, and takes the connection with it.
    Broken,
    /// A value does not fit.
    Refused,
    /// Anything else.
    Other,
}

impl Dialect {
    pub(super) fn quoted(&self, name: &str) -> String {
        let quote = self.quote;
        format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
    }

    pub(in crate::store) fn explain(&self, error: sqlx::Error) -> Failure {
        let code = match &error {
            sqlx::Error::Database(error) => (self.code)(error.as_ref()),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                return Failure::Broken(error);
            }
            _ => return Failure::Sqlx(error),
        };
        match (self.meaning)(&code) {
            Meaning::Taken => Failure::Taken,
            Meaning::Undone => Failure::Undone(code),
            Meaning::Broken => Failure::Broken(error),
            Meaning::Refused => Failure::Refused(code),
            Meaning::Other => Failure::Sqlx(error),
        }
    }
}

/// A statement with what is bound to it and what comes back.
#[derive(Clone, Debug)]
pub(in crate::store) struct Query {
    pub(in crate::store) sql: Arc<str>,
    pub(in crate::store) values: Vec<Parameter>,
    /// The types of the cells of a row.
    pub(in crate::store) shape: Arc<[ColumnType]>,
    /// Whether it is worth keeping prepared.
    pub(in crate::store) lasting: bool,
}

/// A bound value; `NULL` has a type too.
#[derive(Clone, Debug)]
pub(in crate::store) enum Parameter {
    Null(ColumnType),
    Value(Value),
}

/// The cells of a row.
pub(in crate::store) type Cells = Vec<Option<Value>>;

impl Query {
    pub(in crate::store) fn once(sql: String, values: Vec<Value>, shape: &[ColumnType]) -> Self {
        let values = values.into_iter().map(Parameter::Value).collect();
        Self { sql: sql.into(), values, shape: shape.into(), lasting: false }
    }
}

/// The statements of one table.
#[derive(Debug)]
pub(super) struct Rows {
    dialect: &'static Dialect,
    table: Table,
    /// The types of the columns, in the order in which rows are bound and read.
    shape: Arc<[ColumnType]>,
    no_cells: Arc<[ColumnType]>,
    select: String,
    load: Arc<str>,
    insert: Arc<str>,
    update_state: Arc<str>,
    update_expiration: Arc<str>,
    update_row: Arc<str>,
    exists: Arc<str>,
    delete: Arc<str>,
    prune: Arc<str>,
    delete_list: String,
}

impl Rows {
    pub(super) fn new(dialect: &'static Dialect, table: &Table) -> Self {
        let quoted = |name: &str| dialect.quoted(name);
        let p = dialect.parameter;
        let name = quoted(&table.name);
        let id = quoted(&table.id);
        let state = quoted(&table.state);
        let expiration = quoted(&table.expiration);
        let revision = quoted(&table.revision);
        let (columns, shape): (Vec<_>, Vec<_>) =
            columns(table).map(|(column, ty)| (quoted(column), ty)).unzip();
        let count = columns.len();
        let parameters = (1..=count).map(p).collect::<Vec<_>>().join(", ");
        let assignments: Vec<_> =
            columns.iter().zip(1..).map(|(column, n)| format!("{column} = {}", p(n))).collect();
        let assignments = assignments.join(", ");
        let columns = columns.join(", ");
        let select = format!("SELECT {columns} FROM {name}");
        let matching = |first| format!("WHERE {id} = {} AND {revision} = {}", p(first), p(first + 1));
        Self {
            dialect,
            shape: shape.into(),
            no_cells: Arc::from([]),
            load: format!("{select} WHERE {id} = {}", p(1)).into(),
            select,
            insert: format!("INSERT INTO {name} ({columns}) VALUES ({parameters})").into(),
            update_state: format!(
                "UPDATE {name} SET {state} = {}, {revision} = {} {}",
                p(1),
                p(2),
                matching(3)
            )
            .into(),
            update_expiration: format!(
                "UPDATE {name} SET {state} = {}, {revision} = {}, {expiration} = {} {}",
                p(1),
                p(2),
                p(3),
                matching(4)
            )
            .into(),
            update_row: format!("UPDATE {name} SET {assignments} {}", matching(count + 1)).into(),
            exists: format!("SELECT 1 FROM {name} WHERE {id} = {}", p(1)).into(),
            delete: format!("DELETE FROM {name} WHERE {id} = {}", p(1)).into(),
            prune: (dialect.prune)(&name, &id, &expiration, [&p(1), &p(2)]).into(),
            delete_list: format!("DELETE FROM {name} WHERE {id} IN "),
            table: table.clone(),
        }
    }

    pub(super) fn load(&self, id: SessionId) -> Query {
        Query { shape: self.shape.clone(), ..self.lasting(&self.load, vec![id_value(id)]) }
    }

    pub(super) fn exists(&self, id: SessionId) -> Query {
        self.lasting(&self.exists, vec![id_value(id)])
    }

    pub(super) fn delete(&self, id: SessionId) -> Query {
        self.lasting(&self.delete, vec![id_value(id)])
    }

    /// No row has an empty id.
    pub(super) fn probe(&self) -> Query {
        self.lasting(&self.delete, vec![Value::Blob(Vec::new())])
    }

    pub(super) fn prune(&self, now: Timestamp, limit: u32) -> Query {
        let values = [now.as_millis(), limit.into()].map(Value::Integer);
        self.lasting(&self.prune, values.into())
    }

    pub(super) fn insert(&self, row: &Row) -> Result<Query, Failure> {
        Ok(Query { values: self.bound(row)?, ..self.lasting(&self.insert, Vec::new()) })
    }

    pub(super) fn update(&self, update: &Update) -> Result<Query, Failure> {
        let Update { id, expected, scope, row } = update;
        // A row that changes its name changes as a whole, whatever its scope says.
        let scope = if row.id == *id { *scope } else { Scope::Row };
        let (sql, mut values) = match scope {
            Scope::Row => (&self.update_row, self.bound(row)?),
            Scope::State => (&self.update_state, vec![self.state(row)?, integer(row.revision)]),
            Scope::Expiration => {
                let values =
                    vec![self.state(row)?, integer(row.revision), integer(row.expiration.as_millis())];
                (&self.update_expiration, values)
            }
        };
        values.extend([Parameter::Value(id_value(*id)), integer(*expected)]);
        Ok(Query { values, ..self.lasting(sql, Vec::new()) })
    }

    pub(super) fn select(&self, filter: &Filter, page: Page) -> Result<Query, Failure> {
        let mut text = Text::new(self, &self.select);
        text.push(" WHERE (");
        text.push_filter(filter)?;
        text.push(")");
        let id = self.dialect.quoted(&self.table.id);
        if let Some(after) = page.after {
            text.push(&format!(" AND {id} > "));
            text.push_value(id_value(after));
        }
        text.push(&format!(" ORDER BY {id} LIMIT "));
        text.push_value(Value::Integer(page.limit.into()));
        text.finish(&self.shape)
    }

    pub(super) fn count(&self, filter: &Filter) -> Result<Query, Failure> {
        let name = self.dialect.quoted(&self.table.name);
        let mut text = Text::new(self, &format!("SELECT count(*) FROM {name} WHERE "));
        text.push_filter(filter)?;
        text.finish(&[ColumnType::Integer])
    }

    pub(super) fn remove(&self, filter: &Filter) -> Result<Query, Failure> {
        let mut text = Text::new(self, "");
        text.push_filter(filter)?;
        let (name, id) = (self.dialect.quoted(&self.table.name), self.dialect.quoted(&self.table.id));
        text.sql = (self.dialect.take)(&name, &id, &text.sql);
        text.finish(&[ColumnType::Blob])
    }

    /// Takes the live rows of a user but for those that began last.
    pub(super) fn trim(&self, user: &Value, keep: u32, now: Timestamp) -> Result<Query, Failure> {
        let names = [&self.table.name, &self.table.id, &self.table.created];
        let [name, id, created] = names.map(|name| self.dialect.quoted(name));
        let user = Filter::Compare(ColumnRef::User, Comparison::Eq, user.clone());
        let mut text = Text::new(self, "");
        text.push_filter(&Filter::And(Box::new(user), Box::new(Filter::LiveAt(now))))?;
        text.values.push(Value::Integer(keep.into()));
        let keep = (self.dialect.parameter)(text.values.len());
        text.sql = (self.dialect.trim)(&name, &id, &created, &text.sql, &keep);
        text.finish(&[ColumnType::Blob])
    }

    /// Begins a statement that removes rows, and ends before the list of their ids.
    pub(super) fn delete_list(&self) -> &str {
        &self.delete_list
    }

    fn lasting(&self, sql: &Arc<str>, values: Vec<Value>) -> Query {
        let values = values.into_iter().map(Parameter::Value).collect();
        Query { sql: sql.clone(), values, shape: self.no_cells.clone(), lasting: true }
    }

    fn bound(&self, row: &Row) -> Result<Vec<Parameter>, Failure> {
        if row.columns.len() != self.table.projected.len() {
            return Err(Failure::ColumnCount { table: self.table.projected.len(), row: row.columns.len() });
        }
        let mut bound = vec![
            Parameter::Value(id_value(row.id)),
            self.state(row)?,
            integer(row.created.as_millis()),
            integer(row.expiration.as_millis()),
            integer(row.revision),
        ];
        let nullable = |value: Option<&Value>, ty| match value {
            Some(value) => Parameter::Value(value.clone()),
            None => Parameter::Null(ty),
        };
        bound.extend(self.table.user.as_ref().map(|user| nullable(row.user.as_ref(), user.ty)));
        let ip = row.ip.map(|ip| Value::Text(ip.to_string()));
        bound.extend(self.table.ip.as_ref().map(|_| nullable(ip.as_ref(), ColumnType::Text)));
        let projected = self.table.projected.iter().zip(&row.columns);
        bound.extend(projected.map(|(column, value)| nullable(value.as_ref(), column.ty)));
        Ok(bound)
    }

    fn state(&self, row: &Row) -> Result<Parameter, Failure> {
        let state = row.state.clone();
        Ok(Parameter::Value(if self.table.state_is_text {
            let text = String::from_utf8(state);
            Value::Text(text.map_err(|_| Failure::malformed(&self.table.state, "text"))?)
        } else {
            Value::Blob(state)
        }))
    }

    /// Reads a row. Whoever can write to the database can put anything into it, so a mandatory value of the
    /// wrong kind is an error, and nothing is made up.
    pub(super) fn row(&self, cells: Cells) -> Result<Row, Failure> {
        let table = &self.table;
        let mut cells = cells.into_iter();
        let mut cell = || cells.next().flatten();
        let integer = |column: &str, cell| match cell {
            Some(Value::Integer(integer)) => Ok(integer),
            _ => Err(Failure::malformed(column, "an integer")),
        };
        Ok(Row {
            id: match cell() {
                Some(Value::Blob(bytes)) => bytes.try_into().ok().map(SessionId::from_bytes),
                _ => None,
            }
            .ok_or_else(|| Failure::malformed(&table.id, "32 bytes"))?,
            state: match cell() {
                Some(Value::Blob(state)) => state,
                Some(Value::Text(state)) => state.into_bytes(),
                _ => return Err(Failure::malformed(&table.state, "bytes or text")),
            },
            created: Timestamp::from_millis(integer(&table.created, cell())?),
            expiration: Timestamp::from_millis(integer(&table.expiration, cell())?),
            revision: integer(&table.revision, cell())?,
            user: if table.user.is_some() { cell() } else { None },
            ip: match &table.ip {
                Some(column) => ip(column, cell())?,
                None => None,
            },
            columns: table.projected.iter().map(|_| cell()).collect(),
        })
    }
}

fn ip(column: &str, cell: Option<Value>) -> Result<Option<IpAddr>, Failure> {
    let parsed = match cell {
        None => return Ok(None),
        Some(Value::Text(text)) => text.parse().ok(),
        Some(_) => None,
    };
    parsed.map(Some).ok_or_else(|| Failure::malformed(column, "an IP address"))
}

/// The columns, in the order in which rows are bound and read.
fn columns(table: &Table) -> impl Iterator<Item = (&str, ColumnType)> {
    let state = if table.state_is_text { ColumnType::Text } else { ColumnType::Blob };
    [
        (&table.id, ColumnType::Blob),
        (&table.state, state),
        (&table.created, ColumnType::Integer),
        (&table.expiration, ColumnType::Integer),
        (&table.revision, ColumnType::Integer),
    ]
    .into_iter()
    .chain(table.user.as_ref().map(|user| (&user.name, user.ty)))
    .chain(table.ip.as_ref().map(|ip| (ip, ColumnType::Text)))
    .chain(table.projected.iter().map(|column| (&column.name, column.ty)))
    .map(|(name, ty)| (name.as_str(), ty))
}

fn id_value(id: SessionId) -> Value {
    Value::Blob(id.as_bytes().to_vec())
}

fn integer(integer: i64) -> Parameter {
    Parameter::Value(Value::Integer(integer))
}

/// The id in the first cell. What is no session id was removed as well, but has no name to return.
pub(in crate::store) fn id(cells: &Cells) -> Option<SessionId> {
    match cells.first() {
        Some(Some(Value::Blob(bytes))) => bytes.as_slice().try_into().ok().map(SessionId::from_bytes),
        _ => None,
    }
}

/// The number in the first cell of the first row.
pub(super) fn total(rows: &[Cells]) -> u64 {
    match rows.first().and_then(|cells| cells.first()) {
        Some(Some(Value::Integer(total))) => total.cast_unsigned(),
        _ => 0,
    }
}

/// A statement that is being made for one call.
struct Text<'a> {
    rows: &'a Rows,
    sql: String,
    values: Vec<Value>,
}

impl<'a> Text<'a> {
    fn new(rows: &'a Rows, sql: &str) -> Self {
        Self { rows, sql: sql.to_owned(), values: Vec::new() }
    }

    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    fn push_value(&mut self, value: Value) {
        self.values.push(value);
        self.sql.push_str(&(self.rows.dialect.parameter)(self.values.len()));
    }

    fn push_filter(&mut self, filter: &Filter) -> Result<(), Failure> {
        match filter {
            Filter::All => self.push("TRUE"),
            Filter::Id(id) => {
                let column = self.rows.dialect.quoted(&self.rows.table.id);
                self.push(&format!("{column} = "));
                self.push_value(id_value(*id));
            }
            Filter::Compare(column, comparison, value) => {
                self.push_comparison(*column, *comparison, value)?;
            }
            Filter::OneOf(column, values) => self.push_one_of(*column, values)?,
            Filter::IsNull(column) => {
                let operand = self.operand(*column)?;
                self.push(&format!("{} IS NULL", operand.name));
            }
            Filter::LiveAt(time) => {
                let column = self.rows.dialect.quoted(&self.rows.table.expiration);
                self.push(&format!("{column} > "));
                self.push_value(Value::Integer(time.as_millis()));
            }
            Filter::Not(inner) => {
                self.push("(");
                self.push_filter(inner)?;
                // `NOT` of `NULL` is `NULL`, and such a row would be in neither half.
                self.push(") IS NOT TRUE");
            }
            Filter::And(left, right) => self.push_pair(left, " AND ", right)?,
            Filter::Or(left, right) => self.push_pair(left, " OR ", right)?,
        }
        Ok(())
    }

    fn push_comparison(
        &mut self,
        column: ColumnRef,
        comparison: Comparison,
        value: &Value,
    ) -> Result<(), Failure> {
        let operand = self.operand(column)?;
        // Servers would rather convert than say that the two have nothing in common.
        if !operand.holds(value) {
            self.push("FALSE");
            return Ok(());
        }
        if comparison == Comparison::Eq && operand.needs_index() {
            self.push(&format!("{} = ", operand.name));
            self.push_value(value.clone());
            self.push(" AND ");
        }
        self.push(&operand.exact);
        self.push(match comparison {
            Comparison::Eq => " = ",
            Comparison::Ne => " <> ",
            Comparison::Lt => " < ",
            Comparison::Le => " <= ",
            Comparison::Gt => " > ",
            Comparison::Ge => " >= ",
        });
        self.push_value(operand.exact_value(value));
        Ok(())
    }

    fn push_one_of(&mut self, column: ColumnRef, values: &[Value]) -> Result<(), Failure> {
        let operand = self.operand(column)?;
        let values: Vec<_> = values.iter().filter(|value| operand.holds(value)).collect();
        if values.is_empty() {
            self.push("FALSE");
            return Ok(());
        }
        if operand.needs_index() {
            self.push(&operand.name);
            self.push_list(values.iter().map(|value| (*value).clone()));
            self.push(" AND ");
        }
        self.push(&operand.exact);
        self.push_list(values.iter().map(|value| operand.exact_value(value)));
        Ok(())
    }

    fn push_list(&mut self, values: impl Iterator<Item = Value>) {
        self.push(" IN (");
        for (n, value) in values.enumerate() {
            self.push(if n == 0 { "" } else { ", " });
            self.push_value(value);
        }
        self.push(")");
    }

    fn push_pair(&mut self, left: &Filter, word: &str, right: &Filter) -> Result<(), Failure> {
        self.push("((");
        self.push_filter(left)?;
        self.push(")");
        self.push(word);
        self.push("(");
        self.push_filter(right)?;
        self.push("))");
        Ok(())
    }

    fn operand(&self, column: ColumnRef) -> Result<Operand, Failure> {
        let (table, dialect) = (&self.rows.table, self.rows.dialect);
        let (name, ty) = match column {
            ColumnRef::User => table.user.as_ref().map(|user| (&user.name, user.ty)),
            ColumnRef::Ip => table.ip.as_ref().map(|name| (name, ColumnType::Text)),
            ColumnRef::Projected(n) => table.projected.get(n).map(|column| (&column.name, column.ty)),
        }
        .ok_or(Failure::NoColumn(column))?;
        let name = dialect.quoted(name);
        let exact = if ty == ColumnType::Text { (dialect.exact)(&name) } else { name.clone() };
        Ok(Operand { name, exact, ty, hides_index: dialect.exact_hides_index })
    }

    fn finish(self, shape: &[ColumnType]) -> Result<Query, Failure> {
        if self.values.len() > self.rows.dialect.max_values {
            return Err(Failure::TooManyValues(self.values.len()));
        }
        Ok(Query::once(self.sql, self.values, shape))
    }
}

/// A column in a comparison.
struct Operand {
    name: String,
    exact: String,
    ty: ColumnType,
    hides_index: bool,
}

impl Operand {
    fn holds(&self, value: &Value) -> bool {
        matches!(
            (self.ty, value),
            (ColumnType::Integer, Value::Integer(_))
                | (ColumnType::Real, Value::Real(_))
                | (ColumnType::Text, Value::Text(_))
                | (ColumnType::Blob, Value::Blob(_))
        )
    }

    fn needs_index(&self) -> bool {
        self.hides_index && self.ty == ColumnType::Text
    }

    /// The value that the exact column is compared with: bytes where that is what became of the text.
    fn exact_value(&self, value: &Value) -> Value {
        match value {
            Value::Text(text) if self.hides_index => Value::Blob(text.clone().into_bytes()),
            value => value.clone(),
        }
    }
}
