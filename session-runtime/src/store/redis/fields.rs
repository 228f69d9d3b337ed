//! A row as a hash: fields have the names of the table's columns, values are bytes that begin with their type.

use std::collections::HashMap;
use std::net::IpAddr;

use super::failure::Failure;
use crate::clock::Timestamp;
use crate::store::{Row, Table};
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

/// Reads a row from its fields. An attacker may have written them: a malformed field is an error, and nothing is
/// assumed.
pub(super) fn row(
    table: &Table,
    id: SessionId,
    mut fields: HashMap<Vec<u8>, Vec<u8>>,
) -> Result<Row, Failure> {
    let mut take = |name: &str| fields.remove(name.as_bytes());
    let integer = |name: &str, value: Option<Vec<u8>>| {
        let parsed = value.and_then(|value| str::from_utf8(&value).ok()?.parse().ok());
        parsed.ok_or_else(|| Failure::malformed(name, "an integer"))
    };
    let value = |name: &str, value: Option<Vec<u8>>| match value {
        None => Ok(None),
        Some(value) => decode(&value).map(Some).ok_or_else(|| Failure::malformed(name, "a value")),
    };
    Ok(Row {
        id,
        state: take(&table.state).ok_or_else(|| Failure::malformed(&table.state, "bytes"))?,
        created: Timestamp::from_millis(integer(&table.created, take(&table.created))?),
        expiration: Timestamp::from_millis(integer(&table.expiration, take(&table.expiration))?),
        revision: integer(&table.revision, take(&table.revision))?,
        user: match &table.user {
            Some(user) => value(&user.name, take(&user.name))?,
            None => None,
        },
        ip: match &table.ip {
            Some(column) => ip(column, take(column))?,
            None => None,
        },
        columns: table
            .projected
            .iter()
            .map(|column| value(&column.name, take(&column.name)))
            .collect::<Result<_, _>>()?,
    })
}

fn ip(column: &str, value: Option<Vec<u8>>) -> Result<Option<IpAddr>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let parsed = str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| Failure::malformed(column, "an IP address"))
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
