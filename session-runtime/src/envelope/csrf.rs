//! Tokens against cross-site request forgery: keys and a session id enter, text for a form leaves.
//!
//! ```text
//! token    mask (32) | mask XOR MAC of an id (32)                  86 characters of base64url
//! cookie   visitor id (32) | MAC of it and of the session id (32)   the same
//! ```
//!
//! The token of a stored session is bound to the session's id. A visitor without a stored session has a cookie with an id
//! of its own (the signed double-submit of OWASP's cheat sheet on CSRF). The cookie is good for one state of the visitor
//! only: no session, or the session that began with it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctutils::{Choice, CtEq as _};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::token::{SessionId, fill_random};

const MAC_LEN: usize = 32;
const LEN: usize = 2 * MAC_LEN;

const BAG_LABEL: &[u8] = b"bag";
const TOKEN_LABEL: &[u8] = b"token";
const COOKIE_LABEL: &[u8] = b"cookie";

/// What the cookie of a visitor without a session has in the place of a session id.
const NO_SESSION: SessionId = SessionId::from_bytes([0; 32]);

/// The keys of CSRF tokens of one bag, one for each master key, the current one first.
pub(crate) struct CsrfKeys(Vec<Zeroizing<[u8; 32]>>);

/// The cookie of a visitor who has a form and may have no session yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CsrfCookie([u8; LEN]);

impl fmt::Debug for CsrfCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfCookie(..)")
    }
}

#[cfg(feature = "actix")]
impl CsrfCookie {
    /// The length of its value, in characters.
    pub(crate) const ENCODED_LEN: usize = 86;

    /// Reads the value of a cookie, in its canonical form only.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        decode(value).map(Self)
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl CsrfKeys {
    /// Derives the keys of a bag from those of the masters.
    pub(super) fn new<'a>(masters: impl Iterator<Item = &'a Zeroizing<[u8; 32]>>, bag: &str) -> Self {
        Self(masters.map(|key| Zeroizing::new(mac(key, &[BAG_LABEL, bag.as_bytes()]))).collect())
    }

    /// Makes a key that only this process knows.
    pub(super) fn random() -> Self {
        Self(vec![Zeroizing::new(random())])
    }

    /// Returns a token for the forms of a session or a visitor. Each one is different text, so that an attacker who sees how
    /// well answers are compressed learns nothing from them (BREACH).
    pub(crate) fn token(&self, id: SessionId) -> String {
        let (mask, mac) = (random(), mac(&self.0[0], &[TOKEN_LABEL, id.as_bytes()]));
        let mut token = [0; LEN];
        token[..MAC_LEN].copy_from_slice(&mask);
        token[MAC_LEN..].copy_from_slice(&xor(mask, mac));
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Returns whether a submitted token is one for any of these ids, under any key. Compares in constant time.
    pub(crate) fn verify(&self, submitted: &[u8], ids: &[SessionId]) -> bool {
        let Some((mask, masked)) = decode(submitted).as_ref().and_then(split) else { return false };
        let submitted = xor(mask, masked);
        let mut is_good = Choice::FALSE;
        for key in &self.0 {
            for id in ids {
                is_good |= mac(key, &[TOKEN_LABEL, id.as_bytes()]).ct_eq(&submitted);
            }
        }
        is_good.into()
    }

    /// Makes the cookie of a visitor without a session, or in the session that the visitor began.
    #[cfg(feature = "actix")]
    pub(crate) fn cookie(&self, visitor: SessionId, session: Option<SessionId>) -> CsrfCookie {
        let mut cookie = [0; LEN];
        cookie[..MAC_LEN].copy_from_slice(visitor.as_bytes());
        cookie[MAC_LEN..].copy_from_slice(&cookie_mac(&self.0[0], visitor, session));
        CsrfCookie(cookie)
    }

    /// Returns the visitor's id, if one of these keys has made the cookie for this session, or for none.
    pub(crate) fn visitor(&self, cookie: &CsrfCookie, session: Option<SessionId>) -> Option<SessionId> {
        let (visitor, sent) = split(&cookie.0)?;
        let visitor = SessionId::from_bytes(visitor);
        let is_genuine = |key: &Zeroizing<_>| cookie_mac(key, visitor, session).ct_eq(&sent).into();
        self.0.iter().any(is_genuine).then_some(visitor)
    }
}

fn cookie_mac(key: &[u8; 32], visitor: SessionId, session: Option<SessionId>) -> [u8; MAC_LEN] {
    mac(key, &[COOKIE_LABEL, visitor.as_bytes(), session.unwrap_or(NO_SESSION).as_bytes()])
}

/// One block of HKDF-Expand is HMAC-SHA256 of the message and a counter byte.
pub(super) fn mac(key: &[u8; 32], message: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut mac = [0; MAC_LEN];
    let hkdf = Hkdf::<Sha256>::from_prk(key).expect("the key is as long as a hash");
    hkdf.expand_multi_info(message, &mut mac).expect("32 bytes are within HKDF's limit");
    mac
}

fn random() -> [u8; MAC_LEN] {
    let mut bytes = [0; MAC_LEN];
    fill_random(&mut bytes);
    bytes
}

fn xor(mut a: [u8; MAC_LEN], b: [u8; MAC_LEN]) -> [u8; MAC_LEN] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    a
}

fn decode(text: &[u8]) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (length == LEN).then_some(bytes)
}

fn split(bytes: &[u8; LEN]) -> Option<([u8; MAC_LEN], [u8; MAC_LEN])> {
    Some((*bytes.first_chunk()?, *bytes.last_chunk()?))
}

#[cfg(all(test, feature = "actix"))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SESSION: SessionId = SessionId::from_bytes([1; 32]);
    const VISITOR: SessionId = SessionId::from_bytes([2; 32]);

    fn keys(masters: &[u8], bag: &str) -> CsrfKeys {
        let masters: Vec<_> = masters.iter().map(|byte| Zeroizing::new([*byte; 32])).collect();
        CsrfKeys::new(masters.iter(), bag)
    }

    fn is_good(keys: &CsrfKeys, token: &str) -> bool {
        keys.verify(token.as_bytes(), &[SESSION])
    }

    #[test]
    fn no_byte_of_a_token_repeats_and_each_is_good() {
        let keys = keys(&[1], "shop");
        let tokens: Vec<_> = (0..200).map(|_| keys.token(SESSION)).collect();
        assert!(tokens.iter().all(|token| token.len() == CsrfCookie::ENCODED_LEN && is_good(&keys, token)));
        for position in 0..CsrfCookie::ENCODED_LEN {
            let characters: HashSet<_> = tokens.iter().map(|token| token.as_bytes()[position]).collect();
            // The last character of a half has fewer bits.
            assert!(characters.len() >= 4, "position {position}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_id_its_bag_and_each_key_of_the_ring() {
        let token = keys(&[1], "shop").token(SESSION);
        assert!(is_good(&keys(&[1], "shop"), &token) && is_good(&keys(&[2, 3, 1], "shop"), &token));
        assert!(!is_good(&keys(&[2, 3], "shop"), &token) && !is_good(&keys(&[1], "till"), &token));
        let keys = keys(&[1], "shop");
        assert!(keys.verify(token.as_bytes(), &[VISITOR, SESSION]));
        assert!(!keys.verify(token.as_bytes(), &[VISITOR]));
        assert!(!keys.verify(token.as_bytes(), &[]));
    }

    #[test]
    fn a_token_that_is_changed_or_has_another_form_is_refused() {
        let keys = keys(&[1], "shop");
        let token = keys.token(SESSION);
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            assert!(!keys.verify(&changed, &[SESSION]), "position {position}");
        }
        // Without a mask: 43 characters, as before, and as they stand in the second half under a mask of zeros.
        let mac = mac(&keys.0[0], &[TOKEN_LABEL, SESSION.as_bytes()]);
        let short = URL_SAFE_NO_PAD.encode(mac);
        for other in ["", "=", &short, &token[1..], &format!("{token}A"), &format!("{token}=")] {
            assert!(!is_good(&keys, other), "{other}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_one_state_of_its_visitor() {
        let keys = keys(&[1], "shop");
        for state in [None, Some(SESSION)] {
            let cookie = keys.cookie(VISITOR, state);
            let read = CsrfCookie::parse(cookie.encode().as_bytes()).expect("its own form");
            assert_eq!(keys.visitor(&read, state), Some(VISITOR));
            for other in [None, Some(SESSION), Some(VISITOR)] {
                assert_eq!(keys.visitor(&read, other).is_some(), other == state, "{state:?} {other:?}");
            }
        }
    }

    /// The id of a session is public: in a cookie that anybody can write it would name the session to make tokens for.
    #[test]
    fn a_cookie_that_this_server_has_not_made_names_no_visitor() {
        let keys = keys(&[1], "shop");
        let cookie = keys.cookie(VISITOR, None);
        for position in 0..LEN {
            let mut forged = cookie;
            forged.0[position] ^= 1;
            assert_eq!(keys.visitor(&forged, None), None, "position {position}");
        }
        let other = self::keys(&[1], "till").cookie(VISITOR, None);
        assert_eq!(keys.visitor(&other, None), None);
        let token = keys.token(VISITOR);
        let token = CsrfCookie::parse(token.as_bytes()).expect("as long as a cookie");
        assert_eq!(keys.visitor(&token, None), None);
    }

    #[test]
    fn the_bytes_of_a_mac_are_pinned() {
        let keys = keys(&[1], "shop");
        let hex = |mac: [u8; MAC_LEN]| crate::token::Hex(&mac).to_string();
        assert_eq!(
            hex(mac(&keys.0[0], &[TOKEN_LABEL, SESSION.as_bytes()])),
            "599a842d773199d3a83bc84d8148b1f847accaa17f19e0ecad7e7c8602efac79"
        );
        assert_eq!(
            hex(cookie_mac(&keys.0[0], VISITOR, None)),
            "23f8a6ddc62f8c0d7bda87852e2291c8fc0276cc6ca3c748a0e46419fbb26682"
        );
    }
}
