//! What generated code calls. It is not part of the public interface, and changes without notice.

pub use std::option::Option::{self, None, Some};
pub use std::primitive::{bool, str, u8, usize};
pub use std::result::Result::{self, Ok};

pub use std::convert::Into;
pub use std::fmt;
pub use std::net::IpAddr;
pub use std::time::Duration;

pub use serde;

pub use crate::bag::comparison::{Comparison, Equality};
pub use crate::bag::encoding::{Decoder, Encoder};
pub use crate::bag::flows::Flows;
pub use crate::bag::policy::{Entries, FieldVersions, MergeOutcome};
pub use crate::bag::schema::{Bind, Columns, CookieSchema, Field, Persistence, Role, SameSite, Schema};
pub use crate::bag::schema_lock::assert_schema;
pub use crate::bag::shape::Shapes;
pub use crate::bag::{Databag, HasIp, HasUser, Projection};
pub use crate::clock::Timestamp;
#[cfg(feature = "bincode")]
pub use crate::codec::bincode::Bincode;
pub use crate::codec::{Codec, CodecError, Json};
pub use crate::query::{Blind, Column};
pub use crate::store::ColumnRef;
pub use crate::value::{ColumnType, ColumnValue, Value};

use std::borrow::Cow;
use std::marker::PhantomData;

use crate::bag::comparison::encoding;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the fuzzing targets call where the public interface needs a server.
#[cfg(all(feature = "testing", feature = "any"))]
pub mod fuzz {
    use crate::backend::any::sqlite_file;
    use crate::store::{Row, Table};
    use crate::{MysqlStore, PostgresStore, RedisStore, SessionId, StoreError};

    /// Reads the URL of a store without opening it.
    ///
    /// # Errors
    ///
    /// As [`AnyStore::connect`](crate::AnyStore::connect), which calls the same functions.
    pub fn check_url(url: &str) -> Result<(), StoreError> {
        match url.split(':').next() {
            Some("sqlite") => sqlite_file(url).map(drop),
            Some("postgres" | "postgresql") => PostgresStore::options(url).map(drop),
            Some("mysql" | "mariadb") => MysqlStore::options(url).map(drop),
            _ => RedisStore::check_url(url),
        }
    }

    /// Reads what Redis holds under an id; `None` if it is no row.
    pub fn redis_row(table: &Table, id: SessionId, bytes: &[u8]) -> Option<Row> {
        RedisStore::read_row(table, id, bytes)
    }

    /// Returns what Redis holds of a row; `None` if the row does not fit the table.
    pub fn redis_bytes(table: &Table, row: &Row) -> Option<Vec<u8>> {
        RedisStore::write_row(table, row)
    }
}

/// Returns the default of a field without a `default` attribute.
pub fn default_of<T: HasDefault>() -> T {
    T::default_value()
}

/// What the setter of an `Option<T>` takes: a `T`, and everything that becomes one by [`Into`].
#[diagnostic::on_unimplemented(
    message = "a field `Option<{T}>` cannot be set to `{Self}`",
    label = "expected what is inside of `Some`: a `{T}`, or what becomes one by `Into`",
    note = "to set the field to `None`, call the method whose name begins with `clear_`: `clear_name()` for `name`",
    note = "to set it to an `Option`, assign it: `session.name = value`"
)]
pub trait IntoValue<T>: Into<T> {}

#[diagnostic::do_not_recommend]
impl<T, V: Into<T>> IntoValue<T> for V {}

/// A type of fields that need no `default` attribute.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no default",
    label = "a new session needs a value for this field",
    note = "derive `Default` for it, or write the value: `#[databag(default = ..)]`"
)]
pub trait HasDefault {
    fn default_value() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> HasDefault for T {
    fn default_value() -> Self {
        Self::default()
    }
}

/// Asserts that a field can be stored.
pub fn assert_stored<T: Stored>() {}

/// A type that a field can be stored as.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a session",
    label = "needs `Serialize` and `Deserialize`, and to own its data",
    note = "derive them: `#[derive(serde::Serialize, serde::Deserialize)]`",
    note = "a type of another crate may have them behind a feature named `serde`; otherwise name a module that encodes \
            it, `#[databag(with = module)]`, or keep it for one request only, `#[databag(skip)]`"
)]
pub trait Stored: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Stored for T {}

/// Asserts that a type is a codec.
pub fn assert_codec<C: Codec>() {}

/// Asserts that a field may have been stored as this type.
pub fn assert_stored_before<T: StoredBefore>() {}

/// A type that `from` can name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from old sessions",
    label = "needs `Deserialize`, and to own its data",
    note = "derive it, and give its fields the names under which they were stored: `#[derive(serde::Deserialize)]`"
)]
pub trait StoredBefore: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> StoredBefore for T {}

/// Returns the type of the column of a projected field.
pub const fn column_type<T: ColumnValue>() -> ColumnType {
    T::TYPE
}

/// Returns the type of the user's column.
pub const fn user_type<B: HasUser>() -> ColumnType {
    <B::User as ColumnValue>::TYPE
}

/// Returns the user's column.
pub const fn user_column<B: HasUser>() -> Column<B, B::User> {
    Column::new(ColumnRef::User)
}

/// Returns the column of a projected field.
pub const fn column<B, T: ColumnValue>(column: ColumnRef) -> Column<B, T> {
    Column::new(column)
}

/// Returns the column value of an enum's variant.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A field of the bag `B` that a module encodes: `#[databag(with = module)]`.
pub trait With<B> {
    type Field;

    fn serialize<S: Serializer>(value: &Self::Field, serializer: S) -> Result<S::Ok, S::Error>;
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Field, D::Error>;
}

/// Encodes such a field.
#[derive(Debug)]
pub struct Encoded<'a, B, W: With<B>>(pub &'a W::Field);

impl<B, W: With<B>> Serialize for Encoded<'_, B, W> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        W::serialize(self.0, serializer)
    }
}

/// Decodes such a field.
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

/// Compares such a field with an encoded value.
pub fn compare_with<C: Codec, B, W: With<B>>(
    comparison: Comparison,
    value: &W::Field,
    encoded: &[u8],
    equality: Equality<W::Field>,
) -> bool {
    let encode = |value: &W::Field| encoding::<C>(&Encoded::<B, W>(value));
    comparison.decoded::<C, Decoded<B, W>, W::Field>(value, encoded, equality, Decoded::into_field, encode)
}

/// Finds the `==` of a type, if it has one.
///
/// `(&EqualityProbe::<T>::NEW).equality()` selects the implementation by autoref: [`ByValue`] if `T` is `PartialEq`,
/// otherwise [`ByEncoding`].
#[derive(Debug)]
pub struct EqualityProbe<T>(PhantomData<fn() -> T>);

impl<T> EqualityProbe<T> {
    pub const NEW: Self = Self(PhantomData);
}

/// The type has `==`.
pub trait ByValue<T> {
    fn equality(&self) -> Equality<T>;
}

impl<T: PartialEq> ByValue<T> for EqualityProbe<T> {
    fn equality(&self) -> Equality<T> {
        Some(T::eq)
    }
}

/// The type has no `==`: another encoding is another value.
pub trait ByEncoding<T> {
    fn equality(&self) -> Equality<T>;
}

impl<T> ByEncoding<T> for &EqualityProbe<T> {
    fn equality(&self) -> Equality<T> {
        None
    }
}

/// Tells a flash value that a request has received from an equal one that it sets: the received one is marked by spare room
/// in its memory.
///
/// As with [`EqualityProbe`], `(&FlashProbe::<T>::NEW).mark(&mut value)` selects [`Markable`] for texts and lists, otherwise
/// [`Unmarked`].
#[derive(Debug)]
pub struct FlashProbe<T>(PhantomData<fn() -> T>);

impl<T> FlashProbe<T> {
    pub const NEW: Self = Self(PhantomData);
}

/// The spare room of a marked value, in elements. That another value of the same content has exactly that is a rare chance:
/// growing values have a capacity near a power of two, and short ones rarely this much of it.
const MARK: usize = 1021;

/// The type can carry a mark.
pub trait Markable<T> {
    fn mark(&self, value: &mut T);
    fn is_marked(&self, value: &T) -> bool;
}

impl Markable<Option<String>> for FlashProbe<Option<String>> {
    fn mark(&self, value: &mut Option<String>) {
        if let Some(text) = value {
            text.shrink_to_fit();
            text.reserve_exact(MARK);
        }
    }

    fn is_marked(&self, value: &Option<String>) -> bool {
        value.as_ref().is_some_and(|text| text.capacity() - text.len() == MARK)
    }
}

impl Markable<Option<Cow<'static, str>>> for FlashProbe<Option<Cow<'static, str>>> {
    fn mark(&self, value: &mut Option<Cow<'static, str>>) {
        if let Some(Cow::Owned(text)) = value {
            text.shrink_to_fit();
            text.reserve_exact(MARK);
        }
    }

    fn is_marked(&self, value: &Option<Cow<'static, str>>) -> bool {
        matches!(value, Some(Cow::Owned(text)) if text.capacity() - text.len() == MARK)
    }
}

impl<T> Markable<Option<Vec<T>>> for FlashProbe<Option<Vec<T>>> {
    fn mark(&self, value: &mut Option<Vec<T>>) {
        if let Some(list) = value {
            list.shrink_to_fit();
            list.reserve_exact(MARK);
        }
    }

    fn is_marked(&self, value: &Option<Vec<T>>) -> bool {
        // Elements without a size need no room.
        size_of::<T>() == 0 || value.as_ref().is_some_and(|list| list.capacity() - list.len() == MARK)
    }
}

/// The type carries no mark: an equal value is taken for the received one.
pub trait Unmarked<T> {
    fn mark(&self, _: &mut T) {}

    fn is_marked(&self, _: &T) -> bool {
        true
    }
}

impl<T> Unmarked<T> for &FlashProbe<T> {}

/// Finds the merge policy of a field without a `merge` attribute by its type, whatever the type is called.
///
/// As with [`EqualityProbe`], `(&DefaultMergeProbe::<T>::NEW).merge::<C>(versions, equality)` selects
/// [`EntriesByDefault`] if `T` is a map or a set, otherwise [`LastByDefault`].
#[derive(Debug)]
pub struct DefaultMergeProbe<T>(PhantomData<fn() -> T>);

impl<T> DefaultMergeProbe<T> {
    pub const NEW: Self = Self(PhantomData);
}

/// The type has entries.
pub trait EntriesByDefault<T> {
    fn merge<C: Codec>(
        &self,
        versions: FieldVersions<'_>,
        equality: Equality<T>,
    ) -> Result<MergeOutcome, CodecError>;
}

impl<T: Entries + Serialize + DeserializeOwned> EntriesByDefault<T> for DefaultMergeProbe<T> {
    fn merge<C: Codec>(
        &self,
        versions: FieldVersions<'_>,
        equality: Equality<T>,
    ) -> Result<MergeOutcome, CodecError> {
        versions.entries::<C, T>(equality)
    }
}

/// The type has no entries: the later write wins.
pub trait LastByDefault<T> {
    fn merge<C: Codec>(
        &self,
        versions: FieldVersions<'_>,
        equality: Equality<T>,
    ) -> Result<MergeOutcome, CodecError>;
}

impl<T> LastByDefault<T> for &DefaultMergeProbe<T> {
    fn merge<C: Codec>(&self, _: FieldVersions<'_>, _: Equality<T>) -> Result<MergeOutcome, CodecError> {
        Ok(MergeOutcome::Ours)
    }
}

#[cfg(feature = "bincode")]
macro_rules! compile_here {
    ($($ty:ty),+ $(,)?) => {
        /// Moves fields of the types that most bags have. It is never called: without optimisation, rustc uses the
        /// functions that are compiled here instead of compiling them again for every bag.
        pub fn compiled_here(
            shapes: &mut Shapes,
            encoder: &mut Encoder,
            decoder: &mut Decoder<'_>,
            comparison: Comparison,
        ) -> Result<bool, CodecError> {
            let mut equal = true;
            $(
                let mut value = <$ty>::default();
                shapes.field::<Bincode, $ty>();
                encoder.field::<Bincode, $ty>(&value)?;
                decoder.field::<Bincode, $ty>(0, &mut value);
                equal &= comparison.canonical::<Bincode, $ty>(&value, &[], Some(<$ty>::eq));
            )+
            Ok(equal)
        }
    };
}

#[cfg(feature = "bincode")]
compile_here! {
    bool, i32, i64, u32, u64, f64, String,
    Option<i32>, Option<i64>, Option<u32>, Option<u64>, Option<String>, Option<IpAddr>,
    Vec<u8>, Vec<u32>, Vec<i64>, Vec<String>,
    std::collections::BTreeMap<String, u32>, std::collections::BTreeMap<String, String>,
}
