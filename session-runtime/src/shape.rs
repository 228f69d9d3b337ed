//! Shapes: what a stored type looks like to its codec, found out by asking its `Deserialize`.
//!
//! A fingerprint made from the spelling of a type would change with a `use`, and would not change when
//! a struct inside it gains a field. So the type is deserialized from made-up values by a tracer that
//! writes down, path by path, what it was asked for:
//!
//! ```text
//! Option<Address>    ""        option
//!                    "?"       struct street,zip
//!                    "?.0"     str
//!                    "?.1"     u32
//! ```
//!
//! A run follows one variant of each enum and one branch of each recursion; runs are repeated until
//! nothing is left to follow. A type that refuses all made-up values is known as far as it was followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use sha2::{Digest as _, Sha256};

use crate::codec::Codec;

/// Collects the shapes of a bag's stored fields.
#[derive(Debug)]
#[doc(hidden)]
pub struct Shapes {
    human_readable: bool,
    fields: Vec<FieldShape>,
}

/// What a field's stored value looks like.
#[derive(Debug)]
pub(crate) struct FieldShape {
    pub(crate) current: Shape,
    /// The type that `from` names.
    pub(crate) older: Option<Shape>,
}

#[doc(hidden)]
impl Shapes {
    /// Notes the type of the next field.
    pub fn field<T: DeserializeOwned>(&mut self) {
        self.fields.push(FieldShape { current: shape::<T>(self.human_readable), older: None });
    }

    /// Notes the type that the last field was stored as before.
    pub fn older<T: DeserializeOwned>(&mut self) {
        let older = shape::<T>(self.human_readable);
        if let Some(field) = self.fields.last_mut() {
            field.older = Some(older);
        }
    }
}

impl Shapes {
    pub(crate) fn new<C: Codec>() -> Self {
        Self { human_readable: C::HUMAN_READABLE, fields: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<FieldShape> {
        self.fields
    }
}

/// Path by path, what the type asked for.
pub(crate) type Shape = BTreeMap<String, String>;

/// The first 64 bits of SHA-256 over the lines of a shape.
pub(crate) fn fingerprint(shape: &Shape) -> u64 {
    let mut hash = Sha256::new();
    for (path, kind) in shape {
        hash.update(path);
        hash.update(b"\t");
        hash.update(kind);
        hash.update(b"\n");
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

fn shape<T: DeserializeOwned>(human_readable: bool) -> Shape {
    trace(human_readable, &|tracer| T::deserialize(tracer).is_ok())
}

/// Runs a type against the tracer until nothing is left to follow. `run` tells whether the type got to its end.
fn trace(human_readable: bool, run: &dyn Fn(Tracer<'_>) -> bool) -> Shape {
    /// Far above what a session's field takes; a bound, so that no type keeps the start-up busy.
    const RUNS: usize = 4096;
    let mut trace = Trace { human_readable, ..Trace::default() };
    for _ in 0..RUNS {
        trace.open.clear();
        trace.leaf.clear();
        let ended = run(Tracer { trace: &mut trace, path: String::new() });
        let again = !ended && trace.give_way();
        if !again && !trace.is_pending() {
            break;
        }
    }
    trace.shape
}

/// What all runs over one type have found, and what the next run is to do.
#[derive(Default)]
struct Trace {
    human_readable: bool,
    shape: Shape,
    /// How often each enum was entered: the next variant to follow.
    entered: BTreeMap<String, usize>,
    /// The made-up value to offer at a path.
    offers: BTreeMap<String, usize>,
    /// Paths of options, sequences and maps to leave empty.
    empty: BTreeSet<String>,
    /// The structs and enums being deserialized, outermost first: name and path.
    open: Vec<(&'static str, String)>,
    /// The path of the last value offered.
    leaf: String,
}

impl Trace {
    /// Tells whether an enum has a variant that was not followed yet.
    fn is_pending(&self) -> bool {
        self.entered.iter().any(|(path, entered)| *entered < variants(&self.shape[path]))
    }

    /// Changes the next run so that it gets past the value that was refused; false if it cannot.
    fn give_way(&mut self) -> bool {
        let offers = self.shape.get(&self.leaf).map_or(0, |kind| offers(kind));
        let offered = self.offers.entry(self.leaf.clone()).or_default();
        if *offered + 1 < offers {
            *offered += 1;
        } else if let Some(path) = self.innermost_optional() {
            // Nothing fits here, so the next run leaves out what holds it, and every enum in there.
            self.entered.retain(|enum_path, _| !enum_path.starts_with(&path));
            self.empty.insert(path);
        } else {
            return false;
        }
        // The variants on the way here are to be followed once more.
        for (_, path) in &self.open {
            if let Some(entered) = self.entered.get_mut(path) {
                *entered -= 1;
            }
        }
        true
    }

    fn innermost_optional(&self) -> Option<String> {
        let holds_leaf =
            |path: &str| self.leaf.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '?', ':']));
        let optional = |kind: &str| matches!(kind, "option" | "seq" | "map");
        let candidates = self.shape.iter().filter(|(path, kind)| holds_leaf(path) && optional(kind));
        let innermost = candidates.map(|(path, _)| path).max_by_key(|path| path.len())?;
        (!self.empty.contains(innermost)).then(|| innermost.clone())
    }
}

/// How many made-up values there are for a kind.
fn offers(kind: &str) -> usize {
    match kind {
        "str" => STRINGS.len(),
        "bytes" => BYTES.len(),
        "bool" | "f32" | "f64" | "char" | "unit" | "any" => 1,
        _ if kind.starts_with(['i', 'u']) => 2,
        _ => 1,
    }
}

fn variants(kind: &str) -> usize {
    kind.strip_prefix("enum ").map_or(0, |names| names.split(',').count())
}

/// Texts that types with a syntax of their own accept.
const STRINGS: [&str; 12] = [
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
];

/// Lengths of byte strings that types with a syntax of their own accept.
const BYTES: [usize; 6] = [0, 16, 4, 8, 12, 32];

type Error = serde::de::value::Error;

struct Tracer<'a> {
    trace: &'a mut Trace,
    path: String,
}

impl<'a> Tracer<'a> {
    fn note(&mut self, kind: &str) {
        self.trace.shape.entry(self.path.clone()).or_insert_with(|| kind.to_owned());
    }

    /// Notes a value that has no parts, and returns which made-up one to offer.
    fn leaf(&mut self, kind: &str) -> usize {
        self.note(kind);
        self.trace.leaf.clone_from(&self.path);
        self.trace.offers.get(&self.path).copied().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.trace.empty.contains(&self.path)
    }

    fn parts(self, count: usize) -> Parts<'a> {
        Parts { trace: self.trace, path: self.path, next: 0, count }
    }

    /// Enters a type that has a name; refuses one that is being deserialized already.
    fn enter(&mut self, name: &'static str, kind: &str) -> Result<(), Error> {
        let outer =
            self.trace.open.iter().find(|(open, path)| *open == name && self.trace.shape[path] == kind);
        if let Some((_, path)) = outer {
            let kind = format!("recursion to {path:?}");
            self.leaf(&kind);
            return Err(Error::custom("recursive"));
        }
        self.note(kind);
        self.trace.open.push((name, self.path.clone()));
        Ok(())
    }
}

macro_rules! leaves {
    ($($deserialize:ident $kind:literal $visit:ident $($offer:expr),+;)+) => {$(
        fn $deserialize<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            let offer = self.leaf($kind);
            visitor.$visit([$($offer),+][offer])
        }
    )+};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    leaves! {
        deserialize_bool "bool" visit_bool false;
        deserialize_i8 "i8" visit_i8 0, 1;
        deserialize_i16 "i16" visit_i16 0, 1;
        deserialize_i32 "i32" visit_i32 0, 1;
        deserialize_i64 "i64" visit_i64 0, 1;
        deserialize_i128 "i128" visit_i128 0, 1;
        deserialize_u8 "u8" visit_u8 0, 1;
        deserialize_u16 "u16" visit_u16 0, 1;
        deserialize_u32 "u32" visit_u32 0, 1;
        deserialize_u64 "u64" visit_u64 0, 1;
        deserialize_u128 "u128" visit_u128 0, 1;
        deserialize_f32 "f32" visit_f32 0.0;
        deserialize_f64 "f64" visit_f64 0.0;
        deserialize_char "char" visit_char 'a';
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.leaf("any");
        visitor.visit_unit()
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let offer = self.leaf("str");
        visitor.visit_str(STRINGS[offer])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let offer = self.leaf("bytes");
        visitor.visit_bytes(&[0; 32][..BYTES[offer]])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("option");
        if self.is_empty() {
            return visitor.visit_none();
        }
        self.path.push('?');
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.leaf("unit");
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
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("seq");
        let count = usize::from(!self.is_empty());
        visitor.visit_seq(self.parts(count))
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.note(&format!("tuple {len}"));
        visitor.visit_seq(self.parts(len))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note("map");
        let count = usize::from(!self.is_empty());
        visitor.visit_map(self.parts(count))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.enter(name, &format!("struct {}", fields.join(",")))?;
        let depth = self.trace.open.len();
        let mut parts = self.parts(fields.len());
        let value = visitor.visit_seq(&mut parts)?;
        parts.trace.open.truncate(depth - 1);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.enter(name, &format!("enum {}", variants.join(",")))?;
        let depth = self.trace.open.len();
        let entered = self.trace.entered.entry(self.path.clone()).or_default();
        let index = *entered % variants.len().max(1);
        *entered += 1;
        let mut chosen = Variant { trace: self.trace, path: self.path, index };
        let value = visitor.visit_enum(&mut chosen)?;
        chosen.trace.open.truncate(depth - 1);
        Ok(value)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.trace.human_readable
    }
}

/// The elements of a sequence or the fields of a struct.
struct Parts<'a> {
    trace: &'a mut Trace,
    path: String,
    next: usize,
    count: usize,
}

impl Parts<'_> {
    fn part(&mut self, name: impl std::fmt::Display) -> Tracer<'_> {
        let mut path = self.path.clone();
        let _ = write!(path, ".{name}");
        Tracer { trace: self.trace, path }
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next == self.count {
            return Ok(None);
        }
        let part = self.part(self.next);
        let value = seed.deserialize(part)?;
        self.next += 1;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.next == self.count {
            return Ok(None);
        }
        self.next += 1;
        seed.deserialize(self.part("key")).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.part("value"))
    }
}

/// The variant of an enum that this run follows.
struct Variant<'a> {
    trace: &'a mut Trace,
    path: String,
    index: usize,
}

impl Variant<'_> {
    fn content(&mut self) -> Tracer<'_> {
        let path = format!("{}:{}", self.path, self.index);
        Tracer { trace: self.trace, path }
    }
}

impl<'de> EnumAccess<'de> for &mut Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let index = u32::try_from(self.index).map_err(Error::custom)?;
        let index: U32Deserializer<Error> = index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.content().note("unit");
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content())
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.content().deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut content = self.content();
        content.note(&format!("struct {}", fields.join(",")));
        visitor.visit_seq(content.parts(fields.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use serde::Deserialize;

    use super::*;

    fn lines<T: DeserializeOwned>(human_readable: bool) -> Vec<String> {
        shape::<T>(human_readable).into_iter().map(|(path, kind)| format!("{path} {kind}")).collect()
    }

    fn same<A: DeserializeOwned, B: DeserializeOwned>() -> bool {
        fingerprint(&shape::<A>(false)) == fingerprint(&shape::<B>(false))
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Address {
        street: String,
        zip: u32,
    }

    #[test]
    fn a_shape_names_fields_and_their_types() {
        assert_eq!(lines::<Option<Address>>(false), [" option", "? struct street,zip", "?.0 str", "?.1 u32"]);
    }

    #[test]
    fn a_spelling_is_no_difference() {
        type Cart = BTreeMap<String, u32>;
        assert!(same::<Cart, HashMap<String, u32>>());
        assert!(same::<Box<str>, String>());
    }

    #[test]
    fn a_changed_type_inside_is_a_difference() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Moved {
            street: String,
            zip: String,
        }
        assert!(!same::<Vec<Address>, Vec<Moved>>());
        assert!(!same::<u32, u64>());
        assert!(!same::<Option<u32>, u32>());
    }

    #[test]
    fn every_variant_of_an_enum_counts() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum Payment {
            Cash,
            Card { number: String, limit: Option<NonZeroU32> },
            Transfer(String, Colour),
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum Colour {
            Red,
            Green(u8),
        }
        assert_eq!(
            lines::<Payment>(false),
            [
                " enum Cash,Card,Transfer",
                ":0 unit",
                ":1 struct number,limit",
                ":1.0 str",
                ":1.1 option",
                ":1.1? u32",
                ":2 tuple 2",
                ":2.0 str",
                ":2.1 enum Red,Green",
                ":2.1:0 unit",
                ":2.1:1 u8",
            ]
        );
    }

    #[test]
    fn recursion_comes_to_an_end() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Tree {
            left: Option<Box<Tree>>,
            right: Option<Box<Tree>>,
            name: String,
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum List {
            Cons(u8, Box<List>),
            Nil,
        }
        assert_eq!(
            lines::<Tree>(false),
            [
                " struct left,right,name",
                ".0 option",
                ".0? recursion to \"\"",
                ".1 option",
                ".1? recursion to \"\"",
                ".2 str",
            ]
        );
        assert_eq!(
            lines::<List>(false),
            [" enum Cons,Nil", ":0 tuple 2", ":0.0 u8", ":0.1 recursion to \"\"", ":1 unit"]
        );
    }

    #[test]
    fn types_with_a_syntax_are_followed_to_their_end() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Visit {
            from: IpAddr,
            count: NonZeroU32,
            last: bool,
        }
        assert_eq!(lines::<Visit>(true), [" struct from,count,last", ".0 str", ".1 u32", ".2 bool"]);
        assert!(lines::<Visit>(false).contains(&".2 bool".to_owned()));
    }

    #[test]
    fn fingerprints_are_pinned() {
        assert_eq!(format!("{:016x}", fingerprint(&shape::<Option<Address>>(false))), "0a9c3e75861c4f0e");
    }
}
