//! Whether a column has the value of its field, as far as that can be said without the type of the field: the encoded fields
//! and the value of the column enter, a [`Match`] leaves.

use super::candidates::candidates;
use crate::bag::record::{OutlinedField, tag};
use crate::envelope::{HASH_LEN, hash_type};
use crate::value::{ColumnType, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Same,
    Different,
    /// Only the application knows the type of the field.
    Unknown,
}

/// What a column is for, as far as the table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnUse {
    User,
    Address,
    Other,
}

/// A column of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredColumn<'a> {
    pub(super) used_for: ColumnUse,
    pub(super) name: &'a str,
    pub(super) ty: ColumnType,
    pub(super) value: Option<&'a Value>,
}

impl StoredColumn<'_> {
    /// Compares it with the fields of its record that it can belong to. `named` has the tags of all names of columns.
    ///
    /// Most columns have the name of their field. A column of the user or of the address may belong to any of the fields that
    /// are left; another column, and an empty one of the address, may be none of the bag's.
    pub(super) fn compare(
        self,
        fields: &[OutlinedField],
        named: &[u32],
        hash: impl Fn(&Value) -> Option<Value>,
    ) -> Match {
        let compared = |field: &OutlinedField| self.compare_with(field, &hash);
        let projected = || fields.iter().filter(|field| field.projected);
        match fields.iter().find(|field| field.tag == tag(self.name)) {
            Some(field) if field.projected => match compared(field) {
                // The field of that name may have another column; those of roles are seldom named so.
                Match::Different if self.value.is_some() || self.used_for == ColumnUse::Other => {
                    let is_of_another = projected().any(|field| compared(field) == Match::Same);
                    if is_of_another { Match::Unknown } else { Match::Different }
                }
                found => found,
            },
            // It had no column when the record was written.
            Some(_) => Match::Same,
            None => {
                let left = projected().filter(|field| !named.contains(&field.tag));
                let found: Vec<_> = left.map(compared).collect();
                let must_be_there = match self.used_for {
                    ColumnUse::User => true,
                    ColumnUse::Address => self.value.is_some(),
                    ColumnUse::Other => false,
                };
                if found.is_empty() || found.contains(&Match::Same) {
                    Match::Same
                } else if must_be_there && !found.contains(&Match::Unknown) {
                    Match::Different
                } else {
                    Match::Unknown
                }
            }
        }
    }

    fn compare_with(self, field: &OutlinedField, hash: impl Fn(&Value) -> Option<Value>) -> Match {
        // The field of a role is an `Option`, and this is `None`.
        if self.value.is_some() && self.used_for != ColumnUse::Other && field.value == [0] {
            return Match::Different;
        }
        compare(&field.value, self.ty, self.value, hash)
    }
}

/// Compares the value of a column with an encoded field. `hash` makes the hash that a blind column has of a value.
fn compare(
    encoded: &[u8],
    ty: ColumnType,
    stored: Option<&Value>,
    hash: impl Fn(&Value) -> Option<Value>,
) -> Match {
    let Some(stored) = stored else {
        // `None` of bincode and of JSON.
        return if matches!(encoded, [0] | b"null") { Match::Same } else { Match::Different };
    };
    let values = candidates(encoded);
    let is_stored = |value: &Value| value == stored || hash(value).as_ref() == Some(stored);
    if values.iter().chain(&arrays(encoded)).any(is_stored) {
        return Match::Same;
    }
    if encoded == b"null" {
        return Match::Different;
    }
    let is_hash = is_like_a_hash(stored);
    let has_type =
        |value: &Value| value.column_type() == ty || is_hash && hash_type(value.column_type()) == ty;
    // An enum has a text of its own, and in bincode the number of its variant.
    let is_enum = ty != ColumnType::Integer && encoded.len() <= 2;
    if is_enum || !values.iter().any(has_type) || values.iter().any(|value| is_alike(value, stored)) {
        return Match::Unknown;
    }
    Match::Different
}

/// Returns whether a value may be the hash of a blind column: 16 bytes, or their digits where the value is bytes itself.
pub(super) fn is_like_a_hash(value: &Value) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    match value {
        Value::Blob(bytes) => bytes.len() == HASH_LEN,
        Value::Text(text) => text.len() == 2 * HASH_LEN && text.bytes().all(is_digit),
        Value::Integer(_) | Value::Real(_) => false,
    }
}

/// Returns an encoded value as an array of bytes, in an `Option` or not: an array has no length before it.
fn arrays(encoded: &[u8]) -> Vec<Value> {
    [Some(encoded), encoded.strip_prefix(&[1])]
        .into_iter()
        .flatten()
        .map(|b| Value::Blob(b.to_vec()))
        .collect()
}

/// Returns whether two texts have the same letters: the variant of an enum may be written in another case.
fn is_alike(one: &Value, other: &Value) -> bool {
    let (Value::Text(one), Value::Text(other)) = (one, other) else { return false };
    let letters = |text: &str| {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    letters(one) == letters(other)
}

#[cfg(all(test, feature = "bincode"))]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::codec::bincode::Bincode;
    use crate::codec::{Codec, Json};
    use crate::value::ColumnValue;

    /// Compares a value with the column of another one, in each codec.
    fn matches<T, U>(value: Option<&T>, column: Option<&U>) -> [Match; 2]
    where
        T: serde::Serialize,
        U: ColumnValue,
    {
        let (mut binary, mut json) = (Vec::new(), Vec::new());
        Bincode::encode(&value, &mut binary).expect("it encodes");
        Json::encode(&value, &mut json).expect("it encodes");
        let stored = column.map(ColumnValue::to_value);
        [binary, json].map(|encoded| compare(&encoded, U::TYPE, stored.as_ref(), |_| None))
    }

    fn check<T: ColumnValue + serde::Serialize>(value: &T, other: &T) {
        assert_eq!(matches(Some(value), Some(value)), [Match::Same; 2]);
        assert_eq!(matches(None::<&T>, None::<&T>), [Match::Same; 2]);
        assert_eq!(matches(Some(value), Some(other)), [Match::Different; 2]);
        assert_eq!(matches(Some(value), None::<&T>), [Match::Different; 2]);
        assert_eq!(matches(None::<&T>, Some(value))[1], Match::Different);
    }

    #[test]
    fn a_column_is_compared_with_a_field_of_a_usual_type() {
        check(&8_i64, &1);
        check(&-70_000_i32, &70_000);
        check(&u64::MAX, &1);
        check(&0.1_f64, &0.2);
        check(&0.1_f32, &0.2);
        check(&"acme".to_owned(), &"initech".to_owned());
        check(&IpAddr::from([203, 0, 113, 7]), &IpAddr::from([203, 0, 113, 8]));
        check(&vec![0_u8, 255, 7], &vec![1]);
        check(&[7_u8; 16], &[8; 16]);
        assert_eq!(matches(Some(&[7_u8; 4]), Some(&[7_u8; 4]))[0], Match::Same);
        assert_eq!(matches(None::<&i64>, Some(&7_i64)), [Match::Different; 2]);
    }

    #[test]
    fn a_type_of_the_application_is_no_difference() {
        #[derive(Clone, Copy, serde::Serialize)]
        enum Theme {
            Light,
            DarkBlue,
        }
        impl ColumnValue for Theme {
            const TYPE: ColumnType = ColumnType::Text;
            fn to_value(&self) -> Value {
                Value::Text(if matches!(self, Self::Light) { "light" } else { "dark_blue" }.to_owned())
            }
        }
        for theme in [Theme::Light, Theme::DarkBlue] {
            assert_eq!(matches(Some(&theme), Some(&theme)), [Match::Unknown; 2]);
        }
        assert_eq!(matches(Some(&("red", 1)), Some(&"red#1".to_owned())), [Match::Unknown; 2]);
    }
}
