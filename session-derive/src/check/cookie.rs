//! Checks the cookie against RFC 6265bis, so that browsers accept it.

use syn::LitStr;

use super::choice::choose;
use crate::attr::StructAttrs;
use crate::errors::Errors;
use crate::model::{Cookie, Persistence, SameSite};

/// The prefixes that browsers enforce (RFC 6265bis §4.1.3). All of them need `Secure`.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Http-", "__Secure-"];

/// The largest cookie with its attributes (RFC 6265 §6.1), and the largest attribute (RFC 6265bis §5.6), that
/// browsers accept, in bytes.
const COOKIE_LIMIT: usize = 4096;
const ATTRIBUTE_LIMIT: usize = 1024;
/// `=`, a token of 43 characters, and `; Path=; Secure; HttpOnly; SameSite=Lax; Max-Age=34560000`.
const TOKEN_AND_ATTRIBUTES: usize = 1 + 43 + 57;

pub(super) fn check_cookie(attrs: &StructAttrs, errors: &Errors) -> Cookie {
    let name = attrs.cookie.text().unwrap_or_else(|| "__Host-session".to_owned());
    let path = attrs.path.text().unwrap_or_else(|| "/".to_owned());
    let domain = attrs.domain.text();
    let same_sites = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let same_site = choose("same_site", &attrs.same_site, &same_sites, errors).unwrap_or(SameSite::Lax);
    let persistences = [("browser", Persistence::Browser), ("persistent", Persistence::Persistent)];
    let persistence =
        choose("persistence", &attrs.persistence, &persistences, errors).unwrap_or(Persistence::Browser);
    let secure = attrs.secure.value().is_none_or(|secure| secure.0);
    let partitioned = attrs.partitioned.value().is_some_and(|partitioned| partitioned.0);

    if let Some(literal) = attrs.cookie.value() {
        check_cookie_name(literal, errors);
    }
    if let Some(literal) = attrs.path.value() {
        check_cookie_path(literal, errors);
    }
    if let Some(literal) = attrs.domain.value() {
        check_cookie_domain(literal, errors);
    }
    let unreadable = attrs.cookie.is_given() && attrs.cookie.value().is_none();
    if !unreadable {
        check_cookie_prefix(attrs, &name, &path, secure, errors);
    }
    if !secure && same_site == SameSite::None {
        errors.push(
            attrs.same_site.value(),
            "`same_site = \"none\"` needs `secure`",
            "browsers drop such a cookie unless it is `Secure`; remove `secure = false`, or write `same_site = \"lax\"`",
        );
    }
    if let Some(key) = attrs.partitioned.key().filter(|_| partitioned && !secure) {
        errors.push(
            key,
            "`partitioned` needs `secure`",
            "browsers drop such a cookie unless it is `Secure`; remove `secure = false` or `partitioned`",
        );
    }
    let cookie = Cookie { name, path, domain, same_site, secure, partitioned, persistence };
    check_cookie_size(attrs, &cookie, errors);
    cookie
}

/// Checks the size of every `Set-Cookie`: it does not depend on the content of the session.
fn check_cookie_size(attrs: &StructAttrs, cookie: &Cookie, errors: &Errors) {
    let Cookie { name, path, domain, .. } = cookie;
    if let Some(literal) = attrs.path.value().filter(|_| path.len() > ATTRIBUTE_LIMIT) {
        errors.push(
            literal,
            format_args!("the cookie path has {} bytes", path.len()),
            format_args!("browsers ignore an attribute of more than {ATTRIBUTE_LIMIT} bytes (RFC 6265bis §5.6); write `path = \"/\"`"),
        );
        return;
    }
    let domain = domain.as_ref().map_or(0, |domain| "; Domain=".len() + domain.len());
    let size = name.len() + TOKEN_AND_ATTRIBUTES + path.len() + domain;
    if let Some(literal) = attrs.cookie.value().filter(|_| size > COOKIE_LIMIT) {
        errors.push(
            literal,
            format_args!("the cookie with its attributes has {size} bytes"),
            format_args!("browsers may drop a cookie of more than {COOKIE_LIMIT} bytes (RFC 6265 §6.1); write a shorter name, `cookie = \"__Host-session\"`"),
        );
    }
}

fn check_cookie_name(literal: &LitStr, errors: &Errors) {
    let name = literal.value();
    let is_token = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c);
    if name.is_empty() {
        errors.push(
            literal,
            "the cookie name is empty",
            "write `cookie = \"__Host-session\"`, or remove the attribute",
        );
    } else if let Some(wrong) = name.chars().find(|c| !is_token(*c)) {
        let mended: String = name.chars().map(|c| if is_token(c) { c } else { '-' }).collect();
        errors.push(
            literal,
            format_args!("a cookie name cannot contain {wrong:?}"),
            format_args!(
                "write `cookie = \"{mended}\"`; allowed are letters, digits and ``!#$%&'*+-.^_`|~`` (RFC 6265bis)"
            ),
        );
    }
    for prefix in PREFIXES {
        let written = name.get(..prefix.len()).filter(|written| written.eq_ignore_ascii_case(prefix));
        if let Some(written) = written {
            if written != prefix {
                errors.push(
                    literal,
                    format_args!("the cookie prefix `{written}` must be written `{prefix}`"),
                    format_args!("write `cookie = \"{prefix}{}\"`", &name[prefix.len()..]),
                );
            }
            break;
        }
    }
}

fn check_cookie_prefix(attrs: &StructAttrs, name: &str, path: &str, secure: bool, errors: &Errors) {
    let Some(prefix) = PREFIXES.into_iter().find(|prefix| name.starts_with(prefix)) else { return };
    let stem = &name[prefix.len()..];
    let called = if attrs.cookie.is_given() {
        format!("a cookie named `{name}`")
    } else {
        format!("the cookie's default name, `{name}`")
    };
    if let Some(key) = attrs.secure.key().filter(|_| !secure) {
        errors.push(
            key,
            format_args!("`secure = false` cannot be combined with {called}"),
            format_args!("browsers drop a `{prefix}` cookie that is not `Secure`; write `cookie = \"{stem}\"`, or remove `secure = false`"),
        );
    }
    if !prefix.starts_with("__Host-") {
        return;
    }
    if let Some(key) = attrs.domain.key() {
        errors.push(
            key,
            format_args!("`domain` cannot be combined with {called}"),
            format_args!("browsers drop a `{prefix}` cookie that has a domain; write `cookie = \"__Secure-{stem}\"`, or remove `domain`"),
        );
    }
    if let Some(key) = attrs.path.key().filter(|_| path != "/") {
        errors.push(
            key,
            format_args!("`path = \"{path}\"` cannot be combined with {called}"),
            format_args!("browsers drop a `{prefix}` cookie whose path is not `/`; write `cookie = \"__Secure-{stem}\"`, or remove `path`"),
        );
    }
}

fn check_cookie_path(literal: &LitStr, errors: &Errors) {
    let path = literal.value();
    if !path.starts_with('/') {
        errors.push(
            literal,
            format_args!("the cookie path `{path}` does not start with `/`"),
            format_args!("write `path = \"/{path}\"`"),
        );
    }
    if let Some(wrong) = path.chars().find(|c| *c == ';' || !(c.is_ascii_graphic() || *c == ' ')) {
        errors.push(
            literal,
            format_args!("a cookie path cannot contain {wrong:?}"),
            "write the path percent-encoded, as in a request: `path = \"/caf%C3%A9\"`",
        );
    }
}

fn check_cookie_domain(literal: &LitStr, errors: &Errors) {
    let domain = literal.value();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if let Some(bare) = domain.strip_prefix('.').filter(|bare| bare.split('.').all(is_label)) {
        errors.push(
            literal,
            format_args!("the domain `{domain}` starts with a dot"),
            format_args!("write `domain = \"{bare}\"`: it covers the subdomains too"),
        );
    } else if domain.len() > 253 || !domain.split('.').all(is_label) {
        errors.push(
            literal,
            format_args!("`{domain}` is not a domain"),
            "write `domain = \"example.com\"`: no scheme, no port, no path, and other scripts in Punycode",
        );
    }
}
