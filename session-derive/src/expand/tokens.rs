//! Tokens that several modules write: names of the runtime, bounds and `impl` blocks.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::{Generics, Ident, Type, WherePredicate, parse_quote_spanned};

use crate::ast::{self, Input, inside, is_canonical, is_generic};
use crate::model::{Bag, Codec, Field, Role, Stored};

/// Imports the runtime under a short name.
pub(crate) fn private(input: &Input<'_>) -> TokenStream {
    let krate = input.krate();
    let p = p();
    quote!(use #krate::__private as #p;)
}

/// Returns the name of the runtime in generated code.
pub(crate) fn p() -> Ident {
    Ident::new("__databag", Span::call_site())
}

/// Writes a call of a function that has a bound on `ty`. It comes before all other code that needs the bound, so that
/// every body gives the same message, which rustc shows once.
pub(super) fn assertion(assert: &str, ty: &Type, at: Span) -> TokenStream {
    let mut p = p();
    p.set_span(at);
    let assert = Ident::new(assert, at);
    quote_spanned!(at=> #p::#assert::<#ty>())
}

/// Asserts that a field can be stored, unless the name of its type says so, and that its own codec is one.
pub(super) fn assert_stored(bag: &Bag<'_>, field: &Field<'_>) -> TokenStream {
    let Field { ty, at, ref stored, .. } = *field;
    let with = stored.as_ref().and_then(|stored| stored.with);
    let stored_type = (with.is_none() && !is_canonical(ty)).then(|| {
        let assertion = assertion("assert_stored", ty, at);
        quote!(#assertion;)
    });
    let codec = match stored.as_ref().and_then(|stored| stored.codec.as_ref()).unwrap_or(&bag.codec) {
        Codec::Own(codec) => {
            let assertion = assertion("assert_codec", codec, ast::at(codec));
            Some(quote!(#assertion;))
        }
        Codec::Bincode | Codec::Json => None,
    };
    quote!(#stored_type #codec)
}

/// Adds to the bounds of the struct what the fields with generic types need.
pub(super) fn bounded(bag: &Bag<'_>) -> Generics {
    let p = p();
    let mut generics = bag.input.generics.clone();
    let params: Vec<_> = generics.type_params().map(|param| param.ident.clone()).collect();
    let predicates = &mut generics.make_where_clause().predicates;
    for param in params {
        predicates.push(parse_quote_spanned!(param.span()=> #param: 'static));
    }
    for field in bag.fields.iter().filter(|field| is_generic(field.ty, bag.input.generics)) {
        let Field { ident: _, ty, at: _, default, secret: _, stored } = field;
        let mut need = |ty: &Type, bound: TokenStream| {
            let predicate: WherePredicate = parse_quote_spanned!(ast::at(ty)=> #ty: #bound);
            predicates.push(predicate);
        };
        if default.is_none() {
            need(ty, quote!(#p::HasDefault));
        }
        let Some(stored) = stored else { continue };
        if stored.with.is_none() {
            need(ty, quote!(#p::Stored));
        }
        match &stored.role {
            Role::User(user) => need(user, quote!(#p::ColumnValue)),
            Role::Column { .. } => need(inside(ty, "Option").unwrap_or(ty), quote!(#p::ColumnValue)),
            Role::Plain | Role::Ip(_) => {}
        }
    }
    generics
}

/// Writes tokens for each stored field, with its index in the schema.
pub(super) fn stored_map(
    bag: &Bag<'_>,
    mut write: impl FnMut(usize, &Field<'_>, &Stored<'_>) -> Option<TokenStream>,
) -> TokenStream {
    let stored = bag.fields.iter().filter_map(|field| Some((field, field.stored.as_ref()?)));
    stored.enumerate().filter_map(|(index, (field, stored))| write(index, field, stored)).collect()
}

/// Writes the `impl` of a trait, with the bounds of `Databag`.
pub(super) fn implement(bag: &Bag<'_>, implemented: &TokenStream, items: &TokenStream) -> TokenStream {
    let ident = bag.input.ident;
    let generics = bounded(bag);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = bag.input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #implemented for #ident #ty_generics #where_clause {
            #items
        }
    }
}

/// Returns the codec of a field as calls name it.
pub(super) fn codec(bag: &Bag<'_>, stored: &Stored<'_>, p: &Ident) -> TokenStream {
    match stored.codec.as_ref().unwrap_or(&bag.codec) {
        Codec::Own(ty) => ty.to_token_stream(),
        Codec::Bincode => quote!(#p::Bincode),
        Codec::Json => quote!(#p::Json),
    }
}

/// Writes the `==` of a field's type, if it has one.
pub(super) fn equality(field: &Field<'_>, p: &Ident) -> TokenStream {
    let ty = field.ty;
    quote_spanned!(field.at=> (&#p::EqualityProbe::<#ty>::NEW).equality())
}
