//! Envelopes: a record enters, bytes that open only in their own row leave.
//!
//! Knows keys and bytes. Does not know what a record holds or where envelopes are kept.

mod aead;
mod csrf;
mod format;
mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use self::aead::Purpose;
pub(crate) use self::csrf::CsrfKey;
pub(crate) use self::format::{Binding, OpenError};
pub use self::keys::{KeyError, Keyring};

/// The version byte in front of a record that is stored in the clear.
const PLAIN: u8 = 0;

/// The difference in length between a sealed record and the record, in bytes.
pub(crate) const OVERHEAD: usize = format::OVERHEAD;

/// Where a sealed record is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a row that holds bytes.
    Bytes,
    /// In a row that holds text.
    Text,
    /// In the cookie of this name.
    #[cfg_attr(not(feature = "cookie"), expect(dead_code, reason = "for `CookieStore`"))]
    Cookie(Box<str>),
}

impl Place {
    fn purpose(&self) -> Purpose<'_> {
        match self {
            Self::Bytes | Self::Text => Purpose::Row,
            Self::Cookie(name) => Purpose::Cookie(name),
        }
    }
}

/// How records are protected: the same for all sessions of a bag.
#[derive(Debug)]
pub(crate) enum Protection {
    Sealed(Keyring),
    /// Chosen by `danger_plaintext`.
    Plain,
}

impl Protection {
    /// Turns a record into the state of a row.
    pub(crate) fn seal(&self, place: &Place, binding: &Binding<'_>, record: Vec<u8>) -> Vec<u8> {
        match (self, place) {
            (Self::Sealed(keyring), _) => {
                let nonce = aead::nonce();
                let envelope = format::seal(keyring.current(), place.purpose(), nonce, binding, &record);
                if *place == Place::Text { STANDARD.encode(envelope).into_bytes() } else { envelope }
            }
            (Self::Plain, Place::Text) => record,
            (Self::Plain, Place::Bytes | Place::Cookie(_)) => [&[PLAIN], record.as_slice()].concat(),
        }
    }

    /// Turns the state of a row back into the record. No form falls back to another.
    pub(crate) fn open(
        &self,
        place: &Place,
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

    /// Returns whether the state of a row is sealed under the current key.
    pub(crate) fn is_current(&self, place: &Place, state: &[u8]) -> bool {
        let Self::Sealed(keyring) = self else { return true };
        let current = keyring.current().id();
        match place {
            Place::Bytes | Place::Cookie(_) => format::key_id(state) == Some(current),
            Place::Text => {
                STANDARD.decode(state).is_ok_and(|envelope| format::key_id(&envelope) == Some(current))
            }
        }
    }

    /// Returns the key of CSRF tokens. Without sealing it is random, and ends with this process.
    pub(crate) fn csrf_key(&self) -> CsrfKey {
        match self {
            Self::Sealed(keyring) => CsrfKey::new(keyring.current().csrf().clone()),
            Self::Plain => CsrfKey::random(),
        }
    }
}
