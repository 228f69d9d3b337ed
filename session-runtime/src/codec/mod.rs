//! Codecs: the value of one field becomes bytes, and bytes become a value.
//!
//! A codec does not know the record around the value, and nothing of added, removed and changed fields.

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "bincode")]
pub(crate) mod bincode;
mod limits;

pub use self::limits::MAX_DEPTH;
use self::limits::{Decoded, Limited};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Encodes and decodes single values. `#[databag(codec = path::to::MyCodec)]` selects a codec of your own.
///
/// # Limits
///
/// Values are limited whatever the codec is: `encode` gets a value that fails beyond [`MAX_DEPTH`] levels, and `decode` a
/// type that fails beyond so many levels or with more elements than `bytes` can hold. A codec that reads into a tree
/// of its own before it asks the type has to stop at [`MAX_DEPTH`] itself.
///
/// Not limited is the time that a type takes itself: an untagged enum that contains itself is tried variant by variant
/// at each level.
///
/// # Examples
///
/// A complete implementation, here for JSON:
///
/// ```
/// use serde::{Serialize, de::DeserializeOwned};
/// use session_runtime::{Codec, CodecError, Framing};
///
/// struct MyJson;
///
/// impl Codec for MyJson {
///     const NAME: &'static str = "my-json";
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
    /// The name of the format. Committed schema files hold it (see [`assert_schema!`](crate::assert_schema)), so it
    /// must not change as long as the format does not.
    const NAME: &'static str;

    /// How the encoded fields form a record.
    const FRAMING: Framing;

    /// What the format returns from serde's `is_human_readable`.
    const HUMAN_READABLE: bool;

    /// Whether the format stores the type of each value, so that it can answer serde's `deserialize_any`. With a format
    /// that cannot, a field whose type asks for that is refused when sessions are built.
    const SELF_DESCRIBING: bool = true;

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
    /// If `bytes` is not exactly one encoded `T`.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError>;
}

/// Appends an encoded value to `out`, within the limits.
///
/// # Errors
///
/// If the codec cannot express the value, or it has more than [`MAX_DEPTH`] levels.
pub(crate) fn encode<C: Codec, T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    C::encode(&Limited::new(value, C::FRAMING == Framing::JsonObject), out)
}

/// Decodes a value from all of `bytes`, within the limits.
///
/// # Errors
///
/// If `bytes` is not exactly one encoded `T`, or claims more than it can hold.
pub(crate) fn decode<C: Codec, T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Decoded::<T>::expect(bytes.len());
    C::decode::<Decoded<T>>(bytes).map(|Decoded(value)| value)
}

/// How the encoded fields form a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// Length-prefixed values, stored as bytes. It works with every codec.
    Binary,
    /// One JSON object, stored as text. It needs a codec whose output is JSON.
    JsonObject,
}

/// A value could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[error("the codec rejected the value")]
pub struct CodecError(#[source] BoxError);

impl CodecError {
    /// Wraps the format's error. Logs show it, so it must not contain the value.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }
}

/// The codec of `codec = "json"`. Without sealing, rows are readable in the database.
#[derive(Debug)]
#[non_exhaustive]
pub struct Json;

#[diagnostic::do_not_recommend]
impl Codec for Json {
    const NAME: &'static str = "json";
    const FRAMING: Framing = Framing::JsonObject;
    const HUMAN_READABLE: bool = true;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        // The levels are counted for every codec alike; see `limits`.
        deserializer.disable_recursion_limit();
        let value = T::deserialize(&mut deserializer).map_err(CodecError::new)?;
        deserializer.end().map_err(CodecError::new)?;
        Ok(value)
    }
}
