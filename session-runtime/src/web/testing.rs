//! Sessions in requests that a test makes.

use actix_web::test::TestRequest;

use crate::bag::Databag;
use crate::session::Slot;

/// Puts a session into a request of a test, in place of the middleware.
pub trait TestRequestExt: Sized {
    /// Carries a session that holds `bag`.
    ///
    /// # Examples
    ///
    /// ```
    /// use actix_web::{FromRequest as _, test::TestRequest};
    /// use session_runtime::{Databag, Session, TestRequestExt as _};
    ///
    /// #[derive(Databag)]
    /// struct Shop {
    ///     visits: u32,
    /// }
    ///
    /// # #[actix_web::main]
    /// # async fn main() {
    /// let request = TestRequest::get().session(Shop { visits: 4 }).to_http_request();
    /// let session = Session::<Shop>::extract(&request).await.expect("carried by the request");
    /// assert_eq!(session.visits, 4);
    /// # }
    /// ```
    #[must_use]
    fn session<T: Databag>(self, bag: T) -> Self;
}

impl TestRequestExt for TestRequest {
    fn session<T: Databag>(self, bag: T) -> Self {
        self.app_data(Slot::for_test(bag))
    }
}
