//! What applications need of their sessions, on memory, SQLite and sessions in cookies.
#![allow(missing_docs)]

mod suite;

use session_runtime::{AnyStore, CookieStore, MemoryStore, SqliteStore};

use self::suite::features;

async fn memory() -> AnyStore {
    MemoryStore::new().into()
}

async fn sqlite() -> AnyStore {
    SqliteStore::in_memory().expect("a database").into()
}

async fn cookie() -> AnyStore {
    CookieStore.into()
}

features! { in_memory: crate::memory }
features! { in_sqlite: crate::sqlite }
features! { in_cookies: crate::cookie }
