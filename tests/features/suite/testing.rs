//! Sessions that a test puts into requests, behind the middleware of real sessions.

use actix_web::test::TestRequest;
use actix_web::{App, HttpResponse, web};
use databag_tests::{Answer, Site};
use session_runtime::Transport::{CookieOrHeader, Header};
use session_runtime::{
    AnyStore, Csrf, Databag, Keyring, LoggedIn, SessionMiddleware, SessionRef, Sessions, SqliteStore,
    TestRequestExt as _, Transport,
};

use super::app::{Account, World, routes};

fn kim() -> Account {
    Account { user_id: Some("kim".to_owned()), count: 4, ..Account::defaults() }
}

async fn call(site: &Site, request: TestRequest) -> Answer {
    site.call(request.to_request()).await
}

pub(crate) async fn a_request_of_a_test_has_its_session_behind_the_middleware(store: AnyStore) {
    let world = World::open(store).await;
    let send = async |method: &str, path: &str, bag| {
        let request = TestRequest::with_uri(path).method(method.parse().expect("a method"));
        call(&world.site, request.session(bag)).await
    };
    assert_eq!(send("GET", "/who", kim()).await.body, "kim");
    assert_eq!(send("GET", "/account", kim()).await.body, "kim");
    assert_eq!(send("GET", "/danger", kim()).await.body, "kim", "the user has just logged in");
    assert_eq!(send("GET", "/account", Account::defaults()).await.status, 401, "a new visitor");
    // It is the session of a visitor who has a cookie, and goes on from there.
    let answer = send("POST", "/count", kim()).await;
    assert_eq!(answer.body, "5");
    for path in ["/login/eve", "/confirm"] {
        assert_eq!(send("POST", path, kim()).await.set_cookies().len(), 1, "{path} has a new token");
    }
    let left = send("POST", "/logout", kim()).await;
    assert!(left.set_cookies()[0].contains("Max-Age=0"), "{left:?}");
    // Each request has its own.
    assert_eq!(send("POST", "/count", kim()).await.body, "5");
    if world.has_rows().await {
        let mine = world.sessions.of_user("kim").await.expect("answers");
        assert!(mine.iter().any(|session| session.count == 5), "it is stored with the others");
    }
}

pub(crate) async fn a_form_of_a_test_has_its_token(store: AnyStore) {
    let world = World::open(store).await;
    let app = App::new()
        .wrap(Csrf::<Account>::guard())
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .configure(routes);
    let site = Site::new(actix_web::test::init_service(app).await);
    let post = |path| TestRequest::post().uri(path);
    for bag in [kim, Account::defaults] {
        let log_in = |request: TestRequest| call(&site, request);
        assert_eq!(log_in(post("/login/eve").session(bag())).await.status, 403);
        let answer = log_in(post("/login/eve").session_with_csrf(bag())).await;
        assert_eq!((answer.status.as_u16(), answer.set_cookies().is_empty()), (200, false), "{answer:?}");
    }
    let other = post("/login/eve").session_with_csrf(kim()).insert_header(("X-CSRF-Token", "A".repeat(86)));
    assert_eq!(call(&site, other).await.status, 403, "a token of the test's own is left as it is");
}

/// A second bag beside the first.
#[derive(Databag)]
#[databag(table = "cashiers", cookie = "__Host-till")]
struct Till {
    #[databag(user_id)]
    cashier: Option<i64>,
    #[databag(flash)]
    notice: Option<String>,
}

pub(crate) async fn a_request_of_a_test_has_sessions_of_several_bags(store: AnyStore) {
    let world = World::open(store).await;
    for transport in [Transport::Cookie, Header("X-Till"), CookieOrHeader("X-Till")] {
        let tills = SqliteStore::in_memory().expect("a database");
        let tills = Sessions::<Till>::builder(tills).keyring(Keyring::generate()).transport(transport);
        let both = async |account: SessionRef<Account>, mut till: LoggedIn<Till>| {
            let shown = format!("{:?} {} {:?}", account.user_id(), till.user(), till.notice());
            till.log_in(8);
            HttpResponse::Ok().body(shown)
        };
        let app = App::new()
            .wrap(SessionMiddleware::new(tills.build().await.expect("good settings")))
            .wrap(SessionMiddleware::new(world.sessions.clone()))
            .route("/both", web::post().to(both));
        let site = Site::new(actix_web::test::init_service(app).await);
        let till = || Till { cashier: Some(7), notice: Some("open".to_owned()) };
        let request = TestRequest::post().uri("/both").session(till()).session(kim());
        let answer = call(&site, request).await;
        assert_eq!(answer.body, "Some(\"kim\") 7 Some(\"open\")", "{transport:?}");
        let by_header = transport == Header("X-Till");
        assert_eq!(
            (answer.all("x-till").len(), answer.set_cookies().len()),
            if by_header { (1, 0) } else { (0, 1) }
        );
        let request = TestRequest::post().uri("/both").session(till());
        assert!(call(&site, request).await.body.starts_with("None 7"), "{transport:?}");
    }
}
