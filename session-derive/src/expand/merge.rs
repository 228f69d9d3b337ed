//! Writes how fields are merged.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, Type};

use super::tokens::{codec, equality, stored_map};
use crate::ast::{is_canonical, is_copied, is_named};
use crate::model::{Bag, Merge, Policy};

/// Writes how fields are merged, unless the later write wins for all of them.
pub(super) fn merge(bag: &Bag<'_>, p: &Ident) -> Option<TokenStream> {
    let arms = stored_map(bag, |index, field, stored| {
        let ty = field.ty;
        let codec = codec(bag, stored, p);
        let equality = equality(field, p);
        let outcome = match stored.merge {
            Merge::Default if stored.with.is_none() && may_have_entries(ty) => {
                quote_spanned!(field.at=> (&#p::DefaultMergeProbe::<#ty>::NEW).merge::<#codec>(__versions, #equality))
            }
            Merge::Default | Merge::Known(Policy::Last) => return None,
            Merge::Known(Policy::Reject) if stored.with.is_some() || is_canonical(ty) => {
                quote!(#p::Ok(#p::MergeOutcome::Conflict))
            }
            Merge::Known(Policy::Reject) => {
                quote_spanned!(field.at=> __versions.reject::<#codec, #ty>(#equality))
            }
            Merge::Known(Policy::Entries) => {
                quote_spanned!(field.at=> __versions.entries::<#codec, #ty>(#equality))
            }
            Merge::Known(Policy::Append) => {
                quote_spanned!(field.at=> __versions.append::<#codec, #ty>(#equality))
            }
            Merge::Known(Policy::Sum) => quote_spanned!(field.at=> __versions.sum::<#codec, #ty>()),
            Merge::Known(Policy::Max) => quote_spanned!(field.at=> __versions.max::<#codec, #ty>()),
            Merge::Known(Policy::Min) => quote_spanned!(field.at=> __versions.min::<#codec, #ty>()),
            Merge::Flows(value) => quote_spanned!(field.at=> __versions.flows::<#codec, #value>()),
            Merge::Function(function) => {
                let span = function.span().resolved_at(Span::call_site());
                quote_spanned!(span=> __versions.function::<#codec, #ty>(#function, #equality))
            }
        };
        Some(quote!(#index => #outcome,))
    });
    (!arms.is_empty()).then(|| {
        quote! {
            fn merge(
                __field: #p::usize,
                __versions: #p::FieldVersions<'_>,
            ) -> #p::Result<#p::MergeOutcome, #p::CodecError> {
                #[allow(unused_imports)]
                use #p::{ByEncoding as _, ByValue as _, EntriesByDefault as _, LastByDefault as _};
                match __field {
                    #arms
                    _ => #p::Ok(#p::MergeOutcome::Ours),
                }
            }
        }
    })
}

/// Returns whether a type may be a map or a set under another name.
fn may_have_entries(ty: &Type) -> bool {
    const OTHERS: [&str; 5] = ["String", "Option", "Vec", "Box", "Duration"];
    match ty {
        Type::Array(_) | Type::Tuple(_) => false,
        _ => !is_copied(ty) && !is_named(ty, &OTHERS),
    }
}
