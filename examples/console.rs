//! Pages for operators in the application itself: who is signed in, what has happened in the last day, and forms that end
//! sessions.
//! `cargo run -p examples --example console`, log in as `ada` at `http://localhost:8080`, who may enter the console, and as others
//! in other browsers.

use std::error::Error;

use actix_web::{App, HttpServer, Responder, web};
use serde::Deserialize;
use session_runtime::{
    Console, Csrf, Databag, History, Keyring, Session, SessionMiddleware, Sessions, SqliteStore,
};

#[derive(Databag)]
struct Visitor {
    #[databag(user_id)]
    user: Option<String>,
    #[databag(user_agent)]
    browser: Option<String>,
    #[databag(column, index)]
    tenant: Option<String>,
    /// The next user does not inherit it.
    #[databag(reset_on_login)]
    is_operator: bool,
}

async fn home(session: Session<Visitor>) -> impl Responder {
    web::Html::new(format!(
        r#"<!doctype html><html lang="en"><title>Home</title><form method="post" action="/log-in">
        <input type="hidden" name="csrf_token" value="{}"><label>Name <input name="user"></label>
        <label>Tenant <input name="tenant"></label><button>Log in</button></form>
        <p><a href="/admin/sessions">The console</a>, for ada alone</p></html>"#,
        session.csrf_token()
    ))
}

#[derive(Deserialize)]
struct LogIn {
    user: String,
    tenant: String,
}

/// After the password, which `accounts.rs` checks.
async fn log_in(_: Csrf<Visitor>, mut session: Session<Visitor>, form: web::Form<LogIn>) -> impl Responder {
    session.log_in(form.user.as_str());
    session.set_tenant(form.tenant.as_str());
    session.is_operator = form.user == "ada";
    web::Redirect::to("/").see_other()
}

/// The console reads the sessions, and the history what has happened to them.
fn routes(app: &mut web::ServiceConfig, sessions: &Sessions<Visitor>, history: &History) {
    app.service(Console::new("/admin/sessions", sessions, history, |visitor: &Visitor| visitor.is_operator))
        .route("/", web::get().to(home))
        .route("/log-in", web::post().to(log_in));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let history = History::new();
    let sessions = Sessions::<Visitor>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .on_event(history.observer())
        .development()
        .build()
        .await?;
    history.follow(&sessions);
    println!("console: http://localhost:8080");
    HttpServer::new(move || {
        App::new()
            .configure(|app| routes(app, &sessions, &history))
            .wrap(SessionMiddleware::new(sessions.clone()))
    })
    .bind("127.0.0.1:8080")?
    .run()
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::init_service;
    use databag_tests::Site;

    use super::*;

    #[actix_web::test]
    async fn ada_enters_and_ends_the_session_of_bob_who_does_not() {
        let (sessions, history) = (Sessions::<Visitor>::for_test(), History::new());
        let app = App::new()
            .configure(|app| routes(app, &sessions, &history))
            .wrap(SessionMiddleware::new(sessions.clone()));
        let site = Site::new(init_service(app).await);
        let log_in = async |user: &str| {
            let browser = site.browser();
            let answer = browser.submit("/", "/log-in", &[("user", user), ("tenant", "acme")]).await;
            assert_eq!(answer.status, 303);
            browser
        };
        let (ada, bob) = (log_in("ada").await, log_in("bob").await);
        assert_eq!(bob.get("/admin/sessions/list").await.status, 403);
        assert!(ada.get("/admin/sessions/list").await.body.contains("2 sessions, the newest first"));
        let confirmation = "/admin/sessions/revoke?user=bob";
        let ended = ada.submit(confirmation, confirmation, &[]).await;
        assert_eq!(ended.status, 200);
        assert_eq!(sessions.count_all().await.expect("the store answers"), 1);
    }
}
