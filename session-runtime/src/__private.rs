//! What generated code calls. Not part of the public interface: it changes without notice.

pub use std::option::Option::{self, None, Some};
pub use std::primitive::{bool, str, u32, usize};
pub use std::result::Result::{self, Ok};

pub use std::clone::Clone;
pub use std::convert::Into;
pub use std::default::Default;
pub use std::fmt;
pub use std::net::IpAddr;
pub use std::string::String;
pub use std::time::Duration;

pub use serde;

pub use crate::bag::{
    Bind, Columns, CookieSchema, Databag, Field, HasIp, HasUser, Persistence, Projection, Role, SameSite,
    Schema,
};
pub use crate::codec::{Bincode, Codec, CodecError, Json};
pub use crate::column::Column;
pub use crate::record::{Decoder, Encoder};
pub use crate::shape::Shapes;
pub use crate::store::ColumnRef;
pub use crate::value::{ColumnType, ColumnValue, Value};

use serde::de::DeserializeOwned;

/// Compares a field with an encoding, by `==` where the type has it.
///
/// Two encodings of one value may differ, as the order of a `HashMap` does. `Equals(&field, bytes)` picks
/// the implementation by autoref: `(&Equals(..)).equals::<C>()` finds [`ByValue`] where `T` is `PartialEq`
/// and [`ByEncoding`] elsewhere.
#[derive(Debug)]
pub struct Equals<'a, T>(pub &'a T, pub &'a [u8]);

/// The type has `==`.
pub trait ByValue {
    fn equals<C: Codec>(&self) -> bool;
}

impl<T: PartialEq + DeserializeOwned> ByValue for Equals<'_, T> {
    fn equals<C: Codec>(&self) -> bool {
        C::decode::<T>(self.1).is_ok_and(|loaded| loaded == *self.0)
    }
}

/// The type has no `==`: a different encoding is a different value.
pub trait ByEncoding {
    fn equals<C: Codec>(&self) -> bool;
}

impl<T> ByEncoding for &Equals<'_, T> {
    fn equals<C: Codec>(&self) -> bool {
        false
    }
}
