//! Attacks that succeed. A gap that is closed fails the suite until it is taken off this list.

use super::case::{Kind, Stores};

/// How often an attack succeeds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succeeds {
    Always,
    /// It is a race.
    Sometimes,
}

use self::Succeeds::{Always, Sometimes};

/// The case, the stores on which it succeeds, and how often.
pub(crate) const KNOWN_GAPS: &[(&str, Stores, Succeeds)] = &[
    // R24: what is no random key is accepted.
    ("a key of 16 digits, four times", Stores::Any, Always),
    ("a key of 16 bytes, twice", Stores::Any, Always),
    ("a key that counts up", Stores::Any, Always),
    ("a key that counts down", Stores::Any, Always),
    ("43 small letters", Stores::Any, Always),
    ("43 digits", Stores::Any, Always),
    ("63 hexadecimal digits", Stores::Any, Always),
    ("96 hexadecimal digits", Stores::Any, Always),
    ("128 hexadecimal digits", Stores::Any, Always),
    // R28: the presets hold less than they say.
    ("production without the prefix", Stores::Any, Always),
    ("production with the lesser prefix", Stores::Any, Always),
    ("development for a stranger", Stores::Any, Always),
    // R32: what is secret is shown, or stays in memory.
    ("Debug of a row and its values", Stores::Rows, Always),
    ("the memory of a process after a session's end", Stores::Any, Always),
];

/// Returns how often a case is known to succeed on a store; `None` if it must not.
pub(crate) fn known_gap(case: &str, kind: Kind) -> Option<Succeeds> {
    let gap = KNOWN_GAPS.iter().find(|(name, stores, _)| *name == case && stores.include(kind));
    gap.map(|(_, _, succeeds)| *succeeds)
}
