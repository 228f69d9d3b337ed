//! Sessions in the requests of tests.
//!
//! Of what a test puts into a `TestRequest`, a service of `init_service` gets the head alone. So the head has a number, and
//! the session waits under this number in a list of the thread until the middleware of its bag takes it. Outside of tests that
//! list is empty, and the header of a client means nothing.

use std::any::Any;
use std::cell::RefCell;
use std::mem::replace;
use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{COOKIE, HeaderName, HeaderValue};
use actix_web::test::TestRequest;

use super::config::TOKEN_HEADER;
use crate::bag::Databag;
use crate::error::Error;
use crate::request::{Session, Slot, slot_for_test};
use crate::sessions::Sessions;

/// The header of the numbers.
const NUMBER: HeaderName = HeaderName::from_static("databag-test-session");

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting { sessions: Vec::new(), made: 0 }) };
}

/// The sessions that no middleware has taken. Those of requests that pass none stay until the thread ends.
struct Waiting {
    sessions: Vec<(u64, Box<dyn Any>)>,
    /// How many there ever were.
    made: u64,
}

/// Puts a session into the request of a test: for an extractor or a handler that is called without a middleware, and for a
/// service of `init_service`.
///
/// A [`SessionMiddleware`](crate::SessionMiddleware) of the bag stores the session before its handlers run, and the request has
/// its cookie, as if the visitor had begun it earlier. So the answer sets no cookie if the handler changes nothing, and all
/// that is done with stored sessions works: logging in, rotating, listing. Its address is that of the bag: for a bag that is
/// bound to one, give the request the same `peer_addr`. Without a middleware the session is new, and nothing is stored.
pub trait TestRequestExt: Sized {
    /// Adds a session with the content `bag`.
    ///
    /// # Examples
    ///
    /// ```
    /// use actix_web::test::{TestRequest, call_and_read_body, init_service};
    /// use actix_web::{App, FromRequest as _, web};
    /// use session_runtime::{Databag, MemoryStore, Session, SessionMiddleware, Sessions, TestRequestExt as _};
    ///
    /// #[derive(Databag)]
    /// struct Shop {
    ///     visits: u32,
    /// }
    ///
    /// async fn visit(mut session: Session<Shop>) -> String {
    ///     session.visits += 1;
    ///     format!("visit {}", session.visits)
    /// }
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), session_runtime::Error> {
    /// // A handler alone:
    /// let request = TestRequest::get().session(Shop { visits: 4 }).to_http_request();
    /// let session = Session::<Shop>::extract(&request).await?;
    /// assert_eq!(visit(session).await, "visit 5");
    ///
    /// // A service:
    /// let sessions = Sessions::<Shop>::builder(MemoryStore::new()).danger_plaintext().build().await?;
    /// let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/", web::get().to(visit));
    /// let service = init_service(app).await;
    /// let request = TestRequest::get().session(Shop { visits: 4 }).to_request();
    /// assert_eq!(call_and_read_body(&service, request).await, "visit 5");
    /// # Ok(())
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
        TestSession { slot: slot_for_test(bag), has_csrf: false }.put_into(self)
    }

    fn session_with_csrf<T: Databag>(self, bag: T) -> Self {
        let slot = slot_for_test(bag);
        let token = Session::borrow_from(&slot).map(|session| session.csrf_token());
        let token = token.expect("a new slot lends its session");
        TestSession { slot, has_csrf: true }.put_into(self.insert_header((TOKEN_HEADER, token)))
    }
}

/// The session of a test that waits for a middleware.
pub(super) struct TestSession<T> {
    slot: Rc<Slot<T>>,
    /// Whether the request needs a token of the stored session.
    has_csrf: bool,
}

impl<T: Databag> TestSession<T> {
    fn put_into(self, request: TestRequest) -> TestRequest {
        let slot = self.slot.clone();
        let number = WAITING.with_borrow_mut(|waiting| {
            waiting.made += 1;
            waiting.sessions.push((waiting.made, Box::new(self)));
            waiting.made
        });
        request.append_header((NUMBER, number)).app_data(slot)
    }

    /// Takes the session of a request, if a test has put one there.
    pub(super) fn take(request: &HttpRequest) -> Option<Self> {
        WAITING.with_borrow_mut(|Waiting { sessions, .. }| {
            let is_sent = |number: u64| {
                let number = number.to_string();
                request.headers().get_all(NUMBER).any(|sent| sent.as_bytes() == number.as_bytes())
            };
            let at =
                sessions.iter().position(|(number, session)| session.is::<Self>() && is_sent(*number))?;
            sessions.swap_remove(at).1.downcast().ok().map(|session| *session)
        })
    }

    /// Stores the session, and gives its cookie to the request.
    pub(super) async fn begin(
        self,
        sessions: Sessions<T>,
        request: &mut ServiceRequest,
    ) -> Result<(), Error> {
        let bag = replace(&mut *Session::borrow_from(&self.slot)?, T::defaults());
        let (token, stored) = sessions.create(bag).await?;
        let cookie = sessions.cookie(&token);
        let text =
            |text: String| HeaderValue::try_from(text).map_err(|error| Error::Usage(error.to_string()));
        request.headers_mut().append(COOKIE, text(cookie.stripped().to_string())?);
        if self.has_csrf {
            request.headers_mut().insert(TOKEN_HEADER, text(sessions.engine.csrf.token(stored.id()))?);
        }
        Ok(())
    }
}
