//! A small provider: the other site. It knows one client, and one user, who is logged in there and agrees to everything.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use actix_web::error::ErrorBadRequest;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

pub(super) struct Provider {
    callback: String,
    /// The challenges of codes that were not redeemed. A real provider forgets them after a minute.
    codes: Mutex<BTreeMap<String, String>>,
}

impl Provider {
    pub(super) fn new(callback: String) -> Self {
        Self { callback, codes: Mutex::default() }
    }
}

#[derive(Deserialize)]
struct Authorize {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
}

async fn authorize(
    provider: web::Data<Provider>,
    query: web::Query<Authorize>,
) -> actix_web::Result<HttpResponse> {
    let query = query.into_inner();
    let base64url =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let is_good = (query.client_id == "shop" && query.redirect_uri == provider.callback)
        && (query.response_type == "code" && query.code_challenge_method == "S256")
        && (query.code_challenge.len() == 43 && base64url(&query.code_challenge))
        && (!query.state.is_empty() && base64url(&query.state));
    if !is_good {
        return Err(ErrorBadRequest("the site asks for what it may not have"));
    }
    let code = super::random();
    let location = format!("{}?code={code}&state={}", provider.callback, query.state);
    provider.codes.lock().unwrap_or_else(PoisonError::into_inner).insert(code, query.code_challenge);
    Ok(super::see_other(&location))
}

#[derive(Deserialize)]
struct Redeem {
    grant_type: String,
    client_id: String,
    redirect_uri: String,
    code: String,
    code_verifier: String,
}

/// A real provider answers a token, which the site asks for the user with, or which has the user in it.
async fn token(provider: web::Data<Provider>, form: web::Form<Redeem>) -> HttpResponse {
    // Used up, whatever comes of it.
    let challenge = provider.codes.lock().unwrap_or_else(PoisonError::into_inner).remove(&form.code);
    let is_good = (form.grant_type == "authorization_code" && form.client_id == "shop")
        && form.redirect_uri == provider.callback
        && challenge.is_some_and(|challenge| challenge == super::challenge(&form.code_verifier));
    let (mut answer, body) = if is_good {
        (HttpResponse::Ok(), r#"{"sub":"kim"}"#)
    } else {
        (HttpResponse::BadRequest(), r#"{"error":"invalid_grant"}"#)
    };
    answer.content_type("application/json").body(body)
}

pub(super) fn configure(app: &mut web::ServiceConfig, provider: &web::Data<Provider>) {
    app.app_data(provider.clone())
        .route("/authorize", web::get().to(authorize))
        .route("/token", web::post().to(token));
}

#[cfg(test)]
impl Provider {
    pub(super) fn open_codes(&self) -> usize {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
