//! The struct as it was written, and what the names of its types say.
//!
//! A macro sees names, not types: an alias of `Option` is not an `Option` here.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Fields, GenericArgument, GenericParam, Generics, Ident, Path,
    PathArguments, PathSegment, Type, Visibility,
};

use crate::attr::{Attributes, Entry, FieldAttrs, StructAttrs};
use crate::errors::Errors;

/// A struct that derives `Databag`.
pub(crate) struct Input<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) vis: &'a Visibility,
    pub(crate) generics: &'a Generics,
    pub(crate) attrs: StructAttrs,
    pub(crate) fields: Vec<Field<'a>>,
}

/// A field of the struct.
pub(crate) struct Field<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    /// Where rustc reports errors about the type.
    pub(crate) at: Span,
    /// All attributes of the field, with its docs.
    pub(crate) attributes: &'a [Attribute],
    pub(crate) attrs: FieldAttrs,
}

impl<'a> Input<'a> {
    /// Reads the struct. If the item is not a struct with named fields, only its name is kept.
    pub(crate) fn read(input: &'a DeriveInput, errors: &Errors) -> Self {
        let DeriveInput { attrs, vis, ident, generics, data } = input;
        let attrs = StructAttrs::read(attrs, errors);
        let named = match data {
            Data::Struct(data) => match &data.fields {
                Fields::Named(fields) => Ok(fields),
                Fields::Unnamed(_) | Fields::Unit => Err(ident.to_token_stream()),
            },
            Data::Enum(data) => Err(data.enum_token.to_token_stream()),
            Data::Union(data) => Err(data.union_token.to_token_stream()),
        };
        match named {
            Ok(named) => {
                let fields = named.named.iter().filter_map(|field| Field::read(field, errors)).collect();
                Self { ident, vis, generics, attrs, fields }
            }
            Err(at) => {
                errors.push(
                    at,
                    "a databag is a struct with named fields",
                    format_args!(
                        "write `struct {ident} {{ field: Type }}`: a field is stored under its name"
                    ),
                );
                let attrs = StructAttrs { krate: attrs.krate, ..StructAttrs::default() };
                Self { ident, vis, generics, attrs, fields: Vec::new() }
            }
        }
    }

    pub(crate) fn krate(&self) -> TokenStream {
        krate(&self.attrs.krate)
    }
}

/// Returns the path of `session_runtime`.
pub(crate) fn krate(given: &Entry<Path>) -> TokenStream {
    match given.value() {
        Some(path) => path.to_token_stream(),
        None => quote::quote!(::session_runtime),
    }
}

impl<'a> Field<'a> {
    fn read(field: &'a syn::Field, errors: &Errors) -> Option<Self> {
        let attrs = FieldAttrs::read(&field.attrs, errors);
        let ident = field.ident.as_ref()?;
        Some(Self { ident, ty: &field.ty, at: at(&field.ty), attributes: &field.attrs, attrs })
    }
}

/// Returns where rustc reports errors about a type. The span counts as generated code, so that lints skip it.
pub(crate) fn at(ty: &Type) -> Span {
    ty.span().resolved_at(Span::call_site())
}

/// Returns the last segment of a type that is a path: its name without its module.
fn name(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => name(&group.elem),
        Type::Paren(paren) => name(&paren.elem),
        _ => None,
    }
}

pub(crate) fn is_named(ty: &Type, names: &[&str]) -> bool {
    name(ty).is_some_and(|segment| names.iter().any(|name| segment.ident == name))
}

/// Returns `T` of a `Wrapper<T>`.
pub(crate) fn inside<'a>(ty: &'a Type, wrapper: &str) -> Option<&'a Type> {
    let arguments = arguments(ty).filter(|_| is_named(ty, &[wrapper]))?;
    match arguments.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

fn arguments(ty: &Type) -> Option<Vec<&Type>> {
    let PathArguments::AngleBracketed(arguments) = &name(ty)?.arguments else { return None };
    let types = arguments.args.iter().map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

const NUMBERS: [&str; 14] =
    ["i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize", "f32", "f64"];

/// Returns whether getters copy the type: numbers, `bool`, `char` and IP addresses.
pub(crate) fn is_copied(ty: &Type) -> bool {
    is_named(ty, &NUMBERS) || is_named(ty, &["bool", "char", "IpAddr", "Ipv4Addr", "Ipv6Addr"])
}

/// Returns whether equal values of the type always have equal encodings.
pub(crate) fn is_canonical(ty: &Type) -> bool {
    const CONTAINERS: [&str; 5] = ["Option", "Vec", "Box", "BTreeMap", "BTreeSet"];
    match ty {
        Type::Array(array) => is_canonical(&array.elem),
        Type::Tuple(tuple) => tuple.elems.iter().all(is_canonical),
        Type::Group(group) => is_canonical(&group.elem),
        Type::Paren(paren) => is_canonical(&paren.elem),
        _ if is_named(ty, &CONTAINERS) => {
            arguments(ty).is_some_and(|types| types.into_iter().all(is_canonical))
        }
        _ => is_copied(ty) || is_named(ty, &["String", "str", "Duration"]),
    }
}

/// Returns whether the type mentions a parameter of the struct, so that bounds on it have to be written.
pub(crate) fn is_generic(ty: &Type, generics: &Generics) -> bool {
    fn mentions(tokens: TokenStream, ident: &Ident) -> bool {
        tokens.into_iter().any(|token| match token {
            proc_macro2::TokenTree::Ident(found) => found == *ident,
            proc_macro2::TokenTree::Group(group) => mentions(group.stream(), ident),
            _ => false,
        })
    }
    generics.params.iter().any(|param| match param {
        GenericParam::Type(param) => mentions(ty.to_token_stream(), &param.ident),
        GenericParam::Const(param) => mentions(ty.to_token_stream(), &param.ident),
        GenericParam::Lifetime(_) => false,
    })
}
