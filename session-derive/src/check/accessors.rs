//! Checks that every accessor can be called by its name.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, LitStr};

use crate::ast::{self, Input};
use crate::attr::{FieldAttrs, Switch};
use crate::errors::Errors;
use crate::model::Surface;

/// The methods of `Session`, which an accessor of the bag would never be called instead of.
const SESSION_METHODS: [&str; 14] = [
    "id",
    "is_new",
    "created",
    "expires",
    "log_in",
    "log_out",
    "rotate",
    "destroy",
    "remember",
    "save",
    "reload",
    "update",
    "csrf_token",
    "verify_csrf",
];

pub(super) fn check_accessors(input: &Input<'_>, errors: &Errors) {
    let mut taken: Vec<(String, &Ident)> = Vec::new();
    for field in &input.fields {
        check_accessor_name(field, errors);
        let surface = Surface::of(input, field);
        let names = surface.names();
        let mistake = names.iter().find_map(|name| Some((name, refuse(name, &taken)?)));
        if let Some((name, message)) = mistake {
            let stem = field.ident.unraw();
            if surface.constant.is_some_and(|constant| constant == name) {
                let help = format!("rename the field, and keep what is stored: `rename = \"{stem}\"`");
                errors.push(field.ident, message, help);
            } else {
                let written = field.attrs.accessor.value().map(LitStr::to_token_stream);
                let at = written.unwrap_or_else(|| field.ident.to_token_stream());
                errors.push(at, message, format_args!("name it: `accessor = \"{stem}_value\"`"));
            }
        }
        taken.extend(names.into_iter().map(|name| (name, field.ident)));
    }
}

/// Tells why nothing of a bag can have the name, if so.
fn refuse(name: &str, taken: &[(String, &Ident)]) -> Option<String> {
    if SESSION_METHODS.contains(&name) {
        return Some(format!("the accessor `{name}` is hidden by `Session::{name}`"));
    }
    match name {
        "user" => Some("the accessor `user` is hidden by `LoggedIn::user`".to_owned()),
        "SCHEMA" => Some("the column constant `SCHEMA` hides `Databag::SCHEMA`".to_owned()),
        _ => {
            let (_, owner) = taken.iter().find(|(other, _)| other == name)?;
            Some(format!("`{name}` is generated for `{owner}` already"))
        }
    }
}

fn check_accessor_name(field: &ast::Field<'_>, errors: &Errors) {
    let FieldAttrs { accessor, accessors, .. } = &field.attrs;
    if let Some(key) = accessor.key()
        && accessors.value() == Some(&Switch(false))
    {
        errors.push(
            key,
            "`accessors = false` cannot be combined with `accessor`",
            "remove `accessor`, or remove `accessors = false`",
        );
    }
    if let Some(literal) = accessor.value()
        && literal.parse::<Ident>().is_err()
    {
        errors.push(
            literal,
            format_args!("`{}` cannot name a method", literal.value()),
            format_args!("write `accessor = \"{}\"`", field.ident.unraw()),
        );
    }
}
