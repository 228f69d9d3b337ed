//! Checks the names that fields are stored under.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, LitStr};

use crate::errors::Errors;

/// The names that fields are stored under, older ones included.
#[derive(Default)]
pub(super) struct Names {
    taken: Vec<Stem>,
}

struct Stem {
    name: String,
    tag: u32,
    field: String,
}

impl Names {
    pub(super) fn add_field(
        &mut self,
        ident: &Ident,
        rename: Option<&LitStr>,
        case: Case,
        errors: &Errors,
    ) -> String {
        match rename {
            Some(literal) => self.add(ident, literal, literal.value(), errors),
            None => self.add(ident, ident, case.apply(&ident.unraw().to_string()), errors),
        }
    }

    pub(super) fn add(&mut self, ident: &Ident, at: impl ToTokens, name: String, errors: &Errors) -> String {
        let tag = tag(&name);
        let field = ident.unraw().to_string();
        if name.is_empty() {
            errors.push(
                &at,
                "a stored name is empty",
                format_args!("write `rename = \"{field}\"`, or leave it out"),
            );
        } else if name.starts_with('#') {
            errors.push(
                &at,
                format_args!("the stored name `{name}` starts with `#`"),
                format_args!(
                    "the record keeps such names to itself; write `\"{}\"`",
                    name.trim_start_matches('#')
                ),
            );
        } else if let Some(twin) = self.taken.iter().find(|other| other.tag == tag) {
            let message = if twin.name == name {
                format!("`{field}` is stored as `{name}`, which is also a name of `{}`", twin.field)
            } else {
                format!("the stored names `{name}` and `{}` have the same 32-bit tag", twin.name)
            };
            errors.push(&at, message, format_args!("give it another name: `rename = \"{field}_2\"`"));
        }
        self.taken.push(Stem { name: name.clone(), tag, field });
        name
    }
}

/// 32 bits of FNV-1a: what a record calls a field.
fn tag(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// serde's `rename_all`.
#[derive(Clone, Copy)]
pub(super) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

pub(super) const CASES: [(&str, Case); 8] = [
    ("lowercase", Case::Lower),
    ("UPPERCASE", Case::Upper),
    ("PascalCase", Case::Pascal),
    ("camelCase", Case::Camel),
    ("snake_case", Case::Snake),
    ("SCREAMING_SNAKE_CASE", Case::ScreamingSnake),
    ("kebab-case", Case::Kebab),
    ("SCREAMING-KEBAB-CASE", Case::ScreamingKebab),
];

impl Case {
    /// Rewrites the name of a field, which is in snake case.
    fn apply(self, field: &str) -> String {
        let upper = || field.to_ascii_uppercase();
        let pascal = || {
            let capitalised = |word: &str| {
                let first = word.chars().next().map(|c| c.to_ascii_uppercase());
                first.into_iter().chain(word.chars().skip(1)).collect::<String>()
            };
            field.split('_').map(capitalised).collect::<String>()
        };
        match self {
            Self::Lower | Self::Snake => field.to_owned(),
            Self::Upper | Self::ScreamingSnake => upper(),
            Self::Pascal => pascal(),
            Self::Camel => {
                let pascal = pascal();
                let first = pascal.chars().next().map(|c| c.to_ascii_lowercase());
                first.into_iter().chain(pascal.chars().skip(1)).collect()
            }
            Self::Kebab => field.replace('_', "-"),
            Self::ScreamingKebab => upper().replace('_', "-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_follow_serdes_cases() {
        let apply = |case: Case| case.apply("signed_in_at");
        assert_eq!(
            CASES.map(|(_, case)| apply(case)),
            [
                "signed_in_at",
                "SIGNED_IN_AT",
                "SignedInAt",
                "signedInAt",
                "signed_in_at",
                "SIGNED_IN_AT",
                "signed-in-at",
                "SIGNED-IN-AT",
            ]
        );
    }
}
