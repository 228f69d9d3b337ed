//! Writes stubs for a bag with mistakes in it, so that rustc has nothing to add about traits and accessors
//! that are missing. They never run: the mistakes have stopped the build.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse_quote;

use crate::ast::{Input, inside};
use crate::expand::{accessors, constants, p, private, read_optional};

/// Writes impls that type-check whatever the fields are.
pub(crate) fn expand(input: &Input<'_>) -> TokenStream {
    let private = private(input);
    let p = p();
    let ident = input.ident;
    let mut generics = input.generics.clone();
    generics.make_where_clause().predicates.push(parse_quote!(Self: 'static));
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();

    let user = input.fields.iter().find(|field| field.attrs.user_id.is_given());
    let user =
        user.and_then(|field| Some((field.ident, inside(field.ty, "Option")?))).map(|(field, user)| {
            let (borrowed, read) = read_optional(user, field, &quote!('__a), &p);
            quote! {
                #[automatically_derived]
                impl #impl_generics #p::HasUser for #ident #ty_generics #where_clause {
                    type User = #user;
                    type UserRef<'__a> = #borrowed;
                    fn user(&self) -> #p::Option<<Self as #p::HasUser>::UserRef<'_>> {
                        #read
                    }
                    fn set_user(&mut self, _: #p::Option<#user>) {}
                }
            }
        });
    let ip = input.fields.iter().any(|field| field.attrs.ip_addr.is_given()).then(|| {
        quote! {
            #[automatically_derived]
            impl #impl_generics #p::HasIp for #ident #ty_generics #where_clause {
                fn ip(&self) -> #p::Option<#p::IpAddr> {
                    #p::None
                }
            }
        }
    });
    let accessors = accessors(input);
    let constants = constants(input, input.generics);
    quote! {
        const _: () = {
            #private
            #[automatically_derived]
            impl #impl_generics #p::Databag for #ident #ty_generics #where_clause {
                type Codec = #p::Bincode;
                const SCHEMA: &'static #p::Schema = ::core::unreachable!();
                fn defaults() -> Self {
                    ::core::unreachable!()
                }
                fn shapes(_: &mut #p::Shapes) {}
                fn encode(&self, _: &mut #p::Encoder) -> #p::Result<(), #p::CodecError> {
                    #p::Ok(())
                }
                fn decode(&mut self, _: &mut #p::Decoder<'_>) {}
            }
            #user
            #ip
            #accessors
            #constants
        };
    }
}
