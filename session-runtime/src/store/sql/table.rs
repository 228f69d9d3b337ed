//! The table of a bag: created if it is missing, completed if it lacks columns or indexes, refused if it does not fit.
//!
//! What the database says of the table goes in; the statements that it still needs come out.

use super::dialect::{Catalog, Dialect, MaxLength};
use super::{Cells, ColumnRole, Mismatch, RequiredColumn, required_columns};
use crate::store::Table;
#[cfg(feature = "admin")]
use crate::store::{Survey, TableColumn};
use crate::value::{ColumnType, Value};

/// Compares a table with its required columns and indexes.
///
/// The caller answers each [`question`](Self::question) until there is none, and runs the
/// [`statements`](Self::into_statements). While the table or a column is missing there is no question about indexes,
/// so the caller checks once more after that.
pub(in crate::store) struct TableCheck<'a> {
    dialect: &'static Dialect,
    table: &'a Table,
    subject: String,
    /// What is asked next; `None` once it is known what the table needs.
    next: Option<Topic>,
    statements: Vec<String>,
    limits: Limits,
}

/// What a question is about.
enum Topic {
    Kind,
    Columns,
    Indexes,
}

/// The columns that hold only short values, by name.
pub(in crate::store) type Limits = Vec<(String, MaxLength)>;

/// A query of the database's catalog.
pub(in crate::store) struct Question<'a> {
    pub(in crate::store) sql: &'static str,
    /// The value of its only parameter.
    pub(in crate::store) subject: &'a str,
    /// The types of the cells of a row.
    pub(in crate::store) types: &'static [ColumnType],
}

const NAME: &[ColumnType] = &[ColumnType::Text];
const COLUMN: &[ColumnType] = &[
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Integer,
    ColumnType::Integer,
    ColumnType::Integer,
    ColumnType::Integer,
];

impl<'a> TableCheck<'a> {
    pub(in crate::store) fn new(dialect: &'static Dialect, table: &'a Table) -> Result<Self, Mismatch> {
        check_name_lengths(dialect, table)?;
        let subject = (dialect.catalog.subject)(&table.name, &dialect.quoted(&table.name));
        let (next, statements, limits) = (Some(Topic::Kind), Vec::new(), Limits::new());
        Ok(Self { dialect, table, subject, next, statements, limits })
    }

    /// Returns the next query to answer; `None` once it is known what the table needs.
    pub(in crate::store) fn question(&self) -> Option<Question<'_>> {
        let Catalog { kind, columns, indexes, .. } = self.dialect.catalog;
        let (sql, types) = match self.next.as_ref()? {
            Topic::Kind => (kind, NAME),
            Topic::Columns => (columns, COLUMN),
            Topic::Indexes => (indexes, NAME),
        };
        Some(Question { sql, subject: &self.subject, types })
    }

    /// Takes the rows that the database returned for the question.
    pub(in crate::store) fn answer(&mut self, rows: &[Cells]) -> Result<(), Mismatch> {
        let (dialect, table) = (self.dialect, self.table);
        let first_cells = || rows.iter().map(|cells| text(cells, 0));
        match self.next.take() {
            Some(Topic::Kind) => match first_cells().next().as_deref() {
                None => self.statements = vec![create(dialect, table)],
                Some("table") => self.next = Some(Topic::Columns),
                Some(kind) => {
                    let reason = format!("is a {kind}, not a table; choose another name");
                    return Err(Mismatch::table(table, reason));
                }
            },
            Some(Topic::Columns) => {
                let existing: Vec<_> = rows.iter().map(existing_column).collect();
                self.limits = limits(dialect, table, &existing);
                self.statements = missing_columns(dialect, table, &existing)?;
                self.next = self.statements.is_empty().then_some(Topic::Indexes);
            }
            Some(Topic::Indexes) => {
                self.statements = missing_indexes(dialect, table, &first_cells().collect::<Vec<_>>());
            }
            None => {}
        }
        Ok(())
    }

    /// Returns the columns that hold only short values.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres")),
        expect(dead_code, reason = "SQLite has no limit")
    )]
    pub(in crate::store) fn take_limits(&mut self) -> Limits {
        std::mem::take(&mut self.limits)
    }

    /// Returns the statements that bring the table nearer to what it must be. None if it lacks nothing.
    pub(in crate::store) fn into_statements(self) -> Vec<String> {
        self.statements
    }
}

/// The queries that a survey of a table makes, and what their rows say.
#[cfg(feature = "admin")]
pub(in crate::store) struct TableSurvey<'a> {
    dialect: &'static Dialect,
    wanted: &'a Table,
    subject: String,
}

#[cfg(feature = "admin")]
impl<'a> TableSurvey<'a> {
    /// `wanted` has the names of the columns that have a role, the user's and the address's included.
    pub(in crate::store) fn new(dialect: &'static Dialect, wanted: &'a Table) -> Self {
        let subject = (dialect.catalog.subject)(&wanted.name, &dialect.quoted(&wanted.name));
        Self { dialect, wanted, subject }
    }

    /// Asks whether there is such a table: then it has a row.
    pub(in crate::store) fn kind(&self) -> Question<'_> {
        Question { sql: self.dialect.catalog.kind, subject: &self.subject, types: NAME }
    }

    pub(in crate::store) fn columns(&self) -> Question<'_> {
        Question { sql: self.dialect.catalog.columns, subject: &self.subject, types: COLUMN }
    }

    /// Returns the table as a bag could have declared it: without the columns that no bag can have.
    pub(in crate::store) fn answer(&self, owner: Option<String>, columns: &[Cells]) -> Survey {
        let Catalog { is_same_name: is_same, holds, .. } = self.dialect.catalog;
        let existing: Vec<_> = columns.iter().map(existing_column).collect();
        let held = |name: &str, role| {
            let column = existing.iter().find(|column| is_same(&column.name, name))?;
            holds(&column.declared, role)
        };
        let mut table = self.wanted.clone();
        table.state_is_text = held(&table.state, ColumnRole::State) == Some(ColumnType::Text);
        table.user = table
            .user
            .and_then(|user| Some(TableColumn { ty: held(&user.name, ColumnRole::Nullable)?, ..user }));
        // A blind address is a column as any other.
        table.ip = table.ip.filter(|ip| held(ip, ColumnRole::Nullable) == Some(ColumnType::Text));
        let with_role: Vec<String> = required_columns(&table).map(|column| column.name.to_owned()).collect();
        table.projected = existing
            .iter()
            .filter(|column| !with_role.iter().any(|role| is_same(role, &column.name)))
            .filter(|column| !column.not_null && !column.is_generated && !column.is_key)
            .filter_map(|column| {
                Some(TableColumn::new(&*column.name, holds(&column.declared, ColumnRole::Nullable)?))
            })
            .collect();
        let missing = required_columns(self.wanted)
            .filter(|column| column.role != ColumnRole::Nullable)
            .find(|column| !existing.iter().any(|existing| is_same(&existing.name, column.name)))
            .map(|column| column.name.to_owned());
        Survey { owner, table: Some(table), missing }
    }
}

/// Some servers silently cut off a name that is too long, and two names that differ only at the end become one.
fn check_name_lengths(dialect: &Dialect, table: &Table) -> Result<(), Mismatch> {
    if table.name.contains('.') {
        let reason = "has a dot in its name, which would be part of the name and not separate a schema from it; \
                      name the table alone, and its schema or database in the URL";
        return Err(Mismatch::table(table, reason));
    }
    let max = dialect.max_name_length;
    let names = required_columns(table).map(|column| column.name);
    match std::iter::once(table.name.as_str()).chain(names).find(|name| (dialect.name_length)(name) > max) {
        Some(name) => {
            Err(Mismatch::table(table, format!("needs the name {name:?}, which is longer than {max}")))
        }
        None => Ok(()),
    }
}

/// A column that the table has.
#[expect(clippy::struct_excessive_bools, reason = "a catalog answers with yes or no")]
struct ExistingColumn {
    name: String,
    declared: String,
    not_null: bool,
    has_default: bool,
    is_generated: bool,
    is_key: bool,
}

fn existing_column(cells: &Cells) -> ExistingColumn {
    let flag = |n: usize| matches!(cells.get(n), Some(Some(Value::Integer(1..))));
    ExistingColumn {
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
    let columns: Vec<_> = required_columns(table)
        .map(|column| {
            let constraint = match column.role {
                ColumnRole::Key => " NOT NULL PRIMARY KEY",
                ColumnRole::State | ColumnRole::Mandatory => " NOT NULL",
                ColumnRole::Nullable => "",
            };
            format!("{} {}{constraint}", dialect.quoted(column.name), column_type(dialect, column))
        })
        .collect();
    let name = dialect.quoted(&table.name);
    format!("CREATE TABLE {name} ({}){}", columns.join(", "), dialect.catalog.table_options)
}

fn column_type(dialect: &Dialect, column: RequiredColumn<'_>) -> &'static str {
    match column.role {
        ColumnRole::Key => dialect.catalog.key_type,
        _ => (dialect.catalog.column_type)(column.ty),
    }
}

fn missing_columns(
    dialect: &Dialect,
    table: &Table,
    existing: &[ExistingColumn],
) -> Result<Vec<String>, Mismatch> {
    let is_same = dialect.catalog.is_same_name;
    let mut statements = Vec::new();
    for column in required_columns(table) {
        let name = column.name;
        match existing.iter().find(|existing| is_same(&existing.name, name)) {
            Some(existing) => check_column(dialect, table, column, existing)?,
            None if column.role == ColumnRole::Nullable => statements.push(format!(
                "ALTER TABLE {} ADD COLUMN {} {}",
                dialect.quoted(&table.name),
                dialect.quoted(name),
                column_type(dialect, column)
            )),
            None => {
                let reason = format!(
                    "has no column {name:?}, and its rows would need a value for it; \
                     name another table, or the column that takes its place"
                );
                return Err(Mismatch::table(table, reason));
            }
        }
    }
    for other in existing {
        if required_columns(table).any(|column| is_same(column.name, &other.name)) {
            continue;
        }
        let name = &other.name;
        if other.is_key {
            let reason =
                format!("has a column {name:?} in its primary key, which must be {:?} alone", table.id);
            return Err(Mismatch::table(table, reason));
        }
        if other.not_null && !other.has_default && !other.is_generated {
            let reason = format!("has a column {name:?} that new rows have no value for; give it a default");
            return Err(Mismatch::table(table, reason));
        }
    }
    Ok(statements)
}

fn limits(dialect: &Dialect, table: &Table, existing: &[ExistingColumn]) -> Limits {
    let Catalog { is_same_name, max_length, .. } = dialect.catalog;
    let limit = |column: RequiredColumn<'_>| {
        let existing = existing.iter().find(|existing| is_same_name(&existing.name, column.name))?;
        Some((column.name.to_owned(), max_length(&existing.declared)?))
    };
    required_columns(table).filter_map(limit).collect()
}

fn check_column(
    dialect: &Dialect,
    table: &Table,
    required: RequiredColumn<'_>,
    existing: &ExistingColumn,
) -> Result<(), Mismatch> {
    let name = required.name;
    if (dialect.catalog.holds)(&existing.declared, required.role) != Some(required.ty) {
        let needed = column_type(dialect, required);
        let declared = match existing.declared.as_str() {
            "" => "without a type",
            declared => declared,
        };
        let reason = format!(
            "has a column {name:?} declared {declared} where {needed} is needed; rename or convert it"
        );
        return Err(Mismatch::table(table, reason));
    }
    let reason = match required.role {
        _ if existing.is_generated => "is generated and cannot be written",
        ColumnRole::Key if !existing.is_key => "must be its primary key",
        ColumnRole::State | ColumnRole::Mandatory | ColumnRole::Nullable if existing.is_key => {
            "must not be part of its primary key"
        }
        ColumnRole::Nullable if existing.not_null => "must be allowed to be NULL",
        _ => return Ok(()),
    };
    Err(Mismatch::table(table, format!("has a column {name:?} that {reason}")))
}

fn missing_indexes(dialect: &Dialect, table: &Table, indexed: &[String]) -> Vec<String> {
    let Catalog { is_same_name, create_index, .. } = dialect.catalog;
    let projected = table.projected.iter().filter(|column| column.index);
    [(&table.expiration, ColumnType::Integer)]
        .into_iter()
        .chain(table.user.iter().chain(projected).map(|column| (&column.name, column.ty)))
        // Any index that begins with the column serves, whatever its name and its origin.
        .filter(|(column, _)| !indexed.iter().any(|indexed| is_same_name(indexed, column)))
        .map(|(column, ty)| {
            let index = dialect.quoted(&format!("{}.{column}", table.name));
            create_index(&index, &dialect.quoted(&table.name), &dialect.quoted(column), ty)
        })
        .collect()
}
