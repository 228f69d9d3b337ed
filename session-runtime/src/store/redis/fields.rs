//! A row as a hash: fields have the names of the table's columns, values are bytes that begin with their type.

use super::failure::Failure;
use crate::clock::Timestamp;
use crate::store::damage::Damage;
use crate::store::{Row, Table, TableColumn};
use crate::token::SessionId;
use crate::value::Value;

/// The fields of a row: those with a value, and those without.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) present: Vec<(&'a str, Vec<u8>)>,
    pub(super) absent: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    /// Returns all fields of a row, under the names of its table.
    pub(super) fn of(table: &'a Table, row: &Row) -> Result<Self, Failure> {
        if row.columns.len() != table.projected.len() {
            return Err(Failure::ColumnCount { table: table.projected.len(), row: row.columns.len() });
        }
        let mut fields = Self::default();
        fields.put(&table.state, Some(row.state.clone()));
        fields.put(&table.revision, Some(row.revision.to_string().into_bytes()));
        fields.put(&table.expiration, Some(row.expiration.as_millis().to_string().into_bytes()));
        fields.put(&table.created, Some(row.created.as_millis().to_string().into_bytes()));
        if let Some(user) = &table.user {
            fields.put(&user.name, row.user.as_ref().map(encode));
        }
        if let Some(ip) = &table.ip {
            fields.put(ip, row.ip.map(|ip| ip.to_string().into_bytes()));
        }
        for (column, value) in table.projected.iter().zip(&row.columns) {
            fields.put(&column.name, value.as_ref().map(encode));
        }
        Ok(fields)
    }

    fn put(&mut self, name: &'a str, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.present.push((name, value)),
            None => self.absent.push(name),
        }
    }
}

/// The longest value that is read where the table has no limit. By default Redis keeps no longer ones.
pub(super) const MAX_VALUE: usize = 1 << 29;

/// A field as it was read.
#[derive(Debug)]
pub(super) enum Field {
    Absent,
    Present(Vec<u8>),
    /// The server kept the value, because it is too long.
    TooLong,
}

impl Field {
    pub(super) fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Present(bytes) => Some(bytes),
            Self::Absent | Self::TooLong => None,
        }
    }
}

/// Returns the names of the fields of a row, in the order in which [`row`] reads them.
pub(super) fn names(table: &Table) -> impl Iterator<Item = &str> {
    [&table.state, &table.created, &table.expiration, &table.revision]
        .into_iter()
        .chain(table.user.as_ref().map(|user| &user.name))
        .chain(&table.ip)
        .chain(table.projected.iter().map(|column| &column.name))
        .map(String::as_str)
}

/// Makes a row from its fields, in the order of [`names`]. An attacker may have written them: a field that cannot be read
/// makes the row a damaged one.
pub(super) fn row(table: &Table, id: SessionId, fields: impl IntoIterator<Item = Field>) -> Row {
    let mut damage = Damage::default();
    let mut fields = fields.into_iter();
    let mut next = || fields.next().unwrap_or(Field::Absent);
    let state = match next() {
        Field::TooLong => Some(vec![0; table.max_state.min(MAX_VALUE) + 1]),
        field => field.bytes(),
    };
    let mut state = damage.check(&table.state, state);
    state.truncate(table.max_state.saturating_add(1));
    let [created, expiration, revision] =
        [&table.created, &table.expiration, &table.revision].map(|column| {
            let integer = next().bytes().and_then(|bytes| str::from_utf8(&bytes).ok()?.parse().ok());
            damage.check(column, integer)
        });
    let user = table.user.as_ref().and_then(|user| damage.check(&user.name, value(user, next())));
    let ip = table.ip.as_ref().and_then(|ip| {
        let parsed = match next() {
            Field::Absent => Some(None),
            field => field.bytes().and_then(|bytes| str::from_utf8(&bytes).ok()?.parse().ok()).map(Some),
        };
        damage.check(ip, parsed)
    });
    let columns = table.projected.iter().map(|column| damage.check(&column.name, value(column, next())));
    let columns = columns.collect();
    let [created, expiration] = [created, expiration].map(Timestamp::from_millis);
    Row { id, state, user, ip, created, expiration, revision, columns, damaged: damage.first() }
}

/// Reads a field that may be absent.
#[expect(clippy::option_option, reason = "it cannot be read, is absent, or has a value")]
fn value(column: &TableColumn, field: Field) -> Option<Option<Value>> {
    match field {
        Field::Absent => Some(None),
        field => decode(&field.bytes()?).filter(|value| column.ty.holds(value)).map(Some),
    }
}

/// Writes a letter for the type, and the value: `i-7`, `tacme`. Equal values are equal bytes.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let (letter, bytes) = match value {
        Value::Integer(integer) => (b'i', integer.to_string().into_bytes()),
        // The shortest text that parses to the same number.
        Value::Real(real) => (b'r', format!("{real:?}").into_bytes()),
        Value::Text(text) => (b't', text.clone().into_bytes()),
        Value::Blob(blob) => (b'b', blob.clone()),
    };
    [&[letter], bytes.as_slice()].concat()
}

pub(super) fn decode(value: &[u8]) -> Option<Value> {
    let (letter, bytes) = value.split_first()?;
    let text = || str::from_utf8(bytes).ok();
    Some(match letter {
        b'i' => Value::Integer(text()?.parse().ok()?),
        b'r' => Value::Real(text()?.parse().ok()?),
        b't' => Value::Text(text()?.to_owned()),
        b'b' => Value::Blob(bytes.to_vec()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_bytes() {
        let texts = ["", "acme", "t\0\u{1F36A}"].map(|text| Value::Text(text.to_owned()));
        let reals = [0.1, -0.0, f64::MAX, f64::INFINITY, f64::MIN_POSITIVE].map(Value::Real);
        let integers = [0, i64::MIN, i64::MAX].map(Value::Integer);
        for value in texts.into_iter().chain(reals).chain(integers).chain([Value::Blob(vec![0, 255])]) {
            assert_eq!(decode(&encode(&value)), Some(value));
        }
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"iseven"), None);
    }
}
