//! Forms that no other site can send for a visitor: a hidden field in a form, a header in a script.
//! `cargo run -p examples --example forms`, and open <http://localhost:8080>.
//!
//! ```sh
//! curl -i -d name=eve http://localhost:8080/name      # 403: there is no token
//! token=$(curl -s -c jar http://localhost:8080 | sed -n 's/.*csrf_token" value="\([^"]*\).*/\1/p')
//! curl -i -b jar -d csrf_token=$token -d name=kim http://localhost:8080/name      # 303
//! ```

use std::error::Error;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpResponse, HttpServer, Responder, web};
use serde::Deserialize;
use session_runtime::{Csrf, Databag, Keyring, Session, SessionMiddleware, Sessions, SqliteStore};

#[derive(Databag)]
struct Guest {
    #[databag(default = "stranger".to_owned())]
    name: String,
    likes: u32,
    /// For the page after the form.
    #[databag(flash)]
    notice: Option<String>,
}

/// A visitor who only opens the page has no session yet, and a token all the same.
async fn page(session: Session<Guest>) -> web::Html {
    web::Html::new(format!(
        r#"<!doctype html><p>{notice}</p><p>Hello {name}, you like this {likes} times.</p>
        <form method="post" action="/name">
            <input type="hidden" name="csrf_token" value="{token}">
            <input name="name"><button>Change my name</button>
        </form>
        <button id="like">Like</button>
        <script>
            const token = document.querySelector("[name=csrf_token]").value;
            document.getElementById("like").addEventListener("click", async () => {{
                await fetch("/like", {{ method: "POST", headers: {{ "X-CSRF-Token": token }} }});
                location.reload();
            }});
        </script>"#,
        notice = session.notice().unwrap_or_default(),
        name = session.name(),
        likes = session.likes,
        token = session.csrf_token(),
    ))
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn set_name(mut session: Session<Guest>, form: web::Form<Name>) -> impl Responder {
    // Letters alone: the page shows the name without escaping it.
    let is_name =
        |name: &str| (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphabetic());
    if is_name(&form.name) {
        session.set_name(&*form.name);
        session.set_notice("Your name has changed.");
    } else {
        session.set_notice("A name has 1 to 20 letters.");
    }
    // So that a reload does not send the form again.
    web::Redirect::to("/").see_other()
}

async fn like(mut session: Session<Guest>) -> impl Responder {
    session.likes += 1;
    HttpResponse::NoContent()
}

/// Explains a refused form. A visitor meets it with a page from before a log-in, whose token is no longer good.
async fn explain(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> actix_web::Result<ServiceResponse<impl MessageBody>> {
    let answer = next.call(request).await?;
    let error = answer.response().error().and_then(actix_web::Error::as_error::<session_runtime::Error>);
    let Some(session_runtime::Error::Csrf(_)) = error else {
        return Ok(answer.map_into_boxed_body());
    };
    let page = r#"Nothing was changed. <a href="/">Open the page again</a>, and send the form once more."#;
    let mut page = web::Html::new(page).respond_to(answer.request()).map_into_boxed_body();
    *page.status_mut() = answer.status();
    Ok(answer.into_response(page))
}

fn configure(app: &mut web::ServiceConfig, sessions: &Sessions<Guest>) {
    app.service(
        web::scope("")
            .wrap(Csrf::<Guest>::guard())
            .wrap(from_fn(explain))
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(page))
            .route("/name", web::post().to(set_name))
            .route("/like", web::post().to(like)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::<Guest>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    println!("forms: open http://localhost:8080");
    HttpServer::new(move || App::new().configure(|app| configure(app, &sessions)))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, init_service};
    use databag_tests::{Browser, Site};

    use super::*;

    async fn site() -> (Sessions<Guest>, Site) {
        let sessions = Sessions::for_test();
        let app = init_service(App::new().configure(|app| configure(app, &sessions))).await;
        (sessions, Site::new(app))
    }

    async fn token(browser: &Browser) -> String {
        let page = browser.get("/").await.body;
        let (_, token) = page.split_once(r#"name="csrf_token" value=""#).expect("a form");
        token.split_once('"').expect("its end").0.to_owned()
    }

    #[actix_web::test]
    async fn a_form_and_a_script_of_the_page_are_served() {
        let (sessions, site) = site().await;
        let browser = site.browser();
        // A new visitor who looks around is not stored.
        let token = token(&browser).await;
        assert_eq!(sessions.count_all().await.expect("the store answers"), 0);
        let like = TestRequest::post().uri("/like").insert_header(("X-CSRF-Token", token));
        assert_eq!(browser.send(like).await.status, 204);
        let answer = browser.submit("/", "/name", &[("name", "kim")]).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        let page = browser.get("/").await.body;
        assert!(
            page.contains("Your name has changed.") && page.contains("Hello kim, you like this 1 times.")
        );
        browser.submit("/", "/name", &[("name", "<script>")]).await;
        let page = browser.get("/").await.body;
        assert!(page.contains("A name has 1 to 20 letters.") && page.contains("Hello kim"), "{page}");
    }

    #[actix_web::test]
    async fn a_forged_form_is_refused_and_explained() {
        let (_, site) = site().await;
        let (victim, eve) = (site.browser(), site.browser());
        victim.submit("/", "/name", &[("name", "kim")]).await;
        victim.get("/").await;
        let (own, of_eve) = (token(&victim).await, token(&eve).await);
        let form =
            |token: &str| TestRequest::post().uri("/name").set_form([("csrf_token", token), ("name", "eve")]);
        let forged = [
            TestRequest::post().uri("/name").set_form([("name", "eve")]),
            form(&of_eve),
            form(&own).insert_header(("Sec-Fetch-Site", "cross-site")),
            form(&own).insert_header(("Origin", "https://evil.example")),
            TestRequest::post().uri("/like"),
        ];
        for request in forged {
            let answer = victim.send(request).await;
            assert!(answer.status == 403 && answer.body.contains("Nothing was changed"), "{answer:?}");
        }
        assert!(victim.get("/").await.body.contains("Hello kim, you like this 0 times."));
    }
}
