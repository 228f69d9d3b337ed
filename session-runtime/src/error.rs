//! What can go wrong, by the stage that failed.
//!
//! Forged or stale input from a browser is not among it: that is a [`Rejection`], and an anonymous visitor.

use crate::codec::CodecError;
use crate::envelope::KeyError;
use crate::store::StoreError;

/// A session could not be loaded, changed or stored.
///
/// As an answer to a request every variant has an opaque body; the cause goes to the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration does not hold together; nothing was started.
    #[error("sessions are misconfigured: {0}")]
    Config(String),
    /// A master key was refused.
    #[error("the session key is refused")]
    Key(#[from] KeyError),
    /// The store could not be read or written. Answered 503.
    #[error("the session store failed")]
    Store(#[from] StoreError),
    /// A row is sealed under a key that the keyring does not have. Answered 503, so that a mistake in
    /// the configuration logs nobody out.
    #[error("the key {id} that a session is sealed with is missing from the keyring")]
    UnknownKey {
        /// The first 8 hexadecimal digits that name the key.
        id: String,
    },
    /// A field's type refused to be encoded. Answered 500.
    #[error("the session field `{field}` could not be encoded")]
    Encode {
        /// The field's stored name.
        field: &'static str,
        /// What the codec says.
        source: CodecError,
    },
    /// The session is larger than it may be. Answered 500; nothing was written.
    #[error("the session takes {size} bytes, of {limit} allowed; the biggest field is `{field}`")]
    TooLarge {
        /// The size of the record in bytes.
        size: usize,
        /// The most it may be: `max_state_bytes`.
        limit: usize,
        /// The stored name of the biggest field.
        field: &'static str,
    },
    /// The session was ended by another request. Nothing was stored, and it stays ended. Answered 409.
    #[error("the session was ended by another request")]
    Ended,
    /// Another request has changed a field whose policy is `merge = "reject"`. Answered 409.
    #[error("another request has changed the session field `{field}`")]
    Conflict {
        /// The field's stored name.
        field: &'static str,
    },
    /// Others kept writing the session until the deadline. Answered 503.
    #[error("the session could not be written before the deadline: others kept writing it")]
    Contended,
    /// An extractor was used in a way that cannot work. Answered 500; the text says what to do.
    #[error("{0}")]
    Usage(String),
}

impl From<crate::record::EncodeError> for Error {
    fn from(error: crate::record::EncodeError) -> Self {
        Self::Encode { field: error.field, source: error.source }
    }
}

/// Why what a browser presented was not accepted as a session. The request goes on, anonymous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The cookie is not a token in its canonical form.
    #[error("the cookie is not a session token")]
    Malformed,
    /// The request has the cookie more than once.
    #[error("the request has the session cookie more than once")]
    Duplicate,
    /// No session has this token, or has it any more.
    #[error("no session has this token")]
    Unknown,
    /// The session's time is over.
    #[error("the session has expired")]
    Expired,
    /// The row does not authenticate, or its columns differ from what was sealed.
    #[error("the row was tampered with")]
    Tampered,
    /// A record that does authenticate does not decode.
    #[error("the record does not decode, at field `{}`", .field.unwrap_or("-"))]
    Undecodable {
        /// The field that does not decode; none where the record itself is malformed.
        field: Option<&'static str>,
    },
    /// The address is not the one the session is bound to.
    #[error("the session is bound to another address")]
    Address,
    /// The user agent is not the one the session is bound to.
    #[error("the session is bound to another user agent")]
    UserAgent,
}
