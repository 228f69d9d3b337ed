//! `Sessions<T>` is an argument of handlers: found through the middleware, or in the application's data.

use actix_web::{App, FromRequest as _, test, web};
use databag_tests::{Logs, Site};
use session_runtime::access::InCookie;
use session_runtime::{Error, LoggedIn, Session, Sessions, TestRequestExt as _};

use crate::app::{Shop, log_in, shop, site};

#[actix_web::test]
async fn a_handler_gets_the_sessions_of_its_middleware() {
    let world = shop().await;
    let devices = async |session: LoggedIn<Shop>, sessions: Sessions<Shop>| -> Result<String, Error> {
        Ok(sessions.of_user(session.user()).await?.len().to_string())
    };
    let site = site!(world.sessions; "/login/{user}" => log_in, "/devices" => devices);
    let browser = site.browser();
    assert!(browser.post("/login/7").await.status.is_success());
    assert!(site.browser().post("/login/7").await.status.is_success());
    assert_eq!(browser.get("/devices").await.body, "2");
}

#[actix_web::test]
async fn without_a_middleware_the_sessions_of_the_application_data_are_used() {
    let world = shop().await;
    let count = async |sessions: Sessions<Shop>| -> Result<String, Error> {
        Ok(sessions.count_all().await?.to_string())
    };
    let app = App::new().app_data(web::Data::new(world.sessions.clone())).route("/", web::get().to(count));
    let site = Site::new(test::init_service(app).await);
    world.customer().await;
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(site.browser().get("/").await.body, "1");
    assert!(logs.lines(&["ERROR"]).is_empty(), "{}", logs.text());
}

#[actix_web::test]
async fn a_test_gives_a_handler_its_session_and_the_sessions_beside_it() {
    let world = shop().await;
    world.customer().await;
    let bag = Shop { count: 5, ..session_runtime::Databag::defaults() };
    let request = test::TestRequest::get().session(bag).app_data(web::Data::new(world.sessions.clone()));
    let request = request.to_http_request();
    let session = Session::<Shop>::extract(&request).await.expect("the test has given it");
    let sessions = Sessions::<Shop>::extract(&request).await.expect("they are beside it");
    assert_eq!((session.count, sessions.count_all().await.expect("answers")), (5, 1));
}

#[actix_web::test]
async fn without_either_the_answer_is_500_and_the_log_names_the_fix() {
    let app = App::new().route("/", web::get().to(async |_: Sessions<Shop>| "never"));
    let site = Site::new(test::init_service(app).await);
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(site.browser().get("/").await.status, 500);
    let fix = "add `.wrap(SessionMiddleware::new(sessions))`";
    assert_eq!(logs.lines(&["ERROR", "app::Shop", fix]).len(), 1, "{}", logs.text());
}

#[actix_web::test]
async fn sessions_that_can_do_something_else_are_refused_by_name() {
    let world = shop().await;
    let site = site!(world.sessions; "/" => async |_: Sessions<Shop, InCookie>| "never");
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(site.browser().get("/").await.status, 500);
    let named = ["ERROR", "`Sessions<", "InCookie>`", "Listed>`"];
    assert_eq!(logs.lines(&named).len(), 1, "{}", logs.text());
}

#[actix_web::test]
async fn logging_out_of_a_logged_in_session_gives_the_session_back() {
    let world = shop().await;
    let leave = async |session: LoggedIn<Shop>| {
        let mut session: Session<Shop> = session.log_out();
        session.set_notice("Good bye");
        "out"
    };
    let site = site!(world.sessions; "/login/{user}" => log_in, "/logout" => leave);
    let browser = site.browser();
    browser.post("/login/7").await;
    let before = browser.cookie(crate::app::COOKIE);
    assert_eq!(browser.post("/logout").await.status, 200);
    assert!(browser.cookie(crate::app::COOKIE).is_some_and(|after| Some(after) != before));
    assert!(world.sessions.of_user(7).await.expect("answers").is_empty());
}
