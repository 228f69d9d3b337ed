//! What applications need of their sessions, on memory, SQLite and sessions in cookies.
#![allow(missing_docs)]

mod file;
mod suite;

use std::future::{Ready, ready};

use session_runtime::{AnyStore, CookieStore, MemoryStore, SqliteStore};

use self::suite::blind::blind;
use self::suite::features;

fn memory() -> Ready<AnyStore> {
    ready(MemoryStore::new().into())
}

fn sqlite() -> Ready<AnyStore> {
    ready(SqliteStore::in_memory().expect("a database").into())
}

fn cookie() -> Ready<AnyStore> {
    ready(CookieStore.into())
}

features! { in_memory: crate::memory }
features! { in_sqlite: crate::sqlite }
features! { in_cookies: crate::cookie }
blind! { blind_in_memory: MemoryStore::new() }
blind! { blind_in_sqlite: SqliteStore::in_memory().expect("a database") }

/// Each process has a handle of its own on the file.
#[actix_web::test]
async fn what_another_process_ends_is_seen_in_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || SqliteStore::open(folder.path().join("sessions.db")).expect("a database").into();
    suite::live::a_watch_ends_when_another_process_ends_the_session(open(), open()).await;
}

#[actix_web::test]
#[ignore = "it measures"]
async fn the_cost_of_ten_thousand_watches_in_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("sessions.db")).expect("a database");
    let store = store.durability(session_runtime::Durability::Normal);
    suite::live::measure_ten_thousand_watches(store.into()).await;
}
