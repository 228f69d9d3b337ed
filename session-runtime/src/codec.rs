//! How the value of a field becomes bytes.
//!
//! A record is put together field by field (see the `record` module), so a codec only ever sees one value. The
//! framing around the values, and with it all rules about added, removed and changed fields, is not
//! the codec's affair.

use bincode::config::{Config, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Encodes and decodes single values. A type of one's own is named by
/// `#[databag(codec = path::to::Codec)]`.
///
/// # Examples
///
/// Values as TOML-like text would be one more `serde` format; here is JSON, in full:
///
/// ```
/// use serde::{Serialize, de::DeserializeOwned};
/// use session_runtime::{Codec, CodecError, Framing};
///
/// struct MyJson;
///
/// impl Codec for MyJson {
///     const FRAMING: Framing = Framing::Binary;
///     const HUMAN_READABLE: bool = true;
///
///     fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
///         serde_json::to_writer(out, value).map_err(CodecError::new)
///     }
///
///     fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
///         serde_json::from_slice(bytes).map_err(CodecError::new)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a codec",
    label = "does not implement `Codec`",
    note = "write `codec = \"bincode\"` or `codec = \"json\"`, or `impl session_runtime::Codec for {Self}`"
)]
pub trait Codec: 'static {
    /// How the encoded fields are put together.
    const FRAMING: Framing;

    /// What the format answers to serde's `is_human_readable`.
    const HUMAN_READABLE: bool;

    /// Appends the encoded value to `out`. Equal bytes must mean equal values.
    ///
    /// # Errors
    ///
    /// If the format cannot express the value.
    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Decodes a value from all of `bytes`.
    ///
    /// # Errors
    ///
    /// If they are not an encoding of a `T`, or more than one.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError>;
}

/// How the encoded fields of a record are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// Length-prefixed bytes, stored as bytes. Fits every codec.
    Binary,
    /// One JSON object, stored as text. For codecs whose output is JSON.
    JsonObject,
}

/// A value could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[error("the codec refused the value")]
pub struct CodecError(#[source] BoxError);

impl CodecError {
    /// Wraps what the format says. It may end up in logs: it must not show the value.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }
}

/// The default codec: bincode 2, its standard configuration. Compact, not readable without the type.
///
/// A value may not claim more than 16 MiB, whatever its length fields say.
#[derive(Debug)]
#[non_exhaustive]
pub struct Bincode;

/// Bounds what a decoder allocates on the word of a length field.
const MAX_DECODED: usize = 16 * 1024 * 1024;

fn config() -> impl Config {
    standard().with_limit::<MAX_DECODED>()
}

#[diagnostic::do_not_recommend]
impl Codec for Bincode {
    const FRAMING: Framing = Framing::Binary;
    const HUMAN_READABLE: bool = false;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        bincode::serde::encode_into_writer(value, Append(out), config()).map_err(refused)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        match bincode::serde::decode_from_slice(bytes, config()) {
            Ok((value, read)) if read == bytes.len() => Ok(value),
            Ok(_) => Err(CodecError::new("bytes are left over behind the value")),
            Err(error) => Err(refused(error)),
        }
    }
}

struct Append<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn refused(error: impl std::error::Error) -> CodecError {
    CodecError::new(error.to_string())
}

/// The codec behind `codec = "json"`: readable in the database where rows are not sealed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Json;

#[diagnostic::do_not_recommend]
impl Codec for Json {
    const FRAMING: Framing = Framing::JsonObject;
    const HUMAN_READABLE: bool = true;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}
