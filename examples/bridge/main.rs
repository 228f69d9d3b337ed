//! Moves a program from actix-session to Databag, and signs nobody out:
//! `cargo run --manifest-path examples/bridge/Cargo.toml`.
//!
//! The middlewares of both stand side by side. [`take_over`] reads what a visitor has in actix-session, begins a session of
//! Databag with it, and purges the old one. `docs/guide/actix-session.md` says when to remove it, and has a table of the calls.
//! A site for browsers also needs the guard `Csrf`, which `examples/forms.rs` shows.

use std::collections::BTreeMap;
use std::error::Error;

use actix_session::SessionExt as _;
use actix_session::storage::{CookieSessionStore, SessionStore};
use actix_web::body::MessageBody;
use actix_web::cookie::Key;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpServer, web};
use session_runtime::{Databag, Keyring, Session, SessionMiddleware, Sessions, SqliteStore};

/// What was in `session.insert("user_id", ..)` and `session.insert("cart", ..)`.
#[derive(Databag)]
#[databag(cookie = "__Host-shop")]
struct Shop {
    #[databag(user_id)]
    user_id: Option<i64>,
    cart: BTreeMap<String, u32>,
}

/// Begins a session of Databag with what the visitor has in actix-session, once.
///
/// It stands inside both middlewares. If it fails, the old session stays as it is, for the next request.
async fn take_over(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> actix_web::Result<ServiceResponse<impl MessageBody>> {
    let old = request.get_session();
    if !old.entries().is_empty() {
        let mut session = request.extract::<Session<Shop>>().await?;
        // A session of Databag that the visitor has already stays as it is.
        if session.is_new() {
            // A value that does not decode is left behind.
            if let Ok(Some(user)) = old.get::<i64>("user_id") {
                session.log_in(user);
            }
            if let Ok(Some(cart)) = old.get("cart") {
                session.cart = cart;
            }
            // Before the old one ends: at each moment the visitor has one of both.
            session.save().await?;
        }
        old.purge();
    }
    next.call(request).await
}

async fn show(session: Session<Shop>) -> String {
    format!("user {:?}, cart {:?}", session.user_id(), session.cart())
}

async fn log_out(mut session: Session<Shop>) -> &'static str {
    session.log_out();
    "signed out"
}

fn configure<S: SessionStore + 'static>(
    app: &mut web::ServiceConfig,
    sessions: &Sessions<Shop>,
    old: actix_session::SessionMiddleware<S>,
) {
    app.service(
        web::scope("")
            .wrap(from_fn(take_over))
            .wrap(SessionMiddleware::new(sessions.clone()))
            .wrap(old)
            .route("/", web::get().to(show))
            .route("/log-out", web::post().to(log_out)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqliteStore::open("bridge.db")?;
    let sessions =
        Sessions::<Shop>::builder(store).keyring(Keyring::generate()).development().build().await?;
    // As the program has it: the store, the key, and all settings of the cookie.
    let key = Key::generate();
    let old = move || actix_session::SessionMiddleware::new(CookieSessionStore::default(), key.clone());
    println!("bridge: open http://localhost:8080");
    HttpServer::new(move || App::new().configure(|app| configure(app, &sessions, old())))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
