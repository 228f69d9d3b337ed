//! The cookie after RFC 6265bis: which settings are valid, what is written, what is read.
//!
//! Knows strings only; `web/` reads and writes the headers.

use std::fmt::Write as _;
use std::time::Duration;

use crate::bag::schema::{CookieSchema, SameSite};
use crate::error::{Error, Rejection};
use crate::token::{MAX_COOKIE, Token};

/// The longest life of a cookie (RFC 6265bis §5.6.2).
const MAX_AGE: Duration = Duration::from_hours(400 * 24);

/// The attributes of the cookie while a builder changes them.
#[derive(Clone, Debug)]
pub(crate) struct CookieSettings {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) same_site: SameSite,
    pub(crate) secure: bool,
    pub(crate) partitioned: bool,
}

/// A cookie that browsers accept.
#[derive(Clone, Debug)]
pub(crate) struct CookieFormat {
    settings: CookieSettings,
    /// Everything after the value except `Max-Age`.
    attributes: String,
}

impl CookieSettings {
    pub(crate) fn new(schema: &CookieSchema) -> Self {
        Self {
            name: schema.name.to_owned(),
            path: schema.path.to_owned(),
            domain: schema.domain.map(str::to_owned),
            same_site: schema.same_site,
            secure: schema.secure,
            partitioned: schema.partitioned,
        }
    }

    /// Makes a cookie that browsers accept over plain HTTP.
    pub(crate) fn insecure(&mut self) {
        self.secure = false;
        for prefix in ["__Host-", "__Secure-"] {
            if let Some(name) = self.name.strip_prefix(prefix) {
                self.name = name.to_owned();
            }
        }
    }

    /// Checks that browsers accept such a cookie. They drop others silently.
    pub(crate) fn check(self) -> Result<CookieFormat, Error> {
        let Self { name, path, domain, same_site, secure, partitioned } = &self;
        let refuse = |message: String| Err(Error::Config(message));
        if name.is_empty() || !name.bytes().all(is_token) {
            return refuse(format!(
                "the cookie name {name:?} has characters outside the RFC 6265bis token grammar"
            ));
        }
        let prefixed =
            |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if (prefixed("__Host-") && !name.starts_with("__Host-"))
            || (prefixed("__Secure-") && !name.starts_with("__Secure-"))
        {
            return refuse(format!(
                "the prefix of the cookie name {name:?} is spelled `__Host-` or `__Secure-`"
            ));
        }
        if prefixed("__Host-") && !(*secure && domain.is_none() && path == "/") {
            return refuse(format!(
                "the cookie {name:?} needs `Secure`, the path \"/\" and no domain: choose a name without the prefix, or call \
                 `development()` for plain HTTP"
            ));
        }
        if prefixed("__Secure-") && !secure {
            return refuse(format!("the cookie {name:?} needs `Secure`"));
        }
        if *same_site == SameSite::None && !secure {
            return refuse("`SameSite=None` needs `Secure`".to_owned());
        }
        if *partitioned && !secure {
            return refuse("`Partitioned` needs `Secure`".to_owned());
        }
        if !path.starts_with('/') || !path.bytes().all(is_attribute) {
            return refuse(format!(
                "the cookie path {path:?} is not a path: it begins with `/` and has no `;`"
            ));
        }
        if let Some(domain) = domain
            && !is_domain(domain)
        {
            return refuse(format!("the cookie domain {domain:?} is not a domain"));
        }
        let attributes = self.attributes();
        // Servers and proxies bound the whole of Set-Cookie too; all of them accept 4096.
        if name.len() + Token::ENCODED_LEN > MAX_COOKIE || attributes.len() > MAX_COOKIE {
            return refuse(format!("the cookie {name:?} takes more than {MAX_COOKIE} bytes"));
        }
        Ok(CookieFormat { attributes, settings: self })
    }

    fn attributes(&self) -> String {
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let mut attributes = format!("; HttpOnly; SameSite={same_site}");
        if self.secure {
            attributes.push_str("; Secure");
        }
        let _ = write!(attributes, "; Path={}", self.path);
        if let Some(domain) = &self.domain {
            let _ = write!(attributes, "; Domain={domain}");
        }
        if self.partitioned {
            attributes.push_str("; Partitioned");
        }
        attributes
    }
}

impl CookieFormat {
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(crate) fn settings(&self) -> &CookieSettings {
        &self.settings
    }

    /// Writes the value of a `Set-Cookie` header. The cookie of a `remembered` session outlives the browser: for as long
    /// as the session lives.
    pub(crate) fn set(&self, token: &Token, remembered: bool, life: Duration) -> String {
        let mut header = format!("{}={}{}", self.settings.name, *token.encode(), self.attributes);
        if remembered {
            let _ = write!(header, "; Max-Age={}", life.min(MAX_AGE).as_secs());
        }
        header
    }

    /// Writes the value of the `Set-Cookie` header that removes the cookie. With other attributes a browser would take it
    /// for another cookie.
    pub(crate) fn removal(&self) -> String {
        format!("{}={}; Max-Age=0", self.settings.name, self.attributes)
    }

    /// Finds the token in the `Cookie` headers of a request. Names are compared as they are, never decoded
    /// (CVE-2020-8184), and two cookies of the name are refused in either order.
    pub(crate) fn find<'a>(
        &self,
        headers: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Token>, Rejection> {
        let mut found = None;
        for pair in headers.flat_map(|header| header.split(|byte| *byte == b';')) {
            // One space follows the semicolon; any other character belongs to the name.
            let pair = pair.strip_prefix(b" ").unwrap_or(pair);
            let Some(value) = pair.strip_prefix(self.settings.name.as_bytes()) else { continue };
            let Some(value) = value.strip_prefix(b"=") else { continue };
            if found.replace(value).is_some() {
                return Err(Rejection::Duplicate);
            }
        }
        let Some(value) = found else { return Ok(None) };
        let token = std::str::from_utf8(value).ok().and_then(Token::parse);
        token.map(Some).ok_or(Rejection::Malformed)
    }
}

/// A character of a cookie's name: `token` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A character of an attribute's value: any but controls and `;`.
fn is_attribute(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b';'
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    domain.len() <= 253 && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CookieSettings {
        CookieSettings {
            name: "__Host-shop".to_owned(),
            path: "/".to_owned(),
            domain: None,
            same_site: SameSite::Lax,
            secure: true,
            partitioned: false,
        }
    }

    fn format() -> CookieFormat {
        settings().check().expect("a good cookie")
    }

    fn token() -> Token {
        Token::from_bytes([1; 32])
    }

    fn find(headers: &[&str]) -> Result<Option<String>, Rejection> {
        let token = format().find(headers.iter().map(|header| header.as_bytes()))?;
        Ok(token.map(|token| token.encode().to_string()))
    }

    #[test]
    fn a_browser_session_cookie_has_no_date() {
        let header = format().set(&token(), false, Duration::from_mins(1));
        let value = token().encode();
        assert_eq!(header, format!("__Host-shop={}; HttpOnly; SameSite=Lax; Secure; Path=/", *value));
    }

    #[test]
    fn a_remembered_cookie_lives_as_long_as_the_session_and_at_most_400_days() {
        let max_age = |life| format().set(&token(), true, life).rsplit("; ").next().map(str::to_owned);
        assert_eq!(max_age(Duration::from_mins(1)).as_deref(), Some("Max-Age=60"));
        assert_eq!(max_age(Duration::MAX).as_deref(), Some("Max-Age=34560000"));
    }

    #[test]
    fn the_removal_carries_the_same_attributes() {
        assert_eq!(format().removal(), "__Host-shop=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0");
    }

    #[test]
    fn cookies_that_browsers_drop_are_refused() {
        type Change = fn(&mut CookieSettings);
        let changes: [(&str, Change); 12] = [
            ("empty name", |c| c.name.clear()),
            ("name with a space", |c| c.name = "a b".to_owned()),
            ("name with a separator", |c| c.name = "a;b".to_owned()),
            ("prefix in another case", |c| c.name = "__host-shop".to_owned()),
            ("host with a domain", |c| c.domain = Some("example.com".to_owned())),
            ("host with a path", |c| c.path = "/shop".to_owned()),
            ("host without secure", |c| c.secure = false),
            ("secure prefix without secure", |c| (c.name, c.secure) = ("__Secure-s".to_owned(), false)),
            ("none without secure", |c| {
                (c.name, c.secure, c.same_site) = ("s".to_owned(), false, SameSite::None);
            }),
            ("partitioned without secure", |c| {
                (c.name, c.secure, c.partitioned) = ("s".to_owned(), false, true);
            }),
            ("path with a separator", |c| (c.name, c.path) = ("s".to_owned(), "/a;b".to_owned())),
            ("domain with a separator", |c| (c.name, c.domain) = ("s".to_owned(), Some("a;b".to_owned()))),
        ];
        for (what, change) in changes {
            let mut settings = settings();
            change(&mut settings);
            assert!(settings.check().is_err(), "{what}");
        }
    }

    #[test]
    fn the_name_is_matched_exactly() {
        let value = token().encode();
        assert_eq!(find(&[&format!("a=b; __Host-shop={}; c=d", *value)]), Ok(Some(value.to_string())));
        for other in [
            "%5F%5FHost-shop=",
            "__host-shop=",
            "  __Host-shop=",
            "\t__Host-shop=",
            "__Host-shop =",
            "x__Host-shop=",
        ] {
            assert_eq!(find(&[&format!("{other}{}", *value)]), Ok(None), "{other}");
        }
    }

    #[test]
    fn two_cookies_of_the_name_are_refused_in_either_order() {
        let good = format!("__Host-shop={}", *token().encode());
        for headers in [&[&*good, "__Host-shop=x"], &["__Host-shop=x", &*good], &[&*good, &*good]] {
            assert_eq!(find(headers), Err(Rejection::Duplicate));
            assert_eq!(find(&[&headers.join("; ")]), Err(Rejection::Duplicate));
        }
    }

    #[test]
    fn a_value_that_is_no_token_is_malformed() {
        let value = token().encode();
        for malformed in
            ["", "x", &format!("\"{}\"", *value), &format!("{} ", *value), &format!("{}=", *value)]
        {
            assert_eq!(
                find(&[&format!("__Host-shop={malformed}")]),
                Err(Rejection::Malformed),
                "{malformed:?}"
            );
        }
    }
}
