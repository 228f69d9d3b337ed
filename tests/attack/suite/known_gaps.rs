//! Attacks that succeed. A gap that is closed fails the suite until it is taken off this list.

use super::case::{Kind, Stores};

/// The case, and the stores on which it succeeds.
pub(crate) const KNOWN_GAPS: &[(&str, Stores)] = &[
    // R24: what is no random key is accepted.
    ("a key of 16 digits, four times", Stores::Any),
    ("a key of 16 bytes, twice", Stores::Any),
    ("a key that counts up", Stores::Any),
    ("a key that counts down", Stores::Any),
    ("43 small letters", Stores::Any),
    ("43 digits", Stores::Any),
    ("63 hexadecimal digits", Stores::Any),
    ("96 hexadecimal digits", Stores::Any),
    ("128 hexadecimal digits", Stores::Any),
    // R28: the presets hold less than they say.
    ("production without the prefix", Stores::Any),
    ("production with the lesser prefix", Stores::Any),
    ("development for a stranger", Stores::Any),
    // R32: what is secret is shown, or stays in memory.
    ("Debug of a row and its values", Stores::Rows),
    ("the memory of a process after a session's end", Stores::Any),
];

/// Returns whether a case is known to succeed on a store, which it must not.
pub(crate) fn is_known_gap(case: &str, kind: Kind) -> bool {
    KNOWN_GAPS.iter().any(|(name, stores)| *name == case && stores.include(kind))
}
