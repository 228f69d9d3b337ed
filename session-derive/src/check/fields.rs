//! Checks the fields: their attributes, and what these require of the field's type.

use quote::ToTokens;
use syn::{Path, Type};

use super::check_codec;
use super::choice::{choose, choose_word, reject_unquoted};
use super::columns::column_name;
use super::combinations::check_combinations;
use super::lifetime::check_duration;
use super::names::{Case, Names};
use crate::ast::{self, Input, inside, is_named};
use crate::attr::{ColumnName, Entry, FieldAttrs, WordOr};
use crate::errors::Errors;
use crate::model::{Bind, Codec, Field, Merge, Policy, Role, Stored};

/// How long a flow lives that has no `ttl`, in milliseconds.
const DEFAULT_FLOW_TTL: u64 = 10 * 60 * 1000;

pub(super) fn check_fields<'a>(
    input: &'a Input<'a>,
    case: Case,
    codec: &Codec<'a>,
    errors: &Errors,
) -> Vec<Field<'a>> {
    let mut names = Names::default();
    input.fields.iter().map(|field| check_field(field, case, codec, &mut names, errors)).collect()
}

fn check_field<'a>(
    field: &'a ast::Field<'a>,
    case: Case,
    of_bag: &Codec<'a>,
    names: &mut Names,
    errors: &Errors,
) -> Field<'a> {
    let FieldAttrs {
        user_id,
        ip_addr,
        bind: _,
        user_agent,
        column: _,
        index: _,
        blind,
        flash,
        flow,
        ttl,
        default,
        rename,
        alias,
        from,
        merge,
        with,
        codec,
        skip,
        secret,
        keep_on_logout,
        reset_on_login,
        accessor: _,
        accessors: _,
    } = &field.attrs;

    check_combinations(&field.attrs, errors);
    if !skip.is_given() {
        reject_borrowed(field, errors);
    }
    if !user_id.is_given() && flash.is_given() && inside(field.ty, "Option").is_none() {
        errors.push(
            field.ty,
            "`flash` needs an `Option`",
            format_args!(
                "write `{}: Option<{}>`: the value is gone after the next request",
                field.ident,
                shown(field.ty)
            ),
        );
    }
    if user_agent.is_given() && !inside(field.ty, "Option").is_some_and(|ty| is_named(ty, &["String"])) {
        errors.push(
            field.ty,
            "the `user_agent` field must be an `Option<String>`: not every client says what it is",
            format_args!("write `{}: Option<String>`", field.ident),
        );
    }
    let has_ttl = ttl.is_given();
    let ttl = has_ttl.then(|| check_duration("ttl", ttl, "15m", errors)).flatten().map(|(ttl, _)| ttl);
    let flows = inside(field.ty, "Flows");
    check_flow(field, flows.is_some(), errors);
    if has_ttl
        && !flow.is_given()
        && flows.is_none()
        && !skip.is_given()
        && !user_id.is_given()
        && !ip_addr.is_given()
        && !user_agent.is_given()
        && inside(field.ty, "Option").is_none()
    {
        errors.push(
            field.ty,
            "`ttl` needs an `Option`",
            format_args!(
                "write `{}: Option<{}>`: it is `None` when its time has passed",
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
            "write the type as which the field was stored before, or remove `from`",
        );
    }
    let stored = (!skip.is_given()).then(|| Stored {
        name: names.add_field(field.ident, rename.value(), case, errors),
        aliases: alias.values().map(|alias| names.add_alias(field.ident, alias, errors)).collect(),
        role: check_role(field, errors),
        blind: blind.is_given(),
        from,
        with: with.value(),
        codec: check_field_codec(codec, of_bag, errors),
        merge: flows.map_or_else(|| check_merge(merge, errors), Merge::Flows),
        flash: flash.is_given(),
        user_agent: user_agent.is_given(),
        flow: flows.map(|_| ttl.unwrap_or(DEFAULT_FLOW_TTL)),
        ttl: ttl.filter(|_| flows.is_none()),
        keep_on_logout: keep_on_logout.is_given(),
        reset_on_login: reset_on_login.is_given(),
    });
    let ast::Field { ident, ty, at, .. } = *field;
    Field { ident, ty, at, default: default.value(), secret: secret.is_given(), stored }
}

/// Checks that `flow` and the type `Flows` come together: the one tells the macro what the other tells rustc.
fn check_flow(field: &ast::Field<'_>, has_flows: bool, errors: &Errors) {
    let flow = &field.attrs.flow;
    if flow.is_given() && !has_flows {
        errors.push(
            field.ty,
            "`flow` needs the type `Flows`",
            format_args!(
                "write `{}: Flows<{}>`: it keeps any number of them, each under a ticket",
                field.ident,
                shown(field.ty)
            ),
        );
    } else if has_flows && !flow.is_given() && !field.attrs.skip.is_given() {
        errors.push(
            field.ty,
            "a field of `Flows` needs the attribute `flow`",
            format_args!("write `#[databag(flow, ttl = \"10m\")] {}: {}`", field.ident, shown(field.ty)),
        );
    }
}

fn check_field_codec<'a>(
    codec: &'a Entry<WordOr<Type>>,
    of_bag: &Codec<'a>,
    errors: &Errors,
) -> Option<Codec<'a>> {
    let checked = check_codec(codec, errors)?;
    if matches!((&checked, of_bag), (Codec::Bincode, Codec::Json)) {
        errors.push(
            codec.key(),
            "a bag with `codec = \"json\"` holds no `bincode`",
            "remove `codec` from the field: the bag is stored as one JSON object",
        );
    }
    Some(checked)
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
        None => Merge::Default,
        Some(WordOr::Own(function)) => {
            reject_unquoted("merge", function, &POLICIES, errors);
            Merge::Function(function)
        }
        Some(WordOr::Word(word)) => {
            let otherwise = ", or, without quotes, the path of a function";
            choose_word("merge", word, &POLICIES, otherwise, errors).map_or(Merge::Default, Merge::Known)
        }
    }
}

fn reject_borrowed(field: &ast::Field<'_>, errors: &Errors) {
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
                "the `user_id` field must be an `Option`: a new session has no user",
                format_args!("write `{ident}: Option<{}>`", shown(field.ty)),
            );
        }
        return Role::User(optional.unwrap_or(field.ty));
    }
    if field.attrs.ip_addr.is_given() {
        if !optional.is_some_and(|ty| is_named(ty, &["IpAddr"])) {
            errors.push(
                field.ty,
                "the `ip_addr` field must be an `Option<IpAddr>`: the address is not always known",
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

/// Returns a type as a user writes it.
fn shown(ty: &Type) -> String {
    let spaced = ty.to_token_stream().to_string();
    [(" < ", "<"), (" > ", ">"), (" >", ">"), (" :: ", "::"), (" , ", ", "), ("& ", "&")]
        .iter()
        .fold(spaced, |shown, (from, to)| shown.replace(from, to))
}
