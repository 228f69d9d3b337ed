//! The cookie after RFC 6265bis: which settings are valid, what is written, what is read.
//!
//! Knows strings only; `web/` reads and writes the headers.

use std::fmt::Write as _;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::bag::schema::{CookieSchema, SameSite};
use crate::envelope::CsrfCookie;
use crate::error::{Error, Rejection};
use crate::token::{MAX_COOKIE, Token};

/// What follows the name of the session cookie in the name of the CSRF cookie.
const CSRF_SUFFIX: &str = "-csrf";

/// The prefixes that browsers enforce (RFC 6265bis §4.1.3), a longer one before its beginning. All of them need `Secure`, and
/// those with `Host` the path `/` and no domain; `HttpOnly`, which those with `Http` need, is always set.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Http-", "__Secure-"];

/// The longest attribute that browsers accept, in bytes (RFC 6265bis §5.6).
const MAX_ATTRIBUTE: usize = 1024;

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
    pub(crate) former: Vec<FormerCookie>,
}

/// A cookie that browsers accept.
#[derive(Clone, Debug)]
pub(crate) struct CookieFormat {
    settings: CookieSettings,
    csrf_name: String,
    /// Everything after the value except `Max-Age`.
    attributes: String,
    /// The `Set-Cookie` of each former cookie, which removes it.
    removals: Vec<String>,
}

/// The session cookie as an earlier version of the program has set it, for
/// [`former_cookie`](crate::Builder::former_cookie).
///
/// # Examples
///
/// ```
/// use session_runtime::FormerCookie;
///
/// // `Set-Cookie: shop=..; Path=/till; Domain=example.com`
/// let former = FormerCookie::named("shop").path("/till").domain("example.com");
/// # let _ = former;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerCookie {
    name: String,
    path: String,
    domain: Option<String>,
    partitioned: bool,
}

impl FormerCookie {
    /// Names a cookie with the path `/` and without `Domain` and `Partitioned`.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), path: "/".to_owned(), domain: None, partitioned: false }
    }

    /// Sets the `Path` that it had.
    pub fn path(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Sets the `Domain` that it had.
    pub fn domain(self, domain: impl Into<String>) -> Self {
        Self { domain: Some(domain.into()), ..self }
    }

    /// Sets whether it had `Partitioned`.
    pub fn partitioned(self, partitioned: bool) -> Self {
        Self { partitioned, ..self }
    }

    /// Returns whether a browser takes a cookie with these settings for this one (RFC 6265bis §5.7).
    fn is(&self, cookie: &CookieSettings) -> bool {
        let Self { name, path, domain, partitioned } = self;
        let same_domain = match (domain, &cookie.domain) {
            (Some(former), Some(domain)) => former.eq_ignore_ascii_case(domain),
            (None, None) => true,
            _ => false,
        };
        same_domain && (name, path, partitioned) == (&cookie.name, &cookie.path, &cookie.partitioned)
    }

    /// Returns the settings with which an answer removes it: those that a browser does not compare are the current ones.
    fn settings(&self, current: &CookieSettings) -> CookieSettings {
        let Self { name, path, domain, partitioned } = self.clone();
        let needs_secure = partitioned || prefix(&name).is_some();
        CookieSettings {
            name,
            path,
            domain,
            partitioned,
            // In a frame of another site browsers take no other one.
            same_site: if partitioned { SameSite::None } else { current.same_site },
            secure: current.secure || needs_secure,
            former: Vec::new(),
        }
    }
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
            former: Vec::new(),
        }
    }

    /// Makes a cookie that browsers accept over plain HTTP.
    pub(crate) fn insecure(&mut self) {
        self.secure = false;
        self.partitioned = false;
        if self.same_site == SameSite::None {
            self.same_site = SameSite::Lax;
        }
        self.name = self.bare_name().to_owned();
    }

    /// Returns the name without its prefixes.
    pub(crate) fn bare_name(&self) -> &str {
        let mut name = &*self.name;
        while let Some(prefix) = prefix(name) {
            name = &name[prefix.len()..];
        }
        name
    }

    /// Returns whether browsers let no other host set the cookie.
    pub(crate) fn is_host_only(&self) -> bool {
        prefix(&self.name).is_some_and(|prefix| prefix.starts_with("__Host-"))
    }

    /// Checks that browsers accept such a cookie and the removals of the former ones. They drop others silently.
    pub(crate) fn check(self) -> Result<CookieFormat, Error> {
        let attributes = self.checked_attributes().map_err(Error::Config)?;
        let removal = |former: &FormerCookie| {
            let attributes = former.settings(&self).checked_attributes();
            let attributes =
                attributes.map_err(|refusal| Error::Config(format!("`former_cookie`: {refusal}")))?;
            Ok(removal(&former.name, &attributes))
        };
        let csrf = Self { name: format!("{}{CSRF_SUFFIX}", self.name), ..self.clone() };
        let others = self.former.iter().filter(|former| !former.is(&self) && !former.is(&csrf));
        let removals = others.map(removal).collect::<Result<_, Error>>()?;
        Ok(CookieFormat { attributes, removals, csrf_name: csrf.name, settings: self })
    }

    fn checked_attributes(&self) -> Result<String, String> {
        let Self { name, path, domain, same_site, secure, partitioned, former: _ } = self;
        let refuse = |message: String| Err(message);
        if name.is_empty() || !name.bytes().all(is_token) {
            return refuse(format!(
                "the cookie name {name:?} has characters outside the RFC 6265bis token grammar"
            ));
        }
        if let Some(prefix) = prefix(name) {
            if !name.starts_with(prefix) {
                return refuse(format!("the prefix of the cookie name {name:?} is spelled `{prefix}`"));
            }
            if self.is_host_only() && !(*secure && domain.is_none() && path == "/") {
                return refuse(format!(
                    "the cookie {name:?} needs `Secure`, the path \"/\" and no domain: choose a name without the prefix, or \
                     call `development()` for plain HTTP"
                ));
            }
            if !secure {
                return refuse(format!("the cookie {name:?} needs `Secure`"));
            }
        }
        if *same_site == SameSite::None && !secure {
            return refuse("`SameSite=None` needs `Secure`".to_owned());
        }
        if *partitioned && !secure {
            return refuse("`Partitioned` needs `Secure`".to_owned());
        }
        if !path.starts_with('/') || path.ends_with(' ') || !path.bytes().all(is_attribute) {
            return refuse(format!(
                "the cookie path {path:?} is not a path: it begins with `/`, does not end with a space and has no `;`"
            ));
        }
        if path.len() > MAX_ATTRIBUTE {
            return refuse(format!(
                "the cookie path has {} bytes: browsers ignore one of more than {MAX_ATTRIBUTE}, write \"/\"",
                path.len()
            ));
        }
        if let Some(domain) = domain
            && !is_domain(domain)
        {
            return refuse(format!("the cookie domain {domain:?} is not a domain"));
        }
        let attributes = self.attributes();
        // Servers and proxies bound the whole of Set-Cookie too; all of them accept 4096.
        let longest = Token::ENCODED_LEN.max(CSRF_SUFFIX.len() + CsrfCookie::ENCODED_LEN);
        if name.len() + longest > MAX_COOKIE || attributes.len() > MAX_COOKIE {
            return refuse(format!("the cookie {name:?} takes more than {MAX_COOKIE} bytes"));
        }
        Ok(attributes)
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
    pub(crate) fn set(&self, token: &Token, remembered: bool, life: Duration) -> Zeroizing<String> {
        const MAX_AGE_LEN: usize = "; Max-Age=".len() + 20;
        let (name, value) = (&self.settings.name, token.encode());
        let length = name.len() + 1 + value.len() + self.attributes.len() + MAX_AGE_LEN;
        // A string that grows would leave copies behind.
        let mut header = Zeroizing::new(String::with_capacity(length));
        let _ = write!(header, "{name}={}{}", *value, self.attributes);
        if remembered {
            let _ = write!(header, "; Max-Age={}", life.min(MAX_AGE).as_secs());
        }
        header
    }

    /// Writes the value of the `Set-Cookie` header that removes the cookie. With other attributes a browser would take it
    /// for another cookie.
    pub(crate) fn removal(&self) -> String {
        removal(&self.settings.name, &self.attributes)
    }

    /// Writes the value of the `Set-Cookie` header of the CSRF cookie, which ends with the browser.
    pub(crate) fn csrf_set(&self, cookie: &CsrfCookie) -> String {
        format!("{}{}", self.csrf_pair(cookie), self.attributes)
    }

    /// Writes the CSRF cookie as a client sends it.
    pub(crate) fn csrf_pair(&self, cookie: &CsrfCookie) -> String {
        format!("{}={}", self.csrf_name, cookie.encode())
    }

    /// Writes the value of the `Set-Cookie` header that removes the CSRF cookie.
    pub(crate) fn csrf_removal(&self) -> String {
        removal(&self.csrf_name, &self.attributes)
    }

    /// Returns the values of the `Set-Cookie` headers that remove the former cookies.
    pub(crate) fn former_removals(&self) -> &[String] {
        &self.removals
    }

    /// Returns whether the former cookies of this one include that one.
    pub(crate) fn was(&self, other: &Self) -> bool {
        self.settings.former.iter().any(|former| former.is(&other.settings))
    }

    /// Returns whether this is the name of the cookie, of its CSRF cookie, or of a former one.
    pub(crate) fn is_name(&self, name: &[u8]) -> bool {
        let former = self.settings.former.iter().map(|former| &former.name);
        former.chain([&self.settings.name, &self.csrf_name]).any(|own| own.as_bytes() == name)
    }

    /// Returns a name that a cookie of this format and one of the other both have.
    pub(crate) fn shared_name(&self, other: &Self) -> Option<&str> {
        let names = [other.name(), &other.csrf_name];
        [self.name(), &self.csrf_name].into_iter().find(|name| names.contains(name))
    }

    /// Finds the cookies in the `Cookie` headers of a request. Names are compared as they are, never decoded
    /// (CVE-2020-8184). Two session cookies are refused in either order; a CSRF cookie that is sent twice, or has another
    /// form, is none.
    pub(crate) fn find<'a>(&self, headers: impl Iterator<Item = &'a [u8]>) -> Found {
        let (mut token, mut csrf) = ([None; 2], [None; 2]);
        for pair in headers.flat_map(|header| header.split(|byte| *byte == b';')) {
            // One space follows the semicolon; any other character belongs to the name.
            let pair = pair.strip_prefix(b" ").unwrap_or(pair);
            let Some(rest) = pair.strip_prefix(self.settings.name.as_bytes()) else { continue };
            let csrf_value = |rest: &'a [u8]| rest.strip_prefix(CSRF_SUFFIX.as_bytes())?.strip_prefix(b"=");
            if let Some(value) = rest.strip_prefix(b"=") {
                token = [Some(value), token[0]];
            } else if let Some(value) = csrf_value(rest) {
                csrf = [Some(value), csrf[0]];
            }
        }
        let token = match token {
            [_, Some(_)] => Err(Rejection::Duplicate),
            [None, None] => Ok(None),
            [Some(value), None] => {
                let token = std::str::from_utf8(value).ok().and_then(Token::parse);
                token.map(Some).ok_or(Rejection::Malformed)
            }
        };
        let csrf = if let [Some(value), None] = csrf { CsrfCookie::parse(value) } else { None };
        Found { token, csrf }
    }
}

/// The cookies of a request.
pub(crate) struct Found {
    pub(crate) token: Result<Option<Token>, Rejection>,
    pub(crate) csrf: Option<CsrfCookie>,
}

/// Returns the prefix that a name begins with, in any case, as browsers compare it (RFC 6265bis §5.7).
fn prefix(name: &str) -> Option<&'static str> {
    let begins =
        |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    PREFIXES.into_iter().find(begins)
}

fn removal(name: &str, attributes: &str) -> String {
    format!("{name}={attributes}; Max-Age=0")
}

/// A character of the name of a cookie or a header: `token` of RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
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
            former: Vec::new(),
        }
    }

    fn format() -> CookieFormat {
        settings().check().expect("a good cookie")
    }

    fn token() -> Token {
        Token::from_bytes([1; 32])
    }

    fn find(headers: &[&str]) -> Result<Option<String>, Rejection> {
        let token = format().find(headers.iter().map(|header| header.as_bytes())).token?;
        Ok(token.map(|token| token.encode().to_string()))
    }

    #[test]
    fn a_browser_session_cookie_has_no_date() {
        let header = format().set(&token(), false, Duration::from_mins(1));
        let value = token().encode();
        assert_eq!(*header, format!("__Host-shop={}; HttpOnly; SameSite=Lax; Secure; Path=/", *value));
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
    fn a_former_cookie_is_removed_with_the_attributes_that_it_had() {
        let former = vec![
            FormerCookie::named("__Host-shop").partitioned(true),
            FormerCookie::named("shop").path("/a").domain("example.com"),
            // The cookie itself.
            FormerCookie::named("__Host-shop"),
        ];
        let format = CookieSettings { former, ..settings() }.check().expect("good cookies");
        assert_eq!(
            format.former_removals(),
            [
                "__Host-shop=; HttpOnly; SameSite=None; Secure; Path=/; Partitioned; Max-Age=0",
                "shop=; HttpOnly; SameSite=Lax; Secure; Path=/a; Domain=example.com; Max-Age=0",
            ]
        );
    }

    #[test]
    fn a_former_cookie_that_no_browser_has_is_refused() {
        for former in [
            FormerCookie::named("a b"),
            FormerCookie::named("shop").path("a"),
            FormerCookie::named("shop").domain(".example.com"),
            FormerCookie::named("__Host-shop").path("/a"),
        ] {
            let refused = CookieSettings { former: vec![former], ..settings() }.check();
            let refusal = refused.expect_err("it is refused").to_string();
            assert!(refusal.contains("`former_cookie`: the cookie"), "{refusal}");
        }
    }

    #[test]
    fn a_former_cookie_does_not_hinder_plain_http() {
        let former = ["__Host-shop", "__Http-shop", "__Secure-shop"].map(FormerCookie::named).into_iter();
        let former = former.chain([FormerCookie::named("shop").partitioned(true)]).collect();
        let mut settings = CookieSettings { former, ..settings() };
        settings.insecure();
        assert_eq!(settings.check().expect("good cookies").former_removals().len(), 4);
    }

    #[test]
    fn plain_http_takes_the_name_without_its_prefix() {
        for prefix in PREFIXES {
            let mut settings = CookieSettings { name: format!("{prefix}shop"), ..settings() };
            settings.insecure();
            assert_eq!(settings.check().expect("a good cookie").name(), "shop");
        }
    }

    #[test]
    fn cookies_that_browsers_drop_are_refused() {
        type Change = fn(&mut CookieSettings);
        let changes: [(&str, Change); 21] = [
            ("empty name", |c| c.name.clear()),
            ("name with a space", |c| c.name = "a b".to_owned()),
            ("name with a separator", |c| c.name = "a;b".to_owned()),
            ("prefix in another case", |c| c.name = "__host-shop".to_owned()),
            ("secure prefix in another case", |c| c.name = "__SECURE-shop".to_owned()),
            ("http prefix in another case", |c| c.name = "__http-shop".to_owned()),
            ("host and http prefix in another case", |c| c.name = "__Host-HTTP-shop".to_owned()),
            ("http without secure", |c| (c.name, c.secure) = ("__Http-s".to_owned(), false)),
            ("host and http without secure", |c| (c.name, c.secure) = ("__Host-Http-s".to_owned(), false)),
            ("host and http with a path", |c| {
                (c.name, c.path) = ("__Host-Http-s".to_owned(), "/shop".to_owned());
            }),
            ("host and http with a domain", |c| {
                (c.name, c.domain) = ("__Host-Http-s".to_owned(), Some("example.com".to_owned()));
            }),
            ("a long path", |c| (c.name, c.path) = ("s".to_owned(), format!("/{}", "p".repeat(1024)))),
            ("host with a domain", |c| c.domain = Some("example.com".to_owned())),
            ("host with a path", |c| c.path = "/shop".to_owned()),
            ("host without secure", |c| c.secure = false),
            ("path that browsers shorten", |c| (c.name, c.path) = ("shop".to_owned(), "/shop ".to_owned())),
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
    fn cookies_of_each_prefix_and_the_longest_path_are_accepted() {
        for name in ["__Host-Http-s", "__Host-s", "__Http-s", "__Secure-s"] {
            let settings = CookieSettings { name: name.to_owned(), ..settings() };
            assert_eq!(settings.is_host_only(), name.starts_with("__Host-"));
            assert!(settings.check().is_ok(), "{name}");
        }
        let (name, path) = ("s".to_owned(), format!("/{}", "p".repeat(1023)));
        assert!(CookieSettings { name, path, ..settings() }.check().is_ok());
    }

    #[test]
    fn over_plain_http_the_name_has_no_prefix() {
        for name in ["__Host-Http-s", "__host-s", "__HTTP-s", "__Secure-s", "__Host-__Secure-s", "s"] {
            let mut settings = CookieSettings { name: name.to_owned(), ..settings() };
            settings.insecure();
            assert_eq!((&*settings.name, settings.secure), ("s", false), "{name}");
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

    /// Cookies of other programs follow no grammar (RFC 6265bis §5 asks none of a browser).
    #[test]
    fn the_cookie_is_found_beside_any_others() {
        let value = token().encode();
        let pair = format!("__Host-shop={}", *value);
        for headers in [
            &[&*format!("$Version=1; {pair}; $Path=/")][..],
            &[&format!("a=\"x y\"; {pair}")],
            // Quotes hide nothing: a browser sends a value as it was set.
            &[&format!("a=\"; {pair}; b=\"")],
            &[&format!("=nameless; {pair}; =")],
            &[&format!("__Host-shop; {pair}")],
            &[&format!(" ; ;;{pair};")],
            &[&format!("a=b=c;{pair}; a=d")],
            // HTTP/2 may send each cookie in a field of its own (RFC 9113 §8.2.3).
            &["a=b", &pair, "c=d"],
            &["", &format!("{pair}; "), ";"],
        ] {
            assert_eq!(find(headers), Ok(Some(value.to_string())), "{headers:?}");
        }
        let latin = [&b"a=\xe9\xff; "[..], pair.as_bytes()].concat();
        assert!(matches!(format().find([&*latin].into_iter()).token, Ok(Some(_))));
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
