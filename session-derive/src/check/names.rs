//! Checks the stored names of the fields.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, LitStr};

use crate::errors::Errors;

/// The stored names of all fields, with their aliases.
#[derive(Default)]
pub(super) struct Names {
    taken: Vec<Name>,
}

struct Name {
    text: String,
    tag: u32,
    field: String,
}

impl Names {
    /// Adds the stored name of a field.
    pub(super) fn add_field(
        &mut self,
        ident: &Ident,
        rename: Option<&LitStr>,
        case: Case,
        errors: &Errors,
    ) -> String {
        let field = ident.unraw().to_string();
        let name = rename.map_or_else(|| case.apply(&field), LitStr::value);
        let other = if field == name { format!("{field}_2") } else { field.clone() };
        let help = format!("give it another name: `rename = \"{other}\"`");
        match rename {
            Some(literal) => self.add(field, literal, name, &help, errors),
            None => self.add(field, ident, name, &help, errors),
        }
    }

    /// Adds an earlier stored name of a field.
    pub(super) fn add_alias(&mut self, ident: &Ident, alias: &LitStr, errors: &Errors) -> String {
        let field = ident.unraw().to_string();
        let help = "write the name under which old sessions store the field, or remove `alias`";
        self.add(field, alias, alias.value(), help, errors)
    }

    fn add(&mut self, field: String, at: impl ToTokens, name: String, help: &str, errors: &Errors) -> String {
        let tag = tag(&name);
        let same_tag = self.taken.iter().find(|other| other.tag == tag);
        if name.is_empty() {
            errors.push(at, "the stored name is empty", help);
        } else if name.starts_with('#') {
            errors.push(
                at,
                format_args!("the stored name `{name}` starts with `#`, which the record reserves"),
                help,
            );
        } else if let Some(other) = same_tag {
            let message = if other.text == name && other.field == field {
                format!("`{name}` is a stored name of `{field}` already")
            } else if other.text == name {
                format!("`{name}` is the stored name of both `{}` and `{field}`", other.field)
            } else {
                format!("the stored names `{name}` and `{}` have the same 32-bit tag", other.text)
            };
            errors.push(at, message, help);
        }
        self.taken.push(Name { text: name.clone(), tag, field });
        name
    }
}

/// Returns the tag of a field in a record: 32 bits of FNV-1a.
fn tag(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// serde's `rename_all`.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

pub(crate) const CASES: [(&str, Case); 8] = [
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
    /// Converts the name of a field from snake case.
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

    /// Converts the name of a variant from Pascal case.
    pub(crate) fn apply_to_variant(self, variant: &str) -> String {
        let mut snake = String::new();
        for (index, letter) in variant.char_indices() {
            if index > 0 && letter.is_uppercase() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        match self {
            Self::Pascal => variant.to_owned(),
            Self::Lower => variant.to_ascii_lowercase(),
            Self::Upper => variant.to_ascii_uppercase(),
            _ => self.apply(&snake),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variants_follow_serdes_cases() {
        assert_eq!(
            CASES.map(|(_, case)| case.apply_to_variant("HighContrast")),
            [
                "highcontrast",
                "HIGHCONTRAST",
                "HighContrast",
                "highContrast",
                "high_contrast",
                "HIGH_CONTRAST",
                "high-contrast",
                "HIGH-CONTRAST",
            ]
        );
    }

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
