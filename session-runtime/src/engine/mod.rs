//! The two halves of a request, and the calls to the store around them.
//!
//! [`load`] and [`commit`] are pure decisions. [`core`], [`update`] and [`confirm`] make the calls: they hold the clock and
//! the retries. Nothing here knows HTTP.

mod blind;
pub(crate) mod cleanup;
pub(crate) mod commit;
pub(crate) mod config;
mod confirm;
pub(crate) mod core;
pub(crate) mod event;
pub(crate) mod load;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod observers;
mod rehash;
mod session_locks;
pub(crate) mod span;
mod touch;
pub(crate) mod update;
mod watch;
pub(crate) mod watched;
