//! Answers to requests that are not served: a page for browsers, JSON for API clients, and text for others.
//!
//! The status and the headers stay as they are: `Retry-After`, and the cookies.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ContentType, HeaderValue, TryIntoHeaderValue as _, VARY};
use actix_web::middleware::Next;
use actix_web::web;
use serde::Serialize;
use session_runtime::NotAllowed;

use crate::{Shop, Wanted, pages};

#[derive(Serialize)]
struct Problem<'a> {
    /// The reason phrase in lower case: `not_found`.
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// Gives answers of errors a body that the client can show. Wrapped around everything else.
pub(crate) async fn explain<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> actix_web::Result<ServiceResponse<BoxBody>> {
    let answer = next.call(request).await?.map_into_boxed_body();
    let status = answer.status();
    let content_type = answer.headers().get(CONTENT_TYPE);
    let is_text = content_type.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !is_text {
        return Ok(answer);
    }
    let (request, answer) = answer.into_parts();
    let is_not_allowed = answer.error().is_some_and(|error| error.as_error::<NotAllowed>().is_some());
    let (mut answer, body) = answer.into_parts();
    let text = body.try_into_bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    // Only the shop's own words are for visitors. Those of other statuses are reason phrases.
    let is_own = matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) && !text.is_empty();
    let detail = is_own.then_some(text.as_str());
    let (content_type, body) = match Wanted::by(&request) {
        Wanted::Page => {
            let shop = request.app_data::<web::Data<Shop>>().expect("every request has it");
            // The console alone asks for a condition.
            let page =
                if is_not_allowed { pages::no_operator(shop) } else { pages::error(shop, status, detail) };
            (ContentType::html(), page)
        }
        Wanted::Json => {
            let reason = status.canonical_reason().unwrap_or("error");
            let problem = Problem { error: reason.to_lowercase().replace(' ', "_"), detail };
            (ContentType::json(), serde_json::to_string(&problem)?)
        }
        Wanted::Text => (ContentType::plaintext(), text),
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.try_into_value()?);
    headers.append(VARY, HeaderValue::from_static("Accept"));
    Ok(ServiceResponse::new(request, answer.set_body(body).map_into_boxed_body()))
}
