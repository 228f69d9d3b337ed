//! The tool `databag` as a process, beside an application on the same SQLite file, and with the feature `servers` on the same
//! server.

mod help;
mod keys;
#[cfg(feature = "servers")]
mod servers;
mod sessions;
mod tool;
mod transfer;
