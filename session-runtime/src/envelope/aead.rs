//! AES-256-GCM-SIV (RFC 8452) under keys derived from one master by HKDF-SHA256 (RFC 5869).

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm_siv::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::blind::BlindKey;
use crate::token::fill_random;

pub(super) const NONCE_LEN: usize = 12;
pub(super) const TAG_LEN: usize = 16;

const SALT: &[u8] = b"databag master v1";
const ROW_LABEL: &[u8] = b"row key";
const COOKIE_LABEL: &[u8] = b"cookie key";
const CSRF_LABEL: &[u8] = b"csrf key";
const BLIND_LABEL: &[u8] = b"blind key";
const ID_LABEL: &[u8] = b"key id";

/// How many records one key should seal: at this number a random nonce of 96 bits has repeated with a probability of 2^-33,
/// below the 2^-32 that NIST SP 800-38D §8.3 allows for AES-GCM. AES-GCM-SIV withstands a repeated nonce: with random ones
/// RFC 8452 §9 allows 2^48 records of at most 32 MiB. At 50,000 writes a second 2^32 is one key a day.
const SEALS_PER_KEY: u64 = 1 << 32;

/// Identifies a master key and reveals nothing of it.
pub(crate) type KeyId = [u8; 4];

/// What an envelope is for. Each purpose has its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    Row,
    /// The cookie of this name.
    Cookie(&'a str),
}

/// The keys derived from one master.
pub(crate) struct Key {
    id: KeyId,
    row: Aes256GcmSiv,
    cookie: Aes256GcmSiv,
    csrf: Zeroizing<[u8; 32]>,
    blind: BlindKey,
    seals: AtomicU64,
}

impl Key {
    pub(super) fn derive(master: &[u8]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), master);
        let mut id = KeyId::default();
        hkdf.expand(ID_LABEL, &mut id).expect("4 bytes are within HKDF's limit");
        Self {
            id,
            row: Aes256GcmSiv::new((&*subkey(&hkdf, ROW_LABEL)).into()),
            cookie: Aes256GcmSiv::new((&*subkey(&hkdf, COOKIE_LABEL)).into()),
            csrf: subkey(&hkdf, CSRF_LABEL),
            blind: BlindKey::new(subkey(&hkdf, BLIND_LABEL)),
            seals: AtomicU64::new(0),
        }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn csrf(&self) -> &Zeroizing<[u8; 32]> {
        &self.csrf
    }

    pub(super) fn blind(&self) -> &BlindKey {
        &self.blind
    }

    pub(super) fn seals(&self) -> u64 {
        self.seals.load(Ordering::Relaxed)
    }

    fn cipher(&self, purpose: Purpose<'_>) -> &Aes256GcmSiv {
        match purpose {
            Purpose::Row => &self.row,
            Purpose::Cookie(_) => &self.cookie,
        }
    }

    /// Encrypts in place and returns the tag.
    pub(super) fn encrypt(
        &self,
        purpose: Purpose<'_>,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        record: &mut [u8],
    ) -> [u8; TAG_LEN] {
        if self.seals.fetch_add(1, Ordering::Relaxed) == SEALS_PER_KEY {
            tracing::warn!(
                "the session key has sealed 2^32 records in this process: put a new one in front of it"
            );
        }
        let cipher = self.cipher(purpose);
        let tag = cipher.encrypt_inout_detached(&Nonce::from(nonce), aad, record.into());
        tag.expect("a record is far below 64 GiB").into()
    }

    /// Decrypts in place. After a failure the content of `record` is meaningless.
    pub(super) fn decrypt(
        &self,
        purpose: Purpose<'_>,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        record: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), aes_gcm_siv::Error> {
        let cipher = self.cipher(purpose);
        cipher.decrypt_inout_detached(&Nonce::from(nonce), aad, record.into(), &Tag::from(*tag))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

fn subkey(hkdf: &Hkdf<Sha256>, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf.expand(label, key.as_mut_slice()).expect("32 bytes are within HKDF's limit");
    key
}

/// Returns a random nonce.
///
/// A call of the operating system costs half a microsecond for any amount, so each thread requests many at once. A fork
/// would repeat some; with SIV a repeated nonce reveals only whether two records are equal.
pub(super) fn nonce() -> [u8; NONCE_LEN] {
    const NONCES: usize = 64;
    thread_local! {
        static RANDOM: RefCell<Vec<[u8; NONCE_LEN]>> = const { RefCell::new(Vec::new()) };
    }
    RANDOM.with_borrow_mut(|nonces| {
        if nonces.is_empty() {
            let mut bytes = [0; NONCES * NONCE_LEN];
            fill_random(&mut bytes);
            nonces.extend(bytes.as_chunks().0);
        }
        nonces.pop().expect("filled above")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::token::Hex;

    #[test]
    fn nonces_do_not_repeat() {
        let nonces: HashSet<_> = (0..10_000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 10_000);
    }

    #[test]
    fn the_last_seal_that_a_key_should_make_is_followed_by_one_warning() {
        let warnings = Warnings::default();
        let mut key = Key::derive(&[7; 32]);
        *key.seals.get_mut() = SEALS_PER_KEY - 1;
        let seal = || {
            key.encrypt(Purpose::Row, [0; NONCE_LEN], b"", &mut [0]);
            warnings.0.load(Ordering::Relaxed)
        };
        let counted = tracing::subscriber::with_default(warnings.clone(), || [(); 4].map(|()| seal()));
        assert_eq!(counted, [0, 1, 1, 1]);
        assert_eq!(key.seals(), SEALS_PER_KEY + 3);
    }

    /// Counts warnings.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicU64>);

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    /// A key whose rows are sealed under these bytes, for known answers.
    fn known(key: &[u8]) -> Key {
        let row = Aes256GcmSiv::new_from_slice(key).expect("32 bytes");
        Key { row, ..Key::derive(&[7; 32]) }
    }

    fn unhex(text: &str) -> Vec<u8> {
        let pairs = text.trim_matches('-').as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        pairs.map(|pair| byte(pair).expect("digits")).collect()
    }

    #[test]
    fn the_cipher_is_the_one_of_rfc_8452() {
        let lines = include_str!("rfc8452.txt").lines().filter(|line| !line.starts_with('#'));
        let mut vectors = 0;
        for line in lines {
            let [key, nonce, aad, text, sealed] =
                line.split(' ').map(unhex).collect::<Vec<_>>().try_into().expect("five");
            let (key, nonce) = (known(&key), nonce.try_into().expect("12 bytes"));
            let mut record = text.clone();
            let tag = key.encrypt(Purpose::Row, nonce, &aad, &mut record);
            assert_eq!([&record[..], &tag].concat(), sealed, "{line}");
            key.decrypt(Purpose::Row, nonce, &aad, &mut record, &tag).expect("it opens");
            assert_eq!(record, text, "{line}");
            vectors += 1;
        }
        assert_eq!(vectors, 26);
    }

    /// Project Wycheproof's vectors: among them wrong tags, counters that wrap and special values of the hash.
    #[test]
    fn the_cipher_is_the_one_of_wycheproof() {
        use wycheproof::TestResult;
        use wycheproof::aead::{TestName, TestSet};
        let set = TestSet::load(TestName::AesGcmSiv).expect("it is built in");
        let groups = set.test_groups.iter().filter(|group| group.key_size == 256 && group.nonce_size == 96);
        let mut counts = [0; 2];
        for test in groups.flat_map(|group| &group.tests) {
            let key = known(&test.key);
            let nonce = test.nonce[..].try_into().expect("12 bytes");
            let tag: [u8; TAG_LEN] = test.tag[..].try_into().expect("16 bytes");
            let mut record = test.ct.to_vec();
            let opened = key.decrypt(Purpose::Row, nonce, &test.aad, &mut record, &tag);
            if test.result == TestResult::Invalid {
                assert!(opened.is_err(), "{} {}", test.tc_id, test.comment);
            } else {
                assert!(opened.is_ok() && record == test.pt[..], "{} {}", test.tc_id, test.comment);
                let sealed = key.encrypt(Purpose::Row, nonce, &test.aad, &mut record);
                assert!(sealed == tag && record == test.ct[..], "{} {}", test.tc_id, test.comment);
            }
            counts[usize::from(test.result == TestResult::Invalid)] += 1;
        }
        assert!(counts[0] > 50 && counts[1] > 20, "valid and invalid vectors: {counts:?}");
    }

    /// RFC 5869, appendix A, cases 1 to 3.
    #[test]
    fn the_derivation_is_the_one_of_rfc_5869() {
        let bytes = |range: std::ops::RangeInclusive<u8>| range.collect::<Vec<u8>>();
        let cases = [
            (
                Some(bytes(0..=12)),
                vec![0x0B; 22],
                bytes(0xF0..=0xF9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                Some(bytes(0x60..=0xAF)),
                bytes(0..=0x4F),
                bytes(0xB0..=0xFF),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
                 da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                None,
                vec![0x0B; 22],
                vec![],
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (salt, secret, info, expected) in cases {
            let mut derived = vec![0; expected.len() / 2];
            Hkdf::<Sha256>::new(salt.as_deref(), &secret).expand(&info, &mut derived).expect("short");
            assert_eq!(Hex(&derived).to_string(), expected);
        }
    }
}
