//! Records in the clear, as a program that writes the database takes them apart.
//!
//! ```text
//! state   0x00 | length (4) | bag name | length (4) | table | record
//! record  0x01 | flags (1) | absolute expiry (8) | field*
//! field   tag (4) | fingerprint (8) | flags (1) | length (LEB128) | value
//! ```

use std::fmt::Write as _;

/// A state in the clear.
pub(crate) struct PlainState {
    pub(crate) head: Vec<u8>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) tag: u32,
    /// The fingerprint and the flags.
    pub(crate) kind: [u8; 9],
    pub(crate) value: Vec<u8>,
}

impl PlainState {
    pub(crate) fn parse(state: &[u8]) -> Self {
        let mut at = 1;
        for _ in 0..2 {
            at += 4 + usize::try_from(u32::from_be_bytes(take(state, at))).expect("a short name");
        }
        // Version and flags, two times, and what the flags announce.
        let announced = (state[at + 1] & 0b1110).count_ones();
        at += 18 + 8 * usize::try_from(announced).expect("at most three");
        let head = state[..at].to_vec();
        let mut fields = Vec::new();
        while at < state.len() {
            let (tag, kind) = (u32::from_be_bytes(take(state, at)), take(state, at + 4));
            at += 13;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = state[at];
                at += 1;
                length |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            fields.push(Field { tag, kind, value: state[at..at + length].to_vec() });
            at += length;
        }
        Self { head, fields }
    }

    /// Returns the field of a name.
    pub(crate) fn field(&mut self, name: &str) -> &mut Field {
        let tag = tag(name);
        self.fields.iter_mut().find(|field| field.tag == tag).expect("the record has it")
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut state = self.head.clone();
        for field in &self.fields {
            state.extend_from_slice(&field.tag.to_be_bytes());
            state.extend_from_slice(&field.kind);
            let mut length = field.value.len();
            while length > 0x7F {
                state.push(u8::try_from(length & 0x7F).expect("seven bits") | 0x80);
                length >>= 7;
            }
            state.push(u8::try_from(length).expect("seven bits"));
            state.extend_from_slice(&field.value);
        }
        state
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("so many bytes")
}

/// The tag of a stored name: FNV-1a.
fn tag(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}
