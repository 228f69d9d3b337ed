//! Checks names in SQL: every database must accept them, and no name may stand for two columns.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, LitStr};

use crate::ast::Input;
use crate::attr::{ColumnName, ColumnNames, Entry};
use crate::errors::Errors;
use crate::model::Columns;

// PostgreSQL cuts longer names off; MySQL takes 64 characters.
const SQL_NAME_LIMIT: usize = 63;

// The system columns of every table in PostgreSQL.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

pub(super) fn check_table(literal: &LitStr, errors: &Errors) {
    let name = literal.value();
    check_sql_name("table", literal, &name, errors);
    if name.to_ascii_lowercase().starts_with("sqlite_") {
        errors.push(
            literal,
            "SQLite reserves names that start with `sqlite_`",
            format_args!("write `table = \"{}\"`", &name["sqlite_".len()..]),
        );
    }
    if name.eq_ignore_ascii_case("databag_owners") {
        errors.push(
            literal,
            "`databag_owners` is the table in which the store notes whose tables are whose",
            "write another name, or remove the attribute: the default is `sessions`",
        );
    }
}

fn check_sql_name(what: &str, at: impl ToTokens, name: &str, errors: &Errors) {
    if name.is_empty() {
        errors.push(at, format_args!("the {what} name is empty"), "write a name, or remove the attribute");
    } else if name.len() > SQL_NAME_LIMIT {
        errors.push(
            at,
            format_args!("the {what} name has {} bytes", name.len()),
            format_args!("PostgreSQL cuts names off after {SQL_NAME_LIMIT} bytes; write a shorter name"),
        );
    } else if name.contains('\0') {
        errors.push(
            at,
            format_args!("the {what} name contains a NUL"),
            format_args!("write `\"{}\"`", name.replace('\0', "")),
        );
    }
}

pub(super) fn check_columns(input: &Input<'_>, given: Option<&ColumnNames>, errors: &Errors) -> Columns {
    let unnamed = ColumnNames::default();
    let ColumnNames { id, state, user_id, ip_addr, created, expiration, revision } =
        given.unwrap_or(&unnamed);
    let own = [
        ("id", id),
        ("state", state),
        ("user_id", user_id),
        ("ip_addr", ip_addr),
        ("created", created),
        ("expiration", expiration),
        ("revision", revision),
    ];
    let owner = |column: &str| format!("the runtime's `{column}` column");
    let left_out = own.iter().filter(|(_, name)| !name.is_given());
    let mut taken: Vec<_> = left_out.map(|(column, _)| ((*column).to_owned(), owner(column))).collect();
    for (column, name) in own {
        if let Some(literal) = name.value() {
            take_column(&mut taken, literal, &literal.value(), owner(column), errors);
        }
    }
    for field in &input.fields {
        let (Some(key), Some(ColumnName(literal))) = (field.attrs.column.key(), field.attrs.column.value())
        else {
            continue;
        };
        let at = literal.as_ref().map_or(key.to_token_stream(), LitStr::to_token_stream);
        let name = column_name(field.ident, literal.as_ref());
        take_column(&mut taken, at, &name, format!("the field `{}`", field.ident), errors);
    }

    let name = |default: &str, name: &Entry<LitStr>| name.text().unwrap_or_else(|| default.to_owned());
    Columns {
        id: name("id", id),
        state: name("state", state),
        user_id: name("user_id", user_id),
        ip_addr: name("ip_addr", ip_addr),
        created: name("created", created),
        expiration: name("expiration", expiration),
        revision: name("revision", revision),
    }
}

/// Notes that a column belongs to `owner`, and reports a name that is taken. Names in SQL ignore case.
fn take_column(
    taken: &mut Vec<(String, String)>,
    at: impl ToTokens,
    name: &str,
    owner: String,
    errors: &Errors,
) {
    check_sql_name("column", &at, name, errors);
    let lower = name.to_lowercase();
    if SYSTEM_COLUMNS.contains(&lower.as_str()) {
        errors.push(
            at,
            format_args!("PostgreSQL has a column `{lower}` in every table"),
            format_args!("write another name, such as `\"{lower}_2\"`"),
        );
    } else if let Some((_, other)) = taken.iter().find(|(other, _)| *other == lower) {
        errors.push(
            at,
            format_args!("the column name `{name}` is taken by {other}"),
            format_args!("names in SQL ignore case; write another name, such as `\"{lower}_2\"`"),
        );
    }
    taken.push((lower, owner));
}

pub(super) fn column_name(ident: &Ident, literal: Option<&LitStr>) -> String {
    literal.map_or_else(|| ident.unraw().to_string(), LitStr::value)
}
