//! Limits: no value, however it was made, overflows the stack or exhausts the memory on its way through a codec.
//!
//! A value is wrapped before its codec sees it. The wrapper counts the levels on the way in and out, and what a
//! stored value claims to hold. So the limits are the same for every codec.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde::{Deserialize, Serialize};

/// How many levels a value may have. A sequence, a map, a struct, a tuple and a variant with content are levels; an
/// option and a newtype are levels only directly inside another one.
pub const MAX_DEPTH: u8 = 128;

/// Elements, keys and values that take no byte, such as those of a `Vec<()>`. All others are paid for by the bytes they
/// take.
const FREE_ENTRIES: usize = 1024;

/// What the elements of all collections in a value may take in memory, in bytes.
const MAX_MEMORY: usize = 32 * 1024 * 1024;

const TOO_LARGE: &str = "the elements of the value take more than 32 MiB of memory";
const TOO_DEEP: &str = "the value has more than 128 levels";
const TOO_MANY: &str = "the value claims more elements than its bytes can hold";
const NOT_FINITE: &str = "JSON has no number for NaN and infinities";
const NULL_INSIDE: &str = "JSON cannot tell `Some(None)` from `None`";

/// Where in a value a codec is.
#[derive(Clone, Copy)]
struct Place {
    depth: u8,
    /// Whether this is directly inside an option or a newtype.
    is_wrapped: bool,
    /// Whether this is directly inside an option.
    is_some: bool,
}

impl Place {
    const ROOT: Self = Self { depth: 0, is_wrapped: false, is_some: false };

    /// Enters a part of a sequence, map, struct, tuple or variant.
    fn level(self) -> Option<Self> {
        (self.depth < MAX_DEPTH).then_some(Self { depth: self.depth + 1, ..Self::ROOT })
    }

    fn newtype(self) -> Option<Self> {
        let place = if self.is_wrapped { self.level()? } else { self };
        Some(Self { is_wrapped: true, is_some: self.is_some, ..place })
    }

    fn some(self) -> Option<Self> {
        Some(Self { is_some: true, ..self.newtype()? })
    }
}

/// A value to be encoded within the limits.
pub(super) struct Limited<'a, T: ?Sized> {
    value: &'a T,
    place: Place,
    is_json: bool,
}

impl<'a, T: ?Sized> Limited<'a, T> {
    /// Wraps a value. JSON writes `null` for more than one value, so that it must refuse some.
    pub(super) fn new(value: &'a T, is_json: bool) -> Self {
        Self { value, place: Place::ROOT, is_json }
    }
}

impl<T: Serialize + ?Sized> Serialize for Limited<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, place, is_json } = *self;
        value.serialize(LimitedSerializer { inner: serializer, place, is_json })
    }
}

struct LimitedSerializer<S> {
    inner: S,
    place: Place,
    is_json: bool,
}

impl<S: Serializer> LimitedSerializer<S> {
    fn within<'a, T: ?Sized>(&self, place: Option<Place>, value: &'a T) -> Result<Limited<'a, T>, S::Error> {
        let place = place.ok_or_else(|| S::Error::custom(TOO_DEEP))?;
        Ok(Limited { value, place, is_json: self.is_json })
    }

    fn parts<P>(self, begin: impl FnOnce(S) -> Result<P, S::Error>) -> Result<LimitedParts<P>, S::Error> {
        let place = self.place.level().ok_or_else(|| S::Error::custom(TOO_DEEP))?;
        Ok(LimitedParts { inner: begin(self.inner)?, place, is_json: self.is_json })
    }

    fn refuse(&self, is_refused: bool, message: &str) -> Result<(), S::Error> {
        if self.is_json && is_refused { Err(S::Error::custom(message)) } else { Ok(()) }
    }
}

macro_rules! serialize_leaves {
    ($($serialize:ident $ty:ty),+) => {$(
        fn $serialize(self, value: $ty) -> Result<S::Ok, S::Error> {
            self.inner.$serialize(value)
        }
    )+};
}

impl<S: Serializer> Serializer for LimitedSerializer<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = LimitedParts<S::SerializeSeq>;
    type SerializeTuple = LimitedParts<S::SerializeTuple>;
    type SerializeTupleStruct = LimitedParts<S::SerializeTupleStruct>;
    type SerializeTupleVariant = LimitedParts<S::SerializeTupleVariant>;
    type SerializeMap = LimitedParts<S::SerializeMap>;
    type SerializeStruct = LimitedParts<S::SerializeStruct>;
    type SerializeStructVariant = LimitedParts<S::SerializeStructVariant>;

    serialize_leaves! {
        serialize_bool bool, serialize_char char, serialize_str &str, serialize_bytes &[u8],
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.refuse(!value.is_finite(), NOT_FINITE)?;
        self.inner.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.refuse(!value.is_finite(), NOT_FINITE)?;
        self.inner.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.refuse(self.place.is_some, NULL_INSIDE)?;
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.within(self.place.some(), value)?;
        self.inner.serialize_some(&value)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.refuse(self.place.is_some, NULL_INSIDE)?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.refuse(self.place.is_some, NULL_INSIDE)?;
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.within(self.place.newtype(), value)?;
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.within(self.place.level(), value)?;
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.parts(|inner| inner.serialize_seq(len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.parts(|inner| inner.serialize_tuple(len))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.parts(|inner| inner.serialize_tuple_struct(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.parts(|inner| inner.serialize_tuple_variant(name, index, variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.parts(|inner| inner.serialize_map(len))
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.parts(|inner| inner.serialize_struct(name, len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.parts(|inner| inner.serialize_struct_variant(name, index, variant, len))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The parts of a sequence, map, struct, tuple or variant that is being encoded.
struct LimitedParts<P> {
    inner: P,
    place: Place,
    is_json: bool,
}

impl<P> LimitedParts<P> {
    fn part<'a, T: ?Sized>(&self, value: &'a T) -> Limited<'a, T> {
        Limited { value, place: self.place, is_json: self.is_json }
    }
}

macro_rules! serialize_parts {
    ($($part:ident: $($method:ident($($name:ident)?)),+;)+) => {$(
        impl<P: $part> $part for LimitedParts<P> {
            type Ok = P::Ok;
            type Error = P::Error;

            $(fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), P::Error> {
                let value = self.part(value);
                self.inner.$method($($name,)? &value)
            })+

            serialize_parts!(@skip $part);

            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        }
    )+};
    (@skip SerializeStruct) => { serialize_parts!(@skip); };
    (@skip SerializeStructVariant) => { serialize_parts!(@skip); };
    (@skip) => {
        fn skip_field(&mut self, name: &'static str) -> Result<(), P::Error> {
            self.inner.skip_field(name)
        }
    };
    (@skip $part:ident) => {};
}

serialize_parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(name);
    SerializeStructVariant: serialize_field(name);
}

thread_local! {
    /// How many elements the value may claim that is decoded next: a codec passes nothing on to a type.
    static ENTRIES: Cell<usize> = const { Cell::new(0) };
}

/// A value that was decoded within the limits.
pub(super) struct Decoded<T>(pub(super) T);

impl<T> Decoded<T> {
    /// Sets the limit for a value of so many bytes, which is decoded next by this thread.
    pub(super) fn expect(bytes: usize) {
        ENTRIES.set(bytes.saturating_add(FREE_ENTRIES));
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Decoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (entries, memory) = (Cell::new(ENTRIES.get()), Cell::new(MAX_MEMORY));
        let limits = Limits { place: Place::ROOT, entries: &entries, memory: &memory };
        T::deserialize(Within { inner: deserializer, limits }).map(Self)
    }
}

/// What a value that is being decoded may still hold.
#[derive(Clone, Copy)]
struct Limits<'l> {
    place: Place,
    entries: &'l Cell<usize>,
    memory: &'l Cell<usize>,
}

impl Limits<'_> {
    fn at<E: serde::de::Error>(self, place: Option<Place>) -> Result<Self, E> {
        Ok(Self { place: place.ok_or_else(|| E::custom(TOO_DEEP))?, ..self })
    }

    /// Pays for an element of type `T`.
    fn take_entry<T, E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.entries.get().checked_sub(1).ok_or_else(|| E::custom(TOO_MANY))?;
        self.entries.set(left);
        let left = self.memory.get().checked_sub(size_of::<T>()).ok_or_else(|| E::custom(TOO_LARGE))?;
        self.memory.set(left);
        Ok(())
    }

    /// Bounds what a collection reserves because of a length that is only claimed.
    fn size_hint(self, claimed: Option<usize>) -> Option<usize> {
        claimed.map(|claimed| claimed.min(self.entries.get()))
    }
}

/// A deserializer, a visitor, a seed or an access to parts, within the limits.
struct Within<'l, I> {
    inner: I,
    limits: Limits<'l>,
}

impl<'l, I> Within<'l, I> {
    fn wrap<J>(&self, inner: J) -> Within<'l, J> {
        Within { inner, limits: self.limits }
    }
}

macro_rules! deserialize {
    ($($deserialize:ident($($name:ident: $ty:ty),*) => $inner:ident;)+) => {$(
        fn $deserialize<V: Visitor<'de>>(self, $($name: $ty,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.wrap(visitor);
            self.inner.$inner($($name,)* visitor)
        }
    )+};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Within<'_, D> {
    type Error = D::Error;

    // A text or byte string is lent, so that its claimed length is compared with the bytes before anything is reserved.
    deserialize! {
        deserialize_any() => deserialize_any;
        deserialize_bool() => deserialize_bool;
        deserialize_i8() => deserialize_i8;
        deserialize_i16() => deserialize_i16;
        deserialize_i32() => deserialize_i32;
        deserialize_i64() => deserialize_i64;
        deserialize_i128() => deserialize_i128;
        deserialize_u8() => deserialize_u8;
        deserialize_u16() => deserialize_u16;
        deserialize_u32() => deserialize_u32;
        deserialize_u64() => deserialize_u64;
        deserialize_u128() => deserialize_u128;
        deserialize_f32() => deserialize_f32;
        deserialize_f64() => deserialize_f64;
        deserialize_char() => deserialize_char;
        deserialize_str() => deserialize_str;
        deserialize_string() => deserialize_str;
        deserialize_bytes() => deserialize_bytes;
        deserialize_byte_buf() => deserialize_bytes;
        deserialize_option() => deserialize_option;
        deserialize_unit() => deserialize_unit;
        deserialize_unit_struct(name: &'static str) => deserialize_unit_struct;
        deserialize_newtype_struct(name: &'static str) => deserialize_newtype_struct;
        deserialize_seq() => deserialize_seq;
        deserialize_tuple(len: usize) => deserialize_tuple;
        deserialize_tuple_struct(name: &'static str, len: usize) => deserialize_tuple_struct;
        deserialize_map() => deserialize_map;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) => deserialize_struct;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) => deserialize_enum;
        deserialize_identifier() => deserialize_identifier;
        deserialize_ignored_any() => deserialize_ignored_any;
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit_leaves {
    ($($visit:ident($ty:ty)),+) => {$(
        fn $visit<E: serde::de::Error>(self, value: $ty) -> Result<V::Value, E> {
            self.inner.$visit(value)
        }
    )+};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit_leaves! {
        visit_bool(bool), visit_char(char), visit_str(&str), visit_borrowed_str(&'de str), visit_string(String),
        visit_bytes(&[u8]), visit_borrowed_bytes(&'de [u8]), visit_byte_buf(Vec<u8>),
        visit_i8(i8), visit_i16(i16), visit_i32(i32), visit_i64(i64), visit_i128(i128),
        visit_u8(u8), visit_u16(u16), visit_u32(u32), visit_u64(u64), visit_u128(u128),
        visit_f32(f32), visit_f64(f64)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let limits = self.limits.at(self.limits.place.some())?;
        self.inner.visit_some(Within { inner: deserializer, limits })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let limits = self.limits.at(self.limits.place.newtype())?;
        self.inner.visit_newtype_struct(Within { inner: deserializer, limits })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        let limits = self.limits.at(self.limits.place.level())?;
        self.inner.visit_seq(Within { inner: parts, limits })
    }

    fn visit_map<A: MapAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        let limits = self.limits.at(self.limits.place.level())?;
        self.inner.visit_map(Within { inner: parts, limits })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, chosen: A) -> Result<V::Value, A::Error> {
        let limits = self.limits;
        self.inner.visit_enum(Within { inner: chosen, limits })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Within<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let limits = self.limits;
        self.inner.deserialize(Within { inner: deserializer, limits })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.limits.take_entry::<T::Value, _>()?;
        let seed = self.wrap(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.limits.size_hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.limits.take_entry::<K::Value, _>()?;
        let seed = self.wrap(seed);
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.limits.take_entry::<T::Value, _>()?;
        let seed = self.wrap(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.limits.size_hint(self.inner.size_hint())
    }
}

impl<'de, 'l, A: EnumAccess<'de>> EnumAccess<'de> for Within<'l, A> {
    type Error = A::Error;
    type Variant = Within<'l, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let limits = self.limits;
        let (variant, inner) = self.inner.variant_seed(seed)?;
        Ok((variant, Within { inner, limits }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let limits = self.limits.at(self.limits.place.level())?;
        self.inner.newtype_variant_seed(Within { inner: seed, limits })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.wrap(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.wrap(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::codec::bincode::Bincode;
    use crate::codec::{Codec, CodecError, Json, decode, encode};

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Chain {
        next: Option<Box<Chain>>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Nested(Vec<Nested>);

    /// An option in an option: each is a level.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Deep(Option<Box<Deep>>);

    fn chain(levels: u8) -> Chain {
        (1..levels).fold(Chain::default(), |next, _| Chain { next: Some(Box::new(next)) })
    }

    fn nested(levels: u8) -> Nested {
        (1..levels).fold(Nested::default(), |inner, _| Nested(vec![inner]))
    }

    fn encoded<C: Codec>(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::new();
        encode::<C, _>(value, &mut bytes).map(|()| bytes)
    }

    fn message<T>(outcome: Result<T, CodecError>) -> String {
        let error = outcome.err().expect("is refused");
        std::error::Error::source(&error).expect("has a cause").to_string()
    }

    #[track_caller]
    fn assert_limited<C: Codec, T: Serialize + DeserializeOwned + PartialEq>(value: impl Fn(u8) -> T) {
        let deepest = encoded::<C>(&value(MAX_DEPTH)).expect("is within the limit");
        assert!(decode::<C, T>(&deepest).expect("is within the limit") == value(MAX_DEPTH));
        let too_deep = value(MAX_DEPTH + 1);
        assert!(message(encoded::<C>(&too_deep)).contains(TOO_DEEP));
        let mut bytes = Vec::new();
        C::encode(&too_deep, &mut bytes).expect("the codec itself has no limit");
        assert!(message(decode::<C, T>(&bytes)).contains(TOO_DEEP));
    }

    #[test]
    fn a_value_has_at_most_128_levels() {
        assert_limited::<Bincode, _>(chain);
        assert_limited::<Json, _>(chain);
        assert_limited::<Bincode, _>(nested);
        assert_limited::<Json, _>(nested);
    }

    #[test]
    fn a_deep_value_from_a_store_does_not_overflow_a_small_stack() {
        let deep = || {
            let links = vec![1; 1_000_000];
            assert!(message(decode::<Bincode, Chain>(&links)).contains(TOO_DEEP));
            assert!(message(decode::<Bincode, Nested>(&links)).contains(TOO_DEEP));
            assert!(message(decode::<Bincode, Deep>(&links)).contains(TOO_DEEP));
            let json = r#"{"next":"#.repeat(100_000);
            assert!(message(decode::<Json, Chain>(json.as_bytes())).contains(TOO_DEEP));
            let json = "[".repeat(100_000);
            assert!(message(decode::<Json, Nested>(json.as_bytes())).contains(TOO_DEEP));
            assert!(message(decode::<Json, serde_json::Value>(json.as_bytes())).contains(TOO_DEEP));
            // What a type does not ask for is skipped without recursion.
            let unknown = format!("{{\"more\":{json}{}}}", "]".repeat(100_000));
            assert_eq!(decode::<Json, Chain>(unknown.as_bytes()).expect("is skipped"), Chain::default());
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(deep);
        thread.expect("starts").join().expect("does not panic");
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        // 2^63 and 10^9, as bincode writes them.
        for claim in [&[253, 0, 0, 0, 0, 0, 0, 0, 128][..], &[252, 0, 202, 154, 59]] {
            for message in [
                message(decode::<Bincode, Vec<()>>(claim)),
                message(decode::<Bincode, HashSet<()>>(claim)),
                message(decode::<Bincode, Vec<[(); 4]>>(claim)),
            ] {
                assert!(message.contains(TOO_MANY), "{message}");
            }
            message(decode::<Bincode, String>(claim));
            message(decode::<Bincode, Vec<[u64; 32]>>(claim));
        }
    }

    #[test]
    fn elements_without_bytes_are_bounded() {
        let stored = encoded::<Bincode>(&vec![(); 1_000]).expect("encodes");
        assert_eq!(decode::<Bincode, Vec<()>>(&stored).expect("are few").len(), 1_000);
        assert_eq!(
            decode::<Bincode, Vec<u8>>(&encoded::<Bincode>(&vec![7_u8; 60_000]).expect("encodes"))
                .expect("each takes a byte")
                .len(),
            60_000
        );
    }

    /// Takes no byte, and 4 KiB of memory.
    #[derive(Serialize, Deserialize)]
    struct Cached {
        #[serde(skip, default = "cache")]
        _cache: [u64; 512],
    }

    fn cache() -> [u64; 512] {
        [0; 512]
    }

    #[test]
    fn the_memory_of_elements_is_bounded() {
        type Wide = Option<([u64; 32], [u64; 32], [u64; 32], [u64; 32])>;
        let many = [&[251, 0x60, 0xEA][..], &vec![0; 60_000]].concat();
        assert!(message(decode::<Bincode, Vec<Wide>>(&many)).contains(TOO_LARGE));
        assert!(message(decode::<Bincode, Vec<Cached>>(&many)).contains(TOO_LARGE));
        assert_eq!(decode::<Bincode, Vec<u8>>(&many).expect("fits").len(), 60_000);
    }

    #[test]
    fn json_refuses_what_it_would_write_as_null() {
        assert!(message(encoded::<Json>(&f64::NAN)).contains(NOT_FINITE));
        assert!(message(encoded::<Json>(&vec![Some(f32::INFINITY)])).contains(NOT_FINITE));
        assert!(message(encoded::<Json>(&Some(None::<u8>))).contains(NULL_INSIDE));
        assert!(message(encoded::<Json>(&Some(()))).contains(NULL_INSIDE));
        assert_eq!(encoded::<Json>(&Some(vec![None::<u8>])).expect("encodes"), b"[null]");
        assert!(encoded::<Bincode>(&(f64::NAN, Some(None::<u8>))).is_ok());
    }

    #[test]
    fn floats_come_back_exactly() {
        for float in [0.1 + 0.2, 1.0 / 3.0, 5e-324, f64::MAX, -0.0, 2.638_344_616_030_823e-256] {
            let bytes = encoded::<Json>(&float).expect("encodes");
            assert_eq!(decode::<Json, f64>(&bytes).expect("decodes").to_bits(), float.to_bits());
        }
    }
}
