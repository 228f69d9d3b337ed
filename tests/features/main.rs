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
