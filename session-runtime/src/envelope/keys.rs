//! Master keys: how they are read, which are refused, and which key opens an envelope.

use std::env::{self, VarError};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::aead::{Key, KeyId};
use super::blind::BlindKey;
use super::weak::{self, Weakness};
use crate::error_chain::readable_debug;
use crate::token::{Hex, fill_random};

/// The least length of a master key, in bytes.
const MIN_LEN: usize = 32;

/// The keys that seal sessions: one current, and any number of older ones that only open.
///
/// To rotate keys, add the new key behind the old one in every process, and then put it in front in every process: a process
/// that lacks it cannot open what the others seal, nor find it by a blind column. Remove the old key when every session under
/// it has expired or has been written again; [`Sessions::reseal_all`](crate::Sessions::reseal_all) writes them all at once.
/// The keys are wiped from memory when the last clone of the keyring is dropped, and so is what was read of a file. What else has
/// held a key is not: the environment of the process, for one.
///
/// A session under a missing key is not lost: its requests are answered 503 until the key is back. With sessions in cookies
/// the visitor is anonymous.
///
/// # Examples
///
/// ```
/// use session_runtime::Keyring;
///
/// let old = Keyring::generate_text();
/// let new = Keyring::generate_text();
/// let keyring = Keyring::parse(&format!("{}, {}", *new, *old))?;
/// # let _ = keyring;
/// # Ok::<(), session_runtime::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The current one first.
    keys: Vec<Arc<Key>>,
    /// Whether the current key is stored nowhere.
    is_temporary: bool,
}

impl Keyring {
    /// Makes a keyring of one master key: 32 or more bytes from a generator fit for keys.
    ///
    /// # Errors
    ///
    /// If the key is too short, is text, repeats itself, counts, or was published. Of random keys fewer than one in 2^40 are
    /// refused.
    pub fn new(master: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Ok(Self { keys: vec![Arc::new(derive(master.as_ref())?)], is_temporary: false })
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
        self.keys.push(Arc::new(key));
        Ok(self)
    }

    /// Reads master keys as text: each is 64 hexadecimal digits, or base64 of 32 or more bytes. The current key comes
    /// first, older keys follow, separated by commas or white space.
    ///
    /// # Errors
    ///
    /// If there is no key, or a key has neither form, or is refused as in [`Keyring::new`]; and if its text is a word or more,
    /// or a row of the keyboard, that happens to be base64.
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
        Self::from_variable(name, env::var(name))
    }

    fn from_variable(name: &str, value: Result<String, VarError>) -> Result<Self, KeyError> {
        let keyring = match value {
            Ok(text) => Self::parse(&Zeroizing::new(text)),
            Err(VarError::NotPresent) => return Err(KeyError::Missing(name.to_owned())),
            // Both forms of a key are ASCII.
            Err(VarError::NotUnicode(_)) => Err(KeyError::Malformed),
        };
        keyring.map_err(|error| KeyError::Env(name.to_owned(), Box::new(error)))
    }

    /// Reads master keys from a file, in the form of [`Keyring::parse`]: one key a line, the current one first. For a secret that
    /// Docker, Kubernetes or systemd gives to the program, or a file of your own.
    ///
    /// On Unix the file is refused if its mode gives other users or its group any permission, with one exception: the group may
    /// read, and no more, if root owns the file. So Kubernetes gives a secret to a program that does not run as root, and systemd
    /// shows a credential. Everybody in that group can read the key. The permissions of the folder are not looked at.
    ///
    /// | secret | what to write |
    /// | --- | --- |
    /// | a file of your own | `chmod 600 session.key` |
    /// | Kubernetes | `defaultMode: 0400` under `secret:`; and `fsGroup` if the program does not run as root |
    /// | Docker Swarm | `mode: 0400` and the `uid` of the program under `secrets:` |
    /// | Docker Compose | `chmod 600` the file on the host, which is mounted as it is; its owner is the `user` of the program |
    /// | systemd | `LoadCredential=session.key:/etc/shop/session.key`, and the path `$CREDENTIALS_DIRECTORY/session.key` |
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is open to others, or does not hold good keys. The error names the path.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        /// More than a hundred keys.
        const LONGEST: u64 = 64 * 1024;
        let path = path.as_ref();
        let unreadable =
            |error: io::Error| KeyError::Unreadable { path: path.to_owned(), kind: error.kind() };
        let file = File::open(path).map_err(unreadable)?;
        #[cfg(unix)]
        check_mode(path, &file.metadata().map_err(unreadable)?)?;
        let mut text = Zeroizing::new(String::with_capacity(4096));
        file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text).map_err(|error| KeyError::File { path: path.to_owned(), source: Box::new(error) })
    }

    /// Makes a keyring of a new key, which is stored nowhere: its sessions end with this process.
    ///
    /// # Panics
    ///
    /// If the operating system has no random numbers.
    pub fn generate() -> Self {
        Self { keys: vec![Arc::new(Key::derive(random_master().as_slice()))], is_temporary: true }
    }

    /// Makes a new master key, as text that [`Keyring::parse`] reads, to show or store it once. The result is a secret.
    ///
    /// # Panics
    ///
    /// If the operating system has no random numbers.
    pub fn generate_text() -> Zeroizing<String> {
        Zeroizing::new(Hex(random_master().as_slice()).to_string())
    }

    /// Returns how many sessions and cookies this keyring and its clones have sealed, all under the current key. Add up the
    /// numbers of all processes and of their earlier runs to compare them with the bound of a key, 2^32.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::Keyring;
    /// let keyring = Keyring::generate();
    /// let of_the_shop = keyring.clone(); // for `Sessions::builder`
    /// assert_eq!(keyring.seals(), 0);
    /// # drop(of_the_shop);
    /// ```
    pub fn seals(&self) -> u64 {
        self.current().seals()
    }

    /// A keyring of any key, such as one that a test has published.
    #[cfg(test)]
    pub(super) fn unchecked(master: &[u8]) -> Self {
        Self { keys: vec![Arc::new(Key::derive(master))], is_temporary: false }
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    pub(super) fn current(&self) -> &Key {
        &self.keys[0]
    }

    /// Returns the master keys' keys of CSRF tokens, the current one first.
    pub(super) fn csrf_keys(&self) -> impl Iterator<Item = &Zeroizing<[u8; 32]>> {
        self.keys.iter().map(|key| key.csrf())
    }

    /// Returns the master keys' keys of blind columns, the current one first.
    pub(super) fn blind_keys(&self) -> impl Iterator<Item = &BlindKey> {
        self.keys.iter().map(|key| key.blind())
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().map(|key| &**key).find(|key| key.id() == id)
    }

    pub(super) fn shares_key(&self, other: &Self) -> bool {
        self.keys.iter().any(|key| other.find(key.id()).is_some())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

/// A master key was refused. No variant shows any part of the key.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The environment variable is not set.
    #[error("the environment variable `{0}` is not set; make a key with `openssl rand -hex 32`")]
    Missing(String),
    /// The key in the environment variable is refused.
    #[error("the key in the environment variable `{0}` is refused")]
    Env(String, #[source] Box<KeyError>),
    /// The file could not be read.
    #[error("the key file `{}` could not be read: {kind}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// What the operating system says.
        kind: io::ErrorKind,
    },
    /// Another user can read the file.
    #[error(
        "other users can read the key file `{}`, its mode is {mode:04o}: `chmod 600 {}`; for a secret of Kubernetes \
         `defaultMode: 0400`, of Docker `mode: 0400` with the `uid` of the program",
        path.display(),
        path.display()
    )]
    Exposed {
        /// The path of the file.
        path: PathBuf,
        /// The permissions of the file.
        mode: u32,
    },
    /// The key in the file is refused.
    #[error("the key in the file `{}` is refused", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the key.
        source: Box<KeyError>,
    },
    /// There is no key in the text.
    #[error("there is no key; make one with `openssl rand -hex 32`")]
    Empty,
    /// The text has neither form of a key.
    #[error(
        "a key is written as 64 hexadecimal digits, or as base64 of at least {MIN_LEN} bytes; make one with `openssl rand \
         -hex 32`"
    )]
    Malformed,
    /// The key has too few bytes.
    #[error("the key has {0} bytes; at least {MIN_LEN} are needed: make one with `openssl rand -hex 32`")]
    Short(usize),
    /// The text is hexadecimal and has another number of digits.
    #[error("the key has {0} hexadecimal digits; it needs 64: make one with `openssl rand -hex 32`")]
    Hex(usize),
    /// The key has few different bytes, repeats itself or counts.
    #[error("the key repeats itself or counts; make one with `openssl rand -hex 32`")]
    Repetitive,
    /// The key is text.
    #[error("the key is text, not random bytes; make one with `openssl rand -hex 32`")]
    Passphrase,
    /// The key stands in a standard or a tutorial, or is the hash of a common word.
    #[error("the key was published, so everybody has it; make one with `openssl rand -hex 32`")]
    Published,
    /// The keyring has this key already.
    #[error("the same key is given twice")]
    Repeated,
}

readable_debug!(KeyError);

fn random_master() -> Zeroizing<[u8; MIN_LEN]> {
    let mut master = Zeroizing::new([0; MIN_LEN]);
    fill_random(master.as_mut_slice());
    master
}

/// Checks that no other user can read a file. The kubelet and systemd are root, and give a file to its reader by its group or
/// an access control list, which shows as the permissions of the group.
#[cfg(unix)]
fn check_mode(path: &Path, file: &std::fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::MetadataExt as _;
    const GROUP_READS: u32 = 0o040;
    let allowed = if file.uid() == 0 { GROUP_READS } else { 0 };
    let mode = file.mode() & 0o777;
    if mode & 0o077 & !allowed == 0 { Ok(()) } else { Err(KeyError::Exposed { path: path.to_owned(), mode }) }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    const DIGITS: usize = 2 * MIN_LEN;
    // A buffer that grows would leave copies behind.
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && text.len() != DIGITS {
        return Err(KeyError::Hex(text.len()));
    }
    let length = if is_hex {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0]).zip(digit(pair[1])).map_or(0, |(high, low)| high << 4 | low);
        }
        MIN_LEN
    } else {
        let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
        let decoded = engines.iter().find_map(|engine| engine.decode_slice(text, &mut bytes).ok());
        decoded.ok_or(KeyError::Malformed)?
    };
    bytes.truncate(length);
    check_length(&bytes)?;
    refuse(weak::of_text(text.trim_end_matches('=').as_bytes()))?;
    Ok(bytes)
}

fn derive(master: &[u8]) -> Result<Key, KeyError> {
    check_length(master)?;
    refuse(weak::of_bytes(master))?;
    Ok(Key::derive(master))
}

fn check_length(master: &[u8]) -> Result<(), KeyError> {
    if master.len() < MIN_LEN { Err(KeyError::Short(master.len())) } else { Ok(()) }
}

fn refuse(weakness: Option<Weakness>) -> Result<(), KeyError> {
    Err(match weakness {
        None => return Ok(()),
        Some(Weakness::Text) => KeyError::Passphrase,
        Some(Weakness::Regular) => KeyError::Repetitive,
        Some(Weakness::Published) => KeyError::Published,
    })
}

#[cfg(test)]
mod tests {
    use super::super::aead::{NONCE_LEN, Purpose};
    use super::*;

    fn bytes_refusal(master: &[u8]) -> Option<KeyError> {
        Keyring::new(master).err()
    }

    fn text_refusal(text: &str) -> Option<KeyError> {
        Keyring::parse(text).err()
    }

    #[test]
    fn generated_keys_are_accepted() {
        let text = Keyring::generate_text();
        assert!(Keyring::parse(&text).is_ok());
        assert_ne!(Keyring::generate().current().id(), Keyring::generate().current().id());
    }

    #[test]
    fn clones_count_their_seals_together_and_older_keys_seal_nothing() {
        let random = || random_master().to_vec();
        let keyring = Keyring::new(random()).and_then(|keyring| keyring.with_older(random())).expect("good");
        let clone = keyring.clone();
        let seal = |keyring: &Keyring| keyring.current().encrypt(Purpose::Row, [0; NONCE_LEN], b"", &mut [0]);
        seal(&keyring);
        seal(&clone);
        assert_eq!((keyring.seals(), clone.seals()), (2, 2));
        assert_eq!(keyring.keys[1].seals(), 0);
    }

    #[test]
    fn both_forms_of_a_key_are_one_key() {
        let hex = Keyring::generate_text();
        let bytes = decode(&hex).expect("hex");
        for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
            assert_eq!(decode(&engine.encode(&bytes)).as_ref(), Ok(&bytes));
        }
    }

    /// ASVS 5.0 §11.5.1. The calculation of how many random keys are refused is in `weak.rs`.
    #[test]
    fn random_keys_pass_as_bytes_and_in_each_form_of_text() {
        let count: usize = env::var("DATABAG_KEYS").map_or(2_000, |count| count.parse().expect("a number"));
        for _ in 0..count {
            let mut master = [0; MIN_LEN];
            getrandom::fill(&mut master).expect("random numbers");
            let hex = Hex(&master).to_string();
            let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
            let texts = engines.map(|engine| engine.encode(master)).into_iter();
            for text in texts.chain([hex.to_uppercase(), hex]) {
                assert_eq!(decode(&text).as_deref(), Ok(&master.to_vec()), "a key of a test: {text}");
            }
            assert_eq!(weak::of_bytes(&master), None, "a key of a test: {master:?}");
        }
    }

    #[test]
    fn weak_bytes_are_refused() {
        use KeyError::{Passphrase, Repetitive, Short};
        assert_eq!(bytes_refusal(&[1; 31]), Some(Short(31)));
        let random = decode(&Keyring::generate_text()).expect("hex");
        for text in [
            "correct horse battery staple, twice over",
            "correct-horse-battery-staple-twice-over",
            "correcthorsebatterystaplecorrecthorse",
            "changemechangemechangemechangemechangeme",
            "your-256-bit-secret-your-256-bit-secret",
            "django-insecure-k2v!x8@q0z$1m&3n^p7*r5(t9)w4_y6",
            "keyboard cat keyboard cat keyboard cat",
            "12345678901234567890123456789012",
            "qwertyuiopasdfghjklzxcvbnm1234567890",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "base64:u7Zf0f3n1m9Xw6k1sVqvY2b4JtT8c5dG0hQpLrEaXyI=",
            "secret\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "pass phrase in a file that ends with a line\n",
            "\u{43F}\u{440}\u{430}\u{432}\u{438}\u{43B}\u{44C}\u{43D}\u{430}\u{44F} \u{43B}\u{43E}\u{448}\u{430}\u{434}\u{44C} \u{431}\u{430}\u{442}\u{430}\u{440}\u{435}\u{44F}",
        ] {
            assert_eq!(bytes_refusal(text.as_bytes()), Some(Passphrase), "{text}");
            let base64 = STANDARD.encode(text);
            assert!(text_refusal(&base64).is_some(), "{base64}");
        }
        for length in [32, 33, 48, 64] {
            for period in 1..=length / 2 {
                let key: Vec<u8> = (0..length).map(|place| random[place % period]).collect();
                assert!(bytes_refusal(&key).is_some(), "{period} of {length}");
            }
            for step in 0_u8..=255 {
                let count =
                    |start: u8| std::iter::successors(Some(start), move |byte| Some(byte.wrapping_add(step)));
                for start in [0, 1, 100, 0xF0] {
                    let key: Vec<u8> = count(start).take(length).collect();
                    let refusal = bytes_refusal(&key);
                    assert!(refusal.is_some(), "{length} bytes from {start} by {step}");
                    assert!(text_refusal(&STANDARD.encode(&key)).is_some());
                    assert!(length != 32 || text_refusal(&Hex(&key).to_string()).is_some());
                }
            }
            for place in 0..length {
                let mut key = vec![0; length];
                key[place] = 0x80;
                assert_eq!(bytes_refusal(&key), Some(Repetitive), "all zero but byte {place}");
            }
        }
        let words =
            |bytes: fn(u32) -> [u8; 4]| (0..8).flat_map(move |n: u32| bytes(0x0DEF_ACED + n * 0x1020_3041));
        assert_eq!(bytes_refusal(&words(u32::to_be_bytes).collect::<Vec<_>>()), Some(Repetitive));
        assert_eq!(bytes_refusal(&words(u32::to_le_bytes).collect::<Vec<_>>()), Some(Repetitive));
        let mut half = random.to_vec();
        half[16..].fill(0);
        assert_eq!(bytes_refusal(&half), Some(Repetitive), "half of it zero");
    }

    #[test]
    fn weak_text_is_refused() {
        use KeyError::{Passphrase, Published, Repetitive};
        for digits in [2, 16, 32, 48, 62, 63, 65, 66, 96, 128] {
            let text: String = Hex(&[0xA7, 0x3C, 0x51].repeat(50)).to_string().chars().take(digits).collect();
            assert_eq!(text_refusal(&text), Some(KeyError::Hex(digits)));
        }
        for text in [
            "correcthorsebatterystaplecorrecthorsebatter",
            "CorrectHorseBatteryStapleCorrectHorseBatter",
            "correct-horse-battery-staple-twice-over-now",
            "Correct_Horse_Battery_Staple_Example_Secret",
            "thisisaverylongsecretthatnobodycanguessever",
            "ThisIsAVeryLongSecretThatNobodyCanGuessEver",
            "pleaseChangeThisSecretKeyBeforeProductionOk",
            "change-me-change-me-change-me-change-me-cha",
            "super-secret-jwt-token-with-at-least-32-characters-long",
            "MySuperSecretSessionKeyForTheShopAtExample1",
            "themagicwordsaresqueamishossifrageandmore12",
            "THEMAGICWORDSARESQUEAMISHOSSIFRAGEANDMOREOK",
            "insert/your/secret/key/here/insert/your/sec",
            "actixsessionsecretkeyactixsessionsecretkey0",
            "qwertyuiopasdfghjklzxcvbnmqwertyuiopasdfghj",
            "1234567890qwertyuiopasdfghjklzxcvbnm1234567",
            "QWERTYUIOPASDFGHJKLZXCVBNMqwertyuiopasdfghj",
            "zzzzzzzzzzyyyyyyyyyyxxxxxxxxxxwwwwwwwwwwvvv",
            "mkjhgpoiuytrewqlkjhgfdsamnbvcxzpoiuytrewqlk",
        ] {
            // The last character of base64 has only some values. It is not looked at.
            let text = format!("{}A", &text[..text.len() - 1]);
            let refusal = text_refusal(&text);
            assert!(matches!(refusal, Some(Passphrase | Repetitive)), "{text}: {refusal:?}");
        }
        for text in [
            "0123456789abcdef".repeat(4),
            "0123456789abcdeffedcba98765432100123456789abcdeffedcba9876543210".to_owned(),
            "deadbeef".repeat(8),
            "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100".to_owned(),
            "f".repeat(64),
            "8452716093847561029384756102938475610293847561029384756102938475".to_owned(),
            format!("{:064x}", 1),
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".to_owned(),
            format!("{}A", "Z".repeat(42)),
            "feffe9928665731c6d6a8f9467308308".repeat(2),
        ] {
            assert_eq!(text_refusal(&text), Some(Repetitive), "{text}");
        }
        for text in [
            "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
            "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
            "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        ] {
            assert_eq!(text_refusal(text), Some(Published), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let refuse = |text: &str| text_refusal(text).expect("refused");
        assert_eq!(refuse(" "), KeyError::Empty);
        assert_eq!(refuse("secret!"), KeyError::Malformed);
        assert_eq!(refuse("c2hvcnQ="), KeyError::Short(5));
        let key = Keyring::generate_text();
        assert_eq!(refuse(&format!("{0},{0}", *key)), KeyError::Repeated);
    }

    #[test]
    fn a_variable_that_is_set_is_not_said_to_be_missing() {
        let refusal = |value| Keyring::from_variable("KEY", value).err();
        let missing = KeyError::Missing("KEY".to_owned());
        let refused = |error| Some(KeyError::Env("KEY".to_owned(), Box::new(error)));
        assert_eq!(refusal(Err(VarError::NotPresent)), Some(missing));
        assert_eq!(refusal(Err(VarError::NotUnicode("not UTF-8".into()))), refused(KeyError::Malformed));
        assert_eq!(refusal(Ok(String::new())), refused(KeyError::Empty));
        assert_eq!(refusal(Ok(Keyring::generate_text().to_string())), None);
    }

    #[test]
    fn debug_shows_no_key() {
        let text = Keyring::generate_text();
        let shown = format!("{:?}", Keyring::parse(&text).expect("good"));
        assert_eq!(shown, "Keyring(1 keys)");
    }

    #[cfg(unix)]
    mod files {
        use std::fs::{self, Permissions};
        use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

        use super::*;

        struct Secret {
            folder: tempfile::TempDir,
            path: PathBuf,
        }

        impl Secret {
            fn new(text: &str, mode: u32) -> Self {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("session.key");
                fs::write(&path, text).expect("written");
                fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its owner may");
                Self { folder, path }
            }

            fn error(&self) -> String {
                let error = Keyring::from_file(&self.path).expect_err("refused");
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                let text = format!("{error}: {cause} {error:?}");
                assert!(text.contains(&*self.path.to_string_lossy()), "it names the path: {text}");
                text
            }
        }

        #[test]
        fn a_file_has_a_key_a_line_and_the_current_one_first() {
            let [new, old] = [(); 2].map(|()| Keyring::generate_text());
            let id = |text: &str| Keyring::parse(text).expect("good").current().id();
            for text in [format!("{}\n{}\n", *new, *old), format!("{}\r\n{}", *new, *old)] {
                let secret = Secret::new(&text, 0o600);
                let keyring = Keyring::from_file(&secret.path).expect("good");
                assert_eq!(keyring.current().id(), id(&new));
                assert!(keyring.find(id(&old)).is_some());
            }
        }

        /// The kubelet mounts a link to a folder that it replaces: `session.key -> ..data/session.key`.
        #[test]
        fn the_links_of_kubernetes_are_followed() {
            let secret = Secret::new(&Keyring::generate_text(), 0o400);
            let folder = secret.folder.path();
            fs::create_dir(folder.join("..2026_11_26")).expect("a folder");
            fs::rename(&secret.path, folder.join("..2026_11_26/session.key")).expect("moved");
            symlink("..2026_11_26", folder.join("..data")).expect("a link");
            symlink("..data/session.key", &secret.path).expect("a link");
            assert!(Keyring::from_file(&secret.path).is_ok());
        }

        #[test]
        fn a_file_that_others_can_read_is_refused_with_what_to_write() {
            let key = Keyring::generate_text();
            for mode in [0o604, 0o644, 0o444, 0o620, 0o601, 0o660] {
                let error = Secret::new(&key, mode).error();
                for remedy in ["chmod 600 ", "`defaultMode: 0400`", "`mode: 0400`", &format!("{mode:04o}")] {
                    assert!(error.contains(remedy), "{mode:o}: {error}");
                }
                assert!(!error.contains(&**key), "{mode:o}");
            }
        }

        /// So a secret of Kubernetes with `fsGroup` looks, and a credential of systemd.
        #[test]
        fn the_group_may_read_a_file_of_root_alone() {
            let secret = Secret::new(&Keyring::generate_text(), 0o440);
            // Only root can give a file away, and as root the file is root's first.
            let is_root = chown(&secret.path, Some(0), None).is_ok();
            assert_eq!(Keyring::from_file(&secret.path).is_ok(), is_root);
            if is_root {
                chown(&secret.path, Some(65_534), None).expect("root may");
                assert!(secret.error().contains("0440"));
            }
        }

        #[test]
        fn what_is_wrong_with_a_file_is_said_without_its_content() {
            let secret = Secret::new("hunter2hunter2", 0o600);
            assert!(!secret.error().contains("hunter2"));
            assert!(Secret::new("", 0o600).error().contains("there is no key"));
            fs::write(&secret.path, [0xFF; 64]).expect("written");
            assert!(secret.error().contains("could not be read"));
            fs::remove_file(&secret.path).expect("removed");
            assert!(secret.error().contains("not found"));
            fs::create_dir(&secret.path).expect("a folder");
            fs::set_permissions(&secret.path, Permissions::from_mode(0o700)).expect("its owner may");
            assert!(secret.error().contains("directory"));
        }
    }
}
