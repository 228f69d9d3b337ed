//! `#[databag(..)]` as it was written: every key with its place and its value, whether the combination is valid or
//! not.
//!
//! A mistake in one entry does not hide another: the parser continues after the next comma.

mod slot;
mod value;

use proc_macro2::TokenTree;
use syn::ext::IdentExt;
use syn::parse::{ParseBuffer, ParseStream, Parser};
use syn::{Attribute, Expr, Ident, LitInt, LitStr, Meta, Path, Token, Type, parenthesized};

pub(crate) use self::slot::{Entries, Entry, Slot};
use self::value::next_token;
pub(crate) use self::value::{ColumnName, Flag, Switch, Value, WordOr};
use crate::errors::{Errors, listed, nearest};

macro_rules! attributes {
    (
        $(#[$doc:meta])*
        $name:ident(attribute: $attribute:literal, place: $place:literal, example: $example:literal) {
            $($key:literal => $field:ident: $slot:ty,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: $slot,)+
        }

        impl Attributes for $name {
            const ATTRIBUTE: &'static str = $attribute;
            const PLACE: &'static str = $place;
            const EXAMPLE: &'static str = $example;
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
    /// The attributes of the struct.
    StructAttrs(attribute: "databag", place: "the struct", example: "table = \"sessions\"") {
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
        "remember" => remember: Entry<LitStr>,
        "max_per_user" => max_per_user: Entry<LitInt>,
        "codec" => codec: Entry<WordOr<Type>>,
        "rename_all" => rename_all: Entry<LitStr>,
        "version" => version: Entry<LitInt>,
        "accessors" => accessors: Entry<Switch>,
        "crate" => krate: Entry<Path>,
    }
}

attributes! {
    /// The names in `columns(..)`.
    ColumnNames(attribute: "databag", place: "`columns(..)`", example: "id = \"id\"") {
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
    /// The attributes of a field.
    FieldAttrs(attribute: "databag", place: "a field", example: "column") {
        "user_id" => user_id: Entry<Flag>,
        "ip_addr" => ip_addr: Entry<Flag>,
        "bind" => bind: Entry<LitStr>,
        "user_agent" => user_agent: Entry<Flag>,
        "column" => column: Entry<ColumnName>,
        "index" => index: Entry<Flag>,
        "blind" => blind: Entry<Flag>,
        "flash" => flash: Entry<Flag>,
        "flow" => flow: Entry<Flag>,
        "ttl" => ttl: Entry<LitStr>,
        "default" => default: Entry<Expr>,
        "rename" => rename: Entry<LitStr>,
        "alias" => alias: Entries<LitStr>,
        "from" => from: Entry<Type>,
        "merge" => merge: Entry<WordOr<Path>>,
        "with" => with: Entry<Path>,
        "codec" => codec: Entry<WordOr<Type>>,
        "skip" => skip: Entry<Flag>,
        "secret" => secret: Entry<Flag>,
        "keep_on_logout" => keep_on_logout: Entry<Flag>,
        "reset_on_login" => reset_on_login: Entry<Flag>,
        "accessor" => accessor: Entry<LitStr>,
        "accessors" => accessors: Entry<Switch>,
    }
}

attributes! {
    /// The attributes of an enum that is a column value.
    EnumAttrs(attribute: "column", place: "the enum", example: "rename_all = \"kebab-case\"") {
        "rename_all" => rename_all: Entry<LitStr>,
        "crate" => krate: Entry<Path>,
    }
}

attributes! {
    /// The attributes of its variants.
    VariantAttrs(attribute: "column", place: "a variant", example: "rename = \"..\"") {
        "rename" => rename: Entry<LitStr>,
    }
}

/// Which keys belong in which place, for the message about a misplaced key.
const PLACES: [(&str, &str, &[&str]); 4] = [
    (StructAttrs::ATTRIBUTE, StructAttrs::PLACE, StructAttrs::KEYS),
    (FieldAttrs::ATTRIBUTE, FieldAttrs::PLACE, FieldAttrs::KEYS),
    (EnumAttrs::ATTRIBUTE, EnumAttrs::PLACE, EnumAttrs::KEYS),
    (VariantAttrs::ATTRIBUTE, VariantAttrs::PLACE, VariantAttrs::KEYS),
];

/// The attributes that one place takes.
pub(crate) trait Attributes: Default {
    const ATTRIBUTE: &'static str;
    const PLACE: &'static str;
    const EXAMPLE: &'static str;
    const KEYS: &'static [&'static str];

    fn slot(&mut self, key: &str) -> Option<&mut dyn Slot>;

    /// Returns where `key` was written, if it was.
    fn key(&self, key: &str) -> Option<&Ident>;

    /// Reads the lists among `attributes`: `#[databag(..)]`.
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
                    format_args!(
                        "write the list in parentheses: `#[{}({})]`",
                        Self::ATTRIBUTE,
                        Self::EXAMPLE
                    ),
                ),
            }
        }
        read
    }
}

fn read_entries<A: Attributes>(read: &mut A, input: ParseStream<'_>, errors: &Errors) {
    while !input.is_empty() {
        let is_valid = match input.call(Ident::parse_any) {
            Ok(key) => match read.slot(&key.to_string()) {
                Some(slot) => slot.fill(key, input, errors).is_some(),
                None => {
                    // Of a struct nothing else depends on its attributes.
                    let meant = unknown::<A>(&key, errors).filter(|_| A::PLACE == FieldAttrs::PLACE);
                    if let Some(slot) = meant.and_then(|meant| read.slot(meant)) {
                        // Read as what it was meant to be: what needs it is not reported as well.
                        slot.fill(key, input, &Errors::default());
                    }
                    false
                }
            },
            Err(_) => {
                errors.push(
                    next_token(input),
                    "expected the name of an attribute",
                    format_args!("{} takes {}", A::PLACE, listed(A::KEYS)),
                );
                false
            }
        };
        if is_valid && !input.is_empty() && !input.peek(Token![,]) {
            errors.push(
                next_token(input),
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

/// Names that other libraries use for an attribute.
const SYNONYMS: [(&str, &str); 12] = [
    ("cookie_name", "cookie"),
    ("table_name", "table"),
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

/// Attributes of other libraries for what this one always does.
const NEEDLESS: [(&str, &str); 4] = [
    ("http_only", "a session's cookie is always `HttpOnly`"),
    ("encrypt", "every field is sealed; `secret` hides one from `Debug`"),
    ("encrypted", "every field is sealed; `secret` hides one from `Debug`"),
    ("signed", "every session is sealed, so that no client can forge one"),
];

/// Reports a key that there is not, and returns the one that was meant, if that is clear.
fn unknown<A: Attributes>(key: &Ident, errors: &Errors) -> Option<&'static str> {
    let word = key.to_string();
    let synonym = SYNONYMS.iter().find(|(synonym, meant)| *synonym == word && A::KEYS.contains(meant));
    for (attribute, place, keys) in PLACES {
        if synonym.is_none()
            && attribute == A::ATTRIBUTE
            && place != A::PLACE
            && keys.contains(&word.as_str())
        {
            let message = format!("`{word}` belongs on {place}, not on {}", A::PLACE);
            errors.push(key, message, format_args!("write it in a `#[{attribute}(..)]` above {place}"));
            return nearest(&word, A::KEYS);
        }
    }
    let takes = format!("{} takes {}", A::PLACE, listed(A::KEYS));
    let message = format!("unknown attribute `{word}`");
    if let Some((_, needless)) = NEEDLESS.iter().find(|(needless, _)| *needless == word) {
        errors.push(key, message, format_args!("remove it: {needless}"));
        return None;
    }
    let meant = synonym.map(|(_, meant)| *meant).or_else(|| nearest(&word, A::KEYS));
    match meant {
        Some(meant) => errors.push(key, message, format_args!("did you mean `{meant}`? {takes}")),
        None => errors.push(key, message, takes),
    }
    meant
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
