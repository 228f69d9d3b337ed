//! What generated code calls. Not part of the public interface: it changes without notice.

pub use std::option::Option::{self, None, Some};
pub use std::primitive::{bool, str, u8, usize};
pub use std::result::Result::{self, Ok};

pub use std::convert::Into;
pub use std::fmt;
pub use std::net::IpAddr;
pub use std::time::Duration;

pub use serde;

pub use crate::bag::{
    Bind, Columns, CookieSchema, Databag, Field, HasIp, HasUser, Persistence, Projection, Role, SameSite,
    Schema,
};
pub use crate::codec::{Bincode, Codec, CodecError, Json};
pub use crate::column::Column;
pub use crate::lock::assert_schema;
pub use crate::merge::{Entries, Equality, Settled, Sides};
pub use crate::record::{Decoder, Encoder};
pub use crate::shape::Shapes;
pub use crate::store::ColumnRef;
pub use crate::value::{ColumnType, ColumnValue, Value};

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Returns what a field starts with for which the bag names no `default`.
pub fn start<T: Start>() -> T {
    T::start()
}

/// A type that a field can start with: one that has a `Default`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no default",
    label = "a new session would not know what to start with",
    note = "derive `Default` for it, or say what it starts with: `#[databag(default = ..)]`"
)]
pub trait Start {
    fn start() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> Start for T {
    fn start() -> Self {
        Self::default()
    }
}

/// Asserts that a field can be stored.
pub fn stored<T: Stored>() {}

/// A type that a field can be stored as.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a session",
    label = "needs `Serialize` and `Deserialize`, and to own its data",
    note = "derive them: `#[derive(serde::Serialize, serde::Deserialize)]`",
    note = "a type of another crate may have them behind a feature named `serde`; else name a module that encodes \
            it, `#[databag(with = module)]`, or keep it for one request only, `#[databag(skip)]`"
)]
pub trait Stored: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Stored for T {}

/// Asserts that a field can have been stored as this type.
pub fn stored_before<T: StoredBefore>() {}

/// A type that `from` can name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from old sessions",
    label = "needs `Deserialize`, and to own its data",
    note = "derive it, and name the fields as they were stored: `#[derive(serde::Deserialize)]`"
)]
pub trait StoredBefore: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> StoredBefore for T {}

/// Returns the schema of a field of which nothing is said but its name.
pub const fn plain(name: &'static str) -> Field {
    Field {
        name,
        aliases: &[],
        role: Role::Plain,
        flash: false,
        keep_on_logout: false,
        reset_on_login: false,
    }
}

/// Returns what a column holds that a field is projected into.
pub const fn column_type<T: ColumnValue>() -> ColumnType {
    T::TYPE
}

/// Returns what the column of the user holds.
pub const fn user_type<B: HasUser>() -> ColumnType {
    <B::User as ColumnValue>::TYPE
}

/// Names the column of the user.
pub const fn user_column<B: HasUser>() -> Column<B, B::User> {
    Column::new(ColumnRef::User)
}

/// Returns the value of an enum in a column.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Names such a column.
pub const fn column<B, T: ColumnValue>(column: ColumnRef) -> Column<B, T> {
    Column::new(column)
}

/// A field of the bag `B` that a module encodes in its own way: `#[databag(with = module)]`.
pub trait With<B> {
    type Field;

    fn serialize<S: Serializer>(value: &Self::Field, serializer: S) -> Result<S::Ok, S::Error>;
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Field, D::Error>;
}

/// Stands in for such a field where it is encoded.
#[derive(Debug)]
pub struct Encoded<'a, B, W: With<B>>(pub &'a W::Field);

impl<B, W: With<B>> Serialize for Encoded<'_, B, W> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        W::serialize(self.0, serializer)
    }
}

/// Stands in for such a field where it is decoded.
#[derive(Debug)]
pub struct Decoded<B, W: With<B>>(W::Field, PhantomData<fn() -> B>);

impl<B, W: With<B>> Decoded<B, W> {
    pub fn into_field(self) -> W::Field {
        self.0
    }
}

impl<'de, B, W: With<B>> Deserialize<'de> for Decoded<B, W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        W::deserialize(deserializer).map(|field| Self(field, PhantomData))
    }
}

/// Compares a field with an encoding: two of one value may differ, as the order of a `HashMap` does.
pub fn equals<C: Codec, T: DeserializeOwned>(field: &T, encoded: &[u8], equality: Equality<T>) -> bool {
    equality.is_some_and(|equal| C::decode(encoded).is_ok_and(|loaded| equal(field, &loaded)))
}

/// Finds the `==` of a type, where it has one.
///
/// `(&Compared::<T>::NEW).equality()` picks the implementation by autoref: [`ByValue`] where `T` is
/// `PartialEq`, and [`ByEncoding`] elsewhere.
#[derive(Debug)]
pub struct Compared<T>(PhantomData<fn() -> T>);

impl<T> Compared<T> {
    pub const NEW: Self = Self(PhantomData);
}

/// The type has `==`.
pub trait ByValue<T> {
    fn equality(&self) -> Equality<T>;
}

impl<T: PartialEq> ByValue<T> for Compared<T> {
    fn equality(&self) -> Equality<T> {
        Some(T::eq)
    }
}

/// The type has no `==`: a different encoding is a different value.
pub trait ByEncoding<T> {
    fn equality(&self) -> Equality<T>;
}

impl<T> ByEncoding<T> for &Compared<T> {
    fn equality(&self) -> Equality<T> {
        None
    }
}

/// Merges a field for which the bag names no policy, whatever its type is called there.
///
/// As with [`Compared`], `(&Unsaid::<T>::NEW).settle::<C>(sides, equality)` finds [`EntriesByDefault`] where
/// `T` is a map or a set and [`LastByDefault`] elsewhere.
#[derive(Debug)]
pub struct Unsaid<T>(PhantomData<fn() -> T>);

impl<T> Unsaid<T> {
    pub const NEW: Self = Self(PhantomData);
}

/// The type has entries.
pub trait EntriesByDefault<T> {
    fn settle<C: Codec>(&self, sides: Sides<'_>, equality: Equality<T>) -> Result<Settled, CodecError>;
}

impl<T: Entries + Serialize + DeserializeOwned> EntriesByDefault<T> for Unsaid<T> {
    fn settle<C: Codec>(&self, sides: Sides<'_>, equality: Equality<T>) -> Result<Settled, CodecError> {
        sides.entries::<C, T>(equality)
    }
}

/// The type has none: the later writer wins.
pub trait LastByDefault<T> {
    fn settle<C: Codec>(&self, sides: Sides<'_>, equality: Equality<T>) -> Result<Settled, CodecError>;
}

impl<T> LastByDefault<T> for &Unsaid<T> {
    fn settle<C: Codec>(&self, _: Sides<'_>, _: Equality<T>) -> Result<Settled, CodecError> {
        Ok(Settled::Ours)
    }
}

macro_rules! compile_here {
    ($($ty:ty),+ $(,)?) => {
        /// Moves fields of the types that most bags have. Nobody calls it: without optimisation, rustc takes
        /// what is compiled here instead of compiling it again with every bag.
        pub fn compiled_here(
            shapes: &mut Shapes,
            encoder: &mut Encoder,
            decoder: &mut Decoder<'_>,
        ) -> Result<(), CodecError> {
            $(
                let mut value = <$ty>::default();
                shapes.field::<$ty>();
                encoder.field::<Bincode, $ty>(&value)?;
                decoder.field::<Bincode, $ty>(0, &mut value);
            )+
            Ok(())
        }
    };
}

compile_here! {
    bool, i32, i64, u32, u64, f64, String,
    Option<i32>, Option<i64>, Option<u32>, Option<u64>, Option<String>, Option<IpAddr>,
    Vec<u8>, Vec<u32>, Vec<i64>, Vec<String>, BTreeMap<String, u32>, BTreeMap<String, String>,
}
