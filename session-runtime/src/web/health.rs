//! The answer to a readiness probe.

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpResponse, ResponseError as _};

use crate::bag::Databag;
use crate::error::ErrorChain;
use crate::sessions::Sessions;

/// Answers a readiness probe: 200 if the store answers reads and takes writes within the deadline
/// ([`Sessions::health`]), and 503 otherwise. The body says no more than the status; the log has the cause.
///
/// Give the probe more time than [`deadline`](crate::Builder::deadline), which is 2 seconds by default. Each probe writes to the
/// store: serve the route to the probes alone, on an address of its own. Do not let it decide whether the process is
/// restarted: a store that is down is no reason.
///
/// # Examples
///
/// ```
/// use actix_web::{App, web};
/// use session_runtime::{Databag, Sessions, health};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// fn configure(sessions: Sessions<Shop>) {
///     let app = App::new().app_data(web::Data::new(sessions)).route("/ready", web::get().to(health::<Shop>));
///     # let _ = app;
/// }
/// # let _ = configure;
/// ```
pub async fn health<T: Databag>(sessions: Sessions<T>) -> HttpResponse {
    let mut response = match sessions.health().await {
        Ok(()) => HttpResponse::Ok().body("OK"),
        Err(error) => {
            tracing::warn!(bag = T::SCHEMA.name, error = %ErrorChain(&error), "the sessions are not ready");
            error.error_response()
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
