//! A write whose answer is lost is looked for, and made again if it was not made.

use std::time::{Duration, Instant};

use actix_web::{App, web};
use databag_tests::{Browser, Call, Fault, Gate, Logs, Site, Watch, Watched};
use session_runtime::{Cleanup, Databag, Error, Session, SessionMiddleware, Sessions, SqliteStore};

use crate::app::{COOKIE, Shop, World, id, read_session, shop, shop_with};

/// Starts an application whose handlers control the store.
macro_rules! watched_site {
    ($world:expr; $($path:literal => $handler:expr),+ $(,)?) => {
        Site::new(
            actix_web::test::init_service(
                App::new()
                    .wrap(SessionMiddleware::new($world.sessions.clone()))
                    .app_data(web::Data::new($world.watch.clone()))
                    $(.route($path, web::post().to($handler)))+,
            )
            .await,
        )
    };
}

fn visitor(site: &Site, like: &Browser) -> Browser {
    let browser = site.browser();
    browser.set_cookie(COOKIE, &like.cookie(COOKIE).expect("a cookie"));
    browser
}

#[actix_web::test]
async fn one_lost_answer_of_a_write_is_not_noticed() {
    let world = shop().await;
    let browser = world.customer().await;
    let (logs, _guard) = Logs::of_this_thread();
    // The write was made, or it was not.
    for fault in [Fault::AnswerLost, Fault::Down] {
        let before = read_session(&browser).await["count"].as_u64().expect("a number");
        for (path, count) in [("/count", before + 1), ("/count-plain", before + 2)] {
            world.watch.fail_next(Call::Update, fault.clone());
            let answer = browser.post(path).await;
            assert_eq!((answer.status.as_u16(), answer.body), (200, count.to_string()), "{fault:?}");
            assert_eq!(read_session(&browser).await["count"], count, "{fault:?}: it is counted once");
        }
    }
    world.watch.fail_next(Call::Insert, Fault::AnswerLost);
    let new = world.customer().await;
    assert_eq!(read_session(&new).await["cart"]["tea"], 1);
    assert_eq!(logs.lines(&["ERROR"]).len(), 0, "{}", logs.text());
}

/// It could arrive a second time after the new session has ended, and revive it.
#[actix_web::test]
async fn an_insert_is_not_sent_again() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(200))).await;
    for fault in [Fault::Down, Fault::Hangs] {
        let inserts = world.watch.count(Call::Insert);
        world.watch.fail_next(Call::Insert, fault);
        let answer = world.browser().post("/add/tea").await;
        assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (503, 0));
        assert_eq!((world.watch.count(Call::Insert) - inserts, world.rows()), (1, 0));
    }
}

#[actix_web::test]
async fn one_lost_answer_at_a_log_in_or_a_rotation_signs_nobody_out() {
    let world = shop().await;
    for fault in [Fault::AnswerLost, Fault::Down] {
        for path in ["/login/8", "/rotate", "/become/9"] {
            let browser = world.user(7).await;
            let old = browser.copied();
            world.watch.fail_next(Call::Update, fault.clone());
            assert_eq!(browser.post(path).await.status, 200, "{fault:?} {path}");
            assert_ne!(id(&browser), id(&old));
            assert!(read_session(&browser).await["user"].is_number(), "{fault:?} {path}");
            assert_eq!(read_session(&old).await["is_new"], true, "the old token is dead");
        }
    }
}

#[actix_web::test]
async fn a_lost_rotation_is_looked_for_until_the_deadline() {
    let world = shop().await;
    let browser = world.user(7).await;
    world.watch.fail(Call::Update, Fault::Breaks);
    let (answer, ()) = tokio::join!(browser.post("/rotate"), async {
        world.watch.until("it is looked for", |watch| watch.count(Call::Load) > 3).await;
        world.watch.heal();
    });
    assert_eq!(answer.status, 200);
    assert_eq!(read_session(&browser).await["user"], 7);
}

#[actix_web::test]
async fn a_rotation_that_is_not_found_by_the_deadline_is_503_without_a_cookie() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(100))).await;
    let browser = world.user(7).await;
    world.watch.fail(Call::Update, Fault::Down);
    let answer = browser.post("/rotate").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (503, 0));
    world.watch.heal();
    assert_eq!(read_session(&browser).await["user"], 7, "the old cookie works again");
}

#[actix_web::test]
async fn a_refusal_of_a_rotation_that_is_sent_again_is_final() {
    let world = shop().await;
    let browser = world.user(7).await;
    world.watch.fail_next(Call::Update, Fault::Down);
    world.watch.fail(Call::Update, Fault::Refused);
    let updates = world.watch.count(Call::Update);
    assert_eq!(browser.post("/rotate").await.status, 500);
    assert_eq!(world.watch.count(Call::Update) - updates, 2);
}

/// A silent connection takes most of the time, and what follows goes over another one.
#[actix_web::test]
async fn a_write_that_is_never_answered_is_made_again_within_the_deadline() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(1_500))).await;
    for path in ["/count", "/rotate", "/login/8", "/logout"] {
        let browser = world.user(7).await;
        let old = browser.copied();
        for call in [Call::Update, Call::Delete] {
            world.watch.fail_next(call, Fault::Hangs);
        }
        assert_eq!(browser.post(path).await.status, 200, "{path}");
        world.watch.heal();
        let seen = read_session(&browser).await;
        let expected = match path {
            "/count" => seen["count"] == 1,
            "/logout" => seen["is_new"] == true,
            _ => seen["user"].is_number() && read_session(&old).await["is_new"] == true,
        };
        assert!(expected, "{path}: {seen}");
    }
}

#[actix_web::test]
async fn a_slow_store_is_waited_for() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(1_500))).await;
    let browser = world.user(7).await;
    // The write is answered when most of the time has passed, and what looks for it is not answered, or fails.
    for (count, fault) in [(1, Fault::Hangs), (2, Fault::Down)] {
        let gate = Gate::default();
        let (watch, slow) = (world.watch.clone(), gate.clone());
        world.watch.before_next(Call::Update, async move {
            watch.fail(Call::Load, fault.clone());
            watch.fail(Call::Update, fault);
            slow.pass().await;
        });
        let loads = world.watch.count(Call::Load);
        let (answer, ()) = tokio::join!(browser.post("/count"), async {
            world.watch.until("it is looked for", |watch| watch.count(Call::Load) > loads + 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            gate.open();
        });
        assert_eq!((answer.status.as_u16(), answer.body), (200, count.to_string()));
        world.watch.heal();
        assert_eq!(read_session(&browser).await["count"], count);
    }
}

/// Nothing was sent again, so the late answer says what became of the write.
#[actix_web::test]
async fn a_late_conflict_is_a_conflict() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(1_500))).await;
    for fault in [Fault::Hangs, Fault::Down] {
        let browser = world.customer().await;
        let (session, elsewhere, watch) = (id(&browser), world.elsewhere().await, world.watch.clone());
        let gate = Gate::default();
        let slow = gate.clone();
        world.watch.before_next(Call::Update, async move {
            elsewhere.update(session, |shop| shop.count += 10).await.expect("stored");
            watch.fail_next(Call::Load, fault);
            slow.pass().await;
        });
        let loads = world.watch.count(Call::Load);
        let (answer, ()) = tokio::join!(browser.post("/count"), async {
            world.watch.until("it is looked for", |watch| watch.count(Call::Load) > loads + 1).await;
            gate.open();
        });
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "11"));
    }
}

#[actix_web::test]
async fn a_slow_log_out_is_waited_for() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(1_500))).await;
    let browser = world.user(7).await;
    let (gate, deletions) = (Gate::default(), world.watch.count(Call::Delete));
    // The deletion is made at once, and answered late; the second one finds no row.
    world.watch.fail_next(Call::Delete, Fault::AnswerWaits(gate.clone()));
    let (answer, ()) = tokio::join!(browser.post("/logout"), async {
        world.watch.until("it is sent again", |watch| watch.count(Call::Delete) > deletions + 1).await;
        gate.open();
    });
    assert_eq!((answer.status.as_u16(), browser.cookie(COOKIE)), (200, None));
}

/// The store refuses the row when it is looked for already.
#[actix_web::test]
async fn a_late_refusal_is_a_refusal() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(1_500))).await;
    let gate = Gate::default();
    world.watch.fail_next(Call::Insert, Fault::RefusalWaits(gate.clone()));
    let loads = world.watch.count(Call::Load);
    let visitor = world.browser();
    let (answer, ()) = tokio::join!(visitor.post("/add/tea"), async {
        world.watch.until("it is looked for", |watch| watch.count(Call::Load) > loads).await;
        gate.open();
    });
    assert_eq!(answer.status, 500);
}

/// The store makes the second sending first, and refuses the first one by its revision.
#[actix_web::test]
async fn a_write_that_is_sent_twice_is_no_conflict_with_itself() {
    let world = shop_with(|builder| builder.deadline(Duration::from_secs(2))).await;
    let browser = world.customer().await;
    let (first, second) = (Gate::default(), Gate::default());
    let (watch, gates) = (world.watch.clone(), (first.clone(), second.clone()));
    world.watch.before_next(Call::Update, async move {
        watch.fail_next(Call::Update, Fault::AnswerWaits(gates.1));
        gates.0.pass().await;
    });
    let (answer, ()) = tokio::join!(browser.post("/count"), async {
        second.arrival().await;
        first.open();
        tokio::time::sleep(Duration::from_millis(100)).await;
        second.open();
    });
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "1"));
    assert_eq!(read_session(&browser).await["count"], 1);
}

#[actix_web::test]
async fn a_write_of_another_request_is_not_taken_for_a_lost_one() {
    let world = shop().await;
    let browser = world.customer().await;
    let (session, elsewhere) = (id(&browser), world.elsewhere().await);
    // Another request writes first, and the refusal of this one's write is lost.
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.count += 10).await.expect("stored");
    });
    world.watch.fail_next(Call::Update, Fault::AnswerLost);
    assert_eq!(browser.post("/count").await.body, "11");
    assert_eq!(read_session(&browser).await["count"], 11);
}

#[actix_web::test]
async fn a_write_that_others_have_followed_is_not_repeated() {
    let world = shop().await;
    // The write was made, its answer was lost, and before it is looked for another request has written on top of it.
    for rotates in [false, true] {
        let browser = world.customer().await;
        let (session, elsewhere) = (id(&browser), world.elsewhere().await);
        world.watch.before_next(Call::Load, async {});
        world.watch.before_next(Call::Load, async move {
            let change = |shop: &mut Shop| {
                shop.count += 10;
                shop.user_id = rotates.then_some(7);
            };
            elsewhere.update(session, change).await.expect("stored");
        });
        world.watch.fail_next(Call::Update, Fault::AnswerLost);
        // It cannot be told from one that was not made.
        assert_eq!(browser.post("/count").await.status, 503, "rotates: {rotates}");
        let stored = world.sessions.find(Shop::USER_ID.eq(7)).await.expect("answers");
        match stored.first() {
            Some(stored) => assert_eq!((rotates, stored.count), (true, 11)),
            None => assert_eq!((rotates, &read_session(&browser).await["count"]), (false, &11.into())),
        }
    }
}

#[derive(Databag)]
#[databag(cookie = "__Host-clear", table = "clear")]
struct Clear {
    count: u32,
}

/// In the clear another request's write may look the same. It is not taken for this one's: one of the two would be lost.
#[actix_web::test]
async fn an_equal_write_of_another_request_is_not_taken_for_a_lost_one() {
    let store = SqliteStore::in_memory().expect("memory");
    let (watched, watch) = Watched::new(store.clone());
    let sessions =
        Sessions::<Clear>::builder(watched).danger_plaintext().build().await.expect("good settings");
    let elsewhere =
        Sessions::<Clear>::builder(store).danger_plaintext().build().await.expect("good settings");
    let (token, _) = sessions.create(Clear { count: 0 }).await.expect("stored");
    let id = token.session_id();
    watch.before_next(Call::Update, async move {
        elsewhere.update(id, |bag| bag.count += 1).await.expect("stored");
    });
    watch.fail_next(Call::Update, Fault::AnswerLost);
    let updated = sessions.update(id, |bag| bag.count += 1).await;
    let stored = sessions.load(&token).await.expect("answers").expect("alive").count;
    assert_eq!((updated.is_err(), stored), (true, 1));
}

async fn log_out_and_save(mut session: Session<Shop>) -> &'static str {
    session.log_out();
    session.save().await.ok();
    "out"
}

#[actix_web::test]
async fn a_log_out_whose_deletion_is_not_answered_is_503_with_or_without_a_save() {
    let world = shop().await;
    let site = watched_site!(world; "/logout" => crate::app::log_out, "/save" => log_out_and_save);
    for path in ["/logout", "/save"] {
        let user = world.user(7).await;
        let browser = visitor(&site, &user);
        world.watch.fail_next(Call::Delete, Fault::AnswerLost);
        let answer = browser.post(path).await;
        assert_eq!((answer.status.as_u16(), browser.cookie(COOKIE)), (503, None), "{path}");
        assert_eq!(read_session(&user).await["is_new"], true, "{path}: it is refused");
    }
}

#[actix_web::test]
async fn a_log_out_that_did_not_reach_the_store_is_made_again() {
    let world = shop().await;
    let browser = world.user(7).await;
    world.watch.fail_next(Call::Delete, Fault::Down);
    assert_eq!(browser.post("/logout").await.status, 200);
    assert_eq!(world.rows(), 0);
}

#[actix_web::test]
async fn all_calls_of_a_request_share_one_deadline() {
    const DEADLINE: Duration = Duration::from_secs(1);
    let world = shop_with(|builder| builder.deadline(DEADLINE)).await;
    let handler = async |mut session: Session<Shop>, watch: web::Data<Watch>| {
        for call in [Call::Load, Call::Update, Call::Delete, Call::Insert] {
            watch.fail(call, Fault::Hangs);
        }
        session.count += 1;
        session.save().await.expect_err("it hangs");
        session.reload().await.expect_err("it hangs");
        session.update(|shop| shop.count += 1).await.expect_err("it hangs");
        session.log_out();
        session.save().await.expect_err("it hangs");
        "ignored"
    };
    let site = watched_site!(world; "/" => handler);
    let user = world.user(7).await;
    let browser = visitor(&site, &user);
    let begun = Instant::now();
    assert_eq!(browser.post("/").await.status, 503);
    assert!(begun.elapsed() < DEADLINE * 2, "four calls took {:?}", begun.elapsed());
    assert_eq!(browser.cookie(COOKIE), None);
    world.watch.heal();
    assert_eq!(read_session(&user).await["is_new"], true, "the session is refused all the same");
}

#[actix_web::test]
async fn the_time_of_the_handler_does_not_count() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(200))).await;
    let handler = async |mut session: Session<Shop>| {
        tokio::time::sleep(Duration::from_millis(400)).await;
        session.count += 1;
        "counted"
    };
    let site = watched_site!(world; "/" => handler);
    let browser = visitor(&site, &world.customer().await);
    assert_eq!(browser.post("/").await.status, 200);
}

/// Returns how many calls an operation makes.
async fn calls(world: &World, browser: &Browser, path: &str) -> (usize, usize) {
    let before = (world.watch.count(Call::Load), world.watch.writes());
    assert_eq!(browser.post(path).await.status, 200, "{path}");
    (world.watch.count(Call::Load) - before.0, world.watch.writes() - before.1)
}

/// The best effort after a write leaves time for the next one.
#[actix_web::test]
async fn a_cleanup_that_hangs_does_not_use_up_the_deadline() {
    let deadline = Duration::from_millis(400);
    let world = shop_with(|builder| builder.deadline(deadline).cleanup(Cleanup::EveryRequest)).await;
    let handler = async |mut session: Session<Shop>, watch: web::Data<Watch>| {
        watch.fail_next(Call::Prune, Fault::Hangs);
        session.count += 1;
        session.save().await.expect("it is stored");
        session.count += 1;
        "counted"
    };
    let site = watched_site!(world; "/" => handler);
    let browser = visitor(&site, &world.customer().await);
    assert_eq!(browser.post("/").await.status, 200);
}

#[actix_web::test]
async fn a_writer_that_has_waited_for_another_meets_no_conflict() {
    let world = shop().await;
    let browser = world.customer().await;
    let (gate, updates) = (Gate::default(), world.watch.count(Call::Update));
    world.watch.fail_next(Call::Update, Fault::Waits(gate.clone()));
    let (first, second, ()) = tokio::join!(browser.post("/count"), browser.post("/add/milk"), async {
        gate.arrival().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.open();
    });
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_eq!(world.watch.count(Call::Update) - updates, 2);
    let seen = read_session(&browser).await;
    assert_eq!((&seen["count"], &seen["cart"]["milk"]), (&1.into(), &1.into()));
}

#[actix_web::test]
async fn an_update_that_changes_nothing_has_read_what_is_stored_now() {
    let world = shop().await;
    let take = async |mut session: Session<Shop>, sessions: web::Data<Sessions<Shop>>| {
        sessions.update(session.id(), |shop| shop.count = 5).await.expect("stored");
        session.update(|shop| shop.count).await.expect("it is alive").to_string()
    };
    let ended = async |mut session: Session<Shop>, sessions: web::Data<Sessions<Shop>>| {
        sessions.delete(session.id()).await.expect("deleted");
        matches!(session.update(|shop| shop.count).await, Err(Error::Ended)).to_string()
    };
    let site = crate::app::site!(world.sessions; "/take" => take, "/ended" => ended);
    let browser = visitor(&site, &world.customer().await);
    assert_eq!(browser.post("/take").await.body, "5");
    assert_eq!(browser.post("/ended").await.body, "true");
}

#[actix_web::test]
async fn a_changed_request_loads_once_and_writes_once() {
    let world = shop().await;
    let browser = world.user(7).await;
    for path in ["/count", "/count-plain", "/rotate", "/login/8", "/logout"] {
        assert_eq!(calls(&world, &browser, path).await, (1, 1), "{path}");
    }
}
