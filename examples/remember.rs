//! "Remember me": a log-in that ends with the browser, or one that outlives it.
//! `cargo run -p examples --example remember`, and open <http://localhost:8080>.
//!
//! Sign in without the box, close the browser and come back: you are nobody. With the box you are remembered for 30 days. With
//! curl the cookie of a remembered session shows its date:
//!
//! ```sh
//! token=$(curl -s -c jar http://localhost:8080 | sed -n 's/.*csrf_token" value="\([^"]*\).*/\1/p')
//! curl -i -b jar -d csrf_token=$token -d remember=true http://localhost:8080/log-in   # Max-Age: 30 days
//! ```
//!
//! Whoever finds the device is the user: what is worth more asks for the password again, by `Fresh<Account, 300>` in the
//! place of `LoggedIn<Account>`.

use std::error::Error;

use actix_web::{App, HttpServer, Responder, web};
use serde::Deserialize;
use session_runtime::{Csrf, Databag, Keyring, Session, SessionMiddleware, Sessions, SqliteStore};

/// `idle` and `absolute` are for ordinary sessions, `remember` is for remembered ones, used or not.
#[derive(Databag)]
#[databag(idle = "30m", absolute = "12h", remember = "30d")]
struct Account {
    #[databag(user_id)]
    user: Option<String>,
}

#[derive(Deserialize)]
struct LogIn {
    /// A browser leaves out a box without a tick.
    #[serde(default)]
    remember: bool,
}

async fn home(session: Session<Account>) -> web::Html {
    let csrf = format!(r#"<input name="csrf_token" value="{}" hidden>"#, session.csrf_token());
    web::Html::new(match session.user() {
        None => format!(
            r#"<form method="post" action="/log-in">{csrf}
            <label><input type="checkbox" name="remember" value="true"> Remember me</label>
            <button>Sign in as kim</button></form>"#
        ),
        Some(user) => format!(
            r#"<p>Hello {user}</p><form method="post" action="/log-out">{csrf}<button>Sign out</button></form>"#
        ),
    })
}

/// After the password, which `accounts.rs` checks.
async fn log_in(mut session: Session<Account>, form: web::Form<LogIn>) -> impl Responder {
    session.log_in("kim");
    session.remember(form.remember);
    web::Redirect::to("/").see_other()
}

async fn log_out(mut session: Session<Account>) -> impl Responder {
    session.log_out();
    web::Redirect::to("/").see_other()
}

fn configure(app: &mut web::ServiceConfig, sessions: &Sessions<Account>) {
    app.service(
        web::scope("")
            .wrap(Csrf::<Account>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(home))
            .route("/log-in", web::post().to(log_in))
            .route("/log-out", web::post().to(log_out)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::<Account>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    println!("remember: open http://localhost:8080");
    HttpServer::new(move || App::new().configure(|app| configure(app, &sessions)))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::test::init_service;
    use databag_tests::{Browser, ManualClock, Site};

    use super::*;

    async fn site() -> (ManualClock, Site) {
        let clock = ManualClock::default();
        let sessions = Sessions::for_test_at(clock.clone());
        let app = init_service(App::new().configure(|app| configure(app, &sessions))).await;
        (clock, Site::new(app))
    }

    async fn is_known(browser: &Browser) -> bool {
        browser.get("/").await.body.contains("Hello kim")
    }

    #[actix_web::test]
    async fn an_ordinary_log_in_ends_with_the_browser_and_after_half_an_hour() {
        let (clock, site) = site().await;
        let browser = site.browser();
        let answer = browser.submit("/", "/log-in", &[]).await;
        assert!(!answer.set_cookies()[0].contains("Max-Age"), "{answer:?}");
        assert!(is_known(&browser).await);
        let open = browser.copied();
        browser.restart();
        assert!(!is_known(&browser).await && is_known(&open).await);
        clock.advance(Duration::from_mins(31));
        assert!(!is_known(&open).await);
    }

    #[actix_web::test]
    async fn a_remembered_log_in_outlives_the_browser_for_thirty_days() {
        let (clock, site) = site().await;
        let browser = site.browser();
        let answer = browser.submit("/", "/log-in", &[("remember", "true")]).await;
        assert!(answer.set_cookies().iter().any(|cookie| cookie.contains("Max-Age=2592000")), "{answer:?}");
        browser.restart();
        clock.advance(Duration::from_hours(29 * 24));
        assert!(is_known(&browser).await);
        clock.advance(Duration::from_hours(24));
        assert!(!is_known(&browser).await);
    }
}
