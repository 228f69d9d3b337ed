//! Writes `impl Databag`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Ident;
use syn::spanned::Spanned;

use super::merge::merge;
use super::roles::{project, set_ip, set_user_agent};
use super::schema::schema;
use super::tokens::{assert_stored, assertion, bounded, codec, equality, implement, p, stored_map};
use crate::ast::{self, is_canonical};
use crate::model::{Bag, Codec, Field};

pub(super) fn databag(bag: &Bag<'_>) -> TokenStream {
    let p = p();
    let codec = match bag.codec {
        Codec::Own(ty) => ty.to_token_stream(),
        Codec::Bincode => quote!(#p::Bincode),
        Codec::Json => quote!(#p::Json),
    };
    let schema = schema(bag, &p);
    let defaults = defaults(bag);
    let shapes = shapes(bag, &p);
    let encode = encode(bag, &p);
    let decode = decode(bag, &p);
    let compare = compare(bag, &p);
    let marks = marks(bag, &p);
    let set_times = set_times(bag, &p);
    let merge = merge(bag, &p);
    let project = project(bag, &p);
    let set_ip = set_ip(bag, &p);
    let set_user_agent = set_user_agent(bag, &p);
    let items = quote! {
            type Codec = #codec;

            const SCHEMA: &'static #p::Schema = &#schema;

            fn defaults() -> Self {
                #defaults
            }

            fn shapes(__shapes: &mut #p::Shapes) {
                #shapes
            }

            fn encode(&self, __fields: &mut #p::Encoder) -> #p::Result<(), #p::CodecError> {
                #encode
                #p::Ok(())
            }

            fn decode(&mut self, __fields: &mut #p::Decoder<'_>) {
                #decode
            }

            #compare
            #marks
            #set_times
            #merge
            #project
            #set_ip
            #set_user_agent
    };
    implement(bag, &quote!(#p::Databag), &items)
}

fn defaults(bag: &Bag<'_>) -> TokenStream {
    let field = |field: &Field<'_>| {
        let Field { ident, ty, at, default, .. } = field;
        match default {
            Some(default) => quote!(#ident: #default,),
            None => {
                let value = assertion("default_of", ty, *at);
                quote!(#ident: #value,)
            }
        }
    };
    let fields: TokenStream = bag.fields.iter().map(field).collect();
    quote!(Self { #fields })
}

fn shapes(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    stored_map(bag, |index, field, stored| {
        let ty = field.ty;
        let codec = codec(bag, stored, p);
        let assertions = assert_stored(bag, field);
        let current = match stored.with {
            None => quote_spanned!(field.at=> __shapes.field::<#codec, #ty>();),
            Some(_) => {
                let with_type = with_type(index);
                quote_spanned!(field.at=> __shapes.field::<#codec, #p::Decoded<Self, #with_type>>();)
            }
        };
        let older = stored.from.map(|older| {
            let at = ast::at(older);
            let assertion = assertion("assert_stored_before", older, at);
            quote_spanned!(at=> #assertion; __shapes.older::<#codec, #older>();)
        });
        Some(quote!(#assertions #current #older))
    })
}

fn encode(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    stored_map(bag, |index, field, stored| {
        let Field { ident, ty, .. } = field;
        let codec = codec(bag, stored, p);
        let assertions = assert_stored(bag, field);
        let encoded = match stored.with {
            None => quote_spanned!(field.at=> __fields.field::<#codec, #ty>(&self.#ident)?;),
            Some(_) => {
                let with_type = with_type(index);
                quote_spanned! {field.at=>
                    __fields.field::<#codec, _>(&#p::Encoded::<Self, #with_type>(&self.#ident))?;
                }
            }
        };
        Some(quote!(#assertions #encoded))
    })
}

fn decode(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    stored_map(bag, |index, field, stored| {
        let Field { ident, ty, .. } = field;
        let codec = codec(bag, stored, p);
        let assertions = assert_stored(bag, field);
        let current = match stored.with {
            None => quote_spanned!(field.at=> __fields.field::<#codec, #ty>(#index, &mut self.#ident);),
            Some(_) => {
                let with_type = with_type(index);
                let decoded = quote!(#p::Decoded::<Self, #with_type>);
                quote_spanned! {field.at=>
                    __fields.field_with::<#codec, #decoded, #ty>(#index, &mut self.#ident, #decoded::into_field);
                }
            }
        };
        let older = stored.from.map(|older| {
            let at = ast::at(older);
            let assertion = assertion("assert_stored_before", older, at);
            quote_spanned! {at=>
                #assertion;
                __fields.older::<#codec, #older, #ty>(#index, &mut self.#ident);
            }
        });
        Some(quote!(#assertions #current #older))
    })
}

/// Writes how fields are compared with encoded values.
fn compare(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    let arms = stored_map(bag, |index, field, stored| {
        let Field { ident, ty, .. } = field;
        let codec = codec(bag, stored, p);
        let (value, assertions) = (quote!(&self.#ident, __encoded), assert_stored(bag, field));
        let compared = if stored.with.is_some() {
            let (equality, with_type) = (equality(field, p), with_type(index));
            quote!(#p::compare_with::<#codec, Self, #with_type>(__comparison, #value, #equality))
        } else {
            let equality = equality(field, p);
            let compare = if is_canonical(ty) { quote!(canonical) } else { quote!(field) };
            quote!(__comparison.#compare::<#codec, #ty>(#value, #equality))
        };
        let arm = if assertions.is_empty() { compared } else { quote!({ #assertions #compared }) };
        Some(quote_spanned!(field.at=> #index => #arm,))
    });
    quote! {
        fn compare(
            &self,
            __field: #p::usize,
            __encoded: &[#p::u8],
            __comparison: #p::Comparison,
        ) -> #p::bool {
            #[allow(unused_imports)]
            use #p::{ByEncoding as _, ByValue as _};
            match __field {
                #arms
                _ => false,
            }
        }
    }
}

/// Writes how a flash value that a request has received is told from an equal one that it sets.
fn marks(bag: &Bag<'_>, p: &Ident) -> Option<TokenStream> {
    let arms = |call: fn(&TokenStream, &Ident) -> TokenStream| {
        stored_map(bag, |index, field, stored| {
            let Field { ident, ty, at, .. } = field;
            let call = call(&quote_spanned!(*at=> (&#p::FlashProbe::<#ty>::NEW)), ident);
            stored.flash.then(|| quote_spanned!(*at=> #index => #call,))
        })
    };
    let marks = arms(|probe, ident| quote!(#probe.mark(&mut self.#ident)));
    let are_marked = arms(|probe, ident| quote!(#probe.is_marked(&self.#ident)));
    (!marks.is_empty()).then(|| {
        quote! {
            fn mark_flash(&mut self, __field: #p::usize) {
                #[allow(unused_imports)]
                use #p::{Markable as _, Unmarked as _};
                match __field {
                    #marks
                    _ => {}
                }
            }

            fn is_flash_marked(&self, __field: #p::usize) -> #p::bool {
                #[allow(unused_imports)]
                use #p::{Markable as _, Unmarked as _};
                match __field {
                    #are_marked
                    _ => true,
                }
            }
        }
    })
}

/// Writes how the fields with `flow` learn the time.
fn set_times(bag: &Bag<'_>, p: &Ident) -> Option<TokenStream> {
    let set = stored_map(bag, |_, field, stored| {
        let (ident, ttl) = (field.ident, stored.flow?);
        Some(quote_spanned! {field.at=>
            #p::Flows::set_times(&mut self.#ident, __now, #p::Duration::from_millis(#ttl));
        })
    });
    (!set.is_empty()).then(|| {
        quote! {
            fn set_times(&mut self, __now: #p::Timestamp) {
                #set
            }
        }
    })
}

fn with_type(index: usize) -> Ident {
    format_ident!("__With{index}")
}

/// Writes a type for each field with `with = module`. The runtime encodes it instead of the field.
pub(super) fn with_types(bag: &Bag<'_>) -> TokenStream {
    let p = p();
    let bag_ident = bag.input.ident;
    let generics = bounded(bag);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = bag.input.generics.split_for_impl();
    stored_map(bag, |index, field, stored| {
        let module = stored.with?;
        let ty = field.ty;
        let ident = with_type(index);
        let span = module.span().resolved_at(Span::call_site());
        Some(quote_spanned! {span=>
            struct #ident;

            #[automatically_derived]
            impl #impl_generics #p::With<#bag_ident #ty_generics> for #ident #where_clause {
                type Field = #ty;

                fn serialize<__S: #p::serde::Serializer>(
                    __value: &#ty,
                    __serializer: __S,
                ) -> #p::Result<__S::Ok, __S::Error> {
                    #module::serialize(__value, __serializer)
                }

                fn deserialize<'__de, __D: #p::serde::Deserializer<'__de>>(
                    __deserializer: __D,
                ) -> #p::Result<#ty, __D::Error> {
                    #module::deserialize(__deserializer)
                }
            }
        })
    })
}
