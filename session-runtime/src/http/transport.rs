//! What carries the token: the cookie, or a header of the application's choice. Which names are valid, and what is read.
//!
//! Knows strings only; `web/` reads and writes the headers.

use super::cookie::is_token;
use crate::error::{Error, Rejection};
use crate::token::Token;

/// Headers that HTTP, browsers, proxies, tracing or this crate give a meaning, so that they cannot carry a token: those of
/// IANA's registry of HTTP field names, and others in wide use. A browser adds some of them by itself, and lets a page of
/// any site set others: a request with one of these could be forged. Proxies and tracing write or replace theirs, and log
/// them.
const RESERVED: &str = "\
    a-im accept activate-storage-access age allow alpn alt-svc alt-used alternates amp-cache-transform \
    apply-to-redirect-ref authorization available-dictionary b3 baggage cal-managed-id capsule-protocol \
    clear-site-data client-ip close concealed-auth-export configuration-context connection cookie \
    cookie2 critical-ch cta-common-access-token dasl date dav default-style delta-base deprecation depth \
    derived-from destination dictionary-id differential-id digest dnt document-policy downlink dpr \
    early-data ect ediint-features etag expect expect-ct expires ext forwarded from front-end-https \
    getprofile grpc-timeout hobareg host idempotency-key if im include-referred-token-binding-id \
    isolation keep-alive label last-event-id last-modified link link-template location lock-token man \
    max-forwards memento-datetime meter method-check method-check-expires mime-version negotiate nel \
    no-vary-search observe-browsing-topics opt optional-www-authenticate ordering-type origin \
    origin-agent-cluster oscore oslc-core-version overwrite p3p pep pep-info permissions-policy \
    pics-label position pragma prefer preference-applied priority profileobject protocol protocol-info \
    protocol-query protocol-request public purpose range redirect-ref refresh remote-addr remote-user \
    replay-nonce reporting-endpoints repr-digest require-document-policy retry-after rtt safe save-data \
    schedule-reply schedule-tag security-scheme sentry-trace server server-timing set-txn setprofile \
    slug soapaction sourcemap speculation-rules status-uri sunset supports-loading-mode tcn te timeout \
    timing-allow-origin tk topic trailer transfer-encoding true-client-ip ttl uber-trace-id \
    unencoded-digest upgrade upgrade-insecure-requests urgency uri use-as-dictionary variant-vary vary \
    via width www-authenticate x-api-key x-att-deviceid x-cache x-client-data x-client-ip x-client-port \
    x-client-proto x-cluster-client-ip x-correlation-id x-do-not-track x-host x-idempotency-key \
    x-method-override x-moz x-originating-ip x-pingback x-pjax x-powered-by x-purpose x-redirect-by \
    x-runtime x-scheme x-served-by x-timer x-uidh x-url-scheme x-user-agent x-version x-via";

/// The beginnings of further ones.
const RESERVED_PREFIXES: &str = "\
    accept- access-control akamai- attribution-reporting- authentication- c- cache- caldav- cdn- cert- \
    cf- client-cert cmcd- cmsd- content- cross-origin- device- dpop fastly- fly- http2- if- odata- ping- \
    proxy- public-key-pins rate-limit ratelimit refer repeatability- sec- service-worker set-cookie \
    signature ssl- strict-transport- surrogate- trace user-agent viewport- want- warning x-accel- \
    x-akamai- x-amz x-appengine- x-arr- x-aspnet x-auth-request- x-azure- x-b3- x-cache- x-client-cert \
    x-cloud-trace x-content- x-csrf x-datadog- x-dns- x-download- x-envoy- x-fastly- x-forward x-frame- \
    x-goog x-http x-lighttpd- x-ms- x-original x-ot- x-permitted- x-proxy x-rate-limit x-ratelimit \
    x-real- x-remote- x-request x-rewrite- x-robots- x-sendfile x-ssl x-tls- x-trace x-ua- x-varnish \
    x-vercel- x-wap- x-webkit- x-xsrf x-xss-";

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
            "traceparent",
            "tracestate",
            "b3",
            "X-B3-TraceId",
            "X-Request-Id",
            "X-Requested-With",
            "X-Correlation-ID",
            "X-Amzn-Trace-Id",
            "X-Cloud-Trace-Context",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Real-IP",
            "X-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "Fastly-Client-IP",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "X-Accel-Redirect",
            "X-Sendfile",
            "X-Frame-Options",
            "X-XSRF-Token",
            "X-Api-Key",
            "Idempotency-Key",
            "Last-Event-ID",
            "Lock-Token",
            "DPoP",
            "Signature-Input",
            "Server-Timing",
            "SoapAction",
            "Want-Repr-Digest",
        ] {
            for transport in [Transport::Header(name), Transport::CookieOrHeader(name)] {
                let refusal = transport.check().expect_err(name).to_string();
                assert!(refusal.contains(&format!("the header {name:?} of `transport`")), "{refusal}");
            }
        }
        assert!(Transport::Header(Box::leak("x".repeat(65).into_boxed_str())).check().is_err());
        for name in
            ["X-Session-Token", "x-session-token", "Session", "Shop-Session", "X-Auth-Token", "App-Token"]
        {
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
