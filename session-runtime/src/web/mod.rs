//! Sessions in actix-web: the middleware, the extractors, the guard of forms, the answers for errors.

mod config;
mod csrf;
mod error_response;
mod extract;
mod middleware;
mod testing;
#[cfg(all(test, feature = "memory"))]
mod tests;

pub use self::csrf::Csrf;
pub use self::middleware::SessionMiddleware;
pub use self::testing::TestRequestExt;
