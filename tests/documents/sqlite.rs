//! The SQL for operators runs on SQLite.

use std::time::{Duration, SystemTime};

use session_runtime::{Keyring, Sessions, SqliteStore, rusqlite};

use super::sql::{Shop, statements};

#[tokio::test]
async fn the_sql_for_operators_reads_and_ends_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shop.db");
    let key = Keyring::generate();
    let build = || {
        let store = SqliteStore::open(&path).expect("a database");
        Sessions::<Shop>::builder(store).keyring(key.clone())
    };
    let sessions = build().build().await.expect("good settings");
    let long_ago = || SystemTime::now() - Duration::from_hours(24);
    let earlier = build().clock(long_ago).build().await.expect("good settings");
    let shop = |user_id| Shop { user_id, tenant: Some("acme".to_owned()) };
    let (_, one) = sessions.create(shop(Some(8))).await.expect("stored");
    sessions.create(shop(Some(7))).await.expect("stored");
    earlier.create(shop(None)).await.expect("stored");
    sessions.create(shop(None)).await.expect("stored");

    let raw = rusqlite::Connection::open(&path).expect("opens");
    let (reads, deletions) = statements("SQLite", one.id());
    assert_eq!((reads.len(), deletions.len()), (7, 4));
    for sql in reads.iter().filter(|sql| !sql.starts_with("PRAGMA")) {
        let mut statement = raw.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = statement.query_map([], |row| row.get::<_, rusqlite::types::Value>(0)).expect("runs");
        assert!(rows.flatten().count() > 0, "{sql}");
    }
    let live: String = raw.query_row(&reads[2], [], |row| row.get(0)).expect("a row");
    assert_eq!(live, one.id().to_string(), "the session of a line in the log");
    let times = format!(
        "SELECT abs(julianday(created) - julianday('now')) * 1440, (julianday(expires) - julianday('now')) * 1440 \
         FROM ({}) WHERE id = '{}'",
        reads[0],
        one.id()
    );
    let (age, left): (f64, f64) =
        raw.query_row(&times, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a row");
    assert!(
        age < 1.0 && (29.0..=31.0).contains(&left),
        "times are in milliseconds: {age} and {left} minutes"
    );
    for sql in &deletions {
        assert_eq!(raw.execute(sql, []).unwrap_or_else(|error| panic!("{sql}: {error}")), 1, "{sql}");
    }
    assert_eq!(sessions.count_all().await.expect("counted"), 0);
    assert!(
        sessions.get(one.id()).await.expect("answers").is_none(),
        "a deleted row is a session that has ended"
    );
}
