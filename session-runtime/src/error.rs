//! Errors, by the stage that failed.
//!
//! Forged or stale input from a browser is not an error: it is a [`Rejection`], and an anonymous visitor.

use crate::bag::encoding::EncodeError;
use crate::bag::merge::MergeError;
use crate::codec::CodecError;
use crate::envelope::KeyError;
pub(crate) use crate::error_chain::ErrorChain;
use crate::error_chain::readable_debug;
use crate::store::StoreError;

/// A session could not be loaded, changed or stored.
///
/// As an answer to a request every variant has an opaque body; the cause goes to the log.
///
/// Its `Debug` reads like its `Display`, with all causes: a `main` that returns the error prints one line.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is contradictory or incomplete; nothing was started.
    #[error("sessions are misconfigured: {0}")]
    Config(String),
    /// A master key was refused.
    #[error("the session key is refused")]
    Key(#[from] KeyError),
    /// The store could not be read or written. Answered 503, or 500 if the store refuses a value for good
    /// ([`StoreError::is_refused`]); nothing was written then.
    #[error("the session store failed")]
    Store(#[from] StoreError),
    /// The session of this request could not be loaded, and the request went on without it. The store's error was
    /// reported then. Answered 503.
    #[error("the session could not be loaded, and the request went on without it")]
    NotLoaded,
    /// An earlier write of this request was not confirmed by the store, so it is unknown what is stored. Nothing
    /// more is written: a change could be stored twice. Answered 503; [`Session::reload`](crate::Session::reload)
    /// reads what is stored.
    #[error("an earlier write of this session was not confirmed: call `reload` before writing again")]
    Unconfirmed,
    /// The stored session was readable when the request began, and is not readable any more. Answered 503.
    #[error("the stored session cannot be read any more")]
    Unreadable(#[source] Rejection),
    /// A row of a store is sealed under a key that the keyring does not have. Answered 503, so that a mistake in
    /// the configuration does not log everyone out.
    #[error("the key {id} that a session is sealed with is missing from the keyring")]
    UnknownKey {
        /// The first 8 hexadecimal digits that name the key.
        id: String,
    },
    /// A field's value could not be encoded: its codec or its type refused it, or it has more than
    /// [`MAX_DEPTH`](crate::MAX_DEPTH) levels. Answered 500; nothing was written.
    #[error("the session field `{field}` could not be encoded")]
    Encode {
        /// The field's stored name.
        field: &'static str,
        /// The codec's error.
        source: CodecError,
    },
    /// A field's value would not come back from its encoding as it is. Answered 500; nothing was written.
    #[error("the session field `{field}` would not come back from its encoding as it is: {remedy}")]
    NotReadBack {
        /// The field's stored name.
        field: &'static str,
        /// What to write on the field.
        remedy: &'static str,
    },
    /// The session is larger than the limit. Answered 500; nothing was written.
    #[error("the session takes {size} bytes, of {limit} allowed; the biggest field is `{field}`")]
    TooLarge {
        /// The size of the record in bytes.
        size: usize,
        /// The largest size allowed, in bytes: `max_state_bytes`.
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
    /// A request that changes something does not show that a page of this site has sent it. Answered 403; no handler ran.
    #[error("the request may be forged by another site")]
    Csrf(#[from] CsrfError),
    /// Other requests kept writing the session until the deadline. Answered 503.
    #[error("the session could not be written before the deadline: other requests kept writing it")]
    Contended,
    /// The library was used in a way that cannot work. Answered 500; the text says what to do.
    #[error("{0}")]
    Usage(String),
}

readable_debug!(Error);

impl Error {
    /// Returns whether the store refuses a value for good.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_refused())
    }

    /// Returns whether nothing else can be found out of a write: the store refuses it for good, or has made it and it is not
    /// as durable as asked.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_refused() || error.is_undurable())
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode { field: error.field, source: error.source }
    }
}

impl From<MergeError> for Error {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::Encode { field, source } => Self::Encode { field, source },
            MergeError::Conflict { field } => Self::Conflict { field },
        }
    }
}

/// The reason why a session's token is not accepted. The request continues as an anonymous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The cookie, or the header, is not a token in its canonical form.
    #[error("what the request has is not a session token")]
    Malformed,
    /// The request has the cookie, or the header, more than once. If the cookie's path, domain or `Partitioned` has changed, `former_cookie` of the
    /// builder removes the old one.
    #[error("the request has the session token more than once")]
    Duplicate,
    /// No session has this token: it was never issued, or its session has ended.
    #[error("no session has this token")]
    Unknown,
    /// The session has passed its idle or absolute limit.
    #[error("the session has expired")]
    Expired,
    /// The row does not authenticate, has a value that cannot be read, or its columns differ from the sealed values.
    #[error("the row was tampered with")]
    Tampered,
    /// The row is larger than any that these sessions write. It was not read whole.
    #[error("the stored session is larger than `max_state_bytes`")]
    TooLarge,
    /// The record authenticates and does not decode.
    #[error("the record does not decode, at field `{}`", .field.unwrap_or("-"))]
    Undecodable {
        /// The field that does not decode; `None` if the record itself is malformed.
        field: Option<&'static str>,
    },
    /// The client's address is not the one the session is bound to, or is not known.
    #[error("the session is bound to another address")]
    Address,
    /// The client's user agent is not the one the session is bound to.
    #[error("the session is bound to another user agent")]
    UserAgent,
    /// A session in a cookie is sealed under a key that the keyring does not have, or the client has made the cookie up.
    #[error("the cookie is sealed under a key that is missing from the keyring")]
    UnknownKey,
}

impl Rejection {
    /// Returns the name of the reason, which does not change: words in lower case, for labels of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Duplicate => "duplicate",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Tampered => "tampered",
            Self::TooLarge => "too_large",
            Self::Undecodable { .. } => "undecodable",
            Self::Address => "address",
            Self::UserAgent => "user_agent",
            Self::UnknownKey => "unknown_key",
        }
    }
}

/// The reason why [`Csrf`](crate::Csrf) refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CsrfError {
    /// The browser says that a page of another origin has sent the request (`Sec-Fetch-Site`).
    #[error("`Sec-Fetch-Site` names another origin")]
    CrossSite,
    /// The `Origin` is another one than that of the request.
    #[error(
        "the `Origin` is another one than that of the request; `trusted_origins` names those that may send forms"
    )]
    Origin,
    /// There is no token, neither in the header `X-CSRF-Token` nor in the form's field `csrf_token`.
    #[error(
        "there is no CSRF token, neither in the header `X-CSRF-Token` nor in the form's field `csrf_token`"
    )]
    Missing,
    /// The token is not one of this session: it is of another visitor, or from before a log-in, or made up.
    #[error("the CSRF token is not one of this session")]
    Token,
}
