//! The tracer: a `Deserializer` that hands out made-up values and notes what a type asks for.
//!
//! Runs over a type enter; the [`Shape`] that they have found leaves. The [`Exploration`] decides what is offered.
//! What a shape means is not known here.

use std::any::type_name;
use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::exploration::{Exploration, Shape};

/// Runs a type against the tracer until nothing is left to follow. `run` returns whether the type was deserialized to
/// its end.
pub(super) fn trace(human_readable: bool, run: &dyn Fn(Tracer<'_>) -> bool) -> Shape {
    Exploration::new(human_readable).repeat(|exploration| {
        let mut outside = Tracer { exploration, path: String::new(), minimal: false, may_be_absent: false };
        let _ = outside.part("", |root| run(root).then_some(()).ok_or_else(|| Error::custom("refused")));
    })
}

/// Texts that types with a syntax, such as addresses and dates, accept.
const STRINGS: &[&str] = &[
    "",
    "0",
    "a",
    "127.0.0.1",
    "::1",
    "127.0.0.1:0",
    "[::1]:0",
    "00000000-0000-0000-0000-000000000000",
    "1970-01-01",
    "00:00:00",
    "1970-01-01T00:00:00",
    "1970-01-01T00:00:00Z",
    "a@example.com",
    "https://example.com/",
    "example.com",
    "en",
    "en-US",
    "US",
    "USA",
    "USD",
    "1.50",
    "1.0.0",
    "-1",
    "2000",
    "true",
    "UTC",
    "Europe/Berlin",
    "+12025550123",
    "DE89370400440532013000",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "text/plain",
    "/a",
    "/",
    "#000000",
    "127.0.0.0/8",
    "00:00:00:00:00:00",
    "1s",
    "P1D",
    "{}",
    "[]",
    "A",
    "Aa1!Aa1!Aa1!",
    "AAAA",
    "YWE=",
    "aaaaaa",
    "aaaaaaaa",
    "000000",
    "00000000",
    "0000000000000000",
    "aaaaaaaaaaaaaaaa",
    "00000000000000000000000000000000",
    "0000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
];

/// Lengths of byte strings that types with a fixed length accept.
const BYTES: [usize; 12] = [0, 16, 4, 8, 12, 32, 1, 2, 20, 24, 48, 64];

/// Lengths of sequences: types with a fixed or smallest length accept more than one element, or none.
const LENGTHS: [usize; 5] = [1, 0, 2, 3, 4];

type Error = serde::de::value::Error;

/// Deserializes one part of a type: the part at `path`.
pub(super) struct Tracer<'a> {
    exploration: &'a mut Exploration,
    path: String,
    /// Whether to build a small value in place of a recursion. Nothing is noted then.
    minimal: bool,
    /// Whether the part may be a field that does not exist, because it was offered by its index alone.
    may_be_absent: bool,
}

impl Tracer<'_> {
    /// Deserializes an inner part, whose path has a `suffix`.
    fn part<T>(
        &mut self,
        suffix: impl Display,
        build: impl FnOnce(Tracer<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Self { minimal, .. } = *self;
        let path = format!("{}{suffix}", self.path);
        let visit = self.exploration.enter(&path, minimal).ok_or_else(|| Error::custom("too large"))?;
        let part =
            Tracer { exploration: self.exploration, path: path.clone(), minimal, may_be_absent: false };
        let result = build(part);
        if minimal {
            self.exploration.leave_minimal(&visit);
        } else {
            self.exploration.leave(&path, &visit, result.is_ok());
        }
        result
    }

    /// Deserializes an inner part that may be left out. Returns `None` if it cannot be constructed.
    fn optional<'de, T: DeserializeSeed<'de>>(
        &mut self,
        suffix: impl Display + Copy,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.is_unconstructible(suffix) {
            return Ok(None);
        }
        let result = self.part(suffix, |part| seed.deserialize(part));
        if result.is_err() && self.is_unconstructible(suffix) { Ok(None) } else { result.map(Some) }
    }

    /// Offers the index of a field or variant, or its name if the visitor does not know indices.
    fn identify<'de, T: DeserializeSeed<'de>>(
        &self,
        name: &'static str,
        index: usize,
        seed: T,
    ) -> Result<T::Value, Error> {
        if self.exploration.is_named(&self.path) {
            let name: StrDeserializer<'_, Error> = name.into_deserializer();
            return seed.deserialize(name);
        }
        let index = u32::try_from(index).map_err(Error::custom)?;
        let index: U32Deserializer<Error> = index.into_deserializer();
        seed.deserialize(index)
    }

    fn use_names(&mut self) {
        if !self.minimal {
            self.exploration.use_names(&self.path);
        }
    }

    fn note_whole(&mut self) {
        if !self.minimal {
            self.exploration.note_whole(&self.path);
        }
    }

    fn is_unconstructible(&self, suffix: impl Display) -> bool {
        self.exploration.is_unconstructible(&format!("{}{suffix}", self.path))
    }

    fn note(&mut self, kind: &str) {
        if !self.minimal {
            self.exploration.note(&self.path, kind);
        }
    }

    fn choose(&mut self, alternatives: usize) -> usize {
        if self.minimal {
            return self.exploration.chosen(&self.path) % alternatives;
        }
        self.exploration.choose(&self.path, alternatives)
    }

    /// Notes a value without parts, and returns which made-up value to offer.
    fn leaf(&mut self, kind: &str, offers: usize) -> usize {
        self.note(kind);
        self.choose(offers)
    }

    /// Opens a type that has a name. If it is open already, this is a recursion: the type is not followed again, but
    /// built small, as soon as it is known that it can be built.
    fn open<V>(mut self) -> Result<Self, Error> {
        let outer = if self.minimal {
            self.exploration.recursion(&self.path).cloned()
        } else {
            self.exploration.open(type_name::<V>(), &self.path)
        };
        let Some(outer) = outer else { return Ok(self) };
        if !self.exploration.was_built(&outer) {
            return Err(Error::custom("recursive"));
        }
        (self.path, self.minimal) = (outer, true);
        Ok(self)
    }

    fn elements<'de, V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Error> {
        let mut elements = Elements { tracer: self, next: 0, count };
        let value = visitor.visit_seq(&mut elements)?;
        elements.tracer.note_whole();
        Ok(value)
    }

    fn tuple<'de, V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.note(&format!("tuple {len}"));
        self.elements(len, visitor)
    }

    fn fields<'de, V: Visitor<'de>>(
        mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(&format!("struct {}", names.join(",")));
        if !(0..names.len()).any(|field| self.is_unconstructible(format_args!(".{field}"))) {
            return self.elements(names.len(), visitor);
        }
        let mut fields = Fields { tracer: self, names, next: 0, accepted: false };
        let result = visitor.visit_map(&mut fields);
        if result.is_err() {
            // A field is missing, and no other value of a field changes that.
            fields.tracer.exploration.note_failure();
        }
        result
    }
}

macro_rules! leaves {
    ($($deserialize:ident $kind:literal $visit:ident $($offer:expr),+;)+) => {$(
        fn $deserialize<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            let offers = [$($offer),+];
            visitor.$visit(offers[self.leaf($kind, offers.len())])
        }
    )+};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    leaves! {
        deserialize_bool "bool" visit_bool false, true;
        deserialize_i8 "i8" visit_i8 0, 1, 2, 10, 100;
        deserialize_i16 "i16" visit_i16 0, 1, 2, 10, 100, 2000;
        deserialize_i32 "i32" visit_i32 0, 1, 2, 10, 100, 2000;
        deserialize_i64 "i64" visit_i64 0, 1, 2, 10, 100, 2000;
        deserialize_i128 "i128" visit_i128 0, 1, 2, 10, 100, 2000;
        deserialize_u8 "u8" visit_u8 0, 1, 2, 10, 100;
        deserialize_u16 "u16" visit_u16 0, 1, 2, 10, 100, 2000;
        deserialize_u32 "u32" visit_u32 0, 1, 2, 10, 100, 2000;
        deserialize_u64 "u64" visit_u64 0, 1, 2, 10, 100, 2000;
        deserialize_u128 "u128" visit_u128 0, 1, 2, 10, 100, 2000;
        deserialize_f32 "f32" visit_f32 0.0, 0.5, 1.0, 10.0;
        deserialize_f64 "f64" visit_f64 0.0, 0.5, 1.0, 10.0;
        deserialize_char "char" visit_char 'a', 'A', '0';
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.leaf("any", 6 + STRINGS.len()) {
            0 => visitor.visit_unit(),
            1 => visitor.visit_bool(false),
            2 => visitor.visit_u64(1),
            3 => visitor.visit_f64(1.0),
            4 => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<()>())),
            5 => visitor.visit_map(MapDeserializer::new(std::iter::empty::<((), ())>())),
            text => visitor.visit_str(STRINGS[text - 6]),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(STRINGS[self.leaf("str", STRINGS.len())])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(&[0; 64][..BYTES[self.leaf("bytes", BYTES.len())]])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("option");
        if self.minimal || self.is_unconstructible('?') || self.choose(2) == 1 {
            return visitor.visit_none();
        }
        self.part('?', |content| visitor.visit_some(content))
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.leaf("unit", 1);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self.open::<V>()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("seq");
        let count = if self.minimal { 0 } else { LENGTHS[self.choose(LENGTHS.len())] };
        visitor.visit_seq(Seq(Elements { tracer: self, next: 0, count }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.open::<V>()?.tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("map");
        let is_empty = self.minimal || self.choose(2) == 1;
        visitor.visit_map(Entries { tracer: self, count: usize::from(!is_empty) })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.open::<V>()?.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut tracer = self.open::<V>()?;
        tracer.note(&format!("enum {}", names.join(",")));
        let index = if tracer.minimal {
            tracer.exploration.chosen_variant(&tracer.path)
        } else {
            tracer.exploration.variant(&tracer.path, names.len())
        };
        let index = index.ok_or_else(|| Error::custom("no variant can be constructed"))?;
        let changes = tracer.exploration.changes();
        let mut chosen = Variant { tracer, names, index };
        let result = visitor.visit_enum(&mut chosen);
        let Tracer { exploration, path, minimal, .. } = chosen.tracer;
        if !minimal && exploration.changes() == changes {
            exploration.finish_variant(&path, names.len(), result.is_ok());
        }
        result
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.may_be_absent {
            return visitor.visit_unit();
        }
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.exploration.is_human_readable()
    }
}

/// The elements of a tuple, or the fields of a struct in their order.
struct Elements<'a> {
    tracer: Tracer<'a>,
    next: usize,
    count: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next == self.count {
            return Ok(None);
        }
        self.next += 1;
        self.tracer.part(format_args!(".{}", self.next - 1), |part| seed.deserialize(part)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

/// The elements of a sequence, which ends before an element that cannot be constructed.
struct Seq<'a>(Elements<'a>);

impl<'de> SeqAccess<'de> for Seq<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.0.next == self.0.count {
            return Ok(None);
        }
        self.0.next += 1;
        self.0.tracer.optional(format_args!(".{}", self.0.next - 1), seed)
    }
}

/// The entry of a map. The map is empty if the key or the value cannot be constructed.
struct Entries<'a> {
    tracer: Tracer<'a>,
    count: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count = 0;
        let key = self.tracer.optional(".key", seed)?;
        Ok(key.filter(|_| !self.tracer.is_unconstructible(".value")))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.tracer.part(".value", |value| seed.deserialize(value))
    }

    fn next_entry_seed<K: DeserializeSeed<'de>, V: DeserializeSeed<'de>>(
        &mut self,
        key: K,
        value: V,
    ) -> Result<Option<(K::Value, V::Value)>, Error> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count = 0;
        // The value is explored although the key fails.
        let key = self.tracer.optional(".key", key);
        let value = self.tracer.optional(".value", value);
        Ok(key?.zip(value?))
    }
}

/// The fields of a struct that can be constructed.
struct Fields<'a> {
    tracer: Tracer<'a>,
    names: &'static [&'static str],
    next: usize,
    /// Whether the visitor has accepted a key.
    accepted: bool,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    /// Offers indices first: `names` has aliases too, so that it may be longer than the list of fields.
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        while self.tracer.is_unconstructible(format_args!(".{}", self.next)) {
            self.next += 1;
        }
        let key = self.names.get(self.next).map(|name| self.tracer.identify(name, self.next, seed));
        match key {
            Some(Err(error)) if !self.accepted => {
                self.tracer.use_names();
                Err(error)
            }
            Some(Ok(key)) => {
                self.accepted = true;
                Ok(Some(key))
            }
            Some(Err(_)) | None => {
                self.tracer.note_whole();
                Ok(None)
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.next += 1;
        let field = format!(".{}", self.next - 1);
        self.tracer.part(field, |part| seed.deserialize(Tracer { may_be_absent: true, ..part }))
    }
}

/// The variant of an enum that a run follows.
struct Variant<'a> {
    tracer: Tracer<'a>,
    names: &'static [&'static str],
    index: usize,
}

impl Variant<'_> {
    fn content<T>(&mut self, build: impl FnOnce(Tracer<'_>) -> Result<T, Error>) -> Result<T, Error> {
        self.tracer.part(format_args!(":{}", self.index), build)
    }
}

impl<'de> EnumAccess<'de> for &mut Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = self.names.get(self.index).copied().unwrap_or_default();
        let variant = self.tracer.identify(name, self.index, seed);
        if variant.is_err() && self.index == 0 {
            self.tracer.use_names();
        }
        Ok((variant?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.content(|mut content| {
            content.note("unit");
            Ok(())
        })
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.content(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.content(|content| content.tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content(|content| content.fields(fields, visitor))
    }
}
