//! A store that is chosen when the program starts: a URL goes in, the store it names comes out.
//!
//! Knows the schemes of URLs and nothing of what is behind them.

use std::fmt;
use std::time::Duration;

use super::{Directory, Filter, Outcome, Page, Row, Store, StoreError, Table, Update};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::Value;

/// Whichever store a URL names: for programs whose operators choose it.
///
/// It can be asked whatever its store can. With `cookie:` it keeps no rows: what needs one
/// ([`Directory`], and a session by its id) is an error then, at run time.
///
/// # Examples
///
/// ```
/// use session_runtime::{AnyStore, Databag, Keyring, Sessions};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let url = std::env::var("SESSION_STORE").unwrap_or_else(|_| "sqlite::memory:".to_owned());
/// # #[cfg(feature = "sqlite")] {
/// let sessions: Sessions<Shop, AnyStore> = Sessions::<Shop>::builder(AnyStore::connect(&url).await?)
///     .keyring(Keyring::parse(&Keyring::generate())?)
///     .build()
///     .await?;
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AnyStore(Kind);

/// Declares the kinds of stores that keep rows, and hands every call to the one that is there.
macro_rules! kinds {
    ($($feature:literal $kind:ident($store:ty),)+) => {
        #[derive(Clone)]
        enum Kind {
            $(#[cfg(feature = $feature)] $kind($store),)+
            #[cfg(feature = "cookie")]
            Cookie(super::cookie::CookieStore),
        }

        $(
            #[cfg(feature = $feature)]
            impl From<$store> for AnyStore {
                fn from(store: $store) -> Self {
                    Self(Kind::$kind(store))
                }
            }
        )+

        /// Makes a call of whichever store it is, or another of the one that keeps no rows.
        macro_rules! each {
            ($any:expr, $each:ident => $call:expr) => {
                each!($any, $each => $call, $each => $call)
            };
            ($any:expr, $each:ident => $call:expr, $cookie:pat => $without:expr) => {
                match $any {
                    $(#[cfg(feature = $feature)] Kind::$kind($each) => $call,)+
                    #[cfg(feature = "cookie")]
                    Kind::Cookie($cookie) => $without,
                }
            };
        }
    };
}

kinds! {
    "sqlite" Sqlite(super::sqlite::SqliteStore),
    "memory" Memory(super::memory::MemoryStore),
    "redis" Redis(super::redis::RedisStore),
    "postgres" Postgres(super::postgres::PostgresStore),
    "mysql" Mysql(super::mysql::MysqlStore),
}

#[cfg(feature = "cookie")]
impl From<super::cookie::CookieStore> for AnyStore {
    fn from(store: super::cookie::CookieStore) -> Self {
        Self(Kind::Cookie(store))
    }
}

impl AnyStore {
    /// Opens or connects to what a URL names:
    ///
    /// | URL | store | feature |
    /// | --- | --- | --- |
    /// | `sqlite:sessions.db`, `sqlite:///var/lib/sessions.db`, `sqlite::memory:` | `SqliteStore` | `sqlite` |
    /// | `memory:` | `MemoryStore` | `memory` |
    /// | `cookie:` | `CookieStore` | `cookie` |
    /// | `redis://..`, `rediss://..`, each also with `-cluster` or `-sentinel` | `RedisStore` | `redis` |
    /// | `postgres://..`, `postgresql://..` | `PostgresStore` | `postgres` |
    /// | `mysql://..`, `mariadb://..` | `MysqlStore` | `mysql` |
    ///
    /// What follows the scheme is what the store's own `connect` takes.
    ///
    /// # Errors
    ///
    /// If the URL names no store, or one whose feature is off, and if the store cannot be opened. The error does
    /// not repeat the URL, which may hold a password.
    #[allow(clippy::unused_async, reason = "only servers are waited for")]
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                let path = url.strip_prefix("sqlite:").unwrap_or_default();
                match path.strip_prefix("//").unwrap_or(path) {
                    path if path.contains('?') => Err(misspelt("`sqlite:` takes no options")),
                    "" => Err(misspelt("it names no file: write `sqlite:sessions.db`")),
                    ":memory:" => super::sqlite::SqliteStore::in_memory().map(Self::from),
                    path => super::sqlite::SqliteStore::open(path).map(Self::from),
                }
            }
            #[cfg(feature = "memory")]
            "memory" if matches!(url, "memory:" | "memory://") => {
                Ok(super::memory::MemoryStore::new().into())
            }
            #[cfg(feature = "cookie")]
            "cookie" if matches!(url, "cookie:" | "cookie://") => Ok(super::cookie::CookieStore.into()),
            #[cfg(feature = "redis")]
            "redis" | "rediss" | "redis-cluster" | "rediss-cluster" | "redis-sentinel"
            | "rediss-sentinel" => super::redis::RedisStore::connect(url).await.map(Self::from),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => super::postgres::PostgresStore::connect(url).await.map(Self::from),
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => super::mysql::MysqlStore::connect(url).await.map(Self::from),
            _ => Err(misspelt(reason(scheme))),
        }
    }
}

/// Says what is wrong with a URL that names no store.
fn reason(scheme: &str) -> String {
    let (feature, on) = match scheme {
        "sqlite" => ("sqlite", cfg!(feature = "sqlite")),
        "memory" => ("memory", cfg!(feature = "memory")),
        "cookie" => ("cookie", cfg!(feature = "cookie")),
        "redis" | "rediss" | "redis-cluster" | "rediss-cluster" | "redis-sentinel" | "rediss-sentinel" => {
            ("redis", cfg!(feature = "redis"))
        }
        "postgres" | "postgresql" => ("postgres", cfg!(feature = "postgres")),
        "mysql" | "mariadb" => ("mysql", cfg!(feature = "mysql")),
        _ => {
            return "its scheme is none of `sqlite:`, `memory:`, `cookie:`, `redis:`, `rediss:`, `postgres:`, `mysql:`"
                .to_owned();
        }
    };
    if on {
        format!("nothing may follow `{feature}:`")
    } else {
        format!("the program was built without the feature `{feature}` of session-runtime")
    }
}

fn misspelt(reason: impl Into<String>) -> StoreError {
    StoreError::new("be chosen by its URL", reason.into())
}

impl Store for AnyStore {
    fn keeps_rows(&self) -> bool {
        each!(&self.0, store => store.keeps_rows())
    }

    async fn prepare(&mut self, table: &Table, deadline: Duration) -> Result<(), StoreError> {
        each!(&mut self.0, store => store.prepare(table, deadline).await)
    }

    async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        each!(&self.0, store => store.load(id).await)
    }

    async fn insert(&self, row: Row) -> Result<(), StoreError> {
        each!(&self.0, store => store.insert(row).await)
    }

    async fn update(&self, update: Update) -> Result<Outcome, StoreError> {
        each!(&self.0, store => store.update(update).await)
    }

    async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
        each!(&self.0, store => store.delete(id).await)
    }

    async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        each!(&self.0, store => store.prune(now, limit).await)
    }

    async fn trim(&self, user: &Value, keep: u32, now: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        each!(&self.0, store => store.trim(user, keep, now).await)
    }
}

#[diagnostic::do_not_recommend]
impl Directory for AnyStore {
    async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, StoreError> {
        each!(&self.0, store => store.find(filter, page).await, _ => Err(no_rows("list sessions")))
    }

    async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        each!(&self.0, store => store.count(filter).await, _ => Err(no_rows("count sessions")))
    }

    async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        each!(&self.0, store => store.remove(filter).await, _ => Err(no_rows("end sessions")))
    }

    async fn health(&self) -> Result<(), StoreError> {
        // Cookies have no server that could be down.
        each!(&self.0, store => store.health().await, _ => Ok(()))
    }
}

#[cfg(feature = "cookie")]
fn no_rows(operation: &'static str) -> StoreError {
    StoreError::new(operation, "they are in the cookies of their visitors: choose a store that keeps rows")
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(&self.0, store => store.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(url: &str) -> String {
        let error = AnyStore::connect(url).await.expect_err("it names no store");
        format!("{error}: {}", std::error::Error::source(&error).expect("a cause"))
    }

    #[tokio::test]
    async fn a_url_that_names_no_store_is_refused_and_not_repeated() {
        for url in ["", "sessions.db", "hunter2", "hunter2://hunter2", "Sqlite:hunter2.db", "memory:hunter2"]
        {
            let refusal = refusal(url).await;
            assert!(refusal.starts_with("the store could not be chosen by its URL: "), "{url}: {refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[cfg(not(feature = "mysql"))]
    #[tokio::test]
    async fn a_store_that_was_not_built_in_is_named() {
        assert!(refusal("mysql://db").await.contains("without the feature `mysql`"));
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_file_is_named_with_or_without_slashes() {
        let folder = tempfile::tempdir().expect("a folder");
        for (prefix, name) in [("sqlite:", "one.db"), ("sqlite://", "two.db")] {
            let path = folder.path().join(name);
            AnyStore::connect(&format!("{prefix}{}", path.display())).await.expect("it opens");
            assert!(path.exists(), "{prefix}");
        }
        assert!(refusal("sqlite://shop.db?mode=rwc").await.contains("takes no options"));
        assert!(refusal("sqlite:").await.contains("names no file"));
        assert!(refusal("sqlite://").await.contains("names no file"));
    }

    #[cfg(all(feature = "sqlite", feature = "memory"))]
    #[tokio::test]
    async fn it_keeps_the_promises_of_its_store() {
        for url in ["sqlite::memory:", "memory:"] {
            crate::store::suite::run(async || AnyStore::connect(url).await.expect("it opens")).await;
        }
    }

    #[cfg(feature = "cookie")]
    mod cookie {
        use super::*;
        use crate::{Error, Keyring, Sessions};

        #[derive(crate::Databag)]
        struct Shop {
            #[databag(user_id)]
            user_id: Option<i64>,
        }

        #[tokio::test]
        async fn what_needs_a_row_is_an_error_where_there_are_none() {
            let store = AnyStore::connect("cookie:").await.expect("nothing to connect to");
            let keyring = Keyring::parse(&Keyring::generate()).expect("a good key");
            let sessions = Sessions::<Shop>::builder(store).keyring(keyring).build().await.expect("builds");
            let (token, session) = sessions.create(Shop { user_id: Some(7) }).await.expect("no call");
            assert_eq!(sessions.load(&token).await.expect("no call").expect("it lives").user_id, Some(7));
            let id = session.id();
            let failed = [
                sessions.get(id).await.map(drop),
                sessions.update(id, |_| {}).await,
                sessions.delete(id).await.map(drop),
                sessions.of_user(7).await.map(drop),
                sessions.revoke_user(7).await.map(drop),
                sessions.count_all().await.map(drop),
                sessions.clear().await.map(drop),
            ];
            for (call, result) in failed.into_iter().enumerate() {
                assert!(matches!(result, Err(Error::Store(_))), "{call}: {result:?}");
            }
            sessions.health().await.expect("nothing can be down");
        }
    }
}
