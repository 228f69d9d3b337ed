//! Sessions over HTTP, with actix-web.

mod client_ip;
mod config;
mod cookie;
mod extract;
mod middleware;
mod reject;
mod testing;

pub(crate) use self::config::{Config, Settings};
pub use self::middleware::SessionMiddleware;
pub use self::testing::TestRequestExt;
