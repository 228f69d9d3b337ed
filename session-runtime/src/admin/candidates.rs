//! The values that an encoded field may have, whatever its type and its codec: bytes enter, column values leave.
//!
//! A candidate is never taken for the value: the caller compares its hash with a hash that was made of the value.

use std::net::IpAddr;

use crate::value::Value;

/// Returns what the bytes are as JSON, and as bincode of the types that columns hold, in an `Option` or not.
pub(super) fn candidates(encoded: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(encoded) {
        values.extend(of_json(&json));
        // The shortest digits of an `f32` are those of another `f64`.
        values.extend(serde_json::from_slice::<f32>(encoded).ok().map(|real| Value::Real(real.into())));
    }
    of_bincode(encoded, &mut values);
    if let Some(inner) = encoded.strip_prefix(&[1]) {
        of_bincode(inner, &mut values);
    }
    values
}

fn of_json(json: &serde_json::Value) -> Option<Value> {
    Some(match json {
        serde_json::Value::Bool(flag) => Value::Integer((*flag).into()),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(integer)) => Value::Integer(integer.cast_signed()),
            (None, None) => Value::Real(number.as_f64()?),
        },
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(bytes) => {
            let byte = |byte: &serde_json::Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
            Value::Blob(bytes.iter().map(byte).collect::<Option<_>>()?)
        }
        serde_json::Value::Null | serde_json::Value::Object(_) => return None,
    })
}

fn of_bincode(bytes: &[u8], values: &mut Vec<Value>) {
    if let [byte] = bytes {
        values.extend([Value::Integer((*byte).into()), Value::Integer(byte.cast_signed().into())]);
    }
    if let Some((number, rest)) = varint(bytes) {
        if rest.is_empty() {
            // Unsigned, and signed: 0, -1, 1, -2 ..
            values.push(Value::Integer(number.cast_signed()));
            values.push(Value::Integer((number >> 1).cast_signed() ^ -((number & 1).cast_signed())));
        }
        if u64::try_from(rest.len()) == Ok(number) {
            values.extend(str::from_utf8(rest).ok().map(|text| Value::Text(text.to_owned())));
            values.push(Value::Blob(rest.to_vec()));
        }
        // The variants of an `IpAddr`.
        values.extend(address(rest).filter(|address| u64::from(address.is_ipv6()) == number).map(text));
    }
    values.extend(address(bytes).map(text));
    if let Ok(real) = bytes.try_into().map(f64::from_le_bytes) {
        values.push(Value::Real(real));
    }
    if let Ok(real) = bytes.try_into().map(f32::from_le_bytes) {
        values.push(Value::Real(real.into()));
    }
    // An array has no length before it.
    if bytes.len() == 16 {
        values.push(Value::Blob(bytes.to_vec()));
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn text(address: IpAddr) -> Value {
    Value::Text(address.to_string())
}

/// Reads a number of bincode, and returns what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        251 => 2,
        252 => 4,
        253 => 8,
        254.. => return None,
        small => return Some((small.into(), rest)),
    };
    let (number, rest) = rest.split_at_checked(width)?;
    let mut padded = [0; 8];
    padded[..width].copy_from_slice(number);
    Some((u64::from_le_bytes(padded), rest))
}

#[cfg(all(test, feature = "bincode"))]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::codec::bincode::Bincode;
    use crate::codec::{Codec, Json};
    use crate::value::ColumnValue;

    fn check<T: ColumnValue + serde::Serialize + Clone>(value: &T) {
        let expected = value.to_value();
        let check = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            encode(&mut bytes);
            assert!(candidates(&bytes).contains(&expected), "{bytes:?}");
        };
        let some = Some(value.clone());
        check(&|bytes| Bincode::encode(value, bytes).expect("it encodes"));
        check(&|bytes| Bincode::encode(&some, bytes).expect("it encodes"));
        check(&|bytes| Json::encode(value, bytes).expect("it encodes"));
        check(&|bytes| Json::encode(&some, bytes).expect("it encodes"));
    }

    #[test]
    fn a_value_is_among_the_candidates_of_its_encoding() {
        for number in [0, 1, 7, 250, 251, 70_000, i64::from(u32::MAX) + 1, i64::MAX, -1, -300, i64::MIN] {
            check(&number);
        }
        for number in [0, 250, 251, u64::MAX] {
            check(&number);
        }
        check(&u8::MAX);
        check(&i8::MIN);
        check(&7_u32);
        check(&-70_000_i32);
        check(&true);
        check(&0.5_f64);
        check(&0.1_f32);
        for text in ["", "dana@example.com", "\u{e9}", &"long ".repeat(100)] {
            check(&text.to_owned());
        }
        check(&vec![0_u8, 255, 7]);
        check(&[7_u8; 16]);
        check(&IpAddr::from([203, 0, 113, 7]));
        check(&IpAddr::from(Ipv6Addr::LOCALHOST));
        check(&Ipv4Addr::LOCALHOST);
        check(&Ipv6Addr::LOCALHOST);
    }
}
