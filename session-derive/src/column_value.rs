//! `derive(ColumnValue)`: an enum without fields becomes text in a column. The enum enters; the impl leaves, or the
//! mistakes and a stub of the impl.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Fields, Ident, LitStr, Variant};

use crate::ast::krate;
use crate::attr::{Attributes, EnumAttrs, VariantAttrs};
use crate::check::{CASES, Case, choose};
use crate::errors::Errors;

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let errors = Errors::default();
    let attrs = EnumAttrs::read(&input.attrs, &errors);
    let texts = check(input, &attrs, &errors);
    let expanded = expand(input, &attrs, &texts);
    match errors.finish(()) {
        Ok(()) => expanded,
        Err(mistakes) => quote!(#mistakes #expanded),
    }
}

/// The variants and their texts.
type Texts<'a> = Vec<(&'a Ident, String)>;

fn check<'a>(input: &'a DeriveInput, attrs: &EnumAttrs, errors: &Errors) -> Texts<'a> {
    let EnumAttrs { rename_all, krate: _ } = attrs;
    let case = choose("rename_all", rename_all, &CASES, errors).unwrap_or(Case::Pascal);
    let ident = &input.ident;
    let variants = match &input.data {
        Data::Enum(data) => &data.variants,
        Data::Struct(data) => {
            reject(data.struct_token, ident, errors);
            return Vec::new();
        }
        Data::Union(data) => {
            reject(data.union_token, ident, errors);
            return Vec::new();
        }
    };
    if variants.is_empty() {
        errors.push(
            ident,
            format_args!("`{ident}` has no variants, so a column has no value to hold"),
            format_args!("write `enum {ident} {{ First, Second }}`"),
        );
    }
    let mut texts = Vec::new();
    for variant in variants {
        let text = check_variant(variant, case, &texts, errors);
        texts.push((&variant.ident, text));
    }
    texts
}

fn reject(keyword: impl ToTokens, ident: &Ident, errors: &Errors) {
    errors.push(
        keyword,
        "`derive(ColumnValue)` is for enums without fields: a column holds one value",
        format_args!("write `impl ColumnValue for {ident}`; the docs of `ColumnValue` have an example"),
    );
}

fn check_variant(variant: &Variant, case: Case, texts: &Texts<'_>, errors: &Errors) -> String {
    let VariantAttrs { rename } = VariantAttrs::read(&variant.attrs, errors);
    let ident = &variant.ident;
    let name = ident.unraw().to_string();
    if let Fields::Named(_) | Fields::Unnamed(_) = variant.fields {
        errors.push(
            &variant.fields,
            format_args!("`{name}` has fields, but a column holds one value"),
            format_args!("write `{name}` without fields and keep them in a field of the session, or implement `ColumnValue` by hand"),
        );
    }
    let text = rename.value().map_or_else(|| case.apply_to_variant(&name), LitStr::value);
    let at = rename.value().map_or_else(|| ident.to_token_stream(), LitStr::to_token_stream);
    let help = format!("give it another text: `#[column(rename = \"{name}\")]`");
    if text.is_empty() {
        errors.push(at, format_args!("the column text of `{name}` is empty"), help);
    } else if text.contains('\0') {
        errors.push(
            at,
            format_args!("the column text of `{name}` contains a NUL, which PostgreSQL rejects"),
            help,
        );
    } else if let Some((other, _)) = texts.iter().find(|(_, taken)| *taken == text) {
        let help = format!("give it another text: `#[column(rename = \"{text}_2\")]`");
        errors.push(at, format_args!("`{other}` and `{name}` have the same column text, \"{text}\""), help);
    }
    text
}

fn expand(input: &DeriveInput, attrs: &EnumAttrs, texts: &Texts<'_>) -> TokenStream {
    let krate = krate(&attrs.krate);
    let ident = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let arms = texts.iter().map(|(variant, text)| quote!(Self::#variant { .. } => #text,));
    // The stub of a struct or a union has no arms.
    let rest = texts.is_empty().then(|| quote!(_ => "",));
    quote! {
        const _: () = {
            use #krate::__private as __databag;

            #[automatically_derived]
            #[allow(deprecated)]
            impl #impl_generics __databag::ColumnValue for #ident #ty_generics #where_clause {
                const TYPE: __databag::ColumnType = __databag::ColumnType::Text;

                fn to_value(&self) -> __databag::Value {
                    __databag::text(match self {
                        #(#arms)*
                        #rest
                    })
                }
            }
        };
    }
}
