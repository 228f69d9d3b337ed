//! Sessions in actix-web: the middleware, the extractors, the answers for errors.

mod config;
mod error_response;
mod extract;
mod middleware;
mod testing;
#[cfg(all(test, feature = "memory"))]
mod tests;

pub use self::middleware::SessionMiddleware;
pub use self::testing::TestRequestExt;
