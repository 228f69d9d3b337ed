//! Tests of handlers, without a server and a browser: a function, a request, an application, and time. Read the tests at the end,
//! and run them: `cargo test -p examples --example testing`.
//!
//! `cargo run -p examples --example testing` starts the application that they test:
//! `curl -c jar -b jar -X POST http://localhost:8080/cart/tea`.

use std::collections::BTreeMap;
use std::error::Error;

use actix_web::{App, HttpServer, web};
use session_runtime::{Csrf, Databag, Fresh, Keyring, Session, SessionMiddleware, Sessions, SqliteStore};

#[derive(Databag)]
#[databag(idle = "30m")]
struct Shop {
    #[databag(user_id)]
    user: Option<i64>,
    cart: BTreeMap<String, u32>,
    #[databag(default = 3)]
    vouchers: u32,
}

async fn add(mut session: Session<Shop>, sku: web::Path<String>) -> String {
    *session.cart_mut().entry(sku.into_inner()).or_default() += 1;
    format!("{} things\n", session.cart().values().sum::<u32>())
}

/// The visitor has logged in within the last five minutes, and a form of this site has sent the request.
async fn pay(_: Csrf<Shop>, mut session: Fresh<Shop, 300>) -> String {
    let things: u32 = std::mem::take(session.cart_mut()).values().sum();
    session.vouchers = session.vouchers.saturating_sub(1);
    format!("user {} has paid for {things} things\n", session.user())
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/cart/{sku}", web::post().to(add)).route("/pay", web::post().to(pay));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    println!("testing: http://localhost:8080");
    HttpServer::new(move || App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};
    use session_runtime::testing::ManualClock;
    use session_runtime::{LoggedIn, TestRequestExt as _};

    use super::*;

    /// A user with two things in the cart. What a test does not care for has the defaults of the bag.
    fn user() -> Shop {
        Shop { user: Some(7), cart: BTreeMap::from([("tea".to_owned(), 2)]), ..Shop::defaults() }
    }

    /// A handler is a function, and its session an argument.
    #[actix_web::test]
    async fn a_function() {
        let session = Session::for_test(user());
        assert_eq!(add(session, "milk".to_owned().into()).await, "3 things\n");
        let session = LoggedIn::new(Session::for_test(user())).and_then(Fresh::new).expect("a user of now");
        assert_eq!(pay(Csrf::for_test(), session).await, "user 7 has paid for 2 things\n");
    }

    /// A request brings its session along, through the routes and the middleware of the application.
    #[actix_web::test]
    async fn a_request() {
        let sessions = Sessions::<Shop>::for_test();
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
        let app = init_service(app).await;
        let pay = || TestRequest::post().uri("/pay");
        for (request, status) in [
            (pay().session_with_csrf(user()), 200),
            (pay().session(user()), 403),
            (pay().session_with_csrf(Shop::defaults()), 401),
            (pay(), 403),
        ] {
            assert_eq!(call_service(&app, request.to_request()).await.status(), status);
        }
        // What is stored of it: the other request of the user has changed nothing.
        let stored = sessions.of_user(7).await.expect("the store answers");
        let mut vouchers: Vec<_> =
            stored.iter().map(|session| (session.vouchers, session.cart.len())).collect();
        vouchers.sort_unstable();
        assert_eq!(vouchers, [(2, 0), (3, 1)]);
    }

    /// Each visitor of the application has the same session to begin with.
    #[actix_web::test]
    async fn an_application() {
        let app = init_service(App::new().wrap(SessionMiddleware::for_test(user())).configure(routes)).await;
        for _ in 0..2 {
            let request = TestRequest::post().uri("/cart/milk").to_request();
            assert_eq!(call_and_read_body(&app, request).await, "3 things\n");
        }
    }

    /// The test moves the clock.
    #[actix_web::test]
    async fn time() {
        let clock = ManualClock::default();
        let sessions = Sessions::for_test_at(clock.clone());
        // Without the token of a form, so that only the age of the log-in decides.
        let is_fresh = async |_: Fresh<Shop, 300>| "fresh";
        let app =
            App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(is_fresh));
        let app = init_service(app).await;
        let (token, _) = sessions.create(user()).await.expect("the store answers");
        let status = async || {
            let request = TestRequest::get().cookie(sessions.cookie(&token)).to_request();
            call_service(&app, request).await.status().as_u16()
        };
        assert_eq!(status().await, 200);
        clock.advance(Duration::from_mins(6));
        assert_eq!(status().await, 403, "the log-in is too old");
        clock.advance(Duration::from_mins(30));
        assert_eq!(status().await, 401, "the session has expired");
    }
}
