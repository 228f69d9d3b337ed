//! The middleware: gives each request a slot for its session, and stores the session before the answer is sent.
//!
//! A route that asks for no session costs the slot and nothing else: no cookie is parsed and no store is called.

use std::any::{Any, type_name};
use std::cell::Cell;
use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, VARY};
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError};
use futures_util::future::LocalBoxFuture;
use futures_util::poll;
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::config::{csrf_cookie, is_served, set_cookies, skips_cookie, token_header, token_value};
use super::testing::TestVisitor;
use crate::backend::access::{Access, AccessKind};
use crate::bag::Databag;
use crate::bag::encoding::Fields;
use crate::engine::core::Engine;
use crate::error::Error;
use crate::http::HttpConfig;
use crate::request::{FinishedSession, Finishing, Slot};
use crate::sessions::Sessions;

/// Gives handlers the sessions of the bag `T`. Wrap the `App`, or a scope, in one middleware for each bag.
///
/// # Examples
///
/// ```
/// use actix_web::{App, web};
/// use session_runtime::{Databag, Session, SessionMiddleware, Sessions};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(merge = "sum")]
///     visits: u32,
/// }
///
/// async fn visit(mut session: Session<Shop>) -> String {
///     session.visits += 1;
///     format!("visit {}", session.visits)
/// }
///
/// fn configure(sessions: Sessions<Shop>) {
///     let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/", web::get().to(visit));
///     # let _ = app;
/// }
/// # let _ = configure;
/// ```
pub struct SessionMiddleware<T> {
    site: Site,
    bag: PhantomData<fn() -> T>,
}

/// The bag of a test's visitors, encoded.
type TestBag = Arc<Fields>;

/// What all requests of one middleware share.
#[derive(Clone)]
struct Site {
    engine: Arc<Engine>,
    http: Arc<HttpConfig>,
    access: AccessKind,
    test_bag: Option<TestBag>,
}

impl<T: Databag> SessionMiddleware<T> {
    /// Makes the middleware for these sessions.
    pub fn new<A: Access>(sessions: Sessions<T, A>) -> Self {
        let site = Site { engine: sessions.engine, http: sessions.http, access: A::KIND, test_bag: None };
        Self { site, bag: PhantomData }
    }

    /// Makes the middleware for a test of an application, with [`Sessions::for_test`] and this bag: a request without a cookie of
    /// its own is that of a visitor who has this bag, each of another one. The answer sets the cookie of that session. See
    /// [`testing`](crate::testing).
    ///
    /// Fields marked `skip` have their defaults: they are not stored.
    ///
    /// # Panics
    ///
    /// If the bag cannot be encoded.
    ///
    /// # Examples
    ///
    /// ```
    /// use actix_web::test::{TestRequest, call_and_read_body, init_service};
    /// use actix_web::{App, web};
    /// use session_runtime::{Databag, LoggedIn, SessionMiddleware};
    ///
    /// #[derive(Databag)]
    /// struct Shop {
    ///     #[databag(user_id)]
    ///     user_id: Option<i64>,
    ///     visits: u32,
    /// }
    ///
    /// async fn account(session: LoggedIn<Shop>) -> String {
    ///     format!("user {}", session.user())
    /// }
    ///
    /// # #[actix_web::main]
    /// # async fn main() {
    /// let app = App::new()
    ///     .wrap(SessionMiddleware::for_test(Shop { user_id: Some(7), ..Shop::defaults() }))
    ///     .route("/account", web::get().to(account));
    /// let app = init_service(app).await;
    /// let request = TestRequest::get().uri("/account").to_request();
    /// assert_eq!(call_and_read_body(&app, request).await, "user 7");
    /// # }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "as `Session::for_test`")]
    pub fn for_test(bag: T) -> Self {
        let bag = Fields::of(&bag).unwrap_or_else(|error| panic!("the bag cannot be stored: {error}"));
        let middleware = Self::new(Sessions::for_test());
        Self { site: Site { test_bag: Some(Arc::new(bag)), ..middleware.site }, ..middleware }
    }
}

impl<T> fmt::Debug for SessionMiddleware<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionMiddleware(..)")
    }
}

impl<T, N, B> Transform<N, ServiceRequest> for SessionMiddleware<T>
where
    T: Databag,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = SessionService<T, N>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, next: N) -> Self::Future {
        ready(Ok(SessionService { site: self.site.clone(), next: Rc::new(next), bag: PhantomData }))
    }
}

#[doc(hidden)]
pub struct SessionService<T, N> {
    site: Site,
    next: Rc<N>,
    bag: PhantomData<fn() -> T>,
}

impl<T, N> fmt::Debug for SessionService<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionService(..)")
    }
}

impl<T, N, B> Service<ServiceRequest> for SessionService<T, N>
where
    T: Databag,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    forward_ready!(next);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        if !is_served(&self.site.http, request.request()) {
            let response = HttpResponse::Forbidden().finish().map_into_right_body();
            return Box::pin(ready(Ok(request.into_response(response))));
        }
        match TestVisitor::<T>::of(&request, &self.site.http, self.site.test_bag.as_deref()) {
            None => serve::<T, _, _>(&self.site, &*self.next, request),
            Some(visitor) => {
                let (site, next) = (self.site.clone(), self.next.clone());
                Box::pin(async move {
                    let cookie = visitor.arrive(&site.engine, &site.http, &mut request).await?;
                    let mut answer = serve::<T, _, _>(&site, &*next, request).await?;
                    set_unless_set(answer.headers_mut(), cookie);
                    Ok(answer)
                })
            }
        }
    }
}

fn serve<T, N, B>(
    site: &Site,
    next: &N,
    request: ServiceRequest,
) -> LocalBoxFuture<'static, Result<ServiceResponse<EitherBody<B>>, actix_web::Error>>
where
    T: Databag,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let slot = Rc::new(Slot::<T>::new(site.engine.clone()));
    let header = token_header(&site.http, request.request());
    let answered = match mount(&request, &slot, site, header) {
        Ok(answered) => answered,
        Err(error) => {
            tracing::error!("{error}");
            let response = request.into_response(error.error_response()).map_into_right_body();
            return Box::pin(ready(Ok(response)));
        }
    };
    let (answer, http) = (next.call(request), site.http.clone());
    Box::pin(async move {
        let unfinished = Unfinished { slot: slot.clone(), answered };
        let answer = answer.await;
        unfinished.answered.set(true);
        finish(slot, http, header, answer).await
    })
}

/// Sets a cookie, unless the answer sets or removes it.
fn set_unless_set(headers: &mut HeaderMap, cookie: Option<HeaderValue>) {
    let Some(cookie) = cookie else { return };
    if headers.get_all(SET_COOKIE).all(|other| cookie_name(other) != cookie_name(&cookie)) {
        headers.append(SET_COOKIE, cookie);
    }
}

/// A request whose session is not stored yet. If the client disconnects while the session of another middleware is
/// being stored, this session is stored as well: the handler has answered.
struct Unfinished<T: Databag> {
    slot: Rc<Slot<T>>,
    answered: Rc<Cell<bool>>,
}

impl<T: Databag> Drop for Unfinished<T> {
    fn drop(&mut self) {
        if self.answered.get() && !self.slot.is_finished() && !self.slot.is_untouched() {
            let slot = self.slot.clone();
            // In a task: the bag's own code runs there, and a panic may be unwinding here.
            actix_web::rt::spawn(async move {
                if let Finishing::Storing(storing) = slot.finish(false) {
                    storing.await;
                }
            });
        }
    }
}

/// The slots of a request: one for each session middleware that it has passed.
#[derive(Default)]
struct Slots {
    entries: SmallVec<[Entry; 1]>,
    /// Whether the handler has answered.
    answered: Rc<Cell<bool>>,
}

struct Entry {
    slot: Rc<dyn Any>,
    http: Arc<HttpConfig>,
    /// The header that serves the request; `None` if a cookie does.
    header: Option<&'static str>,
    access: AccessKind,
    bag: &'static str,
}

/// The slot of a bag in a request.
pub(super) struct Mounted<T> {
    pub(super) slot: Rc<Slot<T>>,
    pub(super) http: Arc<HttpConfig>,
    /// The header that serves the request; `None` if a cookie does.
    pub(super) header: Option<&'static str>,
    access: AccessKind,
}

impl<T: Databag> Mounted<T> {
    /// Returns the sessions of the middleware.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if they can do less than the handler asks for.
    fn sessions<A: Access>(self) -> Result<Sessions<T, A>, Error> {
        if self.access == A::KIND {
            return Ok(Sessions::new(self.slot.engine.clone(), self.http));
        }
        let (bag, access) = (type_name::<T>(), self.access);
        Err(misconfigured(format!(
            "a handler asks for `Sessions<{bag}, {:?}>`, and the middleware has `Sessions<{bag}, {access:?}>`: name that \
             type in the handler",
            A::KIND,
        )))
    }
}

fn mount<T: Databag>(
    request: &ServiceRequest,
    slot: &Rc<Slot<T>>,
    site: &Site,
    header: Option<&'static str>,
) -> Result<Rc<Cell<bool>>, Error> {
    let mut extensions = request.extensions_mut();
    if !extensions.contains::<Slots>() {
        extensions.insert(Slots::default());
    }
    let Slots { entries, answered } = extensions.get_mut().expect("inserted above");
    let bag = type_name::<T>();
    if entries.iter().any(|other| Arc::ptr_eq(&other.http, &site.http)) {
        return Err(Error::Usage(format!(
            "the request passes the middleware of `{bag}` twice: `.wrap(SessionMiddleware::new(sessions))` stands on the \
             `App` or on one scope, not on both"
        )));
    }
    if let Some((other, shared)) =
        entries.iter().find_map(|other| Some((other.bag, other.http.shared_with(&site.http)?)))
    {
        return Err(Error::Usage(format!(
            "the sessions of `{other}` and of `{bag}` have the same {shared}, so each would end the other: give them \
             different names with `#[databag(cookie = \"..\")]`, or by `transport` of the builder",
        )));
    }
    if let Some(other) = entries
        .iter()
        .find(|other| other.http.cookie.was(&site.http.cookie) || site.http.cookie.was(&other.http.cookie))
    {
        return Err(Error::Usage(format!(
            "the `former_cookie` of one of the bags `{}` and `{bag}` is the cookie of the other, so each log-in would \
             remove it: give the other one another name with `#[databag(cookie = \"..\")]`",
            other.bag,
        )));
    }
    let (slot, http, access) = (slot.clone(), site.http.clone(), site.access);
    entries.push(Entry { slot, http, header, access, bag });
    Ok(answered.clone())
}

/// Finds the slot that the innermost middleware of the bag `T` has made.
fn find_entry<T: Databag>(request: &HttpRequest) -> Option<Mounted<T>> {
    let extensions = request.extensions();
    let mut entries = extensions.get::<Slots>().into_iter().flat_map(|slots| slots.entries.iter().rev());
    entries.find_map(|entry| {
        let slot = entry.slot.clone().downcast().ok()?;
        Some(Mounted { slot, http: entry.http.clone(), header: entry.header, access: entry.access })
    })
}

/// Finds the slot of the bag `T` that a test has put into a request.
fn find_test<T: Databag>(request: &HttpRequest) -> Option<Mounted<T>> {
    let slot = request.app_data::<Rc<Slot<T>>>()?.clone();
    let http = Arc::new(HttpConfig::for_test(&T::SCHEMA.cookie));
    Some(Mounted { slot, http, header: None, access: AccessKind::Listed })
}

/// Finds the slot of the bag `T` in a request: a middleware's, or one that a test has put there.
pub(super) fn find_mounted<T: Databag>(request: &HttpRequest) -> Result<Mounted<T>, Error> {
    find_entry(request).or_else(|| find_test(request)).ok_or_else(|| {
        misconfigured(format!(
            "a handler asks for the session `{}`, and no middleware provides it: add \
             `.wrap(SessionMiddleware::new(sessions))` to the `App`. If it has one, a guard or another middleware asks before \
             it: what is wrapped last runs first, so the session middleware is the last `.wrap`",
            type_name::<T>(),
        ))
    })
}

/// Finds the sessions of the bag `T`: a middleware's, or without one those in [`Data`], or those of a test's request.
pub(super) fn find_sessions<T: Databag, A: Access>(request: &HttpRequest) -> Result<Sessions<T, A>, Error> {
    if let Some(mounted) = find_entry(request) {
        return mounted.sessions();
    }
    if let Some(sessions) = request.app_data::<Data<Sessions<T, A>>>() {
        return Ok(sessions.get_ref().clone());
    }
    if let Some(mounted) = find_test(request) {
        return mounted.sessions();
    }
    let bag = type_name::<T>();
    Err(misconfigured(format!(
        "a handler asks for `Sessions<{bag}, {:?}>`, and there are none: add \
         `.wrap(SessionMiddleware::new(sessions))` or `.app_data(web::Data::new(sessions))` to the `App`",
        A::KIND,
    )))
}

/// Logs a mistake in the application, because its answer is opaque, and returns the error.
fn misconfigured(message: String) -> Error {
    let error = Error::Usage(message);
    tracing::error!("{error}");
    error
}

/// Stores the session, and puts the result on the answer.
async fn finish<T: Databag, B: MessageBody>(
    slot: Rc<Slot<T>>,
    http: Arc<HttpConfig>,
    header: Option<&'static str>,
    answer: Result<ServiceResponse<B>, actix_web::Error>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let suppress_cookie = match &answer {
        Ok(answer) => skips_cookie(&http, answer.request(), answer.response().head()),
        Err(_) => false,
    };
    let engine = slot.engine.clone();
    let Some(finished) = finish_to_the_end(slot, suppress_cookie).await else {
        return answer.map(ServiceResponse::map_into_left_body);
    };
    let headers = SessionHeaders::of(http, header, &engine, &finished);
    match (answer, finished.error) {
        (Ok(mut answer), None) => {
            headers.write(answer.headers_mut());
            Ok(answer.map_into_left_body())
        }
        (Ok(answer), Some(error)) => {
            let mut response = error.error_response();
            for (name, value) in session_headers(&answer) {
                response.headers_mut().append(name, value);
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            headers.write(response.headers_mut());
            Ok(answer.into_response(response).map_into_right_body())
        }
        (Err(answer), None) => Err(ErrorWithCookie { answer, headers: vec![headers] }.into()),
        (Err(replaced), Some(error)) => {
            let mut all = ErrorWithCookie::headers_of(&replaced);
            all.push(headers);
            Err(ErrorWithCookie { answer: error.into(), headers: all }.into())
        }
    }
}

/// Returns the headers with the tokens of other bags in an answer: their sessions are stored, whatever becomes of this one.
fn session_headers<B>(answer: &ServiceResponse<B>) -> Vec<(HeaderName, HeaderValue)> {
    let extensions = answer.request().extensions();
    let entries = extensions.get::<Slots>().map_or(&[][..], |slots| &slots.entries[..]);
    let is_of_a_session = |(name, value): &(&HeaderName, &HeaderValue)| {
        entries.iter().any(|entry| match entry.header {
            Some(header) => name.as_str().eq_ignore_ascii_case(header),
            None => *name == SET_COOKIE && entry.http.cookie.is_name(cookie_name(value)),
        })
    };
    let headers = answer.headers().iter().filter(is_of_a_session);
    headers.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Finishes a slot that was used, even if the client disconnects and this future is dropped.
async fn finish_to_the_end<T: Databag>(slot: Rc<Slot<T>>, suppress_cookie: bool) -> Option<FinishedSession> {
    if slot.is_untouched() {
        slot.forbid_writes();
        return None;
    }
    let mut storing = match slot.finish(suppress_cookie) {
        Finishing::Done(finished) => return Some(finished),
        Finishing::Storing(storing) => storing,
    };
    match poll!(&mut storing) {
        Poll::Ready(finished) => Some(finished),
        Poll::Pending => Some(actix_web::rt::spawn(storing).await.unwrap_or_else(|_| FinishedSession {
            cookie: None,
            is_known: false,
            csrf_cookie: None,
            error: Some(Error::Usage("storing the session panicked".to_owned())),
        })),
    }
}

/// The headers of an answer that depend on the session.
#[derive(Clone)]
struct SessionHeaders {
    http: Arc<HttpConfig>,
    /// The cookies, or the header with the token.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl SessionHeaders {
    fn of(
        http: Arc<HttpConfig>,
        header: Option<&'static str>,
        engine: &Engine,
        finished: &FinishedSession,
    ) -> Self {
        let update = finished.cookie.as_ref();
        let values = if header.is_some() {
            update.filter(|_| !finished.is_known).map(token_value).into_iter().collect()
        } else {
            let mut cookies = update.map_or_else(Vec::new, |update| set_cookies(&http, update, engine.now()));
            cookies.extend(finished.csrf_cookie.as_ref().map(|update| csrf_cookie(&http, update)));
            cookies
        };
        let name = header.map_or(Some(SET_COOKIE), |header| HeaderName::from_bytes(header.as_bytes()).ok());
        let header = |text: &Zeroizing<String>| {
            let mut value = HeaderValue::from_str(text).ok()?;
            // It holds the token: the `Debug` of a sensitive value, in a log of answers or errors, does not show it.
            value.set_sensitive(true);
            Some((name.clone()?, value))
        };
        let headers = values.iter().filter_map(header).collect();
        Self { http, headers }
    }

    fn write(&self, headers: &mut HeaderMap) {
        let transport = self.http.transport;
        for name in transport.uses_cookies().then_some("Cookie").into_iter().chain(transport.header()) {
            vary(headers, name);
        }
        if self.headers.is_empty() {
            return;
        }
        // A cache that kept this answer would give one visitor's session to the next (CVE-2023-30861).
        headers.retain(|name, value| {
            if name == SET_COOKIE { !self.replaces(value) } else { !is_for_caches(name.as_str()) }
        });
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in &self.headers {
            if name == SET_COOKIE {
                headers.append(SET_COOKIE, value.clone());
            } else {
                headers.insert(name.clone(), value.clone());
            }
        }
    }

    /// Returns whether the answer has a cookie of this name already. Of two a browser would keep the last one.
    fn replaces(&self, cookie: &HeaderValue) -> bool {
        let name = cookie_name(cookie);
        let mut own = self.headers.iter().filter(|(name, _)| name == SET_COOKIE);
        let is_replaced = own.any(|(_, own)| cookie_name(own) == name);
        if is_replaced {
            self.http.warnings.replaced_cookie.call_once(|| {
                tracing::warn!(
                    cookie = %String::from_utf8_lossy(name),
                    "a handler sets a cookie that belongs to the session middleware, in an answer in which the middleware sets \
                     it too: the handler's is dropped; give it another name, or change the session instead"
                );
            });
        }
        is_replaced
    }
}

/// Notes that an answer depends on a header of the request.
fn vary(headers: &mut HeaderMap, name: &'static str) {
    let is_noted = |value: &HeaderValue| {
        let is_name = |other: &str| other == "*" || other.eq_ignore_ascii_case(name);
        value.to_str().is_ok_and(|value| value.split(',').map(str::trim).any(is_name))
    };
    if !headers.get_all(VARY).any(is_noted) {
        headers.append(VARY, HeaderValue::from_static(name));
    }
}

/// Returns the name in a `Set-Cookie` header (RFC 6265bis §5.6).
fn cookie_name(header: &HeaderValue) -> &[u8] {
    header.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

/// Returns whether a header tells a cache to keep an answer, whatever `Cache-Control` says: the targeted ones of RFC 9213,
/// such as `CDN-Cache-Control`, and those from before it.
fn is_for_caches(header: &str) -> bool {
    header.ends_with("-cache-control")
        || ["surrogate-control", "edge-control", "x-accel-expires", "expires"].contains(&header)
}

/// An error of an inner service, and the headers of sessions for its answer: those of the innermost middleware first.
struct ErrorWithCookie {
    answer: actix_web::Error,
    headers: Vec<SessionHeaders>,
}

impl ErrorWithCookie {
    /// Returns the headers that an error has for its answer: the sessions of other bags are stored, whatever takes its place.
    fn headers_of(error: &actix_web::Error) -> Vec<SessionHeaders> {
        let Some(error) = error.as_error::<Self>() else { return Vec::new() };
        let mut headers = Self::headers_of(&error.answer);
        headers.extend_from_slice(&error.headers);
        headers
    }
}

impl fmt::Debug for ErrorWithCookie {
    /// Shows the inner error only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.fmt(f)
    }
}

impl fmt::Display for ErrorWithCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.fmt(f)
    }
}

impl ResponseError for ErrorWithCookie {
    fn status_code(&self) -> StatusCode {
        self.answer.as_response_error().status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.answer.error_response();
        for headers in &self.headers {
            headers.write(response.headers_mut());
        }
        response
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use actix_web::body::BoxBody;
    use actix_web::http::header::COOKIE;
    use actix_web::middleware::{Next, from_fn};
    use actix_web::test::{TestRequest, init_service, try_call_service};
    use actix_web::{App, error, web};

    use super::*;
    use crate::request::Session;
    use crate::store::sqlite::SqliteStore;

    #[derive(crate::Databag)]
    #[databag(table = "answers")]
    struct Shop {
        visits: u32,
    }

    async fn visit(mut session: Session<Shop>) -> &'static str {
        session.visits += 1;
        "visited"
    }

    async fn fail(
        request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        next.call(request).await?;
        Err(error::ErrorImATeapot("no coffee"))
    }

    #[actix_web::test]
    async fn debug_of_an_answer_or_an_error_shows_no_token() {
        let store = SqliteStore::in_memory().expect("memory");
        let sessions = Sessions::<Shop>::builder(store).danger_plaintext().build().await.expect("builds");
        let form = async |session: Session<Shop>| session.csrf_token();
        let bare = App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(visit));
        let bare = bare.route("/form", web::get().to(form));
        let bare = init_service(bare).await;
        let answer = try_call_service(&bare, TestRequest::get().to_request()).await.expect("an answer");
        let set_cookie = answer.headers().get(SET_COOKIE).expect("a new session");
        assert_eq!(format!("{set_cookie:?}"), "Sensitive");

        // A session that begins after a form sets two cookies.
        let form = TestRequest::get().uri("/form").to_request();
        let answer = try_call_service(&bare, form).await.expect("an answer");
        let visitor =
            answer.headers().get(SET_COOKIE).expect("the cookie of a form").to_str().expect("is text");
        let visitor = visitor.split(';').next().expect("a pair").to_owned();
        let request = TestRequest::get().insert_header((COOKIE, visitor)).to_request();
        let answer = try_call_service(&bare, request).await.expect("an answer");
        let shown: Vec<_> =
            answer.headers().get_all(SET_COOKIE).map(|cookie| format!("{cookie:?}")).collect();
        assert_eq!(shown, ["Sensitive"; 2]);

        let failing = App::new()
            .wrap(from_fn(fail))
            .wrap(SessionMiddleware::new(sessions))
            .route("/", web::get().to(visit));
        let failing = init_service(failing).await;
        let error = try_call_service(&failing, TestRequest::get().to_request()).await.expect_err("fails");
        assert!(error.error_response().headers().contains_key(SET_COOKIE), "the session was stored");
        assert_eq!(format!("{error:?}"), format!("{:?}", error::ErrorImATeapot("no coffee")));
    }
}
