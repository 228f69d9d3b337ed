//! Writes the accessors of a bag and the constants of its columns. They depend only on the struct as it was
//! written, so that a bag with mistakes has them too.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Attribute, Generics, Ident, Type};

use super::tokens::{assertion, p};
use crate::ast::{self, Input, at, inside, is_copied, is_named};
use crate::model::{AccessorKind, Accessors, GeneratedNames};

/// Writes the accessors.
pub(crate) fn accessors(input: &Input<'_>) -> TokenStream {
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let ident = input.ident;
    let names = GeneratedNames::all(input);
    let accessors = names
        .iter()
        .filter_map(|(field, names)| Some(field_accessors(input, field, names.accessors.as_ref()?)));
    quote! {
        #[automatically_derived]
        #[allow(dead_code)]
        impl #impl_generics #ident #ty_generics #where_clause {
            #(#accessors)*
        }
    }
}

fn field_accessors(input: &Input<'_>, field: &ast::Field<'_>, accessors: &Accessors<'_>) -> TokenStream {
    let vis = input.vis;
    let ast::Field { ident, ty, attributes, .. } = field;
    let mut stem = accessors.stem.clone();
    stem.set_span(stem.span().resolved_at(Span::call_site()));
    let at = stem.span();
    let mut p = p();
    p.set_span(at);
    let p = &p;
    let shown = ident.unraw();
    let own = own_attributes(attributes);
    let documented = attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
    let own_below = documented.then(|| quote!(#[doc = ""]));
    let own_below = quote!(#own_below #own);

    let (returned, read) = read(ty, ident, p);
    let doc = (!documented).then(|| format!("Returns `{shown}`.")).map(|doc| quote!(#[doc = #doc]));
    let getter = quote_spanned! {at=>
        #doc
        #own
        #[must_use]
        #[inline]
        #vis fn #stem(&self) -> #returned {
            #read
        }
    };
    let (accepted, assigned) = match accessors.kind {
        AccessorKind::ReadOnly => return getter,
        AccessorKind::Plain => (quote_spanned!(at=> #p::Into<#ty>), quote!(#p::Into::into(value))),
        AccessorKind::Option(value) => {
            (quote_spanned!(at=> #p::IntoValue<#value>), quote!(#p::Some(#p::Into::into(value))))
        }
    };
    let [borrow, set] = [format_ident!("{}_mut", stem), format_ident!("set_{}", stem)];
    let [borrow_doc, set_doc] = [format!("Borrows `{shown}` mutably."), format!("Replaces `{shown}`.")];
    let plain = quote_spanned! {at=>
        #getter
        #[doc = #borrow_doc]
        #own_below
        #[must_use]
        #[inline]
        #vis fn #borrow(&mut self) -> &mut #ty {
            &mut self.#ident
        }
        #[doc = #set_doc]
        #own_below
        #[inline]
        #vis fn #set(&mut self, value: impl #accepted) {
            self.#ident = #assigned;
        }
    };
    let AccessorKind::Option(value) = accessors.kind else { return plain };
    let [clear, take] = [format_ident!("clear_{}", stem), format_ident!("take_{}", stem)];
    let [clear_doc, take_doc] = [
        format!("Sets `{shown}` to `None`."),
        format!("Takes the value out of `{shown}`, and leaves `None`."),
    ];
    quote_spanned! {at=>
        #plain
        #[doc = #clear_doc]
        #own_below
        #[inline]
        #vis fn #clear(&mut self) {
            self.#ident = #p::None;
        }
        #[doc = #take_doc]
        #own_below
        #[inline]
        #vis fn #take(&mut self) -> #p::Option<#value> {
            self.#ident.take()
        }
    }
}

/// Returns the attributes of a field that its accessors share.
fn own_attributes(attributes: &[Attribute]) -> TokenStream {
    const SHARED: [&str; 3] = ["doc", "deprecated", "allow"];
    let shared = |attribute: &&Attribute| SHARED.iter().any(|name| attribute.path().is_ident(name));
    attributes.iter().filter(shared).map(Attribute::to_token_stream).collect()
}

/// Writes the constants that name the columns in queries.
pub(crate) fn constants(input: &Input<'_>, bounded: &Generics) -> Option<TokenStream> {
    let p = p();
    let vis = input.vis;
    let ident = input.ident;
    let (impl_generics, _, where_clause) = bounded.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let mut projected = 0_usize..;
    let names = GeneratedNames::all(input);
    let constants = names.iter().filter_map(|(field, names)| {
        let constant = names.constant.as_ref()?;
        let ty = inside(field.ty, "Option").unwrap_or(field.ty);
        let at = at(ty);
        let is_blind = field.attrs.blind.is_given();
        let column = if field.attrs.user_id.is_given() {
            quote_spanned!(at=> #p::user_column::<Self>())
        } else {
            let column = if field.attrs.ip_addr.is_given() && !is_blind {
                quote!(Ip)
            } else {
                let index = projected.next();
                quote!(Projected(#index))
            };
            let column_type = assertion("column_type", ty, at);
            quote_spanned!(at=> { #column_type; #p::column::<Self, #ty>(#p::ColumnRef::#column) })
        };
        let doc = format!("The column of `{}`, for queries.", field.ident.unraw());
        let (kind, column) = if is_blind {
            (Some(quote_spanned!(at=> , #p::Blind)), quote_spanned!(at=> #column.blind()))
        } else {
            (None, column)
        };
        Some(quote_spanned! {at=>
            #[doc = #doc]
            #vis const #constant: #p::Column<Self, #ty #kind> = #column;
        })
    });
    let constants: TokenStream = constants.collect();
    (!constants.is_empty()).then(|| {
        quote! {
            #[automatically_derived]
            #[allow(dead_code)]
            impl #impl_generics #ident #ty_generics #where_clause {
                #constants
            }
        }
    })
}

/// Returns the type that a getter returns, and how it reads the field.
fn read(ty: &Type, ident: &Ident, p: &Ident) -> (TokenStream, TokenStream) {
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

/// Returns the type that a getter returns for the value of an `Option`, and how it reads the `Option`.
pub(crate) fn read_optional(
    value: &Type,
    ident: &Ident,
    lifetime: &TokenStream,
    p: &Ident,
) -> (TokenStream, TokenStream) {
    if is_copied(value) {
        (value.to_token_stream(), quote!(self.#ident))
    } else if is_named(value, &["String"]) || inside(value, "Vec").is_some() {
        (borrowed(value, lifetime, p), quote!(self.#ident.as_deref()))
    } else {
        (borrowed(value, lifetime, p), quote!(self.#ident.as_ref()))
    }
}

fn borrowed(ty: &Type, lifetime: &TokenStream, p: &Ident) -> TokenStream {
    if is_named(ty, &["String"]) {
        quote!(&#lifetime #p::str)
    } else if let Some(element) = inside(ty, "Vec") {
        quote!(&#lifetime [#element])
    } else {
        quote!(&#lifetime #ty)
    }
}
