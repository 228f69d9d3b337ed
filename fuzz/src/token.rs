//! Tokens and ids as text: each text is refused or is the only text of its token.

use session_runtime::{SessionId, Token};

use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "token",
    run,
    starts: || {
        let id = Token::from_bytes([0xA5; 32]).session_id().to_string();
        let random = Token::from_bytes([0xA5; 32]).encode().to_string();
        vec![
            random.clone().into(),
            id.into(),
            "B".repeat(64).into(),
            "A".repeat(4096).into(),
            (random + "=").into(),
        ]
    },
    weight: 1,
    words: &["=", "-", "_", "+", "/", "A", "B", "\u{E9}", "AAAA", "00"],
};

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let token = Token::parse(text);
    assert_eq!(token.is_some(), is_canonical(text), "the canonical form is accepted, and no other");
    if let Some(token) = token {
        assert_eq!(*token.encode(), text);
        assert_eq!(Token::parse(&token.encode()).expect("it was parsed").session_id(), token.session_id());
        assert_eq!(token.session_id().to_string().parse(), Ok(token.session_id()));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
    let id = text.parse::<SessionId>();
    let is_id = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert_eq!(id.is_ok(), is_id);
    assert!(id.is_err() || id.is_ok_and(|id| id.to_string() == text));
}

/// Returns whether this is base64url without padding (RFC 4648 §5) of 32 bytes or more, with unused bits of zero.
fn is_canonical(text: &str) -> bool {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |byte: u8| ALPHABET.iter().position(|letter| *letter == byte);
    let Some(last) = text.bytes().last().and_then(digit) else { return false };
    let unused = match text.len() % 4 {
        0 => 0,
        2 => 0b1111,
        3 => 0b11,
        _ => return false,
    };
    (43..=4096).contains(&text.len()) && text.bytes().all(|byte| digit(byte).is_some()) && last & unused == 0
}
