//! The table of a bag: created when missing, completed when a column is missing, refused when it does
//! not fit.

use std::time::Duration;

use tokio::time::timeout;

use super::rows::{Cells, Dialect, Query, total};
use super::{Connection, Engine, Failure, START_UP_PATIENCE};
use crate::store::Table;
use crate::value::{ColumnType, Value};

/// How long the answer is waited for when a server waits for a lock, which it does for 30 seconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(40);

/// What a kind of server says of its tables, and how it is asked.
#[derive(Debug)]
pub(in crate::store) struct Catalog {
    /// Returns the server's version, as text.
    pub(in crate::store) version: &'static str,
    /// Tells whether a version serves; the older one's needed version if not.
    pub(in crate::store) serves: fn(&str) -> Result<(), &'static str>,
    /// What the three statements below are asked for, given the name of a table and its quoted form.
    pub(in crate::store) subject: fn(&str, &str) -> String,
    /// Returns the kind of a table, as text: `table`, `view` and so on.
    pub(in crate::store) kind: &'static str,
    /// Returns of each column its name and declared type, as text, and then as integers whether it cannot be
    /// `NULL`, has a default, is generated, and is part of the primary key.
    pub(in crate::store) columns: &'static str,
    /// Returns the first column of each index that serves all rows, as text.
    pub(in crate::store) indexes: &'static str,
    /// Whether names of columns differ by case alone.
    pub(in crate::store) names_have_case: bool,
    /// The type of a column that is to be made.
    pub(in crate::store) column_type: fn(ColumnType) -> &'static str,
    /// The type of the primary key.
    pub(in crate::store) key_type: &'static str,
    /// Returns 1 if a value that does not fit is refused, and not cut; none where it always is.
    pub(in crate::store) strict: Option<&'static str>,
    /// What a declared type holds, if it serves such a column.
    pub(in crate::store) holds: fn(&str, Kind) -> Option<ColumnType>,
    /// Stands behind the columns of a new table.
    pub(in crate::store) table_options: &'static str,
    /// An index of a column: the quoted table, the quoted column, its type.
    pub(in crate::store) create_index: fn(&str, &str, ColumnType) -> String,
    /// Keep others from changing tables, given a number that stands for the table. The last returns 1 if it does.
    pub(in crate::store) lock: fn(i64) -> Vec<String>,
    /// Let them.
    pub(in crate::store) unlock: fn(i64) -> Vec<String>,
}

/// Checks that the server is not too old, and stores what it is given.
pub(super) async fn check_server<E: Engine>(connection: &mut Connection<E>) -> Result<(), Failure> {
    let catalog = &E::DIALECT.catalog;
    let query = Query::once(catalog.version.to_owned(), Vec::new(), &[ColumnType::Text]);
    let rows = within(START_UP_PATIENCE, E::fetch(connection, &query)).await?;
    let version = rows.first().map(|cells| text(cells, 0)).unwrap_or_default();
    (catalog.serves)(&version).map_err(|needed| Failure::OldServer { found: version, needed })?;
    match catalog.strict {
        Some(strict) if !is_one::<E>(connection, START_UP_PATIENCE, strict).await? => Err(Failure::Lax),
        _ => Ok(()),
    }
}

async fn is_one<E: Engine>(
    connection: &mut Connection<E>,
    patience: Duration,
    sql: &str,
) -> Result<bool, Failure> {
    let query = Query::once(sql.to_owned(), Vec::new(), &[ColumnType::Integer]);
    Ok(total(&within(patience, E::fetch(connection, &query)).await?) == 1)
}

/// A server may go silent after it let us in.
async fn within<T, F: Into<Failure>>(
    patience: Duration,
    call: impl Future<Output = Result<T, F>>,
) -> Result<T, Failure> {
    match timeout(patience, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::Deadline),
    }
}

/// Makes the database ready for a table.
///
/// A table that fits is left alone, without so much as a lock: a server that only reads can still be read
/// from. Otherwise the table is looked at again behind a lock, because another process may be doing the same.
///
/// Every answer is waited for with patience, but for those to the statements that change the table: an index of
/// many rows takes its time.
pub(super) async fn prepare<E: Engine>(connection: &mut Connection<E>, table: &Table) -> Result<(), Failure> {
    check_names(E::DIALECT, table)?;
    if missing::<E>(connection, table).await?.is_empty() {
        return Ok(());
    }
    let catalog = &E::DIALECT.catalog;
    let number = lock_number(&table.name);
    let mut lock = (catalog.lock)(number);
    let last = lock.pop().unwrap_or_default();
    within(START_UP_PATIENCE, run::<E>(connection, lock)).await?;
    if !is_one::<E>(connection, LOCK_PATIENCE, &last).await? {
        return Err(Failure::Locked { table: table.name.clone() });
    }
    for _columns_then_indexes in 0..2 {
        let statements = missing::<E>(connection, table).await?;
        run::<E>(connection, statements).await?;
    }
    within(START_UP_PATIENCE, run::<E>(connection, (catalog.unlock)(number))).await
}

async fn run<E: Engine>(connection: &mut Connection<E>, statements: Vec<String>) -> Result<(), Failure> {
    for statement in statements {
        E::execute(connection, &Query::once(statement, Vec::new(), &[])).await?;
    }
    Ok(())
}

/// Stands for a table where locks have numbers (FNV-1a). Two tables of one number wait for each other.
fn lock_number(table: &str) -> i64 {
    let hash = table.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}

/// A column that the table must have.
struct Wanted<'a> {
    name: &'a str,
    ty: ColumnType,
    kind: Kind,
}

/// What a column is for.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::store) enum Kind {
    /// Ids of 32 bytes.
    Key,
    /// As much as sessions may hold.
    State,
    Mandatory,
    Nullable,
}

/// A column that the table has.
#[expect(clippy::struct_excessive_bools, reason = "a catalog answers by yes and no")]
struct Found {
    name: String,
    declared: String,
    not_null: bool,
    has_default: bool,
    is_generated: bool,
    is_key: bool,
}

fn wanted(table: &Table) -> Vec<Wanted<'_>> {
    let state = if table.state_is_text { ColumnType::Text } else { ColumnType::Blob };
    let mut wanted = vec![
        Wanted { name: &table.id, ty: ColumnType::Blob, kind: Kind::Key },
        Wanted { name: &table.state, ty: state, kind: Kind::State },
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

/// Some servers cut a long name off without a word, and two that differ at their ends become one.
fn check_names(dialect: &Dialect, table: &Table) -> Result<(), Failure> {
    let (length, most) = dialect.name_length;
    for name in std::iter::once(table.name.as_str()).chain(wanted(table).iter().map(|column| column.name)) {
        if length(name) > most {
            return Err(unfit(table, format!("needs the name {name:?}, which is longer than {most}")));
        }
    }
    Ok(())
}

/// Returns the statements that bring the table to what it must be, as far as can be told now: of a
/// table that lacks columns, the indexes are not looked at. None if it lacks nothing.
async fn missing<E: Engine>(connection: &mut Connection<E>, table: &Table) -> Result<Vec<String>, Failure> {
    let dialect = E::DIALECT;
    let catalog = &dialect.catalog;
    let subject = (catalog.subject)(&table.name, &dialect.quoted(&table.name));
    let ask = |sql: &str, shape: &[ColumnType]| {
        Query::once(sql.to_owned(), vec![Value::Text(subject.clone())], shape)
    };
    let kind = ask(catalog.kind, &[ColumnType::Text]);
    let kinds = within(START_UP_PATIENCE, E::fetch(connection, &kind)).await?;
    match kinds.first().map(|cells| text(cells, 0)).as_deref() {
        None => return Ok(vec![create(dialect, table)]),
        Some("table") => {}
        Some(kind) => return Err(unfit(table, format!("is a {kind}, not a table; choose another name"))),
    }
    let shape = [[ColumnType::Text; 2].as_slice(), &[ColumnType::Integer; 4]].concat();
    let columns = ask(catalog.columns, &shape);
    let columns = within(START_UP_PATIENCE, E::fetch(connection, &columns)).await?;
    let columns: Vec<_> = columns.iter().map(found).collect();
    let mut statements = missing_columns(dialect, table, &columns)?;
    if statements.is_empty() {
        let indexed = ask(catalog.indexes, &[ColumnType::Text]);
        let indexed = within(START_UP_PATIENCE, E::fetch(connection, &indexed)).await?;
        let indexed: Vec<_> = indexed.iter().map(|cells| text(cells, 0)).collect();
        statements = missing_indexes(dialect, table, &indexed);
    }
    Ok(statements)
}

fn found(cells: &Cells) -> Found {
    let flag = |n: usize| matches!(cells.get(n), Some(Some(Value::Integer(1..))));
    Found {
        name: text(cells, 0),
        declared: text(cells, 1),
        not_null: flag(2),
        has_default: flag(3),
        is_generated: flag(4),
        is_key: flag(5),
    }
}

fn text(cells: &Cells, n: usize) -> String {
    match cells.get(n) {
        Some(Some(Value::Text(text))) => text.clone(),
        _ => String::new(),
    }
}

fn create(dialect: &Dialect, table: &Table) -> String {
    let catalog = &dialect.catalog;
    let columns: Vec<_> = wanted(table)
        .iter()
        .map(|column| {
            let name = dialect.quoted(column.name);
            match column.kind {
                Kind::Key => format!("{name} {} NOT NULL PRIMARY KEY", catalog.key_type),
                Kind::State | Kind::Mandatory => {
                    format!("{name} {} NOT NULL", (catalog.column_type)(column.ty))
                }
                Kind::Nullable => format!("{name} {}", (catalog.column_type)(column.ty)),
            }
        })
        .collect();
    let name = dialect.quoted(&table.name);
    format!("CREATE TABLE {name} ({}){}", columns.join(", "), catalog.table_options)
}

fn missing_columns(dialect: &Dialect, table: &Table, found: &[Found]) -> Result<Vec<String>, Failure> {
    let wanted = wanted(table);
    let is = |one: &str, other: &str| {
        one == other || !dialect.catalog.names_have_case && one.to_lowercase() == other.to_lowercase()
    };
    let mut statements = Vec::new();
    for column in &wanted {
        let name = column.name;
        match found.iter().find(|found| is(&found.name, name)) {
            Some(there) => fits(dialect, table, column, there, found)?,
            None if column.kind == Kind::Nullable => statements.push(format!(
                "ALTER TABLE {} ADD COLUMN {} {}",
                dialect.quoted(&table.name),
                dialect.quoted(name),
                (dialect.catalog.column_type)(column.ty)
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
        let is_ours = wanted.iter().any(|column| is(column.name, &other.name));
        if !is_ours && other.not_null && !other.has_default && !other.is_generated {
            let reason =
                format!("has a column {:?} that new rows have no value for; give it a default", other.name);
            return Err(unfit(table, reason));
        }
    }
    Ok(statements)
}

fn fits(
    dialect: &Dialect,
    table: &Table,
    wanted: &Wanted<'_>,
    found: &Found,
    all: &[Found],
) -> Result<(), Failure> {
    let name = wanted.name;
    let catalog = &dialect.catalog;
    let expected = if wanted.kind == Kind::Key { catalog.key_type } else { (catalog.column_type)(wanted.ty) };
    if (catalog.holds)(&found.declared, wanted.kind) != Some(wanted.ty) {
        let declared = &found.declared;
        return Err(unfit(
            table,
            format!(
                "has a column {name:?} declared {declared} where {expected} is needed; rename or convert it"
            ),
        ));
    }
    let is_key = found.is_key && all.iter().filter(|column| column.is_key).count() == 1;
    let reason = match wanted.kind {
        _ if found.is_generated => "is generated and cannot be written",
        Kind::Key if !is_key => "must be its primary key",
        Kind::State | Kind::Mandatory | Kind::Nullable if found.is_key => {
            "must not be part of its primary key"
        }
        Kind::Nullable if found.not_null => "must be allowed to be NULL",
        Kind::Key | Kind::State | Kind::Mandatory | Kind::Nullable => return Ok(()),
    };
    Err(unfit(table, format!("has a column {name:?} that {reason}")))
}

fn missing_indexes(dialect: &Dialect, table: &Table, indexed: &[String]) -> Vec<String> {
    let catalog = &dialect.catalog;
    let projected = table.projected.iter().filter(|column| column.index);
    [(&table.expiration, ColumnType::Integer)]
        .into_iter()
        .chain(table.user.iter().chain(projected).map(|column| (&column.name, column.ty)))
        // Any index that begins with the column serves, whoever made it and under whatever name.
        .filter(|(name, _)| !indexed.iter().any(|there| there.to_lowercase() == name.to_lowercase()))
        .map(|(name, ty)| (catalog.create_index)(&dialect.quoted(&table.name), &dialect.quoted(name), ty))
        .collect()
}

fn unfit(table: &Table, reason: String) -> Failure {
    Failure::Unfit { table: table.name.clone(), reason }
}
