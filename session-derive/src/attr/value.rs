//! Values: what follows a key, and the message if something else follows it.

use proc_macro2::TokenTree;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, LitBool, LitInt, LitStr, Path, Token, Type};

use crate::errors::Errors;

/// A key without a value.
pub(crate) struct Flag;

/// `true`, `false`, or the key alone.
#[derive(PartialEq)]
pub(crate) struct Switch(pub(crate) bool);

/// `column`, or `column = ".."`.
pub(crate) struct ColumnName(pub(crate) Option<LitStr>);

/// A word in quotes, or the path of an item of the user's.
pub(crate) enum WordOr<T> {
    Word(LitStr),
    Own(T),
}

/// The value of a key.
pub(crate) trait Value: Sized {
    /// Reads what follows `key`. Returns `None` if a mistake in it was reported.
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self>;
}

impl Value for Flag {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        if input.is_empty() || input.peek(Token![,]) {
            return Some(Self);
        }
        let at =
            if input.parse::<Token![=]>().is_ok() { next_token(input) } else { Some(key.clone().into()) };
        errors.push(at, format_args!("`{key}` takes no value"), format_args!("write `{key}` alone"));
        None
    }
}

impl Value for Switch {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        if input.is_empty() || input.peek(Token![,]) {
            return Some(Self(true));
        }
        assigned::<LitBool>(key, input, errors, "`true` or `false`", "false").map(|value| Self(value.value))
    }
}

impl Value for ColumnName {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        if input.is_empty() || input.peek(Token![,]) {
            return Some(Self(None));
        }
        Value::read(key, input, errors).map(|name| Self(Some(name)))
    }
}

impl Value for LitStr {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        let example = match key.to_string().as_str() {
            "idle" => "\"30m\"",
            "absolute" => "\"12h\"",
            "cookie" => "\"__Host-shop\"",
            "table" => "\"sessions\"",
            "path" => "\"/\"",
            "domain" => "\"example.com\"",
            "same_site" => "\"lax\"",
            "persistence" => "\"persistent\"",
            "rename_all" => "\"camelCase\"",
            "bind" => "\"prefix\"",
            _ => "\"..\"",
        };
        assigned(key, input, errors, "a string", example)
    }
}

impl Value for LitInt {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        assigned(key, input, errors, "a whole number", "5")
    }
}

impl Value for Expr {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        assigned(key, input, errors, "an expression", "..")
    }
}

impl Value for Type {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        assigned(key, input, errors, "a type", "OldType")
    }
}

/// A path, with or without quotes.
impl Value for Path {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        struct Quoted(Path);
        impl Parse for Quoted {
            fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
                if input.peek(LitStr) {
                    return input.parse::<LitStr>()?.parse_with(Path::parse_mod_style).map(Self);
                }
                input.call(Path::parse_mod_style).map(Self)
            }
        }
        let example = if key == "crate" { "path::to::session_runtime" } else { "path::to::module" };
        assigned::<Quoted>(key, input, errors, "a path", example).map(|path| path.0)
    }
}

impl<T: Parse> Value for WordOr<T> {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        struct Either<T>(WordOr<T>);
        impl<T: Parse> Parse for Either<T> {
            fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
                if input.peek(LitStr) {
                    return input.parse().map(WordOr::Word).map(Self);
                }
                input.parse().map(WordOr::Own).map(Self)
            }
        }
        let example = if key == "codec" { "\"json\"" } else { "\"last\"" };
        assigned::<Either<T>>(key, input, errors, "a string or a path", example).map(|either| either.0)
    }
}

/// Reads `= value`.
fn assigned<T: Parse>(
    key: &Ident,
    input: ParseStream<'_>,
    errors: &Errors,
    kind: &str,
    example: &str,
) -> Option<T> {
    let otherwise =
        if key == "default" { ", or remove it: a field's default is `Default::default()`" } else { "" };
    let help = format_args!("write `{key} = {example}`{otherwise}");
    if input.parse::<Token![=]>().is_err() || input.is_empty() || input.peek(Token![,]) {
        errors.push(key, format_args!("`{key}` needs a value: {kind}"), help);
        return None;
    }
    // A fork, because syn fails the whole list after a parser has failed inside brackets.
    let ahead = input.fork();
    match ahead.parse() {
        Ok(value) => {
            input.advance_to(&ahead);
            Some(value)
        }
        Err(_) => {
            errors.push(next_token(input), format_args!("`{key}` takes {kind}"), help);
            None
        }
    }
}

pub(super) fn next_token(input: ParseStream<'_>) -> Option<TokenTree> {
    input.cursor().token_tree().map(|(token, _)| token)
}
