//! Envelopes: a record enters, bytes that open only in their own row leave.
//!
//! Knows keys and bytes. Does not know what a record holds or where envelopes are kept.

mod aead;
mod blind;
mod csrf;
mod format;
mod keys;
mod opened;
mod weak;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use self::aead::{Key, KeyId, Purpose};
#[cfg(feature = "admin")]
pub(crate) use self::blind::HASH_LEN;
pub(crate) use self::blind::{BlindColumn, BlindKey, hash_type};
pub(crate) use self::csrf::{CsrfCookie, CsrfKeys};
pub(crate) use self::format::{Binding, OpenError};
pub use self::keys::{KeyError, Keyring};
use self::opened::OpenedEnvelopes;
use crate::codec::Framing;
use crate::token::SessionId;

/// The version byte in front of a record that is stored in the clear.
const PLAIN: u8 = 0;

/// The difference in length between a sealed record and the record, in bytes.
pub(crate) const OVERHEAD: usize = format::OVERHEAD;

/// The most bytes that protecting a record adds: a seal; or, in the clear, the names of the bag (255 bytes) and of the
/// table (63), in which JSON escapes every character by at most six.
const MAX_OVERHEAD: usize = 2_048;
const _: () = assert!(OVERHEAD <= MAX_OVERHEAD);

/// Returns the longest state that a row of this framing can have for a record of at most so many bytes, sealed or not.
pub(crate) fn max_state(record: usize, framing: Framing) -> usize {
    let state = record.saturating_add(MAX_OVERHEAD);
    match framing {
        Framing::Binary => state,
        // Base64 makes four characters of three bytes.
        Framing::JsonObject => state.div_ceil(3).saturating_mul(4),
    }
}

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
    Sealed(Sealing),
    /// Chosen by `danger_plaintext`.
    Plain,
}

/// How records are sealed.
#[derive(Debug)]
pub(crate) struct Sealing {
    keyring: Keyring,
    opened: OpenedEnvelopes,
}

impl Sealing {
    fn seal(&self, purpose: Purpose<'_>, binding: &Binding<'_>, record: &[u8]) -> Vec<u8> {
        let envelope = format::seal(self.keyring.current(), purpose, aead::nonce(), binding, record);
        if purpose == Purpose::Row {
            self.opened.keep(binding, &envelope[..], record);
        }
        envelope
    }

    fn open(
        &self,
        purpose: Purpose<'_>,
        binding: &Binding<'_>,
        envelope: Vec<u8>,
    ) -> Result<Vec<u8>, OpenError> {
        if purpose != Purpose::Row || !OpenedEnvelopes::keeps(&envelope) {
            return format::open(&self.keyring, purpose, binding, envelope);
        }
        if let Some(record) = self.opened.find(binding, &envelope) {
            return Ok(record);
        }
        let record = format::open(&self.keyring, purpose, binding, envelope.clone())?;
        self.opened.keep(binding, envelope, &record);
        Ok(record)
    }
}

/// Returns what stands around a record in the clear: the bag and the table it belongs to.
///
/// ```text
/// bytes   0x00 | length (4) | bag name | length (4) | table | record       integers big-endian
/// text    {"bag":"shop/Shop","table":"sessions","record":{..}}
/// ```
fn plain_frame(place: &Place, binding: &Binding<'_>) -> (Vec<u8>, &'static [u8]) {
    let names = [binding.bag, binding.table];
    if *place == Place::Text {
        let [bag, table] = names.map(serde_json::Value::from);
        return (format!("{{\"bag\":{bag},\"table\":{table},\"record\":").into_bytes(), b"}");
    }
    let mut head = vec![PLAIN];
    for name in names {
        let length = u32::try_from(name.len()).expect("names are bounded");
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(name.as_bytes());
    }
    (head, b"")
}

impl Protection {
    pub(crate) fn sealed(keyring: Keyring) -> Self {
        Self::Sealed(Sealing { keyring, opened: OpenedEnvelopes::new() })
    }

    /// Returns whether the current key ends with this process.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::Sealed(sealing) if sealing.keyring.is_temporary())
    }

    /// Turns a record into the state of a row.
    pub(crate) fn seal(&self, place: &Place, binding: &Binding<'_>, record: &[u8]) -> Vec<u8> {
        match (self, place) {
            (Self::Sealed(sealing), _) => {
                let envelope = sealing.seal(place.purpose(), binding, record);
                if *place == Place::Text { STANDARD.encode(envelope).into_bytes() } else { envelope }
            }
            (Self::Plain, _) => {
                let (head, tail) = plain_frame(place, binding);
                [&head, record, tail].concat()
            }
        }
    }

    /// Turns the state of a row back into the record. No form falls back to another.
    pub(crate) fn open(
        &self,
        place: &Place,
        binding: &Binding<'_>,
        state: Vec<u8>,
    ) -> Result<Vec<u8>, OpenError> {
        match (self, place) {
            (Self::Sealed(sealing), Place::Text) => {
                let envelope = STANDARD.decode(state).map_err(|_| OpenError::Malformed)?;
                sealing.open(place.purpose(), binding, envelope)
            }
            (Self::Sealed(sealing), Place::Bytes | Place::Cookie(_)) => {
                sealing.open(place.purpose(), binding, state)
            }
            (Self::Plain, _) => {
                let (head, tail) = plain_frame(place, binding);
                let record = state.strip_prefix(&*head).and_then(|state| state.strip_suffix(tail));
                record.map(<[u8]>::to_vec).ok_or_else(|| match place {
                    Place::Text => STANDARD
                        .decode(&state)
                        .map_or(OpenError::Forged, |envelope| format::sealed_under(&envelope)),
                    Place::Bytes | Place::Cookie(_) => format::sealed_under(&state),
                })
            }
        }
    }

    /// Wipes what is kept of a session that has ended.
    pub(crate) fn forget(&self, id: SessionId) {
        if let Self::Sealed(sealing) = self {
            sealing.opened.forget(id);
        }
    }

    /// Returns whether the state of a row is sealed under the current key.
    pub(crate) fn is_current(&self, place: &Place, state: &[u8]) -> bool {
        let Self::Sealed(sealing) = self else { return true };
        key_id(place, state) == Some(sealing.keyring.current().id())
    }

    /// Returns whether states that one seals may open for the other.
    pub(crate) fn shares_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sealed(sealing), Self::Sealed(other)) => sealing.keyring.shares_key(&other.keyring),
            (Self::Plain, Self::Plain) => true,
            _ => false,
        }
    }

    /// Returns the id of the current key; `None` without sealing.
    #[cfg(feature = "admin")]
    pub(crate) fn current_key(&self) -> Option<KeyId> {
        match self {
            Self::Sealed(sealing) => Some(sealing.keyring.current().id()),
            Self::Plain => None,
        }
    }

    /// Returns the keys of blind columns, the current one first; none without sealing.
    pub(crate) fn blind_keys(&self) -> impl Iterator<Item = &BlindKey> {
        let keyring = match self {
            Self::Sealed(sealing) => Some(&sealing.keyring),
            Self::Plain => None,
        };
        keyring.into_iter().flat_map(Keyring::blind_keys)
    }

    /// Returns the key of the blind columns beside the state of a row, if the row's master key is not missing.
    pub(crate) fn blind_key_of(&self, place: &Place, state: &[u8]) -> Option<&BlindKey> {
        match self {
            Self::Sealed(sealing) => sealing.keyring.find(key_id(place, state)?).map(Key::blind),
            Self::Plain => None,
        }
    }

    /// Returns the keys of a bag's CSRF tokens. Without sealing there is one, random, that ends with this process.
    pub(crate) fn csrf_keys(&self, bag: &str) -> CsrfKeys {
        match self {
            Self::Sealed(sealing) => CsrfKeys::new(sealing.keyring.csrf_keys(), bag),
            Self::Plain => CsrfKeys::random(),
        }
    }
}

/// Returns the id of the key under which the state of a row is sealed.
pub(crate) fn key_id(place: &Place, state: &[u8]) -> Option<KeyId> {
    match place {
        Place::Bytes | Place::Cookie(_) => format::key_id(state),
        Place::Text => format::key_id(&STANDARD.decode(state).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const RECORD: &[u8] = br##"{"#":1}"##;

    fn binding<'a>(bag: &'a str, table: &'a str) -> Binding<'a> {
        let (created, expiration) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
        Binding { bag, table, id: SessionId::from_bytes([7; 32]), created, expiration, revision: 3 }
    }

    fn plain(place: &Place, binding: &Binding<'_>) -> Vec<u8> {
        Protection::Plain.seal(place, binding, RECORD)
    }

    #[test]
    fn the_bytes_in_the_clear_are_pinned() {
        let binding = binding("shop/Shop", "sessions");
        assert_eq!(plain(&Place::Bytes, &binding), b"\0\0\0\0\x09shop/Shop\0\0\0\x08sessions{\"#\":1}");
        let text = br##"{"bag":"shop/Shop","table":"sessions","record":{"#":1}}"##;
        assert_eq!(plain(&Place::Text, &binding), text);
    }

    #[test]
    fn a_record_in_the_clear_opens_in_its_own_bag_and_table_only() {
        let own = binding("shop/Shop", "sessions");
        for place in [Place::Bytes, Place::Text] {
            let state = plain(&place, &own);
            let open = |binding, state: &[u8]| Protection::Plain.open(&place, &binding, state.to_vec());
            assert_eq!(open(own, &state).as_deref(), Ok(RECORD));
            for other in [
                binding("admin/Shop", "sessions"),
                binding("shop/Shop", "others"),
                binding("shop/Shops", "essions"),
            ] {
                assert!(open(other, &state).is_err(), "{other:?}");
            }
            assert!((0..state.len()).all(|length| open(own, &state[..length]) != Ok(RECORD.to_vec())));
        }
    }
}
