//! Slots: where the parser puts what it reads for a key.

use syn::parse::ParseStream;
use syn::{Ident, LitStr};

use super::value::Value;
use crate::errors::Errors;

/// The entry of a key that may be given once.
pub(crate) struct Entry<T> {
    given: Option<(Ident, Option<T>)>,
}

/// The entries of a key that may be given any number of times.
pub(crate) struct Entries<T> {
    given: Vec<(Ident, Option<T>)>,
}

impl<T> Entry<T> {
    pub(crate) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    pub(crate) fn key(&self) -> Option<&Ident> {
        self.given.as_ref().map(|(key, _)| key)
    }

    /// Returns the value, unless a mistake in it was reported.
    pub(crate) fn value(&self) -> Option<&T> {
        self.given.as_ref()?.1.as_ref()
    }
}

impl Entry<LitStr> {
    pub(crate) fn text(&self) -> Option<String> {
        self.value().map(LitStr::value)
    }
}

impl<T> Entries<T> {
    /// Returns the values in which no mistake was reported.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.given.iter().filter_map(|(_, value)| value.as_ref())
    }
}

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Self { given: None }
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { given: Vec::new() }
    }
}

/// A slot of any type.
pub(crate) trait Slot {
    /// Reads what follows the key. Returns `None` if a mistake in it was reported.
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()>;

    /// Returns where the key was written first, if it was.
    fn key(&self) -> Option<&Ident>;
}

impl<T: Value> Slot for Entry<T> {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()> {
        if self.is_given() {
            errors.push(&key, format_args!("`{key}` is given twice"), "remove one of the two");
            return None;
        }
        let value = T::read(&key, input, errors);
        let is_valid = value.is_some().then_some(());
        self.given = Some((key, value));
        is_valid
    }

    fn key(&self) -> Option<&Ident> {
        self.key()
    }
}

impl<T: Value> Slot for Entries<T> {
    fn fill(&mut self, key: Ident, input: ParseStream<'_>, errors: &Errors) -> Option<()> {
        let value = T::read(&key, input, errors);
        let is_valid = value.is_some().then_some(());
        self.given.push((key, value));
        is_valid
    }

    fn key(&self) -> Option<&Ident> {
        self.given.first().map(|(key, _)| key)
    }
}
