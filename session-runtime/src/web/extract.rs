//! Extractors: what a handler names in its arguments.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::config::visitor;
use super::log_in::{NotFresh, NotLoggedIn};
use super::middleware::{Mounted, find_mounted, find_sessions};
use crate::backend::access::Access;
use crate::bag::{Databag, HasUser};
use crate::error::Error;
use crate::http::HttpConfig;
use crate::request::{Fresh, LoggedIn, Session, SessionRef, Slot};
use crate::sessions::Sessions;

/// Finds the slot of the request and loads the session into it.
pub(super) async fn loaded<T: Databag>(request: &HttpRequest) -> Result<Mounted<T>, Error> {
    let mounted = find_mounted::<T>(request)?;
    let Mounted { slot, http, header, .. } = &mounted;
    let config = &slot.engine.context.config;
    slot.load(|| visitor::<T>(http, *header, request, config)).await?;
    Ok(mounted)
}

async fn slot<T: Databag>(request: &HttpRequest) -> Result<Rc<Slot<T>>, Error> {
    loaded(request).await.map(|mounted| mounted.slot)
}

impl<T: Databag> FromRequest for Session<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::borrow_from(&slot(&request).await?) })
    }
}

impl<T: Databag> FromRequest for SessionRef<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::borrow_from(&*slot(&request).await?) })
    }
}

impl<T: HasUser> FromRequest for LoggedIn<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { logged_in(&request).await.map(|(session, _)| session) })
    }
}

impl<T: HasUser, const SECONDS: u64> FromRequest for Fresh<T, SECONDS> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let (session, http) = logged_in(&request).await?;
            Ok(Self::new(session).ok_or_else(|| NotFresh::of(&request, &http, SECONDS))?)
        })
    }
}

async fn logged_in<T: HasUser>(
    request: &HttpRequest,
) -> Result<(LoggedIn<T>, Arc<HttpConfig>), actix_web::Error> {
    let Mounted { slot, http, .. } = loaded::<T>(request).await?;
    let session = Session::borrow_from(&slot)?;
    let session = LoggedIn::new(session).ok_or_else(|| NotLoggedIn::of(request, &http))?;
    Ok((session, http))
}

/// The sessions of the middleware, or, without one, those in [`Data`](actix_web::web::Data).
impl<T: Databag, A: Access> FromRequest for Sessions<T, A> {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(find_sessions(request))
    }
}
