//! Warnings about attributes of serde on a bag: they do not change how its session is stored.
//!
//! A bag may derive `Serialize` for another purpose, such as an API, and need them there. A macro cannot see whether it does.
//! So they are warnings, by the only lint that a macro can trigger: `deprecated`.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Meta, Token};

use crate::attr::{Attributes, FieldAttrs, StructAttrs};
use crate::errors::Errors;

/// Attributes of serde, the key of `#[databag(..)]` that is meant, and what to write.
type Meanings<'a> = &'a [(&'a str, &'a str, &'a str)];

const ON_THE_STRUCT: Meanings<'_> = &[("rename_all", "rename_all", "rename_all = \"..\"")];

const ON_A_FIELD: Meanings<'_> = &[
    ("rename", "rename", "rename = \"..\""),
    ("alias", "alias", "alias = \"..\""),
    ("default", "default", "default = .."),
    ("skip", "skip", "skip"),
    ("skip_serializing", "skip", "skip"),
    ("skip_deserializing", "skip", "skip"),
    ("with", "with", "with = module"),
    ("serialize_with", "with", "with = module"),
    ("deserialize_with", "with", "with = module"),
];

/// Writes the warnings of a struct.
pub(crate) fn warnings(input: &DeriveInput) -> TokenStream {
    let DeriveInput { attrs, data, .. } = input;
    let Data::Struct(data) = data else { return TokenStream::new() };
    let on_fields = data.fields.iter().filter(|_| !is_allowed(attrs));
    let on_fields = on_fields.map(|field| place::<FieldAttrs>(&field.attrs, ON_A_FIELD));
    std::iter::once(place::<StructAttrs>(attrs, ON_THE_STRUCT)).chain(on_fields).collect()
}

fn place<A: Attributes>(attributes: &[Attribute], meanings: Meanings<'_>) -> TokenStream {
    if is_allowed(attributes) {
        return TokenStream::new();
    }
    let own = A::read(attributes, &Errors::default());
    let of_serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let entries = of_serde.filter_map(|attribute| {
        attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()
    });
    let warning = |meta: Meta| {
        let (word, key, write) = meanings.iter().find(|(word, ..)| meta.path().is_ident(word))?;
        // A field without a value has its default in any case.
        let is_needless = *word == "default" && matches!(meta, Meta::Path(_));
        (!is_needless && own.key(key).is_none()).then(|| warning(&meta, word, write))
    };
    entries.flatten().filter_map(warning).collect()
}

fn warning(at: &Meta, word: &str, write: &str) -> TokenStream {
    let note = format!(
        "`{word}` of serde does not change how a session is stored\n\
         help: write `#[databag({write})]`; if it is for another use of the struct, `#[allow(deprecated)]`"
    );
    quote_spanned! {at.path().span()=>
        const _: () = {
            #[deprecated(note = #note)]
            const SERDE: () = ();
            SERDE
        };
    }
}

fn is_allowed(attributes: &[Attribute]) -> bool {
    let is_deprecated =
        |lints: Punctuated<Meta, Token![,]>| lints.iter().any(|lint| lint.path().is_ident("deprecated"));
    let allowed = attributes.iter().filter(|attribute| attribute.path().is_ident("allow"));
    let mut allowed =
        allowed.filter_map(|attribute| attribute.parse_args_with(Punctuated::parse_terminated).ok());
    allowed.any(is_deprecated)
}
