//! Mistakes, collected so that all mistakes of a struct are reported at once. A place, a message and a help line
//! enter; one `compile_error!` for each mistake leaves.

use std::cell::RefCell;
use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors {
    found: RefCell<Vec<syn::Error>>,
}

impl Errors {
    /// Reports a mistake. rustc underlines `at`.
    pub(crate) fn push(&self, at: impl ToTokens, message: impl Display, help: impl Display) {
        // rustc indents the second line of a message like its first.
        let error = syn::Error::new_spanned(at, format!("{message}\nhelp: {help}"));
        self.found.borrow_mut().push(error);
    }

    /// Reports a syntax error inside the brackets of a value.
    pub(crate) fn push_syntax(&self, error: &syn::Error) {
        let message = format!("{error}\nhelp: complete the value, or remove what follows it");
        self.found.borrow_mut().push(syn::Error::new(error.span(), message));
    }

    /// Returns `value`, unless there were mistakes.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, TokenStream> {
        let found = self.found.into_inner();
        if found.is_empty() {
            return Ok(value);
        }
        Err(found.iter().map(syn::Error::to_compile_error).collect())
    }
}

/// Lists words as `` `a`, `b` and `c` ``.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} and `{last}`", first.join(", "))
        }
    }
}

/// Returns the word that is nearest to `wrong`, if one is near.
pub(crate) fn nearest<'a>(wrong: &str, words: &[&'a str]) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let close = |word: &&'a str| (distance(&wrong, &word.to_lowercase()), *word);
    let (distance, word) = words.iter().map(close).min_by_key(|(distance, _)| *distance)?;
    (distance <= wrong.len().max(3) / 3).then_some(word)
}

/// Returns the Levenshtein distance; a swap of neighbours counts as one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognised_and_a_different_word_is_not() {
        let words = ["column", "index", "flash", "user_id"];
        assert_eq!(nearest("colunm", &words), Some("column"));
        assert_eq!(nearest("Flash", &words), Some("flash"));
        assert_eq!(nearest("userid", &words), Some("user_id"));
        assert_eq!(nearest("persist", &words), None);
    }
}
