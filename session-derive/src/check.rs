//! Turns the struct as it was written into a bag that cannot be invalid, or reports every mistake in it.

mod accessors;
mod columns;
mod cookie;
mod fields;
mod lifetime;
mod names;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{GenericParam, LitInt, LitStr, Type};

use self::accessors::check_accessors;
use self::columns::{check_columns, check_table};
use self::cookie::check_cookie;
use self::fields::check_fields;
use self::lifetime::check_lifetime;
pub(crate) use self::names::{CASES, Case};
use crate::ast::Input;
use crate::attr::{Attributes, Entry, StructAttrs, WordOr};
use crate::errors::{Errors, listed, nearest};
use crate::model::{Bag, Codec};

/// Checks everything that can be checked without knowing types.
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
        max_per_user,
        codec,
        rename_all,
        version,
        accessors: _,
        krate: _,
    } = &input.attrs;

    refuse_lifetimes(input, errors);
    if let Some(name) = name.value()
        && name.value().is_empty()
    {
        errors.push(name, "`name` is empty", format_args!("write `name = \"{}\"`", input.ident));
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
    let codec = check_codec(codec, errors);
    let case = choose("rename_all", rename_all, &CASES, errors).unwrap_or(Case::Snake);
    let version = check_number(version, 0, errors).unwrap_or(0);
    let columns = check_columns(input, columns.value(), errors);
    refuse_twins(input, errors);
    let fields = check_fields(input, case, errors);
    check_accessors(input, errors);
    Bag {
        input,
        codec,
        name: name.text().unwrap_or_else(|| input.ident.unraw().to_string()),
        table: table.text().unwrap_or_else(|| "sessions".to_owned()),
        columns,
        cookie,
        lifetime,
        max_per_user,
        version,
        fields,
    }
}

fn refuse_lifetimes(input: &Input<'_>, errors: &Errors) {
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

fn refuse_twins(input: &Input<'_>, errors: &Errors) {
    for key in ["user_id", "ip_addr"] {
        let marked: Vec<_> =
            input.fields.iter().filter_map(|field| Some((field, field.attrs.key(key)?))).collect();
        let [(first, _), others @ ..] = marked.as_slice() else { continue };
        for (_, at) in others {
            errors.push(
                at,
                format_args!("`{key}` marks two fields"),
                format_args!("`{}` has it already; remove one of the two", first.ident),
            );
        }
    }
}

fn check_number(number: &Entry<LitInt>, least: u32, errors: &Errors) -> Option<u32> {
    let (key, value) = (number.key()?, number.value()?);
    match value.base10_parse::<u32>() {
        Ok(number) if number >= least => Some(number),
        _ => {
            errors.push(
                value,
                format_args!("`{key}` must be from {least} to {}", u32::MAX),
                format_args!("write `{key} = 5`, or leave it out"),
            );
            None
        }
    }
}

/// Finds the meaning of a word that must be one of a few.
pub(crate) fn choose<T: Copy>(
    key: &str,
    word: &Entry<LitStr>,
    choices: &[(&'static str, T)],
    errors: &Errors,
) -> Option<T> {
    choose_word(key, word.value()?, choices, "", errors)
}

fn choose_word<T: Copy>(
    key: &str,
    word: &LitStr,
    choices: &[(&'static str, T)],
    otherwise: &str,
    errors: &Errors,
) -> Option<T> {
    let written = word.value();
    let found = choices.iter().find(|(choice, _)| *choice == written);
    if found.is_none() {
        let words: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        let values = format!("its values are {}{otherwise}", listed(&words));
        let message = format!("`{written}` is no value of `{key}`");
        match nearest(&written, &words) {
            Some(meant) => errors.push(word, message, format_args!("write `{key} = \"{meant}\"`; {values}")),
            None => errors.push(word, message, values),
        }
    }
    found.map(|(_, choice)| *choice)
}

/// Refuses a word that stands without its quotes, and so would name something of the user's.
fn refuse_unquoted<T>(key: &str, own: impl ToTokens, choices: &[(&'static str, T)], errors: &Errors) {
    let written = own.to_token_stream().to_string();
    if choices.iter().any(|(choice, _)| *choice == written) {
        errors.push(
            own,
            format_args!("`{written}` has no quotes"),
            format_args!(
                "write `{key} = \"{written}\"`; or, for something of yours, `{key} = self::{written}`"
            ),
        );
    }
}

fn check_codec<'a>(codec: &'a Entry<WordOr<Type>>, errors: &Errors) -> Codec<'a> {
    #[derive(Clone, Copy)]
    enum Known {
        Bincode,
        Json,
    }
    let choices = [("bincode", Known::Bincode), ("json", Known::Json)];
    match codec.value() {
        Some(WordOr::Own(ty)) => {
            refuse_unquoted("codec", ty, &choices, errors);
            Codec::Own(ty)
        }
        Some(WordOr::Word(word)) => {
            let otherwise = ", and the path of a type that implements `Codec`, without quotes";
            match choose_word("codec", word, &choices, otherwise, errors) {
                Some(Known::Json) => Codec::Json,
                Some(Known::Bincode) | None => Codec::Bincode,
            }
        }
        None => Codec::Bincode,
    }
}

/// A type as its user would write it.
fn shown(ty: &Type) -> String {
    let spaced = ty.to_token_stream().to_string();
    [(" < ", "<"), (" > ", ">"), (" >", ">"), (" :: ", "::"), (" , ", ", "), ("& ", "&")]
        .iter()
        .fold(spaced, |shown, (from, to)| shown.replace(from, to))
}
