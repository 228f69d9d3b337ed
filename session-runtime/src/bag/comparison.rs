//! Comparisons of a field with an encoded value: has it changed, and would it come back as it is?
//!
//! Values are compared by `==` where the type has it. Encodings alone say too little: equal values may have different
//! ones, such as a `HashMap` in another order.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Codec};

/// The `==` of a type, if it has one. Without it values are compared by their encodings, and then another order of a
/// `HashMap` inside a value is a change.
#[doc(hidden)]
pub type Equality<T> = Option<fn(&T, &T) -> bool>;

/// What a comparison is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Comparison {
    /// Whether the field equals the value that is stored, although its own encoding differs.
    Unchanged,
    /// Whether the field's own encoding comes back as the field.
    ReadBack,
}

#[doc(hidden)]
impl Comparison {
    /// Compares a field whose equal values always have equal encodings.
    pub fn canonical<C: Codec, T: Serialize + DeserializeOwned>(
        self,
        value: &T,
        encoded: &[u8],
        equality: Equality<T>,
    ) -> bool {
        self == Self::ReadBack && self.field::<C, T>(value, encoded, equality)
    }

    /// Compares a field.
    pub fn field<C: Codec, T: Serialize + DeserializeOwned>(
        self,
        value: &T,
        encoded: &[u8],
        equality: Equality<T>,
    ) -> bool {
        self.decoded::<C, T, T>(value, encoded, equality, |value| value, |value| encoding::<C>(value))
    }

    /// Compares a field that is decoded as `W` and encoded by `encode`.
    pub(crate) fn decoded<C: Codec, W: DeserializeOwned, T>(
        self,
        value: &T,
        encoded: &[u8],
        equality: Equality<T>,
        unwrap: fn(W) -> T,
        encode: impl Fn(&T) -> Option<Vec<u8>>,
    ) -> bool {
        if self == Self::Unchanged && equality.is_none() {
            return false;
        }
        let Ok(decoded) = codec::decode::<C, W>(encoded).map(unwrap) else { return false };
        let by_encoding = || encode(&decoded).is_some_and(|again| same_bytes(again, encoded));
        match equality {
            Some(equal) if equal(value, &decoded) => true,
            // A value that does not equal itself holds a NaN: its encoding decides.
            Some(equal) => {
                self == Self::ReadBack && !equal(value, value) && !equal(&decoded, &decoded) && by_encoding()
            }
            None => by_encoding(),
        }
    }
}

pub(crate) fn encoding<C: Codec>(value: &(impl Serialize + ?Sized)) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode::<C, _>(value, &mut bytes).ok().map(|()| bytes)
}

/// Compares two encodings of one type. A decoded `HashMap` is encoded in another order, so any order of the same bytes
/// counts as the same: a type whose content changes places on its way needs `==` to be found out.
fn same_bytes(mut one: Vec<u8>, other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let mut other = other.to_vec();
    one.sort_unstable();
    other.sort_unstable();
    one == other
}
