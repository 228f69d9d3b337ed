//! What a user is shown of the devices that are logged in.

use std::time::Duration;

use session_runtime::AnyStore;

use super::app::{COOKIE, HOUR, MINUTE, World};

pub(crate) async fn a_user_sees_which_browsers_have_their_sessions(store: AnyStore) {
    let world = World::open(store).await;
    if !world.has_rows().await {
        return;
    }
    let laptop = world.browser().with("user-agent", "Firefox/145");
    laptop.post("/login/dana").await;
    world.clock.advance(HOUR / 4);
    let long = "x".repeat(300);
    let phone = world.browser().with("user-agent", &long);
    phone.post("/login/dana").await;
    world.clock.advance(5 * MINUTE);
    let updated = laptop.clone().with("user-agent", "Firefox/146");
    updated.post("/count").await;
    let devices = world.sessions.of_user("dana").await.expect("it answers");
    let shown: Vec<_> = devices
        .iter()
        .map(|device| {
            let used = device.last_used().duration_since(device.created()).expect("later");
            (device.browser(), used)
        })
        .collect();
    assert_eq!(shown, [(Some(&long[..256]), Duration::ZERO), (Some("Firefox/146"), HOUR / 4 + 5 * MINUTE)]);
}

pub(crate) async fn a_visitor_whose_browser_is_known_leaves_no_trace(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser().with("user-agent", "Firefox/145");
    assert_eq!(browser.get("/code").await.body, "none");
    assert_eq!(browser.cookie(COOKIE), None);
    browser.post("/login/kim").await;
    browser.post("/logout").await;
    assert_eq!(browser.cookie(COOKIE), None);
}
