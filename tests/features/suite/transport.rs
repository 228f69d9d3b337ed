//! Tokens in a header, for apps and APIs, instead of the cookie or beside it.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::test::TestRequest;
use actix_web::{App, error, web};
use databag_tests::{Answer, Browser, Logs, Site};
use session_runtime::Transport::{CookieOrHeader, Header};
use session_runtime::{
    AnyStore, Cleanup, Csrf, Databag, Error, Keyring, Rejection, Session, SessionMiddleware, Sessions,
    SqliteStore, Transport,
};

use super::app::{Account, COOKIE, World, routes};

const NAME: &str = "X-Session-Token";

/// An app: it sends the header with each request, and keeps what an answer says there.
struct Client {
    browser: Browser,
    token: RefCell<String>,
}

impl Client {
    fn of(world: &World) -> Self {
        Self::with(world.browser(), "")
    }

    fn with(browser: Browser, token: &str) -> Self {
        Self { browser, token: RefCell::new(token.to_owned()) }
    }

    fn token(&self) -> String {
        self.token.borrow().clone()
    }

    async fn send(&self, request: TestRequest) -> Answer {
        let answer = self.browser.send(request.insert_header((NAME, self.token()))).await;
        assert_eq!(answer.set_cookies(), [""; 0], "a request by header sets no cookie");
        let tokens = answer.all(NAME);
        assert!(tokens.len() < 2, "{tokens:?}");
        if let [token] = &*tokens {
            assert_eq!(answer.all("cache-control"), ["no-store"]);
            self.token.replace(token.clone());
        }
        assert!(answer.all("vary").contains(&NAME.to_owned()), "{:?}", answer.all("vary"));
        answer
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(TestRequest::with_uri(path)).await
    }

    async fn post(&self, path: &str) -> Answer {
        self.send(TestRequest::post().uri(path)).await
    }
}

async fn open(store: AnyStore, transport: Transport) -> World {
    World::open_with(store, |builder| builder.transport(transport)).await
}

pub(crate) async fn a_header_carries_the_token_in_the_place_of_the_cookie(store: AnyStore) {
    let world = open(store, Header(NAME)).await;
    let client = Client::of(&world);
    assert_eq!((client.get("/who").await.body, client.token()), ("nobody".to_owned(), String::new()));
    assert_eq!(client.post("/count").await.body, "1");
    let visitor = client.token();
    assert!(session_runtime::Token::parse(&visitor).is_some(), "a token");
    client.post("/login/kim").await;
    let user = client.token();
    assert_ne!(user, visitor, "a log-in has a new token");
    assert_eq!(client.get("/who").await.all(NAME), [""; 0], "nothing new to say");
    assert_eq!(client.get("/account").await.body, "kim");
    if world.has_rows().await {
        assert_eq!(client.post("/remember/true").await.all(NAME), [""; 0], "only a cookie has a date");
        assert_eq!(Client::with(world.browser(), &visitor).get("/who").await.body, "nobody");
        assert_eq!(Client::with(world.browser(), &visitor).post("/count").await.body, "1");
    }
    assert_eq!(client.post("/count").await.body, "2");

    // The same token in a cookie opens nothing, and a request without the header is a visitor by header too.
    let browser = world.browser();
    browser.set_cookie(COOKIE, &client.token());
    assert_eq!(browser.get("/who").await.body, "nobody");
    let answer = browser.post("/count").await;
    assert_eq!((&*answer.body, answer.set_cookies().len(), answer.all(NAME).len()), ("1", 0, 1));

    let left = client.token();
    assert_eq!(client.post("/logout").await.all(NAME), [""], "the client forgets its token");
    assert_eq!(client.get("/who").await.body, "nobody");
    assert_eq!(Client::with(world.browser(), &left).get("/who").await.body, "nobody");
}

pub(crate) async fn a_request_with_the_header_is_served_by_it_alone(store: AnyStore) {
    let rejections = Arc::<Mutex<Vec<Rejection>>>::default();
    let noted = rejections.clone();
    let world = World::open_with(store, |builder| {
        builder
            .transport(CookieOrHeader(NAME))
            .on_rejected(move |reason| noted.lock().expect("no panic").push(reason))
    })
    .await;
    let rejections = || std::mem::take(&mut *rejections.lock().expect("no panic"));
    // Without the header a browser has its cookie.
    let browser = world.user("eve").await;
    let cookie = browser.cookie(COOKIE).expect("a cookie");
    let answer = browser.get("/who").await;
    assert_eq!((&*answer.body, answer.all(NAME)), ("eve", vec![]));
    assert_eq!(answer.all("vary"), ["Cookie", NAME]);
    // An app asks for its token by an empty header, also in a browser with a cookie: a neighbour may have planted it.
    let client = Client::with(browser.clone(), "");
    assert_eq!(client.get("/who").await.body, "nobody");
    client.post("/login/kim").await;
    assert_eq!(client.get("/who").await.body, "kim");
    // It may have planted two.
    let planted = browser.copied();
    planted.set_cookie(COOKIE, "planted");
    assert_eq!(Client::with(planted, &client.token()).get("/who").await.body, "kim");
    assert_eq!(rejections(), []);
    // A header that opens nothing does not fall back to the cookie.
    for (token, reason) in [
        ("x".to_owned(), Rejection::Malformed),
        (format!("Bearer {cookie}"), Rejection::Malformed),
        ("A".repeat(43), if world.has_rows().await { Rejection::Unknown } else { Rejection::Malformed }),
    ] {
        let broken = Client::with(browser.clone(), &token);
        assert_eq!(broken.get("/who").await.body, "nobody", "{token}");
        assert_eq!(rejections(), [reason], "{token}");
        broken.post("/count").await;
        assert!(broken.token() != token && broken.token() != cookie, "it is never adopted");
        rejections();
    }
    let twice = TestRequest::with_uri("/who").append_header((NAME, client.token()));
    assert_eq!(client.browser.send(twice.append_header((NAME, client.token()))).await.body, "nobody");
    assert_eq!(rejections(), [Rejection::Duplicate]);
    // Each has kept its own.
    client.post("/logout").await;
    assert_eq!((browser.get("/who").await.body, browser.cookie(COOKIE)), ("eve".to_owned(), Some(cookie)));
}

pub(crate) async fn no_csrf_token_is_asked_of_a_request_by_header(store: AnyStore) {
    let world = open(store, CookieOrHeader(NAME)).await;
    let app = App::new()
        .wrap(Csrf::<Account>::guard())
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .route("/form", web::get().to(async |session: Session<Account>| session.csrf_token()))
        .configure(routes);
    let site = Site::new(actix_web::test::init_service(app).await);
    let browser = site.browser();
    assert_eq!(browser.post("/login/kim").await.status, 403);
    let client = Client::with(browser.clone().with("sec-fetch-site", "cross-site"), "");
    assert_eq!(client.post("/login/kim").await.status, 200);
    assert_eq!(client.post("/count").await.body, "1");
    assert_eq!(client.get("/form").await.body.len(), 86, "and no cookie, which `send` checks");
    // The header frees no request of the cookie from the check: the cookie is not read.
    let token = browser.get("/form").await.body;
    let log_in = TestRequest::post().uri("/login/eve").insert_header(("X-CSRF-Token", token));
    assert_eq!(browser.send(log_in).await.status, 200);
    let forged = Client::with(browser.clone(), "");
    assert_eq!(forged.post("/count").await.body, "1", "a visitor of its own");
    assert_eq!(browser.post("/count").await.status, 403);
}

pub(crate) async fn a_header_is_skipped_as_a_cookie_is(store: AnyStore) {
    let world = World::open_with(store, |builder| {
        builder.transport(Header(NAME)).skip_cookie(|request, _| request.query_string() == "cached")
    })
    .await;
    let client = Client::of(&world);
    assert_eq!(client.post("/count?cached").await.all(NAME), [""; 0]);
    assert_eq!(client.post("/count?cached").await.body, "1", "nothing was stored");
    client.post("/count").await;
    let before = client.token();
    assert_eq!(client.post("/login/kim?cached").await.all(NAME).len(), 1, "the session would be lost");
    assert_ne!(client.token(), before);
    assert_eq!(client.get("/who").await.body, "kim");
}

/// An inner middleware that fails after the handler has changed the session.
async fn fail(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let answer = next.call(request).await?;
    if answer.request().path() == "/count" { Err(error::ErrorImATeapot("no coffee")) } else { Ok(answer) }
}

/// A bag whose sessions are stored before those of the accounts.
#[derive(Databag)]
#[databag(table = "other_accounts", cookie = "__Host-other")]
struct Other {
    count: u32,
}

async fn others(transport: Transport) -> Result<Sessions<Other>, Error> {
    let store = SqliteStore::in_memory().expect("a database");
    let builder = Sessions::<Other>::builder(store).keyring(Keyring::generate()).cleanup(Cleanup::Never);
    builder.transport(transport).build().await
}

pub(crate) async fn an_error_has_the_header_too(store: AnyStore) {
    let world = open(store, Header(NAME)).await;
    let both = async |mut account: Session<Account>, mut other: Session<Other>| {
        account.count += 1;
        other.count += 1;
        // Too large for every store.
        account.set_code("x".repeat(70_000));
        "never"
    };
    let app = App::new()
        .wrap(from_fn(fail))
        .wrap(SessionMiddleware::new(others(Header("X-Other-Token")).await.expect("good settings")))
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .route("/both", web::post().to(both))
        .configure(routes);
    let site = Site::new(actix_web::test::init_service(app).await);
    let (logs, _guard) = Logs::of_this_thread();
    let client = Client::with(site.browser(), "");
    let answer = client.post("/count").await;
    assert_eq!((answer.status.as_u16(), &*answer.body, answer.all(NAME).len()), (418, "no coffee", 1));
    assert!(!logs.text().contains(&client.token()));
    // The other bag's session is stored, whatever becomes of this one.
    let answer = client.post("/both").await;
    assert_eq!((answer.status.as_u16(), answer.all("X-Other-Token").len()), (500, 1));
    assert_eq!((answer.all("cache-control"), answer.all(NAME)), (vec!["no-store".to_owned()], vec![]));
}

pub(crate) async fn a_header_that_cannot_carry_a_token_is_refused(store: AnyStore) {
    for name in ["Cookie", "X Token", "", "Content-Type", "X-CSRF-Token"] {
        for transport in [Header(name), CookieOrHeader(name)] {
            let refused = others(transport).await;
            assert!(matches!(refused, Err(Error::Config(reason)) if reason.contains(&format!("{name:?}"))));
        }
    }
    // Two bags with one header, in any case of its letters.
    let world = open(store, Header(NAME)).await;
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(SessionMiddleware::new(others(Header("x-session-TOKEN")).await.expect("good settings")))
        .route("/", web::get().to(async || "never"));
    let site = Site::new(actix_web::test::init_service(app).await);
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(site.browser().get("/").await.status, 500);
    let advice = "have the same header, `x-session-TOKEN`";
    assert_eq!(logs.lines(&["ERROR", "Account", "Other", advice]).len(), 1, "{}", logs.text());
}
