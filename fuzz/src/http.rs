//! Requests to an application in this thread.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::SET_COOKIE;
use actix_web::rt::Runtime;
use actix_web::test::TestRequest;
use futures_util::future::LocalBoxFuture;

// The parts of an application use each other while they are dropped, and a thread drops its values in any order: what a
// thread keeps is not dropped.
thread_local! {
    static RUNTIME: ManuallyDrop<Runtime> = ManuallyDrop::new(Runtime::new().expect("a runtime"));
}

/// Waits for a future.
///
/// # Panics
///
/// If it panics.
pub fn run<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The values of `Set-Cookie`.
    pub set_cookies: Vec<Vec<u8>>,
    /// The body.
    pub body: String,
}

/// An application.
pub type Site = Box<dyn Fn(TestRequest) -> LocalBoxFuture<'static, Answer>>;

/// Makes an application of a service.
pub fn site<S, B>(service: S) -> Site
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let service = Rc::new(service);
    Box::new(move |request| {
        let service = service.clone();
        Box::pin(async move {
            match service.call(request.to_request()).await {
                Ok(answer) => {
                    let set_cookies = answer.headers().get_all(SET_COOKIE);
                    let set_cookies = set_cookies.map(|value| value.as_bytes().to_vec()).collect();
                    let status = answer.status().as_u16();
                    let body = actix_web::body::to_bytes(answer.into_body()).await.unwrap_or_default();
                    Answer { status, set_cookies, body: String::from_utf8_lossy(&body).into_owned() }
                }
                Err(error) => Answer {
                    status: error.error_response().status().as_u16(),
                    set_cookies: Vec::new(),
                    body: String::new(),
                },
            }
        })
    })
}

/// Starts an application with one page and the middleware of these sessions.
#[macro_export]
macro_rules! page {
    ($sessions:expr, $handler:expr) => {
        $crate::http::site(
            ::actix_web::test::init_service(
                ::actix_web::App::new()
                    .wrap(::session_runtime::SessionMiddleware::new($sessions.clone()))
                    .app_data(::actix_web::web::Data::new($sessions.clone()))
                    .default_service(::actix_web::web::to($handler)),
            )
            .await,
        )
    };
}
