//! Writes stubs for a bag with mistakes, so that rustc does not report missing traits and accessors as well. The
//! stubs never run, because the mistakes stop the build.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Generics, parse_quote};

use crate::ast::{Field, Input, inside, is_generic};
use crate::attr::FieldAttrs;
use crate::expand::{accessors, constants, p, private, read_optional};

/// Writes impls that type-check for all fields.
pub(crate) fn expand(input: &Input<'_>) -> TokenStream {
    let private = private(input);
    let p = p();
    let databag = implement(
        input,
        &quote!(Databag),
        &quote! {
            type Codec = #p::Json;
            const SCHEMA: &'static #p::Schema = ::core::unreachable!();
            fn defaults() -> Self {
                ::core::unreachable!()
            }
            fn shapes(_: &mut #p::Shapes) {}
            fn encode(&self, _: &mut #p::Encoder) -> #p::Result<(), #p::CodecError> {
                #p::Ok(())
            }
            fn decode(&mut self, _: &mut #p::Decoder<'_>) {}
        },
    );
    let is_user = |field: &&Field<'_>| field.attrs.user_id.is_given();
    let has_user = input.fields.iter().find(is_user).map(|field| {
        let user = inside(field.ty, "Option").unwrap_or(field.ty);
        let (borrowed, _) = read_optional(user, field.ident, &quote!('__a), &p);
        let items = quote! {
            type User = #user;
            type UserRef<'__a> = #borrowed;
            fn user(&self) -> #p::Option<<Self as #p::HasUser>::UserRef<'_>> {
                #p::None
            }
            fn set_user(&mut self, _: #p::Option<#user>) {}
        };
        implement(input, &quote!(HasUser), &items)
    });
    let has_ip = input.fields.iter().any(|field| field.attrs.ip_addr.is_given()).then(|| {
        let items = quote! {
            fn ip(&self) -> #p::Option<#p::IpAddr> {
                #p::None
            }
        };
        implement(input, &quote!(HasIp), &items)
    });
    let debug = input.fields.iter().any(|field| field.attrs.secret.is_given()).then(|| {
        let items = quote! {
            fn fmt(&self, _: &mut #p::fmt::Formatter<'_>) -> #p::fmt::Result {
                ::core::unreachable!()
            }
        };
        implement(input, &quote!(fmt::Debug), &items)
    });
    let accessors = accessors(input);
    let constants = constants(input, &bounded(input));
    quote! {
        const _: () = {
            #private
            #databag
            #has_user
            #has_ip
            #debug
            #accessors
            #constants
        };
    }
}

/// Adds to the bounds of the struct what the columns with generic types need.
fn bounded(input: &Input<'_>) -> Generics {
    let p = p();
    let mut generics = input.generics.clone();
    let predicates = &mut generics.make_where_clause().predicates;
    predicates.push(parse_quote!(Self: 'static));
    for field in &input.fields {
        let FieldAttrs { user_id, column, .. } = &field.attrs;
        if (user_id.is_given() || column.is_given()) && is_generic(field.ty, input.generics) {
            let value = inside(field.ty, "Option").unwrap_or(field.ty);
            predicates.push(parse_quote!(#value: #p::ColumnValue));
        }
    }
    generics
}

fn implement(input: &Input<'_>, implemented: &TokenStream, items: &TokenStream) -> TokenStream {
    let p = p();
    let ident = input.ident;
    let generics = bounded(input);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics #p::#implemented for #ident #ty_generics #where_clause {
            #items
        }
    }
}
