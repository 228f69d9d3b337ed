//! One failure is one error line and one count, and a failed read blocks no later write.

use actix_web::http::StatusCode;
use actix_web::{App, test, web};
use databag_tests::{Call, Fault, Logs, Site, Watch};
use session_runtime::{Error, Session, SessionId, SessionMiddleware, Sessions};

use crate::app::{Shop, World, shop, site};

/// What the log counts.
const COUNTED: &[&str] = &["ERROR", "session_failures"];

/// Runs a handler whose first write fails, and returns the status of its answer and the number of error lines.
async fn failing(world: &World, path: &str, fault: Fault) -> (StatusCode, usize) {
    let site = site!(world.sessions;
        "/update" => async |mut session: Session<Shop>| -> Result<&'static str, Error> {
            session.update(|shop| shop.count += 1).await?;
            Ok("updated")
        },
        "/update-ignored" => async |mut session: Session<Shop>| {
            session.update(|shop| shop.count += 1).await.ok();
            "updated"
        },
        "/save" => async |mut session: Session<Shop>| -> Result<&'static str, Error> {
            session.count += 1;
            session.save().await?;
            Ok("saved")
        },
        "/commit" => async |mut session: Session<Shop>| {
            session.count += 1;
            "changed"
        },
    );
    let browser = site.browser();
    let (token, _) = world.sessions.create(session_runtime::Databag::defaults()).await.expect("stored");
    browser.set_cookie(crate::app::COOKIE, &token.encode());
    world.watch.fail(Call::Update, fault.clone());
    let (logs, _guard) = Logs::of_this_thread();
    let answer = browser.post(path).await;
    if matches!(fault, Fault::Refused) {
        assert_eq!(
            logs.lines(&["the value of column \"tenant\": it is too long"]).len(),
            1,
            "{}",
            logs.text()
        );
    }
    world.watch.heal();
    let is_counted = !matches!(fault, Fault::Refused);
    assert_eq!(logs.lines(COUNTED).len(), usize::from(is_counted), "{}", logs.text());
    (answer.status, logs.lines(&["ERROR"]).len())
}

#[actix_web::test]
async fn one_failed_write_is_one_error_line_and_one_count() {
    let world = shop().await;
    for path in ["/update", "/update-ignored", "/save", "/commit"] {
        let failed = failing(&world, path, Fault::Down).await;
        assert_eq!(failed, (StatusCode::SERVICE_UNAVAILABLE, 1), "{path}");
    }
}

#[actix_web::test]
async fn a_value_that_the_store_refuses_for_good_is_500_and_one_error_line() {
    let world = shop().await;
    // After a failed `save` what has changed is stored at the end of the request.
    for (path, times) in [("/update", 1), ("/save", 2), ("/commit", 1)] {
        let updates = world.watch.count(Call::Update);
        let failed = failing(&world, path, Fault::Refused).await;
        assert_eq!(failed, (StatusCode::INTERNAL_SERVER_ERROR, 1), "{path}");
        assert_eq!(world.watch.count(Call::Update) - updates, times, "{path}: it is not sent again");
    }
}

/// Makes the next write meet the write of another request, and the read after it fail.
fn read_fails_after_a_conflict(watch: &Watch, elsewhere: Sessions<Shop>, id: SessionId) {
    let down = watch.clone();
    watch.before_next(Call::Update, async move {
        elsewhere.update(id, |shop| shop.attempts += 1).await.expect("stored");
        down.fail(Call::Load, Fault::Down);
    });
}

#[actix_web::test]
async fn a_read_that_fails_before_any_write_does_not_block_a_later_save() {
    let world = shop().await;
    let elsewhere = world.elsewhere().await;
    let handler = async |mut session: Session<Shop>,
                         watch: web::Data<Watch>,
                         elsewhere: web::Data<Sessions<Shop>>|
           -> Result<String, Error> {
        read_fails_after_a_conflict(&watch, elsewhere.get_ref().clone(), session.id());
        let failed = session.update(|shop| shop.count += 1).await;
        assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
        watch.heal();
        session.count += 10;
        session.save().await?;
        Ok(session.count.to_string())
    };
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .app_data(web::Data::new(world.watch.clone()))
        .app_data(web::Data::new(elsewhere))
        .route("/", web::post().to(handler));
    let site = Site::new(test::init_service(app).await);
    let browser = site.browser();
    let (token, _) = world.sessions.create(session_runtime::Databag::defaults()).await.expect("stored");
    browser.set_cookie(crate::app::COOKIE, &token.encode());
    let (logs, _guard) = Logs::of_this_thread();
    let answer = browser.post("/").await;
    assert_eq!(logs.lines(COUNTED).len(), 1, "the failed read: {}", logs.text());
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "10"));
    assert_eq!(world.sessions.load(&token).await.expect("answers").expect("alive").count, 10);
}

/// A read that fails is logged, and so is the write that fails later; what follows from the write is not.
#[actix_web::test]
async fn two_failures_are_two_error_lines() {
    let world = shop().await;
    let elsewhere = world.elsewhere().await;
    let handler =
        async |mut session: Session<Shop>, watch: web::Data<Watch>, elsewhere: web::Data<Sessions<Shop>>| {
            read_fails_after_a_conflict(&watch, elsewhere.get_ref().clone(), session.id());
            session.update(|shop| shop.count += 1).await.expect_err("the read fails");
            watch.heal();
            session.count += 10;
            watch.fail(Call::Update, Fault::Down);
            session.save().await.expect_err("the write fails");
            session.save().await.expect_err("the first write is unconfirmed");
            "ignored"
        };
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .app_data(web::Data::new(world.watch.clone()))
        .app_data(web::Data::new(elsewhere))
        .route("/", web::post().to(handler));
    let site = Site::new(test::init_service(app).await);
    let browser = site.browser();
    let (token, _) = world.sessions.create(session_runtime::Databag::defaults()).await.expect("stored");
    browser.set_cookie(crate::app::COOKIE, &token.encode());
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(browser.post("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(logs.lines(COUNTED).len(), 2, "{}", logs.text());
}
