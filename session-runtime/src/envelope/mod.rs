//! Envelopes: a record goes in, bytes that only its own row can be opened with come out.
//!
//! Knows keys and bytes; does not know what a record holds, nor where envelopes are kept.

mod aead;
mod format;
mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::codec::Framing;

use self::aead::Purpose;
pub(crate) use self::format::{Binding, OpenError};
pub use self::keys::{KeyError, Keyring};

/// The version byte of a record that is stored in the clear, in front of it.
const PLAIN: u8 = 0;

/// How much longer a sealed record is than the record, in bytes.
pub(crate) const OVERHEAD: usize = format::OVERHEAD;

/// Where the sealed record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Into a row that holds bytes.
    Bytes,
    /// Into a row that holds text.
    Text,
    /// Into the cookie of this name.
    Cookie(&'a str),
}

impl<'a> Place<'a> {
    /// Returns the place in a row for a record so framed.
    pub(crate) fn in_row(framing: Framing) -> Self {
        match framing {
            Framing::Binary => Self::Bytes,
            Framing::JsonObject => Self::Text,
        }
    }

    fn purpose(self) -> Purpose<'a> {
        match self {
            Self::Bytes | Self::Text => Purpose::Row,
            Self::Cookie(name) => Purpose::Cookie(name),
        }
    }
}

/// How records are protected: all of an application's rows alike.
#[derive(Debug)]
pub(crate) enum Protection {
    Sealed(Keyring),
    /// Asked for by `danger_plaintext`.
    Plain,
}

impl Protection {
    /// Turns a record into the state of a row.
    pub(crate) fn seal(&self, place: Place<'_>, binding: &Binding<'_>, record: Vec<u8>) -> Vec<u8> {
        match (self, place) {
            (Self::Sealed(keyring), _) => {
                let nonce = aead::nonce();
                let envelope = format::seal(keyring.current(), place.purpose(), nonce, binding, &record);
                if place == Place::Text { STANDARD.encode(envelope).into_bytes() } else { envelope }
            }
            (Self::Plain, Place::Text) => record,
            (Self::Plain, Place::Bytes | Place::Cookie(_)) => [&[PLAIN], record.as_slice()].concat(),
        }
    }

    /// Turns the state of a row back into the record. There is no fallback from one form to another.
    pub(crate) fn open(
        &self,
        place: Place<'_>,
        binding: &Binding<'_>,
        state: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        match (self, place) {
            (Self::Sealed(keyring), Place::Text) => {
                let envelope = STANDARD.decode(state).map_err(|_| OpenError::Malformed)?;
                format::open(keyring, place.purpose(), binding, &envelope)
            }
            (Self::Sealed(keyring), Place::Bytes | Place::Cookie(_)) => {
                format::open(keyring, place.purpose(), binding, state)
            }
            (Self::Plain, Place::Text) if state.starts_with(b"{") => Ok(state.to_vec()),
            (Self::Plain, Place::Text) => Err(STANDARD
                .decode(state)
                .map_or(OpenError::Malformed, |envelope| format::sealed_under(&envelope))),
            (Self::Plain, Place::Bytes | Place::Cookie(_)) => match state {
                [PLAIN, record @ ..] => Ok(record.to_vec()),
                _ => Err(format::sealed_under(state)),
            },
        }
    }

    /// Tells whether the state of a row is sealed under the current key already.
    pub(crate) fn is_current(&self, place: Place<'_>, state: &[u8]) -> bool {
        let Self::Sealed(keyring) = self else { return true };
        let current = keyring.current().id();
        match place {
            Place::Bytes | Place::Cookie(_) => format::key_id(state) == Some(current),
            Place::Text => {
                STANDARD.decode(state).is_ok_and(|envelope| format::key_id(&envelope) == Some(current))
            }
        }
    }

    /// Returns the key for tokens against cross-site request forgery; one for this process only where
    /// nothing is sealed.
    pub(crate) fn csrf_key(&self) -> Zeroizing<[u8; 32]> {
        match self {
            Self::Sealed(keyring) => keyring.current().csrf().clone(),
            Self::Plain => {
                let mut key = Zeroizing::new([0; 32]);
                getrandom::fill(key.as_mut_slice())
                    .expect("the operating system has a random number generator");
                key
            }
        }
    }
}
