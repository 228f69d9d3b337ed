//! Rows that an attacker has written, and missing keys.

use databag_tests::Browser;
use session_runtime::{Cleanup, Databag, Keyring, Rejection, Sessions};

use crate::app::{COOKIE, Shop, World, id, keys, read_session, rejected, shop, shop_in, site};

/// Checks that the browser is anonymous because of `reason`, and that the row is unchanged.
async fn assert_refused(world: &World, browser: &Browser, reason: Rejection) {
    let (rows, state) = (world.rows(), state(world, browser));
    world.events.take();
    let answer = browser.get("/page").await;
    assert!(answer.status.is_success() && answer.body.contains("\"is_new\":true"), "{}", answer.body);
    assert!(answer.set_cookies().is_empty());
    assert_eq!(world.events.take(), rejected(reason));
    assert_eq!((world.rows(), self::state(world, browser)), (rows, state), "the row is kept as evidence");
}

fn state(world: &World, browser: &Browser) -> Vec<u8> {
    let key = id(browser);
    world
        .database()
        .query_row("SELECT state FROM sessions WHERE id = ?1", [key.as_bytes().as_slice()], |row| row.get(0))
        .expect("the row")
}

#[actix_web::test]
async fn a_row_with_an_edited_column_is_rejected_as_tampered() {
    for edit in [
        "expiration = expiration + 86400000",
        "created = created + 1",
        "revision = revision + 1",
        "user_id = 8",
        "user_id = NULL",
        "ip_addr = '203.0.113.9'",
        "ip_addr = NULL",
        "tenant = 'other'",
        "tenant = NULL",
        "state = x'00'",
        "state = zeroblob(64)",
        "state = substr(state, 1, length(state) - 1)",
    ] {
        let world = shop().await;
        let browser = world.browser().from("198.51.100.4");
        browser.post("/login/7").await;
        browser.post("/tenant/acme").await;
        assert_eq!(world.sql(&format!("UPDATE sessions SET {edit}")), 1, "{edit}");
        assert_refused(&world, &browser, Rejection::Tampered).await;
    }
}

#[actix_web::test]
async fn editing_an_expired_row_does_not_extend_it() {
    let world = shop().await;
    let browser = world.customer().await;
    world.clock.advance(std::time::Duration::from_mins(31));
    assert_eq!(read_session(&browser).await["is_new"], true);
    world.sql("UPDATE sessions SET expiration = expiration + 3600000");
    assert_refused(&world, &browser, Rejection::Tampered).await;
}

#[actix_web::test]
async fn swapped_states_of_two_rows_do_not_open() {
    let world = shop().await;
    let (first, second) = (world.user(7).await, world.user(7).await);
    let (of_first, of_second) = (state(&world, &first), state(&world, &second));
    for (browser, state) in [(&first, of_second), (&second, of_first)] {
        let database = world.database();
        let statement = "UPDATE sessions SET state = ?1 WHERE id = ?2";
        database.execute(statement, (state, id(browser).as_bytes().as_slice())).expect("good SQL");
    }
    assert_refused(&world, &first, Rejection::Tampered).await;
    assert_refused(&world, &second, Rejection::Tampered).await;
}

#[actix_web::test]
async fn an_older_state_of_the_same_row_does_not_open() {
    let world = shop().await;
    let browser = world.customer().await;
    let old = state(&world, &browser);
    browser.post("/add/milk").await;
    world.database().execute("UPDATE sessions SET state = ?1", [old]).expect("good SQL");
    assert_refused(&world, &browser, Rejection::Tampered).await;
}

async fn plain(world: &World) -> Sessions<Shop> {
    Sessions::<Shop>::builder(world.store.clone())
        .danger_plaintext()
        .cleanup(Cleanup::Never)
        .clock(world.clock.clone())
        .build()
        .await
        .expect("good settings")
}

#[actix_web::test]
async fn a_row_in_the_clear_does_not_open_under_a_keyring() {
    let world = shop().await;
    let defaults = Shop::defaults();
    let (token, _) = plain(&world).await.create(Shop { count: 5, ..defaults }).await.expect("stored");
    let browser = world.browser();
    browser.set_cookie(COOKIE, &token.encode());
    assert_refused(&world, &browser, Rejection::Tampered).await;
}

#[actix_web::test]
async fn a_sealed_row_is_503_without_a_keyring() {
    let world = shop().await;
    let browser = world.customer().await;
    let site =
        site!(plain(&world).await; "/" => async |s: session_runtime::Session<Shop>| s.count.to_string());
    let other = site.browser();
    other.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    let answer = other.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.set_cookies().is_empty());
    assert_eq!(read_session(&browser).await["is_new"], false);
}

#[actix_web::test]
async fn a_missing_key_is_503_and_the_session_survives() {
    let world = shop().await;
    let browser = world.customer().await;
    let World { folder, key, .. } = world;
    let wrong = Keyring::generate_text();
    let (logs, _guard) = databag_tests::Logs::of_this_thread();
    let misconfigured = shop_in(folder, &wrong, |builder| builder).await;
    let visitor = misconfigured.browser();
    visitor.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    for path in ["/", "/page"] {
        let answer = visitor.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "Service Unavailable"));
        assert_eq!(answer.all("retry-after").len(), 1);
        assert!(answer.set_cookies().is_empty());
    }
    assert!(!logs.lines(&["ERROR", "missing from the keyring"]).is_empty(), "{}", logs.text());
    let repaired = shop_in(misconfigured.folder, &key, |builder| builder).await;
    let back = repaired.browser();
    back.set_cookie(COOKIE, &visitor.cookie(COOKIE).expect("untouched"));
    assert_eq!(read_session(&back).await["cart"]["tea"], 1);
}

#[actix_web::test]
async fn an_older_key_opens_and_writes_use_the_current_key() {
    let world = shop().await;
    let (old, idle) = (world.customer().await, world.customer().await);
    let World { folder, key, .. } = world;
    let new = Keyring::generate_text();
    let rotated = shop_in(folder, &format!("{},{key}", *new), |builder| builder).await;
    let [old, idle] = [old, idle].map(|browser| {
        let visitor = rotated.browser();
        visitor.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
        visitor
    });
    assert_eq!(read_session(&old).await["cart"]["tea"], 1);
    old.post("/add/milk").await;
    let only_new = rotated.elsewhere_with(keys(&new)).await;
    assert!(only_new.get(id(&old)).await.expect("sealed again").is_some());
    assert!(only_new.get(id(&idle)).await.is_err(), "not written yet");
}

#[actix_web::test]
async fn reseal_all_seals_every_row_under_the_current_key_and_changes_nothing_else() {
    let world = shop().await;
    let mut browsers = Vec::new();
    for user in 0..5 {
        let browser = world.user(user).await;
        browser.post("/notice/unread").await;
        browsers.push(browser);
    }
    let World { folder, key, .. } = world;
    let new = Keyring::generate_text();
    let rotated = shop_in(folder, &format!("{},{key}", *new), |builder| builder).await;
    rotated.clock.advance(std::time::Duration::from_mins(20));
    let before: Vec<_> = expirations(&rotated).await;
    let mut progress = Vec::new();
    let resealed = rotated.sessions.reseal_all(|seen, total| progress.push((seen, total))).await;
    assert_eq!((resealed.expect("stored"), progress.as_slice()), (5, &[(5, 5)][..]));
    assert_eq!(expirations(&rotated).await, before, "resealing extends no session");
    let only_new = rotated.elsewhere_with(keys(&new)).await;
    for browser in &browsers {
        let session = only_new.get(id(browser)).await.expect("under the new key").expect("alive");
        assert_eq!(session.notice(), Some("unread"), "resealing does not use up a flash value");
    }
    assert_eq!(rotated.sessions.reseal_all(|_, _| ()).await.expect("nothing to do"), 0);
}

async fn expirations(world: &World) -> Vec<std::time::SystemTime> {
    let mut times = Vec::new();
    for user in 0..5 {
        times.extend(
            world
                .sessions
                .of_user(user)
                .await
                .expect("answers")
                .iter()
                .map(session_runtime::Snapshot::expires),
        );
    }
    times
}
