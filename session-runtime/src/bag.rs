//! What the derive tells the runtime about a bag: its schema, and the calls that move its fields.
//!
//! Nothing here knows of stores, envelopes or HTTP.

use std::net::IpAddr;
use std::time::Duration;

use crate::codec::{Codec, CodecError};
use crate::merge::{Settled, Sides};
use crate::record::{Decoder, Encoder};
use crate::shape::Shapes;
use crate::value::{ColumnType, ColumnValue, Value};

/// A struct that is a session. Implemented by `#[derive(Databag)]` only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a databag",
    label = "needs `#[derive(Databag)]`",
    note = "a session holds one struct of yours: put `#[derive(Databag)]` on `{Self}`, or name the struct that has it"
)]
pub trait Databag: Sized + 'static {
    /// How single values are encoded.
    type Codec: Codec;

    /// Everything that was written in `#[databag(..)]`.
    const SCHEMA: &'static Schema;

    /// Returns the bag of a new session: every field at its default.
    fn defaults() -> Self;

    /// Notes the shape of every stored field, in the order of [`Schema::fields`].
    #[doc(hidden)]
    fn shapes(shapes: &mut Shapes);

    /// Encodes every stored field, in the order of [`Schema::fields`].
    #[doc(hidden)]
    fn encode(&self, fields: &mut Encoder) -> Result<(), CodecError>;

    /// Decodes every stored field that is there, and leaves the others as they are.
    #[doc(hidden)]
    fn decode(&mut self, fields: &mut Decoder<'_>);

    /// Tells whether a field whose encoding is not `encoded` equals it all the same.
    #[doc(hidden)]
    fn equals(&self, field: usize, encoded: &[u8]) -> bool {
        let _ = (field, encoded);
        false
    }

    /// Settles a field that two requests have changed.
    #[doc(hidden)]
    fn merge(field: usize, sides: Sides<'_>) -> Result<Settled, CodecError> {
        let _ = (field, sides);
        Ok(Settled::Ours)
    }

    /// Copies the projected fields out.
    #[doc(hidden)]
    fn project(&self, projection: &mut Projection) {
        let _ = projection;
    }

    /// Fills the `ip_addr` field, where there is one.
    #[doc(hidden)]
    fn set_ip(&mut self, ip: Option<IpAddr>) {
        let _ = ip;
    }
}

/// A bag with a `#[databag(user_id)]` field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no user",
    label = "this bag has no `user_id` field",
    note = "mark the field that holds the user: `#[databag(user_id)] user_id: Option<i64>`"
)]
pub trait HasUser: Databag {
    /// What identifies a user.
    type User: ColumnValue + 'static;

    /// The user as it is read: a copy of a number, `&str` for a `String`, else a reference.
    type UserRef<'a>;

    /// Returns the user, if one is signed in.
    fn user(&self) -> Option<Self::UserRef<'_>>;

    /// Replaces the user.
    #[doc(hidden)]
    fn set_user(&mut self, user: Option<Self::User>);
}

/// A bag with a `#[databag(ip_addr)]` field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no address",
    label = "this bag has no `ip_addr` field",
    note = "mark the field that holds the address: `#[databag(ip_addr)] ip_addr: Option<IpAddr>`"
)]
pub trait HasIp: Databag {
    /// Returns the address the session was last used from, if it is known.
    fn ip(&self) -> Option<IpAddr>;
}

/// Everything that `#[databag(..)]` says about a struct.
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
    /// How long a session lives without a request.
    pub idle: Duration,
    /// How long a session lives at the most.
    pub absolute: Duration,
    /// How many sessions a user may have; the oldest give way.
    pub max_per_user: Option<u32>,
    /// A number the user changes with the layout.
    pub version: u32,
    /// The stored fields, in the order of the struct.
    pub fields: &'static [Field],
}

/// The names of the columns that the runtime owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The session id.
    pub id: &'static str,
    /// The sealed record.
    pub state: &'static str,
    /// The user, where the bag has one.
    pub user_id: &'static str,
    /// The address, where the bag has one.
    pub ip_addr: &'static str,
    /// When the session began.
    pub created: &'static str,
    /// When it ends.
    pub expiration: &'static str,
    /// How often it was written.
    pub revision: &'static str,
}

/// The cookie as it was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSchema {
    /// Its name, prefix included.
    pub name: &'static str,
    /// `Path`
    pub path: &'static str,
    /// `Domain`
    pub domain: Option<&'static str>,
    /// `SameSite`
    pub same_site: SameSite,
    /// `Secure`
    pub secure: bool,
    /// `Partitioned`
    pub partitioned: bool,
    /// Whether it outlives the browser.
    pub persistence: Persistence,
}

/// When a browser sends the cookie along with requests that other sites cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// Only when a link is followed.
    Lax,
    /// Always.
    None,
}

/// Whether the cookie outlives the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It has neither `Max-Age` nor `Expires`, and goes when the browser closes.
    Browser,
    /// It has a `Max-Age` and stays as long as the session lives.
    Persistent,
}

/// A stored field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name it is stored under.
    pub name: &'static str,
    /// Names it was stored under before.
    pub aliases: &'static [&'static str],
    /// Whether and how it is projected.
    pub role: Role,
    /// Whether it lives until the next request only.
    pub flash: bool,
    /// Whether it outlives a log-out.
    pub keep_on_logout: bool,
    /// Whether a log-in sets it back to its default.
    pub reset_on_login: bool,
}

/// Whether and how a field is projected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is in the record only.
    Plain,
    /// It is the user.
    User(ColumnType),
    /// It is the address.
    Ip(Bind),
    /// It has a column of its own.
    Column {
        /// The column's name.
        name: &'static str,
        /// What the column holds.
        ty: ColumnType,
        /// Whether the column has an index.
        index: bool,
    },
}

/// How strictly a session is bound to the address it began at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// The address must be the same.
    Exact,
    /// The first 24 bits of an IPv4 address must be the same, or the first 64 of an IPv6 address.
    Prefix,
    /// Any address will do.
    Off,
}

/// The projected values of a bag, as a row carries them.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Projection {
    pub(crate) user: Option<Value>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) columns: Vec<Option<Value>>,
}

#[doc(hidden)]
impl Projection {
    pub fn user<B: HasUser>(&mut self, user: Option<&B::User>) {
        self.user = user.map(ColumnValue::to_value);
    }

    pub fn ip(&mut self, ip: Option<IpAddr>) {
        self.ip = ip;
    }

    pub fn column<V: ColumnValue>(&mut self, value: Option<&V>) {
        // Databases keep no NaN: SQLite makes it `NULL`.
        let is_number = |value: &Value| !matches!(value, Value::Real(number) if number.is_nan());
        self.columns.push(value.map(ColumnValue::to_value).filter(is_number));
    }
}
