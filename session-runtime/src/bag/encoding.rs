//! The encoded fields of a bag, and the encoder and decoder that generated code calls for each field.
//!
//! All fields share one buffer; a span marks each field's bytes in it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Codec, CodecError};

/// The encoded fields of a bag, in the order of its schema.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fields({})", self.len())
    }
}

impl Fields {
    /// Wraps encoded fields that lie in one buffer.
    pub(super) fn from_parts(bytes: Vec<u8>, spans: Vec<Range<usize>>) -> Self {
        Self { bytes, spans }
    }

    /// Returns the encoding of a field.
    pub(crate) fn get(&self, field: usize) -> &[u8] {
        &self.bytes[self.spans[field].clone()]
    }

    /// Returns the number of fields.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Appends the encoding of the next field.
    pub(crate) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.end_field();
    }

    /// Returns a copy with other values for the fields of `replaced`.
    pub(crate) fn with<'a>(&self, replaced: &[usize], value: impl Fn(usize) -> &'a [u8]) -> Self {
        let mut fields = Self::default();
        for field in 0..self.len() {
            fields.push(if replaced.contains(&field) { value(field) } else { self.get(field) });
        }
        fields
    }

    /// Returns the buffer that holds all fields.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns where a decoder finds the fields that `is_picked` selects.
    pub(super) fn sources(&self, is_picked: impl Fn(usize) -> bool) -> Vec<Source> {
        let source = |(field, span): (usize, &Range<usize>)| {
            if is_picked(field) { Source::Exact(span.clone()) } else { Source::Missing }
        };
        self.spans.iter().enumerate().map(source).collect()
    }

    /// Ends the field whose bytes were appended last.
    fn end_field(&mut self) {
        let start = self.spans.last().map_or(0, |last| last.end);
        self.spans.push(start..self.bytes.len());
    }
}

/// A field could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("could not encode the field `{field}`")]
pub(crate) struct EncodeError {
    pub(crate) field: &'static str,
    pub(crate) source: CodecError,
}

/// A record could not be decoded. `field` is `None` if the record itself is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeError {
    pub(crate) field: Option<&'static str>,
}

/// Takes the fields of a bag one after the other.
#[derive(Debug)]
#[doc(hidden)]
pub struct Encoder {
    fields: Fields,
}

#[doc(hidden)]
impl Encoder {
    /// Encodes the next field.
    pub fn field<C: Codec, T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        codec::encode::<C, T>(value, &mut self.fields.bytes).map(|()| self.fields.end_field())
    }
}

impl Encoder {
    /// Makes an encoder for so many fields, which likely take so many bytes.
    pub(super) fn with_capacity(fields: usize, bytes: usize) -> Self {
        let (bytes, spans) = (Vec::with_capacity(bytes), Vec::with_capacity(fields));
        Self { fields: Fields { bytes, spans } }
    }

    pub(super) fn finish(self) -> Fields {
        self.fields
    }
}

/// Hands out the fields of a record.
#[doc(hidden)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    sources: &'a [Source],
    failed: Option<usize>,
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder(..)")
    }
}

/// Where a decoder finds the value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Encoded as the field's own type.
    Exact(Range<usize>),
    /// Encoded as the type that `from` names.
    Older(Range<usize>),
    /// The record has no value of a known type.
    Missing,
}

#[doc(hidden)]
impl Decoder<'_> {
    /// Decodes a field of type `T`.
    pub fn field<C: Codec, T: DeserializeOwned>(&mut self, field: usize, slot: &mut T) {
        self.field_with::<C, T, T>(field, slot, |value| value);
    }

    /// Decodes a field as `W`, which wraps `T`.
    pub fn field_with<C: Codec, W: DeserializeOwned, T>(
        &mut self,
        field: usize,
        slot: &mut T,
        unwrap: fn(W) -> T,
    ) {
        if let Some(bytes) = self.exact(field) {
            match codec::decode::<C, W>(bytes) {
                Ok(value) => *slot = unwrap(value),
                Err(_) => self.fail(field),
            }
        }
    }

    /// Decodes a field that was stored as `O`, and converts it.
    pub fn older<C: Codec, O: DeserializeOwned, T: ConvertedFrom<O>>(&mut self, field: usize, slot: &mut T) {
        if let Source::Older(span) = &self.sources[field] {
            match codec::decode::<C, O>(&self.bytes[span.clone()]) {
                Ok(value) => *slot = T::converted_from(value),
                Err(_) => self.fail(field),
            }
        }
    }
}

// Not generic, so that it is compiled once and not with every bag.
impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8], sources: &'a [Source]) -> Self {
        Self { bytes, sources, failed: None }
    }

    /// Returns the first field that does not decode.
    pub(super) fn failed(&self) -> Option<usize> {
        self.failed
    }

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

/// A type for which `#[databag(from = O)]` can be written.
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
