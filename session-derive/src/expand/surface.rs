//! Writes what code can call of a bag: its accessors, and the constants of its columns. All of it can be told
//! from the struct as it was written, and so is the same for a bag with mistakes in it.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Attribute, Generics, Ident, Type};

use super::{assertion, p};
use crate::ast::{self, Input, at, inside, is_copied, is_named};
use crate::model::{AccessorKind, Accessors, Surface};

/// Writes the accessors.
pub(crate) fn accessors(input: &Input<'_>) -> TokenStream {
    let p = p();
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
    p: &Ident,
) -> TokenStream {
    let vis = input.vis;
    let ast::Field { ident, ty, attributes, .. } = field;
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
    let mut own = attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).peekable();
    let separator = (summary.is_some() && own.peek().is_some()).then(|| quote!(#[doc = ""]));
    let summary = summary.map(|summary| quote!(#[doc = #summary]));
    quote!(#summary #separator #(#own)*)
}

/// Writes the constants by which queries name the columns.
pub(crate) fn constants(input: &Input<'_>, bounded: &Generics) -> Option<TokenStream> {
    let p = p();
    let vis = input.vis;
    let ident = input.ident;
    let (impl_generics, _, where_clause) = bounded.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let mut projected = 0_usize..;
    let surfaces = Surface::all(input);
    let constants = surfaces.iter().filter_map(|(field, surface)| {
        let constant = surface.constant.as_ref()?;
        let ty = inside(field.ty, "Option").unwrap_or(field.ty);
        let at = at(ty);
        let column = if field.attrs.user_id.is_given() {
            quote_spanned!(at=> #p::user_column::<Self>())
        } else {
            let column = if field.attrs.ip_addr.is_given() {
                quote!(Ip)
            } else {
                let index = projected.next();
                quote!(Projected(#index))
            };
            let column_type = assertion("column_type", ty, at);
            quote_spanned!(at=> { #column_type; #p::column::<Self, #ty>(#p::ColumnRef::#column) })
        };
        let doc = format!("The column of `{}`, for queries.", field.ident.unraw());
        Some(quote_spanned! {at=>
            #[doc = #doc]
            #vis const #constant: #p::Column<Self, #ty> = #column;
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

/// Returns what a field of the type is read as, and how.
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

/// Returns what the value of an `Option` is read as, and how the `Option` is.
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
