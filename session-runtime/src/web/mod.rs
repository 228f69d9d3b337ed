//! Sessions in actix-web: the middleware, the extractors, the guards, the answers for errors.

mod config;
mod csrf;
mod error_response;
mod extract;
mod guard;
mod log_in;
mod middleware;
mod testing;
#[cfg(all(test, feature = "memory"))]
mod tests;

pub use self::csrf::Csrf;
pub use self::log_in::{LoginPages, NotAllowed, NotFresh, NotLoggedIn, Require, require};
pub use self::middleware::SessionMiddleware;
pub use self::testing::TestRequestExt;
