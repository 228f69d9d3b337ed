//! What applications use to test their handlers.

use std::time::Duration;

use actix_web::test::{TestRequest, init_service};
use actix_web::{App, FromRequest as _, HttpResponse, Responder, web};
use databag_tests::Site;
use session_runtime::testing::ManualClock;
use session_runtime::{
    Csrf, Databag, Error, Fresh, LoggedIn, Session, SessionMiddleware, SessionRef, Sessions, Snapshot,
    TestRequestExt as _,
};

#[derive(Databag)]
#[databag(table = "desks", cookie = "__Host-desk", idle = "30m", remember = "30d", max_per_user = 2)]
struct Desk {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(flash)]
    notice: Option<String>,
    #[databag(ttl = "5m")]
    code: Option<String>,
    #[databag(default = 3)]
    left: u32,
    #[databag(skip)]
    scratch: u32,
}

fn user() -> Desk {
    Desk { user_id: Some(7), notice: Some("hello".to_owned()), scratch: 5, ..Desk::defaults() }
}

#[actix_web::test]
async fn a_session_for_a_test_is_one_of_a_visitor_who_came_back() {
    let mut session = Session::for_test(user());
    assert!(!session.is_new());
    assert_eq!((session.notice(), session.scratch, session.left), (Some("hello"), 5, 3));
    session.save().await.expect("stored");
    session.reload().await.expect("stored");
    assert_eq!((session.notice(), session.user_id), (None, Some(7)), "a flash value is read once");
    let before = session.id();
    session.rotate_and_end_others().await.expect("stored");
    assert_ne!(session.id(), before);
    session.log_out();
    session.save().await.expect("stored");
    assert!(session.is_new());
    assert!(Session::for_test(Desk::defaults()).is_new(), "a visitor who has not changed anything");

    let session = LoggedIn::new(Session::for_test(user())).expect("a user");
    assert!(Fresh::<Desk, 300>::new(session).is_some(), "who has just logged in");
}

async fn greet(mut session: LoggedIn<Desk>) -> impl Responder {
    session.left -= 1;
    format!("{} {:?} {}", session.user(), session.notice(), session.left)
}

async fn leave(mut session: Session<Desk>) -> impl Responder {
    session.log_out();
    HttpResponse::Ok()
}

#[actix_web::test]
async fn a_request_of_a_test_has_the_sessions_of_its_visitor() {
    let request = TestRequest::get().session(user()).to_http_request();
    let session = LoggedIn::<Desk>::extract(&request).await.expect("carried by the request");
    let sessions = Sessions::<Desk>::extract(&request).await.expect("carried by the request");
    let devices = sessions.of_user(session.user()).await.expect("answers");
    assert_eq!(devices.iter().map(Snapshot::id).collect::<Vec<_>>(), [session.id()]);
    let of_application = Sessions::<Desk>::for_test();
    let request = TestRequest::get().session(user()).app_data(web::Data::new(of_application));
    let sessions = Sessions::<Desk>::extract(&request.to_http_request()).await.expect("the application's");
    assert_eq!(sessions.count_all().await.expect("answers"), 0);
    assert!(Sessions::<Desk>::extract(&TestRequest::get().to_http_request()).await.is_err());
}

#[actix_web::test]
async fn a_middleware_for_tests_gives_its_bag_to_each_visitor_without_a_cookie() {
    let app = App::new()
        .wrap(SessionMiddleware::for_test(user()))
        .route("/", web::post().to(greet))
        .route("/leave", web::post().to(leave))
        .route("/look", web::get().to(async |desk: SessionRef<Desk>| desk.left.to_string()))
        .route("/csrf", web::get().to(async |desk: Session<Desk>| desk.csrf_token()))
        .route("/pay", web::post().to(async |_: Csrf<Desk>| "paid"))
        .route(
            "/all",
            web::get()
                .to(async |desks: Sessions<Desk>| Ok::<_, Error>(desks.of_user(7).await?.len().to_string())),
        );
    let site = Site::new(init_service(app).await);
    for _ in 0..2 {
        let browser = site.browser();
        assert_eq!(browser.post("/").await.body, "7 Some(\"hello\") 2");
        assert_eq!(browser.post("/").await.body, "7 None 1", "then its cookie counts");
        let left = browser.post("/leave").await;
        assert!(left.set_cookies()[0].contains("Max-Age=0"), "{left:?}");
        assert_eq!(browser.cookie("__Host-desk"), None);
    }
    // A visitor who only reads has a cookie as well, so that forms work.
    let browser = site.browser();
    assert_eq!(browser.get("/look").await.body, "3");
    let token = browser.get("/csrf").await.body;
    assert_eq!(browser.post("/pay").await.status, 403);
    let form = TestRequest::post().uri("/pay").insert_header(("X-CSRF-Token", token));
    assert_eq!(browser.send(form).await.body, "paid");
    assert_eq!(browser.get("/all").await.body, "1");
    // A cookie that opens nothing is an anonymous visitor, and the bag of a request is nearer than the middleware's.
    let stranger = site.browser();
    stranger.set_cookie("__Host-desk", "none");
    assert_eq!(stranger.post("/").await.status, 401);
    let other = TestRequest::post().session(Desk { left: 9, ..user() });
    assert_eq!(site.call(other.to_request()).await.body, "7 Some(\"hello\") 8");
}

#[actix_web::test]
async fn the_sessions_for_a_test_have_lists_limits_and_a_clock_that_moves() {
    let clock = ManualClock::default();
    let desks = Sessions::<Desk>::for_test_at(clock.clone());
    let app = App::new()
        .wrap(SessionMiddleware::new(desks.clone()))
        .route("/", web::get().to(async |_: LoggedIn<Desk>| "in"))
        .route("/fresh", web::get().to(async |_: Fresh<Desk, 60>| "fresh"))
        .route("/code", web::get().to(async |desk: SessionRef<Desk>| format!("{:?}", desk.code())))
        .route(
            "/remember",
            web::post().to(async |mut desk: Session<Desk>| {
                desk.log_in(8);
                desk.remember(true);
                "remembered"
            }),
        );
    let site = Site::new(init_service(app).await);
    let (token, _) = desks.create(Desk { code: Some("0451".to_owned()), ..user() }).await.expect("stored");
    let browser = site.browser();
    browser.set_cookie("__Host-desk", &token.encode());
    assert_eq!(browser.get("/fresh").await.body, "fresh");
    clock.advance(Duration::from_secs(61));
    assert_eq!(
        (browser.get("/fresh").await.status.as_u16(), browser.get("/").await.body),
        (403, "in".to_owned())
    );
    assert_eq!(browser.get("/code").await.body, "Some(\"0451\")");
    clock.advance(Duration::from_mins(5));
    assert_eq!(browser.get("/code").await.body, "None");
    clock.advance(Duration::from_mins(31));
    assert_eq!(browser.get("/").await.status, 401);
    browser.post("/remember").await;
    clock.advance(Duration::from_hours(29 * 24));
    assert_eq!(browser.get("/").await.body, "in");
    clock.advance(Duration::from_hours(25));
    assert_eq!(browser.get("/").await.status, 401);
    // `max_per_user` of the bag.
    for _ in 0..3 {
        site.call(TestRequest::post().uri("/remember").session(Desk::defaults()).to_request()).await;
    }
    assert_eq!(desks.of_user(8).await.expect("answers").len(), 2);
    assert_eq!(desks.revoke_user(8).await.expect("answers"), 2);
}
