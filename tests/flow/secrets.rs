//! Logs, `Debug` output and the database contain no secret.

use databag_tests::{Call, Fault, Logs};
use session_runtime::store::{ColumnRef, Comparison, Filter, Row, Update};
use session_runtime::{LoggedIn, Session, SessionId, SessionRef, Timestamp, Value};

use crate::app::{COOKIE, Shop, id, shop, site, token};

const ITEM: &str = "a-very-private-cart-item";
const NOTE: &str = "a-very-private-notice";

/// Asserts that a text contains no secret of the visitor.
fn assert_silent(text: &str, tokens: &[String], key: &str) {
    for secret in tokens.iter().map(String::as_str).chain([ITEM, NOTE, key]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[actix_web::test]
async fn no_token_key_or_content_is_ever_logged() {
    let (logs, _guard) = Logs::of_this_thread();
    let world = shop().await;
    let mut tokens = Vec::new();
    let browser = world.browser();
    let mut step = async |path: &str| {
        browser.post(path).await;
        tokens.extend(browser.cookie(COOKIE));
    };
    step(&format!("/add/{ITEM}")).await;
    step(&format!("/notice/{NOTE}")).await;
    step("/login/7").await;
    step("/count").await;
    // Each call of the store that a request makes fails in turn.
    for call in [Call::Load, Call::Update, Call::Insert, Call::Delete] {
        world.watch.fail(call, Fault::Down);
        step(&format!("/add/{ITEM}")).await;
        step("/rotate").await;
        world.watch.heal();
    }
    let elsewhere = world.elsewhere_with(crate::app::key()).await;
    assert!(elsewhere.get(id(&browser)).await.is_err());
    world.sql("UPDATE sessions SET revision = 77");
    step("/page").await;
    browser.set_cookie(COOKIE, "junk-that-is-no-token");
    step("/noop").await;
    step("/logout").await;
    let text = logs.text();
    assert!(
        text.contains("a session is not accepted") && text.contains("could not store the session"),
        "{text}"
    );
    tokens.push("junk-that-is-no-token".to_owned());
    assert_silent(&text, &tokens, &world.key);
}

#[actix_web::test]
async fn logs_name_a_session_by_the_first_digits_of_its_id() {
    let world = shop().await;
    let browser = world.customer().await;
    let name = id(&browser).to_string();
    world.watch.fail(Call::Load, Fault::Down);
    let (logs, _guard) = Logs::of_this_thread();
    browser.get("/").await;
    assert_eq!(logs.lines(&["ERROR", &name[..8]]).len(), 1, "{}", logs.text());
    assert!(!logs.text().contains(&name[..9]));
}

#[actix_web::test]
async fn debug_shows_no_content() {
    let world = shop().await;
    let debug = async |mut session: Session<Shop>| {
        session.cart.insert(ITEM.to_owned(), 1);
        session.set_pin(NOTE);
        session.log_in(7);
        let of_session = format!("{session:?} {session:#?}");
        let of_user = format!("{:?}", LoggedIn::new(session).expect("signed in"));
        of_session + &of_user
    };
    let read = async |session: SessionRef<Shop>| format!("{session:?}");
    let site = site!(world.sessions; "/debug" => debug, "/read" => read);
    let browser = site.browser();
    let shown = browser.post("/debug").await.body + &browser.get("/read").await.body;
    let tokens = [browser.cookie(COOKIE).expect("a cookie")];
    assert_silent(&shown, &tokens, &world.key);
    let (sessions, token) = (&world.sessions, token(&browser));
    let snapshot = sessions.get(id(&browser)).await.expect("answers").expect("alive");
    let found = sessions.find(Shop::TENANT.eq(ITEM));
    let shown = format!("{sessions:?} {token:?} {snapshot:?} {found:?} {:?}", Shop::TENANT.eq(ITEM));
    assert_silent(&shown, &tokens, &world.key);
}

#[test]
fn debug_of_rows_updates_and_values_shows_no_content() {
    let now = Timestamp::from(std::time::SystemTime::now());
    let id = SessionId::from_bytes([7; 32]);
    let mut row = Row::new(id, ITEM.as_bytes().to_vec(), now, now, 1);
    row.user = Some(Value::Integer(4_242_424_242));
    row.ip = Some([203, 0, 113, 77].into());
    row.columns = vec![Some(Value::Text(NOTE.to_owned())), Some(Value::Blob(b"blob".to_vec())), None];
    let update = Update::new(id, 1, row.clone());
    let filter = Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Text(NOTE.to_owned()));
    let shown = format!("{row:?} {row:#?} {update:?} {filter:?} {:?}", row.columns);
    for secret in [ITEM, NOTE, "4242424242", "203", "98, 108, 111, 98", "97, 45, 118"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[actix_web::test]
async fn the_bytes_of_the_database_hold_no_content_and_no_token() {
    let world = shop().await;
    let browser = world.browser();
    browser.post(&format!("/add/{ITEM}")).await;
    let mut tokens = vec![browser.cookie(COOKIE).expect("a cookie")];
    browser.post(&format!("/notice/{NOTE}")).await;
    browser.post("/login/7").await;
    browser.post("/tenant/a-column-is-for-queries").await;
    tokens.push(browser.cookie(COOKIE).expect("a cookie"));
    let mut files = 0;
    let mut columns = 0;
    for entry in std::fs::read_dir(world.folder.path()).expect("a folder") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("readable");
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        for secret in tokens.iter().map(String::as_str).chain([ITEM, NOTE, world.key.as_str()]) {
            assert!(!holds(secret.as_bytes()), "{secret}");
        }
        columns += usize::from(holds(b"a-column-is-for-queries"));
        files += 1;
    }
    assert!(files >= 2, "the database and its log");
    assert!(columns > 0, "the search finds a column in the clear");
}
