//! Fields that end by themselves.

use session_runtime::{AnyStore, Token};

use super::app::{COOKIE, MINUTE, SECOND, World};

pub(crate) async fn a_field_ends_when_its_time_has_passed(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/code/0451").await;
    world.clock.advance(14 * MINUTE + 59 * SECOND);
    assert_eq!(browser.get("/code").await.body, "0451");
    world.clock.advance(SECOND);
    assert_eq!(browser.get("/code").await.body, "none");
    assert_eq!(browser.post("/count").await.body, "1");
    assert_eq!(browser.get("/code").await.body, "none");
    // The session itself goes on.
    assert_eq!(browser.post("/count").await.body, "2");
}

pub(crate) async fn only_a_change_of_the_field_starts_its_time_again(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/code/0451").await;
    world.clock.advance(10 * MINUTE);
    browser.post("/count").await;
    browser.post("/code/0451").await;
    browser.post("/login/kim").await;
    world.clock.advance(5 * MINUTE);
    assert_eq!(browser.get("/code").await.body, "none");
    browser.post("/code/0451").await;
    world.clock.advance(10 * MINUTE);
    browser.post("/code/0452").await;
    world.clock.advance(10 * MINUTE);
    assert_eq!(browser.get("/code").await.body, "0452");
    world.clock.advance(5 * MINUTE);
    assert_eq!(browser.get("/code").await.body, "none");
}

pub(crate) async fn the_time_of_a_field_outlives_a_merge(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/code/0451").await;
    if !world.has_rows().await {
        return;
    }
    let token = Token::parse(&browser.cookie(COOKIE).expect("a session")).expect("a token");
    world.clock.advance(10 * MINUTE);
    // Both requests have read the session when the application changes it, so both writes meet a conflict.
    let other_tab = browser.clone();
    let counted = tokio::join!(browser.post("/count/late"), other_tab.post("/count/late"), async {
        world.gate.arrival().await;
        world.gate.arrival().await;
        world.sessions.update(token.session_id(), |account| account.count += 1).await.expect("stored");
        world.gate.open();
    });
    assert_eq!(
        [counted.0, counted.1].map(|answer| (answer.status.as_u16(), answer.body)),
        [(); 2].map(|()| (200, "1".to_owned()))
    );
    assert_eq!(browser.get("/code").await.body, "0451");
    world.clock.advance(5 * MINUTE);
    assert_eq!(browser.get("/code").await.body, "none");
    let session = world.sessions.load(&token).await.expect("it answers").expect("it lives");
    assert_eq!((session.count, session.code()), (3, None), "the counts of all three");
}
