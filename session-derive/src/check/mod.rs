//! Turns the struct as it was written into a bag that cannot be invalid, or reports every mistake in it.

mod accessors;
mod choice;
mod columns;
mod combinations;
mod cookie;
mod fields;
mod lifetime;
mod names;

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::{GenericParam, Ident, LitStr, Type};

use self::accessors::check_accessors;
pub(crate) use self::choice::choose;
use self::choice::{check_number, choose_word, reject_unquoted};
use self::columns::{check_columns, check_table};
use self::cookie::check_cookie;
use self::fields::check_fields;
use self::lifetime::check_lifetime;
pub(crate) use self::names::{CASES, Case};
use crate::ast::Input;
use crate::attr::{Attributes, Entry, StructAttrs, WordOr};
use crate::errors::Errors;
use crate::model::{Bag, Codec};

/// Checks everything that does not depend on what a type is.
pub(crate) fn check<'a>(input: &'a Input<'a>, errors: Errors) -> Result<Bag<'a>, TokenStream> {
    let bag = check_bag(input, &errors);
    errors.finish(bag)
}

fn check_bag<'a>(input: &'a Input<'a>, errors: &Errors) -> Bag<'a> {
    let StructAttrs {
        name,
        table,
        columns,
        cookie: _,
        path: _,
        domain: _,
        same_site: _,
        secure: _,
        partitioned: _,
        persistence: _,
        idle: _,
        absolute: _,
        remember: _,
        max_per_user,
        codec,
        rename_all,
        version,
        accessors: _,
        krate: _,
    } = &input.attrs;

    reject_lifetimes(input, errors);
    if let Some(name) = name.value() {
        check_name(name, input.ident, errors);
    }
    if let Some(table) = table.value() {
        check_table(table, errors);
    }
    let cookie = check_cookie(&input.attrs, errors);
    let lifetime = check_lifetime(&input.attrs, cookie.persistence, errors);
    if let Some(key) = max_per_user.key()
        && !input.fields.iter().any(|field| field.attrs.user_id.is_given())
    {
        errors.push(
            key,
            "`max_per_user` counts the sessions of a user, and this bag has no user",
            "mark the field that holds the user: `#[databag(user_id)] user_id: Option<i64>`",
        );
    }
    let max_per_user = check_number(max_per_user, 1, errors);
    let codec = check_codec(codec, errors).unwrap_or(Codec::Bincode);
    let case = choose("rename_all", rename_all, &CASES, errors).unwrap_or(Case::Snake);
    let version = check_number(version, 0, errors).unwrap_or(0);
    let columns = check_columns(input, columns.value(), errors);
    reject_duplicates(input, errors);
    let fields = check_fields(input, case, &codec, errors);
    check_accessors(input, errors);
    Bag {
        input,
        codec,
        name: name.text().unwrap_or_else(|| default_name(input.ident)),
        table: table.text().unwrap_or_else(|| "sessions".to_owned()),
        columns,
        cookie,
        lifetime,
        max_per_user,
        version,
        fields,
    }
}

/// Checks the stored identity of a bag. Every store has to hold it, and every sealed session is bound to it.
fn check_name(literal: &LitStr, ident: &Ident, errors: &Errors) {
    const LIMIT: usize = 255;
    let name = literal.value();
    let help = format!("write `name = \"{ident}\"`");
    if name.is_empty() {
        errors.push(literal, "`name` is empty", help);
    } else if name.len() > LIMIT {
        errors.push(literal, format_args!("`name` has {} bytes, of {LIMIT} allowed", name.len()), help);
    } else if name.contains(char::is_control) {
        errors.push(literal, "`name` contains a control character", help);
    }
}

/// Returns the name of a bag that does not write one: two packages may have structs of one name.
fn default_name(ident: &Ident) -> String {
    let ident = ident.unraw();
    // Cargo sets it; without cargo there is only one package.
    match std::env::var("CARGO_PKG_NAME") {
        Ok(package) => format!("{package}/{ident}"),
        Err(_) => ident.to_string(),
    }
}

fn reject_lifetimes(input: &Input<'_>, errors: &Errors) {
    for param in &input.generics.params {
        if let GenericParam::Lifetime(param) = param {
            errors.push(
                &param.lifetime,
                "a databag cannot borrow",
                "a session outlives the request: own the data, `String` for `&str`, `Vec<T>` for `&[T]`",
            );
        }
    }
}

fn reject_duplicates(input: &Input<'_>, errors: &Errors) {
    for key in ["user_id", "ip_addr", "user_agent"] {
        let marked: Vec<_> =
            input.fields.iter().filter_map(|field| Some((field, field.attrs.key(key)?))).collect();
        let [(first, _), others @ ..] = marked.as_slice() else { continue };
        for (_, at) in others {
            errors.push(
                at,
                format_args!("`{key}` marks two fields"),
                format_args!("`{}` is marked already; remove one of the two", first.ident),
            );
        }
    }
}

/// Returns the codec that is named, if one is.
fn check_codec<'a>(codec: &'a Entry<WordOr<Type>>, errors: &Errors) -> Option<Codec<'a>> {
    #[derive(Clone, Copy)]
    enum Known {
        Bincode,
        Json,
    }
    let choices = [("bincode", Known::Bincode), ("json", Known::Json)];
    match codec.value()? {
        WordOr::Own(ty) => {
            reject_unquoted("codec", ty, &choices, errors);
            Some(Codec::Own(ty))
        }
        WordOr::Word(word) => {
            let otherwise = ", or, without quotes, the path of a type that implements `Codec`";
            Some(match choose_word("codec", word, &choices, otherwise, errors)? {
                Known::Json => Codec::Json,
                Known::Bincode => Codec::Bincode,
            })
        }
    }
}
