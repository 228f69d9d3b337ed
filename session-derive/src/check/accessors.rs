//! Checks that every accessor can be called by its name, also on a `Session` and a `LoggedIn`, whose own methods come
//! first.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, LitStr};

use crate::ast::{self, Input};
use crate::attr::{FieldAttrs, Switch};
use crate::errors::Errors;
use crate::model::GeneratedNames;

/// The methods of `Session`. The tests compare them with its source.
const SESSION_METHODS: [&str; 18] = [
    "id",
    "is_new",
    "created",
    "expires",
    "log_in",
    "log_out",
    "rotate",
    "rotate_and_end_others",
    "destroy",
    "remember",
    "remember_for",
    "reauthenticated",
    "authenticated_at",
    "save",
    "reload",
    "update",
    "csrf_token",
    "verify_csrf",
];

/// The methods of `LoggedIn`, which derefs to `Session`. The tests compare them with its source.
const LOGGED_IN_METHODS: [&str; 2] = ["user", "log_out"];

pub(super) fn check_accessors(input: &Input<'_>, errors: &Errors) {
    let mut taken: Vec<(String, &Ident)> = Vec::new();
    for field in &input.fields {
        check_accessor_name(field, errors);
        let generated = GeneratedNames::of(input, field);
        let names = generated.names();
        let mistake = names.iter().find_map(|name| Some((name, rejection(field, name, &taken)?)));
        if let Some((name, message)) = mistake {
            let stem = field.ident.unraw();
            if generated.constant.is_some_and(|constant| constant == name) {
                let help = format!("rename the field, and keep its stored name: `rename = \"{stem}\"`");
                errors.push(field.ident, message, help);
            } else {
                let written = field.attrs.accessor.value().map(LitStr::to_token_stream);
                let at = written.unwrap_or_else(|| field.ident.to_token_stream());
                errors.push(at, message, format_args!("write another name: `accessor = \"{stem}_value\"`"));
            }
        }
        taken.extend(names.into_iter().map(|name| (name, field.ident)));
    }
}

/// Returns why the field cannot have a generated name, if it cannot.
fn rejection(field: &ast::Field<'_>, name: &str, taken: &[(String, &Ident)]) -> Option<String> {
    if SESSION_METHODS.contains(&name) {
        return Some(format!("the accessor `{name}` is hidden by `Session::{name}`"));
    }
    if LOGGED_IN_METHODS.contains(&name) {
        // `LoggedIn::user` returns the same as the accessor of the user, without its `Option`.
        let is_user = name == "user" && field.attrs.user_id.is_given();
        return (!is_user).then(|| {
            let only = if name == "user" { "; only the `user_id` field can have it" } else { "" };
            format!("the accessor `{name}` is hidden by `LoggedIn::{name}`{only}")
        });
    }
    if name == "SCHEMA" {
        return Some("the column constant `SCHEMA` hides `Databag::SCHEMA`".to_owned());
    }
    let (_, owner) = taken.iter().find(|(other, _)| other == name)?;
    Some(format!("`{name}` is already generated for the field `{owner}`"))
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
            format_args!("`{}` is not the name of a method", literal.value()),
            format_args!("write `accessor = \"{}\"`", field.ident.unraw()),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use syn::{ImplItem, Item, ItemImpl, Type, Visibility};

    use super::*;

    const SOURCES: [&str; 2] = [
        concat!(env!("CARGO_MANIFEST_DIR"), "/../session-runtime/src/request/session.rs"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/../session-runtime/src/request/logged_in.rs"),
    ];

    /// The traits whose methods `Session` and `LoggedIn` have. A method of a trait hides an accessor only where the
    /// trait is imported, and `Drop::drop` cannot be called at all.
    const TRAITS: [&str; 4] = ["Debug", "Deref", "DerefMut", "Drop"];

    /// The `impl` blocks of the types that deref to a bag.
    fn impls() -> Vec<(String, ItemImpl)> {
        let items = SOURCES.iter().flat_map(|file| {
            let source = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
            syn::parse_file(&source).expect("the source of `Session` is Rust").items
        });
        let impls = items.filter_map(|item| if let Item::Impl(item) = item { Some(item) } else { None });
        impls.filter_map(|item| Some((last_segment(&item.self_ty)?, item))).collect()
    }

    fn last_segment(ty: &Type) -> Option<String> {
        let Type::Path(path) = ty else { return None };
        path.path.segments.last().map(|segment| segment.ident.to_string())
    }

    /// Returns the public methods of a type. A function without `self` hides no accessor.
    fn methods(ty: &str) -> BTreeSet<String> {
        let own = impls().into_iter().filter(|(name, item)| name == ty && item.trait_.is_none());
        let items = own.flat_map(|(_, item)| item.items);
        let public = items.filter_map(|item| match item {
            ImplItem::Fn(function) if matches!(function.vis, Visibility::Public(_)) => Some(function.sig),
            _ => None,
        });
        public.filter(|sig| sig.receiver().is_some()).map(|sig| sig.ident.unraw().to_string()).collect()
    }

    #[track_caller]
    fn assert_lists(list: &[&str], ty: &str) {
        let listed: BTreeSet<_> = list.iter().map(|name| (*name).to_owned()).collect();
        let methods = methods(ty);
        let missing: Vec<_> = methods.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&methods).collect();
        assert!(missing.is_empty(), "methods of `{ty}` that the list lacks: {missing:?}");
        assert!(gone.is_empty(), "names in the list that `{ty}` does not have: {gone:?}");
    }

    #[test]
    fn the_methods_of_session_and_of_logged_in_are_the_reserved_names() {
        assert_lists(&SESSION_METHODS, "Session");
        assert_lists(&LOGGED_IN_METHODS, "LoggedIn");
    }

    #[test]
    fn a_session_ref_has_no_method_that_a_session_lacks() {
        let methods = methods("SessionRef");
        assert!(methods.contains("id"), "{methods:?}");
        assert!(methods.iter().all(|name| SESSION_METHODS.contains(&name.as_str())), "{methods:?}");
    }

    #[test]
    fn the_traits_of_session_and_of_logged_in_are_known() {
        for (ty, item) in impls() {
            let Some((path, _)) = item.trait_ else { continue };
            let name = path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
            assert!(
                TRAITS.contains(&name.as_str()),
                "`{ty}` implements `{name}`: do its methods hide accessors?"
            );
        }
    }
}
