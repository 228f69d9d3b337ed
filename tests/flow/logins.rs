//! Log-in, log-out and every other end of a token.

use actix_web::web;
use databag_tests::{Call, Fault, Gate, Site, Watch, Watched, users};
use futures_util::future::join_all;
use session_runtime::{Cleanup, Databag, MemoryStore, Session, SessionId, Sessions, SqliteStore};

use crate::app::{COOKIE, Events, Shop, Theme, id, log_in, log_out, read_session, shop, site, token};

/// Checks that an old cookie is anonymous.
async fn assert_ended(world: &crate::app::World, old: &databag_tests::Browser) {
    assert_eq!(read_session(old).await["is_new"], true, "the old token opens no session");
    assert!(world.sessions.load(&token(old)).await.expect("the store answers").is_none());
}

#[actix_web::test]
async fn a_log_in_rotates_the_token_and_ends_the_old_one() {
    let world = shop().await;
    let browser = world.customer().await;
    let old = browser.copied();
    let answer = browser.post("/login/7").await;
    assert_eq!(answer.set_cookies().len(), 1);
    assert_ne!(browser.cookie(COOKIE), old.cookie(COOKIE));
    assert_ended(&world, &old).await;
    let seen = read_session(&browser).await;
    assert_eq!((&seen["user"], &seen["cart"]["tea"]), (&7.into(), &1.into()), "the content is kept");
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn assigning_the_user_rotates_the_token() {
    let world = shop().await;
    let browser = world.customer().await;
    for user in [7, 8] {
        let old = browser.copied();
        browser.post(&format!("/become/{user}")).await;
        assert_ended(&world, &old).await;
        assert_eq!(read_session(&browser).await["user"], user);
    }
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn a_log_in_of_the_same_user_rotates_the_token() {
    let world = shop().await;
    let browser = world.user(7).await;
    let old = browser.copied();
    browser.post("/login/7").await;
    assert_ended(&world, &old).await;
    assert_eq!(read_session(&browser).await["user"], 7);
}

#[actix_web::test]
async fn rotate_keeps_the_content_and_the_creation_time() {
    let world = shop().await;
    let browser = world.customer().await;
    let old = browser.copied();
    let began = world.sessions.get(id(&browser)).await.expect("answers").expect("there").created();
    world.clock.advance(std::time::Duration::from_secs(5));
    browser.post("/rotate").await;
    assert_ended(&world, &old).await;
    assert_eq!(read_session(&browser).await["cart"]["tea"], 1);
    let now = world.sessions.get(id(&browser)).await.expect("answers").expect("there").created();
    assert_eq!(now, began);
    browser.post("/login/7").await;
    let now = world.sessions.get(id(&browser)).await.expect("answers").expect("there").created();
    assert!(now > began, "a log-in restarts both limits");
}

#[actix_web::test]
async fn a_log_in_of_a_new_visitor_stores_one_session() {
    let world = shop().await;
    let browser = world.browser();
    browser.post("/login/7").await;
    assert_eq!((read_session(&browser).await["user"].as_i64(), world.rows()), (Some(7), 1));
}

#[actix_web::test]
async fn a_log_in_resets_only_fields_with_reset_on_login() {
    let world = shop().await;
    let fail = async |mut session: Session<Shop>| {
        session.attempts += 1;
        session.count += 1;
        "wrong password"
    };
    let site = site!(world.sessions; "/fail" => fail, "/login/{user}" => log_in,
        "/" => async |s: Session<Shop>| format!("{} {}", s.attempts, s.count));
    let browser = site.browser();
    browser.post("/fail").await;
    browser.post("/fail").await;
    assert_eq!(browser.get("/").await.body, "2 2");
    browser.post("/login/7").await;
    assert_eq!(browser.get("/").await.body, "0 2");
}

#[actix_web::test]
async fn a_log_out_deletes_the_row_and_removes_the_cookie() {
    let world = shop().await;
    let browser = world.user(7).await;
    let old = browser.copied();
    browser.post("/logout").await;
    assert_eq!((browser.cookie(COOKIE), world.rows()), (None, 0));
    assert_ended(&world, &old).await;
}

#[actix_web::test]
async fn a_replayed_cookie_after_a_log_out_is_anonymous_and_revives_nothing() {
    let world = shop().await;
    let browser = world.user(7).await;
    let thief = browser.copied();
    browser.post("/logout").await;
    for path in ["/add/tea", "/count", "/noop"] {
        thief.copied().post(path).await;
    }
    assert!(world.sessions.get(id(&thief)).await.expect("answers").is_none());
    assert!(world.sessions.of_user(7).await.expect("answers").is_empty());
}

#[actix_web::test]
async fn fields_kept_on_log_out_begin_a_new_session() {
    let world = shop().await;
    let browser = world.user(7).await;
    browser.post("/theme/dark").await;
    let old = browser.copied();
    browser.post("/logout").await;
    assert_ended(&world, &old).await;
    let seen = read_session(&browser).await;
    assert_eq!(seen["theme"], "Dark");
    assert!(seen["user"].is_null() && seen["cart"] == serde_json::json!({}), "{seen}");
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn destroy_drops_what_a_log_out_would_keep() {
    let world = shop().await;
    let browser = world.user(7).await;
    browser.post("/theme/dark").await;
    browser.post("/destroy").await;
    assert_eq!((browser.cookie(COOKIE), world.rows()), (None, 0));
}

#[actix_web::test]
async fn changes_after_a_log_out_begin_a_new_session() {
    let world = shop().await;
    let goodbye = async |mut session: Session<Shop>| {
        session.log_out();
        session.set_notice("Goodbye");
        "out"
    };
    let site = site!(world.sessions; "/goodbye" => goodbye, "/login/{user}" => log_in,
        "/" => async |s: Session<Shop>| format!("{:?} {:?} {:?}", s.user_id(), s.notice(), s.cart()));
    let browser = site.browser();
    browser.post("/login/7").await;
    let old = browser.copied();
    browser.post("/goodbye").await;
    assert_eq!(browser.get("/").await.body, "None Some(\"Goodbye\") {}");
    assert_eq!(old.get("/").await.body, "None None {}");
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn a_log_out_and_another_log_in_in_one_request_keep_nothing() {
    let world = shop().await;
    let switch = async |mut session: Session<Shop>, user: web::Path<i64>| {
        session.log_out();
        session.log_in(*user);
        "switched"
    };
    let site = site!(world.sessions; "/switch/{user}" => switch,
        "/" => async |s: Session<Shop>| format!("{:?} {:?} {:?}", s.user_id(), s.tenant(), s.cart()));
    let browser = world.user(7).await;
    let (session, old) = (id(&browser), browser.copied());
    // While the switch is under way, another request of the first user stores something.
    let elsewhere = world.elsewhere().await;
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.set_tenant("of the first user")).await.expect("stored");
    });
    let other = site.browser();
    other.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    other.post("/switch/8").await;
    assert_eq!(other.get("/").await.body, "Some(8) None {}");
    assert_ended(&world, &old).await;
    assert_eq!(world.rows(), 1);
}

async fn slow(mut session: Session<Shop>, gate: web::Data<Gate>) -> &'static str {
    gate.pass().await;
    session.cart.insert("late".to_owned(), 1);
    "slow"
}

#[actix_web::test]
async fn a_late_save_never_revives_a_logged_out_session() {
    let world = shop().await;
    let gate = web::Data::new(Gate::default());
    let site = Site::new(
        actix_web::test::init_service(
            actix_web::App::new()
                .wrap(session_runtime::SessionMiddleware::new(world.sessions.clone()))
                .app_data(gate.clone())
                .route("/slow", web::post().to(slow))
                .route("/logout", web::post().to(log_out)),
        )
        .await,
    );
    let browser = site.browser();
    browser.set_cookie(COOKIE, &world.user(7).await.cookie(COOKIE).expect("a cookie"));
    let (session, late) = (id(&browser), browser.copied());
    let (answer, ()) = tokio::join!(late.post("/slow"), async {
        gate.arrival().await;
        assert!(browser.post("/logout").await.status.is_success());
        gate.open();
    });
    assert_eq!(answer.status, 409, "the answer reports that nothing was stored");
    assert!(answer.set_cookies().is_empty());
    assert!(world.sessions.get(session).await.expect("answers").is_none());
    assert_eq!(world.rows(), 0);
}

#[actix_web::test]
async fn a_session_revoked_while_a_request_is_in_flight_stays_ended() {
    let world = shop().await;
    let gate = web::Data::new(Gate::default());
    let increments = async |mut session: Session<Shop>, gate: web::Data<Gate>| {
        gate.pass().await;
        session.update(|shop| shop.count += 1).await.map(|()| "counted")
    };
    let site = Site::new(
        actix_web::test::init_service(
            actix_web::App::new()
                .wrap(session_runtime::SessionMiddleware::new(world.sessions.clone()))
                .app_data(gate.clone())
                .route("/slow", web::post().to(slow))
                .route("/update", web::post().to(increments))
                .route("/login/{user}", web::post().to(slow_log_in)),
        )
        .await,
    );
    let user = world.user(7).await;
    let browsers = ["/slow", "/update", "/login/8"].map(|path| {
        let browser = site.browser();
        browser.set_cookie(COOKIE, &user.cookie(COOKIE).expect("a cookie"));
        (browser, path)
    });
    let requests = browsers.iter().map(|(browser, path)| browser.post(path));
    let (answers, ()) = tokio::join!(join_all(requests), async {
        for _ in 0..3 {
            gate.arrival().await;
        }
        assert_eq!(world.sessions.revoke_user(7).await.expect("revoked"), 1);
        gate.open();
    });
    for answer in answers {
        assert_eq!(answer.status, 409);
        assert!(answer.set_cookies().is_empty());
    }
    assert_eq!(world.rows(), 0);
}

/// A request does not follow its session to a new token, not even to that of another log-in of the same user: who knows the old
/// token and the password has not passed what else the other log-in asked for.
#[actix_web::test]
async fn a_log_in_follows_no_session_to_a_new_token() {
    for (first, meanwhile) in
        [("/login/8", None), ("/login/7", None), ("/login/7", Some("/logout")), ("/rotate", None)]
    {
        let world = shop().await;
        let gate = web::Data::new(Gate::default());
        let site = gated(&world, &gate).await;
        let browser = site.browser();
        browser.post("/add/tea").await;
        let late = browser.copied();
        let (answer, ()) = tokio::join!(late.post("/slow-login/7"), async {
            gate.arrival().await;
            assert!(browser.post(first).await.status.is_success());
            if let Some(path) = meanwhile {
                assert!(browser.post(path).await.status.is_success());
            }
            gate.open();
        });
        assert_eq!(answer.status, 409, "{first}");
        assert!(answer.set_cookies().is_empty(), "{first}");
        assert_eq!(world.rows(), i64::from(meanwhile.is_none()), "{first}: no other session begins");
        assert_eq!(
            read_session(&browser).await["is_new"],
            meanwhile.is_some(),
            "{first}: its token stays good"
        );
    }
}

/// The shop with a log-in that waits at a gate.
async fn gated(world: &crate::app::World, gate: &web::Data<Gate>) -> Site {
    let app = actix_web::App::new()
        .wrap(session_runtime::SessionMiddleware::new(world.sessions.clone()))
        .app_data(gate.clone())
        .route("/slow-login/{user}", web::post().to(slow_log_in))
        .configure(crate::app::routes);
    Site::new(actix_web::test::init_service(app).await)
}

async fn slow_log_in(
    mut session: Session<Shop>,
    gate: web::Data<Gate>,
    user: web::Path<i64>,
) -> &'static str {
    gate.pass().await;
    session.log_in(*user);
    "in"
}

#[actix_web::test]
async fn the_hooks_report_the_life_of_a_session() {
    let world = shop().await;
    let browser = world.browser();
    let short = |id: SessionId| format!("{id:?}");
    browser.post("/add/tea").await;
    let first = short(id(&browser));
    assert_eq!(world.events.take(), [format!("started {first}")]);
    browser.post("/login/7").await;
    let second = short(id(&browser));
    assert_eq!(world.events.take(), [format!("loaded {first}"), format!("rotated {first} {second}")]);
    browser.post("/logout").await;
    assert_eq!(world.events.take(), [format!("loaded {second}"), format!("deleted {second}")]);
    world.user(8).await;
    world.events.take();
    world.sessions.revoke_user(8).await.expect("revoked");
    assert_eq!(world.events.take().len(), 1);
}

#[actix_web::test]
async fn a_new_session_has_the_declared_default() {
    // A field's `default` attribute replaces `Default::default()`.
    let world = shop().await;
    assert_eq!(read_session(&world.browser()).await["theme"], serde_json::json!(Theme::Light));
}

#[derive(Databag)]
struct Fresh {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(default = next())]
    seed: u32,
    #[databag(skip)]
    scratch: u32,
}

fn next() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[actix_web::test]
async fn a_log_out_evaluates_defaults_again_and_drops_skipped_fields() {
    let leave = |seed| {
        let mut session = Session::for_test(Fresh { user_id: Some(7), seed, scratch: 5 });
        session.log_out();
        assert_eq!((session.user_id, session.scratch), (None, 0));
        session.seed
    };
    assert_ne!(leave(0), leave(0));
}

#[actix_web::test]
async fn a_log_out_after_a_rename_ends_the_session_under_its_new_id() {
    let world = shop().await;
    let gate = web::Data::new(Gate::default());
    let leave = async |mut session: Session<Shop>, gate: web::Data<Gate>| {
        gate.pass().await;
        session.destroy();
        "out"
    };
    let app = actix_web::App::new()
        .wrap(session_runtime::SessionMiddleware::new(world.sessions.clone()))
        .app_data(gate.clone())
        .route("/leave", web::post().to(leave))
        .route("/login/{user}", web::post().to(log_in));
    let browser = Site::new(actix_web::test::init_service(app).await).browser();
    browser.set_cookie(COOKIE, &world.user(7).await.cookie(COOKIE).expect("a cookie"));
    let late = browser.copied();
    let (answer, ()) = tokio::join!(late.post("/leave"), async {
        gate.arrival().await;
        assert!(browser.post("/login/8").await.status.is_success());
        gate.open();
    });
    assert_eq!((answer.status.as_u16(), world.rows()), (200, 0));
    assert!(world.sessions.load(&token(&browser)).await.expect("answers").is_none());
}

#[actix_web::test]
async fn a_log_out_whose_session_another_process_renamed_is_not_answered_with_success() {
    let world = shop().await;
    // A log-out that keeps fields replaces the row.
    for (call, is_dark) in [(Call::Delete, false), (Call::Update, true)] {
        let browser = world.user(7).await;
        if is_dark {
            browser.post("/theme/dark").await;
        }
        let (session, elsewhere) = (id(&browser), world.elsewhere().await);
        world.watch.before_next(call, async move {
            elsewhere.update(session, |shop| shop.user_id = Some(8)).await.expect("stored");
        });
        assert_eq!(browser.post("/logout").await.status, 409, "{call:?}");
    }
}

#[actix_web::test]
async fn parallel_log_ins_leave_as_many_sessions_as_allowed() {
    for is_memory in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let sessions = if is_memory {
            users::sessions(MemoryStore::new(), 0).await
        } else {
            let store = SqliteStore::open(folder.path().join("users.db")).expect("a database");
            users::sessions(store, 0).await
        };
        let site = users::site(&sessions, &Gate::default()).await;
        let browsers: Vec<_> = (0..40).map(|_| site.browser()).collect();
        let log_ins = join_all(browsers.iter().map(|browser| browser.post("/login/7")));
        let most = async {
            let mut most = 0;
            loop {
                most = most.max(sessions.of_user(7).await.expect("it answers").len());
                tokio::task::yield_now().await;
                if browsers.iter().all(|browser| browser.cookie(users::COOKIE).is_some()) {
                    break most;
                }
            }
        };
        let (answers, most) = tokio::join!(log_ins, most);
        assert!(answers.iter().all(|answer| answer.status == 200), "the log-in of each succeeds");
        assert!(most <= users::MAX, "{most} sessions at one time");
        let mut live = 0;
        for browser in &browsers {
            live += usize::from(browser.get("/user").await.body == "Some(7)");
        }
        assert_eq!((live, sessions.count_all().await.expect("it answers")), (users::MAX, users::MAX as u64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_with_different_clocks_leave_as_many_sessions_as_allowed() {
    let store = MemoryStore::new();
    users::parallel_log_ins(async || store.clone(), true).await;
    let folder = tempfile::tempdir().expect("a folder");
    // Each opens the file by itself, as a program does.
    let open = async || SqliteStore::open(folder.path().join("users.db")).expect("a database");
    users::parallel_log_ins(open, true).await;
}

/// A store that a test controls, with sessions that log what has ended.
async fn watched() -> (Sessions<users::Limited>, Watch, Events) {
    let (store, watch) = Watched::new(SqliteStore::in_memory().expect("there is memory"));
    let ended = Events::default();
    let note = {
        let ended = ended.clone();
        move |id: SessionId| ended.note(format!("{id:?}"))
    };
    let sessions = Sessions::<users::Limited>::builder(store).danger_plaintext();
    let sessions = sessions.cleanup(Cleanup::Never).deadline(std::time::Duration::from_millis(500));
    (sessions.on_deleted(note).build().await.expect("good settings"), watch, ended)
}

#[actix_web::test]
async fn a_log_in_that_is_not_stored_ends_no_session() {
    let (sessions, watch, ended) = watched().await;
    let gate = Gate::default();
    gate.open();
    let site = users::site(&sessions, &gate).await;
    let browsers: [_; users::MAX] = users::log_ins(&site, 7).await;
    let visitor = site.browser();
    visitor.post("/late").await;
    let visitors = [site.browser(), visitor];
    for (call, visitor) in [Call::Insert, Call::Update].into_iter().zip(&visitors) {
        watch.fail(call, Fault::Down);
        let answer = visitor.post("/login/7").await;
        assert_eq!((answer.status.as_u16(), answer.set_cookies()), (503, Vec::new()), "{call:?}");
        watch.heal();
        for browser in &browsers {
            assert_eq!(browser.get("/user").await.body, "Some(7)");
        }
    }
    assert!(ended.take().is_empty());
    // A lost answer is looked for.
    let before = watch.calls();
    watch.fail_next(Call::Insert, Fault::AnswerLost);
    assert_eq!(visitors[0].post("/login/7").await.status, 200);
    assert_eq!(watch.calls() - before, 2, "the write, and what became of it");
    assert_eq!(sessions.of_user(7).await.expect("it answers").len(), users::MAX);
    let oldest = id_of(&browsers[1]);
    assert_eq!(visitors[0].post("/login/7").await.status, 200, "this session continues");
    assert!(ended.take().is_empty());
    assert_eq!(site.browser().post("/login/7").await.status, 200);
    assert_eq!(ended.take(), [format!("{oldest:?}")]);
}

/// The first sending of the write fails, nothing is found, and the second one keeps the limit too.
#[actix_web::test]
async fn a_log_in_that_is_sent_again_keeps_the_limit() {
    let (sessions, watch, ended) = watched().await;
    let gate = Gate::default();
    gate.open();
    let site = users::site(&sessions, &gate).await;
    let [oldest, ..]: [_; users::MAX] = users::log_ins(&site, 7).await;
    let (oldest, visitor) = (id_of(&oldest), site.browser());
    visitor.post("/late").await;
    watch.fail_next(Call::Update, Fault::Down);
    assert_eq!(visitor.post("/login/7").await.status, 200);
    let left = sessions.of_user(7).await.expect("it answers");
    assert_eq!(
        (left.len(), left[0].id(), ended.take()),
        (users::MAX, id_of(&visitor), vec![format!("{oldest:?}")])
    );
}

fn id_of(browser: &databag_tests::Browser) -> SessionId {
    let token = browser.cookie(users::COOKIE).expect("a cookie");
    session_runtime::Token::parse(&token).expect("a token").session_id()
}

#[actix_web::test]
async fn a_log_in_costs_one_write_with_a_limit_and_without() {
    let world = shop().await;
    let (sessions, watch, _) = watched().await;
    let site = users::site(&sessions, &Gate::default()).await;
    for (browser, watch) in [(world.browser(), &world.watch), (site.browser(), &watch)] {
        for _ in 0..2 {
            let before = (watch.calls(), watch.writes());
            let loads = usize::from(browser.cookie(COOKIE).or(browser.cookie(users::COOKIE)).is_some());
            browser.post("/login/7").await;
            assert_eq!((watch.calls() - before.0, watch.writes() - before.1), (1 + loads, 1));
        }
    }
}

#[actix_web::test]
async fn a_changed_password_ends_all_other_sessions() {
    users::password_change(MemoryStore::new()).await;
    users::password_change(SqliteStore::in_memory().expect("there is memory")).await;
}

#[actix_web::test]
async fn a_changed_password_is_answered_503_unless_all_has_happened() {
    let (sessions, watch, ended) = watched().await;
    let site = users::site(&sessions, &Gate::default()).await;
    let [changing, other] = users::log_ins(&site, 7).await;
    let old = id_of(&changing);
    watch.fail(Call::Update, Fault::Down);
    let answer = changing.post("/password").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies()), (503, Vec::new()));
    watch.heal();
    assert_eq!((id_of(&changing), ended.take()), (old, Vec::new()));
    for browser in [&changing, &other] {
        assert_eq!(browser.get("/user").await.body, "Some(7)");
    }
    watch.fail_next(Call::Update, Fault::AnswerLost);
    assert_eq!(changing.post("/password").await.status, 200);
    assert_ne!(id_of(&changing), old);
    assert_eq!(
        (changing.get("/user").await.body, other.get("/user").await.body),
        ("Some(7)".into(), "None".into())
    );
    let [other] = users::log_ins(&site, 7).await;
    assert_eq!(changing.post("/password").await.status, 200);
    assert_eq!(ended.take(), [format!("{:?}", id_of(&other))]);
    // A new session in the same request.
    let enter = async |mut session: Session<users::Limited>| {
        session.log_in(7);
        session.rotate_and_end_others().await.map(|()| "in")
    };
    let reset = site!(sessions; "/reset" => enter).browser();
    assert_eq!(reset.post("/reset").await.status, 200);
    assert_eq!(sessions.of_user(7).await.expect("it answers").len(), 1);
}

/// Two browsers change the password at the same time: one session is left at most.
#[actix_web::test]
async fn of_two_changes_of_the_password_at_once_one_session_is_left() {
    let (sessions, _, _) = watched().await;
    let site = users::site(&sessions, &Gate::default()).await;
    for _ in 0..20 {
        let [one, two] = users::log_ins(&site, 7).await;
        let (one, two) = tokio::join!(one.post("/password"), two.post("/password"));
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert!(statuses[0] == 200 && [200, 401, 409].contains(&statuses[1]), "{statuses:?}");
        assert_eq!(sessions.of_user(7).await.expect("it answers").len(), 1);
    }
}

/// A log-in that checks the password again when its session is stored, as the docs of `rotate_and_end_others` ask: whatever is
/// wrong with the second check, no session is left, and the browser learns of none.
#[actix_web::test]
async fn a_log_in_whose_second_check_is_not_passed_leaves_no_session() {
    let (sessions, watch, _) = watched().await;
    for second in [Some(true), Some(false), None] {
        for had_a_session in [false, true] {
            let check = move |mut session: Session<users::Limited>| async move {
                session.log_in(7);
                session.save().await?;
                match second {
                    Some(true) => return Ok("welcome"),
                    Some(false) => session.destroy(),
                    None => {
                        session.destroy();
                        return Err(actix_web::error::ErrorServiceUnavailable("the accounts are down"));
                    }
                }
                Ok("wrong password")
            };
            let visit = async |mut session: Session<users::Limited>| {
                session.count += 1;
                "seen"
            };
            let read = async |session: Session<users::Limited>| format!("{:?}", session.user_id);
            let browser = site!(sessions; "/in" => check, "/visit" => visit, "/read" => read).browser();
            if had_a_session {
                browser.post("/visit").await;
            }
            let old = browser.copied();
            let answer = browser.post("/in").await;
            assert_eq!(answer.status.as_u16(), if second.is_none() { 503 } else { 200 });
            let (user, is_in) = (browser.get("/read").await.body, second == Some(true));
            assert_eq!(user, if is_in { "Some(7)" } else { "None" }, "{second:?} {had_a_session}");
            assert_eq!(
                old.get("/read").await.body,
                "None",
                "{second:?} {had_a_session}: the old token is dead"
            );
            assert_eq!(browser.cookie(users::COOKIE).is_some(), is_in, "{second:?} {had_a_session}");
            let stored = sessions.count_all().await.expect("it answers");
            assert_eq!(stored, u64::from(is_in), "{second:?} {had_a_session}");
            sessions.clear().await.expect("it answers");
        }
    }
    // The store fails too: no answer ever has the token, and this process refuses it.
    let check = async |mut session: Session<users::Limited>| {
        session.log_in(7);
        session.save().await?;
        session.destroy();
        Err::<&str, _>(session_runtime::Error::Ended)
    };
    let browser = site!(sessions; "/in" => check).browser();
    watch.fail(Call::Delete, Fault::Down);
    let answer = browser.post("/in").await;
    assert_eq!((answer.status.as_u16(), browser.cookie(users::COOKIE)), (503, None));
    watch.heal();
}

/// The password is changed between the two checks of a log-in, before its session is stored and after.
#[actix_web::test]
async fn a_log_in_that_meets_a_change_of_the_password_outlives_it_only_with_the_new_one() {
    let (sessions, _, _) = watched().await;
    for is_stored_first in [false, true] {
        let (checked, saved) = (Gate::default(), Gate::default());
        let gates = web::Data::new((checked.clone(), saved.clone()));
        let is_changed = std::rc::Rc::new(std::cell::Cell::new(false));
        let second = is_changed.clone();
        let enter = move |mut session: Session<users::Limited>, gates: web::Data<(Gate, Gate)>| {
            let second = second.clone();
            async move {
                gates.0.pass().await;
                session.log_in(7);
                session.save().await?;
                gates.1.pass().await;
                if second.get() {
                    session.destroy();
                    return Ok("wrong password");
                }
                Ok::<_, session_runtime::Error>("welcome")
            }
        };
        let change = move |mut session: Session<users::Limited>| {
            is_changed.set(true);
            async move { session.rotate_and_end_others().await.map(|()| "changed") }
        };
        let log_in = async |mut session: Session<users::Limited>| {
            session.log_in(7);
            "in"
        };
        let app = actix_web::App::new()
            .wrap(session_runtime::SessionMiddleware::new(sessions.clone()))
            .app_data(gates)
            .route("/enter", web::post().to(enter))
            .route("/change", web::post().to(change))
            .route("/login", web::post().to(log_in));
        let site = Site::new(actix_web::test::init_service(app).await);
        let [owner, thief] = [(); 2].map(|()| site.browser());
        owner.post("/login").await;
        let (entered, ()) = tokio::join!(thief.post("/enter"), async {
            checked.arrival().await;
            if is_stored_first {
                checked.open();
                saved.arrival().await;
            }
            assert_eq!(owner.post("/change").await.body, "changed");
            checked.open();
            saved.open();
        });
        assert_ne!(entered.body, "welcome", "{is_stored_first}");
        assert_eq!(thief.cookie(users::COOKIE), None, "{is_stored_first}");
        let left = sessions.of_user(7).await.expect("it answers");
        assert_eq!(left.iter().map(session_runtime::Snapshot::id).collect::<Vec<_>>(), [id_of(&owner)]);
        sessions.clear().await.expect("it answers");
    }
}
