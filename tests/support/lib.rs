//! What the tests share.

mod browser;
mod client;
mod clock;
mod logs;
#[cfg(feature = "servers")]
pub mod rows;
#[cfg(feature = "servers")]
pub mod server;
pub mod shop;
mod watched;

pub use browser::{Answer, Browser, Site};
pub use client::{Client, Jar, Reply};
pub use clock::ManualClock;
pub use logs::Logs;
pub use watched::{Call, Fault, Gate, Watch, Watched};
