//! Concurrent requests for one session.

use actix_web::web;
use databag_tests::{Call, Gate, Site};
use futures_util::future::join_all;
use session_runtime::{Error, Session};

use crate::app::{COOKIE, Shop, Theme, id, read_session, shop, site};

#[actix_web::test]
async fn parallel_updates_are_all_counted() {
    let world = shop().await;
    let browser = world.customer().await;
    let answers = join_all((0..20).map(|_| browser.post("/count"))).await;
    let mut counts: Vec<u64> = answers.iter().map(|answer| answer.body.parse().expect("a number")).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=20).collect::<Vec<_>>());
    assert_eq!(read_session(&browser).await["count"], 20);
}

/// The same over threads, each with its own connection to the store, as processes have.
#[test]
fn parallel_updates_over_threads_and_stores_are_all_counted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let key = session_runtime::Keyring::generate_text();
        let mut processes = Vec::new();
        for _ in 0..4 {
            let store =
                session_runtime::SqliteStore::open(folder.path().join("shop.db")).expect("a database");
            let store = store.durability(session_runtime::Durability::Normal);
            let builder = session_runtime::Sessions::<Shop>::builder(store);
            let builder =
                builder.keyring(crate::app::keys(&key)).deadline(std::time::Duration::from_secs(30));
            processes.push(builder.build().await.expect("good settings"));
        }
        let (_, session) = processes[0].create(session_runtime::Databag::defaults()).await.expect("stored");
        let session = session.id();
        let tasks: Vec<_> = processes
            .iter()
            .flat_map(|sessions| (0..5).map(move |_| sessions.clone()))
            .map(|sessions| {
                tokio::spawn(async move {
                    for _ in 0..5 {
                        sessions.update(session, |shop| shop.count += 1).await.expect("stored");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let stored = processes[0].get(session).await.expect("answers").expect("alive");
        assert_eq!(stored.count, 100);
    });
}

#[actix_web::test]
async fn an_update_after_several_conflicts_loses_no_change() {
    let world = shop().await;
    let browser = world.customer().await;
    let session = id(&browser);
    for _ in 0..3 {
        let elsewhere = world.elsewhere().await;
        world.watch.before_next(Call::Update, async move {
            elsewhere.update(session, |shop| shop.count += 10).await.expect("stored");
        });
    }
    assert_eq!(browser.post("/count").await.body, "31");
    assert_eq!(read_session(&browser).await["count"], 31);
}

#[actix_web::test]
async fn changes_before_an_update_are_kept_despite_a_conflict() {
    let world = shop().await;
    let both = async |mut session: Session<Shop>| {
        session.theme = Theme::Dark;
        let count = session
            .update(|shop| {
                shop.count += 1;
                shop.count
            })
            .await?;
        Ok::<_, Error>(format!("{count} {:?} {:?}", session.theme, session.tenant()))
    };
    let site = site!(world.sessions; "/both" => both);
    let known = world.customer().await;
    let browser = site.browser();
    browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
    for tenant in ["a", "b"] {
        let (session, elsewhere) = (id(&known), world.elsewhere().await);
        world.watch.before_next(Call::Update, async move {
            elsewhere.update(session, move |shop| shop.set_tenant(tenant)).await.expect("stored");
        });
    }
    assert_eq!(browser.post("/both").await.body, "1 Dark Some(\"b\")");
    let seen = read_session(&known).await;
    assert_eq!((&seen["theme"], &seen["tenant"], &seen["count"]), (&"Dark".into(), &"b".into(), &1.into()));
}

#[actix_web::test]
async fn an_update_of_a_new_session_stores_it() {
    let world = shop().await;
    let browser = world.browser();
    assert_eq!(browser.post("/count").await.body, "1");
    assert_eq!(browser.post("/count").await.body, "2");
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn an_update_of_an_ended_session_is_an_error() {
    let world = shop().await;
    let browser = world.customer().await;
    let session = id(&browser);
    assert!(world.sessions.delete(session).await.expect("answers"));
    let updated = world.sessions.update(session, |shop| shop.count += 1).await;
    assert!(matches!(updated, Err(Error::Ended)));
    assert_eq!(world.rows(), 0);
}

/// Changes one field, after all requests have loaded the session.
async fn change(mut session: Session<Shop>, field: web::Path<usize>, gate: web::Data<Gate>) -> &'static str {
    gate.pass().await;
    match *field {
        0 => session.set_tenant("acme"),
        1 => session.theme = Theme::Dark,
        2 => session.count = 2,
        3 => session.set_pin("1234"),
        4 => {
            session.cart.insert("milk".to_owned(), 1);
        }
        _ => session.attempts = 5,
    }
    "changed"
}

#[actix_web::test]
async fn parallel_changes_of_different_fields_are_all_stored() {
    let world = shop().await;
    let gate = web::Data::new(Gate::default());
    let app = actix_web::App::new()
        .wrap(session_runtime::SessionMiddleware::new(world.sessions.clone()))
        .app_data(gate.clone())
        .route("/change/{field}", web::post().to(change));
    let site = Site::new(actix_web::test::init_service(app).await);
    let (browser, known) = (site.browser(), world.customer().await);
    browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
    let paths: Vec<_> = (0..6).map(|field| format!("/change/{field}")).collect();
    let (answers, ()) = tokio::join!(join_all(paths.iter().map(|path| browser.post(path))), async {
        for _ in 0..6 {
            gate.arrival().await;
        }
        gate.open();
    });
    assert!(answers.iter().all(|answer| answer.status.is_success() && answer.set_cookies().is_empty()));
    let seen = read_session(&known).await;
    assert_eq!(seen["tenant"], "acme");
    assert_eq!(seen["theme"], "Dark");
    assert_eq!((&seen["count"], &seen["pin"], &seen["attempts"]), (&2.into(), &"1234".into(), &5.into()));
    assert_eq!(seen["cart"], serde_json::json!({"milk": 1, "tea": 1}));
}

#[actix_web::test]
async fn the_later_of_two_writers_of_one_field_wins() {
    let world = shop().await;
    let browser = world.customer().await;
    let (session, elsewhere) = (id(&browser), world.elsewhere().await);
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.set_tenant("earlier")).await.expect("stored");
    });
    assert!(browser.post("/tenant/later").await.status.is_success());
    assert_eq!(read_session(&browser).await["tenant"], "later");
}

#[actix_web::test]
async fn a_log_in_keeps_what_another_request_stored_meanwhile() {
    let world = shop().await;
    let browser = world.customer().await;
    let (session, elsewhere) = (id(&browser), world.elsewhere().await);
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.count = 5).await.expect("stored");
    });
    browser.post("/login/7").await;
    let seen = read_session(&browser).await;
    assert_eq!((&seen["user"], &seen["count"], &seen["cart"]["tea"]), (&7.into(), &5.into(), &1.into()));
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn a_log_out_keeps_nothing_that_was_stored_meanwhile() {
    let world = shop().await;
    let browser = world.user(7).await;
    browser.post("/theme/dark").await;
    let (session, elsewhere) = (id(&browser), world.elsewhere().await);
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.set_tenant("secret")).await.expect("stored");
    });
    browser.post("/logout").await;
    let seen = read_session(&browser).await;
    assert!(seen["tenant"].is_null() && seen["user"].is_null() && seen["theme"] == "Dark", "{seen}");
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn parallel_requests_of_a_new_visitor_do_not_affect_each_other() {
    let world = shop().await;
    let browsers: Vec<_> = (0..10).map(|_| world.browser()).collect();
    let answers = join_all(browsers.iter().map(|browser| browser.post("/add/tea"))).await;
    assert!(answers.iter().all(|answer| answer.set_cookies().len() == 1));
    let ids: std::collections::BTreeSet<_> = browsers.iter().map(id).collect();
    assert_eq!((ids.len(), world.rows()), (10, 10));
}

#[actix_web::test]
async fn a_revocation_during_log_ins_leaves_at_most_the_new_sessions() {
    let world = shop().await;
    let browsers = [world.user(7).await, world.user(7).await, world.customer().await];
    let (answers, revoked) = tokio::join!(
        join_all(browsers.iter().map(|browser| browser.post("/login/7"))),
        world.sessions.revoke_user(7)
    );
    revoked.expect("revoked");
    for answer in &answers {
        assert!(matches!(answer.status.as_u16(), 200 | 409), "{}", answer.status);
    }
    let left = world.sessions.of_user(7).await.expect("answers").len();
    assert!(left <= answers.iter().filter(|answer| answer.status == 200).count());
}
