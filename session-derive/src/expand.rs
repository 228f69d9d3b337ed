//! Writes the code of a bag that is correct. It calls the runtime wherever it can: that is type-checked once,
//! and can be stepped through.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Generics, Ident, Type, WherePredicate, parse_quote_spanned};

use crate::ast::{self, Input, inside, is_canonical, is_copied, is_generic, is_named};
use crate::model::{
    AccessorKind, Accessors, Bag, Bind, Codec, Columns, Cookie, Field, Lifetime, Persistence, Role, SameSite,
    Stored, Surface,
};

/// Writes everything that a bag needs.
pub(crate) fn expand(bag: &Bag<'_>) -> TokenStream {
    let stand_ins = stand_ins(bag);
    let databag = databag(bag);
    let has_user = has_user(bag);
    let has_ip = has_ip(bag);
    let debug = debug(bag);
    let accessors = accessors(bag.input);
    let constants = constants(bag.input, &bounded(bag));
    quote! {
        const _: () = {
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

fn private(input: &Input<'_>) -> TokenStream {
    let krate = input.krate();
    quote!(#krate::__private)
}

/// Where rustc puts the blame for a type; generated all the same, so that no lint looks at it.
fn at(ty: &Type) -> Span {
    ty.span().resolved_at(Span::call_site())
}

/// Calls what asserts a bound on a type, before anything else needs it: the same message in every body, which
/// rustc shows once.
fn assertion(assert: &str, ty: &Type, p: &TokenStream) -> TokenStream {
    let at = at(ty);
    let p = p.clone().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(at));
        token
    });
    let p: TokenStream = p.collect();
    let assert = Ident::new(assert, at);
    quote_spanned!(at=> #p::#assert::<#ty>())
}

/// Adds to the struct's own bounds what its fields need, where their types are not known here.
fn bounded(bag: &Bag<'_>) -> Generics {
    let p = private(bag.input);
    let mut generics = bag.input.generics.clone();
    let params: Vec<_> = generics.type_params().map(|param| param.ident.clone()).collect();
    let predicates = &mut generics.make_where_clause().predicates;
    for param in params {
        predicates.push(parse_quote_spanned!(param.span()=> #param: 'static));
    }
    for field in bag.fields.iter().filter(|field| is_generic(field.ty, bag.input.generics)) {
        let Field { ident: _, ty, default, secret: _, stored } = field;
        let mut need = |ty: &Type, bound: TokenStream| {
            let predicate: WherePredicate = parse_quote_spanned!(at(ty)=> #ty: #bound);
            predicates.push(predicate);
        };
        if default.is_none() {
            need(ty, quote!(#p::Default));
        }
        let Some(stored) = stored else { continue };
        if stored.with.is_none() {
            need(ty, quote!(#p::serde::Serialize + #p::serde::de::DeserializeOwned));
        }
        match &stored.role {
            Role::User(user) => need(user, quote!(#p::ColumnValue)),
            Role::Column { .. } => need(inside(ty, "Option").unwrap_or(ty), quote!(#p::ColumnValue)),
            Role::Plain | Role::Ip(_) => {}
        }
    }
    generics
}

/// The stored fields, with their positions in the schema.
fn stored<'b, 'a>(bag: &'b Bag<'a>) -> impl Iterator<Item = (usize, &'b Field<'a>, &'b Stored<'a>)> {
    let stored = bag.fields.iter().filter_map(|field| Some((field, field.stored.as_ref()?)));
    stored.enumerate().map(|(index, (field, stored))| (index, field, stored))
}

fn stand_in(index: usize) -> Ident {
    format_ident!("__With{index}")
}

/// Writes a type for each `with = module`, which the runtime encodes in place of the field.
fn stand_ins(bag: &Bag<'_>) -> TokenStream {
    let p = private(bag.input);
    let bag_ident = bag.input.ident;
    let generics = bounded(bag);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = bag.input.generics.split_for_impl();
    let stand_in = |(index, field, stored): (usize, &Field<'_>, &Stored<'_>)| {
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
    };
    stored_map(bag, stand_in)
}

fn stored_map(
    bag: &Bag<'_>,
    write: impl FnMut((usize, &Field<'_>, &Stored<'_>)) -> Option<TokenStream>,
) -> TokenStream {
    stored(bag).filter_map(write).collect()
}

fn databag(bag: &Bag<'_>) -> TokenStream {
    let p = private(bag.input);
    let ident = bag.input.ident;
    let generics = bounded(bag);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = bag.input.generics.split_for_impl();
    let codec = match bag.codec {
        Codec::Bincode => quote!(#p::Bincode),
        Codec::Json => quote!(#p::Json),
        Codec::Own(ty) => ty.to_token_stream(),
    };
    let schema = schema(bag, &p);
    let defaults = defaults(bag, &p);
    let shapes = shapes(bag, &p);
    let encode = encode(bag, &p);
    let decode = decode(bag, &p);
    let equals = equals(bag, &p);
    let project = project(bag, &p);
    let set_ip = set_ip(bag);
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #p::Databag for #ident #ty_generics #where_clause {
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

            fn equals(&self, __field: #p::usize, __encoded: &[#p::u8]) -> #p::bool {
                #equals
            }

            fn project(&self, __projection: &mut #p::Projection) {
                #project
            }

            fn set_ip(&mut self, __ip: #p::Option<#p::IpAddr>) {
                #set_ip
            }
        }
    }
}

fn schema(bag: &Bag<'_>, p: &TokenStream) -> TokenStream {
    let Bag { input: _, codec: _, name, table, columns, cookie, lifetime, max_per_user, version, fields: _ } =
        bag;
    let columns = columns_schema(columns, p);
    let cookie = cookie_schema(cookie, p);
    let Lifetime { idle, absolute } = lifetime;
    let max_per_user = option(max_per_user.as_ref(), p);
    let fields = stored_map(bag, |(_, field, stored)| Some(field_schema(field, stored, p)));
    quote! {
        #p::Schema {
            name: #name,
            table: #table,
            columns: #columns,
            cookie: #cookie,
            idle: #p::Duration::from_millis(#idle),
            absolute: #p::Duration::from_millis(#absolute),
            max_per_user: #max_per_user,
            version: #version,
            fields: &[#fields],
        }
    }
}

fn columns_schema(columns: &Columns, p: &TokenStream) -> TokenStream {
    let Columns { id, state, user_id, ip_addr, created, expiration, revision } = columns;
    quote! {
        #p::Columns {
            id: #id,
            state: #state,
            user_id: #user_id,
            ip_addr: #ip_addr,
            created: #created,
            expiration: #expiration,
            revision: #revision,
        }
    }
}

fn cookie_schema(cookie: &Cookie, p: &TokenStream) -> TokenStream {
    let Cookie { name, path, domain, same_site, secure, partitioned, persistence } = cookie;
    let domain = option(domain.as_ref(), p);
    let same_site = match same_site {
        SameSite::Strict => quote!(Strict),
        SameSite::Lax => quote!(Lax),
        SameSite::None => quote!(None),
    };
    let persistence = match persistence {
        Persistence::Browser => quote!(Browser),
        Persistence::Persistent => quote!(Persistent),
    };
    quote! {
        #p::CookieSchema {
            name: #name,
            path: #path,
            domain: #domain,
            same_site: #p::SameSite::#same_site,
            secure: #secure,
            partitioned: #partitioned,
            persistence: #p::Persistence::#persistence,
        }
    }
}

fn field_schema(field: &Field<'_>, stored: &Stored<'_>, p: &TokenStream) -> TokenStream {
    let Stored { name, aliases, role, from: _, with: _, flash, keep_on_logout, reset_on_login } = stored;
    let role = match role {
        Role::Plain => quote!(Plain),
        Role::User(ty) => {
            let ty = assertion("column_type", ty, p);
            quote!(User(#ty))
        }
        Role::Ip(bind) => {
            let bind = match bind {
                Bind::Exact => quote!(Exact),
                Bind::Prefix => quote!(Prefix),
                Bind::Off => quote!(Off),
            };
            quote!(Ip(#p::Bind::#bind))
        }
        Role::Column { name, index } => {
            let ty = assertion("column_type", inside(field.ty, "Option").unwrap_or(field.ty), p);
            quote!(Column { name: #name, ty: #ty, index: #index })
        }
    };
    quote! {
        #p::Field {
            name: #name,
            aliases: &[#(#aliases),*],
            role: #p::Role::#role,
            flash: #flash,
            keep_on_logout: #keep_on_logout,
            reset_on_login: #reset_on_login,
        },
    }
}

fn option(value: Option<&impl ToTokens>, p: &TokenStream) -> TokenStream {
    match value {
        Some(value) => quote!(#p::Some(#value)),
        None => quote!(#p::None),
    }
}

fn defaults(bag: &Bag<'_>, p: &TokenStream) -> TokenStream {
    let field = |field: &Field<'_>| {
        let Field { ident, ty, default, .. } = field;
        match default {
            Some(default) => quote!(#ident: #default,),
            None => {
                let start = assertion("start", ty, p);
                quote!(#ident: #start,)
            }
        }
    };
    let fields: TokenStream = bag.fields.iter().map(field).collect();
    quote!(Self { #fields })
}

fn shapes(bag: &Bag<'_>, p: &TokenStream) -> TokenStream {
    stored_map(bag, |(index, field, stored)| {
        let ty = field.ty;
        let current = match stored.with {
            None => {
                let stored = assertion("stored", ty, p);
                quote_spanned!(at(ty)=> #stored; __shapes.field::<#ty>();)
            }
            Some(_) => {
                let stand_in = stand_in(index);
                quote_spanned!(at(ty)=> __shapes.field::<#p::Decoded<Self, #stand_in>>();)
            }
        };
        let older = stored.from.map(|older| quote_spanned!(at(older)=> __shapes.older::<#older>();));
        Some(quote!(#current #older))
    })
}

fn encode(bag: &Bag<'_>, p: &TokenStream) -> TokenStream {
    stored_map(bag, |(index, field, stored)| {
        let Field { ident, ty, .. } = field;
        let codec = quote!(<Self as #p::Databag>::Codec);
        Some(match stored.with {
            None => {
                let stored = assertion("stored", ty, p);
                quote_spanned!(at(ty)=> #stored; __fields.field::<#codec, #ty>(&self.#ident)?;)
            }
            Some(_) => {
                let stand_in = stand_in(index);
                quote_spanned! {at(ty)=>
                    __fields.field::<#codec, _>(&#p::Encoded::<Self, #stand_in>(&self.#ident))?;
                }
            }
        })
    })
}

fn decode(bag: &Bag<'_>, p: &TokenStream) -> TokenStream {
    stored_map(bag, |(index, field, stored)| {
        let Field { ident, ty, .. } = field;
        let codec = quote!(<Self as #p::Databag>::Codec);
        let current = match stored.with {
            None => {
                let stored = assertion("stored", ty, p);
                quote_spanned!(at(ty)=> #stored; __fields.field::<#codec, #ty>(#index, &mut self.#ident);)
            }
            Some(_) => {
                let stand_in = stand_in(index);
                let decoded = quote!(#p::Decoded::<Self, #stand_in>);
                quote_spanned! {at(ty)=>
                    __fields.field_with::<#codec, #decoded, #ty>(#index, &mut self.#ident, #decoded::into_field);
                }
            }
        };
        let older = stored.from.map(|older| {
            quote_spanned! {at(older)=>
                __fields.older::<#codec, #older, #ty>(#index, &mut self.#ident);
            }
        });
        Some(quote!(#current #older))
    })
}

fn equals(bag: &Bag<'_>, p: &TokenStream) -> TokenStream {
    let arms = stored_map(bag, |(index, field, stored)| {
        let Field { ident, ty, .. } = field;
        if stored.with.is_some() || is_canonical(ty) {
            return None;
        }
        Some(quote_spanned! {at(ty)=>
            #index => (&#p::Equals(&self.#ident, __encoded)).equals::<<Self as #p::Databag>::Codec>(),
        })
    });
    quote! {
        #[allow(unused_imports)]
        use #p::{ByEncoding as _, ByValue as _};
        match __field {
            #arms
            _ => false,
        }
    }
}

fn project(bag: &Bag<'_>, p: &TokenStream) -> TokenStream {
    stored_map(bag, |(_, field, stored)| {
        let Field { ident, ty, .. } = field;
        let optional = inside(ty, "Option");
        let value = optional.unwrap_or(ty);
        let borrowed = match optional {
            Some(_) => quote_spanned!(at(ty)=> self.#ident.as_ref()),
            None => quote_spanned!(at(ty)=> #p::Some(&self.#ident)),
        };
        let projected = match stored.role {
            Role::Plain => return None,
            Role::Ip(_) => return Some(quote_spanned!(at(ty)=> __projection.ip(self.#ident);)),
            Role::User(_) => quote_spanned!(at(ty)=> __projection.user::<#value>(#borrowed);),
            Role::Column { .. } => quote_spanned!(at(ty)=> __projection.column::<#value>(#borrowed);),
        };
        let column_type = assertion("column_type", value, p);
        Some(quote!(#column_type; #projected))
    })
}

fn set_ip(bag: &Bag<'_>) -> TokenStream {
    stored_map(bag, |(_, field, stored)| {
        let Field { ident, ty, .. } = field;
        matches!(stored.role, Role::Ip(_)).then(|| quote_spanned!(at(ty)=> self.#ident = __ip;))
    })
}

fn has_user(bag: &Bag<'_>) -> TokenStream {
    let p = private(bag.input);
    let bag_ident = bag.input.ident;
    let generics = bounded(bag);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = bag.input.generics.split_for_impl();
    stored_map(bag, |(_, field, stored)| {
        let Role::User(ty) = stored.role else { return None };
        let ident = field.ident;
        let (borrowed, read) = read_optional(ty, ident, &quote!('__a), &p);
        Some(quote_spanned! {at(ty)=>
            #[automatically_derived]
            #[allow(deprecated)]
            impl #impl_generics #p::HasUser for #bag_ident #ty_generics #where_clause {
                type User = #ty;
                type UserRef<'__a> = #borrowed;

                fn user(&self) -> #p::Option<<Self as #p::HasUser>::UserRef<'_>> {
                    #read
                }

                fn set_user(&mut self, __user: #p::Option<#ty>) {
                    self.#ident = __user;
                }
            }
        })
    })
}

fn has_ip(bag: &Bag<'_>) -> TokenStream {
    let p = private(bag.input);
    let bag_ident = bag.input.ident;
    let generics = bounded(bag);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = bag.input.generics.split_for_impl();
    stored_map(bag, |(_, field, stored)| {
        let ident = field.ident;
        matches!(stored.role, Role::Ip(_)).then(|| {
            quote! {
                #[automatically_derived]
                #[allow(deprecated)]
                impl #impl_generics #p::HasIp for #bag_ident #ty_generics #where_clause {
                    fn ip(&self) -> #p::Option<#p::IpAddr> {
                        self.#ident
                    }
                }
            }
        })
    })
}

fn debug(bag: &Bag<'_>) -> Option<TokenStream> {
    if !bag.fields.iter().any(|field| field.secret) {
        return None;
    }
    let p = private(bag.input);
    let ident = bag.input.ident;
    let mut generics = bag.input.generics.clone();
    for field in bag.fields.iter().filter(|field| !field.secret && is_generic(field.ty, bag.input.generics)) {
        let ty = field.ty;
        let predicate = parse_quote_spanned!(at(ty)=> #ty: #p::fmt::Debug);
        generics.make_where_clause().predicates.push(predicate);
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let name = ident.unraw().to_string();
    let fields = bag.fields.iter().map(|field| {
        let Field { ident, ty, secret, .. } = field;
        let name = ident.unraw().to_string();
        if *secret {
            quote!(.field(#name, &::core::format_args!("<redacted>")))
        } else {
            quote_spanned!(at(ty)=> .field(#name, &self.#ident))
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

/// Returns what a field of the type is read as, and how.
fn read(ty: &Type, ident: &Ident, p: &TokenStream) -> (TokenStream, TokenStream) {
    if let Some(value) = inside(ty, "Option") {
        let (borrowed, read) = read_optional(value, ident, &TokenStream::new(), p);
        (quote!(#p::Option<#borrowed>), read)
    } else if is_copied(ty) {
        (ty.to_token_stream(), quote!(self.#ident))
    } else {
        let borrowed = borrowed(ty, &TokenStream::new(), p);
        (borrowed, quote!(&self.#ident))
    }
}

/// Returns what the value of an `Option` is read as, and how the `Option` is.
fn read_optional(
    value: &Type,
    ident: &Ident,
    lifetime: &TokenStream,
    p: &TokenStream,
) -> (TokenStream, TokenStream) {
    if is_copied(value) {
        (value.to_token_stream(), quote!(self.#ident))
    } else if is_named(value, &["String"]) || inside(value, "Vec").is_some() {
        (borrowed(value, lifetime, p), quote!(self.#ident.as_deref()))
    } else {
        (borrowed(value, lifetime, p), quote!(self.#ident.as_ref()))
    }
}

fn borrowed(ty: &Type, lifetime: &TokenStream, p: &TokenStream) -> TokenStream {
    if is_named(ty, &["String"]) {
        quote!(&#lifetime #p::str)
    } else if let Some(element) = inside(ty, "Vec") {
        quote!(&#lifetime [#element])
    } else {
        quote!(&#lifetime #ty)
    }
}

/// Writes the accessors. They are the same for a bag with mistakes in it.
pub(crate) fn accessors(input: &Input<'_>) -> TokenStream {
    let p = private(input);
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let ident = input.ident;
    let surfaces = Surface::all(input);
    let accessors = surfaces
        .iter()
        .filter_map(|(field, surface)| Some(field_accessors(input, field, surface.accessors.as_ref()?, &p)));
    quote! {
        #[automatically_derived]
        #[allow(dead_code)]
        impl #impl_generics #ident #ty_generics #where_clause {
            #(#accessors)*
        }
    }
}

fn field_accessors(
    input: &Input<'_>,
    field: &ast::Field<'_>,
    accessors: &Accessors<'_>,
    p: &TokenStream,
) -> TokenStream {
    let vis = input.vis;
    let ast::Field { ident, ty, attributes, attrs: _ } = field;
    let mut stem = accessors.stem.clone();
    stem.set_span(stem.span().resolved_at(Span::call_site()));
    let method = |name: &Ident, summary: Option<String>, signature: TokenStream, body: TokenStream| {
        let docs = docs(attributes, summary);
        let kept = attributes
            .iter()
            .filter(|attribute| ["deprecated", "allow"].iter().any(|name| attribute.path().is_ident(name)));
        quote_spanned! {stem.span()=>
            #docs
            #(#kept)*
            #[inline]
            #vis fn #name #signature {
                #body
            }
        }
    };

    let shown = ident.unraw();
    let (returned, read) = read(ty, ident, p);
    let documented = attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
    let summary = (!documented).then(|| format!("Returns `{shown}`."));
    let getter = method(&stem, summary, quote!((&self) -> #returned), read);
    let getter = quote!(#[must_use] #getter);
    if let AccessorKind::ReadOnly = accessors.kind {
        return getter;
    }

    let borrow = method(
        &format_ident!("{}_mut", stem),
        Some(format!("Borrows `{shown}`, to change it in place.")),
        quote!((&mut self) -> &mut #ty),
        quote!(&mut self.#ident),
    );
    let borrow = quote!(#[must_use] #borrow);
    let set = |value: &Type, assigned: TokenStream| {
        method(
            &format_ident!("set_{}", stem),
            Some(format!("Replaces `{shown}`.")),
            quote!((&mut self, value: impl #p::Into<#value>)),
            quote!(self.#ident = #assigned;),
        )
    };
    let AccessorKind::Option(value) = accessors.kind else {
        let set = set(ty, quote!(#p::Into::into(value)));
        return quote!(#getter #borrow #set);
    };
    let set = set(value, quote!(#p::Some(#p::Into::into(value))));
    let clear = method(
        &format_ident!("clear_{}", stem),
        Some(format!("Sets `{shown}` to `None`.")),
        quote!((&mut self)),
        quote!(self.#ident = #p::None;),
    );
    let take = method(
        &format_ident!("take_{}", stem),
        Some(format!("Takes `{shown}` out, and leaves `None`.")),
        quote!((&mut self) -> #p::Option<#value>),
        quote!(self.#ident.take()),
    );
    quote!(#getter #borrow #set #clear #take)
}

/// The docs of a field, below a summary of their own.
fn docs(attributes: &[Attribute], summary: Option<String>) -> TokenStream {
    let own = attributes.iter().filter(|attribute| attribute.path().is_ident("doc"));
    let summary = summary.map(|summary| quote!(#[doc = #summary] #[doc = ""]));
    quote!(#summary #(#own)*)
}

/// Writes the constants by which queries name the columns.
pub(crate) fn constants(input: &Input<'_>, bounded: &Generics) -> TokenStream {
    let p = private(input);
    let vis = input.vis;
    let ident = input.ident;
    let (impl_generics, _, where_clause) = bounded.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let mut projected = 0_usize..;
    let surfaces = Surface::all(input);
    let constants = surfaces.iter().filter_map(|(field, surface)| {
        let constant = surface.constant.as_ref()?;
        let column = if field.attrs.user_id.is_given() {
            quote!(User)
        } else if field.attrs.ip_addr.is_given() {
            quote!(Ip)
        } else {
            let index = projected.next();
            quote!(Projected(#index))
        };
        let ty = inside(field.ty, "Option").unwrap_or(field.ty);
        let doc = format!("The column of `{}`, for queries.", field.ident.unraw());
        let column_type = assertion("column_type", ty, &p);
        Some(quote_spanned! {at(ty)=>
            #[doc = #doc]
            #vis const #constant: #p::Column<Self, #ty> = {
                #column_type;
                #p::column::<Self, #ty>(#p::ColumnRef::#column)
            };
        })
    });
    quote! {
        #[automatically_derived]
        #[allow(dead_code)]
        impl #impl_generics #ident #ty_generics #where_clause {
            #(#constants)*
        }
    }
}
