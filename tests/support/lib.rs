//! What the tests share.

#[cfg(feature = "servers")]
pub mod server;
#[cfg(feature = "servers")]
pub mod rows;
