//! Sessions in the requests of tests.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use actix_web::test::TestRequest;

use super::config::{CSRF_HEADER, set_cookies, token_header, token_value};
use crate::bag::Databag;
use crate::bag::encoding::Fields;
use crate::engine::core::Engine;
use crate::engine::update::set_cookie;
use crate::error::Error;
use crate::http::HttpConfig;
use crate::request::{Session, Slot, session_of, slot_for_test};

/// Puts a session into the request of a test: with the middleware and without it.
pub trait TestRequestExt: Sized {
    /// Makes it the request of a visitor who has this bag.
    ///
    /// In a service of [`init_service`](actix_web::test::init_service) the middleware stores the session where it stores all of
    /// them, so the request is like any other one: its session is loaded when a handler asks for it. Without a
    /// middleware extractors find it in the request itself. With [`T::defaults()`](Databag::defaults) the visitor is new.
    /// For several bags call it for each. See [`testing`](crate::testing).
    ///
    /// # Panics
    ///
    /// If the bag cannot be stored.
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

    /// The same, with a token of the session in the header that [`Csrf`](crate::Csrf) reads.
    ///
    /// # Panics
    ///
    /// As [`session`](Self::session).
    #[must_use]
    fn session_with_csrf<T: Databag>(self, bag: T) -> Self;
}

impl TestRequestExt for TestRequest {
    fn session<T: Databag>(self, bag: T) -> Self {
        carrying(self, slot_for_test(bag))
    }

    fn session_with_csrf<T: Databag>(self, bag: T) -> Self {
        let slot = slot_for_test(bag);
        let token = Session::borrow_from(&slot).map(|session| session.csrf_token());
        let token = token.expect("a new slot lends its session");
        carrying(self.insert_header((CSRF_HEADER, token)), slot)
    }
}

/// Names a slot in [`SLOTS`]. A request of a test has no other place that outlives `to_request`.
const SLOT_HEADER: HeaderName = HeaderName::from_static("x-databag-test-session");

thread_local! {
    /// The slots of requests that tests on this thread have made and no middleware has seen. No client can name one of
    /// another thread, and a server has none.
    static SLOTS: RefCell<BTreeMap<usize, Rc<dyn Any>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Puts a slot into a request, for extractors and for a middleware.
fn carrying<T: Databag>(request: TestRequest, slot: Rc<Slot<T>>) -> TestRequest {
    let key = SLOTS.with_borrow_mut(|slots| {
        let key = slots.last_key_value().map_or(0, |(last, _)| last + 1);
        slots.insert(key, slot.clone());
        key
    });
    request.append_header((SLOT_HEADER, key)).app_data(slot)
}

/// Takes the slot of the bag `T` that a request names.
fn take_slot<T: Databag>(headers: &HeaderMap) -> Option<Rc<Slot<T>>> {
    SLOTS.with_borrow_mut(|slots| {
        if slots.is_empty() {
            return None;
        }
        let keys = headers.get_all(SLOT_HEADER).filter_map(|key| key.to_str().ok()?.parse::<usize>().ok());
        let key = keys.into_iter().find(|key| slots.get(key).is_some_and(|slot| slot.is::<Slot<T>>()))?;
        slots.remove(&key)?.downcast().ok()
    })
}

/// A visitor that a test has made up.
pub(super) struct TestVisitor<T> {
    bag: T,
    /// Whether the request has a CSRF token of the visitor.
    has_csrf_token: bool,
    /// Whether the answer sets the cookie in any case: the visitor had none before.
    is_new_to_the_test: bool,
}

impl<T: Databag> TestVisitor<T> {
    /// Finds the visitor of a request: that of the request itself, or of a middleware for tests.
    pub(super) fn of(request: &ServiceRequest, http: &HttpConfig, bag: Option<&Fields>) -> Option<Self> {
        let headers = request.headers();
        if let Some(slot) = take_slot::<T>(headers) {
            let token = headers.get(CSRF_HEADER);
            let has_csrf_token = token.is_some_and(|token| slot.verify_csrf(token.as_bytes()));
            return Some(Self { bag: slot.take_bag()?, has_csrf_token, is_new_to_the_test: false });
        }
        let fields = bag?;
        let cookies = headers.get_all(COOKIE).map(HeaderValue::as_bytes);
        if !matches!(http.cookie.find(cookies).token, Ok(None)) {
            return None;
        }
        let mut bag = T::defaults();
        fields.decode_into(&mut bag).expect("what was encoded can be decoded");
        Some(Self { bag, has_csrf_token: false, is_new_to_the_test: true })
    }

    /// Stores the session of the visitor, and adds to the request what its client would send.
    pub(super) async fn arrive(
        self,
        engine: &Engine,
        http: &HttpConfig,
        request: &mut ServiceRequest,
    ) -> Result<Option<HeaderValue>, Error> {
        let session = session_of(engine, self.bag).await?;
        let header = token_header(http, request.request());
        let headers = request.headers_mut();
        if self.has_csrf_token {
            headers.insert(CSRF_HEADER, value(&engine.csrf.token(session.id)));
        }
        let Some(update) = session.stored.as_ref().and_then(|stored| set_cookie(session.token, stored))
        else {
            if self.has_csrf_token {
                headers.append(COOKIE, value(&http.cookie.csrf_pair(&engine.csrf.cookie(session.id, None))));
            }
            return Ok(None);
        };
        let token = token_value(&update);
        if let Some(name) = header.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()) {
            headers.insert(name, value(&token));
        } else {
            headers.append(COOKIE, value(&format!("{}={}", http.cookie.name(), *token)));
        }
        let cookies = set_cookies(http, &update, engine.now());
        Ok(cookies.last().filter(|_| self.is_new_to_the_test).map(|cookie| value(cookie)))
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("tokens are letters, digits and signs")
}
