//! The bytes of an envelope.
//!
//! ```text
//! envelope  0x01 | key id (4) | nonce (12) | ciphertext | tag (16)
//! aad       label, version, key id, then each after its length (u32, big-endian):
//!           bag name, table, session id (32), created (8), expiration (8), revision (8),
//!           and in a cookie the cookie's name
//! ```
//!
//! The associated data binds an envelope to its place: an envelope that is moved to another row, another bag or another
//! time does not open. A row's envelope does not open as a cookie, and a cookie's not as a row. Integers are big-endian.

use smallvec::SmallVec;

use super::aead::{Key, KeyId, NONCE_LEN, Purpose, TAG_LEN};
use super::keys::Keyring;
use crate::clock::Timestamp;
use crate::token::SessionId;

const VERSION: u8 = 1;
const ROW_LABEL: &[u8] = b"databag row v1";
const COOKIE_LABEL: &[u8] = b"databag cookie v1";
const HEADER_LEN: usize = 1 + size_of::<KeyId>() + NONCE_LEN;

/// The difference in length between an envelope and its record, in bytes.
pub(super) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// The place an envelope belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) bag: &'a str,
    pub(crate) table: &'a str,
    pub(crate) id: SessionId,
    pub(crate) created: Timestamp,
    pub(crate) expiration: Timestamp,
    pub(crate) revision: i64,
}

impl Binding<'_> {
    fn aad(&self, purpose: Purpose<'_>, key: KeyId) -> SmallVec<[u8; 256]> {
        let (label, cookie) = match purpose {
            Purpose::Row => (ROW_LABEL, None),
            Purpose::Cookie(name) => (COOKIE_LABEL, Some(name.as_bytes())),
        };
        let parts: [&[u8]; 6] = [
            self.bag.as_bytes(),
            self.table.as_bytes(),
            self.id.as_bytes(),
            &self.created.as_millis().to_be_bytes(),
            &self.expiration.as_millis().to_be_bytes(),
            &self.revision.to_be_bytes(),
        ];
        let mut aad = SmallVec::new();
        aad.extend_from_slice(label);
        aad.push(VERSION);
        aad.extend_from_slice(&key);
        for part in parts.into_iter().chain(cookie) {
            let length = u32::try_from(part.len()).expect("names are bounded");
            aad.extend_from_slice(&length.to_be_bytes());
            aad.extend_from_slice(part);
        }
        aad
    }
}

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Too short, of an unknown version, or not an envelope at all.
    Malformed,
    /// Sealed under a key that is not in the keyring.
    UnknownKey(KeyId),
    /// Changed, or moved from another place.
    Forged,
}

pub(super) fn seal(
    key: &Key,
    purpose: Purpose<'_>,
    nonce: [u8; NONCE_LEN],
    binding: &Binding<'_>,
    record: &[u8],
) -> Vec<u8> {
    let mut envelope = Vec::with_capacity(record.len() + OVERHEAD);
    envelope.push(VERSION);
    envelope.extend_from_slice(&key.id());
    envelope.extend_from_slice(&nonce);
    envelope.extend_from_slice(record);
    let aad = binding.aad(purpose, key.id());
    let tag = key.encrypt(purpose, nonce, &aad, &mut envelope[HEADER_LEN..]);
    envelope.extend_from_slice(&tag);
    envelope
}

pub(super) fn open(
    keyring: &Keyring,
    purpose: Purpose<'_>,
    binding: &Binding<'_>,
    mut envelope: Vec<u8>,
) -> Result<Vec<u8>, OpenError> {
    let id = key_id(&envelope).ok_or(OpenError::Malformed)?;
    let key = keyring.find(id).ok_or(OpenError::UnknownKey(id))?;
    let (header, sealed) = envelope.split_at_mut(HEADER_LEN);
    let nonce = header[HEADER_LEN - NONCE_LEN..].try_into().expect("the header ends with the nonce");
    let (record, tag) =
        sealed.split_last_chunk_mut::<TAG_LEN>().expect("the length was checked with the key id");
    let aad = binding.aad(purpose, id);
    key.decrypt(purpose, nonce, &aad, record, tag).map_err(|_| OpenError::Forged)?;
    envelope.truncate(envelope.len() - TAG_LEN);
    envelope.drain(..HEADER_LEN);
    Ok(envelope)
}

/// Returns the id of the key of an envelope; `None` if it does not have the form of one.
pub(super) fn key_id(envelope: &[u8]) -> Option<KeyId> {
    let long_enough = envelope.len() >= OVERHEAD;
    let id = envelope.strip_prefix(&[VERSION])?.first_chunk()?;
    long_enough.then_some(*id)
}

/// Returns the error for an envelope where nothing is sealed.
pub(super) fn sealed_under(envelope: &[u8]) -> OpenError {
    key_id(envelope).map_or(OpenError::Malformed, OpenError::UnknownKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Hex;

    fn keyring() -> Keyring {
        let master: Vec<u8> = (0_u8..32).map(|byte| byte.wrapping_mul(37).wrapping_add(11)).collect();
        Keyring::unchecked(&master)
    }

    fn binding() -> Binding<'static> {
        Binding {
            bag: "shop/Shop",
            table: "sessions",
            id: SessionId::from_bytes([7; 32]),
            created: Timestamp::from_millis(1_000),
            expiration: Timestamp::from_millis(2_000),
            revision: 3,
        }
    }

    fn sealed() -> Vec<u8> {
        seal(keyring().current(), Purpose::Row, [9; NONCE_LEN], &binding(), b"record")
    }

    fn open(keyring: &Keyring, binding: &Binding<'_>, envelope: &[u8]) -> Result<Vec<u8>, OpenError> {
        super::open(keyring, Purpose::Row, binding, envelope.to_vec())
    }

    #[test]
    fn what_is_sealed_opens() {
        assert_eq!(open(&keyring(), &binding(), &sealed()).as_deref(), Ok(&b"record"[..]));
    }

    #[test]
    fn a_row_is_no_cookie() {
        let purpose = Purpose::Cookie("shop");
        let cookie = seal(keyring().current(), purpose, [9; NONCE_LEN], &binding(), b"record");
        assert_eq!(open(&keyring(), &binding(), &cookie), Err(OpenError::Forged));
        let taken = super::open(&keyring(), purpose, &binding(), sealed());
        assert_eq!(taken, Err(OpenError::Forged));
        let renamed = super::open(&keyring(), Purpose::Cookie("admin"), &binding(), cookie.clone());
        assert_eq!(renamed, Err(OpenError::Forged), "CVE-2022-46170: the cookie of another name");
        assert_eq!(
            Hex(&cookie).to_string(),
            "011861462a090909090909090909090909ab10790d83efaf90d6ab26fb9b8eca3b3bb414b030fa"
        );
    }

    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(
            Hex(&sealed()).to_string(),
            "011861462a0909090909090909090909094abb716fa5e92dff476305c989045a3d7a7a0d60370b"
        );
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        for bit in 0..sealed().len() * 8 {
            let mut changed = sealed();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&keyring(), &binding(), &changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_envelope_opens_in_its_own_place_only() {
        let places = [
            Binding { bag: "Admin", ..binding() },
            Binding { id: SessionId::from_bytes([8; 32]), ..binding() },
            Binding { created: Timestamp::from_millis(1_001), ..binding() },
            Binding { expiration: Timestamp::from_millis(2_001), ..binding() },
            Binding { revision: 4, ..binding() },
        ];
        for place in places {
            assert_eq!(open(&keyring(), &place, &sealed()), Err(OpenError::Forged), "{place:?}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        for length in 0..sealed().len() {
            assert!(open(&keyring(), &binding(), &sealed()[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_unknown_key_is_told_from_a_forgery() {
        let other = Keyring::unchecked(&(100_u8..132).collect::<Vec<_>>());
        let id = keyring().current().id();
        assert_eq!(open(&other, &binding(), &sealed()), Err(OpenError::UnknownKey(id)));
    }
}
