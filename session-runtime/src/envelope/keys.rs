//! Master keys: how they are read, which are refused, and which key opens an envelope.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::aead::{Key, KeyId};
use crate::token::Hex;

/// The least length of a master key, in bytes.
const MIN_LEN: usize = 32;

/// The keys that seal sessions: one current, and any number of older ones that only open.
///
/// To rotate keys, put the new key in front of the old one in every process. Remove the old key when every session under
/// it has expired or has been written again; [`Sessions::reseal_all`](crate::Sessions::reseal_all) writes them all at once.
/// A session under a missing key is not lost: its requests are answered 503 until the key is back.
///
/// # Examples
///
/// ```
/// use session_runtime::Keyring;
///
/// let old = Keyring::generate();
/// let new = Keyring::generate();
/// let keyring = Keyring::parse(&format!("{}, {}", *new, *old))?;
/// # let _ = keyring;
/// # Ok::<(), session_runtime::KeyError>(())
/// ```
pub struct Keyring {
    /// The current one first.
    keys: Vec<Key>,
}

impl Keyring {
    /// Makes a keyring of one master key: 32 or more bytes from a generator fit for keys.
    ///
    /// # Errors
    ///
    /// If the key is too short, constant or repetitive, or looks like a passphrase.
    pub fn new(master: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Ok(Self { keys: vec![derive(master.as_ref())?] })
    }

    /// Adds an older master key, which only opens.
    ///
    /// # Errors
    ///
    /// As [`Keyring::new`], and if the keyring has this key already.
    pub fn with_older(mut self, master: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let key = derive(master.as_ref())?;
        if self.find(key.id()).is_some() {
            return Err(KeyError::Repeated);
        }
        self.keys.push(key);
        Ok(self)
    }

    /// Reads master keys as text: each is 64 hexadecimal digits, or base64 of 32 or more bytes. The current key comes
    /// first, older keys follow, separated by commas or white space.
    ///
    /// # Errors
    ///
    /// If there is no key, or a key has neither form, or is refused as in [`Keyring::new`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut masters = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
        let current = masters.next().ok_or(KeyError::Empty)?;
        masters.try_fold(Self::new(decode(current)?)?, |keyring, older| keyring.with_older(decode(older)?))
    }

    /// Reads master keys from an environment variable, in the form of [`Keyring::parse`].
    ///
    /// # Errors
    ///
    /// If the variable is not set, or does not hold good keys.
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        match std::env::var(name) {
            Ok(text) => Self::parse(&Zeroizing::new(text))
                .map_err(|error| KeyError::Env(name.to_owned(), Box::new(error))),
            Err(_) => Err(KeyError::Missing(name.to_owned())),
        }
    }

    /// Makes a new master key, as text that [`Keyring::parse`] reads. The result is a secret.
    ///
    /// # Panics
    ///
    /// If the operating system has no random numbers.
    pub fn generate() -> Zeroizing<String> {
        let mut master = Zeroizing::new([0; MIN_LEN]);
        getrandom::fill(master.as_mut_slice()).expect("the operating system has a random number generator");
        Zeroizing::new(Hex(master.as_slice()).to_string())
    }

    pub(super) fn current(&self) -> &Key {
        &self.keys[0]
    }

    /// Returns the master keys' keys of CSRF tokens, the current one first.
    pub(super) fn csrf_keys(&self) -> impl Iterator<Item = &Zeroizing<[u8; 32]>> {
        self.keys.iter().map(Key::csrf)
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id() == id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

/// A master key was refused. No variant shows any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The environment variable is not set.
    #[error("the environment variable `{0}` is not set; make a key with `openssl rand -hex 32`")]
    Missing(String),
    /// The key in the environment variable is refused.
    #[error("the key in the environment variable `{0}` is refused")]
    Env(String, #[source] Box<KeyError>),
    /// There is no key in the text.
    #[error("there is no key; make one with `openssl rand -hex 32`")]
    Empty,
    /// The text has neither form of a key.
    #[error("a key is written as 64 hexadecimal digits, or as base64 of at least {MIN_LEN} bytes")]
    Malformed,
    /// The key has too few bytes.
    #[error("the key has {0} bytes; at least {MIN_LEN} are needed")]
    Short(usize),
    /// The key has few different bytes.
    #[error("the key is constant or repeats itself; make one with `openssl rand -hex 32`")]
    Repetitive,
    /// The key is text.
    #[error("the key is text, not random bytes; make one with `openssl rand -hex 32`")]
    Passphrase,
    /// The keyring has this key already.
    #[error("the same key is given twice")]
    Repeated,
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let hex = |text: &str| {
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<_>>>()
    };
    let is_hex = text.len() == 2 * MIN_LEN && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let base64 = || {
        [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD].iter().find_map(|e| e.decode(text).ok())
    };
    let bytes = if is_hex { hex(text) } else { base64() };
    bytes.map(Zeroizing::new).ok_or(KeyError::Malformed)
}

fn derive(master: &[u8]) -> Result<Key, KeyError> {
    /// 32 random bytes never have fewer different ones than this.
    const MIN_DISTINCT: usize = 8;
    if master.len() < MIN_LEN {
        return Err(KeyError::Short(master.len()));
    }
    if master.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Err(KeyError::Passphrase);
    }
    let distinct = master.iter().collect::<std::collections::BTreeSet<_>>().len();
    if distinct < MIN_DISTINCT {
        return Err(KeyError::Repetitive);
    }
    Ok(Key::derive(master))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_accepted() {
        assert!(Keyring::parse(&Keyring::generate()).is_ok());
    }

    #[test]
    fn both_forms_of_a_key_are_one_key() {
        let hex = Keyring::generate();
        let bytes = decode(&hex).expect("hex");
        for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
            assert_eq!(decode(&engine.encode(&bytes)).as_ref(), Ok(&bytes));
        }
    }

    #[test]
    fn weak_keys_are_refused() {
        let refuse = |master: &[u8]| Keyring::new(master).map(|_| ()).expect_err("refused");
        assert_eq!(refuse(&[1; 31]), KeyError::Short(31));
        assert_eq!(refuse(&[0; 32]), KeyError::Repetitive);
        assert_eq!(refuse(&[0xAB, 0xCD].repeat(16)), KeyError::Repetitive);
        assert_eq!(refuse(b"correct horse battery staple, twice over"), KeyError::Passphrase);
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let refuse = |text: &str| Keyring::parse(text).map(|_| ()).expect_err("refused");
        assert_eq!(refuse(" "), KeyError::Empty);
        assert_eq!(refuse("secret!"), KeyError::Malformed);
        assert_eq!(refuse("c2hvcnQ="), KeyError::Short(5));
        let key = Keyring::generate();
        assert_eq!(refuse(&format!("{0},{0}", *key)), KeyError::Repeated);
    }

    #[test]
    fn debug_shows_no_key() {
        let text = Keyring::generate();
        let shown = format!("{:?}", Keyring::parse(&text).expect("good"));
        assert_eq!(shown, "Keyring(1 keys)");
    }
}
