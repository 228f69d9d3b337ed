//! Checks the fields: what their attributes say together, and what they say of their types.

use syn::{Path, Type};

use super::columns::column_name;
use super::names::{Case, Names};
use super::{choose, choose_word, refuse_unquoted, shown};
use crate::ast::{self, Input, inside, is_named};
use crate::attr::{Attributes, ColumnName, Entry, FieldAttrs, WordOr};
use crate::errors::Errors;
use crate::model::{Bind, Field, Merge, Policy, Role, Stored};

/// Attributes of a field that exclude each other, and why. The second is the one at fault.
const CONFLICTS: [(&str, &str, &str); 32] = [
    (
        "user_id",
        "ip_addr",
        "the user and the address are two fields; write `#[databag(ip_addr)] ip_addr: Option<IpAddr>`",
    ),
    (
        "user_id",
        "column",
        "the user has a column already; its name is set on the struct: `columns(user_id = \"..\")`",
    ),
    (
        "ip_addr",
        "column",
        "the address has a column already; its name is set on the struct: `columns(ip_addr = \"..\")`",
    ),
    ("user_id", "flash", "a user stays until the log-out; remove `flash`"),
    ("ip_addr", "flash", "the address stays as long as the session; remove `flash`"),
    ("flash", "column", "a flash is gone before a query could find it; remove `column` or `flash`"),
    ("user_id", "default", "a new session has no user; remove `default`"),
    ("ip_addr", "default", "the address is filled from the connection; remove `default`"),
    ("user_id", "keep_on_logout", "a log-out removes the user; remove `keep_on_logout`"),
    ("ip_addr", "keep_on_logout", "the address is filled from the connection; remove `keep_on_logout`"),
    ("user_id", "reset_on_login", "a log-in sets the user; remove `reset_on_login`"),
    ("ip_addr", "reset_on_login", "the address is filled from the connection; remove `reset_on_login`"),
    ("user_id", "merge", "users are not merged; remove `merge`"),
    ("ip_addr", "merge", "the address is filled from the connection; remove `merge`"),
    (
        "secret",
        "column",
        "a column is stored in the clear; remove `column`, or keep the field secret by leaving it in the record",
    ),
    ("secret", "user_id", "the user's column is stored in the clear; remove `secret`"),
    ("secret", "ip_addr", "the address's column is stored in the clear; remove `secret`"),
    (
        "with",
        "column",
        "a column holds the value itself, not what `with` makes of it; remove `column` or `with`",
    ),
    (
        "with",
        "user_id",
        "the user's column holds the value itself, not what `with` makes of it; remove `with`",
    ),
    (
        "with",
        "ip_addr",
        "the address's column holds the value itself, not what `with` makes of it; remove `with`",
    ),
    (
        "with",
        "merge",
        "what `with` makes of a field is merged as a whole, the later writer's; remove `merge`",
    ),
    ("skip", "user_id", SKIPPED),
    ("skip", "ip_addr", SKIPPED),
    ("skip", "column", SKIPPED),
    ("skip", "flash", SKIPPED),
    ("skip", "rename", SKIPPED),
    ("skip", "alias", SKIPPED),
    ("skip", "from", SKIPPED),
    ("skip", "with", SKIPPED),
    ("skip", "merge", SKIPPED),
    ("skip", "keep_on_logout", SKIPPED),
    ("skip", "reset_on_login", SKIPPED),
];
const SKIPPED: &str = "a skipped field lives for one request and is never stored; remove one of the two";

/// Attributes of a field that mean nothing alone.
const REQUIREMENTS: [(&str, &str, &str); 2] = [
    ("index", "column", "write `column, index`; the user's column has an index anyway"),
    ("bind", "ip_addr", "write `ip_addr, bind = \"..\"` on the field of the address"),
];

pub(super) fn check_fields<'a>(input: &'a Input<'a>, case: Case, errors: &Errors) -> Vec<Field<'a>> {
    let mut names = Names::default();
    input.fields.iter().map(|field| check_field(field, case, &mut names, errors)).collect()
}

fn check_field<'a>(field: &'a ast::Field<'a>, case: Case, names: &mut Names, errors: &Errors) -> Field<'a> {
    let FieldAttrs {
        user_id,
        ip_addr: _,
        bind: _,
        column: _,
        index: _,
        flash,
        default,
        rename,
        alias,
        from,
        merge,
        with,
        skip,
        secret,
        keep_on_logout,
        reset_on_login,
        accessor: _,
        accessors: _,
    } = &field.attrs;

    check_combinations(&field.attrs, errors);
    if !skip.is_given() {
        refuse_borrowed(field, errors);
    }
    if !user_id.is_given() && flash.is_given() && inside(field.ty, "Option").is_none() {
        errors.push(
            field.ty,
            "`flash` needs an `Option`",
            format_args!(
                "write `{}: Option<{}>`: the next request takes the value away",
                field.ident,
                shown(field.ty)
            ),
        );
    }
    let from = from.value();
    if let Some(from) = from
        && shown(from) == shown(field.ty)
    {
        errors.push(
            from,
            "`from` names the field's own type",
            "write the type it was stored as before, or remove `from`",
        );
    }
    let stored = (!skip.is_given()).then(|| Stored {
        name: names.add_field(field.ident, rename.value(), case, errors),
        aliases: alias.values().map(|alias| names.add_alias(field.ident, alias, errors)).collect(),
        role: check_role(field, errors),
        from,
        with: with.value(),
        merge: check_merge(merge, errors),
        flash: flash.is_given(),
        keep_on_logout: keep_on_logout.is_given(),
        reset_on_login: reset_on_login.is_given(),
    });
    let ast::Field { ident, ty, at, .. } = *field;
    Field { ident, ty, at, default: default.value(), secret: secret.is_given(), stored }
}

fn check_combinations(attrs: &FieldAttrs, errors: &Errors) {
    for (one, other, help) in CONFLICTS {
        if attrs.key(one).is_some()
            && let Some(at) = attrs.key(other)
        {
            errors.push(at, format_args!("`{one}` cannot be combined with `{other}`"), help);
        }
    }
    for (one, other, help) in REQUIREMENTS {
        if let Some(at) = attrs.key(one)
            && attrs.key(other).is_none()
        {
            errors.push(at, format_args!("`{one}` needs `{other}`"), help);
        }
    }
}

fn check_merge<'a>(merge: &'a Entry<WordOr<Path>>, errors: &Errors) -> Merge<'a> {
    const POLICIES: [(&str, Policy); 7] = [
        ("last", Policy::Last),
        ("entries", Policy::Entries),
        ("append", Policy::Append),
        ("sum", Policy::Sum),
        ("max", Policy::Max),
        ("min", Policy::Min),
        ("reject", Policy::Reject),
    ];
    match merge.value() {
        None => Merge::Unsaid,
        Some(WordOr::Own(function)) => {
            refuse_unquoted("merge", function, &POLICIES, errors);
            Merge::Function(function)
        }
        Some(WordOr::Word(word)) => {
            let otherwise = ", and the path of a function, without quotes";
            choose_word("merge", word, &POLICIES, otherwise, errors).map_or(Merge::Unsaid, Merge::Known)
        }
    }
}

fn refuse_borrowed(field: &ast::Field<'_>, errors: &Errors) {
    let ty = inside(field.ty, "Option").unwrap_or(field.ty);
    if let Type::Reference(reference) = ty {
        let owned = match &*reference.elem {
            ty if is_named(ty, &["str"]) => "String".to_owned(),
            Type::Slice(slice) => format!("Vec<{}>", shown(&slice.elem)),
            ty => shown(ty),
        };
        errors.push(
            ty,
            "a databag cannot borrow",
            format_args!("a session outlives the request: write `{owned}`"),
        );
    }
}

fn check_role<'a>(field: &'a ast::Field<'a>, errors: &Errors) -> Role<'a> {
    let ident = field.ident;
    let optional = inside(field.ty, "Option");
    if field.attrs.user_id.is_given() {
        if optional.is_none() {
            errors.push(
                field.ty,
                "the user is an `Option`: nobody is signed in at first",
                format_args!("write `{ident}: Option<{}>`", shown(field.ty)),
            );
        }
        return Role::User(optional.unwrap_or(field.ty));
    }
    if field.attrs.ip_addr.is_given() {
        if !optional.is_some_and(|ty| is_named(ty, &["IpAddr"])) {
            errors.push(
                field.ty,
                "the address is an `Option<IpAddr>`: it is not always known",
                format_args!("write `{ident}: Option<std::net::IpAddr>`"),
            );
        }
        let binds = [("exact", Bind::Exact), ("prefix", Bind::Prefix), ("off", Bind::Off)];
        return Role::Ip(choose("bind", &field.attrs.bind, &binds, errors).unwrap_or(Bind::Exact));
    }
    match field.attrs.column.value() {
        Some(ColumnName(literal)) => {
            Role::Column { name: column_name(ident, literal.as_ref()), index: field.attrs.index.is_given() }
        }
        None => Role::Plain,
    }
}
