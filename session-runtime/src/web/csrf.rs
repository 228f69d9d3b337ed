//! The guard against forged requests: a request enters, and goes on if a page of this site has sent it.

use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::error::PayloadError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, LocalBoxStream, StreamExt as _};
use tokio::sync::oneshot;

use super::config::{CSRF_HEADER, host};
use super::extract::loaded;
use super::guard::GuardService;
use super::middleware::{Mounted, find_mounted};
use crate::bag::Databag;
use crate::error::{CsrfError, Error};
use crate::http::origin::Provenance;

/// The form's field that carries a token.
const TOKEN_FIELD: &[u8] = b"csrf_token=";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How many bytes of a form are read in search of its token.
const MAX_SEARCHED: usize = 64 * 1024;

/// Refuses requests that another site has forged, with 403 ([`Error::Csrf`]): as a guard of an `App` or a scope, or as an
/// argument of one handler.
///
/// `GET`, `HEAD`, `OPTIONS` and `TRACE` pass: their handlers must not change anything. Any other request passes
///
/// 1. if a page of this origin has sent it, or of one of [`trusted_origins`](crate::Builder::trusted_origins), by
///    `Sec-Fetch-Site`, or by `Origin` where the browser sends only that. Clients that are no browsers send neither.
/// 2. and if it has a token of [`Session::csrf_token`](crate::Session::csrf_token), in the header `X-CSRF-Token` or in the
///    field `csrf_token` of a form (`application/x-www-form-urlencoded`). The field stands within the first 64 KiB. Other
///    bodies, also `multipart/form-data`, need the header. The query is never read.
///
/// A request whose session comes by the header of a [`Transport`](crate::Transport) passes too: browsers add no such header by
/// themselves, and a page of another origin cannot.
///
/// The log-in form of a visitor without a session is guarded as well. `Csrf` stands inside the session middleware, and
/// as an argument before the one that reads the body.
///
/// # Examples
///
/// ```
/// use actix_web::{App, HttpResponse, Responder, web};
/// use session_runtime::{Csrf, Databag, Session, SessionMiddleware, Sessions};
///
/// #[derive(Databag)]
/// struct Shop {
///     theme: String,
/// }
///
/// async fn form(session: Session<Shop>) -> impl Responder {
///     web::Html::new(format!(
///         r#"<form method="post"><input type="hidden" name="csrf_token" value="{}">
///         <input name="theme"><button>Set</button></form>"#,
///         session.csrf_token(),
///     ))
/// }
///
/// #[derive(serde::Deserialize)]
/// struct Theme {
///     theme: String,
/// }
///
/// async fn set(mut session: Session<Shop>, form: web::Form<Theme>) -> impl Responder {
///     session.set_theme(&form.theme);
///     HttpResponse::Ok()
/// }
///
/// fn configure(sessions: Sessions<Shop>) {
///     let app = App::new()
///         .wrap(Csrf::<Shop>::guard())
///         .wrap(SessionMiddleware::new(sessions)) // around the guard
///         .route("/theme", web::get().to(form))
///         .route("/theme", web::post().to(set));
///     # let _ = app;
/// }
/// # let _ = configure;
/// ```
///
/// For one handler: `async fn set(_: Csrf<Shop>, mut session: Session<Shop>, form: web::Form<Theme>)`.
pub struct Csrf<T> {
    bag: PhantomData<fn() -> T>,
}

impl<T: Databag> Csrf<T> {
    /// Makes the guard, for `wrap`.
    pub fn guard() -> Self {
        Self { bag: PhantomData }
    }

    /// Makes the argument of a handler that a test calls.
    pub fn for_test() -> Self {
        Self::guard()
    }
}

impl<T> fmt::Debug for Csrf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Csrf")
    }
}

impl<T: Databag> FromRequest for Csrf<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if request.method().is_safe() {
            return Box::pin(ready(Ok(Self::guard())));
        }
        let origin = match find_mounted::<T>(request) {
            // No page of another site can add the header.
            Ok(Mounted { header: Some(_), .. }) => return Box::pin(ready(Ok(Self::guard()))),
            Ok(mounted) => mounted.http.origins.check(provenance(request)),
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let token = match origin {
            Ok(()) => token(request, payload),
            Err(refusal) => Box::pin(ready(Err(refusal))),
        };
        let request = request.clone();
        Box::pin(async move {
            let checked = match token.await {
                Ok(token) => loaded::<T>(&request).await?.slot.verify_csrf(&token),
                Err(refusal) => return Err(refused::<T>(&request, refusal)),
            };
            if checked { Ok(Self::guard()) } else { Err(refused::<T>(&request, CsrfError::Token)) }
        })
    }
}

/// Logs why a request is refused, because its answer is opaque.
fn refused<T: Databag>(request: &HttpRequest, reason: CsrfError) -> Error {
    let (bag, method, route) = (T::SCHEMA.name, request.method(), request.match_pattern());
    tracing::info!(bag, %method, route, %reason, "a request is refused: it may be forged");
    Error::Csrf(reason)
}

fn provenance(request: &HttpRequest) -> Provenance<'_> {
    let headers = request.headers();
    Provenance { fetch_site: only(headers, FETCH_SITE), origin: only(headers, ORIGIN), host: host(request) }
}

/// Returns the value of a header; nothing, `Some(b"")`, if it is sent twice.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).map(HeaderValue::as_bytes);
    let first = values.next()?;
    Some(if values.next().is_some() { b"" } else { first })
}

/// Finds the token that a request has submitted. What it reads of the body, `payload` has again when the result is there.
fn token(
    request: &HttpRequest,
    payload: &mut Payload,
) -> LocalBoxFuture<'static, Result<Vec<u8>, CsrfError>> {
    if let Some(token) = only(request.headers(), CSRF_HEADER) {
        return Box::pin(ready(Ok(token.to_vec())));
    }
    if !request.content_type().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Box::pin(ready(Err(CsrfError::Missing)));
    }
    let (put_back, start) = oneshot::channel();
    let body = std::mem::replace(payload, Payload::from(resumed(start)));
    Box::pin(async move {
        let start = BodyStart::read(body).await;
        let token = start.field();
        // A handler that does not read the body has dropped the other end.
        let _ = put_back.send(start);
        token.ok_or(CsrfError::Missing)
    })
}

/// A body of which the beginning was read.
struct BodyStart {
    read: Vec<u8>,
    failed: Option<PayloadError>,
    rest: Payload,
}

impl BodyStart {
    async fn read(mut rest: Payload) -> Self {
        let mut read = Vec::new();
        while read.len() < MAX_SEARCHED {
            match rest.next().await {
                Some(Ok(bytes)) => read.extend_from_slice(&bytes),
                Some(Err(error)) => return Self { read, failed: Some(error), rest },
                None => break,
            }
        }
        Self { read, failed: None, rest }
    }

    /// Returns the value of the token's field. A browser writes its name and a token as they are.
    fn field(&self) -> Option<Vec<u8>> {
        let searched = &self.read[..self.read.len().min(MAX_SEARCHED)];
        let mut pairs = searched.split(|byte| *byte == b'&');
        pairs.find_map(|pair| pair.strip_prefix(TOKEN_FIELD)).map(<[u8]>::to_vec)
    }
}

/// Returns the whole body again. It waits until the beginning was read: extractors of one handler run side by side.
fn resumed(start: oneshot::Receiver<BodyStart>) -> LocalBoxStream<'static, Result<Bytes, PayloadError>> {
    Box::pin(stream::once(start).flat_map(|start| match start {
        Ok(BodyStart { read, failed, rest }) => {
            let read = std::iter::once(Ok(Bytes::from(read))).chain(failed.map(Err));
            stream::iter(read).chain(rest).left_stream()
        }
        // The request is refused.
        Err(_) => stream::iter([Err(PayloadError::Incomplete(None))]).right_stream(),
    }))
}

impl<T, N, B> Transform<N, ServiceRequest> for Csrf<T>
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
        ready(Ok(GuardService::new(next, |request, payload| {
            let checked = Self::from_request(request, payload);
            Box::pin(async move { checked.await.map(drop).map_err(actix_web::Error::from) })
        })))
    }
}
