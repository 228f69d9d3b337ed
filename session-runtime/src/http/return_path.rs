//! The way back after a log-in: a path of this site, and of no other one.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// How many bytes of a path are handed to the log-in page.
const LONGEST: usize = 2048;

/// A path on this site, with its query, to which a log-in page sends its visitor back.
///
/// Where a browser is redirected to log in, the location names it in the parameter `next`. Anyone can write a link to the
/// log-in page with another `next`; what would lead to another site becomes `/` here.
///
/// # Examples
///
/// ```
/// use actix_web::http::header::LOCATION;
/// use actix_web::{HttpResponse, Responder, web};
/// use session_runtime::{Databag, ReturnPath, Session};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
/// }
///
/// #[derive(serde::Deserialize)]
/// struct LogIn {
///     name: String,
///     #[serde(default)]
///     next: ReturnPath,
/// }
///
/// async fn log_in(mut session: Session<Shop>, form: web::Form<LogIn>) -> impl Responder {
///     session.log_in(7);
///     HttpResponse::SeeOther().insert_header((LOCATION, form.next.as_str())).finish()
/// }
/// # let _ = log_in;
///
/// assert_eq!(ReturnPath::new("/orders?page=2").as_str(), "/orders?page=2");
/// assert_eq!(ReturnPath::new("//evil.example/").as_str(), "/");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnPath(String);

impl ReturnPath {
    /// Takes a path; anything else becomes `/`.
    pub fn new(path: impl Into<String>) -> Self {
        let path = path.into();
        if is_local(&path) { Self(path) } else { Self::default() }
    }

    /// Returns the path, for a `Location` header, or a link or a hidden field, where `&` and `'` are escaped as in any text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ReturnPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl AsRef<str> for ReturnPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReturnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ReturnPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Returns whether every browser takes it for a path of the site that it comes from: `//host` and `/\host` name other sites,
/// and browsers remove some control characters before they look (WHATWG URL, 4.4).
fn is_local(path: &str) -> bool {
    path.len() <= LONGEST
        && path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>`".contains(&byte))
}

/// Returns whether it can stand in a `Location` header.
pub(crate) fn is_location(location: &str) -> bool {
    !location.is_empty() && location.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Adds the way back to the location of a log-in page, unless the location names one.
pub(crate) fn with_return_path(location: &str, path: &str) -> String {
    let (page, fragment) = location.split_at(location.find('#').unwrap_or(location.len()));
    let query = page.split_once('?').map(|(_, query)| query);
    let names_one = query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("next=")));
    if names_one || !is_local(path) {
        return location.to_owned();
    }
    let separator = match query {
        None => "?",
        Some("") => "",
        Some(_) => "&",
    };
    format!("{page}{separator}next={}{fragment}", QueryValue(path))
}

/// Shows a text as the value of a parameter.
struct QueryValue<'a>(&'a str);

impl fmt::Display for QueryValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    write!(f, "{}", char::from(byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_of_this_site_is_taken() {
        for local in ["/", "/a", "/a?b=c&d=%2F", "/./", "/a//b", "/@user", "/a:b"] {
            assert_eq!(ReturnPath::new(local).as_str(), local);
        }
        let foreign = [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            " /a",
            "/a b",
            "javascript:alert(1)",
            "/a\r\nSet-Cookie: b=c",
            "/\u{e9}",
            "?a",
            "#a",
            "/a\\..",
            "/\"><script>",
        ];
        for foreign in foreign {
            assert_eq!(ReturnPath::new(foreign).as_str(), "/", "{foreign:?}");
        }
        assert_eq!(ReturnPath::new(format!("/{}", "a".repeat(LONGEST))).as_str(), "/");
    }

    #[test]
    fn a_location_gets_the_way_back_once() {
        let with = |location| with_return_path(location, "/a?b=c&d=%25");
        assert_eq!(with("/login"), "/login?next=/a%3Fb%3Dc%26d%3D%2525");
        assert_eq!(with("/login?"), "/login?next=/a%3Fb%3Dc%26d%3D%2525");
        assert_eq!(with("/login?lang=de#form"), "/login?lang=de&next=/a%3Fb%3Dc%26d%3D%2525#form");
        assert_eq!(with("/login?next=/b"), "/login?next=/b");
        assert_eq!(with_return_path("/login", "//evil.example"), "/login");
    }
}
