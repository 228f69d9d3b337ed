//! The record: a bag's fields encoded one by one, so that a changed struct still reads old sessions.
//!
//! ```text
//! record  0x01 | flags (1) | absolute expiry (8) | last use (8) | [user agent (8)] | [limit (8)] | [log-in (8)] | field*
//! flags   1 = the cookie outlives the browser, 2 = bound to a user agent, 4 = a limit of its own, 8 = a user has logged in
//! field   tag (4) | fingerprint (8) | flags (1) | [expiry (8)] | length (LEB128) | value
//! flags   1 = projected into a column when it was written, 2 = expires
//! ```
//!
//! Integers are big-endian, times in milliseconds.
//!
//! The tag is derived from the stored name, the fingerprint from the shape of the stored type. With
//! [`Framing::JsonObject`] the record is one JSON object: values under their names, everything else under `"#"`.
//!
//! A field whose fingerprint differs is not decoded, and an unknown field is not dropped. Both are preserved when the
//! record is rewritten, so that an older node does not erase what a newer node wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserializer as _;
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::encoding::{DecodeError, Fields, Source};
use super::schema::{Field, Role, Schema};
use super::shape::{FieldShape, fingerprint};
use super::{Databag, decode, shapes_of};
use crate::clock::Timestamp;
use crate::codec::{Codec, Framing};

const VERSION: u8 = 1;
const REMEMBERED: u8 = 1;
const AGENT_BOUND: u8 = 2;
const LIMITED: u8 = 4;
const AUTHENTICATED: u8 = 8;
const PROJECTED: u8 = 1;
const EXPIRES: u8 = 2;

/// How many fields of a record may be unknown: each takes many times its bytes in memory.
const MAX_PRESERVED: usize = 1024;

/// The part of a record that is about the session as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The absolute expiry: no activity extends it.
    pub(crate) absolute: Timestamp,
    /// When the visitor last used the session, as far as that was stored.
    pub(crate) last_used: Timestamp,
    pub(crate) lifetime: Lifetime,
    /// A hash of the user agent that the session is bound to.
    pub(crate) agent: Option<u64>,
    /// When the user has logged in, or was last authenticated again.
    pub(crate) authenticated: Option<Timestamp>,
}

/// How long a session lives, and its cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Whether the cookie outlives the browser.
    pub(crate) persistent: bool,
    /// The idle and the absolute limit, in the place of those that are configured.
    pub(crate) limit: Option<Duration>,
}

/// The tags and fingerprints of a bag. They are computed once.
#[derive(Debug)]
pub(crate) struct Layout {
    fields: Vec<FieldLayout>,
}

#[derive(Debug)]
struct FieldLayout {
    tag: u32,
    aliases: Vec<u32>,
    fingerprint: u64,
    older: Option<u64>,
    projected: bool,
    /// The encoding of `None`, which is an empty flash field and one that has expired.
    none: Vec<u8>,
    /// Whether the field has a `ttl`.
    expires: bool,
    is_self_describing: bool,
    /// Whether the log says already that stored values of another type are not read.
    is_reported: AtomicBool,
}

/// Why a bag has no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayoutError {
    /// The codec cannot read the field back.
    Unreadable { field: &'static str, codec: &'static str },
    /// A JSON record holds JSON only.
    NotJson { field: &'static str, codec: &'static str },
    /// A field that a flash or a `ttl` empties needs an encoding of `None`.
    NoNone { field: &'static str, codec: &'static str },
}

impl Layout {
    /// Computes the layout of a bag.
    ///
    /// # Errors
    ///
    /// If a field has a codec that cannot store it.
    pub(crate) fn of<T: Databag>() -> Result<Self, LayoutError> {
        let layout = |(field, shape): (&Field, FieldShape)| {
            let (name, codec) = (field.name, shape.codec.name);
            if shape.is_unreadable() {
                return Err(LayoutError::Unreadable { field: name, codec });
            }
            if T::Codec::FRAMING == Framing::JsonObject && !shape.codec.is_json {
                return Err(LayoutError::NotJson { field: name, codec });
            }
            if (field.flash || field.ttl.is_some()) && shape.codec.none.is_none() {
                return Err(LayoutError::NoNone { field: name, codec });
            }
            Ok(FieldLayout {
                tag: tag(name),
                aliases: field.aliases.iter().copied().map(tag).collect(),
                fingerprint: fingerprint(codec, &shape.current),
                older: shape.older.as_ref().map(|older| fingerprint(codec, older)),
                projected: field.role != Role::Plain,
                none: shape.codec.none.unwrap_or_default(),
                expires: field.ttl.is_some(),
                is_self_describing: shape.codec.is_self_describing,
                is_reported: AtomicBool::new(false),
            })
        };
        let fields = T::SCHEMA.fields.iter().zip(shapes_of::<T>()).map(layout).collect::<Result<_, _>>()?;
        Ok(Self { fields })
    }

    /// Returns the encoding of `None` for a field with `flash` or `ttl`.
    pub(crate) fn none(&self, field: usize) -> &[u8] {
        &self.fields[field].none
    }

    /// Returns what to write on a field whose value does not come back from its encoding.
    pub(crate) fn remedy(&self, field: usize) -> &'static str {
        if self.fields[field].is_self_describing {
            "encode it by a module, `#[databag(with = module)]`"
        } else {
            "write `#[databag(codec = \"json\")]` on it, or encode it by a module, `#[databag(with = module)]`"
        }
    }
}

/// Derives a field's tag from its stored name: 32 bits of FNV-1a. The derive rejects collisions.
pub(crate) fn tag(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A record as it was loaded.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) bag: T,
    pub(crate) header: Header,
    /// The fields as they were loaded. A field has changed when its encoding differs from the one in here.
    pub(crate) fields: Fields,
    pub(crate) preserved: Vec<PreservedField>,
    /// For each field, whether its value was in a column when the record was written.
    pub(crate) projected: Vec<bool>,
    /// For each field with a `ttl`, when it expires; empty if the bag has none.
    pub(crate) expiries: Vec<Option<Timestamp>>,
}

/// A stored value that this bag cannot read and therefore does not change.
#[derive(Clone, Debug)]
pub(crate) struct PreservedField {
    entry: Entry,
    value: Vec<u8>,
    /// The field of this bag in whose place the value is written until that field is changed.
    field: Option<usize>,
}

impl PreservedField {
    /// Returns whether a record that is written keeps this value.
    pub(crate) fn is_kept(&self, changed: impl Fn(usize) -> bool) -> bool {
        self.field.is_none_or(|field| !changed(field))
    }

    fn new(entry: &Entry, bytes: &[u8], field: Option<usize>) -> Self {
        Self { entry: entry.clone(), value: bytes[entry.span.clone()].to_vec(), field }
    }

    fn to_write(&self) -> WrittenField<'_> {
        WrittenField {
            tag: self.entry.tag,
            name: self.entry.name.as_deref().unwrap_or_default(),
            fingerprint: self.entry.fingerprint,
            projected: self.entry.projected,
            expires: self.entry.expires,
            value: &self.value,
        }
    }
}

/// A field as it was found in a record.
#[derive(Clone, Debug)]
struct Entry {
    tag: u32,
    /// The stored name, if the framing has one.
    name: Option<String>,
    fingerprint: u64,
    projected: bool,
    expires: Option<Timestamp>,
    span: Range<usize>,
    /// Whether a field of the bag is read from it.
    is_taken: bool,
}

/// Reads a record into a bag. A field that has expired is `None`.
///
/// # Errors
///
/// If the record is malformed, or a field does not decode.
pub(crate) fn load<T: Databag>(
    layout: &Layout,
    record: Vec<u8>,
    now: Timestamp,
) -> Result<Loaded<T>, DecodeError> {
    let limit = layout.fields.len() + MAX_PRESERVED;
    let (header, mut bytes, mut entries) = match T::Codec::FRAMING {
        Framing::Binary => parse_binary(record, layout.fields.len(), limit),
        Framing::JsonObject => parse_json(&record, limit),
    }
    .ok_or(DecodeError { field: None })?;

    let mut sources = Vec::with_capacity(layout.fields.len());
    let mut projected = Vec::with_capacity(layout.fields.len());
    let mut preserved = Vec::new();
    let mut expiries = Vec::new();
    for (index, field) in layout.fields.iter().enumerate() {
        // Records keep the schema's order, so the entry is nearly always at this index.
        let at = |tag| {
            let hint = entries.get(index).filter(|entry| entry.tag == tag).map(|_| index);
            hint.or_else(|| entries.iter().position(|entry| entry.tag == tag))
        };
        let Some(found) = at(field.tag).or_else(|| field.aliases.iter().find_map(|&alias| at(alias))) else {
            sources.push(Source::Missing);
            projected.push(false);
            continue;
        };
        let entry = &mut entries[found];
        entry.is_taken = true;
        let exact = entry.fingerprint == field.fingerprint;
        let older = field.older == Some(entry.fingerprint);
        projected.push(exact && entry.projected);
        if (exact || older) && field.expires && entry.expires.is_some_and(|expires| expires <= now) {
            let start = bytes.len();
            bytes.extend_from_slice(&field.none);
            sources.push(Source::Exact(start..bytes.len()));
            continue;
        }
        if exact {
            if field.expires {
                expiries.resize(layout.fields.len(), None);
                expiries[index] = entry.expires;
            }
            sources.push(Source::Exact(entry.span.clone()));
            continue;
        }
        preserved.push(PreservedField::new(entry, &bytes, Some(index)));
        if !older && !field.is_reported.swap(true, Ordering::Relaxed) {
            let name = T::SCHEMA.fields[index].name;
            tracing::warn!(
                bag = T::SCHEMA.name,
                field = name,
                "stored sessions hold the field `{name}` as another type: it starts from its default. To convert stored \
                 values, name the old type, `#[databag(from = OldType)]`, and write `impl From<OldType>` for the new one; \
                 if the stored field became another one, give that one `#[databag(alias = \"{name}\")]`"
            );
        }
        sources.push(if older { Source::Older(entry.span.clone()) } else { Source::Missing });
    }
    let unknown = entries.iter().filter(|entry| !entry.is_taken);
    // With more, and with the fields that it lacks, the record would not be read again once it is rewritten.
    if unknown.clone().count() > MAX_PRESERVED {
        return Err(DecodeError { field: None });
    }
    preserved.extend(unknown.map(|entry| PreservedField::new(entry, &bytes, None)));

    let mut bag = T::defaults();
    decode(&mut bag, &bytes, &sources)?;
    let fields = baseline(&bag, bytes, sources)?;
    Ok(Loaded { bag, header, fields, preserved, projected, expiries })
}

/// A record as a program reads it that does not know the bag.
#[cfg(feature = "admin")]
pub(crate) struct Outline {
    pub(crate) header: Header,
    pub(crate) fields: Vec<OutlinedField>,
}

/// A field of an [`Outline`].
#[cfg(feature = "admin")]
pub(crate) struct OutlinedField {
    pub(crate) tag: u32,
    /// The stored name, if the framing has one.
    pub(crate) name: Option<String>,
    pub(crate) projected: bool,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) value: Vec<u8>,
}

/// Reads the frame of a record, and decodes no field; `None` if it is malformed.
#[cfg(feature = "admin")]
pub(crate) fn outline(framing: Framing, record: Vec<u8>) -> Option<Outline> {
    let limit = 2 * MAX_PRESERVED;
    let (header, bytes, entries) = match framing {
        Framing::Binary => parse_binary(record, 0, limit),
        Framing::JsonObject => parse_json(&record, limit),
    }?;
    let field = |entry: Entry| OutlinedField {
        tag: entry.tag,
        name: entry.name,
        projected: entry.projected,
        expires: entry.expires,
        value: bytes[entry.span].to_vec(),
    };
    Some(Outline { header, fields: entries.into_iter().map(field).collect() })
}

/// Returns the encodings that later changes are compared with: the stored value of a field, or else the value that
/// the bag starts with.
fn baseline<T: Databag>(bag: &T, bytes: Vec<u8>, sources: Vec<Source>) -> Result<Fields, DecodeError> {
    if sources.iter().all(|source| matches!(source, Source::Exact(_))) {
        let exact = |source| if let Source::Exact(span) = source { Some(span) } else { None };
        return Ok(Fields::from_parts(bytes, sources.into_iter().filter_map(exact).collect()));
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

/// Writes a record: `fields`, but a `preserved` value in place of each field that `changed` does not name.
pub(crate) fn assemble<T: Databag>(
    layout: &Layout,
    header: &Header,
    fields: &Fields,
    expiries: &[Option<Timestamp>],
    preserved: &[PreservedField],
    changed: impl Fn(usize) -> bool,
) -> Vec<u8> {
    let schema: &Schema = T::SCHEMA;
    let kept = |index| preserved.iter().find(|field| field.field == Some(index) && field.is_kept(&changed));
    let own = layout.fields.iter().enumerate().map(|(index, field)| match kept(index) {
        Some(preserved) => preserved.to_write(),
        None => WrittenField {
            tag: field.tag,
            name: schema.fields[index].name,
            fingerprint: field.fingerprint,
            projected: field.projected,
            expires: expiries.get(index).copied().flatten(),
            value: fields.get(index),
        },
    });
    let unknown = preserved.iter().filter(|field| field.field.is_none()).map(PreservedField::to_write);
    match T::Codec::FRAMING {
        Framing::Binary => write_binary(header, fields.bytes().len(), own.chain(unknown)),
        Framing::JsonObject => write_json(header, own.chain(unknown)),
    }
}

/// A field as a record is to hold it.
struct WrittenField<'a> {
    tag: u32,
    name: &'a str,
    fingerprint: u64,
    projected: bool,
    expires: Option<Timestamp>,
    value: &'a [u8],
}

fn write_binary<'a>(header: &Header, size: usize, fields: impl Iterator<Item = WrittenField<'a>>) -> Vec<u8> {
    const PER_FIELD: usize = 16;
    let mut record = Vec::with_capacity(size + 48 + fields.size_hint().0 * PER_FIELD);
    let Header { absolute, last_used, lifetime, agent, authenticated } = header;
    let flags = flag(REMEMBERED, lifetime.persistent)
        | flag(AGENT_BOUND, agent.is_some())
        | flag(LIMITED, lifetime.limit.is_some())
        | flag(AUTHENTICATED, authenticated.is_some());
    record.extend_from_slice(&[VERSION, flags]);
    record.extend_from_slice(&absolute.as_millis().to_be_bytes());
    record.extend_from_slice(&last_used.as_millis().to_be_bytes());
    if let Some(agent) = agent {
        record.extend_from_slice(&agent.to_be_bytes());
    }
    if let Some(limit) = lifetime.limit {
        record.extend_from_slice(&millis(limit).to_be_bytes());
    }
    if let Some(authenticated) = authenticated {
        record.extend_from_slice(&authenticated.as_millis().to_be_bytes());
    }
    for field in fields {
        record.extend_from_slice(&field.tag.to_be_bytes());
        record.extend_from_slice(&field.fingerprint.to_be_bytes());
        record.push(flag(PROJECTED, field.projected) | flag(EXPIRES, field.expires.is_some()));
        if let Some(expires) = field.expires {
            record.extend_from_slice(&expires.as_millis().to_be_bytes());
        }
        write_length(&mut record, field.value.len());
        record.extend_from_slice(field.value);
    }
    record
}

fn flag(flag: u8, is_set: bool) -> u8 {
    if is_set { flag } else { 0 }
}

fn write_length(record: &mut Vec<u8>, mut length: usize) {
    while length > 0x7F {
        record.push(low_bits(length) | 0x80);
        length >>= 7;
    }
    record.push(low_bits(length));
}

/// Returns a time span as it is stored.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
fn low_bits(length: usize) -> u8 {
    (length & 0x7F) as u8
}

type Parsed = (Header, Vec<u8>, Vec<Entry>);

/// Parses a record that likely has `expected` fields, and has at most `limit`.
fn parse_binary(record: Vec<u8>, expected: usize, limit: usize) -> Option<Parsed> {
    let mut reader = Reader { bytes: &record, at: 0 };
    let [VERSION, flags] = reader.array()? else { return None };
    if flags & !(REMEMBERED | AGENT_BOUND | LIMITED | AUTHENTICATED) != 0 {
        return None;
    }
    let has = |flag| flags & flag != 0;
    let (absolute, last_used) = (reader.time()?, reader.time()?);
    let agent = if has(AGENT_BOUND) { Some(u64::from_be_bytes(reader.array()?)) } else { None };
    let own_limit = if has(LIMITED) { Some(u64::from_be_bytes(reader.array()?)) } else { None };
    let authenticated = if has(AUTHENTICATED) { Some(reader.time()?) } else { None };
    let lifetime = Lifetime { persistent: has(REMEMBERED), limit: own_limit.map(Duration::from_millis) };
    let mut entries = Vec::with_capacity(expected);
    while reader.at < record.len() {
        if entries.len() == limit {
            return None;
        }
        let tag = u32::from_be_bytes(reader.array()?);
        let fingerprint = u64::from_be_bytes(reader.array()?);
        let [flags] = reader.array()?;
        if flags & !(PROJECTED | EXPIRES) != 0 {
            return None;
        }
        let expires = if flags & EXPIRES == 0 { None } else { Some(reader.time()?) };
        let length = reader.length()?;
        let span = reader.span(length)?;
        let projected = flags & PROJECTED != 0;
        entries.push(Entry { tag, name: None, fingerprint, projected, expires, span, is_taken: false });
    }
    Some((Header { absolute, last_used, lifetime, agent, authenticated }, record, entries))
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

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp::from_millis(i64::from_be_bytes(self.array()?)))
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

/// The key of a JSON record that holds everything but the fields.
const META: &str = "#";

fn write_json<'a>(header: &Header, fields: impl Iterator<Item = WrittenField<'a>>) -> Vec<u8> {
    let mut types = BTreeMap::new();
    let mut columns = Vec::new();
    let mut expires = BTreeMap::new();
    let mut values = Vec::new();
    for field in fields {
        types.insert(field.name, format!("{:016x}", field.fingerprint));
        if field.projected {
            columns.push(field.name);
        }
        if let Some(expiry) = field.expires {
            expires.insert(field.name, expiry.as_millis());
        }
        values.push(b',');
        values.extend_from_slice(serde_json::Value::from(field.name).to_string().as_bytes());
        values.push(b':');
        values.extend_from_slice(field.value);
    }
    // In alphabetical order: serde_json keeps it with and without its feature `preserve_order`.
    let meta = serde_json::json!({
        "absolute": header.absolute.as_millis(),
        "agent": header.agent.map(|agent| format!("{agent:016x}")),
        "authenticated": header.authenticated.map(Timestamp::as_millis),
        "columns": columns,
        "expires": expires,
        "last_used": header.last_used.as_millis(),
        "limit": header.lifetime.limit.map(millis),
        "remembered": header.lifetime.persistent,
        "types": types,
        "v": VERSION,
    });
    let mut record = format!("{{\"{META}\":{meta}").into_bytes();
    record.append(&mut values);
    record.push(b'}');
    record
}

fn parse_json(record: &[u8], limit: usize) -> Option<Parsed> {
    let object = object(record, limit + 1)?;
    let meta = self::object(object.get(META)?.get().as_bytes(), limit)?;
    let hex = |text: String| u64::from_str_radix(&text, 16).ok();
    if member::<u8>(&meta, "v")? != VERSION {
        return None;
    }
    let header = Header {
        absolute: Timestamp::from_millis(member(&meta, "absolute")?),
        last_used: Timestamp::from_millis(member(&meta, "last_used")?),
        lifetime: Lifetime {
            persistent: member(&meta, "remembered")?,
            limit: member::<Option<u64>>(&meta, "limit")?.map(Duration::from_millis),
        },
        authenticated: member::<Option<i64>>(&meta, "authenticated")?.map(Timestamp::from_millis),
        agent: match member::<Option<String>>(&meta, "agent")? {
            None => None,
            Some(agent) => Some(hex(agent)?),
        },
    };
    let types = self::object(meta.get("types")?.get().as_bytes(), limit)?;
    let columns = names(meta.get("columns")?.get(), limit)?;
    let expires = self::object(meta.get("expires")?.get().as_bytes(), limit)?;
    let mut bytes = Vec::with_capacity(record.len());
    let mut entries = Vec::with_capacity(object.len());
    for (name, value) in object.into_iter().filter(|(name, _)| name != META) {
        let start = bytes.len();
        bytes.extend_from_slice(value.get().as_bytes());
        entries.push(Entry {
            tag: tag(&name),
            fingerprint: hex(member(&types, &name)?)?,
            projected: columns.contains(&name),
            expires: match expires.get(&name) {
                None => None,
                Some(expiry) => Some(Timestamp::from_millis(serde_json::from_str(expiry.get()).ok()?)),
            },
            name: Some(name),
            span: start..bytes.len(),
            is_taken: false,
        });
    }
    Some((header, bytes, entries))
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Parses a JSON object of at most `limit` members, and none of their values.
fn object(json: &[u8], limit: usize) -> Option<Object<'_>> {
    struct Members(usize);

    impl<'de> Visitor<'de> for Members {
        type Value = Object<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an object of at most {} members", self.0)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object<'de>, A::Error> {
            let mut object = Object::new();
            while let Some((name, value)) = members.next_entry()? {
                if object.len() == self.0 {
                    return Err(A::Error::invalid_length(self.0, &self));
                }
                object.insert(name, value);
            }
            Ok(object)
        }
    }

    let mut json = serde_json::Deserializer::from_slice(json);
    let object = json.deserialize_map(Members(limit)).ok()?;
    json.end().ok()?;
    Some(object)
}

/// Parses a JSON array of at most `limit` names.
fn names(json: &str, limit: usize) -> Option<BTreeSet<String>> {
    struct Names(usize);

    impl<'de> Visitor<'de> for Names {
        type Value = BTreeSet<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of at most {} names", self.0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<BTreeSet<String>, A::Error> {
            let (mut names, mut count) = (BTreeSet::new(), 0);
            while let Some(name) = elements.next_element()? {
                if count == self.0 {
                    return Err(A::Error::invalid_length(self.0, &self));
                }
                count += 1;
                names.insert(name);
            }
            Ok(names)
        }
    }

    let mut json = serde_json::Deserializer::from_str(json);
    let names = json.deserialize_seq(Names(limit)).ok()?;
    json.end().ok()?;
    Some(names)
}

fn member<T: DeserializeOwned>(object: &Object<'_>, name: &str) -> Option<T> {
    serde_json::from_str(object.get(name)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::bag::comparison::Comparison;
    use crate::token::Hex;

    /// Declares the bag of one release.
    macro_rules! release {
        ($name:ident, $codec:literal, { $($fields:tt)* }) => {
            #[derive(Debug, crate::Databag)]
            #[databag(name = "Shop", codec = $codec)]
            struct $name { $($fields)* }
        };
    }

    release!(First, "bincode", { cart: BTreeMap<String, u32>, #[databag(column)] tenant: Option<String> });
    release!(FirstJson, "json", { cart: BTreeMap<String, u32>, #[databag(column)] tenant: Option<String> });

    const NOW: Timestamp = Timestamp::from_millis(1_600_000_000_000);
    const HEADER: Header = Header {
        absolute: Timestamp::from_millis(1_700_000_000_000),
        last_used: NOW,
        lifetime: Lifetime { persistent: true, limit: Some(Duration::from_secs(90)) },
        agent: Some(7),
        authenticated: Some(NOW),
    };

    fn layout<T: Databag>() -> Layout {
        Layout::of::<T>().expect("the codec encodes `None`")
    }

    fn write<T: Databag>(bag: &T) -> Vec<u8> {
        assemble::<T>(&layout::<T>(), &HEADER, &Fields::of(bag).expect("encodes"), &[], &[], |_| true)
    }

    fn read<T: Databag>(record: &[u8]) -> Loaded<T> {
        load::<T>(&layout::<T>(), record.to_vec(), NOW).expect("decodes")
    }

    #[test]
    fn a_record_that_lacks_fields_and_has_many_unknown_ones_can_be_rewritten() {
        let unknown =
            |tag| WrittenField { tag, name: "", fingerprint: 0, projected: false, expires: None, value: b"" };
        let record = |count: u32| write_binary(&HEADER, 0, (1..=count).map(unknown));
        let most = u32::try_from(MAX_PRESERVED).expect("a small number");
        read::<First>(&rewrite(&read::<First>(&record(most))));
        assert!(load::<First>(&layout::<First>(), record(most + 1), NOW).is_err());
    }

    /// Writes a loaded bag again, as a request that changed it does.
    fn rewrite<T: Databag>(loaded: &Loaded<T>) -> Vec<u8> {
        let fields = Fields::of(&loaded.bag).expect("encodes");
        let changed = |field| fields.get(field) != loaded.fields.get(field);
        assemble::<T>(&layout::<T>(), &loaded.header, &fields, &loaded.expiries, &loaded.preserved, changed)
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

    release!(Coded, "bincode", { #[databag(ttl = "15m")] code: Option<String>, count: u8 });
    release!(CodedJson, "json", { #[databag(ttl = "15m")] code: Option<String>, count: u8 });

    /// Writes a record whose first field expires.
    fn write_expiring<T: Databag>(bag: &T, expires: Timestamp) -> Vec<u8> {
        let fields = Fields::of(bag).expect("encodes");
        assemble::<T>(&layout::<T>(), &HEADER, &fields, &[Some(expires), None], &[], |_| true)
    }

    #[test]
    fn a_field_that_has_expired_is_none() {
        let (soon, code) = (NOW.saturating_add(Duration::from_millis(1)), || Some("0451".to_owned()));
        for (expires, expected) in [(NOW, None), (soon, code())] {
            let binary = read::<Coded>(&write_expiring(&Coded { code: code(), count: 7 }, expires));
            assert_eq!((&binary.bag.code, binary.bag.count), (&expected, 7));
            // Without the field's time it is no change of this request.
            assert!(Fields::of(&binary.bag).expect("encodes").get(0) == binary.fields.get(0));
            let json = read::<CodedJson>(&write_expiring(&CodedJson { code: code(), count: 7 }, expires));
            assert_eq!((json.bag.code, json.bag.count), (expected, 7));
        }
    }

    /// A node that knows the field no more hands its time on.
    #[test]
    fn a_preserved_field_keeps_its_time() {
        release!(Uncoded, "bincode", { count: u8 });
        release!(UncodedJson, "json", { count: u8 });
        let code = || Some("0451".to_owned());
        let expiring = write_expiring(&Coded { code: code(), count: 7 }, NOW);
        let rewritten = rewrite(&read::<Uncoded>(&expiring));
        assert_eq!(read::<Coded>(&rewritten).bag.code, None);
        let expiring = write_expiring(&CodedJson { code: code(), count: 7 }, NOW);
        let rewritten = rewrite(&read::<UncodedJson>(&expiring));
        assert_eq!(read::<CodedJson>(&rewritten).bag.code, None);
    }

    #[test]
    fn the_bytes_are_pinned() {
        let expiring = write_expiring(&Coded { code: None, count: 7 }, NOW);
        assert_eq!(
            Hex(&expiring).to_string(),
            "010f0000018bcfe5680000000174876e800000000000000000070000000000015f9000000174876e8000f9316cf4cedb1b38fbb217a00200000174876e8000010039b1ddf49359c7b307161549000107"
        );
        assert_eq!(
            Hex(&write(&first())).to_string(),
            "010f0000018bcfe5680000000174876e800000000000000000070000000000015f9000000174876e80009827728f2daac44e089c65940006010374656102f9e185a5cedb1b38fbb217a00106010461636d65"
        );
        let json = write(&FirstJson { cart: cart(), tenant: Some("acme".to_owned()) });
        assert_eq!(
            String::from_utf8(json).expect("text"),
            r##"{"#":{"absolute":1700000000000,"agent":"0000000000000007","authenticated":1600000000000,"columns":["tenant"],"expires":{},"last_used":1600000000000,"limit":90000,"remembered":true,"types":{"cart":"438c3adfaa3cc6ab","tenant":"ce15f77f0b8571af"},"v":1},"cart":{"tea":2},"tenant":"acme"}"##
        );
    }

    #[test]
    fn a_record_of_too_many_fields_is_malformed() {
        let layout = Layout::of::<First>().expect("a layout");
        let with = |fields: usize| {
            let mut record = write(&first());
            for field in 0..fields {
                record.extend_from_slice(&u32::try_from(field).expect("few").to_be_bytes());
                record.extend_from_slice(&[0; 10]);
            }
            load::<First>(&layout, record, NOW).is_ok()
        };
        assert!(with(MAX_PRESERVED) && !with(MAX_PRESERVED + 1) && !with(100_000));
        let layout = Layout::of::<FirstJson>().expect("a layout");
        let with = |fields: usize| {
            let record = String::from_utf8(write(&FirstJson { cart: cart(), tenant: None })).expect("text");
            let list = |of: fn(usize) -> String| (0..fields).map(of).collect::<Vec<_>>().concat();
            let types = list(|field| format!("\"f{field}\":\"0\","));
            let values = list(|field| format!(",\"f{field}\":1"));
            let record = record.replace("\"types\":{", &format!("\"types\":{{{types}"));
            let record = format!("{}{values}}}", record.strip_suffix('}').expect("an object"));
            load::<FirstJson>(&layout, record.into_bytes(), NOW).is_ok()
        };
        assert!(with(MAX_PRESERVED) && !with(MAX_PRESERVED + 1) && !with(100_000));
        let record = String::from_utf8(write(&FirstJson { cart: cart(), tenant: None })).expect("text");
        let columns =
            |count| record.replace("[\"tenant\"]", &format!("[{}\"tenant\"]", "\"\",".repeat(count)));
        let with = |count| load::<FirstJson>(&layout, columns(count).into_bytes(), NOW).is_ok();
        assert!(with(MAX_PRESERVED) && !with(MAX_PRESERVED + 2) && !with(1_000_000));
    }

    #[test]
    fn a_new_field_takes_its_default() {
        release!(Second, "bincode", { cart: BTreeMap<String, u32>, #[databag(default = 5)] stars: u8 });
        let loaded = read::<Second>(&write(&first()));
        assert_eq!((loaded.bag.cart, loaded.bag.stars), (cart(), 5));
    }

    #[test]
    fn a_removed_field_is_preserved_unchanged() {
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
        // An unchanged field stays readable for nodes of the first release ..
        assert_eq!(read::<First>(&rewrite(&loaded)).bag.tenant.as_deref(), Some("acme"));
        // .. and a changed field is stored as its new type.
        loaded.bag.tenant.0.push("other".to_owned());
        assert_eq!(read::<Second>(&rewrite(&loaded)).bag.tenant.0, ["acme", "other"]);
    }

    #[test]
    fn a_value_of_another_type_is_neither_misread_nor_erased() {
        // The same bytes would decode as both types.
        release!(Second, "bincode", { cart: BTreeMap<String, i8>, tenant: Option<Vec<u8>> });
        let loaded = read::<Second>(&write(&first()));
        assert!(loaded.bag.cart.is_empty() && loaded.bag.tenant.is_none());
        assert_eq!(read::<First>(&rewrite(&loaded)).bag.cart, cart());
    }

    #[test]
    fn another_order_of_a_hash_map_is_not_a_change() {
        release!(Second, "bincode", { cart: HashMap<u32, u32> });
        let cart: HashMap<u32, u32> = (0..100).map(|sku| (sku, sku)).collect();
        let other: HashMap<u32, u32> = (0..100).rev().map(|sku| (sku, sku)).collect();
        let encoded = Fields::of(&Second { cart: other }).expect("encodes");
        assert!(Second { cart }.compare(0, encoded.get(0), Comparison::Unchanged));
        assert!(!Second { cart: HashMap::new() }.compare(0, encoded.get(0), Comparison::Unchanged));
    }

    #[test]
    fn a_damaged_record_is_rejected_without_a_panic() {
        for record in [write(&first()), write(&FirstJson { cart: cart(), tenant: None })] {
            for length in 0..record.len() {
                let _ = load::<First>(&layout::<First>(), record[..length].to_vec(), NOW);
                assert!(load::<FirstJson>(&layout::<FirstJson>(), record[..length].to_vec(), NOW).is_err());
            }
            for byte in 0..record.len() {
                let mut damaged = record.clone();
                damaged[byte] ^= 0xFF;
                let _ = load::<First>(&layout::<First>(), damaged.clone(), NOW);
                let _ = load::<FirstJson>(&layout::<FirstJson>(), damaged, NOW);
            }
        }
        assert!(load::<First>(&layout::<First>(), vec![2; 64], NOW).is_err());
    }

    #[test]
    fn an_error_names_the_field_that_does_not_decode() {
        let mut record = write(&first());
        let last = record.len() - 1;
        // The last byte of "acme" is not UTF-8 any more.
        record[last] = 0xFF;
        let error = load::<First>(&layout::<First>(), record, NOW).expect_err("not text");
        assert_eq!(error.field, Some("tenant"));
    }
}
