//! How long sessions live: remembered ones and others.

use session_runtime::{AnyStore, Token};

use super::app::{COOKIE, DAY, HOUR, MINUTE, World, shown_to};

pub(crate) async fn a_remembered_session_lives_as_long_as_the_bag_says(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    let answer = browser.post("/login/kim/remembered").await;
    let cookie = &answer.set_cookies()[0];
    assert!(cookie.contains("; Max-Age=2592000"), "{cookie}");
    browser.restart();
    world.clock.advance(29 * DAY + 23 * HOUR + 59 * MINUTE);
    assert_eq!(shown_to(&browser).await, "kim");
    world.clock.advance(MINUTE);
    assert_eq!(shown_to(&browser).await, "nobody");
}

pub(crate) async fn an_ordinary_log_in_has_the_ordinary_limits(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/login/kim/remembered").await;
    // The next user of this browser is not remembered, nor is the same one who has not asked for it again.
    let answer = browser.post("/login/eve").await;
    assert!(!answer.set_cookies()[0].contains("Max-Age"), "{:?}", answer.set_cookies());
    world.clock.advance(29 * MINUTE);
    assert_eq!(shown_to(&browser).await, "eve");
    world.clock.advance(31 * MINUTE);
    assert_eq!(shown_to(&browser).await, "nobody");
}

pub(crate) async fn a_session_is_remembered_for_any_time(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    let answer = browser.post("/login/kim/for/2").await;
    assert!(answer.set_cookies()[0].contains("; Max-Age=7200"), "{:?}", answer.set_cookies());
    world.clock.advance(HOUR + 59 * MINUTE);
    assert_eq!(shown_to(&browser).await, "kim");
    world.clock.advance(MINUTE);
    assert_eq!(shown_to(&browser).await, "nobody");
}

pub(crate) async fn no_use_of_a_remembered_session_extends_it(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/login/kim/remembered").await;
    for _ in 0..3 {
        world.clock.advance(9 * DAY + 23 * HOUR + 59 * MINUTE);
        assert_eq!(shown_to(&browser).await, "kim");
        // Neither does asking for the same once more.
        assert!(browser.post("/remember/true").await.status.is_success());
        assert!(browser.post("/count").await.status.is_success());
    }
    world.clock.advance(3 * MINUTE);
    assert_eq!(shown_to(&browser).await, "nobody");
}

pub(crate) async fn a_remembered_session_can_be_made_an_ordinary_one(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/login/kim/remembered").await;
    world.clock.advance(DAY);
    let answer = browser.post("/remember/false").await;
    assert!(!answer.set_cookies()[0].contains("Max-Age"), "{:?}", answer.set_cookies());
    for _ in 0..24 {
        assert_eq!(shown_to(&browser).await, "kim");
        world.clock.advance(29 * MINUTE);
    }
    // 12 hours after that.
    world.clock.advance(25 * MINUTE);
    assert_eq!(shown_to(&browser).await, "nobody");
}

pub(crate) async fn no_choice_extends_a_session_for_ever(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/login/kim/remembered").await;
    for day in 1..40 {
        for hour in 0..2 {
            let remember = if hour == 0 { "/remember/false" } else { "/remember/true" };
            browser.post(remember).await;
        }
        world.clock.advance(DAY);
        assert_eq!(shown_to(&browser).await == "kim", day < 30, "day {day}");
    }
}

pub(crate) async fn the_last_use_is_known_by_the_minute(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    browser.post("/login/kim/remembered").await;
    let last_used = async || {
        let token = Token::parse(&browser.cookie(COOKIE).expect("a session")).expect("a token");
        let session = world.sessions.load(&token).await.expect("it answers").expect("it lives");
        session.last_used().duration_since(session.created()).expect("later")
    };
    for (advance, known) in [(10 * DAY, 10 * DAY), (MINUTE / 2, 10 * DAY), (MINUTE / 2, 10 * DAY + MINUTE)] {
        world.clock.advance(advance);
        assert_eq!(shown_to(&browser).await, "kim");
        assert_eq!(last_used().await, known);
    }
    // What the application does by itself is no use.
    if !world.has_rows().await {
        return;
    }
    world.clock.advance(HOUR);
    let id = Token::parse(&browser.cookie(COOKIE).expect("a session")).expect("a token").session_id();
    world.sessions.update(id, |account| account.count += 1).await.expect("stored");
    assert_eq!(last_used().await, 10 * DAY + MINUTE);
}
