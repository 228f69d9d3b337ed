//! Writes the code of a bag that is correct. It calls the runtime wherever it can: that is type-checked once,
//! and can be stepped through.

mod schema;
mod surface;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Generics, Ident, Type, WherePredicate, parse_quote_spanned};

use self::schema::schema;
pub(crate) use self::surface::{accessors, constants, read_optional};
use crate::ast::{self, Input, inside, is_canonical, is_copied, is_generic, is_named};
use crate::model::{Bag, Codec, Field, Merge, Policy, Role, Stored};

/// Writes everything that a bag needs.
pub(crate) fn expand(bag: &Bag<'_>) -> TokenStream {
    let private = private(bag.input);
    let stand_ins = stand_ins(bag);
    let databag = databag(bag);
    let has_user = has_user(bag);
    let has_ip = has_ip(bag);
    let debug = debug(bag);
    let accessors = accessors(bag.input);
    let constants = constants(bag.input, &bounded(bag));
    quote! {
        const _: () = {
            #private
            #stand_ins
            #databag
            #has_user
            #has_ip
            #debug
            #accessors
            #constants
        };
    }
}

/// Brings the runtime into scope under a name of its own: one token wherever it is called.
pub(crate) fn private(input: &Input<'_>) -> TokenStream {
    let krate = input.krate();
    let p = p();
    quote!(use #krate::__private as #p;)
}

pub(crate) fn p() -> Ident {
    Ident::new("__databag", Span::call_site())
}

/// Calls what asserts a bound on a type, before anything else needs it: the same message in every body, which
/// rustc shows once.
fn assertion(assert: &str, ty: &Type, at: Span) -> TokenStream {
    let mut p = p();
    p.set_span(at);
    let assert = Ident::new(assert, at);
    quote_spanned!(at=> #p::#assert::<#ty>())
}

/// Asserts that a field can be stored, unless its type goes by a name that can.
fn assert_stored(field: &Field<'_>) -> Option<TokenStream> {
    let Field { ty, at, .. } = *field;
    (!is_canonical(ty)).then(|| {
        let assertion = assertion("stored", ty, at);
        quote!(#assertion;)
    })
}

/// Adds to the struct's own bounds what its fields need, where their types are not known here.
fn bounded(bag: &Bag<'_>) -> Generics {
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
            need(ty, quote!(#p::Start));
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

/// Writes something for each stored field, by its position in the schema.
fn stored_map(
    bag: &Bag<'_>,
    mut write: impl FnMut(usize, &Field<'_>, &Stored<'_>) -> Option<TokenStream>,
) -> TokenStream {
    let stored = bag.fields.iter().filter_map(|field| Some((field, field.stored.as_ref()?)));
    stored.enumerate().filter_map(|(index, (field, stored))| write(index, field, stored)).collect()
}

/// Writes the impl of a trait that needs all that a bag needs.
fn implement(bag: &Bag<'_>, implemented: &TokenStream, items: &TokenStream) -> TokenStream {
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

fn stand_in(index: usize) -> Ident {
    format_ident!("__With{index}")
}

/// Writes a type for each `with = module`, which the runtime encodes in place of the field.
fn stand_ins(bag: &Bag<'_>) -> TokenStream {
    let p = p();
    let bag_ident = bag.input.ident;
    let generics = bounded(bag);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = bag.input.generics.split_for_impl();
    stored_map(bag, |index, field, stored| {
        let module = stored.with?;
        let ty = field.ty;
        let ident = stand_in(index);
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

fn databag(bag: &Bag<'_>) -> TokenStream {
    let p = p();
    let codec = match bag.codec {
        Codec::Own(ty) => ty.to_token_stream(),
        Codec::Bincode | Codec::Json => codec(bag, &p),
    };
    let schema = schema(bag, &p);
    let defaults = defaults(bag);
    let shapes = shapes(bag, &p);
    let encode = encode(bag, &p);
    let decode = decode(bag, &p);
    let equals = equals(bag, &p);
    let merge = merge(bag, &p);
    let project = project(bag, &p);
    let set_ip = set_ip(bag, &p);
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

            #equals
            #merge
            #project
            #set_ip
    };
    implement(bag, &quote!(#p::Databag), &items)
}

/// The codec as calls name it. One of the user's goes by its role, so that its bound is missed in one place only.
fn codec(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    match bag.codec {
        Codec::Bincode => quote!(#p::Bincode),
        Codec::Json => quote!(#p::Json),
        Codec::Own(_) => quote!(<Self as #p::Databag>::Codec),
    }
}

fn defaults(bag: &Bag<'_>) -> TokenStream {
    let field = |field: &Field<'_>| {
        let Field { ident, ty, at, default, .. } = field;
        match default {
            Some(default) => quote!(#ident: #default,),
            None => {
                let start = assertion("start", ty, *at);
                quote!(#ident: #start,)
            }
        }
    };
    let fields: TokenStream = bag.fields.iter().map(field).collect();
    quote!(Self { #fields })
}

fn shapes(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    stored_map(bag, |index, field, stored| {
        let ty = field.ty;
        let current = match stored.with {
            None => {
                let stored = assert_stored(field);
                quote_spanned!(field.at=> #stored __shapes.field::<#ty>();)
            }
            Some(_) => {
                let stand_in = stand_in(index);
                quote_spanned!(field.at=> __shapes.field::<#p::Decoded<Self, #stand_in>>();)
            }
        };
        let older = stored.from.map(|older| {
            let at = ast::at(older);
            let assertion = assertion("stored_before", older, at);
            quote_spanned!(at=> #assertion; __shapes.older::<#older>();)
        });
        Some(quote!(#current #older))
    })
}

fn encode(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    let codec = codec(bag, p);
    stored_map(bag, |index, field, stored| {
        let Field { ident, ty, .. } = field;
        Some(match stored.with {
            None => {
                let stored = assert_stored(field);
                quote_spanned!(field.at=> #stored __fields.field::<#codec, #ty>(&self.#ident)?;)
            }
            Some(_) => {
                let stand_in = stand_in(index);
                quote_spanned! {field.at=>
                    __fields.field::<#codec, _>(&#p::Encoded::<Self, #stand_in>(&self.#ident))?;
                }
            }
        })
    })
}

fn decode(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    let codec = codec(bag, p);
    stored_map(bag, |index, field, stored| {
        let Field { ident, ty, .. } = field;
        let current = match stored.with {
            None => {
                let stored = assert_stored(field);
                quote_spanned!(field.at=> #stored __fields.field::<#codec, #ty>(#index, &mut self.#ident);)
            }
            Some(_) => {
                let stand_in = stand_in(index);
                let decoded = quote!(#p::Decoded::<Self, #stand_in>);
                quote_spanned! {field.at=>
                    __fields.field_with::<#codec, #decoded, #ty>(#index, &mut self.#ident, #decoded::into_field);
                }
            }
        };
        let older = stored.from.map(|older| {
            let at = ast::at(older);
            let assertion = assertion("stored_before", older, at);
            quote_spanned! {at=>
                #assertion;
                __fields.older::<#codec, #older, #ty>(#index, &mut self.#ident);
            }
        });
        Some(quote!(#current #older))
    })
}

/// Writes how fields are compared whose equal values may have different encodings.
fn equals(bag: &Bag<'_>, p: &Ident) -> Option<TokenStream> {
    let codec = codec(bag, p);
    let arms = stored_map(bag, |index, field, stored| {
        let Field { ident, ty, .. } = field;
        if stored.with.is_some() || is_canonical(ty) {
            return None;
        }
        let equality = equality(field, p);
        Some(quote_spanned! {field.at=>
            #index => #p::equals::<#codec, #ty>(&self.#ident, __encoded, #equality),
        })
    });
    (!arms.is_empty()).then(|| {
        quote! {
            fn equals(&self, __field: #p::usize, __encoded: &[#p::u8]) -> #p::bool {
                #[allow(unused_imports)]
                use #p::{ByEncoding as _, ByValue as _};
                match __field {
                    #arms
                    _ => false,
                }
            }
        }
    })
}

/// Writes how values of a field are compared, where the type has `==`.
fn equality(field: &Field<'_>, p: &Ident) -> TokenStream {
    let ty = field.ty;
    quote_spanned!(field.at=> (&#p::Compared::<#ty>::NEW).equality())
}

/// Writes how fields are merged, unless the later writer wins all of them.
fn merge(bag: &Bag<'_>, p: &Ident) -> Option<TokenStream> {
    let codec = codec(bag, p);
    let arms = stored_map(bag, |index, field, stored| {
        let ty = field.ty;
        let equality = equality(field, p);
        let settled = match stored.merge {
            Merge::Unsaid if stored.with.is_none() && may_have_entries(ty) => {
                quote_spanned!(field.at=> (&#p::Unsaid::<#ty>::NEW).settle::<#codec>(__sides, #equality))
            }
            Merge::Unsaid | Merge::Known(Policy::Last) => return None,
            Merge::Known(Policy::Reject) if stored.with.is_some() || is_canonical(ty) => {
                quote!(#p::Ok(#p::Settled::Refused))
            }
            Merge::Known(Policy::Reject) => {
                quote_spanned!(field.at=> __sides.reject::<#codec, #ty>(#equality))
            }
            Merge::Known(Policy::Entries) => {
                quote_spanned!(field.at=> __sides.entries::<#codec, #ty>(#equality))
            }
            Merge::Known(Policy::Append) => {
                quote_spanned!(field.at=> __sides.append::<#codec, #ty>(#equality))
            }
            Merge::Known(Policy::Sum) => quote_spanned!(field.at=> __sides.sum::<#codec, #ty>()),
            Merge::Known(Policy::Max) => quote_spanned!(field.at=> __sides.max::<#codec, #ty>()),
            Merge::Known(Policy::Min) => quote_spanned!(field.at=> __sides.min::<#codec, #ty>()),
            Merge::Function(function) => {
                let span = function.span().resolved_at(Span::call_site());
                quote_spanned!(span=> __sides.function::<#codec, #ty>(#function))
            }
        };
        Some(quote!(#index => #settled,))
    });
    (!arms.is_empty()).then(|| {
        quote! {
            fn merge(
                __field: #p::usize,
                __sides: #p::Sides<'_>,
            ) -> #p::Result<#p::Settled, #p::CodecError> {
                #[allow(unused_imports)]
                use #p::{ByEncoding as _, ByValue as _, EntriesByDefault as _, LastByDefault as _};
                match __field {
                    #arms
                    _ => #p::Ok(#p::Settled::Ours),
                }
            }
        }
    })
}

/// Tells whether a type may be a map or a set, by whatever name.
fn may_have_entries(ty: &Type) -> bool {
    const OTHERS: [&str; 5] = ["String", "Option", "Vec", "Box", "Duration"];
    match ty {
        Type::Array(_) | Type::Tuple(_) => false,
        _ => !is_copied(ty) && !is_named(ty, &OTHERS),
    }
}

/// Writes how projected fields are copied out, where there are any.
fn project(bag: &Bag<'_>, p: &Ident) -> Option<TokenStream> {
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
            Role::Ip(_) => return Some(quote_spanned!(field.at=> __projection.ip(self.#ident);)),
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

fn set_ip(bag: &Bag<'_>, p: &Ident) -> TokenStream {
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

fn has_user(bag: &Bag<'_>) -> TokenStream {
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

fn has_ip(bag: &Bag<'_>) -> TokenStream {
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

fn debug(bag: &Bag<'_>) -> Option<TokenStream> {
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
