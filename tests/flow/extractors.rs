//! The extractors: what a handler can ask for, and what is refused.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::test::{self, TestRequest};
use actix_web::{App, FromRequest as _, error, web};
use databag_tests::{Call, Fault, Logs, Site, Watched};
use session_runtime::{
    Cleanup, Csrf, Databag, Error, LoggedIn, Session, SessionMiddleware, SessionRef, Sessions, SqliteStore,
    TestRequestExt as _,
};

use crate::app::{COOKIE, Shop, key, log_in, shop, shop_with, site};

#[actix_web::test]
async fn two_writers_in_one_request_are_refused_and_the_log_says_what_to_do() {
    let world = shop().await;
    let site = site!(world.sessions;
        "/two" => async |_: Session<Shop>, _: Session<Shop>| "two",
        "/both" => async |_: Session<Shop>, _: SessionRef<Shop>| "both",
        "/flipped" => async |_: SessionRef<Shop>, _: Session<Shop>| "flipped",
    );
    for (path, advice) in [
        ("/two", "take one `Session` in the handler"),
        ("/both", "read through that `Session`"),
        ("/flipped", "take one `Session` in the handler"),
    ] {
        let (logs, _guard) = Logs::of_this_thread();
        let answer = site.browser().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (500, "Internal Server Error"), "{path}");
        assert_eq!(logs.lines(&["ERROR", "app::Shop", advice]).len(), 1, "{path}: {}", logs.text());
    }
}

#[actix_web::test]
async fn a_session_can_have_many_readers_and_can_be_taken_again_after_a_drop() {
    let world = shop().await;
    let readers = async |a: SessionRef<Shop>, b: SessionRef<Shop>, c: SessionRef<Shop>| {
        format!("{}", a.id() == b.id() && b.id() == c.id())
    };
    let again = async |request: actix_web::HttpRequest| {
        let mut first = Session::<Shop>::extract(&request).await?;
        first.count = 1;
        drop(first);
        let mut second = Session::<Shop>::extract(&request).await?;
        second.count += 1;
        drop(second);
        Ok::<_, Error>(SessionRef::<Shop>::extract(&request).await?.count.to_string())
    };
    let site = site!(world.sessions; "/readers" => readers, "/again" => again);
    assert_eq!(site.browser().get("/readers").await.body, "true");
    assert_eq!(site.browser().get("/again").await.body, "2");
    assert_eq!(world.watch.writes(), 1);
}

#[actix_web::test]
async fn a_missing_middleware_is_500_and_the_log_names_the_type_and_the_fix() {
    let app = App::new().route("/", web::get().to(async |_: Session<Shop>| "never"));
    let site = Site::new(test::init_service(app).await);
    let (logs, _guard) = Logs::of_this_thread();
    let answer = site.browser().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (500, "Internal Server Error"));
    let fix = "add `.wrap(SessionMiddleware::new(sessions))`";
    assert_eq!(logs.lines(&["ERROR", "app::Shop", fix]).len(), 1, "{}", logs.text());
}

#[actix_web::test]
async fn a_guard_that_is_wrapped_after_the_middleware_is_500_and_the_log_says_what_runs_first() {
    let world = shop().await;
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(Csrf::<Shop>::guard())
        .route("/", web::post().to(async || "never"));
    let site = Site::new(test::init_service(app).await);
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(site.browser().post("/").await.status, 500);
    let advice = "what is wrapped last runs first";
    assert_eq!(logs.lines(&["ERROR", "app::Shop", advice]).len(), 1, "{}", logs.text());
}

#[derive(Databag)]
#[databag(table = "admins", cookie = "__Host-admin", name = "Admin")]
struct Admin {
    #[databag(user_id)]
    user_id: Option<String>,
    actions: u32,
}

async fn admins(store: SqliteStore, cookie: Option<&str>) -> Sessions<Admin> {
    let builder = Sessions::<Admin>::builder(store).keyring(key()).cleanup(Cleanup::Never);
    let builder = if let Some(cookie) = cookie { builder.cookie(cookie) } else { builder };
    builder.build().await.expect("good settings")
}

#[actix_web::test]
async fn two_bags_have_their_own_cookies_and_tables() {
    let world = shop().await;
    let admins = admins(world.store.clone(), None).await;
    let both = async |mut shop: Session<Shop>, mut admin: Session<Admin>| {
        shop.count += 1;
        admin.actions += 10;
        admin.log_in("root");
        "both"
    };
    let leave = async |mut admin: Session<Admin>| {
        admin.log_out();
        "out"
    };
    let read = async |shop: SessionRef<Shop>, admin: SessionRef<Admin>| {
        format!("{} {:?} {:?}", shop.count, admin.user_id(), admin.actions)
    };
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(SessionMiddleware::new(admins.clone()))
        .route("/both", web::post().to(both))
        .route("/leave", web::post().to(leave))
        .route("/", web::get().to(read));
    let browser = Site::new(test::init_service(app).await).browser();
    let answer = browser.post("/both").await;
    assert_eq!((answer.set_cookies().len(), answer.all("vary")), (2, vec!["Cookie".to_owned()]));
    assert_ne!(browser.cookie("__Host-shop"), browser.cookie("__Host-admin"));
    assert_eq!(browser.get("/").await.body, "1 Some(\"root\") 10");
    assert_eq!(admins.of_user("root").await.expect("answers").len(), 1);
    browser.post("/leave").await;
    assert_eq!(browser.get("/").await.body, "1 None 0");
}

#[actix_web::test]
async fn a_stored_bag_keeps_its_cookie_when_another_bag_fails() {
    let world = shop().await;
    let (store, watch) = Watched::new(SqliteStore::in_memory().expect("memory"));
    let admins = Sessions::<Admin>::builder(store).keyring(key()).cleanup(Cleanup::Never).build().await;
    let both = async |mut shop: Session<Shop>, mut admin: Session<Admin>| {
        shop.count += 1;
        admin.actions += 1;
        "both"
    };
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(SessionMiddleware::new(admins.expect("good settings")))
        .route("/both", web::post().to(both));
    let browser = Site::new(test::init_service(app).await).browser();
    watch.fail(Call::Insert, Fault::Down);
    let answer = browser.post("/both").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (503, 1));
    assert!(browser.cookie(COOKIE).is_some());
    assert!(browser.cookie("__Host-admin").is_none());
}

/// A middleware that has an error in the place of the answer of `/both`.
async fn teapot(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let answer = next.call(request).await?;
    if answer.request().path() == "/both" { Err(error::ErrorImATeapot("no coffee")) } else { Ok(answer) }
}

#[actix_web::test]
async fn a_stored_bag_keeps_its_cookie_when_another_bag_fails_after_an_error() {
    let world = shop().await;
    let (store, watch) = Watched::new(SqliteStore::in_memory().expect("memory"));
    let failing = Sessions::<Admin>::builder(store).keyring(key()).cleanup(Cleanup::Never).build().await;
    let both = async |mut shop: Session<Shop>, mut admin: Session<Admin>| {
        shop.count += 1;
        admin.actions += 1;
        "both"
    };
    let read = async |shop: SessionRef<Shop>| shop.count.to_string();
    let app = App::new()
        .wrap(from_fn(teapot))
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(SessionMiddleware::new(failing.expect("good settings")))
        .route("/both", web::post().to(both))
        .route("/", web::get().to(read));
    let browser = Site::new(test::init_service(app).await).browser();
    watch.fail(Call::Insert, Fault::Down);
    let answer = browser.post("/both").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (503, 1));
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    assert_eq!(browser.get("/").await.body, "1");
}

#[actix_web::test]
async fn a_cookie_of_one_bag_does_not_open_another_bag() {
    let world = shop().await;
    let browser = world.customer().await;
    browser.set_cookie("__Host-admin", &browser.cookie(COOKIE).expect("a cookie"));
    let admins = admins(world.store.clone(), None).await;
    let site = site!(admins; "/" => async |admin: SessionRef<Admin>| admin.is_new().to_string());
    let thief = site.browser();
    thief.set_cookie("__Host-admin", &browser.cookie(COOKIE).expect("a cookie"));
    assert_eq!(thief.get("/").await.body, "true");
}

#[actix_web::test]
async fn two_bags_with_one_cookie_are_refused() {
    let world = shop().await;
    let admins = admins(world.store.clone(), Some(COOKIE)).await;
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(SessionMiddleware::new(admins))
        .route("/", web::get().to(async || "never"));
    let site = Site::new(test::init_service(app).await);
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(site.browser().get("/").await.status, 500);
    assert_eq!(logs.lines(&["ERROR", "app::Shop", "Admin", "the same cookie, `__Host-shop`"]).len(), 1);
}

#[actix_web::test]
async fn logged_in_answers_401_without_a_user() {
    let world = shop().await;
    let account = async |session: LoggedIn<Shop>| format!("user {}", session.user());
    let site = site!(world.sessions; "/account" => account, "/login/{user}" => log_in);
    let browser = site.browser();
    let answer = browser.get("/account").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (401, "Unauthorized"));
    browser.post("/login/7").await;
    assert_eq!(browser.get("/account").await.body, "user 7");
}

#[actix_web::test]
async fn logged_in_can_redirect_to_the_log_in_page() {
    let world = shop_with(|builder| builder.login_redirect("/login?next=account")).await;
    let site = site!(world.sessions; "/account" => async |_: LoggedIn<Shop>| "account");
    let answer = site.browser().with("accept", "text/html").get("/account").await;
    assert_eq!(
        (answer.status.as_u16(), answer.all("location")),
        (303, vec!["/login?next=account".to_owned()])
    );
    assert_eq!(world.rows(), 0);
}

#[actix_web::test]
async fn a_logged_in_session_can_be_changed_and_logged_out() {
    let world = shop().await;
    let leave = async |mut session: LoggedIn<Shop>| {
        session.count += 1;
        session.log_out();
        "out"
    };
    let site = site!(world.sessions; "/leave" => leave, "/login/{user}" => log_in);
    let browser = site.browser();
    browser.post("/login/7").await;
    assert_eq!(browser.post("/leave").await.body, "out");
    assert_eq!((browser.cookie(COOKIE), world.rows()), (None, 0));
}

#[actix_web::test]
async fn handlers_are_tested_without_a_server() {
    async fn buy(mut session: Session<Shop>) -> String {
        *session.cart_mut().entry("tea".to_owned()).or_default() += 1;
        session.save().await.expect("stored in the test's own store");
        let count = session
            .update(|shop| {
                shop.count += 1;
                shop.count
            })
            .await
            .expect("stored");
        format!("{} {count} {}", session.cart()["tea"], session.is_new())
    }
    let bag = || Shop { count: 4, ..Shop::defaults() };
    assert_eq!(buy(Session::for_test(bag())).await, "1 5 false");

    let request = TestRequest::get().session(bag()).to_http_request();
    let reader = SessionRef::<Shop>::extract(&request).await.expect("the request carries the session");
    assert_eq!(reader.count, 4);
    drop(reader);
    let session = Session::<Shop>::extract(&request).await.expect("the request carries the session");
    assert_eq!(buy(session).await, "1 5 false");
}

#[actix_web::test]
async fn a_session_of_a_test_request_reaches_a_service_through_the_middleware() {
    let world = shop().await;
    let admins = admins(world.store.clone(), None).await;
    let read = async |session: SessionRef<Shop>| format!("{} {}", session.count, session.is_new());
    let devices = async |session: LoggedIn<Shop>, sessions: Sessions<Shop>| {
        let found = sessions.of_user(session.user()).await.expect("answers");
        (found.len() == 1 && found[0].id() == session.id()).to_string()
    };
    let buy = async |mut session: Session<Shop>| {
        session.count += 1;
        session.log_in(8);
        session.count.to_string()
    };
    let both =
        async |shop: SessionRef<Shop>, admin: SessionRef<Admin>| format!("{} {}", shop.count, admin.actions);
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(SessionMiddleware::new(admins))
        .route("/read", web::get().to(read))
        .route("/devices", web::get().to(devices))
        .route("/buy", web::post().to(buy))
        .route("/both", web::get().to(both))
        .service(web::scope("/guarded").wrap(Csrf::<Shop>::guard()).route("/buy", web::post().to(buy)));
    let site = Site::new(test::init_service(app).await);
    let bag = || Shop { user_id: Some(7), count: 4, ..Shop::defaults() };
    let get = |path| TestRequest::get().uri(path);
    let post = |path| TestRequest::post().uri(path);

    let answer = site.call(get("/read").session(bag()).to_request()).await;
    assert_eq!((&*answer.body, answer.set_cookies().len()), ("4 false", 0), "as a visitor of before");
    assert_eq!(site.call(get("/read").to_request()).await.body, "0 true", "each request has its own");
    world.sessions.clear().await.expect("answers");
    assert_eq!(site.call(get("/devices").session(bag()).to_request()).await.body, "true");

    let browser = site.browser();
    let answer = site.call(post("/buy").session(bag()).to_request()).await;
    browser.keep(&answer);
    assert_eq!(
        (&*answer.body, &*browser.get("/read").await.body),
        ("5", "5 false"),
        "it goes on by its cookie"
    );

    let forged = site.call(post("/guarded/buy").session(bag()).to_request()).await;
    let sent = site.call(post("/guarded/buy").session_with_csrf(bag()).to_request()).await;
    assert_eq!((forged.status.as_u16(), sent.status.as_u16(), &*sent.body), (403, 200, "5"));

    let admin = Admin { actions: 10, ..Admin::defaults() };
    assert_eq!(site.call(get("/both").session(bag()).session(admin).to_request()).await.body, "4 10");

    // The number of another request is no session: each is taken once.
    for number in 0..40 {
        let stranger = get("/read").insert_header(("databag-test-session", number));
        assert_eq!(site.call(stranger.to_request()).await.body, "0 true", "{number}");
    }
    world.watch.fail(Call::Insert, Fault::Down);
    assert_eq!(site.call(get("/read").session(bag()).to_request()).await.status, 503);
}
