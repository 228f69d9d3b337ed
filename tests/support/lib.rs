//! What the tests share.

#[cfg(feature = "servers")]
pub mod server;
