//! Writes the code for projected fields: the user, the address and the columns.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::Ident;

use super::accessors::read_optional;
use super::tokens::{assertion, implement, p, stored_map};
use crate::ast::{self, inside};
use crate::model::{Bag, Field, Role};

pub(super) fn has_user(bag: &Bag<'_>) -> TokenStream {
    let p = p();
    stored_map(bag, |_, field, stored| {
        let Role::User(ty) = stored.role else { return None };
        let ident = field.ident;
        let (borrowed, read) = read_optional(ty, ident, &quote!('__a), &p);
        let items = quote! {
            type User = #ty;
            type UserRef<'__a> = #borrowed;

            fn user(&self) -> #p::Option<<Self as #p::HasUser>::UserRef<'_>> {
                #read
            }

            fn set_user(&mut self, __user: #p::Option<#ty>) {
                self.#ident = __user;
            }
        };
        Some(implement(bag, &quote!(#p::HasUser), &items))
    })
}

pub(super) fn has_ip(bag: &Bag<'_>) -> TokenStream {
    let p = p();
    stored_map(bag, |_, field, stored| {
        let Role::Ip(_) = stored.role else { return None };
        let ident = field.ident;
        let items = quote! {
            fn ip(&self) -> #p::Option<#p::IpAddr> {
                self.#ident
            }
        };
        Some(implement(bag, &quote!(#p::HasIp), &items))
    })
}

/// Writes how projected fields are copied, if there are any.
pub(super) fn project(bag: &Bag<'_>, p: &Ident) -> Option<TokenStream> {
    let copies = stored_map(bag, |_, field, stored| {
        let Field { ident, ty, .. } = field;
        let optional = inside(ty, "Option");
        let value = optional.unwrap_or(ty);
        let borrowed = match optional {
            Some(_) => quote_spanned!(field.at=> self.#ident.as_ref()),
            None => quote_spanned!(field.at=> #p::Some(&self.#ident)),
        };
        let projected = match stored.role {
            Role::Plain => return None,
            Role::Ip(_) => {
                // The hash of an address is a column as any other.
                let column = stored.blind.then(|| quote!(__projection.column(self.#ident.as_ref());));
                return Some(quote_spanned!(field.at=> __projection.ip(self.#ident); #column));
            }
            Role::User(_) => return Some(quote_spanned!(field.at=> __projection.user::<Self>(#borrowed);)),
            Role::Column { .. } => quote_spanned!(field.at=> __projection.column::<#value>(#borrowed);),
        };
        let column_type = assertion("column_type", value, ast::at(value));
        Some(quote!(#column_type; #projected))
    });
    (!copies.is_empty()).then(|| {
        quote! {
            fn project(&self, __projection: &mut #p::Projection) {
                #copies
            }
        }
    })
}

pub(super) fn set_user_agent(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    stored_map(bag, |_, field, stored| {
        let ident = field.ident;
        let set = quote_spanned!(field.at=> self.#ident = __agent.map(#p::Into::into););
        stored.user_agent.then(|| {
            quote! {
                fn set_user_agent(&mut self, __agent: #p::Option<&#p::str>) {
                    #set
                }
            }
        })
    })
}

pub(super) fn set_ip(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    stored_map(bag, |_, field, stored| {
        let Role::Ip(_) = stored.role else { return None };
        let Field { ident, .. } = field;
        let set = quote_spanned!(field.at=> self.#ident = __ip;);
        Some(quote! {
            fn set_ip(&mut self, __ip: #p::Option<#p::IpAddr>) {
                #set
            }
        })
    })
}
