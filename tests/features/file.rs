//! What a reader of the database, and a writer of it, can do with blind columns.

use std::fs;
use std::net::IpAddr;

use databag_tests::ManualClock;
use rusqlite::Connection;
use rusqlite::types::Value;
use session_runtime::store::Unlisted;
use session_runtime::{CookieStore, Databag, Error, Keyring, MemoryStore, Sessions, SqliteStore};

use crate::suite::blind::{Patient, open};

const BLIND: [&str; 4] = ["user_id", "ip_addr", "email", "ward"];

fn patient(name: &str, ward: i64) -> Patient {
    Patient {
        user_id: Some(format!("{name}-4711")),
        ip_addr: Some(IpAddr::from([203, 0, 113, 77])),
        email: Some(format!("{name}@example.com")),
        city: Some("Springfield".to_owned()),
        ward: Some(ward),
        ..Patient::defaults()
    }
}

#[actix_web::test]
async fn nothing_of_a_blind_column_is_in_the_files_of_the_database() {
    const WARD: i64 = 123_456_789_012_345;
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("patients.db")).expect("a database");
    let sessions = open(store, &[&Keyring::generate_text()], &ManualClock::default()).await;
    sessions.create(patient("dana", WARD)).await.expect("stored");
    let mut files = Vec::new();
    for file in fs::read_dir(folder.path()).expect("a folder") {
        files.extend(fs::read(file.expect("a file").path()).expect("its bytes"));
    }
    let has = |bytes: &[u8]| files.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"Springfield"), "what is not blind can be read");
    // SQLite keeps this number in six bytes.
    let ward = &WARD.to_be_bytes()[2..];
    for value in [&b"dana-4711"[..], b"dana@example.com", b"203.0.113.77", &[203, 0, 113, 77], ward] {
        assert!(!has(value), "{value:?}");
    }
}

#[actix_web::test]
async fn a_session_with_the_hash_of_another_value_is_not_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("patients.db");
    let store = SqliteStore::open(&file).expect("a database");
    let sessions = open(store, &[&Keyring::generate_text()], &ManualClock::default()).await;
    let other_address = Patient { ip_addr: Some(IpAddr::from([203, 0, 113, 78])), ..patient("kim", 2) };
    let (token, dana) = sessions.create(patient("dana", 1)).await.expect("stored");
    let (_, kim) = sessions.create(other_address).await.expect("stored");
    let database = Connection::open(&file).expect("a database");
    for column in BLIND {
        let read = |id: session_runtime::SessionId| {
            let sql = format!("SELECT {column} FROM patients WHERE id = ?1");
            database.query_row(&sql, [id.as_bytes()], |row| row.get::<_, Value>(0)).expect("a row")
        };
        let write = |value: &Value| {
            let sql = format!("UPDATE patients SET {column} = ?1 WHERE id = ?2");
            assert_eq!(database.execute(&sql, (value, dana.id().as_bytes())), Ok(1));
        };
        let is_live = async || sessions.load(&token).await.expect("it answers").is_some();
        let (own, others) = (read(dana.id()), read(kim.id()));
        assert!(matches!(&own, Value::Blob(hash) if hash.len() == 16), "{column}: {own:?}");
        assert_ne!(own, others, "{column}");
        assert!(is_live().await);
        for value in [&others, &Value::Null] {
            write(value);
            assert!(!is_live().await, "{column}");
            assert_eq!(sessions.check().await.expect("it answers").skipped, 1, "{column}");
        }
        write(&own);
        assert!(is_live().await, "{column}");
    }
}

#[actix_web::test]
async fn blind_columns_need_a_key() {
    let refused = Sessions::<Patient>::builder(MemoryStore::new()).danger_plaintext().build().await;
    let message = refused.expect_err("there is no key").to_string();
    assert!(message.contains("`blind`"), "{message}");
}

#[actix_web::test]
async fn a_limit_needs_a_list_while_there_are_older_keys() {
    let [old, new] = [(); 2].map(|()| Keyring::generate_text());
    let build = async |keys: &str| {
        let sessions = Sessions::<Patient>::builder(Unlisted(MemoryStore::new()));
        sessions.keyring(Keyring::parse(keys).expect("good keys")).build().await
    };
    let refused = build(&format!("{} {}", *new, *old)).await.expect_err("the first log-in would fail");
    assert!(matches!(refused, Error::Config(_)), "{refused:?}");
    assert!(refused.to_string().contains("`max_per_user`"), "{refused}");
    let sessions = build(&new).await.expect("nothing is under an older key");
    let mut tokens = Vec::new();
    for count in 0..3 {
        tokens.push(sessions.create(patient("dana", count)).await.expect("stored").0);
    }
    // Two were perhaps begun in the same millisecond.
    let mut live = 0;
    for token in &tokens {
        live += usize::from(sessions.load(token).await.expect("it answers").is_some());
    }
    assert_eq!(live, 2);
}

#[actix_web::test]
async fn sessions_in_cookies_have_no_columns_and_take_blind_fields() -> Result<(), Error> {
    #[derive(Databag)]
    struct Note {
        #[databag(column, blind)]
        email: Option<String>,
    }

    let sessions =
        Sessions::<Note>::builder(CookieStore).keyring(Keyring::generate()).build().await.expect("good");
    let (token, _) = sessions.create(Note { email: Some("dana@example.com".to_owned()) }).await?;
    let session = sessions.load(&token).await?.expect("it lives");
    assert_eq!(session.email(), Some("dana@example.com"));
    Ok(())
}
