//! Attacks that succeed. A gap that is closed fails the suite until it is taken off this list.

use super::case::{Kind, Stores};

/// The case, and the stores on which it succeeds.
pub(crate) const KNOWN_GAPS: &[(&str, Stores)] = &[];

/// Returns whether a case is known to succeed on a store, which it must not.
pub(crate) fn is_known_gap(case: &str, kind: Kind) -> bool {
    KNOWN_GAPS.iter().any(|(name, stores)| *name == case && stores.include(kind))
}
