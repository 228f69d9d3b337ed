//! Shared parts of the tests: a browser, a client, a watched store, the demo shop as a process.

mod browser;
mod cached;
#[cfg(feature = "servers")]
pub mod chromium;
mod client;
pub mod demo;
mod forward;
mod logs;
mod program;
mod random;
#[cfg(feature = "servers")]
pub mod rows;
#[cfg(feature = "servers")]
pub mod server;
pub mod users;
mod watched;

pub use browser::{Answer, Browser, Site};
pub use cached::Cached;
pub use client::{Client, Jar, Reply};
pub use logs::Logs;
pub use program::Program;
pub use random::Random;
pub use session_runtime::testing::ManualClock;
pub use watched::{Call, Fault, Gate, Watch, Watched};
