//! Typed, sealed, conflict-safe sessions for actix-web.

// The derive names this crate from outside; its own tests use the derive too.
#[cfg(test)]
extern crate self as session_runtime;

mod bag;
mod builder;
mod clock;
mod codec;
mod column;
mod commit;
mod envelope;
mod error;
mod hooks;
mod load;
mod merge;
mod queue;
mod record;
mod refused;
mod session;
mod sessions;
mod shape;
mod testing;
mod token;
mod value;
#[cfg(feature = "actix")]
mod web;

pub mod store;

#[doc(hidden)]
pub mod __private;

pub use bag::{
    Bind, Columns, CookieSchema, Databag, Field, HasIp, HasUser, Persistence, Projection, Role, SameSite,
    Schema,
};
pub use builder::{Builder, Chosen, Cleanup, Protected, Unchosen};
pub use clock::{Clock, Timestamp};
pub use codec::{Bincode, Codec, CodecError, Framing, Json};
pub use column::{Column, Condition};
pub use envelope::{KeyError, Keyring};
pub use error::{Error, Rejection};
pub use session::{LoggedIn, Session, SessionRef};
pub use sessions::{Find, Sessions, Snapshot};
#[cfg(feature = "sqlite")]
pub use store::sqlite::{Durability, SqliteStore};
pub use store::{Directory, Store, StoreError};
pub use token::{ParseSessionIdError, SessionId, Token, TokenSource};
pub use value::{ColumnType, ColumnValue, Value};
#[cfg(feature = "actix")]
pub use web::{SessionMiddleware, TestRequestExt};

pub use session_derive::Databag;
