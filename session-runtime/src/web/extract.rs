//! Extractors: what a handler names in its arguments.

use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::middleware::slot;
use super::reject::NotLoggedIn;
use crate::bag::{Databag, HasUser};
use crate::error::Error;
use crate::session::{LoggedIn, Session, SessionRef, Slot};

/// Finds the slot of the request and loads the session into it.
async fn loaded<T: Databag>(request: &HttpRequest) -> Result<Rc<Slot<T>>, Error> {
    let slot = slot::<T>(request)?;
    let (web, rules) = (&slot.core.web, &slot.core.rules);
    slot.load(|| (web.presented(request.headers()), web.visitor(request, rules.bind_agent))).await?;
    Ok(slot)
}

impl<T: Databag> FromRequest for Session<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { loaded(&request).await?.take() })
    }
}

impl<T: Databag> FromRequest for SessionRef<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { loaded(&request).await?.look() })
    }
}

impl<T: HasUser> FromRequest for LoggedIn<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let slot = loaded::<T>(&request).await?;
            let location = slot.core.web.login_redirect.clone();
            Ok(LoggedIn::new(slot.take()?).ok_or(NotLoggedIn { location })?)
        })
    }
}
