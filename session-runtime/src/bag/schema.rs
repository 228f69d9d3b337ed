//! The schema of a bag: everything that `#[databag(..)]` declares, as constants.
//!
//! The derive writes it; every floor above reads it. It holds no values of a session.

use std::time::Duration;

use crate::value::ColumnType;

/// Everything that `#[databag(..)]` declares for a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Schema {
    /// The bag's stored identity: rows of one bag never open as another.
    pub name: &'static str,
    /// The table's name.
    pub table: &'static str,
    /// The names of the columns that the runtime owns.
    pub columns: Columns,
    /// The cookie.
    pub cookie: CookieSchema,
    /// The idle expiry: how long a session lives without a request.
    pub idle: Duration,
    /// The absolute expiry: how long a session lives at most.
    pub absolute: Duration,
    /// Both limits of a session that [`Session::remember`](crate::Session::remember) has made a remembered one.
    pub remember: Duration,
    /// How many sessions a user may have. A new one evicts the oldest.
    pub max_per_user: Option<u32>,
    /// The number that the user raises when stored fields change.
    pub version: u32,
    /// The stored fields, in the order of the struct.
    pub fields: &'static [Field],
}

impl Schema {
    /// Returns whether the bag has a `user_agent` field.
    #[cfg(feature = "actix")]
    pub(crate) fn has_user_agent(&self) -> bool {
        self.fields.iter().any(|field| field.user_agent)
    }

    /// Returns whether the bag has an `ip_addr` field.
    pub(crate) fn has_ip(&self) -> bool {
        self.fields.iter().any(|field| matches!(field.role, Role::Ip(_)))
    }
}

/// The names of the columns that the runtime owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The session id.
    pub id: &'static str,
    /// The sealed record.
    pub state: &'static str,
    /// The user, if the bag has a user field.
    pub user_id: &'static str,
    /// The address, if the bag has an address field.
    pub ip_addr: &'static str,
    /// When the session was created.
    pub created: &'static str,
    /// When the session expires.
    pub expiration: &'static str,
    /// How many times the row was written.
    pub revision: &'static str,
}

/// The cookie as the struct declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSchema {
    /// The cookie's name, with its prefix.
    pub name: &'static str,
    /// The `Path` attribute.
    pub path: &'static str,
    /// The `Domain` attribute.
    pub domain: Option<&'static str>,
    /// The `SameSite` attribute.
    pub same_site: SameSite,
    /// The `Secure` attribute.
    pub secure: bool,
    /// The `Partitioned` attribute.
    pub partitioned: bool,
    /// Whether the cookie outlives the browser.
    pub persistence: Persistence,
}

/// When a browser sends the cookie with requests that other sites cause (RFC 6265bis §5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// Only when the user follows a link.
    Lax,
    /// Always.
    None,
}

/// Whether the cookie outlives the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// The cookie has neither `Max-Age` nor `Expires`. The browser drops it when it closes.
    Browser,
    /// The cookie has a `Max-Age` and stays as long as the session lives.
    Persistent,
}

/// A stored field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of its own")]
pub struct Field {
    /// The name under which the field is stored.
    pub name: &'static str,
    /// Earlier stored names of the field.
    pub aliases: &'static [&'static str],
    /// Whether and how the field is projected.
    pub role: Role,
    /// Whether the column holds a keyed hash in the place of the value.
    pub blind: bool,
    /// Whether the value is gone after the next request.
    pub flash: bool,
    /// Whether the field is the client's user agent, which the runtime sets.
    pub user_agent: bool,
    /// Whether the field holds flows, each of which is finished once.
    pub flow: bool,
    /// How long a value stays after it was changed.
    pub ttl: Option<Duration>,
    /// Whether the value outlives a log-out.
    pub keep_on_logout: bool,
    /// Whether a log-in resets the field to its default.
    pub reset_on_login: bool,
}

impl Field {
    /// Makes a field without attributes; generated code adds them.
    #[doc(hidden)]
    pub const fn plain(name: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            role: Role::Plain,
            blind: false,
            flash: false,
            user_agent: false,
            flow: false,
            ttl: None,
            keep_on_logout: false,
            reset_on_login: false,
        }
    }
}

/// Whether and how a field is projected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The field is stored in the record only.
    Plain,
    /// The field is the user, of this type.
    User(ColumnType),
    /// The field is the address.
    Ip(Bind),
    /// The field has a column of its own.
    Column {
        /// The column's name.
        name: &'static str,
        /// The type of the value, and of the column unless it is blind.
        ty: ColumnType,
        /// Whether the column has an index.
        index: bool,
    },
}

/// How strictly a session is bound to the address from which it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// The address must be equal.
    Exact,
    /// The first 24 bits of an IPv4 address, or the first 64 bits of an IPv6 address, must be equal.
    Prefix,
    /// Every address is accepted.
    Off,
}
