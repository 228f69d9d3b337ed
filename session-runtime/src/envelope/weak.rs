//! Which master keys are refused, because they were not drawn at random or are known.
//!
//! Of random keys these rules together refuse fewer than one in 2^40. For 32 bytes, where each is most likely to be wrong:
//!
//! ```text
//! printable ASCII and NUL           (100/256)^32                                  2^-43.4
//! UTF-8 without controls, 40 bytes  1.107 bits a byte (root of the counts)        2^-44.3
//! at most 16 different bytes                                                      2^-48.7
//! a period, equal steps             16 or more bytes, or 8 of a run, are fixed    2^-59
//! 64 digits without a letter        (10/16)^64                                    2^-43.4
//! base64 letters of one case        2 * (28/64)^42                                2^-49.1
//! neighbours on the keyboard        binomial: 60 % of 42 pairs of 5/64 each       2^-58
//! words                             Markov's inequality, see `reads_as_words`     2^-44
//! ```

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weakness {
    /// It is text that a person has written.
    Text,
    /// It repeats or counts.
    Regular,
    /// It stands in a standard or a tutorial.
    Published,
}

/// Finds what is wrong with the bytes of a key.
pub(super) fn of_bytes(key: &[u8]) -> Option<Weakness> {
    if is_published(key) {
        Some(Weakness::Published)
    } else if is_text(key) {
        Some(Weakness::Text)
    } else if has_few_bytes(key) || is_regular(key, 256) || counts_in_words(key) {
        Some(Weakness::Regular)
    } else {
        None
    }
}

/// Finds what is wrong with a key as it is written: 64 hexadecimal digits, or base64 without padding.
pub(super) fn of_text(text: &[u8]) -> Option<Weakness> {
    if text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit) {
        let digits = symbols(text, |digit| symbol(digit.to_ascii_lowercase(), HEX));
        let is_decimal = text.iter().all(u8::is_ascii_digit);
        return (is_decimal || is_regular(&digits, 16)).then_some(Weakness::Regular);
    }
    let standard = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    };
    let symbols = symbols(text, |byte| symbol(standard(byte), BASE64));
    if is_regular(&symbols, 64) {
        return Some(Weakness::Regular);
    }
    // The last character holds the bits that are left, so it is not one of 64.
    let text = text.split_last().map_or(text, |(_, text)| text);
    let has_no = |of: fn(&u8) -> bool| !text.iter().any(of);
    let is_of_one_case =
        has_no(u8::is_ascii_digit) && (has_no(u8::is_ascii_lowercase) || has_no(u8::is_ascii_uppercase));
    (is_of_one_case || follows_the_keyboard(text) || reads_as_words(text)).then_some(Weakness::Text)
}

const HEX: &[u8] = b"0123456789abcdef";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns the values of characters, in memory that is wiped.
fn symbols(text: &[u8], symbol: impl Fn(u8) -> Option<u8>) -> Zeroizing<Vec<u8>> {
    let mut symbols = Zeroizing::new(Vec::with_capacity(text.len()));
    symbols.extend(text.iter().filter_map(|byte| symbol(*byte)));
    symbols
}

fn symbol(byte: u8, alphabet: &[u8]) -> Option<u8> {
    alphabet.iter().position(|other| *other == byte).and_then(|place| u8::try_from(place).ok())
}

/// Returns whether these are characters, maybe filled up with zeros.
fn is_text(key: &[u8]) -> bool {
    let is_ascii = key.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace() || *byte == 0);
    let is_utf8 = || std::str::from_utf8(key).is_ok_and(|text| !text.contains(char::is_control));
    is_ascii || (key.len() >= 40 && is_utf8())
}

/// Returns whether a key has fewer different bytes than 32 random ones ever have.
fn has_few_bytes(key: &[u8]) -> bool {
    const MOST: usize = 16;
    let mut is_present = [false; 256];
    for byte in key {
        is_present[usize::from(*byte)] = true;
    }
    is_present.iter().filter(|present| **present).count() <= MOST
}

/// Returns whether symbols repeat with a period of up to half their number, or a third of them is one run of equal steps.
fn is_regular(symbols: &[u8], modulus: u16) -> bool {
    let has_period =
        |period: &usize| symbols.iter().zip(&symbols[*period..]).all(|(one, other)| one == other);
    let step = |pair: &[u8]| (u16::from(pair[1]) + modulus - u16::from(pair[0])) % modulus;
    let steps = Zeroizing::new(symbols.windows(2).map(step).collect::<Vec<u16>>());
    let longest_run = 1 + steps.chunk_by(|one, other| one == other).map(<[_]>::len).max().unwrap_or_default();
    (1..=symbols.len() / 2).any(|period| has_period(&period)) || longest_run >= symbols.len().div_ceil(3)
}

/// Returns whether the integers of 16, 32 or 64 bits in a key, in either order of their bytes, have equal steps.
fn counts_in_words(key: &[u8]) -> bool {
    let counts = |width: usize, is_little: bool| {
        let word = |bytes: &[u8]| {
            let add = |word: u64, byte: &u8| (word << 8) | u64::from(*byte);
            if is_little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
        };
        let words = || key.chunks_exact(width).map(word);
        let mask = u64::MAX >> (64 - 8 * width);
        let mut steps = words().zip(words().skip(1)).map(|(one, other)| other.wrapping_sub(one) & mask);
        steps.next().is_some_and(|first| steps.all(|step| step == first))
    };
    [2, 4, 8].into_iter().any(|width| counts(width, false) || counts(width, true))
}

/// Returns whether six of ten characters are the same as the one before them, or beside it in a row of the keyboard or
/// in the alphabet.
fn follows_the_keyboard(text: &[u8]) -> bool {
    const ROWS: [&[u8]; 5] =
        [b"abcdefghijklmnopqrstuvwxyz", b"1234567890", b"qwertyuiop", b"asdfghjkl", b"zxcvbnm"];
    let are_neighbours = |pair: &[u8]| {
        let [one, other] = [pair[0], pair[1]].map(|byte| byte.to_ascii_lowercase());
        let is_beside = |row: &[u8]| row.windows(2).any(|two| two == [one, other] || two == [other, one]);
        pair[0] == pair[1]
            || (pair[0].is_ascii_uppercase() == pair[1].is_ascii_uppercase()
                && ROWS.iter().any(|row| is_beside(row)))
    };
    let neighbours = text.windows(2).filter(|pair| are_neighbours(pair)).count();
    neighbours * 10 >= (text.len().saturating_sub(1)) * 6
}

/// Returns whether base64 characters spell English words, in any spelling such as `CorrectHorse` or `correct-horse`.
///
/// A model of such text gives each character a probability, and these add up to one after each character. So of random
/// characters at most one in 2^`BITS` are 2^`BITS` times more probable as text than by chance: Markov's inequality, for the
/// ratio of the two probabilities has the mean one.
fn reads_as_words(text: &[u8]) -> bool {
    const BITS: f64 = 44.0;
    const BY_CHANCE: f64 = 1.0 / 64.0;
    let mut before = b'-';
    let mut bits = 0.0;
    for &byte in text {
        bits += (probability(before, byte) / BY_CHANCE).log2();
        before = byte;
    }
    bits >= BITS
}

/// The letters that follow each letter in English words, the most frequent first.
const FOLLOWERS: [&[u8]; 26] = [
    b"ntlrscdmbgpvyiu",     // a
    b"leoaruiysbtj",        // b
    b"eohaktrilcuy",        // c
    b"eiaosurdyvlmnw",      // d
    b"rsndatlecmvxpfwyi",   // e
    b"oirefautl",           // f
    b"ehraoiulsnt",         // g
    b"eaioturyn",           // h
    b"nstcoledmagvrfkpbz",  // i
    b"uoaei",               // j
    b"eisnalyo",            // k
    b"eiaoydsutlfvkmp",     // l
    b"eaiopmsubyn",         // m
    b"dgtesoicaknuyfl",     // n
    b"nrumtwflsopdvkcabie", // o
    b"eraoliptuhsy",        // p
    b"u",                   // q
    b"eoiastydmnrucklgv",   // r
    b"tesihoaupcwmkly",     // s
    b"heoiarstuylwc",       // t
    b"rsntlpcbmgeadi",      // u
    b"eiaoyu",              // v
    b"aoiehnrsl",           // w
    b"ptcaei",              // x
    b"oseitlmapbn",         // y
    b"eaioyz",              // z
];

/// The letters that begin English words, the most frequent first.
const INITIALS: &[u8] = b"scpadrmbtfeihwlgnouvkjyqzx";

/// Returns the probability of a character after another one in text of words.
fn probability(before: u8, byte: u8) -> f64 {
    // By the class of the character before and of this one: lower case, upper case, digit, or one of the other two.
    const NEXT: [[f64; 4]; 4] = [
        [0.84, 0.10, 0.02, 0.04],
        [0.80, 0.16, 0.02, 0.02],
        [0.20, 0.16, 0.60, 0.04],
        [0.74, 0.20, 0.04, 0.02],
    ];
    let class = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let (class_before, class) = (class(before), class(byte));
    let letter = byte.to_ascii_lowercase();
    let within = match (class_before, class) {
        (_, 2) => 0.1,
        (_, 3) => 0.5,
        (0, 0) | (1, 0 | 1) => {
            letter_probability(letter, FOLLOWERS[usize::from(before.to_ascii_lowercase() - b'a')], 0.85)
        }
        _ => letter_probability(letter, INITIALS, 0.92),
    };
    NEXT[class_before][class] * within
}

/// Returns the probability of a letter: each of `frequent` has that of the one before it times `ratio`, and the others share
/// a twentieth.
fn letter_probability(letter: u8, frequent: &[u8], ratio: f64) -> f64 {
    const OTHERS: f64 = 0.05;
    match frequent.iter().position(|other| *other == letter) {
        Some(rank) => {
            let all: f64 = powers(ratio).take(frequent.len()).sum();
            (1.0 - OTHERS) * powers(ratio).nth(rank).unwrap_or_default() / all
        }
        None => OTHERS / f64::from(26 - u8::try_from(frequent.len()).unwrap_or_default()),
    }
}

fn powers(ratio: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(1.0), move |power| Some(power * ratio))
}

fn is_written(text: &str, key: &[u8]) -> bool {
    let digits = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.bytes().map(|digit| symbol(digit, HEX)).eq(digits.map(Some))
}

/// Returns whether a key was published, so that everybody has it.
fn is_published(key: &[u8]) -> bool {
    const KEYS: [&str; 6] = [
        // The tutorials of FastAPI and of Flask.
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
        // The specification of Fernet.
        "730ff4c7af3d46923e8ed451ee813c87f790b0a226bc96a92de49b5e9c05e1ee",
        // RFC 7515 §A.1.
        "0323354b2b0fa5bc837e0665777ba68f5ab328e6f054c928a90f84b2d2502ebf\
         d3fb5a92d20647ef968ab4c377623d223d2e2172052e4f08c0cd9af567d080a3",
        // NIST SP 800-38A §F.1.5.
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        // RFC 8439 §A.5.
        "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
    ];
    /// What a key is often made of, by SHA-256.
    const WORDS: [&str; 10] =
        ["", "secret", "password", "changeme", "test", "hello", "hello world", "key", "admin", "123456"];
    let is_hash_of = |word: &&str| Sha256::digest(word).as_slice() == key;
    KEYS.iter().any(|known| is_written(known, key)) || WORDS.iter().any(is_hash_of)
}
