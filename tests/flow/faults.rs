//! A store that is down, slow or silent, or whose answers are lost.

use std::time::{Duration, Instant};

use actix_web::web;
use databag_tests::{Answer, Browser, Call, Fault, Gate, Logs, Site, Watched};
use session_runtime::{Databag, Error, Session, SessionMiddleware, Sessions, SqliteStore};

use crate::app::{
    COOKIE, Shop, World, count, id, log_in, log_out, read_session, shop, shop_with, site, token,
};

fn assert_unavailable(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "Service Unavailable"));
    assert_eq!(answer.all("retry-after").len(), 1);
}

#[actix_web::test]
async fn a_store_that_is_down_at_load_is_503_and_the_session_survives() {
    let world = shop().await;
    let browser = world.customer().await;
    let cookie = browser.cookie(COOKIE);
    world.watch.fail_all(&Fault::Down);
    let (logs, _guard) = Logs::of_this_thread();
    for (path, errors) in [("/", 1), ("/page", 2)] {
        let answer = browser.get(path).await;
        assert_unavailable(&answer);
        assert!(answer.set_cookies().is_empty());
        assert_eq!(logs.lines(&["ERROR", "could not load the session", "the store is down"]).len(), errors);
    }
    assert_unavailable(&browser.post("/add/milk").await);
    assert_eq!(browser.get("/plain").await.status, 200, "a page without a session works");
    assert_eq!(
        read_session(&world.browser()).await["is_new"],
        true,
        "a visitor without a session gets an answer"
    );
    world.watch.heal();
    assert_eq!(browser.cookie(COOKIE), cookie);
    assert_eq!(
        read_session(&browser).await["cart"],
        serde_json::json!({"tea": 1}),
        "the handler did not run"
    );
}

#[actix_web::test]
async fn no_extractor_returns_an_anonymous_session_while_the_store_is_down() {
    let world = shop().await;
    let site = site!(world.sessions;
        "/option" => async |session: Option<Session<Shop>>| format!("{}", session.is_some()),
        "/result" => async |session: Result<Session<Shop>, Error>| format!("{}", session.is_ok()),
    );
    let browser = site.browser();
    browser.set_cookie(COOKIE, &world.customer().await.cookie(COOKIE).expect("a cookie"));
    world.watch.fail(Call::Load, Fault::Down);
    for path in ["/option", "/result"] {
        assert_unavailable(&browser.get(path).await);
    }
    world.watch.heal();
    assert_eq!(browser.get("/option").await.body, "true");
}

#[actix_web::test]
async fn a_store_that_is_down_at_commit_is_503_without_a_cookie() {
    let world = shop().await;
    let browser = world.customer().await;
    let before = world.sessions.get(id(&browser)).await.expect("answers").expect("alive").into_bag();
    world.watch.fail(Call::Update, Fault::Down);
    world.watch.fail(Call::Insert, Fault::Down);
    for path in ["/add/milk", "/count", "/login/7", "/rotate"] {
        let answer = browser.post(path).await;
        assert_unavailable(&answer);
        assert!(answer.set_cookies().is_empty(), "{path}");
    }
    let answer = world.browser().post("/add/milk").await;
    assert_unavailable(&answer);
    assert!(answer.set_cookies().is_empty());
    world.watch.heal();
    let after = world.sessions.get(id(&browser)).await.expect("answers").expect("alive").into_bag();
    assert_eq!((&after.cart, after.count, after.user_id), (&before.cart, 0, None), "the old row is intact");
    assert_eq!(world.rows(), 1);
    browser.post("/add/milk").await;
    assert_eq!(read_session(&browser).await["cart"]["milk"], 1, "the cookie works again afterwards");
}

#[actix_web::test]
async fn a_failed_touch_does_not_fail_the_request() {
    let world = shop().await;
    let browser = world.customer().await;
    world.clock.advance(Duration::from_mins(2));
    world.watch.fail(Call::Update, Fault::Down);
    let (logs, _guard) = Logs::of_this_thread();
    for path in ["/", "/page"] {
        let answer = browser.get(path).await;
        assert!(answer.status.is_success() && answer.set_cookies().is_empty());
    }
    assert_eq!(logs.lines(&["WARN", "could not extend the session's expiry"]).len(), 2);
}

/// Checks that this process refuses a session, and that the session is deleted when the store is back.
async fn assert_ended(world: &World, old: &Browser) {
    world.watch.heal();
    assert_eq!(read_session(old).await["is_new"], true, "the session is blocked although its row exists");
    assert!(world.sessions.load(&token(old)).await.expect("answers").is_none());
    for _ in 0..2_000 {
        if world.rows() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the row was not deleted");
}

#[actix_web::test]
async fn a_log_out_while_the_store_is_down_ends_the_session_in_this_process() {
    let world = shop().await;
    let browser = world.user(7).await;
    let old = browser.copied();
    world.watch.fail(Call::Delete, Fault::Down);
    let answer = browser.post("/logout").await;
    assert_unavailable(&answer);
    assert_eq!(answer.set_cookies().len(), 1);
    assert_eq!(browser.cookie(COOKIE), None, "the answer removes the cookie");
    assert_eq!(world.rows(), 1);
    world.events.take();
    assert_eq!(read_session(&old).await["is_new"], true);
    assert_ended(&world, &old).await;
}

#[actix_web::test]
async fn a_log_out_that_keeps_fields_ends_the_session_too_when_the_store_is_down() {
    let world = shop().await;
    let browser = world.user(7).await;
    browser.post("/theme/dark").await;
    let old = browser.copied();
    world.watch.fail(Call::Update, Fault::Down);
    assert_unavailable(&browser.post("/logout").await);
    assert_eq!(browser.cookie(COOKIE), None);
    assert_ended(&world, &old).await;
}

#[actix_web::test]
async fn a_log_out_that_waits_for_a_hanging_writer_ends_the_session_too() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(80))).await;
    let browser = world.user(7).await;
    let (old, writer) = (browser.copied(), browser.copied());
    world.watch.fail(Call::Update, Fault::Hangs);
    let (late, answer) = tokio::join!(writer.post("/add/milk"), browser.post("/logout"));
    assert_unavailable(&late);
    // The log-out may get the lock before the deadline or miss it; the session ends in both cases.
    assert!(answer.status == 503 || answer.status == 200, "{}", answer.status);
    assert_eq!(browser.cookie(COOKIE), None);
    assert_ended(&world, &old).await;
}

#[actix_web::test]
async fn a_log_out_that_cannot_be_merged_ends_the_session_too() {
    let world = shop().await;
    let browser = world.user(7).await;
    browser.post("/theme/dark").await;
    let old = browser.copied();
    // Another process writes first, and then the store cannot be read.
    let (session, elsewhere, watch) = (id(&browser), world.elsewhere().await, world.watch.clone());
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.count += 1).await.expect("stored");
        watch.fail(Call::Load, Fault::Down);
    });
    assert_unavailable(&browser.post("/logout").await);
    assert_ended(&world, &old).await;
}

#[actix_web::test]
async fn a_log_out_into_a_session_that_is_too_large_ends_the_old_one_too() {
    let world = shop_with(|builder| builder.max_state_bytes(1_000)).await;
    let leave = async |mut session: Session<Shop>| {
        session.log_out();
        session.set_notice("x".repeat(2_000));
        "out"
    };
    let site = site!(world.sessions; "/leave" => leave);
    let user = world.user(7).await;
    let browser = site.browser();
    browser.set_cookie(COOKIE, &user.cookie(COOKIE).expect("a cookie"));
    assert_eq!(browser.post("/leave").await.status, 500);
    assert_eq!(browser.cookie(COOKIE), None);
    assert_ended(&world, &user).await;
}

#[actix_web::test]
async fn a_request_in_flight_cannot_rename_a_blocked_session() {
    let world = shop().await;
    let gate = web::Data::new(Gate::default());
    let rotate = async |mut session: Session<Shop>, gate: web::Data<Gate>| {
        gate.pass().await;
        session.rotate();
        "rotated"
    };
    let app = actix_web::App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .app_data(gate.clone())
        .route("/rotate", web::post().to(rotate))
        .route("/logout", web::post().to(log_out));
    let site = Site::new(actix_web::test::init_service(app).await);
    let (browser, user) = (site.browser(), world.user(7).await);
    browser.set_cookie(COOKIE, &user.cookie(COOKIE).expect("a cookie"));
    let late = browser.copied();
    let (answer, ()) = tokio::join!(late.post("/rotate"), async {
        gate.arrival().await;
        world.watch.fail(Call::Delete, Fault::Down);
        assert_unavailable(&browser.post("/logout").await);
        gate.open();
    });
    assert_eq!(answer.status, 409);
    assert_ended(&world, &user).await;
}

#[actix_web::test]
async fn a_store_that_never_answers_is_503_within_the_deadline() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(60))).await;
    let browser = world.customer().await;
    for call in [Call::Load, Call::Update] {
        world.watch.fail(call, Fault::Hangs);
        let since = Instant::now();
        assert_unavailable(&browser.post("/add/milk").await);
        assert!(since.elapsed() < Duration::from_secs(1), "{call:?}: {:?}", since.elapsed());
        world.watch.heal();
    }
    world.watch.fail(Call::Insert, Fault::Hangs);
    assert_unavailable(&world.browser().post("/add/milk").await);
    world.watch.fail_all(&Fault::Hangs);
    assert!(world.sessions.health().await.is_err());
    assert!(world.sessions.of_user(7).await.is_err());
    assert!(world.sessions.delete(id(&browser)).await.is_err());
}

#[actix_web::test]
async fn a_hanging_cleanup_delays_no_request() {
    let world = shop_with(|builder| {
        builder.deadline(Duration::from_millis(60)).cleanup(session_runtime::Cleanup::EveryRequest)
    })
    .await;
    world.watch.fail(Call::Prune, Fault::Hangs);
    let since = Instant::now();
    assert!(world.browser().post("/add/milk").await.status.is_success());
    assert!(since.elapsed() < Duration::from_secs(1));
}

#[actix_web::test]
async fn a_write_is_503_and_is_not_repeated_if_it_cannot_be_confirmed() {
    let world = shop().await;
    let browser = world.customer().await;
    world.watch.fail(Call::Update, Fault::Breaks);
    let answer = browser.post("/count").await;
    assert_unavailable(&answer);
    assert!(answer.set_cookies().is_empty());
    world.watch.heal();
    assert_eq!(read_session(&browser).await["count"], 1, "the unconfirmed write is stored");
    assert_eq!(browser.post("/count").await.body, "2");
}

#[actix_web::test]
async fn a_failed_update_changes_nothing_in_the_session_and_fails_the_request() {
    let world = shop().await;
    let ignore = async |mut session: Session<Shop>, watch: web::Data<databag_tests::Watch>| {
        session.theme = crate::app::Theme::Dark;
        watch.fail(Call::Update, Fault::Down);
        let failed = session.update(|shop| shop.count += 1).await.is_err();
        watch.heal();
        assert_eq!(session.count, u64::from(!failed));
        "ignored"
    };
    let app = actix_web::App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .app_data(web::Data::new(world.watch.clone()))
        .route("/ignore", web::post().to(ignore));
    let browser = Site::new(actix_web::test::init_service(app).await).browser();
    let known = world.customer().await;
    for browser in [&browser, &{
        let browser = browser.copied();
        browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
        browser
    }] {
        // The first browser has a new session: its update is an `insert`, which works. Only the second update fails.
        let new = browser.cookie(COOKIE).is_none();
        let answer = browser.post("/ignore").await;
        if new {
            assert_eq!(answer.body, "ignored");
        } else {
            assert_unavailable(&answer);
        }
    }
    let seen = read_session(&known).await;
    assert_eq!(
        (&seen["count"], &seen["theme"]),
        (&0.into(), &"Light".into()),
        "nothing of the failed update is stored"
    );
}

#[actix_web::test]
async fn a_blocked_session_is_deleted_even_if_the_first_attempt_hangs() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(60))).await;
    let browser = world.user(7).await;
    let old = browser.copied();
    world.watch.fail(Call::Delete, Fault::Hangs);
    assert_unavailable(&browser.post("/logout").await);
    world.watch.until("the first attempt hangs", |watch| watch.count(Call::Delete) > 1).await;
    assert_ended(&world, &old).await;
}

#[actix_web::test]
async fn a_client_that_disconnects_does_not_stop_the_commit() {
    let world = shop().await;
    let browser = world.customer().await;
    let gate = Gate::default();
    world.watch.fail(Call::Update, Fault::Waits(gate.clone()));
    let request = browser.prepare(actix_web::test::TestRequest::post().uri("/add/milk"));
    let mut call = world.site.call(request);
    tokio::select! {
        answer = &mut call => panic!("answered before it was stored: {}", answer.status),
        () = gate.arrival() => {}
    }
    drop(call);
    world.watch.heal();
    gate.open();
    for _ in 0..1_000 {
        if read_session(&browser).await["cart"]["milk"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the changes of the handler were lost");
}

#[actix_web::test]
async fn no_answer_is_sent_before_the_store_has_acknowledged() {
    let world = shop().await;
    let gate = Gate::default();
    world.watch.fail(Call::Insert, Fault::Waits(gate.clone()));
    let browser = world.browser();
    let request = browser.post("/add/tea");
    tokio::pin!(request);
    tokio::select! {
        _ = &mut request => panic!("answered before it was stored"),
        () = gate.arrival() => {}
    }
    assert!(futures_util::poll!(&mut request).is_pending());
    gate.open();
    assert_eq!(request.await.set_cookies().len(), 1);
}

#[actix_web::test]
async fn health_reports_whether_the_store_works() {
    let world = shop().await;
    assert!(world.sessions.health().await.is_ok());
    world.watch.fail(Call::Health, Fault::Down);
    assert!(world.sessions.health().await.is_err());
}

#[actix_web::test]
async fn the_shop_recovers_from_each_single_failing_call() {
    // An answer is 200 or 503 while the call fails; afterwards every request works.
    for call in [Call::Load, Call::Insert, Call::Update, Call::Delete] {
        for fault in [Fault::Down, Fault::AnswerLost, Fault::Breaks] {
            let world = shop().await;
            let site =
                site!(world.sessions; "/count" => count, "/login/{user}" => log_in, "/logout" => log_out);
            let browser = site.browser();
            browser.set_cookie(COOKIE, &world.user(7).await.cookie(COOKIE).expect("a cookie"));
            world.watch.fail(call, fault.clone());
            for path in ["/count", "/login/8", "/count", "/logout"] {
                let answer = browser.post(path).await;
                assert!(
                    matches!(answer.status.as_u16(), 200 | 503),
                    "{call:?} {fault:?} {path}: {}",
                    answer.status
                );
            }
            world.watch.heal();
            assert_eq!(browser.post("/login/9").await.status, 200, "{call:?} {fault:?}");
            assert_eq!(world.sessions.of_user(9).await.expect("answers").len(), 1);
        }
    }
}

#[actix_web::test]
async fn sessions_have_the_same_type_on_another_store() {
    // The store of this world is not the default one; `Sessions<Shop>` names no store type.
    let world = shop().await;
    let named: &Sessions<Shop> = &world.sessions;
    let (token, created) = named.create(Databag::defaults()).await.expect("stored");
    assert_eq!(named.load(&token).await.expect("answers").expect("alive").id(), created.id());
}

#[actix_web::test]
async fn a_page_is_answered_when_its_touch_meets_a_conflict_and_cannot_be_retried() {
    let world = shop().await;
    let browser = world.customer().await;
    browser.post("/notice/hello").await;
    let (session, elsewhere, watch) = (id(&browser), world.elsewhere().await, world.watch.clone());
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.count += 1).await.expect("stored");
        watch.fail(Call::Load, Fault::Down);
    });
    assert_eq!(browser.get("/page").await.status, 200);
}

#[actix_web::test]
async fn a_failed_update_is_one_error_line_in_the_log() {
    let world = shop().await;
    let browser = world.customer().await;
    world.watch.fail(Call::Update, Fault::Down);
    let (logs, _guard) = Logs::of_this_thread();
    assert_unavailable(&browser.post("/count").await);
    assert_eq!(logs.lines(&["ERROR", "could not update the session"]).len(), 1, "{}", logs.text());
}

#[derive(Databag)]
struct Counter {
    #[databag(merge = "sum")]
    n: u32,
}

#[actix_web::test]
async fn an_unconfirmed_save_is_not_repeated() {
    let (store, watch) = Watched::new(SqliteStore::in_memory().expect("memory"));
    let sessions =
        Sessions::<Counter>::builder(store).keyring(crate::app::key()).build().await.expect("good");
    let count = async |mut session: Session<Counter>, watch: web::Data<databag_tests::Watch>| {
        session.n += 1;
        let lost = session.save().await.is_err();
        watch.heal();
        format!("{lost}")
    };
    let app = actix_web::App::new()
        .wrap(SessionMiddleware::new(sessions.clone()))
        .app_data(web::Data::new(watch.clone()))
        .route("/count", web::post().to(count));
    let browser = Site::new(actix_web::test::init_service(app).await).browser();
    assert_eq!(browser.post("/count").await.body, "false");
    watch.fail(Call::Update, Fault::Breaks);
    assert_unavailable(&browser.post("/count").await);
    let token = session_runtime::Token::parse(&browser.cookie("__Host-session").expect("a cookie"));
    let stored = sessions.load(&token.expect("a token")).await.expect("answers").expect("lives");
    assert_eq!(stored.n, 2);
}

#[actix_web::test]
async fn a_blocked_session_is_not_listed() {
    let world = shop().await;
    let browser = world.user(7).await;
    world.watch.fail(Call::Delete, Fault::Down);
    assert!(world.sessions.delete(id(&browser)).await.is_err());
    assert!(world.sessions.get(id(&browser)).await.expect("answers").is_none());
    assert!(world.sessions.of_user(7).await.expect("answers").is_empty());
}
