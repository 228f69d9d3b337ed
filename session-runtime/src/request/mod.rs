//! The session during a request: taken out by extractors, given back when they are dropped, stored at the end.

mod csrf;
#[cfg(feature = "actix")]
mod finish;
mod logged_in;
mod session;
mod slot;
mod testing;

pub use self::logged_in::{Fresh, LoggedIn};
pub use self::session::{Session, SessionRef};

#[cfg(feature = "actix")]
pub(crate) use self::csrf::CsrfCookieUpdate;
#[cfg(feature = "actix")]
pub(crate) use self::finish::{FinishedSession, Finishing};
#[cfg(feature = "actix")]
pub(crate) use self::slot::{RequestToken, RequestVisitor, Slot};
#[cfg(feature = "actix")]
pub(crate) use self::testing::{session_of, slot_for_test};
