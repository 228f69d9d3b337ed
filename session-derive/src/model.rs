//! A bag that is correct: what `check` lets through, and all that `expand` looks at.

use syn::ext::IdentExt;
use syn::{Expr, Ident, Path, Type};

use crate::ast::{self, Input, inside};
use crate::attr::Switch;

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
}

pub(crate) struct Field<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    pub(crate) default: Option<&'a Expr>,
    pub(crate) secret: bool,
    /// How it is stored, unless it is skipped.
    pub(crate) stored: Option<Stored<'a>>,
}

pub(crate) struct Stored<'a> {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) role: Role<'a>,
    pub(crate) from: Option<&'a Type>,
    pub(crate) with: Option<&'a Path>,
    pub(crate) flash: bool,
    pub(crate) keep_on_logout: bool,
    pub(crate) reset_on_login: bool,
}

pub(crate) enum Role<'a> {
    Plain,
    /// The user, without its `Option`.
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

/// The accessors of a field. They can be told before the field has been checked, so that the stubs have them too.
pub(crate) struct Accessors<'a> {
    pub(crate) stem: Ident,
    pub(crate) kind: AccessorKind<'a>,
}

pub(crate) enum AccessorKind<'a> {
    /// The address: the runtime fills it.
    ReadOnly,
    Plain,
    /// An `Option` of the type.
    Option(&'a Type),
}

impl<'a> Accessors<'a> {
    pub(crate) fn of(input: &Input<'_>, field: &ast::Field<'a>) -> Option<Self> {
        let off = [&input.attrs.accessors, &field.attrs.accessors];
        if off.into_iter().any(|accessors| accessors.value() == Some(&Switch(false))) {
            return None;
        }
        let named = field.attrs.accessor.value();
        let stem = named.and_then(|name| name.parse().ok()).unwrap_or_else(|| field.ident.clone());
        let kind = match inside(field.ty, "Option") {
            _ if field.attrs.ip_addr.is_given() => AccessorKind::ReadOnly,
            Some(value) => AccessorKind::Option(value),
            None => AccessorKind::Plain,
        };
        Some(Self { stem, kind })
    }

    /// Returns the names of all of them.
    pub(crate) fn names(&self) -> Vec<String> {
        let stem = self.stem.unraw();
        let all = ["", "_mut", "set_", "clear_", "take_"];
        let count = match self.kind {
            AccessorKind::ReadOnly => 1,
            AccessorKind::Plain => 3,
            AccessorKind::Option(_) => 5,
        };
        let name = |affix: &str| match affix.strip_suffix('_') {
            Some(_) => format!("{affix}{stem}"),
            None => format!("{stem}{affix}"),
        };
        all[..count].iter().copied().map(name).collect()
    }
}

/// Returns the name of a field's column constant, if it has a column.
pub(crate) fn constant(field: &ast::Field<'_>) -> Option<Ident> {
    let attrs = &field.attrs;
    let projected = attrs.user_id.is_given() || attrs.ip_addr.is_given() || attrs.column.is_given();
    projected.then(|| Ident::new(&field.ident.unraw().to_string().to_uppercase(), field.ident.span()))
}
