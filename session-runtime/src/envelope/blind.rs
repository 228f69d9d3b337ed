//! Hashes that stand for the values of blind columns: equal values of one column have equal hashes, and only who has the key
//! finds the hash of a value.
//!
//! ```text
//! hash     the first 16 bytes of HMAC-SHA256 of label, bag name, table, column and value, each after its length
//! value    type (1): 1 integer, 2 real, 3 text, 4 bytes | integer (8), bits of the real (8), text or bytes
//! ```
//!
//! A column of a blind field holds bytes, or hexadecimal digits if the field has bytes: never the type of its values. So a store that knows
//! the types of its columns refuses a column that becomes blind, or is blind no more.
//!
//! Integers and lengths (4 bytes) are big-endian; one byte 0x01 ends the message. Of 2^32 values two have the same 16 bytes
//! with a probability of 2^-65, and an index of them is half as large as one of 32.

use std::fmt;

use zeroize::Zeroizing;

use super::csrf::mac;
use crate::token::Hex;
use crate::value::{ColumnType, Value};

const LABEL: &[u8] = b"databag blind column v1";
pub(crate) const HASH_LEN: usize = 16;

/// Returns the type of a column with hashes of values of a type.
pub(crate) fn hash_type(ty: ColumnType) -> ColumnType {
    if ty == ColumnType::Blob { ColumnType::Text } else { ColumnType::Blob }
}

/// The key of hashes that is derived from one master key.
pub(crate) struct BlindKey(Zeroizing<[u8; 32]>);

/// Where a hash stands. The same value has another hash elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlindColumn<'a> {
    pub(crate) bag: &'a str,
    pub(crate) table: &'a str,
    pub(crate) name: &'a str,
}

impl BlindKey {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// Returns what a blind column holds of a value.
    pub(crate) fn hash(&self, column: BlindColumn<'_>, value: &Value) -> Value {
        let mut bytes = Zeroizing::new(Vec::new());
        let (ty, content): (u8, &[u8]) = match value {
            Value::Integer(integer) => (1, &integer.to_be_bytes()),
            // Zero has a sign, and both are equal.
            Value::Real(real) => (2, &(real + 0.0).to_bits().to_be_bytes()),
            Value::Text(text) => (3, text.as_bytes()),
            Value::Blob(blob) => (4, blob),
        };
        bytes.reserve_exact(1 + content.len());
        bytes.push(ty);
        bytes.extend_from_slice(content);
        let parts = [LABEL, column.bag.as_bytes(), column.table.as_bytes(), column.name.as_bytes(), &bytes];
        // No value of a session is as long as 4 GiB.
        let lengths = parts.map(|part| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        let message: Vec<&[u8]> =
            lengths.iter().zip(parts).flat_map(|(length, part)| [length.as_slice(), part]).collect();
        let hash = &mac(&self.0, &message)[..HASH_LEN];
        match value {
            // A column of bytes that becomes blind, or is blind no more, has another type.
            Value::Blob(_) => Value::Text(Hex(hash).to_string()),
            _ => Value::Blob(hash.to_vec()),
        }
    }
}

impl fmt::Debug for BlindKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlindKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::keys::Keyring;
    use super::*;

    const EMAIL: BlindColumn<'_> = BlindColumn { bag: "shop/Shop", table: "sessions", name: "email" };

    fn hash(master: u8, column: BlindColumn<'_>, value: &Value) -> String {
        let keyring = Keyring::unchecked(&[master; 32]);
        let key = keyring.blind_keys().next().expect("the current one");
        match key.hash(column, value) {
            Value::Blob(hash) => Hex(&hash).to_string(),
            Value::Text(hash) => hash,
            _ => unreachable!("a hash is bytes or text"),
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// Computed by another implementation of HKDF and HMAC: Python's `hmac`.
    #[test]
    fn the_hashes_are_pinned() {
        for (value, known) in [
            (text("dana@example.com"), "c5151ebfad1cf8d61751af79717d6278"),
            (Value::Integer(-7), "368aafb9a2f57ec245b960863f25f9de"),
            (Value::Real(0.5), "3ded13dc483537a0bcc02f9aafe7a9fa"),
            (Value::Blob(vec![0, 255]), "6b4837fed3af0d65bb85934a29d8571b"),
        ] {
            assert_eq!(hash(7, EMAIL, &value), known, "{value:?}");
        }
    }

    #[test]
    fn a_value_has_another_hash_in_another_place_of_another_type_and_under_another_key() {
        let seven = i64::from_be_bytes(*b"\0\0\0\0\0\0\x007");
        let mut hashes = HashSet::new();
        for column in [
            EMAIL,
            BlindColumn { name: "phone", ..EMAIL },
            BlindColumn { table: "others", ..EMAIL },
            BlindColumn { bag: "admin/Shop", ..EMAIL },
            // The parts do not run into each other.
            BlindColumn { bag: "shop/Shops", table: "essions", ..EMAIL },
            BlindColumn { table: "sessionse", name: "mail", ..EMAIL },
        ] {
            for value in [
                Value::Integer(seven),
                Value::Real(f64::from_bits(seven.cast_unsigned())),
                text("\0\0\0\0\0\0\x007"),
                Value::Blob(b"\0\0\0\0\0\0\x007".to_vec()),
                text(""),
                Value::Blob(Vec::new()),
            ] {
                for master in [1, 2] {
                    assert!(hashes.insert(hash(master, column, &value)), "{column:?} {value:?}");
                }
            }
        }
    }

    #[test]
    fn a_hash_has_another_type_than_its_value() {
        let keyring = Keyring::generate();
        let key = keyring.blind_keys().next().expect("the current one");
        for (ty, value) in [
            (ColumnType::Integer, Value::Integer(7)),
            (ColumnType::Real, Value::Real(0.5)),
            (ColumnType::Text, text("dana")),
            (ColumnType::Blob, Value::Blob(vec![7])),
        ] {
            assert!(ty.holds(&value) && hash_type(ty).holds(&key.hash(EMAIL, &value)));
            assert_ne!(hash_type(ty), ty);
        }
    }

    #[test]
    fn equal_values_have_one_hash() {
        assert_eq!(hash(1, EMAIL, &Value::Real(0.0)), hash(1, EMAIL, &Value::Real(-0.0)));
        assert_eq!(hash(1, EMAIL, &text("dana")), hash(1, EMAIL, &text("dana")));
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", BlindKey(Zeroizing::new([7; 32]))), "BlindKey(..)");
    }
}
