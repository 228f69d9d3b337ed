//! `#[databag(..)]` as it was written: every key with its place and its value, whether it makes sense or not.
//!
//! A mistake in one entry loses no other: parsing goes on behind the next comma.

use proc_macro2::TokenTree;
use syn::ext::IdentExt;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseBuffer, ParseStream, Parser};
use syn::{Attribute, Expr, Ident, LitBool, LitInt, LitStr, Meta, Path, Token, Type, parenthesized};

use crate::errors::{Errors, listed, nearest};

/// What was written for a key that may stand once.
pub(crate) struct Entry<T> {
    given: Option<(Ident, Option<T>)>,
}

/// What was written for a key that may stand any number of times.
pub(crate) struct Entries<T> {
    given: Vec<(Ident, Option<T>)>,
}

impl<T> Entry<T> {
    pub(crate) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    pub(crate) fn key(&self) -> Option<&Ident> {
        self.given.as_ref().map(|(key, _)| key)
    }

    /// Returns the value, unless a mistake in it has been reported.
    pub(crate) fn value(&self) -> Option<&T> {
        self.given.as_ref()?.1.as_ref()
    }
}

impl Entry<LitStr> {
    pub(crate) fn text(&self) -> Option<String> {
        self.value().map(LitStr::value)
    }
}

impl<T> Entries<T> {
    /// Returns the values in which no mistake has been reported.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.given.iter().filter_map(|(_, value)| value.as_ref())
    }
}

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Self { given: None }
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { given: Vec::new() }
    }
}

/// A key without a value.
pub(crate) struct Flag;

/// `column`, or `column = ".."`.
pub(crate) struct ColumnName(pub(crate) Option<LitStr>);

/// `true`, `false`, or the key alone.
#[derive(PartialEq)]
pub(crate) struct Switch(pub(crate) bool);

/// One of a few words, or something of the user's.
pub(crate) enum WordOr<T> {
    Word(LitStr),
    Own(T),
}

macro_rules! attributes {
    ($(#[$doc:meta])* $name:ident $attribute:literal $place:literal { $($key:literal => $field:ident: $slot:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: $slot,)+
        }

        impl Attributes for $name {
            const ATTRIBUTE: &'static str = $attribute;
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
                    $($key => Slot::key(&self.$field),)+
                    _ => None,
                }
            }
        }
    };
}

attributes! {
    /// What stands above the struct.
    StructAttrs "databag" "the struct" {
        "name" => name: Entry<LitStr>,
        "table" => table: Entry<LitStr>,
        "columns" => columns: Entry<ColumnNames>,
        "cookie" => cookie: Entry<LitStr>,
        "path" => path: Entry<LitStr>,
        "domain" => domain: Entry<LitStr>,
        "same_site" => same_site: Entry<LitStr>,
        "secure" => secure: Entry<Switch>,
        "partitioned" => partitioned: Entry<Switch>,
        "persistence" => persistence: Entry<LitStr>,
        "idle" => idle: Entry<LitStr>,
        "absolute" => absolute: Entry<LitStr>,
        "max_per_user" => max_per_user: Entry<LitInt>,
        "codec" => codec: Entry<WordOr<Type>>,
        "rename_all" => rename_all: Entry<LitStr>,
        "version" => version: Entry<LitInt>,
        "accessors" => accessors: Entry<Switch>,
        "crate" => krate: Entry<Path>,
    }
}

attributes! {
    /// What stands in `columns(..)`.
    ColumnNames "databag" "`columns(..)`" {
        "id" => id: Entry<LitStr>,
        "state" => state: Entry<LitStr>,
        "user_id" => user_id: Entry<LitStr>,
        "ip_addr" => ip_addr: Entry<LitStr>,
        "created" => created: Entry<LitStr>,
        "expiration" => expiration: Entry<LitStr>,
        "revision" => revision: Entry<LitStr>,
    }
}

attributes! {
    /// What stands above a field.
    FieldAttrs "databag" "a field" {
        "user_id" => user_id: Entry<Flag>,
        "ip_addr" => ip_addr: Entry<Flag>,
        "bind" => bind: Entry<LitStr>,
        "column" => column: Entry<ColumnName>,
        "index" => index: Entry<Flag>,
        "flash" => flash: Entry<Flag>,
        "default" => default: Entry<Expr>,
        "rename" => rename: Entry<LitStr>,
        "alias" => alias: Entries<LitStr>,
        "from" => from: Entry<Type>,
        "merge" => merge: Entry<WordOr<Path>>,
        "with" => with: Entry<Path>,
        "skip" => skip: Entry<Flag>,
        "secret" => secret: Entry<Flag>,
        "keep_on_logout" => keep_on_logout: Entry<Flag>,
        "reset_on_login" => reset_on_login: Entry<Flag>,
        "accessor" => accessor: Entry<LitStr>,
        "accessors" => accessors: Entry<Switch>,
    }
}

attributes! {
    /// What stands above an enum that is a column value.
    EnumAttrs "column" "the enum" {
        "rename_all" => rename_all: Entry<LitStr>,
        "crate" => krate: Entry<Path>,
    }
}

attributes! {
    /// What stands above a variant of it.
    VariantAttrs "column" "a variant" {
        "rename" => rename: Entry<LitStr>,
    }
}

/// The places of keys, for those that are on another than theirs.
const PLACES: [(&str, &str, &[&str]); 4] = [
    (StructAttrs::ATTRIBUTE, StructAttrs::PLACE, StructAttrs::KEYS),
    (FieldAttrs::ATTRIBUTE, FieldAttrs::PLACE, FieldAttrs::KEYS),
    (EnumAttrs::ATTRIBUTE, EnumAttrs::PLACE, EnumAttrs::KEYS),
    (VariantAttrs::ATTRIBUTE, VariantAttrs::PLACE, VariantAttrs::KEYS),
];

/// The keys that one place takes.
pub(crate) trait Attributes: Default {
    const ATTRIBUTE: &'static str;
    const PLACE: &'static str;
    const KEYS: &'static [&'static str];

    fn slot(&mut self, key: &str) -> Option<&mut dyn Slot>;

    /// Returns where `key` was written, if it was.
    fn key(&self, key: &str) -> Option<&Ident>;

    /// Reads what the lists among `attributes` say: `#[databag(..)]`.
    fn read(attributes: &[Attribute], errors: &Errors) -> Self {
        let mut read = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(Self::ATTRIBUTE)) {
            match &attribute.meta {
                Meta::List(list) => {
                    let entries = |input: ParseStream<'_>| {
                        read_entries(&mut read, input, errors);
                        Ok(())
                    };
                    if let Err(left_over) = entries.parse2(list.tokens.clone()) {
                        errors.push_syntax(&left_over);
                    }
                }
                Meta::Path(_) | Meta::NameValue(_) => errors.push(
                    attribute.path(),
                    format_args!("`{}` takes a list", Self::ATTRIBUTE),
                    format_args!("write `#[{}({}, ..)]`", Self::ATTRIBUTE, Self::KEYS[0]),
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
                format_args!("attributes are separated by commas: `#[{}(a, b = \"..\")]`", A::ATTRIBUTE),
            );
        }
        while let Ok(skipped) = input.parse::<TokenTree>() {
            if matches!(&skipped, TokenTree::Punct(punct) if punct.as_char() == ',') {
                break;
            }
        }
    }
}

/// What other libraries call it.
const SYNONYMS: [(&str, &str); 10] = [
    ("expires", "absolute"),
    ("lifetime", "absolute"),
    ("max_age", "absolute"),
    ("ttl", "absolute"),
    ("timeout", "idle"),
    ("user", "user_id"),
    ("ip", "ip_addr"),
    ("sensitive", "secret"),
    ("ignore", "skip"),
    ("transient", "skip"),
];

/// What other libraries ask for and this one does anyway.
const NEEDLESS: [(&str, &str); 4] = [
    ("http_only", "a session's cookie is always `HttpOnly`"),
    ("encrypt", "every field is sealed; `secret` hides one from `Debug`"),
    ("encrypted", "every field is sealed; `secret` hides one from `Debug`"),
    ("signed", "every session is sealed, which nobody can forge"),
];

fn unknown<A: Attributes>(key: &Ident, errors: &Errors) {
    let word = key.to_string();
    for (attribute, place, keys) in PLACES {
        if attribute == A::ATTRIBUTE && place != A::PLACE && keys.contains(&word.as_str()) {
            let message = format!("`{word}` belongs on {place}, not on {}", A::PLACE);
            return errors.push(
                key,
                message,
                format_args!("write it in a `#[{attribute}(..)]` above {place}"),
            );
        }
    }
    let takes = format!("{} takes {}", A::PLACE, listed(A::KEYS));
    let message = format!("unknown attribute `{word}`");
    if let Some((_, needless)) = NEEDLESS.iter().find(|(needless, _)| *needless == word) {
        return errors.push(key, message, format_args!("remove it: {needless}"));
    }
    let synonym = SYNONYMS.iter().find(|(synonym, meant)| *synonym == word && A::KEYS.contains(meant));
    match synonym.map(|(_, meant)| *meant).or_else(|| nearest(&word, A::KEYS)) {
        Some(meant) => errors.push(key, message, format_args!("did you mean `{meant}`? {takes}")),
        None => errors.push(key, message, takes),
    }
}

/// Where the entries of one key go. `fill` returns `None` where it did not understand all of an entry.
pub(crate) trait Slot {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()>;
    fn key(&self) -> Option<&Ident>;
}

impl<T: Value> Slot for Entry<T> {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()> {
        if self.is_given() {
            errors.push(&key, format_args!("`{key}` is given twice"), "remove one of the two");
            return None;
        }
        let value = T::read(&key, input, errors);
        let understood = value.is_some().then_some(());
        self.given = Some((key, value));
        understood
    }

    fn key(&self) -> Option<&Ident> {
        self.key()
    }
}

impl<T: Value> Slot for Entries<T> {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()> {
        let value = T::read(&key, input, errors);
        let understood = value.is_some().then_some(());
        self.given.push((key, value));
        understood
    }

    fn key(&self) -> Option<&Ident> {
        self.given.first().map(|(key, _)| key)
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
        let at = if input.parse::<Token![=]>().is_ok() { next(input) } else { Some(key.clone().into()) };
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
        let example = if key == "codec" { "\"json\"" } else { "\"last\"" };
        assigned::<Either<T>>(key, input, errors, "a string or a path", example).map(|either| either.0)
    }
}

impl Value for ColumnNames {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &Errors) -> Option<Self> {
        fn list(input: ParseStream<'_>) -> syn::Result<ParseBuffer<'_>> {
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
    let otherwise = if key == "default" { "; left out, a field starts from its `Default`" } else { "" };
    let help = format_args!("write `{key} = {example}`{otherwise}");
    if input.parse::<Token![=]>().is_err() || input.is_empty() || input.peek(Token![,]) {
        errors.push(key, format_args!("`{key}` needs a value: {kind}"), help);
        return None;
    }
    // A fork, because syn fails the whole list once a parser has given up inside of brackets.
    let ahead = input.fork();
    match ahead.parse() {
        Ok(value) => {
            input.advance_to(&ahead);
            Some(value)
        }
        Err(_) => {
            errors.push(next(input), format_args!("`{key}` takes {kind}"), help);
            None
        }
    }
}

fn next(input: ParseStream<'_>) -> Option<TokenTree> {
    input.cursor().token_tree().map(|(token, _)| token)
}
