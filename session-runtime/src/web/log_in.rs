//! What visitors are answered who must log in first, or once more: by what their clients accept.

use std::fmt;

use actix_web::http::Method;
use actix_web::http::StatusCode;
use actix_web::http::header::{Accept, CACHE_CONTROL, ContentType, Header as _, LOCATION, VARY};
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use crate::http::HttpConfig;
use crate::http::return_path::{is_location, with_return_path};

/// The pages to which the handlers of a scope send visitors who must log in first, or once more, instead of those of
/// [`login_redirect`](crate::Builder::login_redirect) and
/// [`reauthentication_redirect`](crate::Builder::reauthentication_redirect): as `app_data` of the scope.
///
/// # Examples
///
/// ```
/// use actix_web::{App, web};
/// use session_runtime::LoginPages;
///
/// let app = App::new()
///     .service(web::scope("/admin").app_data(LoginPages::none().log_in("/admin/login")))
///     .service(web::scope("/api").app_data(LoginPages::none())); // 401 and 403 for all clients
/// # let _ = app;
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoginPages {
    log_in: Option<String>,
    reauthentication: Option<String>,
}

impl LoginPages {
    /// Names no page: every client is answered 401 or 403.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets where a visitor logs in.
    ///
    /// # Panics
    ///
    /// If it is no location: a path, or a URL, without spaces.
    #[must_use]
    pub fn log_in(self, location: impl Into<String>) -> Self {
        Self { log_in: Some(checked(location.into())), ..self }
    }

    /// Sets where a user proves again who they are.
    ///
    /// # Panics
    ///
    /// As [`log_in`](Self::log_in).
    #[must_use]
    pub fn reauthentication(self, location: impl Into<String>) -> Self {
        Self { reauthentication: Some(checked(location.into())), ..self }
    }
}

fn checked(location: String) -> String {
    assert!(is_location(&location), "{location:?} is not a location: write a path or a URL without spaces");
    location
}

/// What kind of answer a client wants most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Page,
    Json,
    Text,
}

impl Wanted {
    fn by(request: &HttpRequest) -> Self {
        let Ok(accept) = Accept::parse(request) else { return Self::Text };
        let known = accept.ranked().into_iter().find_map(|wanted| {
            match (wanted.type_().as_str(), wanted.subtype().as_str()) {
                ("text", "html") | ("application", "xhtml") => Some(Self::Page),
                ("application", "json") => Some(Self::Json),
                ("application", _) if wanted.suffix().is_some_and(|suffix| suffix == "json") => {
                    Some(Self::Json)
                }
                ("text", "plain") | ("*", "*") => Some(Self::Text),
                _ => None,
            }
        });
        known.unwrap_or(Self::Text)
    }
}

/// An answer that does not serve the request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Redirect(String),
    Json,
    Text,
}

impl Answer {
    pub(super) fn of(request: &HttpRequest, page: Option<&str>) -> Self {
        match (Wanted::by(request), page) {
            (Wanted::Page, Some(page)) => {
                // Only what a browser can ask for again.
                let is_asked_for = matches!(*request.method(), Method::GET | Method::HEAD);
                let path = request.uri().path_and_query().filter(|_| is_asked_for);
                Self::Redirect(
                    path.map_or_else(|| page.to_owned(), |path| with_return_path(page, path.as_str())),
                )
            }
            (Wanted::Json, _) => Self::Json,
            (Wanted::Page | Wanted::Text, _) => Self::Text,
        }
    }

    fn status(&self, otherwise: StatusCode) -> StatusCode {
        if matches!(self, Self::Redirect(_)) { StatusCode::SEE_OTHER } else { otherwise }
    }

    pub(super) fn response(&self, status: StatusCode, json: String) -> HttpResponse {
        let mut response = HttpResponse::build(self.status(status));
        response.insert_header((CACHE_CONTROL, "no-store")).insert_header((VARY, "Accept"));
        match self {
            Self::Redirect(location) => response.insert_header((LOCATION, location.as_str())).finish(),
            Self::Json => response.insert_header(ContentType::json()).body(json),
            Self::Text => {
                let reason = status.canonical_reason().unwrap_or_default();
                response.insert_header(ContentType::plaintext()).body(reason)
            }
        }
    }
}

/// A handler needs a user, and none is logged in. Clients that want a page are redirected to the one for log-ins (303), with
/// the path to come back to in the parameter `next`, as [`ReturnPath`](crate::ReturnPath) reads it. Others are answered 401:
/// as JSON, `{"error":"not_logged_in"}`, or as text, by what they accept.
///
/// An error handler of the application finds it by `error.as_error::<NotLoggedIn>()`.
#[derive(Clone, Debug)]
pub struct NotLoggedIn(Answer);

impl NotLoggedIn {
    pub(super) fn of(request: &HttpRequest, http: &HttpConfig) -> Self {
        let pages = request.app_data::<LoginPages>().map(|pages| &pages.log_in);
        Self(Answer::of(request, pages.unwrap_or(&http.login_redirect).as_deref()))
    }
}

impl fmt::Display for NotLoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no user is logged in")
    }
}

impl ResponseError for NotLoggedIn {
    fn status_code(&self) -> StatusCode {
        self.0.status(StatusCode::UNAUTHORIZED)
    }

    fn error_response(&self) -> HttpResponse {
        self.0.response(StatusCode::UNAUTHORIZED, r#"{"error":"not_logged_in"}"#.to_owned())
    }
}

/// A handler needs a [`Fresh`](crate::Fresh) session, and its user was authenticated longer ago. Clients that want a page are
/// redirected to the one where the user proves again who they are (303), with the path to come back to as for [`NotLoggedIn`]. Others
/// are answered 403: as JSON, `{"error":"insufficient_user_authentication","max_age":300}` (the names are those of
/// RFC 9470), or as text, by what they accept.
#[derive(Clone, Debug)]
pub struct NotFresh {
    answer: Answer,
    max_age: u64,
}

impl NotFresh {
    pub(super) fn of(request: &HttpRequest, http: &HttpConfig, max_age: u64) -> Self {
        let pages = request.app_data::<LoginPages>().map(|pages| &pages.reauthentication);
        let page = pages.unwrap_or(&http.reauthentication_redirect).as_deref();
        Self { answer: Answer::of(request, page), max_age }
    }

    /// Returns the longest time since the user was authenticated, in seconds.
    pub fn max_age(&self) -> u64 {
        self.max_age
    }
}

impl fmt::Display for NotFresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the user was authenticated more than {} seconds ago", self.max_age)
    }
}

impl ResponseError for NotFresh {
    fn status_code(&self) -> StatusCode {
        self.answer.status(StatusCode::FORBIDDEN)
    }

    fn error_response(&self) -> HttpResponse {
        let max_age = self.max_age;
        let json = format!(r#"{{"error":"insufficient_user_authentication","max_age":{max_age}}}"#);
        self.answer.response(StatusCode::FORBIDDEN, json)
    }
}
