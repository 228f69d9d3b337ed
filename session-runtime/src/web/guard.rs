//! The service of guards: a request enters, and goes on if it passes a check.

use std::fmt;
use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, forward_ready};
use futures_util::future::LocalBoxFuture;

type Check = dyn Fn(&HttpRequest, &mut Payload) -> LocalBoxFuture<'static, Result<(), actix_web::Error>>;

#[doc(hidden)]
pub struct GuardService<N> {
    next: Rc<N>,
    check: Box<Check>,
}

impl<N> GuardService<N> {
    pub(super) fn new(
        next: N,
        check: impl Fn(&HttpRequest, &mut Payload) -> LocalBoxFuture<'static, Result<(), actix_web::Error>>
        + 'static,
    ) -> Self {
        Self { next: Rc::new(next), check: Box::new(check) }
    }
}

impl<N> fmt::Debug for GuardService<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardService(..)")
    }
}

impl<N, B> Service<ServiceRequest> for GuardService<N>
where
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    forward_ready!(next);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let next = self.next.clone();
        let (head, payload) = request.parts_mut();
        let check = (self.check)(head, payload);
        Box::pin(async move {
            match check.await {
                Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
                Err(error) => Ok(request.error_response(error).map_into_right_body()),
            }
        })
    }
}
