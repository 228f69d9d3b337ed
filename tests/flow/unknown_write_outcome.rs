//! Unconfirmed writes, and requests whose session another request changes while they are in flight.

use std::time::{Duration, Instant};

use actix_web::test::TestRequest;
use actix_web::{App, FromRequest as _, web};
use databag_tests::{Answer, Browser, Call, Fault, Gate, Logs, ManualClock, Site, Watch, Watched};
use session_runtime::store::{Outcome, Unlisted, Update};
use session_runtime::{
    Cleanup, Databag, Durability, Error, Keyring, MemoryStore, Session, SessionMiddleware, SessionRef,
    Sessions, SqliteStore, Store, StoreError, Token,
};
use tempfile::TempDir;

use crate::app::keys;

const COOKIE: &str = "__Host-tally";

#[derive(Databag)]
#[databag(cookie = "__Host-tally", idle = "30m")]
struct Tally {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(merge = "sum")]
    sum: u32,
    #[databag(merge = "append")]
    log: Vec<u32>,
    count: u32,
    #[databag(keep_on_logout)]
    kept: u32,
}

struct World {
    sessions: Sessions<Tally>,
    elsewhere: Sessions<Tally>,
    watch: Watch,
    clock: ManualClock,
    gate: Gate,
    _folder: TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("tally.db")).expect("a database");
    let store = store.durability(Durability::Normal);
    let (watched, watch) = Watched::new(store.clone());
    let (clock, key) = (ManualClock::default(), Keyring::generate_text());
    let sessions = Sessions::<Tally>::builder(watched).keyring(keys(&key)).cleanup(Cleanup::Never);
    let elsewhere = Sessions::<Tally>::builder(store).keyring(keys(&key)).cleanup(Cleanup::Never);
    World {
        sessions: sessions.clock(clock.clone()).build().await.expect("good settings"),
        elsewhere: elsewhere.clock(clock.clone()).build().await.expect("good settings"),
        watch,
        clock,
        gate: Gate::default(),
        _folder: folder,
    }
}

impl World {
    /// Starts an application with these handlers.
    async fn site(&self, configure: impl FnOnce(&mut web::ServiceConfig)) -> Site {
        let app = App::new()
            .wrap(SessionMiddleware::new(self.sessions.clone()))
            .app_data(web::Data::new(self.watch.clone()))
            .app_data(web::Data::new(self.elsewhere.clone()))
            .app_data(web::Data::new(self.gate.clone()))
            .route("/user", web::get().to(async |s: SessionRef<Tally>| format!("{:?}", s.user_id)))
            .route(
                "/rotate",
                web::post().to(async |mut s: Session<Tally>| {
                    s.rotate();
                    "rotated"
                }),
            )
            .configure(configure);
        Site::new(actix_web::test::init_service(app).await)
    }

    /// Creates the session of a user.
    async fn session(&self) -> Token {
        let bag = Tally { user_id: Some(7), ..Tally::defaults() };
        self.sessions.create(bag).await.expect("it is stored").0
    }

    /// Returns the stored bag.
    async fn stored(&self, token: &Token) -> Tally {
        self.elsewhere.load(token).await.expect("it answers").expect("it lives").into_bag()
    }
}

fn browser(site: &Site, token: &Token) -> Browser {
    let browser = site.browser();
    browser.set_cookie(COOKIE, &token.encode());
    browser
}

fn is_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.set_cookies().is_empty());
}

#[actix_web::test]
async fn a_change_made_before_an_unconfirmed_update_is_not_repeated() {
    let world = world().await;
    let handler = async |mut session: Session<Tally>, watch: web::Data<Watch>| {
        session.sum += 1;
        session.log.push(7);
        let updated = session.update(|tally| tally.count += 1).await;
        watch.heal();
        assert!(updated.is_err());
        "ignored"
    };
    let site = world
        .site(|app| {
            app.route("/", web::post().to(handler));
        })
        .await;
    let token = world.session().await;
    world.watch.fail(Call::Update, Fault::Breaks);
    is_unavailable(&browser(&site, &token).post("/").await);
    let stored = world.stored(&token).await;
    assert_eq!((stored.sum, stored.log.as_slice(), stored.count), (1, &[7][..], 1));
}

#[actix_web::test]
async fn an_unconfirmed_save_is_not_repeated_before_a_reload() {
    let world = world().await;
    let again = async |mut session: Session<Tally>, watch: web::Data<Watch>| {
        session.sum += 1;
        session.save().await.expect_err("the answer is lost");
        watch.heal();
        session.save().await.expect_err("the first save may be stored");
        session.update(|tally| tally.sum += 1).await.expect_err("the first save may be stored");
        "ignored"
    };
    let reloaded = async |mut session: Session<Tally>, watch: web::Data<Watch>| {
        session.sum += 1;
        session.save().await.expect_err("the answer is lost");
        watch.heal();
        session.reload().await?;
        session.sum += 10;
        session.save().await?;
        Ok::<_, Error>("saved")
    };
    let site = world
        .site(|app| {
            app.route("/again", web::post().to(again)).route("/reloaded", web::post().to(reloaded));
        })
        .await;
    for (path, status, sum) in [("/again", 503, 1), ("/reloaded", 200, 11)] {
        let token = world.session().await;
        world.watch.fail(Call::Update, Fault::Breaks);
        assert_eq!(browser(&site, &token).post(path).await.status, status);
        assert_eq!(world.stored(&token).await.sum, sum, "{path}");
    }
}

#[actix_web::test]
async fn a_cancelled_write_overwrites_no_other_request() {
    const TIMEOUT: Duration = Duration::from_millis(30);
    let world = world().await;
    let update = async |mut session: Session<Tally>,
                        watch: web::Data<Watch>,
                        elsewhere: web::Data<Sessions<Tally>>| {
        let id = session.id();
        tokio::time::timeout(TIMEOUT, session.update(|tally| tally.count += 1)).await.expect_err("it hangs");
        watch.heal();
        elsewhere.update(id, |tally| tally.count += 10).await.expect("it is stored");
        "ignored"
    };
    let save = async |mut session: Session<Tally>, watch: web::Data<Watch>| {
        session.count += 1;
        tokio::time::timeout(TIMEOUT, session.save()).await.expect_err("it hangs");
        watch.heal();
        "ignored"
    };
    let site = world
        .site(|app| {
            app.route("/update", web::post().to(update)).route("/save", web::post().to(save));
        })
        .await;
    for (path, count) in [("/update", 10), ("/save", 0)] {
        let token = world.session().await;
        world.watch.fail(Call::Update, Fault::Hangs);
        is_unavailable(&browser(&site, &token).post(path).await);
        assert_eq!(world.stored(&token).await.count, count, "{path}");
    }
}

#[derive(Databag)]
#[databag(cookie = "few")]
struct Few {
    #[databag(user_id)]
    user_id: Option<i64>,
}

/// The row is stored when the future of the save is dropped, and its cookie is not known yet.
#[actix_web::test]
async fn a_log_in_whose_save_is_dropped_after_the_write_is_not_answered_without_its_cookie() {
    const TIMEOUT: Duration = Duration::from_millis(30);
    for reloads in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path().join("few.db")).expect("a database");
        let (watched, watch) = Watched::new(store.durability(Durability::Normal));
        let sessions = Sessions::<Few>::builder(watched).danger_plaintext().cleanup(Cleanup::EveryRequest);
        let sessions = sessions.build().await.expect("good settings");
        let handler = move |mut session: Session<Few>, watch: web::Data<Watch>| async move {
            session.log_in(7);
            watch.fail(Call::Prune, Fault::Hangs);
            tokio::time::timeout(TIMEOUT, session.save()).await.expect_err("it hangs");
            watch.heal();
            if reloads {
                session.reload().await?;
            }
            Ok::<_, Error>(format!("{:?}", session.user_id))
        };
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .app_data(web::Data::new(watch))
            .route("/", web::post().to(handler));
        let site = Site::new(actix_web::test::init_service(app).await);
        for known in [false, true] {
            let browser = site.browser();
            if known {
                let (token, _) = sessions.create(Few::defaults()).await.expect("it is stored");
                browser.set_cookie("few", &token.encode());
            }
            let answer = browser.post("/").await;
            if reloads {
                assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "Some(7)"));
                let token = browser.cookie("few").and_then(|token| Token::parse(&token)).expect("a cookie");
                let session = sessions.load(&token).await.expect("it answers").expect("it lives");
                assert_eq!(session.user_id, Some(7), "known: {known}");
            } else {
                is_unavailable(&answer);
            }
        }
    }
}

#[actix_web::test]
async fn an_unconfirmed_save_is_503_and_one_error_even_while_the_session_is_read() {
    let world = world().await;
    let handler =
        async |mut session: Session<Tally>, request: actix_web::HttpRequest, watch: web::Data<Watch>| {
            session.count += 1;
            session.save().await.expect_err("the answer is lost");
            watch.heal();
            drop(session);
            let reading = SessionRef::<Tally>::extract(&request).await.expect("it is given back");
            std::mem::forget(reading);
            "ignored"
        };
    let site = world
        .site(|app| {
            app.route("/", web::post().to(handler));
        })
        .await;
    let token = world.session().await;
    world.watch.fail(Call::Update, Fault::Breaks);
    let (logs, _guard) = Logs::of_this_thread();
    is_unavailable(&browser(&site, &token).post("/").await);
    assert_eq!(logs.lines(&["ERROR"]).len(), 1, "{}", logs.text());
}

#[actix_web::test]
async fn a_log_out_after_an_unconfirmed_save_ends_the_session() {
    let world = world().await;
    let handler = async |mut session: Session<Tally>, watch: web::Data<Watch>| {
        session.count += 1;
        session.save().await.expect_err("the answer is lost");
        watch.heal();
        session.log_out();
        "out"
    };
    let site = world
        .site(|app| {
            app.route("/", web::post().to(handler));
        })
        .await;
    let token = world.session().await;
    world.watch.fail(Call::Update, Fault::Breaks);
    let answer = browser(&site, &token).post("/").await;
    assert_eq!(answer.status, 200, "the session is certainly deleted");
    assert!(world.elsewhere.load(&token).await.expect("it answers").is_none());
}

#[actix_web::test]
async fn a_log_out_through_a_session_that_is_still_held_ends_the_session() {
    let world = world().await;
    let hold = async |mut session: Session<Tally>| {
        session.log_out();
        std::mem::forget(session);
        "held"
    };
    let site = world
        .site(|app| {
            app.route("/", web::post().to(hold));
        })
        .await;
    let token = world.session().await;
    let visitor = browser(&site, &token);
    let copy = visitor.copied();
    let answer = visitor.post("/").await;
    assert_eq!(answer.status, 500, "a held session is a mistake in the program");
    assert_eq!(visitor.cookie(COOKIE), None);
    assert_eq!(copy.get("/user").await.body, "None");
}

#[actix_web::test]
async fn a_log_out_of_a_renamed_session_blocks_the_new_id_while_the_store_is_down() {
    let world = world().await;
    let leave = async |mut session: Session<Tally>, gate: web::Data<Gate>| {
        gate.pass().await;
        session.log_out();
        "out"
    };
    let site = world
        .site(|app| {
            app.route("/leave", web::post().to(leave));
        })
        .await;
    let token = world.session().await;
    let (late, other) = (browser(&site, &token), browser(&site, &token));
    let (answer, ()) = futures_util::future::join(late.post("/leave"), async {
        world.gate.arrival().await;
        assert_eq!(other.post("/rotate").await.status, 200);
        let watch = world.watch.clone();
        // The deletion under the old id finds no row; the deletion under the new id fails.
        world.watch.before_next(Call::Delete, async move { watch.fail(Call::Delete, Fault::Down) });
        world.gate.open();
    })
    .await;
    assert_eq!(answer.status, 503);
    assert_eq!(other.get("/user").await.body, "None", "the new id is blocked at once");
    world.watch.heal();
    let deletions = world.watch.count(Call::Delete);
    world.watch.until("it is deleted", |watch| watch.count(Call::Delete) > deletions).await;
    assert_eq!(other.get("/user").await.body, "None", "the new id stays ended");
}

#[actix_web::test]
async fn a_rename_in_flight_does_not_survive_a_failed_revocation() {
    let world = world().await;
    let site = world.site(|_| {}).await;
    let token = world.session().await;
    let other = browser(&site, &token);
    let gate = Gate::default();
    world.watch.fail(Call::Update, Fault::Waits(gate.clone()));
    world.watch.fail(Call::Delete, Fault::Down);
    let (renamed, revoked) = futures_util::future::join(other.post("/rotate"), async {
        gate.arrival().await;
        let revoked = world.sessions.delete(token.session_id()).await;
        gate.open();
        revoked
    })
    .await;
    assert!(revoked.is_err(), "the store is down");
    assert_eq!(renamed.status, 409);
    assert!(renamed.set_cookies().is_empty());
    world.watch.heal();
    let is_empty = || async { world.elsewhere.count_all().await.expect("it answers") == 0 };
    for _ in 0..1_000 {
        if is_empty().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session survives under its new id");
}

#[actix_web::test]
async fn remember_me_of_another_request_does_not_outlive_a_log_out() {
    let world = world().await;
    let leave = async |mut session: Session<Tally>, gate: web::Data<Gate>| {
        gate.pass().await;
        session.log_out();
        session.kept = 1;
        "out"
    };
    let remember = async |mut session: Session<Tally>| {
        session.remember(true);
        "remembered"
    };
    let site = world
        .site(|app| {
            app.route("/leave", web::post().to(leave)).route("/remember", web::post().to(remember));
        })
        .await;
    let token = world.session().await;
    let (late, other) = (browser(&site, &token), browser(&site, &token));
    let (answer, ()) = futures_util::future::join(late.post("/leave"), async {
        world.gate.arrival().await;
        assert_eq!(other.post("/remember").await.status, 200);
        world.gate.open();
    })
    .await;
    assert_eq!(answer.status, 200);
    assert!(!answer.set_cookies()[0].contains("Max-Age"), "{:?}", answer.set_cookies());
}

#[actix_web::test]
async fn a_late_write_is_stored_if_another_tab_has_extended_the_session() {
    let world = world().await;
    let slow = async |mut session: Session<Tally>, gate: web::Data<Gate>| {
        gate.pass().await;
        session.count += 1;
        "counted"
    };
    let site = world
        .site(|app| {
            app.route("/slow", web::post().to(slow));
        })
        .await;
    let token = world.session().await;
    let (late, other) = (browser(&site, &token), browser(&site, &token));
    let (answer, ()) = futures_util::future::join(late.post("/slow"), async {
        world.gate.arrival().await;
        world.clock.advance(Duration::from_mins(29));
        other.get("/user").await;
        world.clock.advance(Duration::from_mins(2));
        world.gate.open();
    })
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.stored(&token).await.count, 1);
}

#[actix_web::test]
async fn a_read_extends_the_session_despite_a_conflict_with_a_change_from_outside() {
    let world = world().await;
    let site = world.site(|_| {}).await;
    let token = world.session().await;
    world.clock.advance(Duration::from_mins(29));
    let (elsewhere, id) = (world.elsewhere.clone(), token.session_id());
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(id, |tally| tally.count += 1).await.expect("it is stored");
    });
    assert_eq!(browser(&site, &token).get("/user").await.body, "Some(7)");
    world.clock.advance(Duration::from_mins(2));
    assert_eq!(world.stored(&token).await.count, 1, "the session is alive, and the change is kept");
}

#[actix_web::test]
async fn a_read_whose_touch_fails_is_answered() {
    let world = world().await;
    let site = world.site(|_| {}).await;
    let token = world.session().await;
    world.clock.advance(Duration::from_mins(2));
    let (elsewhere, watch, id) = (world.elsewhere.clone(), world.watch.clone(), token.session_id());
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(id, |tally| tally.count += 1).await.expect("it is stored");
        watch.fail(Call::Load, Fault::Down);
    });
    let answer = browser(&site, &token).get("/user").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "Some(7)"));
}

#[actix_web::test]
async fn a_new_session_with_an_unconfirmed_save_can_start_over() {
    let world = world().await;
    let handler = async |mut session: Session<Tally>, watch: web::Data<Watch>| {
        session.count += 1;
        session.save().await.expect_err("the answer is lost");
        watch.heal();
        session.reload().await?;
        session.count += 10;
        session.save().await?;
        Ok::<_, Error>(session.count.to_string())
    };
    let site = world
        .site(|app| {
            app.route("/", web::post().to(handler));
        })
        .await;
    world.watch.fail(Call::Insert, Fault::Breaks);
    let visitor = site.browser();
    let answer = visitor.post("/").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "10"));
    let token = Token::parse(&visitor.cookie(COOKIE).expect("a cookie")).expect("canonical");
    assert_eq!(world.stored(&token).await.count, 10);
}

/// A store that answers every update with a conflict immediately.
#[derive(Clone)]
struct AlwaysConflicts(MemoryStore);

impl Store for AlwaysConflicts {
    databag_tests::forward!(0: prepare, load, insert, delete);

    async fn update(&self, _: Update, _: Instant) -> Result<Outcome, StoreError> {
        Ok(Outcome::Conflict)
    }
}

#[actix_web::test]
async fn retries_end_at_the_deadline_and_yield_to_other_tasks() {
    let sessions = Sessions::<Tally>::builder(Unlisted(AlwaysConflicts(MemoryStore::new())))
        .keyring(Keyring::generate());
    let sessions = sessions.deadline(Duration::from_millis(100)).build().await.expect("good settings");
    let (token, _) = sessions.create(Tally::defaults()).await.expect("it is stored");
    let update = sessions.update(token.session_id(), |tally| tally.count += 1);
    // If the update never yielded, the timeout would never run.
    let outcome = tokio::time::timeout(Duration::from_secs(10), update).await.expect("it ends");
    assert!(matches!(outcome, Err(Error::Contended)), "{outcome:?}");
}

#[derive(Databag)]
#[databag(cookie = "__Host-outer", table = "outer")]
struct Outer {
    #[databag(user_id)]
    user_id: Option<i64>,
    count: u32,
}

#[actix_web::test]
async fn both_bags_are_stored_when_the_client_disconnects() {
    let world = world().await;
    let outer = Sessions::<Outer>::builder(MemoryStore::new()).keyring(Keyring::generate());
    let outer = outer.build().await.expect("good settings");
    let handler = async |mut inner: Session<Tally>, mut outer: Session<Outer>| {
        inner.count += 1;
        outer.count += 1;
        "counted"
    };
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(SessionMiddleware::new(outer.clone()))
        .route("/", web::post().to(handler));
    let site = Site::new(actix_web::test::init_service(app).await);
    let token = world.session().await;
    let (outer_token, _) = outer.create(Outer { user_id: None, count: 0 }).await.expect("it is stored");
    let visitor = browser(&site, &token);
    visitor.set_cookie("__Host-outer", &outer_token.encode());
    let gate = Gate::default();
    world.watch.fail(Call::Update, Fault::Waits(gate.clone()));
    let mut call = site.call(visitor.prepare(TestRequest::post().uri("/")));
    tokio::select! {
        _ = &mut call => panic!("answered before it was stored"),
        () = gate.arrival() => {}
    }
    drop(call);
    world.watch.heal();
    gate.open();
    for _ in 0..500 {
        let stored = outer.load(&outer_token).await.expect("it answers").expect("it lives").count;
        if stored == 1 && world.stored(&token).await.count == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a change of the handler is not stored");
}
