//! The guard of a scope that only some sessions may enter.

use std::fmt;
use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};

use super::extract::loaded;
use super::guard::GuardService;
use super::log_in::Answer;
use crate::bag::Databag;
use crate::request::SessionRef;

/// The session does not meet what [`require`] asks for. Answered 403: as JSON, `{"error":"not_allowed"}`, or as text, by
/// what the client accepts.
#[derive(Clone, Debug)]
pub struct NotAllowed(Answer);

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session does not meet what the scope requires")
    }
}

impl ResponseError for NotAllowed {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }

    fn error_response(&self) -> HttpResponse {
        self.0.response(StatusCode::FORBIDDEN, r#"{"error":"not_allowed"}"#.to_owned())
    }
}

/// Makes a guard of a scope, or an `App`, that stands inside the session middleware: it lets requests pass whose session meets
/// `condition`, and answers others [`NotAllowed`], also those who have not logged in: [`LoggedIn`](crate::LoggedIn), as the
/// argument of a handler, sends them to do so.
///
/// A field that says what a user may do is marked `reset_on_login`, so that it does not pass to the next user.
///
/// # Examples
///
/// ```
/// use actix_web::{App, web};
/// use session_runtime::{Databag, SessionMiddleware, Sessions, require};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
///     #[databag(reset_on_login)]
///     is_admin: bool,
/// }
///
/// fn configure(sessions: Sessions<Shop>) {
///     let admin = web::scope("/admin").wrap(require(|shop: &Shop| shop.is_admin));
///     let app = App::new().service(admin).wrap(SessionMiddleware::new(sessions));
///     # let _ = app;
/// }
/// # let _ = configure;
/// ```
pub fn require<T: Databag>(condition: impl Fn(&T) -> bool + 'static) -> Require<T> {
    Require { condition: Rc::new(condition) }
}

/// The guard that [`require`] makes.
pub struct Require<T> {
    condition: Rc<dyn Fn(&T) -> bool>,
}

impl<T> fmt::Debug for Require<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Require")
    }
}

impl<T, N, B> Transform<N, ServiceRequest> for Require<T>
where
    T: Databag,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = <GuardService<N> as Service<ServiceRequest>>::Response;
    type Error = actix_web::Error;
    type Transform = GuardService<N>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, next: N) -> Self::Future {
        let condition = self.condition.clone();
        ready(Ok(GuardService::new(next, move |request, _| {
            let (request, condition) = (request.clone(), condition.clone());
            Box::pin(async move {
                let session = SessionRef::<T>::borrow_from(&*loaded(&request).await?.slot)?;
                if condition(&session) {
                    return Ok(());
                }
                let (bag, method, route) = (T::SCHEMA.name, request.method(), request.match_pattern());
                tracing::info!(bag, %method, route, session = ?session.id(), "a request is not allowed");
                Err(NotAllowed(Answer::of(&request, None)).into())
            })
        })))
    }
}
