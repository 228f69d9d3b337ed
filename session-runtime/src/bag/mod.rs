//! Bags: what the derive implements for a struct, and how its fields become bytes and come back.
//!
//! A bag enters with its [`Schema`]; encoded [`Fields`] leave. This floor knows nothing of stores, envelopes or HTTP.

pub(crate) mod comparison;
pub(crate) mod encoding;
mod exploration;
pub(crate) mod flows;
pub(crate) mod merge;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod schema;
pub(crate) mod schema_lock;
pub(crate) mod shape;
mod tracer;

use std::fmt;
use std::net::IpAddr;

use self::comparison::Comparison;
use self::encoding::{DecodeError, Decoder, EncodeError, Encoder, Fields, Source};
use self::policy::{FieldVersions, MergeOutcome};
use self::schema::{Field, Schema};
use self::shape::{FieldShape, Shapes};
use crate::clock::Timestamp;
use crate::codec::{Codec, CodecError};
use crate::value::{ColumnValue, Value};

/// A struct that is the content of a session. Implemented by `#[derive(Databag)]` only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a databag",
    label = "needs `#[derive(Databag)]`",
    note = "put `#[derive(Databag)]` on the struct `{Self}`, or name the struct that has it"
)]
pub trait Databag: Sized + 'static {
    /// The codec of single values.
    type Codec: Codec;

    /// Everything that `#[databag(..)]` declares.
    const SCHEMA: &'static Schema;

    /// Returns the bag of a new session: every field has its default.
    fn defaults() -> Self;

    /// Notes the shape of every stored field, in the order of [`Schema::fields`].
    #[doc(hidden)]
    fn shapes(shapes: &mut Shapes);

    /// Encodes every stored field, in the order of [`Schema::fields`].
    #[doc(hidden)]
    fn encode(&self, fields: &mut Encoder) -> Result<(), CodecError>;

    /// Decodes every stored field that the decoder has, and leaves the others as they are.
    #[doc(hidden)]
    fn decode(&mut self, fields: &mut Decoder<'_>);

    /// Compares a field with an encoded value.
    #[doc(hidden)]
    fn compare(&self, field: usize, encoded: &[u8], comparison: Comparison) -> bool {
        let _ = (field, encoded, comparison);
        false
    }

    /// Marks the value of a flash field as received, if its type can carry a mark.
    #[doc(hidden)]
    fn mark_flash(&mut self, field: usize) {
        let _ = field;
    }

    /// Returns whether the value of a flash field is marked, or its type carries no mark.
    #[doc(hidden)]
    fn is_flash_marked(&self, field: usize) -> bool {
        let _ = field;
        true
    }

    /// Tells the fields with `flow` the time of the request.
    #[doc(hidden)]
    fn set_times(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Merges a field that two requests have changed.
    #[doc(hidden)]
    fn merge(field: usize, versions: FieldVersions<'_>) -> Result<MergeOutcome, CodecError> {
        let _ = (field, versions);
        Ok(MergeOutcome::Ours)
    }

    /// Copies the values of the projected fields.
    #[doc(hidden)]
    fn project(&self, projection: &mut Projection) {
        let _ = projection;
    }

    /// Sets the `user_agent` field, if the bag has one.
    #[doc(hidden)]
    fn set_user_agent(&mut self, agent: Option<&str>) {
        let _ = agent;
    }

    /// Sets the `ip_addr` field, if the bag has one.
    #[doc(hidden)]
    fn set_ip(&mut self, ip: Option<IpAddr>) {
        let _ = ip;
    }
}

/// A bag with a `#[databag(user_id)]` field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no user",
    label = "this bag has no `user_id` field",
    note = "mark the field that holds the user: `#[databag(user_id)] user_id: Option<i64>`"
)]
pub trait HasUser: Databag {
    /// The type that identifies a user.
    type User: ColumnValue + 'static;

    /// The user as [`user`](Self::user) returns it: a copy of a number, `&str` for a `String`, otherwise a reference.
    type UserRef<'a>;

    /// Returns the user, if one is logged in.
    fn user(&self) -> Option<Self::UserRef<'_>>;

    /// Replaces the user.
    #[doc(hidden)]
    fn set_user(&mut self, user: Option<Self::User>);
}

/// A bag with a `#[databag(ip_addr)]` field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no address",
    label = "this bag has no `ip_addr` field",
    note = "mark the field that holds the address: `#[databag(ip_addr)] ip_addr: Option<IpAddr>`"
)]
pub trait HasIp: Databag {
    /// Returns the address from which the session was last used, if it is known.
    fn ip(&self) -> Option<IpAddr>;
}

/// The values of a bag's projected fields, as a row holds them.
#[derive(Default, Clone, PartialEq)]
pub struct Projection {
    pub(crate) user: Option<Value>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) columns: Vec<Option<Value>>,
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Projection(..)")
    }
}

#[doc(hidden)]
impl Projection {
    pub fn user<B: HasUser>(&mut self, user: Option<&B::User>) {
        self.user = user.map(ColumnValue::to_value);
    }

    pub fn ip(&mut self, ip: Option<IpAddr>) {
        self.ip = ip;
    }

    pub fn column<V: ColumnValue>(&mut self, value: Option<&V>) {
        // Not every database stores a NaN: SQLite makes it `NULL`.
        let is_number = |value: &Value| !matches!(value, Value::Real(number) if number.is_nan());
        self.columns.push(value.map(ColumnValue::to_value).filter(is_number));
    }
}

/// Returns the shapes of a bag's fields, in the order of its schema.
fn shapes_of<T: Databag>() -> Vec<FieldShape> {
    let mut shapes = Shapes::default();
    T::shapes(&mut shapes);
    shapes.finish()
}

impl Fields {
    /// Encodes the fields of a bag.
    pub(crate) fn of<T: Databag>(bag: &T) -> Result<Self, EncodeError> {
        Self::encode(bag, 0)
    }

    /// Encodes the fields of a bag, which likely take so many bytes.
    fn encode<T: Databag>(bag: &T, bytes: usize) -> Result<Self, EncodeError> {
        let mut encoder = Encoder::with_capacity(T::SCHEMA.fields.len(), bytes);
        match bag.encode(&mut encoder) {
            Ok(()) => Ok(encoder.finish()),
            Err(source) => Err(EncodeError { field: T::SCHEMA.fields[encoder.finish().len()].name, source }),
        }
    }

    /// Encodes the fields of a bag, but keeps the encodings of `base` for equal values: another order of a
    /// `HashMap` is not a change.
    pub(crate) fn against<T: Databag>(bag: &T, base: &Self) -> Result<Self, EncodeError> {
        // A little more than before: most values change their length little or not at all.
        let encoded = Self::encode(bag, base.bytes().len() + 64)?;
        let is_reordered = |&field: &usize| {
            let base = base.get(field);
            encoded.get(field) != base && bag.compare(field, base, Comparison::Unchanged)
        };
        let reordered: Vec<_> = (0..base.len()).filter(is_reordered).collect();
        Ok(if reordered.is_empty() { encoded } else { encoded.with(&reordered, |field| base.get(field)) })
    }

    /// Decodes all fields into `bag`.
    pub(crate) fn decode_into<T: Databag>(&self, bag: &mut T) -> Result<(), DecodeError> {
        self.restore(bag, |_| true)
    }

    /// Decodes the fields that `is_picked` selects into `bag`, and leaves the others as they are.
    pub(crate) fn restore<T: Databag>(
        &self,
        bag: &mut T,
        is_picked: impl Fn(&Field) -> bool,
    ) -> Result<(), DecodeError> {
        decode(bag, self.bytes(), &self.sources(|field| is_picked(&T::SCHEMA.fields[field])))
    }

    /// Returns whether the encoding of a field comes back as the field is in `bag`.
    pub(crate) fn reads_back<T: Databag>(&self, field: usize, bag: &T) -> bool {
        bag.compare(field, self.get(field), Comparison::ReadBack)
    }

    /// Returns the stored name of the field with the longest encoding.
    pub(crate) fn biggest<T: Databag>(&self) -> &'static str {
        let biggest = (0..self.len()).max_by_key(|&field| self.get(field).len());
        biggest.map_or("", |field| T::SCHEMA.fields[field].name)
    }
}

/// Decodes values into `bag`, each field from its source.
fn decode<T: Databag>(bag: &mut T, bytes: &[u8], sources: &[Source]) -> Result<(), DecodeError> {
    let mut decoder = Decoder::new(bytes, sources);
    bag.decode(&mut decoder);
    match decoder.failed() {
        None => Ok(()),
        Some(field) => Err(DecodeError { field: Some(T::SCHEMA.fields[field].name) }),
    }
}
