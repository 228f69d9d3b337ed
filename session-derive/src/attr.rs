//! `#[databag(..)]` as it was written: every key with its place and its value, whether it makes sense or not.
//!
//! A mistake in one entry loses no other: parsing goes on behind the next comma.

use proc_macro2::TokenTree;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Attribute, Expr, Ident, LitBool, LitInt, LitStr, Meta, Path, Token, Type, parenthesized};

use crate::errors::{Errors, listed, nearest};

/// A key, and its value. There is none where a mistake in it has been reported.
pub(crate) struct Given<T> {
    pub(crate) key: Ident,
    pub(crate) value: Option<T>,
}

/// A key without a value.
pub(crate) struct Flag;

/// `column`, or `column = ".."`.
pub(crate) struct ColumnName(pub(crate) Option<LitStr>);

/// `true`, `false`, or the key alone.
pub(crate) struct Switch(pub(crate) bool);

/// One of a few words, or something of the user's.
pub(crate) enum WordOr<T> {
    Word(LitStr),
    Own(T),
}

macro_rules! attributes {
    ($(#[$doc:meta])* $name:ident $place:literal { $($key:literal => $field:ident: $slot:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: $slot,)+
        }

        impl Attributes for $name {
            const PLACE: &'static str = $place;
            const KEYS: &'static [&'static str] = &[$($key),+];

            fn slot(&mut self, key: &str) -> Option<&mut dyn Slot> {
                match key {
                    $($key => Some(&mut self.$field),)+
                    _ => None,
                }
            }

            fn key(&self, key: &str) -> Option<&Ident> {
                match key {
                    $($key => self.$field.key(),)+
                    _ => None,
                }
            }
        }
    };
}

attributes! {
    /// What stands above the struct.
    StructAttrs "the struct" {
        "name" => name: Option<Given<LitStr>>,
        "table" => table: Option<Given<LitStr>>,
        "columns" => columns: Option<Given<ColumnNames>>,
        "cookie" => cookie: Option<Given<LitStr>>,
        "path" => path: Option<Given<LitStr>>,
        "domain" => domain: Option<Given<LitStr>>,
        "same_site" => same_site: Option<Given<LitStr>>,
        "secure" => secure: Option<Given<Switch>>,
        "partitioned" => partitioned: Option<Given<Switch>>,
        "persistence" => persistence: Option<Given<LitStr>>,
        "idle" => idle: Option<Given<LitStr>>,
        "absolute" => absolute: Option<Given<LitStr>>,
        "max_per_user" => max_per_user: Option<Given<LitInt>>,
        "codec" => codec: Option<Given<WordOr<Type>>>,
        "rename_all" => rename_all: Option<Given<LitStr>>,
        "version" => version: Option<Given<LitInt>>,
        "accessors" => accessors: Option<Given<Switch>>,
        "crate" => krate: Option<Given<Path>>,
    }
}

attributes! {
    /// What stands in `columns(..)`.
    ColumnNames "`columns(..)`" {
        "id" => id: Option<Given<LitStr>>,
        "state" => state: Option<Given<LitStr>>,
        "user_id" => user_id: Option<Given<LitStr>>,
        "ip_addr" => ip_addr: Option<Given<LitStr>>,
        "created" => created: Option<Given<LitStr>>,
        "expiration" => expiration: Option<Given<LitStr>>,
        "revision" => revision: Option<Given<LitStr>>,
    }
}

attributes! {
    /// What stands above a field.
    FieldAttrs "a field" {
        "user_id" => user_id: Option<Given<Flag>>,
        "ip_addr" => ip_addr: Option<Given<Flag>>,
        "bind" => bind: Option<Given<LitStr>>,
        "column" => column: Option<Given<ColumnName>>,
        "index" => index: Option<Given<Flag>>,
        "flash" => flash: Option<Given<Flag>>,
        "default" => default: Option<Given<Expr>>,
        "rename" => rename: Option<Given<LitStr>>,
        "alias" => alias: Vec<Given<LitStr>>,
        "from" => from: Option<Given<Type>>,
        "merge" => merge: Option<Given<WordOr<Path>>>,
        "with" => with: Option<Given<Path>>,
        "skip" => skip: Option<Given<Flag>>,
        "secret" => secret: Option<Given<Flag>>,
        "keep_on_logout" => keep_on_logout: Option<Given<Flag>>,
        "reset_on_login" => reset_on_login: Option<Given<Flag>>,
        "accessor" => accessor: Option<Given<LitStr>>,
        "accessors" => accessors: Option<Given<Switch>>,
    }
}

/// The keys that one place takes.
pub(crate) trait Attributes: Default {
    const PLACE: &'static str;
    const KEYS: &'static [&'static str];

    fn slot(&mut self, key: &str) -> Option<&mut dyn Slot>;

    /// Returns where `key` was written, if it was.
    fn key(&self, key: &str) -> Option<&Ident>;

    /// Reads every `#[databag(..)]` among `attributes`.
    fn read(attributes: &[Attribute], errors: &Errors) -> Self {
        let mut read = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("databag")) {
            match &attribute.meta {
                Meta::List(list) => {
                    let entries = |input: ParseStream<'_>| {
                        read_entries(&mut read, input, errors);
                        Ok(())
                    };
                    entries.parse2(list.tokens.clone()).expect("entries are read to the end, right or wrong");
                }
                Meta::Path(_) | Meta::NameValue(_) => errors.push(
                    attribute.path(),
                    "`databag` takes a list",
                    format_args!("write `#[databag({}, ..)]`", Self::KEYS[0]),
                ),
            }
        }
        read
    }
}

fn read_entries<A: Attributes>(read: &mut A, input: ParseStream<'_>, errors: &Errors) {
    while !input.is_empty() {
        let understood = match input.call(Ident::parse_any) {
            Ok(key) => match read.slot(&key.to_string()) {
                Some(slot) => slot.fill(key, input, errors).is_some(),
                None => {
                    unknown::<A>(&key, errors);
                    false
                }
            },
            Err(_) => {
                errors.push(
                    next(input),
                    "expected the name of an attribute",
                    format_args!("{} takes {}", A::PLACE, listed(A::KEYS)),
                );
                false
            }
        };
        if understood && !input.is_empty() && !input.peek(Token![,]) {
            errors.push(
                next(input),
                "expected `,`",
                "attributes are separated by commas: `#[databag(a, b = \"..\")]`",
            );
        }
        while let Ok(skipped) = input.parse::<TokenTree>() {
            if matches!(&skipped, TokenTree::Punct(punct) if punct.as_char() == ',') {
                break;
            }
        }
    }
}

fn unknown<A: Attributes>(key: &Ident, errors: &Errors) {
    let word = key.to_string();
    for (place, keys) in [(StructAttrs::PLACE, StructAttrs::KEYS), (FieldAttrs::PLACE, FieldAttrs::KEYS)] {
        if place != A::PLACE && keys.contains(&word.as_str()) {
            let message = format!("`{word}` belongs on {place}, not on {}", A::PLACE);
            return errors.push(key, message, format_args!("write it in a `#[databag(..)]` above {place}"));
        }
    }
    let takes = format!("{} takes {}", A::PLACE, listed(A::KEYS));
    let message = format!("unknown attribute `{word}`");
    match nearest(&word, A::KEYS) {
        Some(meant) => errors.push(key, message, format_args!("did you mean `{meant}`? {takes}")),
        None => errors.push(key, message, takes),
    }
}

/// Where the entries of one key go. `fill` returns `None` where it did not understand all of an entry.
pub(crate) trait Slot {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()>;
    fn key(&self) -> Option<&Ident>;
}

impl<T: Value> Slot for Option<Given<T>> {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()> {
        if self.is_some() {
            errors.push(&key, format_args!("`{key}` is given twice"), "remove one of the two");
            return None;
        }
        let value = T::read(&key, input, errors);
        let understood = value.is_some().then_some(());
        *self = Some(Given { key, value });
        understood
    }

    fn key(&self) -> Option<&Ident> {
        self.as_ref().map(|given| &given.key)
    }
}

impl<T: Value> Slot for Vec<Given<T>> {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()> {
        let value = T::read(&key, input, errors);
        let understood = value.is_some().then_some(());
        self.push(Given { key, value });
        understood
    }

    fn key(&self) -> Option<&Ident> {
        self.first().map(|given| &given.key)
    }
}

/// What follows a key.
pub(crate) trait Value: Sized {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self>;
}

impl Value for Flag {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        if input.is_empty() || input.peek(Token![,]) {
            return Some(Self);
        }
        errors.push(next(input), format_args!("`{key}` takes no value"), format_args!("write `{key}` alone"));
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

/// A path, also in quotes.
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
        assigned::<Quoted>(key, input, errors, "a path", "path::to::it").map(|path| path.0)
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
        assigned::<Either<T>>(key, input, errors, "a string or a path", "\"..\"").map(|either| either.0)
    }
}

impl Value for ColumnNames {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        fn list<'a>(input: ParseStream<'a>) -> syn::Result<syn::parse::ParseBuffer<'a>> {
            let list;
            parenthesized!(list in input);
            Ok(list)
        }
        let Ok(list) = list(input) else {
            errors.push(
                key,
                format_args!("`{key}` needs a list"),
                format_args!("write `{key}(id = \"..\")`; it takes {}", listed(Self::KEYS)),
            );
            return None;
        };
        let mut names = Self::default();
        read_entries(&mut names, &list, errors);
        Some(names)
    }
}

fn assigned<T: Parse>(
    key: &Ident,
    input: ParseStream<'_>,
    errors: &Errors,
    kind: &str,
    example: &str,
) -> Option<T> {
    if input.parse::<Token![=]>().is_err() {
        let help = format!("write `{key} = {example}`");
        errors.push(key, format_args!("`{key}` needs a value: {kind}"), help);
        return None;
    }
    if input.is_empty() || input.peek(Token![,]) {
        errors.push(
            key,
            format_args!("`{key}` needs a value: {kind}"),
            format_args!("write `{key} = {example}`"),
        );
        return None;
    }
    let at = next(input);
    let value = input.parse();
    if value.is_err() {
        errors.push(at, format_args!("`{key}` takes {kind}"), format_args!("write `{key} = {example}`"));
    }
    value.ok()
}

fn next(input: ParseStream<'_>) -> Option<TokenTree> {
    input.cursor().token_tree().map(|(token, _)| token)
}
