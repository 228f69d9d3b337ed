//! Checks that every accessor can be called by its name.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, LitStr};

use crate::ast::{self, Input};
use crate::attr::{FieldAttrs, Switch};
use crate::errors::Errors;
use crate::model::{Accessors, constant};

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
        if let Some(accessors) = Accessors::of(input, field) {
            let at =
                field.attrs.accessor.value().map_or(field.ident.to_token_stream(), LitStr::to_token_stream);
            let stem = field.ident.unraw();
            let help = format!("name it: `accessor = \"{stem}_value\"`");
            for name in accessors.names() {
                let owner = taken.iter().find(|(other, _)| *other == name);
                if SESSION_METHODS.contains(&name.as_str()) {
                    errors.push(
                        &at,
                        format_args!("the accessor `{name}` is hidden by `Session::{name}`"),
                        help,
                    );
                    break;
                } else if name == "user" {
                    errors.push(&at, "the accessor `user` is hidden by `LoggedIn::user`", help);
                    break;
                } else if let Some((_, owner)) = owner {
                    errors.push(&at, format_args!("`{name}` is also an accessor of `{owner}`"), help);
                    break;
                }
                taken.push((name, field.ident));
            }
        }
        if let Some(constant) = constant(field) {
            let name = constant.to_string();
            let owner =
                taken.iter().find(|(other, _)| *other == name).map(|(_, owner)| format!("of `{owner}`"));
            let owner = owner.or_else(|| (name == "SCHEMA").then(|| "of `Databag`".to_owned()));
            if let Some(owner) = owner {
                errors.push(
                    field.ident,
                    format_args!("the column constant `{name}` is also a name {owner}"),
                    format_args!(
                        "rename the field, and keep what is stored: `rename = \"{}\"`",
                        field.ident.unraw()
                    ),
                );
            }
            taken.push((name, field.ident));
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
