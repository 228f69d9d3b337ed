//! Typed, sealed, conflict-safe sessions for actix-web.

mod bag;
mod clock;
mod codec;
mod column;
mod record;
mod shape;
mod token;
mod value;

pub mod store;

#[doc(hidden)]
pub mod __private;

pub use bag::{
    Bind, Columns, CookieSchema, Databag, Field, HasIp, HasUser, Persistence, Projection, Role, SameSite,
    Schema,
};
pub use clock::{Clock, Timestamp};
pub use codec::{Bincode, Codec, CodecError, Framing, Json};
pub use column::{Column, Condition};
#[cfg(feature = "sqlite")]
pub use store::sqlite::{Durability, SqliteStore};
pub use store::{Directory, Store, StoreError};
pub use token::{ParseSessionIdError, SessionId, Token, TokenSource};
pub use value::{ColumnType, ColumnValue, Value};

pub use session_derive::Databag;
