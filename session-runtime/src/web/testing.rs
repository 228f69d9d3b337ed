//! Sessions in the requests of tests.

use actix_web::test::TestRequest;

use super::csrf::TOKEN_HEADER;
use crate::bag::Databag;
use crate::request::{Session, slot_for_test};

/// Puts a session into the request of a test, without a middleware.
pub trait TestRequestExt: Sized {
    /// Adds a session with the content `bag`.
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

    /// Adds such a session, and a token of it in the header that [`Csrf`](crate::Csrf) reads.
    #[must_use]
    fn session_with_csrf<T: Databag>(self, bag: T) -> Self;
}

impl TestRequestExt for TestRequest {
    fn session<T: Databag>(self, bag: T) -> Self {
        self.app_data(slot_for_test(bag))
    }

    fn session_with_csrf<T: Databag>(self, bag: T) -> Self {
        let slot = slot_for_test(bag);
        let token = Session::borrow_from(&slot).map(|session| session.csrf_token());
        let token = token.expect("a new slot lends its session");
        self.insert_header((TOKEN_HEADER, token)).app_data(slot)
    }
}
