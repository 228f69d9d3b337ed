//! What is acknowledged can be read back: other values are refused with 500, and the stored session is intact.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::web;
use databag_tests::{Browser, Logs};
use serde::{Deserialize, Serialize};
use session_runtime::{Databag, Error, Rejection, Session, Sessions, SqliteStore};

use crate::app::{key, site};

/// Leaves out what is empty, which bincode cannot read back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Range {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<(u8, u8)>,
}

#[derive(Databag)]
#[databag(table = "by_bincode", cookie = "search", secure = false)]
struct ByBincode {
    range: Option<Range>,
    count: u32,
    price: f64,
}

#[derive(Databag)]
#[databag(table = "by_json", cookie = "search", secure = false, codec = "json")]
struct ByJson {
    range: Option<Range>,
    count: u32,
    #[databag(column)]
    price: f64,
}

/// What a request does to its session.
fn change(what: &str) -> (Option<Range>, f64) {
    match what {
        "exact" => (Some(Range { exact: Some(7), range: Some((1, 2)) }), 0.1 + 0.2),
        "range" => (Some(Range { exact: None, range: Some((7, 0)) }), 1.0 / 3.0),
        "nan" => (None, f64::NAN),
        _ => (None, 2.638_344_616_030_823e-256),
    }
}

macro_rules! shop {
    ($bag:ident) => {{
        let store = SqliteStore::in_memory().expect("memory");
        let sessions = Sessions::<$bag>::builder(store).keyring(key()).build().await.expect("builds");
        site!(sessions;
            "/set/{what}" => async |mut session: Session<$bag>, what: web::Path<String>| {
                (session.range, session.price) = change(&what);
                session.count += 1;
                "set"
            },
            "/save/{what}" => async |mut session: Session<$bag>, what: web::Path<String>| {
                (session.range, session.price) = change(&what);
                let saved = session.save().await;
                assert!(matches!(saved, Err(Error::NotReadBack { field: "range", .. })), "{saved:?}");
                session.range = None;
                "saved without"
            },
            "/update/{what}" => async |mut session: Session<$bag>, what: web::Path<String>| {
                let updated = session.update(|bag| bag.range = change(&what).0).await;
                assert!(matches!(updated, Err(Error::NotReadBack { field: "range", .. })), "{updated:?}");
                "not updated"
            },
            "/then-update/{what}" => async |mut session: Session<$bag>, what: web::Path<String>| {
                session.range = change(&what).0;
                let updated = session.update(|bag| bag.count += 1).await;
                assert!(matches!(updated, Err(Error::NotReadBack { field: "range", .. })), "{updated:?}");
                "changed before"
            },
            "/" => async |session: Session<$bag>| {
                format!("{:?} {} {:?}", session.range(), session.count(), session.price())
            },
        )
    }};
}

/// Returns the status of a request and the error lines that it wrote.
async fn refused(browser: &Browser, path: &str) -> (u16, Vec<String>) {
    let (logs, _guard) = Logs::of_this_thread();
    let answer = browser.post(path).await;
    assert!(answer.set_cookies().is_empty());
    (answer.status.as_u16(), logs.lines(&["ERROR"]))
}

#[actix_web::test]
async fn a_value_that_does_not_come_back_is_500_and_the_stored_session_is_intact() {
    let site = shop!(ByBincode);
    let browser = site.browser();
    assert_eq!(browser.post("/set/exact").await.status, 200);
    let before = browser.get("/").await.body;
    assert!(before.contains("exact: Some(7), range: Some((1, 2))"), "{before}");
    let (status, lines) = refused(&browser, "/set/range").await;
    assert_eq!((status, lines.len()), (500, 1));
    assert!(lines[0].contains("`range`") && lines[0].contains("codec = \"json\""), "{}", lines[0]);
    assert_eq!(browser.get("/").await.body, before);
    assert_eq!(browser.post("/set/none").await.status, 200, "the next request writes");
}

#[actix_web::test]
async fn a_handler_can_put_something_else_after_a_refused_save() {
    let site = shop!(ByBincode);
    let browser = site.browser();
    browser.post("/set/exact").await;
    assert_eq!(browser.post("/save/range").await.status, 200);
    assert!(browser.get("/").await.body.starts_with("None 1 0.3333"));
    assert_eq!(browser.post("/update/range").await.status, 200);
    assert!(browser.get("/").await.body.starts_with("None 1 0.3333"));
}

#[actix_web::test]
async fn json_stores_what_bincode_cannot_and_refuses_what_is_no_number() {
    let site = shop!(ByJson);
    let browser = site.browser();
    for (what, expected) in [
        ("exact", "Some(Range { exact: Some(7), range: Some((1, 2)) }) 1 0.30000000000000004"),
        ("range", "Some(Range { exact: None, range: Some((7, 0)) }) 2 0.3333333333333333"),
        ("none", "None 3 2.638344616030823e-256"),
    ] {
        assert_eq!(browser.post(&format!("/set/{what}")).await.status, 200);
        assert_eq!(browser.get("/").await.body, expected, "it is not signed out by its own column");
    }
    let (status, lines) = refused(&browser, "/set/nan").await;
    assert_eq!((status, lines.len()), (500, 1));
    assert!(lines[0].contains("`price`") && lines[0].contains("JSON has no number"), "{}", lines[0]);
    assert_eq!(browser.get("/").await.body, "None 3 2.638344616030823e-256");
}

#[actix_web::test]
async fn a_type_that_the_codec_cannot_read_back_is_refused_when_sessions_are_built() {
    #[derive(Databag)]
    #[databag(table = "settings")]
    struct Settings {
        visits: u32,
        values: BTreeMap<String, serde_json::Value>,
    }
    #[derive(Databag)]
    #[databag(table = "mended")]
    struct Mended {
        visits: u32,
        #[databag(codec = "json")]
        values: BTreeMap<String, serde_json::Value>,
    }
    let store = || SqliteStore::in_memory().expect("memory");
    let built = Sessions::<Settings>::builder(store()).keyring(key()).build().await;
    let Err(Error::Config(reason)) = built else { panic!("it is accepted") };
    for part in ["`values`", "`bincode`", "#[databag(codec = \"json\")]", "with = module"] {
        assert!(reason.contains(part), "{reason}");
    }
    let mended = Sessions::<Mended>::builder(store()).keyring(key()).build().await.expect("the remedy works");
    let mut bag = Mended::defaults();
    bag.values.insert("depth".to_owned(), serde_json::json!({"list": [1, 2.5, null]}));
    let (token, _) = mended.create(bag).await.expect("is stored");
    let stored = mended.load(&token).await.expect("answers").expect("is live");
    assert_eq!(stored.values()["depth"]["list"][1], 2.5);
}

#[actix_web::test]
async fn a_codec_that_is_no_json_is_refused_in_a_json_record() {
    struct Own;
    impl session_runtime::Codec for Own {
        const NAME: &'static str = "own";
        const FRAMING: session_runtime::Framing = session_runtime::Framing::Binary;
        const HUMAN_READABLE: bool = true;
        fn encode<T: Serialize + ?Sized>(
            value: &T,
            out: &mut Vec<u8>,
        ) -> Result<(), session_runtime::CodecError> {
            serde_json::to_writer(out, value).map_err(session_runtime::CodecError::new)
        }
        fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, session_runtime::CodecError> {
            serde_json::from_slice(bytes).map_err(session_runtime::CodecError::new)
        }
    }
    #[derive(Databag)]
    #[databag(table = "mixed", codec = "json")]
    struct Mixed {
        #[databag(codec = Own)]
        value: u32,
    }
    let store = SqliteStore::in_memory().expect("memory");
    let built = Sessions::<Mixed>::builder(store).keyring(key()).build().await;
    assert!(
        matches!(built, Err(Error::Config(reason)) if reason.contains("`own`") && reason.contains("`value`"))
    );
}

#[actix_web::test]
async fn a_field_of_another_type_is_reported_once_with_the_remedy() {
    #[derive(Databag)]
    #[databag(name = "Release", table = "releases")]
    struct Before {
        visits: u32,
        theme: String,
    }
    #[derive(Databag)]
    #[databag(name = "Release", table = "releases")]
    struct After {
        visits: i64,
        theme: String,
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = || SqliteStore::open(folder.path().join("sessions.db")).expect("a database");
    let keys = session_runtime::Keyring::generate_text();
    let keyring = || crate::app::keys(&keys);
    let before = Sessions::<Before>::builder(store()).keyring(keyring()).build().await.expect("builds");
    let mut bag = Before::defaults();
    (bag.visits, bag.theme) = (7, "dark".to_owned());
    let (token, _) = before.create(bag).await.expect("is stored");
    drop(before);
    let after = Sessions::<After>::builder(store()).keyring(keyring()).build().await.expect("builds");
    let (logs, _guard) = Logs::of_this_thread();
    for _ in 0..3 {
        let loaded = after.load(&token).await.expect("answers").expect("is live");
        assert_eq!((loaded.visits(), loaded.theme()), (0, "dark"));
    }
    let lines = logs.lines(&["WARN", "`visits`"]);
    assert_eq!(lines.len(), 1, "{}", logs.text());
    for part in ["from = OldType", "impl From<OldType>", "alias"] {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

#[derive(Databag)]
#[databag(table = "chains", cookie = "chain", secure = false, codec = "json")]
struct Chained {
    chain: Chain,
}

#[derive(Databag)]
#[databag(table = "marks", cookie = "marks", secure = false)]
struct Marked {
    marks: Vec<()>,
}

/// Opens a session in the clear whose stored state a writer of the database has changed.
macro_rules! opened_after {
    ($bag:ident, $value:expr, $change:expr) => {{
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sessions.db");
        let rejected = Arc::new(Mutex::new(Vec::new()));
        let hook = rejected.clone();
        let sessions = Sessions::<$bag>::builder(SqliteStore::open(&path).expect("a database"))
            .danger_plaintext()
            .on_rejected(move |reason| hook.lock().expect("no panic").push(reason))
            .build()
            .await
            .expect("builds");
        let (token, session) = sessions.create($value).await.expect("is stored");
        let database = rusqlite::Connection::open(&path).expect("a database");
        let (table, id) = ($bag::SCHEMA.table, session.id());
        let select = format!("SELECT CAST(state AS BLOB) FROM {table}");
        let state: Vec<u8> = database.query_row(&select, [], |row| row.get(0)).expect("the row");
        let state: Vec<u8> = $change(state);
        let update = if $bag::SCHEMA.table == "chains" { "CAST(?1 AS TEXT)" } else { "?1" };
        let update = format!("UPDATE {table} SET state = {update} WHERE id = ?2");
        let updated = database.execute(&update, (state, id.as_bytes().as_slice())).expect("good SQL");
        assert_eq!(updated, 1);
        let site = site!(sessions; "/" => async |session: Session<$bag>| session.is_new().to_string());
        let browser = site.browser();
        browser.set_cookie($bag::SCHEMA.cookie.name, &token.encode());
        let started = Instant::now();
        assert_eq!(browser.get("/").await.body, "true");
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let rejected = rejected.lock().expect("no panic").clone();
        rejected
    }};
}

#[actix_web::test]
async fn a_stored_value_that_is_too_deep_or_claims_too_much_is_undecodable() {
    let deep = |state: Vec<u8>| {
        let chain = format!("{}{{\"next\":null}}{}", "{\"next\":".repeat(5_000), "}".repeat(5_000));
        let state = String::from_utf8(state).expect("text");
        assert!(state.contains("\"chain\":{\"next\":{\"next\":null}}"), "{state}");
        state.replace("{\"next\":{\"next\":null}}", &chain).into_bytes()
    };
    let chained = Chained { chain: Chain { next: Some(Box::default()) } };
    let rejected = opened_after!(Chained, chained, deep);
    assert_eq!(rejected, [Rejection::Undecodable { field: Some("chain") }]);

    // The record ends with the length of the value, and the value: the number of marks, here 2^63 and 10^9.
    for claim in [&[253, 0, 0, 0, 0, 0, 0, 0, 128][..], &[252, 0, 202, 154, 59]] {
        let endless = |mut state: Vec<u8>| {
            assert_eq!(state.split_off(state.len() - 2), [1, 2]);
            state.push(u8::try_from(claim.len()).expect("short"));
            state.extend_from_slice(claim);
            state
        };
        let rejected = opened_after!(Marked, Marked { marks: vec![(); 2] }, endless);
        assert_eq!(rejected, [Rejection::Undecodable { field: Some("marks") }]);
    }
}

/// Loses its seconds on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Minutes(u32);

impl Serialize for Minutes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0 / 60).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Minutes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(|minutes| Self(minutes * 60))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "a policy takes references")]
fn add(base: &Minutes, ours: &Minutes, theirs: &Minutes) -> Minutes {
    Minutes(theirs.0 + ours.0 - base.0 + 1)
}

#[derive(Databag)]
#[databag(table = "minutes", cookie = "minutes", secure = false)]
struct Timed {
    #[databag(user_id)]
    user_id: Option<i64>,
    at: Minutes,
    #[databag(keep_on_logout)]
    kept: Minutes,
    #[databag(merge = add)]
    sum: Minutes,
    count: u32,
}

#[actix_web::test]
async fn a_value_that_loses_something_is_found_out_whatever_comes_before_the_commit() {
    let site = shop!(ByBincode);
    let browser = site.browser();
    browser.post("/set/exact").await;
    let before = browser.get("/").await.body;
    assert_eq!(refused(&browser, "/then-update/range").await.0, 500, "it is still in the bag");
    assert_eq!(browser.get("/").await.body, before);

    let store = SqliteStore::in_memory().expect("memory");
    let sessions = Sessions::<Timed>::builder(store).keyring(key()).build().await.expect("builds");
    let (_, session) = sessions.create(Timed::defaults()).await.expect("is stored");
    let site = site!(sessions;
        "/update" => async |mut session: Session<Timed>| -> Result<&'static str, Error> {
            session.at = Minutes(61);
            session.update(|bag| bag.count += 1).await?;
            Ok("updated")
        },
        "/ended" => async |mut session: Session<Timed>| {
            session.kept = Minutes(61);
            session.log_out();
            format!("{:?}", session.kept())
        },
        // Another request is first, so that both changes are merged.
        "/merge" => async |mut session: Session<Timed>, sessions: web::Data<Sessions<Timed>>| {
            let id = session.id();
            session.sum = Minutes(120);
            sessions.update(id, |bag| bag.sum = Minutes(60)).await.expect("is stored");
            "merged"
        },
        "/" => async |session: Session<Timed>| format!("{:?} {:?}", session.at(), session.sum()),
    );
    let browser = site.browser();
    let (token, _) = sessions.create(Timed::defaults()).await.expect("is stored");
    browser.set_cookie("minutes", &token.encode());
    assert_eq!(browser.post("/update").await.status, 500);
    assert_eq!(browser.get("/").await.body, "Minutes(0) Minutes(0)");
    let (status, lines) = refused(&browser, "/merge").await;
    assert_eq!((status, lines.len()), (500, 1));
    assert!(lines[0].contains("`sum`") && lines[0].contains("would not come back"), "{}", lines[0]);
    assert_eq!(browser.get("/").await.body, "Minutes(0) Minutes(60)");
    let merged = sessions.update(session.id(), |bag| bag.at = Minutes(60)).await;
    merged.expect("whole minutes come back");
    let ended = browser.post("/ended").await.body;
    assert!(ended.contains("Minutes(0)"), "{ended}: what does not come back is not kept");
}
