//! The codec of `codec = "bincode"`, the default.

use bincode::config::{Config, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, CodecError, Framing};

/// The default codec: bincode 2 in its standard configuration. The format is compact, and cannot be read without the
/// type.
///
/// A value of more than 16 MiB is rejected, before its length prefixes can cause allocations.
#[derive(Debug)]
#[non_exhaustive]
pub struct Bincode;

/// Bounds, in bytes, what a decoder allocates because of a length prefix.
const MAX_DECODED: usize = 16 * 1024 * 1024;

fn config() -> impl Config {
    standard().with_limit::<MAX_DECODED>()
}

#[diagnostic::do_not_recommend]
impl Codec for Bincode {
    const NAME: &'static str = "bincode";
    const FRAMING: Framing = Framing::Binary;
    const HUMAN_READABLE: bool = false;
    const SELF_DESCRIBING: bool = false;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        bincode::serde::encode_into_writer(value, Append(out), config()).map_err(codec_error)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        match bincode::serde::decode_from_slice(bytes, config()) {
            Ok((value, read)) if read == bytes.len() => Ok(value),
            Ok(_) => Err(CodecError::new("bytes follow the value")),
            Err(error) => Err(codec_error(error)),
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

fn codec_error(error: impl std::error::Error) -> CodecError {
    CodecError::new(error.to_string())
}
