//! What carries the token: the cookie, or a header of the application's choice. Which names are valid, and what is read.
//!
//! Knows strings only; `web/` reads and writes the headers.

use super::cookie::is_token;
use crate::error::{Error, Rejection};
use crate::token::Token;

/// Headers that HTTP, browsers, proxies or this crate give a meaning, so that they cannot carry a token. A browser adds some
/// of them by itself, and lets a page of any site set others: a request with one of these could be forged.
const RESERVED: &str = "\
    accept age allow alt-svc alt-used authorization baggage cache-control clear-site-data connection \
    cookie cookie2 date dnt downlink dpr early-data ect etag expect expires forwarded from host \
    http2-settings keep-alive last-event-id last-modified link location max-forwards origin pragma \
    priority purpose range refresh retry-after rtt save-data server service-worker te traceparent \
    trailer transfer-encoding upgrade upgrade-insecure-requests vary via www-authenticate";

/// The beginnings of further ones.
const RESERVED_PREFIXES: &str = "\
    accept- access-control- cdn- content- cross-origin- device- if- ping- proxy- refer sec- \
    set-cookie strict-transport- surrogate- user-agent viewport- warning x-csrf-token x-forwarded- \
    x-real-ip";

/// The longest name of a header.
const MAX_NAME: usize = 64;

/// What carries the token of a session, for [`transport`](crate::Builder::transport).
///
/// | | `Cookie` | `Header(name)` | `CookieOrHeader(name)` |
/// | --- | --- | --- | --- |
/// | for | browsers | apps and APIs | both, on the same handlers |
/// | a request without either | a new visitor with a cookie | a new visitor with a header | a new visitor with a cookie |
/// | a request with the header | the header is not read | the header counts | the header counts, and the cookie is not read |
/// | [`Csrf`](crate::Csrf) asks for a token | always | never | of requests without the header |
///
/// # What a client does
///
/// It sends the header with each request: empty at first, then with what the last answer that had this header has said. An
/// answer has it when the session is new or has another token, as after a log-in, and then it has `Cache-Control: no-store`.
/// It is empty when this request has ended the session: a header that is absent means that the request has changed nothing of it.
///
/// ```text
/// POST /login                         200 OK
/// X-Session-Token:                    X-Session-Token: 2zR5..
///
/// GET /cart                           200 OK
/// X-Session-Token: 2zR5..
///
/// POST /logout                        200 OK
/// X-Session-Token: 2zR5..             X-Session-Token:
/// ```
///
/// The client keeps the token as it would keep a password. Unlike an `HttpOnly` cookie, scripts of a page can read it: prefer
/// the cookie in browsers. A page of another origin sees the header if CORS allows and exposes it.
///
/// # Why the header alone counts
///
/// Anyone who controls a neighbouring host can plant a cookie in a browser; nobody can plant a header, for which a page of
/// another origin needs the permission of CORS. So a request with the header, even an empty one, is served by it alone: a planted
/// cookie neither opens a session for it nor stops it. Its answer sets and removes no cookie. A header that is sent twice is
/// [`Rejection::Duplicate`].
///
/// # Examples
///
/// ```
/// use session_runtime::Transport::Header;
/// use session_runtime::{Databag, Error, Keyring, Sessions, SqliteStore};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// # async fn start(store: SqliteStore, keyring: Keyring) -> Result<(), Error> {
/// let sessions = Sessions::<Shop>::builder(store)
///     .keyring(keyring)
///     .transport(Header("X-Session-Token"))
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// The cookie. Headers are not read.
    #[default]
    Cookie,
    /// The header of this name. Cookies are not read, and none is set.
    Header(&'static str),
    /// The header of this name, if a request has it, and otherwise the cookie.
    CookieOrHeader(&'static str),
}

impl Transport {
    /// Returns the name of the header.
    pub(crate) fn header(self) -> Option<&'static str> {
        match self {
            Self::Cookie => None,
            Self::Header(name) | Self::CookieOrHeader(name) => Some(name),
        }
    }

    pub(crate) fn uses_cookies(self) -> bool {
        !matches!(self, Self::Header(_))
    }

    /// Returns whether a request is served by its header; `has_header` tells whether it has one of the name.
    pub(crate) fn is_by_header(self, has_header: impl FnOnce(&str) -> bool) -> bool {
        match self {
            Self::Cookie => false,
            Self::Header(_) => true,
            Self::CookieOrHeader(name) => has_header(name),
        }
    }

    /// Checks that the header can carry a token and nothing else.
    pub(crate) fn check(self) -> Result<(), Error> {
        let Some(name) = self.header() else { return Ok(()) };
        let lower = name.to_ascii_lowercase();
        let refusal = if name.is_empty() || !name.bytes().all(is_token) {
            "is not the name of a header (`token` of RFC 9110 §5.6.2)"
        } else if name.len() > MAX_NAME {
            "is longer than 64 characters"
        } else if RESERVED.split(' ').any(|reserved| lower == reserved)
            || RESERVED_PREFIXES.split(' ').any(|prefix| lower.starts_with(prefix))
            || lower.ends_with("-cache-control")
        {
            "has a meaning of its own, to HTTP, to browsers, to proxies or to this crate"
        } else {
            return Ok(());
        };
        Err(Error::Config(format!(
            "the header {name:?} of `transport` {refusal}: choose another one, such as `X-Session-Token`"
        )))
    }
}

/// Finds the token in the values of the header of a request. An empty value asks for a new session.
pub(crate) fn find<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<Token>, Rejection> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Rejection::Duplicate);
    }
    if value.is_empty() {
        return Ok(None);
    }
    let token = std::str::from_utf8(value).ok().and_then(Token::parse);
    token.map(Some).ok_or(Rejection::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_means_something_else_carries_no_token() {
        for name in [
            "",
            "X Session",
            "X-Session:",
            "X-S\u{e9}ssion",
            "Cookie",
            "SET-COOKIE",
            "Set-Cookie2",
            "authorization",
            "Content-Type",
            "Accept",
            "Accept-Language",
            "Origin",
            "Referer",
            "Host",
            "Sec-Fetch-Site",
            "Proxy-Token",
            "X-CSRF-Token",
            "X-Forwarded-For",
            "Forwarded",
            "Vary",
            "CDN-Cache-Control",
            "Cache-Control",
            "User-Agent",
            "If-Match",
            "Access-Control-Allow-Origin",
        ] {
            for transport in [Transport::Header(name), Transport::CookieOrHeader(name)] {
                let refusal = transport.check().expect_err(name).to_string();
                assert!(refusal.contains(&format!("the header {name:?} of `transport`")), "{refusal}");
            }
        }
        assert!(Transport::Header(Box::leak("x".repeat(65).into_boxed_str())).check().is_err());
        for name in ["X-Session-Token", "x-session-token", "Session", "Shop-Session", "X-Auth-Token"] {
            assert!(Transport::Header(name).check().is_ok(), "{name}");
        }
        assert!(Transport::Cookie.check().is_ok());
    }

    #[test]
    fn a_header_has_one_token_in_its_canonical_form_or_none() {
        let token = Token::from_bytes([1; 32]);
        let text = token.encode();
        let find = |values: &[&str]| {
            let found = find(values.iter().map(|value| value.as_bytes()))?;
            Ok(found.map(|token| token.session_id()))
        };
        assert_eq!(find(&[]), Ok(None));
        assert_eq!(find(&[""]), Ok(None));
        assert_eq!(find(&[&text]), Ok(Some(token.session_id())));
        assert_eq!(find(&[&text, &text]), Err(Rejection::Duplicate));
        assert_eq!(find(&["", ""]), Err(Rejection::Duplicate));
        for malformed in [format!("{}=", *text), format!("Bearer {}", *text), format!("{0}, {0}", *text)] {
            assert_eq!(find(&[&malformed]), Err(Rejection::Malformed), "{malformed}");
        }
    }
}
