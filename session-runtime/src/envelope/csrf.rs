//! Tokens against cross-site request forgery: a key and a session id enter, 43 characters leave.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctutils::CtEq as _;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::token::SessionId;

/// The key of CSRF tokens, derived from the current master key.
pub(crate) struct CsrfKey(Zeroizing<[u8; 32]>);

impl CsrfKey {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// Makes a key that only this process knows.
    pub(super) fn random() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).expect("the operating system has a random number generator");
        Self(key)
    }

    /// Returns the token of a session: 32 bytes as base64url.
    pub(crate) fn token(&self, id: SessionId) -> String {
        let mut token = [0; 32];
        let hkdf = Hkdf::<Sha256>::from_prk(self.0.as_slice()).expect("the key is as long as a hash");
        hkdf.expand(id.as_bytes(), &mut token).expect("32 bytes are within HKDF's limit");
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Compares a submitted token with the session's, in constant time.
    pub(crate) fn verify(&self, id: SessionId, submitted: &str) -> bool {
        self.token(id).as_bytes().ct_eq(submitted.as_bytes()).into()
    }
}
