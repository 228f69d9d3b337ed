//! Sessions in actix-web: the middleware, the extractors, the guards, the answers for errors.

mod config;
#[cfg(feature = "console")]
mod console;
mod csrf;
mod error_response;
mod extract;
mod guard;
mod health;
mod log_in;
mod middleware;
mod require;
mod testing;
#[cfg(all(test, feature = "memory"))]
mod tests;

#[cfg(feature = "console")]
pub use self::console::{Console, History};
pub use self::csrf::Csrf;
pub use self::health::health;
pub use self::log_in::{LoginPages, NotFresh, NotLoggedIn};
pub use self::middleware::SessionMiddleware;
pub use self::require::{NotAllowed, Require, require};
pub use self::testing::TestRequestExt;
