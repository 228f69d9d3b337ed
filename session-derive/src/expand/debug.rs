//! Writes `impl Debug` for a bag with secret fields.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse_quote_spanned;

use super::tokens::p;
use crate::ast::is_generic;
use crate::model::{Bag, Field};

pub(super) fn debug(bag: &Bag<'_>) -> Option<TokenStream> {
    if !bag.fields.iter().any(|field| field.secret) {
        return None;
    }
    let p = p();
    let ident = bag.input.ident;
    let mut generics = bag.input.generics.clone();
    for field in bag.fields.iter().filter(|field| !field.secret && is_generic(field.ty, bag.input.generics)) {
        let ty = field.ty;
        let predicate = parse_quote_spanned!(field.at=> #ty: #p::fmt::Debug);
        generics.make_where_clause().predicates.push(predicate);
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let name = ident.unraw().to_string();
    let fields = bag.fields.iter().map(|field| {
        let Field { ident, secret, .. } = field;
        let name = ident.unraw().to_string();
        if *secret {
            quote!(.field(#name, &::core::format_args!("<redacted>")))
        } else {
            quote_spanned!(field.at=> .field(#name, &self.#ident))
        }
    });
    Some(quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #p::fmt::Debug for #ident #ty_generics #where_clause {
            fn fmt(&self, __formatter: &mut #p::fmt::Formatter<'_>) -> #p::fmt::Result {
                __formatter.debug_struct(#name)#(#fields)*.finish()
            }
        }
    })
}
