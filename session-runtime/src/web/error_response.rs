//! HTTP responses for errors. Bodies are opaque; the log has the causes.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};

use crate::error::Error;

/// After how many seconds a client may retry.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self {
            error if error.is_refused() => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Store(_)
            | Self::NotLoaded
            | Self::Unconfirmed
            | Self::Unreadable(_)
            | Self::UnknownKey { .. }
            | Self::Contended => StatusCode::SERVICE_UNAVAILABLE,
            Self::Csrf(_) => StatusCode::FORBIDDEN,
            Self::Ended | Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Config(_)
            | Self::Key(_)
            | Self::Encode { .. }
            | Self::NotReadBack { .. }
            | Self::TooLarge { .. }
            | Self::Usage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
        }
        response.body(status.canonical_reason().unwrap_or_default())
    }
}
