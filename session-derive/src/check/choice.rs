//! Checks values that are a number in a range, or one of a few words.

use quote::ToTokens;
use syn::{LitInt, LitStr};

use crate::attr::Entry;
use crate::errors::{Errors, listed, nearest};

/// Returns a number, which must be at least `least`.
pub(super) fn check_number(number: &Entry<LitInt>, least: u32, errors: &Errors) -> Option<u32> {
    let (key, value) = (number.key()?, number.value()?);
    match value.base10_parse::<u32>() {
        Ok(number) if number >= least => Some(number),
        _ => {
            errors.push(
                value,
                format_args!("`{key}` must be a number from {least} to {}", u32::MAX),
                format_args!("write `{key} = 5`, or remove it"),
            );
            None
        }
    }
}

/// Returns the meaning of a word that must be one of a few.
pub(crate) fn choose<T: Copy>(
    key: &str,
    word: &Entry<LitStr>,
    choices: &[(&'static str, T)],
    errors: &Errors,
) -> Option<T> {
    choose_word(key, word.value()?, choices, "", errors)
}

/// Does the same for a word that may be something else too; `otherwise` describes that.
pub(super) fn choose_word<T: Copy>(
    key: &str,
    word: &LitStr,
    choices: &[(&'static str, T)],
    otherwise: &str,
    errors: &Errors,
) -> Option<T> {
    let written = word.value();
    let found = choices.iter().find(|(choice, _)| *choice == written);
    if found.is_none() {
        let words: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        let takes = format!("`{key}` takes {}{otherwise}", listed(&words));
        let message = format!("unknown value `{written}` for `{key}`");
        match nearest(&written, &words) {
            Some(meant) => {
                let help = format_args!("did you mean `{meant}`? write `{key} = \"{meant}\"`; {takes}");
                errors.push(word, message, help);
            }
            None => errors.push(word, message, takes),
        }
    }
    found.map(|(_, choice)| *choice)
}

/// Rejects a word without its quotes, which would name an item of the user's.
pub(super) fn reject_unquoted<T>(
    key: &str,
    own: impl ToTokens,
    choices: &[(&'static str, T)],
    errors: &Errors,
) {
    let written = own.to_token_stream().to_string();
    if choices.iter().any(|(choice, _)| *choice == written) {
        errors.push(
            own,
            format_args!("`{written}` has no quotes"),
            format_args!(
                "write `{key} = \"{written}\"`, or `{key} = self::{written}` for an item of your own"
            ),
        );
    }
}
