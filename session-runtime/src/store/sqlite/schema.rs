//! The table of a bag: created when missing, completed when a column is missing, refused when it does
//! not fit.

use std::time::Duration;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::Failure;
use super::file::START_UP_PATIENCE;
use super::rows::quoted;
use crate::store::Table;
use crate::value::ColumnType;

/// Makes the database ready for a table.
///
/// A table that fits is left alone, without so much as a lock: a file that cannot be written can
/// still be read from. Otherwise the table is looked at again inside the transaction that changes it,
/// because another process may be doing the same.
pub(super) fn prepare(connection: &mut Connection, table: &Table) -> Result<(), Failure> {
    connection.busy_timeout(START_UP_PATIENCE)?;
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

/// A column that the table must have.
struct Wanted<'a> {
    name: &'a str,
    ty: ColumnType,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Key,
    Mandatory,
    Nullable,
}

/// A column that the table has.
struct Found {
    name: String,
    declared: String,
    not_null: bool,
    has_default: bool,
    key: u32,
    hidden: u32,
}

fn wanted(table: &Table) -> Vec<Wanted<'_>> {
    let state = if table.state_is_text { ColumnType::Text } else { ColumnType::Blob };
    let mut wanted = vec![
        Wanted { name: &table.id, ty: ColumnType::Blob, kind: Kind::Key },
        Wanted { name: &table.state, ty: state, kind: Kind::Mandatory },
    ];
    let nullable = |name, ty| Wanted { name, ty, kind: Kind::Nullable };
    wanted.extend(table.user.as_ref().map(|user| nullable(&user.name, user.ty)));
    wanted.extend(table.ip.as_ref().map(|ip| nullable(ip, ColumnType::Text)));
    for name in [&table.created, &table.expiration, &table.revision] {
        wanted.push(Wanted { name, ty: ColumnType::Integer, kind: Kind::Mandatory });
    }
    wanted.extend(table.projected.iter().map(|column| nullable(&column.name, column.ty)));
    wanted
}

/// Returns the statements that bring the table to what it must be, as far as can be told now: of a
/// table that lacks columns, the indexes are not looked at. None if it lacks nothing.
fn missing(connection: &Connection, table: &Table) -> Result<Vec<String>, Failure> {
    let kind: Option<String> = pragma(
        connection,
        "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
        [&table.name],
    )?;
    match kind.as_deref() {
        None => return Ok(vec![create(table)]),
        Some("table") => {}
        Some(kind) => return Err(unfit(table, format!("is a {kind}, not a table; choose another name"))),
    }
    let found = found(connection, &table.name)?;
    let mut statements = missing_columns(table, &found)?;
    if statements.is_empty() {
        statements = missing_indexes(connection, table)?;
    }
    Ok(statements)
}

fn create(table: &Table) -> String {
    let columns: Vec<_> = wanted(table)
        .iter()
        .map(|column| {
            let constraint = match column.kind {
                Kind::Key => " PRIMARY KEY NOT NULL",
                Kind::Mandatory => " NOT NULL",
                Kind::Nullable => "",
            };
            format!("{} {}{constraint}", quoted(column.name), sql_type(column.ty))
        })
        .collect();
    format!("CREATE TABLE {} ({})", quoted(&table.name), columns.join(", "))
}

fn missing_columns(table: &Table, found: &[Found]) -> Result<Vec<String>, Failure> {
    let wanted = wanted(table);
    let mut statements = Vec::new();
    for column in &wanted {
        let name = column.name;
        match found.iter().find(|found| found.name.eq_ignore_ascii_case(name)) {
            Some(found) => fits(table, column, found)?,
            None if column.kind == Kind::Nullable => statements.push(format!(
                "ALTER TABLE {} ADD COLUMN {} {}",
                quoted(&table.name),
                quoted(name),
                sql_type(column.ty)
            )),
            None => {
                let reason = format!(
                    "has no column {name:?}, which the rows it has would need a value for; \
                     name another table, or the column that takes its place"
                );
                return Err(unfit(table, reason));
            }
        }
    }
    for other in found {
        let is_ours = wanted.iter().any(|column| column.name.eq_ignore_ascii_case(&other.name));
        if !is_ours && other.not_null && !other.has_default && other.hidden == 0 {
            let reason =
                format!("has a column {:?} that new rows have no value for; give it a default", other.name);
            return Err(unfit(table, reason));
        }
    }
    Ok(statements)
}

fn fits(table: &Table, wanted: &Wanted<'_>, found: &Found) -> Result<(), Failure> {
    let name = wanted.name;
    let expected = sql_type(wanted.ty);
    if affinity(&found.declared) != Some(wanted.ty) {
        let declared = match found.declared.as_str() {
            "" => "without a type",
            declared => declared,
        };
        return Err(unfit(
            table,
            format!(
                "has a column {name:?} declared {declared} where {expected} is needed; rename or convert it"
            ),
        ));
    }
    let is_key = found.key == 1;
    let reason = match wanted.kind {
        _ if found.hidden != 0 => "is generated and cannot be written",
        Kind::Key if !is_key => "must be its primary key",
        Kind::Mandatory | Kind::Nullable if found.key != 0 => "must not be part of its primary key",
        Kind::Nullable if found.not_null => "must be allowed to be NULL",
        Kind::Key | Kind::Mandatory | Kind::Nullable => return Ok(()),
    };
    Err(unfit(table, format!("has a column {name:?} that {reason}")))
}

fn missing_indexes(connection: &Connection, table: &Table) -> Result<Vec<String>, Failure> {
    let columns = [&table.expiration]
        .into_iter()
        .chain(table.user.as_ref().map(|user| &user.name))
        .chain(table.projected.iter().filter(|column| column.index).map(|column| &column.name));
    let mut statements = Vec::new();
    for column in columns {
        // Any index that begins with the column serves, whoever made it and under whatever name.
        let exists: Option<i64> = pragma(
            connection,
            "SELECT 1 FROM pragma_index_list(?1) AS list, pragma_index_info(list.name) AS part \
             WHERE list.partial = 0 AND part.seqno = 0 AND part.name = ?2 COLLATE NOCASE LIMIT 1",
            [&table.name, column],
        )?;
        if exists.is_none() {
            let name = quoted(&format!("{}.{column}", table.name));
            statements.push(format!("CREATE INDEX {name} ON {} ({})", quoted(&table.name), quoted(column)));
        }
    }
    Ok(statements)
}

fn found(connection: &Connection, table: &str) -> Result<Vec<Found>, Failure> {
    let mut statement = connection.prepare(
        "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1)",
    )?;
    let columns = statement.query_map([table], |row| {
        Ok(Found {
            name: row.get(0)?,
            declared: row.get(1)?,
            not_null: row.get(2)?,
            has_default: row.get(3)?,
            key: row.get(4)?,
            hidden: row.get(5)?,
        })
    })?;
    Ok(columns.collect::<Result<_, _>>()?)
}

fn pragma<T: FromSql>(
    connection: &Connection,
    sql: &str,
    names: impl rusqlite::Params,
) -> Result<Option<T>, Failure> {
    Ok(connection.query_row(sql, names, |row| row.get(0)).optional()?)
}

fn sql_type(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::Integer => "INTEGER",
        ColumnType::Real => "REAL",
        ColumnType::Text => "TEXT",
        ColumnType::Blob => "BLOB",
    }
}

/// The affinity of a declared type, by the rules and in the order of sqlite.org, "Datatypes In SQLite"
/// §3.1. `NUMERIC` fits no column of ours: it turns reals into integers.
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

fn unfit(table: &Table, reason: String) -> Failure {
    Failure::Unfit { table: table.name.clone(), reason }
}
