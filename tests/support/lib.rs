//! What the tests share.

#[cfg(feature = "servers")]
pub mod rows;
#[cfg(feature = "servers")]
pub mod server;
