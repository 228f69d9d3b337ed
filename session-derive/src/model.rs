//! A bag that is valid: the output of `check`, and the input of `expand`.

use std::collections::HashSet;

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::{Expr, Ident, Path, Type};

use crate::ast::{self, Input, inside};
use crate::attr::{FieldAttrs, Switch};

/// A struct that can be a session.
pub(crate) struct Bag<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) codec: Codec<'a>,
    pub(crate) name: String,
    pub(crate) table: String,
    pub(crate) columns: Columns,
    pub(crate) cookie: Cookie,
    pub(crate) lifetime: Lifetime,
    pub(crate) max_per_user: Option<u32>,
    pub(crate) version: u32,
    pub(crate) fields: Vec<Field<'a>>,
}

pub(crate) enum Codec<'a> {
    Bincode,
    Json,
    Own(&'a Type),
}

/// The names of the runtime's columns.
pub(crate) struct Columns {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) user_id: String,
    pub(crate) ip_addr: String,
    pub(crate) created: String,
    pub(crate) expiration: String,
    pub(crate) revision: String,
}

pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) same_site: SameSite,
    pub(crate) secure: bool,
    pub(crate) partitioned: bool,
    pub(crate) persistence: Persistence,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum SameSite {
    Strict,
    Lax,
    None,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Persistence {
    Browser,
    Persistent,
}

/// How long a session lives, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) idle: u64,
    pub(crate) absolute: u64,
    pub(crate) remember: u64,
}

pub(crate) struct Field<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    /// Where rustc reports errors about the type.
    pub(crate) at: Span,
    pub(crate) default: Option<&'a Expr>,
    pub(crate) secret: bool,
    /// How the field is stored; `None` if it is skipped.
    pub(crate) stored: Option<Stored<'a>>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of its own")]
pub(crate) struct Stored<'a> {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) role: Role<'a>,
    /// Whether the column holds hashes.
    pub(crate) blind: bool,
    pub(crate) from: Option<&'a Type>,
    pub(crate) with: Option<&'a Path>,
    /// The codec, if it is not the bag's.
    pub(crate) codec: Option<Codec<'a>>,
    pub(crate) merge: Merge<'a>,
    pub(crate) flash: bool,
    pub(crate) user_agent: bool,
    /// How long a flow lives, in milliseconds, if the field holds flows.
    pub(crate) flow: Option<u64>,
    /// In milliseconds.
    pub(crate) ttl: Option<u64>,
    pub(crate) keep_on_logout: bool,
    pub(crate) reset_on_login: bool,
}

/// How a field is merged that two requests have changed.
pub(crate) enum Merge<'a> {
    /// There is no `merge` attribute: maps and sets are merged by entries, other types take the later write.
    Default,
    Known(Policy),
    Function(&'a Path),
    /// The field holds flows, of this type.
    Flows(&'a Type),
}

#[derive(Clone, Copy)]
pub(crate) enum Policy {
    Last,
    Entries,
    Append,
    Sum,
    Max,
    Min,
    Reject,
}

pub(crate) enum Role<'a> {
    Plain,
    /// The type of the user, without its `Option`.
    User(&'a Type),
    Ip(Bind),
    Column {
        name: String,
        index: bool,
    },
}

#[derive(Clone, Copy)]
pub(crate) enum Bind {
    Exact,
    Prefix,
    Off,
}

/// The names that are generated for a field. They do not depend on the checks, so that the stubs of a bag with
/// mistakes have them too.
pub(crate) struct GeneratedNames<'a> {
    pub(crate) accessors: Option<Accessors<'a>>,
    /// The constant of the field's column.
    pub(crate) constant: Option<Ident>,
}

pub(crate) struct Accessors<'a> {
    pub(crate) stem: Ident,
    pub(crate) kind: AccessorKind<'a>,
}

pub(crate) enum AccessorKind<'a> {
    /// The address, which the runtime sets.
    ReadOnly,
    Plain,
    /// The field is an `Option` of the type.
    Option(&'a Type),
}

impl<'a> GeneratedNames<'a> {
    /// Returns the names of every field. A field is left out if one of its names is taken, which `check` has
    /// reported.
    pub(crate) fn all<'b>(input: &'b Input<'a>) -> Vec<(&'b ast::Field<'a>, Self)> {
        let mut taken = HashSet::new();
        let fields = input.fields.iter().map(|field| (field, Self::of(input, field)));
        fields.filter(|(_, generated)| generated.names().into_iter().all(|name| taken.insert(name))).collect()
    }

    pub(crate) fn of(input: &Input<'_>, field: &ast::Field<'a>) -> Self {
        let FieldAttrs { user_id, ip_addr, column, accessors, .. } = &field.attrs;
        let projected = user_id.is_given() || ip_addr.is_given() || column.is_given();
        let constant = field.ident.unraw().to_string().to_uppercase();
        let off =
            [&input.attrs.accessors, accessors].map(|accessors| accessors.value() == Some(&Switch(false)));
        Self {
            accessors: (off == [false, false]).then(|| Accessors::of(field)),
            constant: projected.then(|| Ident::new(&constant, field.ident.span())),
        }
    }

    /// Returns the names of the accessors and of the constant.
    pub(crate) fn names(&self) -> Vec<String> {
        let accessors = self.accessors.iter().flat_map(Accessors::names);
        accessors.chain(self.constant.iter().map(Ident::to_string)).collect()
    }
}

impl<'a> Accessors<'a> {
    fn of(field: &ast::Field<'a>) -> Self {
        let named = field.attrs.accessor.value().and_then(|name| name.parse().ok());
        let kind = match inside(field.ty, "Option") {
            _ if field.attrs.ip_addr.is_given() || field.attrs.user_agent.is_given() => {
                AccessorKind::ReadOnly
            }
            Some(value) => AccessorKind::Option(value),
            None => AccessorKind::Plain,
        };
        Self { stem: named.unwrap_or_else(|| field.ident.clone()), kind }
    }

    fn names(&self) -> Vec<String> {
        let stem = self.stem.unraw();
        let mut names = vec![stem.to_string()];
        if !matches!(self.kind, AccessorKind::ReadOnly) {
            names.extend([format!("{stem}_mut"), format!("set_{stem}")]);
        }
        if let AccessorKind::Option(_) = self.kind {
            names.extend([format!("clear_{stem}"), format!("take_{stem}")]);
        }
        names
    }
}
