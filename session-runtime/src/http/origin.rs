//! Where a request that changes something comes from, as browsers say it: `Sec-Fetch-Site`, and without it `Origin`.
//!
//! Pages cannot write these headers. Other clients send neither, and have no cookies of a visitor to misuse.

use crate::error::{CsrfError, Error};

/// The origins whose pages may send forms.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    trusted: Vec<String>,
    /// Whether browsers send the session cookie over HTTPS alone, so that an origin without TLS is another one.
    needs_https: bool,
}

/// The headers of a request that say where it comes from. A header that is sent twice is `Some(b"")`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provenance<'a> {
    pub(crate) fetch_site: Option<&'a [u8]>,
    pub(crate) origin: Option<&'a [u8]>,
    /// The host and port that the request is for.
    pub(crate) host: Option<&'a str>,
}

impl Origins {
    /// Reads the setting of a builder.
    pub(crate) fn new(trusted: &[String], needs_https: bool) -> Result<Self, Error> {
        if let Some(other) = trusted.iter().find(|origin| !is_origin(origin)) {
            return Err(Error::Config(format!(
                "`trusted_origins`: {other:?} is not an origin as browsers send it: write `https://app.example.com`, in lower \
                 case, without a path and without the scheme's usual port"
            )));
        }
        Ok(Self { trusted: trusted.to_vec(), needs_https })
    }

    /// Checks that a page of this site has sent a request, or of a trusted origin, or no page at all.
    pub(crate) fn check(&self, provenance: Provenance<'_>) -> Result<(), CsrfError> {
        let Provenance { fetch_site, origin, host } = provenance;
        if origin.is_some_and(|origin| self.trusted.iter().any(|trusted| trusted.as_bytes() == origin)) {
            return Ok(());
        }
        match (fetch_site, origin) {
            // The browser has compared the origins. It sends `Origin: null` from pages that hide their address, and knows
            // the host as it was before a proxy has changed it.
            (Some(b"same-origin" | b"none"), _) | (None, None) => Ok(()),
            (Some(_), _) => Err(CsrfError::CrossSite),
            (None, Some(origin)) if self.is_own(origin, host) => Ok(()),
            (None, Some(_)) => Err(CsrfError::Origin),
        }
    }

    fn is_own(&self, origin: &[u8], host: Option<&str>) -> bool {
        let (Ok(origin), Some(host)) = (std::str::from_utf8(origin), host) else { return false };
        let (own, port) = match origin.split_once("://") {
            Some(("https", own)) => (own, ":443"),
            Some(("http", own)) if !self.needs_https => (own, ":80"),
            _ => return false,
        };
        own.eq_ignore_ascii_case(host.strip_suffix(port).unwrap_or(host))
    }
}

/// Returns whether this is an origin as browsers serialise it (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let usual_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let is_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    !host.is_empty() && host.bytes().all(is_host) && !host.ends_with(usual_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        needs_https: bool,
        fetch_site: Option<&str>,
        origin: Option<&str>,
        host: &str,
    ) -> Result<(), CsrfError> {
        let trusted = ["https://app.example.com".to_owned()];
        let origins = Origins::new(&trusted, needs_https).expect("good origins");
        let [fetch_site, origin] = [fetch_site, origin].map(|value| value.map(str::as_bytes));
        origins.check(Provenance { fetch_site, origin, host: Some(host) })
    }

    #[test]
    fn the_word_of_the_browser_decides() {
        let host = "example.com";
        for origin in
            [None, Some("https://example.com"), Some("null"), Some("https://before-the-proxy.example")]
        {
            for site in ["same-origin", "none"] {
                assert_eq!(check(true, Some(site), origin, host), Ok(()), "{site} {origin:?}");
            }
            for site in ["same-site", "cross-site", "Same-Origin", "same-origin, same-origin", "", "other"] {
                assert_eq!(
                    check(true, Some(site), origin, host),
                    Err(CsrfError::CrossSite),
                    "{site} {origin:?}"
                );
            }
        }
    }

    #[test]
    fn without_it_the_origin_is_that_of_the_request() {
        for (origin, host) in [
            ("https://example.com", "example.com"),
            ("https://example.com", "EXAMPLE.com:443"),
            ("https://example.com:8443", "example.com:8443"),
            ("https://[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(check(true, None, Some(origin), host), Ok(()), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "example.com"),
            ("", "example.com"),
            ("http://example.com", "example.com"),
            ("https://example.com:8443", "example.com"),
            ("https://example.com", "example.com:8443"),
            ("https://sub.example.com", "example.com"),
            ("https://example.com.evil.test", "example.com"),
            ("https://example.com https://evil.test", "example.com"),
            ("example.com", "example.com"),
            ("ftp://example.com", "example.com"),
        ] {
            assert_eq!(check(true, None, Some(origin), host), Err(CsrfError::Origin), "{origin} {host}");
        }
        let origins = Origins::new(&[], true).expect("no origins");
        let no_host = Provenance { fetch_site: None, origin: Some(b"https://example.com"), host: None };
        assert_eq!(origins.check(no_host), Err(CsrfError::Origin));
    }

    #[test]
    fn a_site_over_plain_http_takes_forms_of_its_own() {
        assert_eq!(check(false, None, Some("http://127.0.0.1:8080"), "127.0.0.1:8080"), Ok(()));
        assert_eq!(check(false, None, Some("http://localhost"), "localhost:80"), Ok(()));
        let other = check(false, None, Some("http://localhost:1"), "localhost");
        assert_eq!(other, Err(CsrfError::Origin));
    }

    #[test]
    fn a_client_that_is_no_browser_says_nothing() {
        assert_eq!(check(true, None, None, "example.com"), Ok(()));
    }

    #[test]
    fn a_trusted_origin_may_be_another_site() {
        for site in [None, Some("same-site"), Some("cross-site")] {
            assert_eq!(check(true, site, Some("https://app.example.com"), "example.com"), Ok(()));
            assert!(check(true, site, Some("http://app.example.com"), "example.com").is_err());
        }
    }

    #[test]
    fn what_no_browser_sends_is_no_trusted_origin() {
        for other in [
            "",
            "null",
            "*",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://*.example.com",
            "wss://app.example.com",
        ] {
            assert!(Origins::new(&[other.to_owned()], true).is_err(), "{other}");
        }
        let good = ["https://app.example.com:8443".to_owned(), "http://[::1]:3000".to_owned()];
        assert!(Origins::new(&good, true).is_ok());
    }
}
