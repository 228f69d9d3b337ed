//! The tracer: a `Deserializer` that hands out made-up values and notes what a type asks for.
//!
//! A run enters; the [`Shape`] that all runs have found leaves. What a shape means is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// What a type asked for, path by path.
pub(crate) type Shape = BTreeMap<String, String>;

/// Runs a type against the tracer until nothing is left to follow. `run` returns whether the type was deserialized to
/// its end.
pub(super) fn trace(human_readable: bool, run: &dyn Fn(Tracer<'_>) -> bool) -> Shape {
    /// Far more than the field of a session takes. The bound keeps every start-up short.
    const RUNS: usize = 4096;
    let mut trace = Trace { human_readable, ..Trace::default() };
    for _ in 0..RUNS {
        trace.open.clear();
        trace.leaf.clear();
        let ended = run(Tracer { trace: &mut trace, path: String::new() });
        let again = !ended && trace.avoid_refused();
        if !again && !trace.is_pending() {
            break;
        }
    }
    trace.shape
}

/// What all runs over one type have found, and what the next run has to do.
#[derive(Default)]
struct Trace {
    human_readable: bool,
    shape: Shape,
    /// How many times each enum was entered, which is the next variant to follow.
    entered: BTreeMap<String, usize>,
    /// The made-up value to offer at each path.
    offers: BTreeMap<String, usize>,
    /// The paths of options, sequences and maps to leave empty.
    empty: BTreeSet<String>,
    /// The name and path of each struct and enum that is being deserialized, outermost first.
    open: Vec<(&'static str, String)>,
    /// The path of the last value that was offered.
    leaf: String,
}

impl Trace {
    /// Returns whether an enum has a variant that was not followed yet.
    fn is_pending(&self) -> bool {
        self.entered.iter().any(|(path, entered)| *entered < variants(&self.shape[path]))
    }

    /// Changes the next run so that it gets past the value that the type refused. Returns `false` if it cannot.
    fn avoid_refused(&mut self) -> bool {
        let offers = self.shape.get(&self.leaf).map_or(0, |kind| offers(kind));
        let offered = self.offers.entry(self.leaf.clone()).or_default();
        if *offered + 1 < offers {
            *offered += 1;
        } else if let Some(path) = self.innermost_optional() {
            // No value fits here: the next run leaves its container empty, with every enum in it.
            self.entered.retain(|enum_path, _| !enum_path.starts_with(&path));
            self.empty.insert(path);
        } else {
            return false;
        }
        // The next run follows the variants on the way here once more.
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

/// Returns how many made-up values there are for a kind.
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

/// Texts that types with a syntax, such as addresses and dates, accept.
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

/// Lengths of byte strings that types with a fixed length accept.
const BYTES: [usize; 6] = [0, 16, 4, 8, 12, 32];

type Error = serde::de::value::Error;

/// Deserializes one part of a type: the part at `path`.
pub(super) struct Tracer<'a> {
    trace: &'a mut Trace,
    path: String,
}

impl<'a> Tracer<'a> {
    fn note(&mut self, kind: &str) {
        self.trace.shape.entry(self.path.clone()).or_insert_with(|| kind.to_owned());
    }

    /// Notes a value without parts, and returns which made-up value to offer.
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

    /// Enters a type that has a name. Fails if the type is being deserialized already.
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

/// The variant of an enum that a run follows.
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
