//! Checks the attributes of a field against each other.

use crate::attr::{Attributes, FieldAttrs};
use crate::errors::Errors;

/// Attributes that exclude each other, and the help. The message underlines the second.
const CONFLICTS: [(&str, &str, &str); 60] = [
    (
        "user_id",
        "ip_addr",
        "the user and the address are two fields; write `#[databag(ip_addr)] ip_addr: Option<IpAddr>`",
    ),
    (
        "user_id",
        "column",
        "the user has a column already; its name is set on the struct: `columns(user_id = \"..\")`",
    ),
    (
        "ip_addr",
        "column",
        "the address has a column already; its name is set on the struct: `columns(ip_addr = \"..\")`",
    ),
    ("user_id", "flash", "the user stays until the log-out; remove `flash`"),
    ("ip_addr", "flash", "the address stays as long as the session; remove `flash`"),
    ("flash", "column", "a flash is gone before a query could find it; remove `column` or `flash`"),
    ("user_id", "ttl", "the user stays until the log-out; remove `ttl`"),
    ("ip_addr", "ttl", "the address stays as long as the session; remove `ttl`"),
    ("column", "ttl", "a query would still find the value after its time; remove `column` or `ttl`"),
    ("flash", "ttl", "a flash is gone after the next request; remove `flash` or `ttl`"),
    ("user_agent", "user_id", AGENT),
    ("user_agent", "ip_addr", AGENT),
    ("user_agent", "flash", AGENT),
    ("user_agent", "flow", AGENT),
    ("user_agent", "ttl", AGENT),
    ("user_agent", "default", AGENT),
    ("user_agent", "from", AGENT),
    ("user_agent", "merge", AGENT),
    ("user_agent", "with", AGENT),
    ("user_agent", "keep_on_logout", AGENT),
    ("user_agent", "reset_on_login", AGENT),
    ("user_agent", "secret", AGENT),
    ("user_agent", "codec", AGENT),
    ("flow", "user_id", FLOW),
    ("flow", "ip_addr", FLOW),
    ("flow", "column", FLOW),
    ("flow", "flash", "a flow ends by itself when its time has passed; remove `flash`"),
    ("flow", "with", "flows are stored as they are; remove `with`"),
    ("flow", "from", "flows end within minutes, and need no conversion; remove `from`"),
    ("flow", "merge", "the flows of two requests are merged by their tickets; remove `merge`"),
    ("user_id", "default", "a new session has no user; remove `default`"),
    ("ip_addr", "default", "the address is filled from the connection; remove `default`"),
    ("user_id", "keep_on_logout", "a log-out removes the user; remove `keep_on_logout`"),
    ("ip_addr", "keep_on_logout", "the address is filled from the connection; remove `keep_on_logout`"),
    ("user_id", "reset_on_login", "a log-in sets the user; remove `reset_on_login`"),
    ("ip_addr", "reset_on_login", "the address is filled from the connection; remove `reset_on_login`"),
    ("user_id", "merge", "two users cannot be merged; remove `merge`"),
    ("ip_addr", "merge", "the address is filled from the connection; remove `merge`"),
    (
        "secret",
        "column",
        "a column is stored in the clear; write `column, blind`, or remove `column`: the record is sealed",
    ),
    (
        "secret",
        "user_id",
        "the user's column is stored in the clear; write `user_id, blind`, or remove `secret`",
    ),
    (
        "secret",
        "ip_addr",
        "the address's column is stored in the clear; write `ip_addr, blind`, or remove `secret`",
    ),
    (
        "with",
        "column",
        "a column holds the value itself, which `with` does not encode; remove `column` or `with`",
    ),
    (
        "with",
        "user_id",
        "the user's column holds the value itself, which `with` does not encode; remove `with`",
    ),
    (
        "with",
        "ip_addr",
        "the address's column holds the value itself, which `with` does not encode; remove `with`",
    ),
    ("with", "merge", "a field that `with` encodes is not merged: the later write wins; remove `merge`"),
    ("skip", "user_id", SKIPPED),
    ("skip", "ip_addr", SKIPPED),
    ("skip", "column", SKIPPED),
    ("skip", "flash", SKIPPED),
    ("skip", "ttl", SKIPPED),
    ("skip", "flow", SKIPPED),
    ("skip", "user_agent", SKIPPED),
    ("skip", "rename", SKIPPED),
    ("skip", "alias", SKIPPED),
    ("skip", "from", SKIPPED),
    ("skip", "with", SKIPPED),
    ("skip", "codec", SKIPPED),
    ("skip", "merge", SKIPPED),
    ("skip", "keep_on_logout", SKIPPED),
    ("skip", "reset_on_login", SKIPPED),
];
const AGENT: &str =
    "the user agent is filled from the request, and stays as long as the session; remove one of the two";
const FLOW: &str = "flows are stored in the record alone; remove one of the two";
const SKIPPED: &str = "a skipped field lives for one request and is never stored; remove one of the two";

/// Attributes that give the field a column.
const PROJECTED: [&str; 3] = ["user_id", "ip_addr", "column"];

/// Attributes that need another one, and the help.
const REQUIREMENTS: [(&str, &str, &str); 2] = [
    ("index", "column", "write `column, index`; the user's column always has an index"),
    ("bind", "ip_addr", "write `ip_addr, bind = \"..\"` on the address field"),
];

pub(super) fn check_combinations(attrs: &FieldAttrs, errors: &Errors) {
    for (one, other, help) in CONFLICTS {
        // A blind column holds nothing in the clear.
        if one == "secret" && PROJECTED.contains(&other) && attrs.blind.is_given() {
            continue;
        }
        if attrs.key(one).is_some()
            && let Some(at) = attrs.key(other)
        {
            errors.push(at, format_args!("`{one}` cannot be combined with `{other}`"), help);
        }
    }
    for (one, other, help) in REQUIREMENTS {
        if let Some(at) = attrs.key(one)
            && attrs.key(other).is_none()
        {
            errors.push(at, format_args!("`{one}` needs `{other}`"), help);
        }
    }
    if let Some(at) = attrs.blind.key()
        && PROJECTED.iter().all(|projected| attrs.key(projected).is_none())
    {
        errors.push(
            at,
            "`blind` needs `column`, `user_id` or `ip_addr`",
            "write `column, blind`, or remove `blind`: a field without a column is sealed with the record",
        );
    }
}
