//! Lists of sessions, and calls that end many of them.

use futures_util::TryStreamExt as _;
use session_runtime::{Databag as _, Error};

use crate::app::{Shop, id, read_session, rejected, shop};

#[actix_web::test]
async fn a_user_lists_their_sessions_and_ends_the_others() {
    let world = shop().await;
    let mut browsers = Vec::new();
    for _ in 0..5 {
        browsers.push(world.user(7).await);
    }
    let stranger = world.user(8).await;
    let mine: std::collections::BTreeSet<_> = browsers.iter().map(id).collect();
    let listed = world.sessions.of_user(7).await.expect("answers");
    assert_eq!(
        listed.iter().map(session_runtime::Snapshot::id).collect::<std::collections::BTreeSet<_>>(),
        mine
    );
    assert!(listed.iter().all(|session| session.user_id() == Some(7) && session.cart["tea"] == 1));

    assert_eq!(world.sessions.revoke_user_except(7, id(&browsers[2])).await.expect("answers"), 4);
    for (n, browser) in browsers.iter().enumerate() {
        assert_eq!(read_session(browser).await["is_new"], n != 2);
    }
    assert_eq!(world.sessions.revoke_user(7).await.expect("answers"), 1);
    assert!(world.sessions.of_user(7).await.expect("answers").is_empty());
    assert_eq!(read_session(&stranger).await["user"], 8);
}

#[actix_web::test]
async fn one_session_is_ended_by_its_id() {
    let world = shop().await;
    let (browser, other) = (world.user(7).await, world.user(7).await);
    assert!(world.sessions.delete(id(&browser)).await.expect("answers"));
    assert!(!world.sessions.delete(id(&browser)).await.expect("answers"), "the session is already deleted");
    assert_eq!(read_session(&browser).await["is_new"], true);
    assert_eq!(read_session(&other).await["is_new"], false);
}

#[actix_web::test]
async fn sessions_are_found_counted_and_deleted_by_their_columns() {
    let world = shop().await;
    for (user, tenant) in [(1, "acme"), (2, "acme"), (3, "other")] {
        let browser = world.user(user).await;
        browser.post(&format!("/tenant/{tenant}")).await;
    }
    let anonymous = world.customer().await;
    let sessions = &world.sessions;
    let acme = || Shop::TENANT.eq("acme");
    let found = sessions.find(acme()).await.expect("answers");
    assert_eq!(found.iter().filter_map(|session| session.user_id()).sum::<i64>(), 3);
    assert_eq!(sessions.find(acme()).count().await.expect("answers"), 2);
    assert_eq!(sessions.find(Shop::TENANT.is_none()).await.expect("answers")[0].id(), id(&anonymous));
    assert_eq!(sessions.find(acme().not()).count().await.expect("answers"), 2);
    assert_eq!(sessions.find(acme().or(Shop::TENANT.is_none())).count().await.expect("answers"), 3);
    assert_eq!(sessions.find(Shop::TENANT.one_of(["other", "none"])).count().await.expect("answers"), 1);
    assert_eq!(sessions.find(acme()).delete().await.expect("answers"), 2);
    assert_eq!(sessions.count_all().await.expect("answers"), 2);
}

#[actix_web::test]
async fn expired_sessions_are_in_no_list_and_in_no_count() {
    let world = shop().await;
    world.user(7).await;
    world.clock.advance(std::time::Duration::from_mins(31));
    let fresh = world.user(7).await;
    let listed = world.sessions.of_user(7).await.expect("answers");
    assert_eq!(listed.iter().map(session_runtime::Snapshot::id).collect::<Vec<_>>(), [id(&fresh)]);
    assert_eq!(world.sessions.count_all().await.expect("answers"), 1);
    assert_eq!(world.rows(), 2);
}

#[actix_web::test]
async fn a_stream_reads_every_session_once_over_several_pages() {
    let world = shop().await;
    let mut created = std::collections::BTreeSet::new();
    for count in 0..600 {
        let (_, session) = world.sessions.create(Shop { count, ..Shop::defaults() }).await.expect("stored");
        created.insert(session.id());
    }
    let read: Vec<_> =
        world.sessions.stream().map_ok(|session| session.id()).try_collect().await.expect("answers");
    assert_eq!(read.len(), 600);
    assert_eq!(read.into_iter().collect::<std::collections::BTreeSet<_>>(), created);
    assert_eq!(world.sessions.count_all().await.expect("answers"), 600);
}

#[actix_web::test]
async fn clear_ends_every_session() {
    let world = shop().await;
    let (user, customer) = (world.user(7).await, world.customer().await);
    assert_eq!(world.sessions.clear().await.expect("answers"), 2);
    assert_eq!(world.rows(), 0);
    for browser in [user, customer] {
        world.events.take();
        assert_eq!(read_session(&browser).await["is_new"], true);
        assert_eq!(world.events.take(), rejected(session_runtime::Rejection::Unknown));
    }
}

#[actix_web::test]
async fn a_tampered_row_does_not_fail_a_list() {
    let world = shop().await;
    let (good, bad) = (world.user(7).await, world.user(7).await);
    let statement = "UPDATE sessions SET state = zeroblob(80) WHERE id = ?1";
    world.database().execute(statement, [id(&bad).as_bytes().as_slice()]).expect("good SQL");
    let listed = world.sessions.of_user(7).await.expect("answers");
    assert_eq!(listed.iter().map(session_runtime::Snapshot::id).collect::<Vec<_>>(), [id(&good)]);
    assert_eq!(world.sessions.revoke_user(7).await.expect("answers"), 2, "the tampered row is deleted too");
}

#[actix_web::test]
async fn a_session_is_created_and_changed_outside_a_request() {
    let world = shop().await;
    let bag = Shop { user_id: Some(7), count: 4, ..Shop::defaults() };
    let (token, created) = world.sessions.create(bag).await.expect("stored");
    let request = actix_web::test::TestRequest::get().uri("/").cookie(world.sessions.cookie(&token));
    let answer = world.site.call(request.to_request()).await;
    assert!(answer.body.contains("\"user\":7") && answer.body.contains("\"count\":4"), "{}", answer.body);
    let doubled = world
        .sessions
        .update(created.id(), |shop| {
            shop.count *= 2;
            shop.count
        })
        .await;
    assert_eq!(doubled.expect("stored"), 8);
    assert_eq!(world.sessions.get(created.id()).await.expect("answers").expect("alive").count, 8);
}

#[actix_web::test]
async fn a_default_session_can_be_created() {
    let world = shop().await;
    let (token, _) = world.sessions.create(Shop::defaults()).await.expect("stored");
    assert!(world.sessions.load(&token).await.expect("answers").is_some());
    let unknown = session_runtime::Token::from_bytes([1; 32]);
    assert!(world.sessions.load(&unknown).await.expect("answers").is_none());
    let updated = world.sessions.update(unknown.session_id(), |_| ()).await;
    assert!(matches!(updated, Err(Error::Ended)));
}
