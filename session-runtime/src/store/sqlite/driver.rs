//! SQLite's SQL, and how its client is called: statements are bound, run and read over a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Statement, Transaction, TransactionBehavior};

use super::failure::Failure;
use super::file::STARTUP_TIMEOUT;
use crate::clock::Timestamp;
#[cfg(feature = "admin")]
use crate::store::Survey;
use crate::store::sql::dialect::{Catalog, Dialect, Names};
use crate::store::sql::owner::{OWNERS, Owners};
use crate::store::sql::rows::Rows;
#[cfg(feature = "admin")]
use crate::store::sql::table::TableSurvey;
use crate::store::sql::table::{Question, TableCheck};
use crate::store::sql::{Cells, Datum, filter};
use crate::store::{Outcome, Row, Table, Update, Write};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// The statements of one table, as a connection runs them. Those that every call needs stay prepared in the
/// connection's cache.
#[derive(Debug)]
pub(super) struct TableStatements {
    /// Another one for each value.
    pub(super) number: u64,
    pub(super) rows: Rows,
    probe: String,
    /// The start of a statement that selects the rows to remove.
    select_id: String,
}

impl TableStatements {
    pub(super) fn new(table: &Table) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let probe = format!("SELECT 1 FROM {} LIMIT 1", DIALECT.quoted(&table.name));
        let select_id = format!("SELECT {}", DIALECT.quoted(&table.id));
        Self { number, rows: Rows::new(&DIALECT, table), probe, select_id }
    }

    pub(super) fn load(&self, connection: &Connection, id: SessionId) -> Result<Option<Row>, Failure> {
        let mut statement = connection.prepare_cached(&self.rows.load)?;
        let mut rows = statement.query([id.as_bytes()])?;
        Ok(rows.next()?.and_then(|row| self.read(row)))
    }

    pub(super) fn insert(&self, connection: &Connection, row: &Row) -> Result<(), Failure> {
        let mut statement = connection.prepare_cached(&self.rows.insert)?;
        bind(&mut statement, self.rows.values(row)?)?;
        statement.raw_execute()?;
        Ok(())
    }

    pub(super) fn update(&self, connection: &Connection, update: &Update) -> Result<Outcome, Failure> {
        let (sql, values) = self.rows.update(update)?;
        let mut statement = connection.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        if statement.raw_execute()? > 0 {
            return Ok(Outcome::Stored);
        }
        let exists = connection.prepare_cached(&self.rows.exists)?.exists([update.id.as_bytes()])?;
        Ok(if exists { Outcome::Conflict } else { Outcome::Gone })
    }

    /// Makes a write and then removes the rows of a [`Rows::surplus`], both or neither. It may be one of many changes of a
    /// transaction, and a failure must not undo the others.
    pub(super) fn write_limited(
        &self,
        connection: &Connection,
        write: &Write,
        surplus: &filter::Statement,
    ) -> Result<(Outcome, Vec<SessionId>), Failure> {
        let run = |sql| connection.prepare_cached(sql)?.execute([]);
        run("SAVEPOINT limited")?;
        let outcome = match write {
            Write::Insert(row) => self.insert(connection, row).map(|()| Outcome::Stored),
            Write::Update(update) => self.update(connection, update),
        };
        let written = match outcome {
            Ok(Outcome::Stored) => self.remove(connection, surplus).map(|removed| (Outcome::Stored, removed)),
            outcome => outcome.map(|outcome| (outcome, Vec::new())),
        };
        // Some errors have undone the whole transaction, and with it the savepoint.
        if written.is_err() && !connection.is_autocommit() {
            run("ROLLBACK TO limited")?;
        }
        if !connection.is_autocommit() {
            run("RELEASE limited")?;
        }
        written
    }

    pub(super) fn delete(&self, connection: &Connection, id: SessionId) -> Result<bool, Failure> {
        Ok(connection.prepare_cached(&self.rows.delete)?.execute([id.as_bytes()])? > 0)
    }

    pub(super) fn prune(&self, connection: &Connection, now: Timestamp, limit: u32) -> Result<u64, Failure> {
        let removed = connection.prepare_cached(&self.rows.prune)?.execute((now.as_millis(), limit))?;
        Ok(removed as u64)
    }

    /// Checks that the table can be read.
    pub(super) fn probe(&self, connection: &Connection) -> Result<(), Failure> {
        connection.prepare_cached(&self.probe)?.exists([])?;
        Ok(())
    }

    /// Runs a [`Rows::find`].
    pub(super) fn find(
        &self,
        connection: &Connection,
        statement: &filter::Statement,
    ) -> Result<Vec<Row>, Failure> {
        let mut statement = prepare(connection, statement)?;
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.extend(self.read(row));
        }
        Ok(found)
    }

    /// Runs a [`Rows::count`].
    pub(super) fn count(connection: &Connection, statement: &filter::Statement) -> Result<u64, Failure> {
        let mut statement = prepare(connection, statement)?;
        let mut rows = statement.raw_query();
        let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(row.get::<_, i64>(0)?.cast_unsigned())
    }

    /// Runs a [`Rows::remove`] or a [`Rows::surplus`]. A row whose key is no session id is removed as well, but
    /// has no id to return.
    ///
    /// It selects the ids first: `DELETE .. RETURNING` would read each row as a whole.
    pub(super) fn remove(
        &self,
        connection: &Connection,
        statement: &filter::Statement,
    ) -> Result<Vec<SessionId>, Failure> {
        let mut select = prepare(connection, statement)?;
        let mut rows = select.raw_query();
        let mut removed = Vec::new();
        while let Some(row) = rows.next()? {
            removed.extend(datum(row.get_ref(0)?).and_then(|datum| datum.id()));
        }
        let sql = statement.sql.replacen(&self.select_id, "DELETE", 1);
        prepare(connection, &filter::Statement { sql, values: statement.values.clone() })?.raw_execute()?;
        Ok(removed)
    }

    fn read(&self, row: &rusqlite::Row<'_>) -> Option<Row> {
        let mut columns = 0..;
        // The statement names its columns, so each of them exists.
        self.rows.read(|| datum(row.get_ref(columns.next()?).ok()?))
    }
}

fn prepare<'c>(connection: &'c Connection, statement: &filter::Statement) -> Result<Statement<'c>, Failure> {
    let mut prepared = connection.prepare(&statement.sql)?;
    bind(&mut prepared, statement.values.iter().map(|value| Some(value.into())))?;
    Ok(prepared)
}

fn bind<'a>(
    statement: &mut Statement<'_>,
    values: impl Iterator<Item = Option<Datum<'a>>>,
) -> Result<(), Failure> {
    for (n, value) in (1..).zip(values) {
        statement.raw_bind_parameter(n, parameter(value.as_ref()))?;
    }
    Ok(())
}

fn parameter<'a>(value: Option<&'a Datum<'_>>) -> ToSqlOutput<'a> {
    ToSqlOutput::Borrowed(match value {
        None => ValueRef::Null,
        Some(Datum::Integer(integer)) => ValueRef::Integer(*integer),
        Some(Datum::Real(real)) => ValueRef::Real(*real),
        Some(Datum::Text(text)) => ValueRef::Text(text.as_bytes()),
        Some(Datum::Blob(blob)) => ValueRef::Blob(blob),
    })
}

/// Text that is not UTF-8 counts as bytes.
fn datum(cell: ValueRef<'_>) -> Option<Datum<'_>> {
    Some(match cell {
        ValueRef::Null => return None,
        ValueRef::Integer(integer) => Datum::Integer(integer),
        ValueRef::Real(real) => Datum::Real(real),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => Datum::Text(text.into()),
            Err(_) => Datum::Blob(text.into()),
        },
        ValueRef::Blob(blob) => Datum::Blob(blob.into()),
    })
}

/// Returns whether no table in the file shows that it is another program's.
pub(super) fn is_ours(connection: &Connection) -> Result<bool, Failure> {
    let sql = "SELECT count(*) = 0 OR coalesce(sum(name = ?), 0) > 0 FROM main.sqlite_schema";
    Ok(connection.query_row(sql, [OWNERS], |row| row.get(0))?)
}

/// Makes the database ready for a table.
///
/// A table that fits is left alone, without a lock: a read-only file can still be read from, if its bag was noted before. Otherwise the table is
/// checked again inside the transaction that changes it, because another process may be changing it at the same time.
pub(super) fn prepare_table(connection: &mut Connection, table: &Table) -> Result<(), Failure> {
    connection.busy_timeout(STARTUP_TIMEOUT)?;
    let completed = complete(connection, table);
    connection.busy_timeout(Duration::ZERO)?;
    completed
}

fn complete(connection: &mut Connection, table: &Table) -> Result<(), Failure> {
    if missing(connection, table)?.is_empty() {
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    for _columns_then_indexes in 0..2 {
        for statement in missing(&transaction, table)? {
            transaction.execute_batch(&statement)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Notes that a table belongs to a bag, unless it belongs to another, and returns the one it belongs to.
pub(super) fn claim(connection: &mut Connection, table: &str, bag: &str) -> Result<String, Failure> {
    connection.busy_timeout(STARTUP_TIMEOUT)?;
    let owner = note_owner(connection, table, bag);
    connection.busy_timeout(Duration::ZERO)?;
    owner
}

/// Describes a table, and changes nothing.
#[cfg(feature = "admin")]
pub(super) fn survey(connection: &mut Connection, wanted: &Table) -> Result<Survey, Failure> {
    let owner = owner(connection, &Owners::new(&DIALECT), &wanted.name)?;
    let survey = TableSurvey::new(&DIALECT, wanted);
    if ask(connection, &survey.kind())?.is_empty() {
        return Ok(Survey { owner, ..Survey::default() });
    }
    let columns = ask(connection, &survey.columns())?;
    Ok(survey.answer(owner, &columns))
}

fn note_owner(connection: &mut Connection, table: &str, bag: &str) -> Result<String, Failure> {
    let owners = Owners::new(&DIALECT);
    if let Some(owner) = owner(connection, &owners, table)? {
        return Ok(owner);
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(&owners.create)?;
    if let Some(owner) = owner(&transaction, &owners, table)? {
        return Ok(owner);
    }
    transaction.execute(&owners.insert, (table, bag))?;
    transaction.commit()?;
    Ok(bag.to_owned())
}

fn owner(connection: &Connection, owners: &Owners, table: &str) -> Result<Option<String>, Failure> {
    let (exists, subject) = &owners.exists;
    if !connection.prepare(exists)?.exists([subject])? {
        return Ok(None);
    }
    Ok(connection.query_row(&owners.select, [table], |row| row.get(0)).optional()?)
}

/// Returns the statements that bring the table nearer to what it must be.
fn missing(connection: &Connection, table: &Table) -> Result<Vec<String>, Failure> {
    let mut check = TableCheck::new(&DIALECT, table)?;
    while let Some(question) = check.question() {
        let rows = ask(connection, &question)?;
        check.answer(&rows)?;
    }
    Ok(check.into_statements())
}

fn ask(connection: &Connection, question: &Question<'_>) -> Result<Vec<Cells>, Failure> {
    let mut statement = connection.prepare(question.sql)?;
    let cells = |row: &rusqlite::Row<'_>| {
        let cell = |n| Ok(datum(row.get_ref(n)?).map(Value::from));
        (0..question.types.len()).map(cell).collect()
    };
    Ok(statement.query_map([question.subject], cells)?.collect::<Result<_, _>>()?)
}

pub(super) static DIALECT: Dialect = Dialect {
    quote: '"',
    name_length: str::len,
    max_name_length: usize::MAX,
    parameter: |_| "?".into(),
    // `SQLITE_MAX_VARIABLE_NUMBER`
    max_parameters: 32_766,
    // `OR ABORT` overrides a conflict clause in a table that the application made: `REPLACE` would overwrite a session
    // with another one that has the same id.
    insert: "INSERT OR ABORT INTO",
    update: "UPDATE OR ABORT",
    byte_order: ("", " COLLATE BINARY"),
    byte_order_is_blob: false,
    text_holds_nul: true,
    // SQLite makes it `NULL`.
    refuses: |value, _| match value {
        Value::Real(real) if real.is_nan() => Some("NaN"),
        _ => None,
    },
    // The length and the type of a value are in the header of its row. SQLite reads a value as a whole, so one that is
    // too long must not be read at all. A cell holds any type, whatever its column is declared as.
    bounded: |column, ty, max| match ty {
        ColumnType::Integer | ColumnType::Real => {
            format!("CASE WHEN typeof({column}) IN ('text', 'blob') THEN x'' ELSE {column} END")
        }
        ColumnType::Text | ColumnType::Blob => {
            format!("CASE WHEN octet_length({column}) > {max} THEN zeroblob({max} + 1) ELSE {column} END")
        }
    },
    is_id: |id| format!("typeof({id}) = 'blob' AND octet_length({id}) = 32"),
    prune: |names, time, limit| {
        let Names { table, id, expiration, .. } = names;
        format!(
            "DELETE FROM {table} WHERE {id} IN \
             (SELECT {id} FROM {table} WHERE {expiration} <= {time} LIMIT {limit})"
        )
    },
    remove: |names, condition| {
        let Names { table, id, .. } = names;
        format!("SELECT {id} FROM {table} WHERE {condition}")
    },
    surplus: |names, condition, order, keep| {
        let Names { table, id, .. } = names;
        format!(
            "SELECT {id} FROM {table} WHERE {id} IN (SELECT {id} FROM {table} WHERE {condition} \
             ORDER BY {order} LIMIT -1 OFFSET {keep})"
        )
    },
    catalog: Catalog {
        subject: |name, _| name.to_owned(),
        kind: "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE",
        columns: "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, hidden <> 0, pk <> 0 \
                  FROM pragma_table_xinfo(?)",
        indexes: "SELECT part.name FROM pragma_index_list(?) AS list, pragma_index_info(list.name) AS part \
                  WHERE list.partial = 0 AND part.seqno = 0",
        is_same_name: str::eq_ignore_ascii_case,
        column_type,
        key_type: "BLOB",
        name_type: "TEXT COLLATE NOCASE",
        name_value: str::to_owned,
        holds: |declared, _| affinity(declared),
        max_length: |_| None,
        table_options: "",
        create_index: |index, table, column, _| format!("CREATE INDEX {index} ON {table} ({column})"),
    },
};

fn column_type(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::Integer => "INTEGER",
        ColumnType::Real => "REAL",
        ColumnType::Text => "TEXT",
        ColumnType::Blob => "BLOB",
    }
}

/// The affinity of a declared type, by the rules and in the order of sqlite.org, "Datatypes In SQLite" §3.1. `NUMERIC`
/// fits no column of a bag: it turns reals into integers.
fn affinity(declared: &str) -> Option<ColumnType> {
    const RULES: [(&str, ColumnType); 8] = [
        ("INT", ColumnType::Integer),
        ("CHAR", ColumnType::Text),
        ("CLOB", ColumnType::Text),
        ("TEXT", ColumnType::Text),
        ("BLOB", ColumnType::Blob),
        ("REAL", ColumnType::Real),
        ("FLOA", ColumnType::Real),
        ("DOUB", ColumnType::Real),
    ];
    let declared = declared.to_ascii_uppercase();
    if declared.is_empty() {
        return Some(ColumnType::Blob);
    }
    RULES.into_iter().find(|(part, _)| declared.contains(part)).map(|(_, ty)| ty)
}
