//! The record: a bag's fields, encoded one by one, so that a changed struct still reads old sessions.
//!
//! ```text
//! record  0x01 | flags (1) | absolute limit (8) | [user agent (8)] | field*       integers big-endian
//! flags   1 = remembered, 2 = bound to a user agent
//! field   tag (4) | fingerprint (8) | flags (1) | length (LEB128) | value
//! flags   1 = projected into a column when it was written
//! ```
//!
//! The tag is derived from the stored name, the fingerprint from the shape of the stored type. With
//! [`Framing::JsonObject`] the same things are one JSON object: values under their names, the rest
//! under `"#"`.
//!
//! A field whose fingerprint differs is not decoded, and a field that nobody knows is not dropped: both
//! are carried along, so that an older node does not erase what a newer one wrote.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::bag::{Databag, Role, Schema};
use crate::clock::Timestamp;
use crate::codec::{Codec, CodecError, Framing};
use crate::shape::{Shapes, fingerprint};

const VERSION: u8 = 1;
const REMEMBERED: u8 = 1;
const AGENT_BOUND: u8 = 2;
const PROJECTED: u8 = 1;

/// What a record says about the session as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The absolute limit: no activity moves it.
    pub(crate) absolute: Timestamp,
    /// Whether the cookie outlives the browser because the user asked for it.
    pub(crate) remembered: bool,
    /// A hash of the user agent the session is bound to.
    pub(crate) agent: Option<u64>,
}

/// The encoded fields of a bag, in the order of its schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl Fields {
    pub(crate) fn of<T: Databag>(bag: &T) -> Result<Self, EncodeError> {
        let mut encoder = Encoder { fields: Self::default() };
        encoder.fields.spans.reserve(T::SCHEMA.fields.len());
        match bag.encode(&mut encoder) {
            Ok(()) => Ok(encoder.fields),
            Err(source) => {
                Err(EncodeError { field: T::SCHEMA.fields[encoder.fields.spans.len()].name, source })
            }
        }
    }

    /// Encodes a bag, but keeps the encodings of `base` for values that are equal: the order of a
    /// `HashMap` is no change.
    pub(crate) fn against<T: Databag>(bag: &T, base: &Self) -> Result<Self, EncodeError> {
        let encoded = Self::of(bag)?;
        let differs = |field: usize| encoded.get(field) != base.get(field);
        if !(0..base.len()).any(|field| differs(field) && bag.equals(field, base.get(field))) {
            return Ok(encoded);
        }
        let mut fields = Self::default();
        for field in 0..base.len() {
            let changed = differs(field) && !bag.equals(field, base.get(field));
            fields.push(if changed { encoded.get(field) } else { base.get(field) });
        }
        Ok(fields)
    }

    pub(crate) fn get(&self, field: usize) -> &[u8] {
        &self.bytes[self.spans[field].clone()]
    }

    /// The number of fields.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.close();
    }

    /// Makes a field of the bytes behind the last one.
    fn close(&mut self) {
        let start = self.spans.last().map_or(0, |last| last.end);
        self.spans.push(start..self.bytes.len());
    }

    /// Decodes the fields into `bag`; what the record does not hold is left as it is.
    pub(crate) fn decode_into<T: Databag>(&self, bag: &mut T) -> Result<(), DecodeError> {
        self.restore(bag, |_| true)
    }

    /// Decodes the fields that are `picked` into `bag`.
    pub(crate) fn restore<T: Databag>(
        &self,
        bag: &mut T,
        picked: impl Fn(&crate::bag::Field) -> bool,
    ) -> Result<(), DecodeError> {
        let source = |(span, field)| if picked(field) { Source::Exact(span) } else { Source::Missing };
        let sources: Vec<_> = self.spans.iter().cloned().zip(T::SCHEMA.fields).map(source).collect();
        decode(bag, &self.bytes, &sources)
    }

    /// Returns these fields with one value in place of some.
    pub(crate) fn with(&self, replaced: &[usize], value: &[u8]) -> Self {
        let mut fields = Self::default();
        for field in 0..self.len() {
            fields.push(if replaced.contains(&field) { value } else { self.get(field) });
        }
        fields
    }

    /// Returns the field with the longest encoding.
    pub(crate) fn biggest<T: Databag>(&self) -> &'static str {
        let biggest = (0..self.spans.len()).max_by_key(|&field| self.spans[field].len());
        biggest.map_or("", |field| T::SCHEMA.fields[field].name)
    }
}

/// A field could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("the field `{field}` could not be encoded")]
pub(crate) struct EncodeError {
    pub(crate) field: &'static str,
    pub(crate) source: CodecError,
}

/// A record could not be decoded; `field` is missing where the record itself is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeError {
    pub(crate) field: Option<&'static str>,
}

/// Takes the fields of a bag, one after the other.
#[derive(Debug)]
#[doc(hidden)]
pub struct Encoder {
    fields: Fields,
}

#[doc(hidden)]
impl Encoder {
    /// Encodes the next field.
    pub fn field<C: Codec, T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        C::encode(value, &mut self.fields.bytes).map(|()| self.fields.close())
    }
}

/// Hands out the fields of a record.
#[derive(Debug)]
#[doc(hidden)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    sources: &'a [Source],
    failed: Option<usize>,
}

/// Where the value of a field is found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// Encoded as the field's type.
    Exact(Range<usize>),
    /// Encoded as the type that `from` names.
    Older(Range<usize>),
    /// Not in the record, or not of a type that is known.
    Missing,
}

#[doc(hidden)]
impl Decoder<'_> {
    /// Decodes a field of type `T`.
    pub fn field<C: Codec, T: DeserializeOwned>(&mut self, field: usize, slot: &mut T) {
        self.field_with::<C, T, T>(field, slot, |value| value);
    }

    /// Decodes a field through a type that stands in for `T`.
    pub fn field_with<C: Codec, W: DeserializeOwned, T>(
        &mut self,
        field: usize,
        slot: &mut T,
        unwrap: fn(W) -> T,
    ) {
        if let Some(bytes) = self.exact(field) {
            match C::decode(bytes) {
                Ok(value) => *slot = unwrap(value),
                Err(_) => self.fail(field),
            }
        }
    }

    /// Converts a field that was stored as `O`.
    pub fn older<C: Codec, O: DeserializeOwned, T: ConvertedFrom<O>>(&mut self, field: usize, slot: &mut T) {
        if let Source::Older(span) = &self.sources[field] {
            match C::decode::<O>(&self.bytes[span.clone()]) {
                Ok(value) => *slot = T::converted_from(value),
                Err(_) => self.fail(field),
            }
        }
    }
}

/// A type that `from` can name `O` for.
#[diagnostic::on_unimplemented(
    message = "`{O}` cannot be converted to `{Self}`",
    label = "stored values of `{O}` are converted by `From`",
    note = "write `impl From<{O}> for {Self}`"
)]
#[doc(hidden)]
pub trait ConvertedFrom<O> {
    fn converted_from(older: O) -> Self;
}

#[diagnostic::do_not_recommend]
impl<O, T: From<O>> ConvertedFrom<O> for T {
    fn converted_from(older: O) -> Self {
        older.into()
    }
}

/// What does not depend on the types of fields is compiled once.
impl<'a> Decoder<'a> {
    fn exact(&self, field: usize) -> Option<&'a [u8]> {
        match &self.sources[field] {
            Source::Exact(span) => Some(&self.bytes[span.clone()]),
            Source::Older(_) | Source::Missing => None,
        }
    }

    fn fail(&mut self, field: usize) {
        self.failed = self.failed.or(Some(field));
    }
}

fn decode<T: Databag>(bag: &mut T, bytes: &[u8], sources: &[Source]) -> Result<(), DecodeError> {
    let mut decoder = Decoder { bytes, sources, failed: None };
    bag.decode(&mut decoder);
    match decoder.failed {
        None => Ok(()),
        Some(field) => Err(DecodeError { field: Some(T::SCHEMA.fields[field].name) }),
    }
}

/// The tags and fingerprints of a bag, worked out once.
#[derive(Debug)]
pub(crate) struct Layout {
    fields: Vec<FieldLayout>,
    /// How the codec encodes `None`: an empty flash field.
    none: Vec<u8>,
}

#[derive(Debug)]
struct FieldLayout {
    tag: u32,
    aliases: Vec<u32>,
    fingerprint: u64,
    older: Option<u64>,
    projected: bool,
}

impl Layout {
    pub(crate) fn of<T: Databag>() -> Result<Self, CodecError> {
        let mut none = Vec::new();
        T::Codec::encode(&None::<()>, &mut none)?;
        let mut shapes = Shapes::new::<T::Codec>();
        T::shapes(&mut shapes);
        let layout = |(field, shape): (&crate::bag::Field, crate::shape::FieldShape)| FieldLayout {
            tag: tag(field.name),
            aliases: field.aliases.iter().copied().map(tag).collect(),
            fingerprint: fingerprint(&shape.current),
            older: shape.older.as_ref().map(fingerprint),
            projected: field.role != Role::Plain,
        };
        let fields = T::SCHEMA.fields.iter().zip(shapes.finish()).map(layout).collect();
        Ok(Self { fields, none })
    }

    pub(crate) fn none(&self) -> &[u8] {
        &self.none
    }
}

/// Derives a field's tag from its stored name: 32 bits of FNV-1a. The derive refuses collisions.
pub(crate) fn tag(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A record as it was loaded: the bag, and what is needed to tell later what has changed.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) bag: T,
    pub(crate) header: Header,
    /// The fields as they were loaded.
    pub(crate) fields: Fields,
    pub(crate) carried: Vec<Carried>,
    /// The fields whose value was in a column when the record was written.
    pub(crate) projected: Vec<bool>,
}

/// A value that is kept as it is: nobody here can read it.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    entry: Entry,
    value: Vec<u8>,
    /// The field of this bag that it stands in for until that field is changed.
    field: Option<usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    tag: u32,
    /// The stored name, where the framing has one.
    name: Option<String>,
    fingerprint: u64,
    projected: bool,
    span: Range<usize>,
}

/// Reads a record into a bag.
pub(crate) fn load<T: Databag>(layout: &Layout, record: Vec<u8>) -> Result<Loaded<T>, DecodeError> {
    let (header, bytes, entries) = match T::Codec::FRAMING {
        Framing::Binary => parse_binary(record),
        Framing::JsonObject => parse_json(&record),
    }
    .ok_or(DecodeError { field: None })?;

    let mut taken = vec![false; entries.len()];
    let mut sources = Vec::with_capacity(layout.fields.len());
    let mut projected = Vec::with_capacity(layout.fields.len());
    let mut carried = Vec::new();
    for (index, field) in layout.fields.iter().enumerate() {
        // Records keep the schema's order, so the entry is nearly always found at once.
        let at = |tag| {
            let hint = entries.get(index).filter(|entry| entry.tag == tag).map(|_| index);
            hint.or_else(|| entries.iter().position(|entry| entry.tag == tag))
        };
        let Some(found) = at(field.tag).or_else(|| field.aliases.iter().find_map(|&alias| at(alias))) else {
            sources.push(Source::Missing);
            projected.push(false);
            continue;
        };
        let entry = &entries[found];
        taken[found] = true;
        let exact = entry.fingerprint == field.fingerprint;
        projected.push(exact && entry.projected);
        if exact {
            sources.push(Source::Exact(entry.span.clone()));
            continue;
        }
        carried.push(Carried::new(entry, &bytes, Some(index)));
        let older = field.older == Some(entry.fingerprint);
        sources.push(if older { Source::Older(entry.span.clone()) } else { Source::Missing });
    }
    let unknown = entries.iter().zip(&taken).filter(|(_, taken)| !**taken);
    carried.extend(unknown.map(|(entry, _)| Carried::new(entry, &bytes, None)));

    let mut bag = T::defaults();
    decode(&mut bag, &bytes, &sources)?;
    let fields = baseline(&bag, bytes, sources)?;
    Ok(Loaded { bag, header, fields, carried, projected })
}

/// Returns what each field is compared with later: what was stored, or else what it started from.
fn baseline<T: Databag>(bag: &T, bytes: Vec<u8>, sources: Vec<Source>) -> Result<Fields, DecodeError> {
    if sources.iter().all(|source| matches!(source, Source::Exact(_))) {
        let exact = |source| if let Source::Exact(span) = source { Some(span) } else { None };
        return Ok(Fields { bytes, spans: sources.into_iter().filter_map(exact).collect() });
    }
    let started = Fields::of(bag).map_err(|error| DecodeError { field: Some(error.field) })?;
    let mut fields = Fields::default();
    for (field, source) in sources.into_iter().enumerate() {
        match source {
            Source::Exact(span) => fields.push(&bytes[span]),
            Source::Older(_) | Source::Missing => fields.push(started.get(field)),
        }
    }
    Ok(fields)
}

impl Carried {
    /// Tells whether a record that is written keeps this value.
    pub(crate) fn is_kept(&self, changed: impl Fn(usize) -> bool) -> bool {
        self.field.is_none_or(|field| !changed(field))
    }

    fn new(entry: &Entry, bytes: &[u8], field: Option<usize>) -> Self {
        Self { entry: entry.clone(), value: bytes[entry.span.clone()].to_vec(), field }
    }
}

/// Writes a record: `fields`, with what was `carried` in place of each field that `changed` does not name.
pub(crate) fn assemble<T: Databag>(
    layout: &Layout,
    header: &Header,
    fields: &Fields,
    carried: &[Carried],
    changed: impl Fn(usize) -> bool,
) -> Vec<u8> {
    let schema: &Schema = T::SCHEMA;
    let kept = |index| carried.iter().find(|c| c.field == Some(index) && c.is_kept(&changed));
    let own = layout.fields.iter().enumerate().map(|(index, field)| match kept(index) {
        Some(carried) => carried.value(),
        None => Written {
            tag: field.tag,
            name: schema.fields[index].name,
            fingerprint: field.fingerprint,
            projected: field.projected,
            value: fields.get(index),
        },
    });
    let foreign = carried.iter().filter(|carried| carried.field.is_none()).map(Carried::value);
    match T::Codec::FRAMING {
        Framing::Binary => write_binary(header, fields.bytes.len(), own.chain(foreign)),
        Framing::JsonObject => write_json(header, own.chain(foreign)),
    }
}

struct Written<'a> {
    tag: u32,
    name: &'a str,
    fingerprint: u64,
    projected: bool,
    value: &'a [u8],
}

impl Carried {
    fn value(&self) -> Written<'_> {
        Written {
            tag: self.entry.tag,
            name: self.entry.name.as_deref().unwrap_or_default(),
            fingerprint: self.entry.fingerprint,
            projected: self.entry.projected,
            value: &self.value,
        }
    }
}

fn write_binary<'a>(header: &Header, size: usize, fields: impl Iterator<Item = Written<'a>>) -> Vec<u8> {
    const PER_FIELD: usize = 16;
    let mut record = Vec::with_capacity(size + 32 + fields.size_hint().0 * PER_FIELD);
    let remembered = if header.remembered { REMEMBERED } else { 0 };
    let bound = if header.agent.is_some() { AGENT_BOUND } else { 0 };
    record.extend_from_slice(&[VERSION, remembered | bound]);
    record.extend_from_slice(&header.absolute.as_millis().to_be_bytes());
    if let Some(agent) = header.agent {
        record.extend_from_slice(&agent.to_be_bytes());
    }
    for field in fields {
        record.extend_from_slice(&field.tag.to_be_bytes());
        record.extend_from_slice(&field.fingerprint.to_be_bytes());
        record.push(if field.projected { PROJECTED } else { 0 });
        write_length(&mut record, field.value.len());
        record.extend_from_slice(field.value);
    }
    record
}

fn write_length(record: &mut Vec<u8>, mut length: usize) {
    while length > 0x7F {
        record.push(low_bits(length) | 0x80);
        length >>= 7;
    }
    record.push(low_bits(length));
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
fn low_bits(length: usize) -> u8 {
    (length & 0x7F) as u8
}

type Parsed = (Header, Vec<u8>, Vec<Entry>);

fn parse_binary(record: Vec<u8>) -> Option<Parsed> {
    let mut reader = Reader { bytes: &record, at: 0 };
    let [VERSION, flags] = reader.array()? else { return None };
    if flags & !(REMEMBERED | AGENT_BOUND) != 0 {
        return None;
    }
    let absolute = Timestamp::from_millis(i64::from_be_bytes(reader.array()?));
    let agent = if flags & AGENT_BOUND == 0 { None } else { Some(u64::from_be_bytes(reader.array()?)) };
    let mut entries = Vec::with_capacity(16);
    while reader.at < record.len() {
        let tag = u32::from_be_bytes(reader.array()?);
        let fingerprint = u64::from_be_bytes(reader.array()?);
        let [flags] = reader.array()?;
        let length = reader.length()?;
        let span = reader.span(length)?;
        entries.push(Entry { tag, name: None, fingerprint, projected: flags & PROJECTED != 0, span });
    }
    Some((Header { absolute, remembered: flags & REMEMBERED != 0, agent }, record, entries))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn span(&mut self, length: usize) -> Option<Range<usize>> {
        let span = self.at..self.at.checked_add(length)?;
        self.bytes.get(span.clone())?;
        self.at = span.end;
        Some(span)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let span = self.span(N)?;
        self.bytes[span].try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.array()?;
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        None
    }
}

/// The key of a JSON record under which everything stands that is not a field.
const META: &str = "#";

fn write_json<'a>(header: &Header, fields: impl Iterator<Item = Written<'a>>) -> Vec<u8> {
    let mut types = BTreeMap::new();
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for field in fields {
        types.insert(field.name, format!("{:016x}", field.fingerprint));
        if field.projected {
            columns.push(field.name);
        }
        values.push(b',');
        values.extend_from_slice(serde_json::Value::from(field.name).to_string().as_bytes());
        values.push(b':');
        values.extend_from_slice(field.value);
    }
    // In alphabetical order, which serde_json keeps with and without its feature `preserve_order`.
    let meta = serde_json::json!({
        "absolute": header.absolute.as_millis(),
        "agent": header.agent.map(|agent| format!("{agent:016x}")),
        "columns": columns,
        "remembered": header.remembered,
        "types": types,
        "v": VERSION,
    });
    let mut record = format!("{{\"{META}\":{meta}").into_bytes();
    record.append(&mut values);
    record.push(b'}');
    record
}

fn parse_json(record: &[u8]) -> Option<Parsed> {
    let object: BTreeMap<String, &RawValue> = serde_json::from_slice(record).ok()?;
    let meta: serde_json::Value = serde_json::from_str(object.get(META)?.get()).ok()?;
    let hex = |value: &serde_json::Value| u64::from_str_radix(value.as_str()?, 16).ok();
    if meta.get("v")?.as_u64()? != u64::from(VERSION) {
        return None;
    }
    let header = Header {
        absolute: Timestamp::from_millis(meta.get("absolute")?.as_i64()?),
        remembered: meta.get("remembered")?.as_bool()?,
        agent: match meta.get("agent")? {
            serde_json::Value::Null => None,
            agent => Some(hex(agent)?),
        },
    };
    let types = meta.get("types")?;
    let columns = meta.get("columns")?.as_array()?;
    let mut bytes = Vec::with_capacity(record.len());
    let mut entries = Vec::with_capacity(object.len());
    for (name, value) in object.into_iter().filter(|(name, _)| name != META) {
        let start = bytes.len();
        bytes.extend_from_slice(value.get().as_bytes());
        entries.push(Entry {
            tag: tag(&name),
            fingerprint: hex(types.get(&name)?)?,
            projected: columns.iter().any(|column| column == name.as_str()),
            name: Some(name),
            span: start..bytes.len(),
        });
    }
    Some((header, bytes, entries))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::token::Hex;

    /// One bag as it changes from release to release.
    macro_rules! release {
        ($name:ident, $codec:literal, { $($fields:tt)* }) => {
            #[derive(Debug, crate::Databag)]
            #[databag(name = "Shop", codec = $codec)]
            struct $name { $($fields)* }
        };
    }

    release!(First, "bincode", { cart: BTreeMap<String, u32>, #[databag(column)] tenant: Option<String> });
    release!(FirstJson, "json", { cart: BTreeMap<String, u32>, #[databag(column)] tenant: Option<String> });

    const HEADER: Header =
        Header { absolute: Timestamp::from_millis(1_700_000_000_000), remembered: true, agent: Some(7) };

    fn layout<T: Databag>() -> Layout {
        Layout::of::<T>().expect("the codec encodes `None`")
    }

    fn write<T: Databag>(bag: &T) -> Vec<u8> {
        assemble::<T>(&layout::<T>(), &HEADER, &Fields::of(bag).expect("encodes"), &[], |_| true)
    }

    fn read<T: Databag>(record: &[u8]) -> Loaded<T> {
        load::<T>(&layout::<T>(), record.to_vec()).expect("decodes")
    }

    /// Writes a loaded bag again, as a request does that changed it.
    fn rewrite<T: Databag>(loaded: &Loaded<T>) -> Vec<u8> {
        let fields = Fields::of(&loaded.bag).expect("encodes");
        let changed = |field| fields.get(field) != loaded.fields.get(field);
        assemble::<T>(&layout::<T>(), &loaded.header, &fields, &loaded.carried, changed)
    }

    fn cart() -> BTreeMap<String, u32> {
        BTreeMap::from([("tea".to_owned(), 2)])
    }

    fn first() -> First {
        First { cart: cart(), tenant: Some("acme".to_owned()) }
    }

    #[test]
    fn a_record_survives_both_framings() {
        let binary = read::<First>(&write(&first()));
        assert_eq!((binary.bag.cart, binary.bag.tenant.as_deref()), (cart(), Some("acme")));
        assert_eq!((binary.header, binary.projected), (HEADER, vec![false, true]));
        let json = read::<FirstJson>(&write(&FirstJson { cart: cart(), tenant: None }));
        assert_eq!((json.bag.cart, json.bag.tenant), (cart(), None));
        assert_eq!((json.header, json.projected), (HEADER, vec![false, true]));
    }

    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(
            Hex(&write(&first())).to_string(),
            "01030000018bcfe5680000000000000000079827728f2130f839601573040006010374656102f9e185a5b03f10dc267cc7b70106010461636d65"
        );
        let json = write(&FirstJson { cart: cart(), tenant: Some("acme".to_owned()) });
        assert_eq!(
            String::from_utf8(json).expect("text"),
            r##"{"#":{"absolute":1700000000000,"agent":"0000000000000007","columns":["tenant"],"remembered":true,"types":{"cart":"2130f83960157304","tenant":"b03f10dc267cc7b7"},"v":1},"cart":{"tea":2},"tenant":"acme"}"##
        );
    }

    #[test]
    fn a_new_field_takes_its_default() {
        release!(Second, "bincode", { cart: BTreeMap<String, u32>, #[databag(default = 5)] stars: u8 });
        let loaded = read::<Second>(&write(&first()));
        assert_eq!((loaded.bag.cart, loaded.bag.stars), (cart(), 5));
    }

    #[test]
    fn a_removed_field_is_carried_along_untouched() {
        release!(Second, "bincode", { #[databag(column)] tenant: Option<String> });
        release!(SecondJson, "json", { #[databag(column)] tenant: Option<String> });
        let mut loaded = read::<Second>(&write(&first()));
        loaded.bag.tenant = None;
        let again = read::<First>(&rewrite(&loaded)).bag;
        assert_eq!((again.cart, again.tenant), (cart(), None));
        let loaded = read::<SecondJson>(&write(&FirstJson { cart: cart(), tenant: None }));
        assert_eq!(read::<FirstJson>(&rewrite(&loaded)).bag.cart, cart());
    }

    #[test]
    fn a_renamed_field_is_found_by_its_alias_and_stored_under_its_new_name() {
        release!(Second, "bincode", { #[databag(alias = "tenant")] customer: Option<String> });
        release!(Third, "bincode", { customer: Option<String> });
        let loaded = read::<Second>(&write(&first()));
        assert_eq!(loaded.bag.customer.as_deref(), Some("acme"));
        assert_eq!(read::<Third>(&rewrite(&loaded)).bag.customer.as_deref(), Some("acme"));
    }

    #[test]
    fn a_changed_type_goes_through_from() {
        #[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
        struct Tenants(Vec<String>);
        impl From<Option<String>> for Tenants {
            fn from(tenant: Option<String>) -> Self {
                Self(tenant.into_iter().collect())
            }
        }
        release!(Second, "bincode", { #[databag(from = Option<String>)] tenant: Tenants });
        let mut loaded = read::<Second>(&write(&first()));
        assert_eq!(loaded.bag.tenant.0, ["acme"]);
        // Unchanged, it stays readable for the nodes of the first release ..
        assert_eq!(read::<First>(&rewrite(&loaded)).bag.tenant.as_deref(), Some("acme"));
        // .. and changed, it is stored as what it is now.
        loaded.bag.tenant.0.push("other".to_owned());
        assert_eq!(read::<Second>(&rewrite(&loaded)).bag.tenant.0, ["acme", "other"]);
    }

    #[test]
    fn a_wrong_type_is_never_misread_and_not_erased() {
        // The same bytes would decode as either type.
        release!(Second, "bincode", { cart: BTreeMap<String, i8>, tenant: Option<Vec<u8>> });
        let loaded = read::<Second>(&write(&first()));
        assert!(loaded.bag.cart.is_empty() && loaded.bag.tenant.is_none());
        assert_eq!(read::<First>(&rewrite(&loaded)).bag.cart, cart());
    }

    #[test]
    fn a_hash_map_in_another_order_is_no_change() {
        release!(Second, "bincode", { cart: HashMap<u32, u32> });
        let cart: HashMap<u32, u32> = (0..100).map(|sku| (sku, sku)).collect();
        let other: HashMap<u32, u32> = (0..100).rev().map(|sku| (sku, sku)).collect();
        let encoded = Fields::of(&Second { cart: other }).expect("encodes");
        assert!(Second { cart }.equals(0, encoded.get(0)));
        assert!(!Second { cart: HashMap::new() }.equals(0, encoded.get(0)));
    }

    #[test]
    fn damaged_records_are_refused_and_nothing_panics() {
        for record in [write(&first()), write(&FirstJson { cart: cart(), tenant: None })] {
            for length in 0..record.len() {
                let _ = load::<First>(&layout::<First>(), record[..length].to_vec());
                assert!(load::<FirstJson>(&layout::<FirstJson>(), record[..length].to_vec()).is_err());
            }
            for byte in 0..record.len() {
                let mut damaged = record.clone();
                damaged[byte] ^= 0xFF;
                let _ = load::<First>(&layout::<First>(), damaged.clone());
                let _ = load::<FirstJson>(&layout::<FirstJson>(), damaged);
            }
        }
        assert!(load::<First>(&layout::<First>(), vec![2; 64]).is_err());
    }

    #[test]
    fn the_field_that_does_not_decode_is_named() {
        let mut record = write(&first());
        let last = record.len() - 1;
        // The last byte of "acme" is no UTF-8 any more.
        record[last] = 0xFF;
        let error = load::<First>(&layout::<First>(), record).expect_err("not text");
        assert_eq!(error.field, Some("tenant"));
    }
}
