//! The token a cookie carries, and the public session id derived from it.
//!
//! A token is the whole credential: it is never logged and never printed. The session id is its hash, so a reader of
//! the store or of a log cannot make a cookie from what is there. With sessions in cookies the token is the sealed
//! session, which starts with its id.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// The longest name plus value of a cookie, in bytes (RFC 6265bis §5.7).
pub(crate) const MAX_COOKIE: usize = 4096;

/// The domain label of [`Token::session_id`].
const ID_LABEL: &[u8] = b"databag session id v1\0";

/// The secret that a client sends: 32 random bytes, base64url in the cookie. With sessions in cookies it is the sealed
/// session itself.
///
/// It has no `Debug` that shows it and no `Display`. Its clones share one place in memory, which is wiped when the last of them
/// is dropped. Not wiped are the buffers of the web server and of TLS that the cookie has passed through.
#[derive(Clone)]
pub struct Token {
    id: SessionId,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Random(Arc<Zeroizing<[u8; 32]>>),
    SealedSession(Arc<Zeroizing<Vec<u8>>>),
}

impl Token {
    /// The length of a random token as the cookie carries it, in characters.
    pub const ENCODED_LEN: usize = 43;

    /// Makes a token from 32 bytes, which must come from a generator fit for keys.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let secret = Self::filled(|secret| secret.copy_from_slice(&bytes));
        bytes.zeroize();
        Self::of_random(secret)
    }

    /// Makes the secret where it stays: bytes that are moved stay behind as well.
    fn filled(fill: impl FnOnce(&mut [u8])) -> Arc<Zeroizing<[u8; 32]>> {
        let mut secret = Arc::new(Zeroizing::new([0; 32]));
        if let Some(bytes) = Arc::get_mut(&mut secret) {
            fill(bytes.as_mut_slice());
        }
        secret
    }

    fn of_random(bytes: Arc<Zeroizing<[u8; 32]>>) -> Self {
        // In place: a hash that is moved leaves its block behind, which has the token in it.
        let mut hash = Sha256::new();
        hash.update(ID_LABEL);
        hash.update(bytes.as_slice());
        Self { id: SessionId(hash.finalize_reset().into()), secret: Secret::Random(bytes) }
    }

    /// Makes a token of a session in its cookie. The first 32 bytes are its id.
    pub(crate) fn of_sealed_session(bytes: Vec<u8>) -> Option<Self> {
        let id = SessionId(*bytes.first_chunk()?);
        Some(Self { id, secret: Secret::SealedSession(Arc::new(Zeroizing::new(bytes))) })
    }

    /// Returns the sealed session that the token is, if it is one.
    pub(crate) fn sealed_session(&self) -> Option<&[u8]> {
        match &self.secret {
            Secret::Random(_) => None,
            Secret::SealedSession(bytes) => Some(bytes),
        }
    }

    /// Reads a token as a cookie carries it.
    ///
    /// Only the canonical form is accepted: 43 characters of base64url (RFC 4648 §5) without
    /// padding, or more for a sealed session, the unused bits of the last one zero. So no two cookie values are
    /// one token.
    pub fn parse(encoded: &str) -> Option<Self> {
        if encoded.len() > MAX_COOKIE {
            return None;
        }
        if encoded.len() > Self::ENCODED_LEN {
            return Self::of_sealed_session(URL_SAFE_NO_PAD.decode(encoded).ok()?);
        }
        let mut length = None;
        let secret = Self::filled(|bytes| length = URL_SAFE_NO_PAD.decode_slice(encoded, bytes).ok());
        (length == Some(secret.len())).then(|| Self::of_random(secret))
    }

    /// Returns the token as the cookie carries it. The result is a secret.
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.secret {
            Secret::Random(bytes) => URL_SAFE_NO_PAD.encode(bytes.as_slice()),
            Secret::SealedSession(bytes) => URL_SAFE_NO_PAD.encode(bytes.as_slice()),
        })
    }

    /// Returns the public name of the session this token opens, or claims to.
    pub fn session_id(&self) -> SessionId {
        self.id
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The public name of a session: 32 bytes, written as 64 hexadecimal digits.
///
/// Stores use it as the key; lists and pages may show it, because it opens nothing. `Debug` shows the first 8 digits,
/// as log lines do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// Wraps the 32 bytes that a store keeps.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes that a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A map of ids, which are hashes already.
pub(crate) type IdMap<V> = HashMap<SessionId, V, BuildHasherDefault<IdHasher>>;

/// Takes the first bytes of an id for its hash: nobody can choose them without trying out tokens.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0[..4]), f)
    }
}

/// Fills bytes from the operating system's generator, in their place: secrets leave no copy.
///
/// # Panics
///
/// If the operating system has no random numbers.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has a random number generator");
}

/// Writes bytes as base64url.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.chunks(32).try_for_each(|bytes| {
            let mut digits = [0; 64];
            for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            f.write_str(str::from_utf8(&digits[..2 * bytes.len()]).unwrap_or_default())
        })
    }
}

/// The text is not a session id: 64 lower-case hexadecimal digits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 64 lower-case hexadecimal digits")]
pub struct ParseSessionIdError;

impl FromStr for SessionId {
    type Err = ParseSessionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(ParseSessionIdError),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| ParseSessionIdError)?;
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(id))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where new tokens come from. Implemented by every `Fn() -> [u8; 32]`.
///
/// The default asks the operating system for each one (ASVS 5.0 §7.2.3, §11.5.1). Replace it only
/// to make a test repeatable.
pub trait TokenSource: Send + Sync + 'static {
    /// Returns 32 bytes that nobody can guess.
    fn token(&self) -> [u8; 32];
}

impl<F: Fn() -> [u8; 32] + Send + Sync + 'static> TokenSource for F {
    fn token(&self) -> [u8; 32] {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(byte: u8) -> Token {
        Token::from_bytes([byte; 32])
    }

    #[test]
    fn a_token_survives_its_cookie_form() {
        let encoded = token(0xA5).encode();
        assert_eq!(encoded.len(), Token::ENCODED_LEN);
        let parsed = Token::parse(&encoded).expect("canonical");
        assert_eq!(parsed.session_id(), token(0xA5).session_id());
    }

    #[test]
    fn only_the_canonical_form_of_a_token_is_accepted() {
        let encoded = token(0).encode();
        assert!(Token::parse(&encoded).is_some());
        let stray_bits = format!("{}B", &encoded[..42]);
        let standard_alphabet = token(0xFF).encode().replace('_', "/");
        for refused in ["", &encoded[..42], &format!("{}=", *encoded), &stray_bits, &standard_alphabet] {
            assert!(Token::parse(refused).is_none(), "{refused} was accepted");
        }
    }

    #[test]
    fn the_session_id_is_pinned() {
        // printf 'databag session id v1\0' and 32 zero bytes, through sha256sum.
        assert_eq!(
            token(0).session_id().to_string(),
            "0c95e73933f7817cbc023473a8d54c0dafb6ae33207fb290f2ee5f5d43295920"
        );
    }

    #[test]
    fn a_session_id_survives_its_text_form() {
        let id = token(7).session_id();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<SessionId>(), Err(ParseSessionIdError));
        assert_eq!("".parse::<SessionId>(), Err(ParseSessionIdError));
    }

    #[test]
    fn debug_shows_no_token_and_little_of_an_id() {
        assert_eq!(format!("{:?}", token(1)), "Token(..)");
        assert_eq!(format!("{:?}", token(1).session_id()).len(), 8);
    }
}
