//! The middleware: gives each request a slot for its session, and stores the session before the answer
//! is sent.
//!
//! A route that asks for no session costs the slot and nothing else: no cookie is parsed, no store asked.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, SET_COOKIE, VARY};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError};
use futures_util::future::LocalBoxFuture;
use futures_util::poll;

use crate::bag::Databag;
use crate::error::Error;
use crate::session::{Closed, Slot};
use crate::sessions::{Core, Sessions};
use crate::store::{DefaultStore, Store};

/// Brings the sessions of the bag `T` to the handlers behind it. Wrap the `App`, or a scope, in one for
/// each bag.
///
/// # Examples
///
/// ```
/// use actix_web::{App, web};
/// use session_runtime::{Databag, Session, SessionMiddleware, Sessions};
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
/// fn configure(sessions: Sessions<Shop>) {
///     let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/", web::get().to(visit));
///     # let _ = app;
/// }
/// # let _ = configure;
/// ```
pub struct SessionMiddleware<T, S = DefaultStore> {
    core: Arc<Core>,
    types: PhantomData<fn() -> (T, S)>,
}

impl<T: Databag, S: Store> SessionMiddleware<T, S> {
    /// Makes the middleware for these sessions.
    pub fn new(sessions: Sessions<T, S>) -> Self {
        Self { core: sessions.core, types: PhantomData }
    }
}

impl<T, S> fmt::Debug for SessionMiddleware<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionMiddleware(..)")
    }
}

impl<T, S, N, B> Transform<N, ServiceRequest> for SessionMiddleware<T, S>
where
    T: Databag,
    S: Store,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    N::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = SessionService<T, N>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, next: N) -> Self::Future {
        ready(Ok(SessionService { core: self.core.clone(), next, bag: PhantomData }))
    }
}

#[doc(hidden)]
pub struct SessionService<T, N> {
    core: Arc<Core>,
    next: N,
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
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    N::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    forward_ready!(next);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let slot = Rc::new(Slot::<T>::new(self.core.clone()));
        let answered = match mount(&request, &slot) {
            Ok(answered) => answered,
            Err(error) => {
                tracing::error!("{error}");
                let response = request.into_response(error.error_response()).map_into_right_body();
                return Box::pin(ready(Ok(response)));
            }
        };
        let answer = self.next.call(request);
        Box::pin(async move {
            let unfinished = Unfinished { slot: slot.clone(), answered };
            let answer = answer.await;
            unfinished.answered.set(true);
            finish(slot, answer).await
        })
    }
}

/// A request whose session is not stored yet. When its client hangs up while the session of another middleware
/// is being stored, this one is stored as well: the handler has answered.
struct Unfinished<T: Databag> {
    slot: Rc<Slot<T>>,
    answered: Rc<Cell<bool>>,
}

impl<T: Databag> Drop for Unfinished<T> {
    fn drop(&mut self) {
        if self.answered.get() && !self.slot.is_shut() && !self.slot.is_unasked() {
            let slot = self.slot.clone();
            actix_web::rt::spawn(async move { slot.close(false).await });
        }
    }
}

/// The slots of a request: one for each session middleware it has passed.
#[derive(Default)]
struct Slots {
    mounted: Vec<Mounted>,
    /// Whether the handler has answered.
    answered: Rc<Cell<bool>>,
}

struct Mounted {
    slot: Rc<dyn Any>,
    core: Arc<Core>,
    bag: &'static str,
}

fn mount<T: Databag>(request: &ServiceRequest, slot: &Rc<Slot<T>>) -> Result<Rc<Cell<bool>>, Error> {
    let mut extensions = request.extensions_mut();
    if !extensions.contains::<Slots>() {
        extensions.insert(Slots::default());
    }
    let Slots { mounted, answered } = extensions.get_mut().expect("inserted above");
    let cookie = slot.core.web.cookie.name();
    let bag = std::any::type_name::<T>();
    if let Some(other) = mounted.iter().find(|other| other.core.web.cookie.name() == cookie) {
        return Err(Error::Usage(format!(
            "the sessions of `{}` and of `{bag}` have one cookie, `{cookie}`, so that each would end the other: name \
             them apart with `#[databag(cookie = \"..\")]`",
            other.bag,
        )));
    }
    mounted.push(Mounted { slot: slot.clone(), core: slot.core.clone(), bag });
    Ok(answered.clone())
}

/// Finds the slot of the bag `T` in a request.
pub(super) fn slot<T: Databag>(request: &HttpRequest) -> Result<Rc<Slot<T>>, Error> {
    let extensions = request.extensions();
    let mut mounted = extensions.get::<Slots>().into_iter().flat_map(|slots| &slots.mounted);
    let slot = mounted.find_map(|mounted| mounted.slot.clone().downcast().ok());
    slot.or_else(|| request.app_data::<Rc<Slot<T>>>().cloned()).ok_or_else(|| {
        let bag = std::any::type_name::<T>();
        let error = Error::Usage(format!(
            "a handler asks for the session `{bag}`, and no middleware brings it: add \
             `.wrap(SessionMiddleware::new(sessions))` to the `App`",
        ));
        tracing::error!("{error}");
        error
    })
}

/// Stores the session and tells the browser about it.
async fn finish<T: Databag, B: MessageBody>(
    slot: Rc<Slot<T>>,
    answer: Result<ServiceResponse<B>, actix_web::Error>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let core = slot.core.clone();
    let muted = match (&core.web.skip_cookie, &answer) {
        (Some(skip), Ok(answer)) => skip(answer.request(), answer.response().head()),
        _ => false,
    };
    let Some(closed) = close(slot, muted).await else {
        return answer.map(ServiceResponse::map_into_left_body);
    };
    let news = News::of(&core, &closed);
    match (answer, closed.error) {
        (Ok(mut answer), None) => {
            news.write(answer.headers_mut());
            Ok(answer.map_into_left_body())
        }
        (Ok(answer), Some(error)) => {
            let mut response = error.error_response();
            for cookie in session_cookies(&answer) {
                response.headers_mut().append(SET_COOKIE, cookie);
            }
            news.write(response.headers_mut());
            Ok(answer.into_response(response).map_into_right_body())
        }
        (Err(answer), None) => Err(Dressed { answer, news }.into()),
        (Err(_), Some(error)) => Err(Dressed { answer: error.into(), news }.into()),
    }
}

/// Returns what an answer says about sessions of other bags: they are stored, whatever becomes of this one.
fn session_cookies<B>(answer: &ServiceResponse<B>) -> Vec<HeaderValue> {
    let extensions = answer.request().extensions();
    let mounted = extensions.get::<Slots>().map_or(&[][..], |slots| &slots.mounted);
    let is_one = |cookie: &&HeaderValue| {
        let name = cookie.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
        mounted.iter().any(|mounted| mounted.core.web.cookie.name().as_bytes() == name)
    };
    answer.headers().get_all(SET_COOKIE).filter(is_one).cloned().collect()
}

/// Closes a slot that was used. What was begun is finished even if the client hangs up and this future
/// is dropped.
async fn close<T: Databag>(slot: Rc<Slot<T>>, muted: bool) -> Option<Closed> {
    if slot.is_unasked() {
        slot.shut();
        return None;
    }
    let mut closing: LocalBoxFuture<'static, Closed> = Box::pin(async move { slot.close(muted).await });
    match poll!(&mut closing) {
        std::task::Poll::Ready(closed) => Some(closed),
        std::task::Poll::Pending => Some(actix_web::rt::spawn(closing).await.unwrap_or_else(|_| Closed {
            sent: None,
            error: Some(Error::Usage("storing the session panicked".to_owned())),
        })),
    }
}

/// What an answer says about the session.
#[derive(Debug)]
struct News {
    set_cookie: Option<HeaderValue>,
}

impl News {
    fn of(core: &Core, closed: &Closed) -> Self {
        let header = closed.sent.as_ref().map(|sent| core.web.set_cookie(sent, core.now()));
        let mut set_cookie = header.and_then(|header| HeaderValue::from_str(&header).ok());
        if let Some(set_cookie) = &mut set_cookie {
            // It holds the token; its `Debug` keeps quiet then, in whatever log of an answer or an error.
            set_cookie.set_sensitive(true);
        }
        Self { set_cookie }
    }

    fn write(&self, headers: &mut HeaderMap) {
        let varies = |value: &HeaderValue| {
            value.to_str().is_ok_and(|value| {
                value.split(',').any(|name| matches!(name.trim(), "*" | "Cookie" | "cookie"))
            })
        };
        if !headers.get_all(VARY).any(varies) {
            headers.append(VARY, HeaderValue::from_static("Cookie"));
        }
        if let Some(set_cookie) = &self.set_cookie {
            headers.append(SET_COOKIE, set_cookie.clone());
            // A cache that kept this answer would hand one visitor's session to the next (CVE-2023-30861).
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

/// An error that an inner service answered with, and what its answer says about the session.
struct Dressed {
    answer: actix_web::Error,
    news: News,
}

impl fmt::Debug for Dressed {
    /// Shows the error only, as if it were not dressed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.fmt(f)
    }
}

impl fmt::Display for Dressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.fmt(f)
    }
}

impl ResponseError for Dressed {
    fn status_code(&self) -> StatusCode {
        self.answer.as_response_error().status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.answer.error_response();
        self.news.write(response.headers_mut());
        response
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use actix_web::body::BoxBody;
    use actix_web::middleware::{Next, from_fn};
    use actix_web::test::{TestRequest, init_service, try_call_service};
    use actix_web::{App, error, web};

    use super::*;
    use crate::session::Session;
    use crate::store::sqlite::SqliteStore;

    #[derive(crate::Databag)]
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
        let bare = App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(visit));
        let bare = init_service(bare).await;
        let answer = try_call_service(&bare, TestRequest::get().to_request()).await.expect("an answer");
        let set_cookie = answer.headers().get(SET_COOKIE).expect("a new session");
        assert_eq!(format!("{set_cookie:?}"), "Sensitive");

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
