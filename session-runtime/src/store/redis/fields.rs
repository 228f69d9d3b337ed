//! The bytes that are stored under the id of a session: a row, or a mark in the place of one. Numbers are big-endian.
//!
//! ```text
//! a row                                       a mark
//! 0    1   `r`                                0    1   `g` gone, `m` renamed, `c` renamed and complete,
//!                                                      `a` a rename to this id was taken back
//! 1    12  the call that inserted it          1    12  the call that inserted the row
//! 13   96  the last eight calls that          `m`, `c`: 13  32  the new id;    45  the user of the row
//!          changed it                         `g`:      13  12  the call that removed it;  25  the user
//! 109  8   revision
//! 117  8   expiration                         a row that is being renamed
//! 125  8   created                            0    1   `p`
//! 133  4   length of the user                 1    12  the call that inserted it
//! 137  4   length of the columns              13   32  the old id
//! 141      user, columns, state               45       all that a row has from 13 on
//! ```
//!
//! Columns are those with a value, the address among them: each has the length of its name in 4 bytes, its name, the length
//! of its value, its value. So a program keeps the columns that only another version of it knows, also in a rename.

#[cfg(feature = "admin")]
use std::net::IpAddr;

use super::failure::Failure;
use crate::clock::Timestamp;
use crate::store::damage::Damage;
use crate::store::{Row, RowVersion, Scope, Table, TableColumn};
use crate::token::SessionId;
#[cfg(feature = "admin")]
use crate::value::ColumnType;
use crate::value::Value;

/// The id of a call.
pub(super) type CallId = [u8; 12];

const CALLS: usize = 8 * size_of::<CallId>();

/// The kind, and the call that inserted the row.
const START: usize = 1 + size_of::<CallId>();

/// A mark up to the id that it names.
pub(super) const MARK: usize = START + 32;

/// What a row has between its calls and its user.
const NUMBERS: usize = 3 * 8 + 2 * 4;

/// A row up to its expiration.
pub(super) const VERSION: usize = START + CALLS + 2 * 8;

/// What is stored under an id.
pub(super) enum Stored {
    Nothing,
    Row(Row),
    /// A row that is being renamed from this id.
    Pending(SessionId, Row),
    /// A row was renamed to this id, and whether the rename is complete.
    Moved(SessionId, Completion),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Completion {
    Open,
    Complete,
}

/// What a row has that only another version of the program knows, as it is stored.
#[derive(Default)]
pub(super) struct Kept {
    /// The user, where the table has none.
    pub(super) user: Vec<u8>,
    pub(super) columns: Vec<u8>,
}

/// Writes a row, marked if it is being renamed from another id.
pub(super) fn write(
    table: &Table,
    row: &Row,
    call: CallId,
    from: Option<SessionId>,
    kept: &Kept,
) -> Result<Vec<u8>, Failure> {
    let columns = [columns(table, row)?.as_slice(), &kept.columns].concat();
    let user = user(table, row).unwrap_or_else(|| kept.user.clone());
    let mut bytes = Vec::with_capacity(MARK + CALLS + NUMBERS + user.len() + columns.len() + row.state.len());
    bytes.push(if from.is_some() { b'p' } else { b'r' });
    bytes.extend(call);
    if let Some(from) = from {
        bytes.extend(from.as_bytes());
    }
    bytes.extend([0; CALLS]);
    bytes.extend(numbers(row, Scope::Row));
    bytes.extend(length(&user));
    bytes.extend(length(&columns));
    bytes.extend(user);
    bytes.extend(columns);
    bytes.extend(&row.state);
    Ok(bytes)
}

/// Returns the numbers that an update changes.
pub(super) fn numbers(row: &Row, scope: Scope) -> Vec<u8> {
    let numbers = [row.revision, row.expiration.as_millis(), row.created.as_millis()];
    let changed = match scope {
        Scope::State => 1,
        Scope::Expiration => 2,
        Scope::Row => 3,
    };
    numbers[..changed].iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Returns the user of a row; nothing if it has none, `None` if the table has none.
pub(super) fn user(table: &Table, row: &Row) -> Option<Vec<u8>> {
    table.user.as_ref().map(|_| row.user.as_ref().map(encode).unwrap_or_default())
}

/// Returns the columns of a row.
pub(super) fn columns(table: &Table, row: &Row) -> Result<Vec<u8>, Failure> {
    if row.columns.len() != table.projected.len() {
        return Err(Failure::ColumnCount { table: table.projected.len(), row: row.columns.len() });
    }
    let mut bytes = Vec::new();
    let mut put = |name: &str, value: Option<Vec<u8>>| {
        if let Some(value) = value {
            bytes.extend([&length(name.as_bytes()), name.as_bytes(), &length(&value), &value].concat());
        }
    };
    if let Some(ip) = &table.ip {
        put(ip, row.ip.map(|ip| ip.to_string().into_bytes()));
    }
    for (column, value) in table.projected.iter().zip(&row.columns) {
        put(&column.name, value.as_ref().map(encode));
    }
    Ok(bytes)
}

/// Returns the names of all columns that this program knows.
pub(super) fn column_names(table: &Table) -> impl Iterator<Item = &str> {
    table.ip.iter().chain(table.projected.iter().map(|column| &column.name)).map(String::as_str)
}

fn length(bytes: &[u8]) -> [u8; 4] {
    // Redis keeps no value that is longer.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Redis keeps no longer value by default.
const MAX_VALUE: usize = 1 << 29;

/// Returns how many bytes of a row are read: the columns have room, since the record has their values too, and so has a
/// state that is one byte too long.
pub(super) fn most_bytes(table: &Table) -> usize {
    const ROOM: usize = 64 * 1024;
    let columns = table.max_state.saturating_add(ROOM);
    columns.saturating_add(table.max_state).saturating_add(MARK + CALLS + NUMBERS + 1).min(MAX_VALUE)
}

/// Reads what is stored under an id, cut after [`most_bytes`]. An attacker may have written it: what cannot be read makes a
/// damaged row.
pub(super) fn read(table: &Table, id: SessionId, bytes: &[u8]) -> Stored {
    match (bytes.first(), other_id(bytes)) {
        (None | Some(b'g' | b'a'), _) => Stored::Nothing,
        (Some(b'p'), Some(from)) => Stored::Pending(from, row(table, id, &bytes[MARK..])),
        (Some(b'm'), Some(to)) => Stored::Moved(to, Completion::Open),
        (Some(b'c'), Some(to)) => Stored::Moved(to, Completion::Complete),
        (Some(b'r'), _) => Stored::Row(row(table, id, bytes.get(START..).unwrap_or_default())),
        _ => Stored::Row(unreadable(table, id)),
    }
}

/// Reads the version of what is stored under an id, cut after [`VERSION`] bytes; `None` if it is no row. A row that is being
/// renamed, and one that cannot be read, has the default one.
pub(super) fn version(bytes: &[u8]) -> Option<RowVersion> {
    match (bytes.first(), other_id(bytes)) {
        (None | Some(b'g' | b'a'), _) | (Some(b'm' | b'c'), Some(_)) => return None,
        (Some(b'r'), _) => {}
        _ => return Some(RowVersion::default()),
    }
    let mut rest = bytes.get(START + CALLS..).unwrap_or_default();
    let [revision, expiration] = [(); 2]
        .map(|()| take(&mut rest, 8).and_then(|number| number.try_into().ok()).map(i64::from_be_bytes));
    let version = revision.zip(expiration);
    let version =
        version.map(|(revision, expiration)| RowVersion::new(revision, Timestamp::from_millis(expiration)));
    Some(version.unwrap_or_default())
}

/// Reads an id as it stands in keys and lists.
pub(super) fn parse_id(id: &[u8]) -> Option<SessionId> {
    str::from_utf8(id).ok()?.parse().ok()
}

/// Returns the id that a mark names.
pub(super) fn other_id(mark: &[u8]) -> Option<SessionId> {
    let id: [u8; 32] = mark.get(START..MARK)?.try_into().ok()?;
    Some(SessionId::from_bytes(id))
}

/// Returns a row of which nothing can be read.
pub(super) fn unreadable(table: &Table, id: SessionId) -> Row {
    row(table, id, &[])
}

/// Reads a row from its calls on.
fn row(table: &Table, id: SessionId, bytes: &[u8]) -> Row {
    let mut damage = Damage::default();
    let mut rest = bytes.get(CALLS..).unwrap_or_default();
    let rest = &mut rest;
    let [revision, expiration, created] =
        [&table.revision, &table.expiration, &table.created].map(|column| {
            let number = take(rest, 8).and_then(|number| number.try_into().ok()).map(i64::from_be_bytes);
            damage.check(column, number)
        });
    let lengths = [take_length(rest), take_length(rest)];
    let [user, columns] = lengths.map(|length| take(rest, length?));
    let columns = columns.and_then(pairs);
    let user = table.user.as_ref().and_then(|column| {
        let user =
            user.and_then(|user| if user.is_empty() { Some(None) } else { value(column, user).map(Some) });
        damage.check(&column.name, user)
    });
    let of_column = |name: &str| {
        let columns = columns.as_ref()?;
        Some(columns.iter().find(|(column, _)| *column == name.as_bytes()).map(|(_, value)| *value))
    };
    let ip = table.ip.as_ref().and_then(|name| {
        let ip = of_column(name).and_then(|ip| match ip {
            Some(ip) => str::from_utf8(ip).ok()?.parse().ok().map(Some),
            None => Some(None),
        });
        damage.check(name, ip)
    });
    let projected = table.projected.iter().map(|column| {
        let read = of_column(&column.name).and_then(|read| match read {
            Some(read) => value(column, read).map(Some),
            None => Some(None),
        });
        damage.check(&column.name, read)
    });
    let projected = projected.collect();
    let state = columns.is_some().then(|| rest[..rest.len().min(table.max_state.saturating_add(1))].to_vec());
    let state = damage.check(&table.state, state);
    let [created, expiration] = [created, expiration].map(Timestamp::from_millis);
    Row { id, state, user, ip, created, expiration, revision, columns: projected, damaged: damage.first() }
}

/// The columns of a row, for a program that does not know the bag.
#[cfg(feature = "admin")]
pub(super) struct Found {
    pub(super) user: Option<ColumnType>,
    /// By name; `None` is the type of an address.
    pub(super) columns: Vec<(String, Option<ColumnType>)>,
    pub(super) state_is_text: bool,
}

/// Returns what columns a row has; `None` if there is no row that can be read.
#[cfg(feature = "admin")]
pub(super) fn columns_of(bytes: &[u8]) -> Option<Found> {
    let start = match bytes.first()? {
        b'r' => START,
        b'p' => MARK,
        _ => return None,
    };
    let rest = &mut bytes.get(start + CALLS + 3 * 8..)?;
    let lengths = [take_length(rest)?, take_length(rest)?];
    let [user, columns] = lengths.map(|length| take(rest, length));
    let of_column = |(name, value): (&[u8], &[u8])| {
        let address = str::from_utf8(value).is_ok_and(|text| text.parse::<IpAddr>().is_ok());
        let ty = if address { None } else { Some(decode(value)?.column_type()) };
        Some((str::from_utf8(name).ok()?.to_owned(), ty))
    };
    Some(Found {
        user: decode(user?).as_ref().map(Value::column_type),
        columns: pairs(columns?)?.into_iter().filter_map(of_column).collect(),
        // The first byte of an envelope and of a record in the clear is less than any character.
        state_is_text: rest.first().is_some_and(|first| *first >= b' '),
    })
}

/// Takes the first bytes, if there are so many.
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
    usize::try_from(length).ok()
}

/// Returns the names and values of columns.
fn pairs(mut columns: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let rest = &mut columns;
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let [name, value] = [(), ()].map(|()| take_length(rest).and_then(|length| take(rest, length)));
        pairs.push((name?, value?));
    }
    Some(pairs)
}

fn value(column: &TableColumn, bytes: &[u8]) -> Option<Value> {
    decode(bytes).filter(|value| column.ty.holds(value))
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
