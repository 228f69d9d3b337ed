//! The store of SQLite keeps its promises with the rusqlite of this package's lock file.

use std::fs;
use std::time::Duration;

use session_runtime::store::suite;
use session_runtime::{Databag, Keyring, Sessions, SqliteStore};

#[tokio::test]
async fn the_store_keeps_every_promise() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    suite::run(async || SqliteStore::open(&path).expect("opens")).await;
}

#[derive(Databag)]
struct Shop {
    visits: u32,
}

/// rusqlite can ask SQLite for this from 0.41 on; the store finds it out by itself.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_has_left_its_path_is_not_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::open(&path).expect("opens");
    let sessions =
        Sessions::<Shop>::builder(store).keyring(Keyring::generate()).build().await.expect("builds");
    let (token, _) = sessions.create(Shop { visits: 1 }).await.expect("stored");
    fs::remove_file(&path).expect("removed");
    sessions.create(Shop { visits: 2 }).await.expect_err("nobody could read it");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    sessions.load(&token).await.expect_err("there is no database");
    assert!(!path.exists());
}
