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

pub(crate) use self::format::{Binding, OpenError};
pub use self::keys::{KeyError, Keyring};

/// The version byte of a record that is stored in the clear, in front of it.
const PLAIN: u8 = 0;

/// How records are protected: all of an application's rows alike.
#[derive(Debug)]
pub(crate) enum Protection {
    Sealed(Keyring),
    /// Asked for by `danger_plaintext`.
    Plain,
}

impl Protection {
    /// Turns a record into the state of a row.
    pub(crate) fn seal(&self, framing: Framing, binding: &Binding<'_>, record: Vec<u8>) -> Vec<u8> {
        match (self, framing) {
            (Self::Sealed(keyring), Framing::Binary) => {
                format::seal(keyring.current(), aead::nonce(), binding, &record)
            }
            (Self::Sealed(keyring), Framing::JsonObject) => {
                let envelope = format::seal(keyring.current(), aead::nonce(), binding, &record);
                STANDARD.encode(envelope).into_bytes()
            }
            (Self::Plain, Framing::Binary) => [&[PLAIN], record.as_slice()].concat(),
            (Self::Plain, Framing::JsonObject) => record,
        }
    }

    /// Turns the state of a row back into the record. There is no fallback from one form to another.
    pub(crate) fn open(
        &self,
        framing: Framing,
        binding: &Binding<'_>,
        state: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        match (self, framing) {
            (Self::Sealed(keyring), Framing::Binary) => format::open(keyring, binding, state),
            (Self::Sealed(keyring), Framing::JsonObject) => {
                let envelope = STANDARD.decode(state).map_err(|_| OpenError::Malformed)?;
                format::open(keyring, binding, &envelope)
            }
            (Self::Plain, Framing::Binary) => match state {
                [PLAIN, record @ ..] => Ok(record.to_vec()),
                _ => Err(format::sealed_under(state)),
            },
            (Self::Plain, Framing::JsonObject) if state.starts_with(b"{") => Ok(state.to_vec()),
            (Self::Plain, Framing::JsonObject) => Err(STANDARD
                .decode(state)
                .map_or(OpenError::Malformed, |envelope| format::sealed_under(&envelope))),
        }
    }

    /// Tells whether a state is sealed under the current key already.
    pub(crate) fn is_current(&self, framing: Framing, state: &[u8]) -> bool {
        let Self::Sealed(keyring) = self else { return true };
        match framing {
            Framing::Binary => format::key_id(state) == Some(keyring.current().id()),
            Framing::JsonObject => STANDARD
                .decode(state)
                .is_ok_and(|envelope| format::key_id(&envelope) == Some(keyring.current().id())),
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
