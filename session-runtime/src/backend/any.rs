//! A store that is chosen when the program starts: a URL enters, the store that it names leaves.
//!
//! [`stores!`] below lists every store once: its feature, its type and its URL schemes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "admin")]
use std::time::Instant;

#[cfg(feature = "admin")]
use super::access::prepare;
use super::access::{Backing, Listed, Opening, sealed};
use crate::engine::observers::Observers;
#[cfg(feature = "admin")]
use crate::store::{Directory, DynDirectory, DynStore, Survey};
use crate::store::{StoreError, Table};

/// The store that a URL names: for programs whose operators choose it.
///
/// With `cookie:` the sessions are in the cookies of their visitors. Then lists, queries and calls by id, which need
/// rows, return [`Error::Usage`](crate::Error::Usage) at run time: the type of the sessions is the same for every URL.
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
/// let sessions = Sessions::<Shop>::builder(AnyStore::connect(&url).await?)
///     .keyring(Keyring::generate())
///     .build()
///     .await?;
/// # }
/// # Ok(())
/// # }
/// ```
pub struct AnyStore(Kind);

/// A store of this crate, as features, exports, URLs and the README name it.
#[derive(Debug)]
struct Entry {
    feature: &'static str,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the tests compare it with the exports and the README")
    )]
    store: &'static str,
    schemes: &'static [&'static str],
    is_built_in: bool,
}

/// Makes of a list of stores: the kinds of [`AnyStore`], its conversions, and the table of the tests and errors.
macro_rules! stores {
    ($($feature:literal $kind:ident($($path:ident)::+) $schemes:expr;)+) => {
        enum Kind {
            $(#[cfg(feature = $feature)] $kind($($path)::+),)+
        }

        const STORES: &[Entry] = &[$(Entry {
            feature: $feature,
            store: stores!(@last $($path)::+),
            schemes: &$schemes,
            is_built_in: cfg!(feature = $feature),
        },)+];

        $(
            #[cfg(feature = $feature)]
            impl From<$($path)::+> for AnyStore {
                fn from(store: $($path)::+) -> Self {
                    Self(Kind::$kind(store))
                }
            }
        )+

        #[diagnostic::do_not_recommend]
        impl Backing for AnyStore {
            type Access = Listed;
        }

        #[allow(private_interfaces, reason = "nothing outside calls it")]
        impl sealed::Backing for AnyStore {
            #[allow(unused_variables, reason = "a build without a store has no arm")]
            fn open(
                self,
                table: Table,
                bag: &'static str,
                timeout: Duration,
                observers: Arc<Observers>,
            ) -> Opening {
                match self.0 {
                    $(#[cfg(feature = $feature)] Kind::$kind(store) => store.open(table, bag, timeout, observers),)+
                }
            }
        }

        impl fmt::Debug for AnyStore {
            #[allow(unused_variables, reason = "as above")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $(#[cfg(feature = $feature)] Kind::$kind(ref store) => store.fmt(f),)+
                }
            }
        }
    };
    (@last $name:ident) => { stringify!($name) };
    (@last $first:ident :: $($rest:ident)::+) => { stores!(@last $($rest)::+) };
}

stores! {
    "sqlite" Sqlite(crate::store::sqlite::SqliteStore) ["sqlite"];
    "memory" Memory(crate::store::memory::MemoryStore) ["memory"];
    "cookie" Cookie(super::cookie::CookieStore) ["cookie"];
    "redis" Redis(crate::store::redis::RedisStore)
        ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel", "redis+unix", "unix",
         "valkey", "valkeys", "valkey-cluster", "valkeys-cluster", "valkey-sentinel", "valkeys-sentinel", "valkey+unix"];
    "postgres" Postgres(crate::store::servers::postgres::PostgresStore) ["postgres", "postgresql"];
    "mysql" Mysql(crate::store::servers::mysql::MysqlStore) ["mysql", "mariadb"];
}

impl AnyStore {
    /// Opens or connects to what a URL names:
    ///
    /// | URL | store | feature |
    /// | --- | --- | --- |
    /// | `sqlite:sessions.db`, `sqlite:///var/lib/sessions.db`, `sqlite::memory:` | `SqliteStore` | `sqlite` |
    /// | `memory:` | `MemoryStore` | `memory` |
    /// | `cookie:` | `CookieStore` | `cookie` |
    /// | `redis://..`, `rediss://..`, each also with `-cluster` or `-sentinel`; `redis+unix://..`, `unix://..`; the same with `valkey` | `RedisStore` | `redis` |
    /// | `postgres://..`, `postgresql://..` | `PostgresStore` | `postgres` |
    /// | `mysql://..`, `mariadb://..` | `MysqlStore` | `mysql` |
    ///
    /// A server's URL is passed to the store's own `connect`. In the path of a `sqlite:` URL `%20` and the like stand for
    /// the characters with these numbers, and `%25` for `%`; there are no options, such as `?mode=ro`.
    ///
    /// # Errors
    ///
    /// If the URL names no store, or one whose feature is off, and if the store cannot be opened. The error does
    /// not repeat the URL, which may contain a password.
    #[allow(clippy::unused_async, reason = "only servers are waited for")]
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let scheme = url.split(':').next().unwrap_or_default();
        let entry = STORES.iter().find(|entry| entry.schemes.contains(&scheme));
        match entry.map(|entry| entry.feature) {
            #[cfg(feature = "sqlite")]
            Some("sqlite") => open_sqlite(url),
            #[cfg(feature = "memory")]
            Some("memory") if matches!(url, "memory:" | "memory://") => {
                Ok(crate::store::memory::MemoryStore::new().into())
            }
            #[cfg(feature = "cookie")]
            Some("cookie") if matches!(url, "cookie:" | "cookie://") => Ok(super::cookie::CookieStore.into()),
            #[cfg(feature = "redis")]
            Some("redis") => crate::store::redis::RedisStore::connect(url).await.map(Self::from),
            #[cfg(feature = "postgres")]
            Some("postgres") => {
                crate::store::servers::postgres::PostgresStore::connect(url).await.map(Self::from)
            }
            #[cfg(feature = "mysql")]
            Some("mysql") => crate::store::servers::mysql::MysqlStore::connect(url).await.map(Self::from),
            _ => Err(invalid_url(reason(entry))),
        }
    }
}

/// What a program needs that does not know the bag of a table.
#[cfg(feature = "admin")]
impl AnyStore {
    /// Describes a table, and changes nothing.
    #[allow(unused_variables, clippy::unused_async, reason = "a build without a store has no arm")]
    pub(crate) async fn survey(&self, wanted: &Table, deadline: Instant) -> Result<Survey, StoreError> {
        match &self.0 {
            #[cfg(feature = "sqlite")]
            Kind::Sqlite(store) => store.survey(wanted).await,
            #[cfg(feature = "redis")]
            Kind::Redis(store) => store.survey(wanted, deadline).await,
            #[cfg(feature = "postgres")]
            Kind::Postgres(store) => store.survey(wanted).await,
            #[cfg(feature = "mysql")]
            Kind::Mysql(store) => store.survey(wanted).await,
            #[allow(unreachable_patterns, reason = "a build without the other stores has no arm before")]
            _ => Err(StoreError::new(
                "describe its table",
                "the sessions are in no store that others can open",
            )),
        }
    }

    /// Makes it ready for a table. With a bag it notes that the table is the bag's.
    ///
    /// # Errors
    ///
    /// If the table belongs to another bag, which is the inner error, and if the store fails.
    #[allow(unused_variables, clippy::unused_async, reason = "a build without a store has no arm")]
    pub(crate) async fn open_table(
        self,
        table: &Table,
        bag: Option<&str>,
        timeout: Duration,
    ) -> Result<Result<OpenedTable, String>, StoreError> {
        match self.0 {
            #[cfg(feature = "sqlite")]
            Kind::Sqlite(store) => open_table(store, table, bag, timeout).await,
            #[cfg(feature = "redis")]
            Kind::Redis(store) => open_table(store, table, bag, timeout).await,
            #[cfg(feature = "postgres")]
            Kind::Postgres(store) => open_table(store, table, bag, timeout).await,
            #[cfg(feature = "mysql")]
            Kind::Mysql(store) => open_table(store, table, bag, timeout).await,
            #[allow(unreachable_patterns, reason = "a build without the other stores has no arm before")]
            _ => Err(StoreError::new("open its table", "the sessions are in no store that others can open")),
        }
    }
}

/// A store that is ready for a table.
#[cfg(feature = "admin")]
pub(crate) struct OpenedTable {
    pub(crate) store: Arc<dyn DynStore>,
    pub(crate) directory: Arc<dyn DynDirectory>,
}

#[cfg(feature = "admin")]
#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite")),
    expect(dead_code, reason = "for stores outside of this process")
)]
async fn open_table<S: Directory>(
    mut store: S,
    table: &Table,
    bag: Option<&str>,
    timeout: Duration,
) -> Result<Result<OpenedTable, String>, StoreError> {
    match bag {
        Some(bag) => {
            let owner = prepare(&mut store, table, bag, timeout).await?;
            if owner != bag {
                return Ok(Err(owner));
            }
        }
        None => store.prepare(table, timeout).await?,
    }
    let store = Arc::new(store);
    Ok(Ok(OpenedTable { store: store.clone(), directory: store }))
}

#[cfg(feature = "sqlite")]
fn open_sqlite(url: &str) -> Result<AnyStore, StoreError> {
    use crate::store::sqlite::SqliteStore;
    let store = match sqlite_file(url)? {
        Some(path) => SqliteStore::open(path),
        None => SqliteStore::in_memory(),
    };
    store.map(AnyStore::from)
}

/// Reads the file that a URL names; `None` for a database in memory.
#[cfg(feature = "sqlite")]
pub(crate) fn sqlite_file(url: &str) -> Result<Option<String>, StoreError> {
    let path = url.strip_prefix("sqlite:").unwrap_or_default();
    match path.strip_prefix("//").unwrap_or(path) {
        path if path.contains('?') => Err(invalid_url("`sqlite:` takes no options")),
        "" => Err(invalid_url("it names no file: write `sqlite:sessions.db`")),
        ":memory:" => Ok(None),
        path => match percent_decoded(path) {
            Some(path) => Ok(Some(path)),
            None => Err(invalid_url("its `%` escapes are not those of UTF-8 text: write `%25` for a `%`")),
        },
    }
}

/// Replaces `%20` and the like by the characters that they stand for.
#[cfg(feature = "sqlite")]
fn percent_decoded(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut decoded = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (escape, rest) = part.split_at_checked(2)?;
        let is_hex = escape.bytes().all(|byte| byte.is_ascii_hexdigit());
        decoded.push(u8::from_str_radix(escape, 16).ok().filter(|byte| is_hex && *byte != 0)?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(decoded).ok()
}

/// Returns what is wrong with a URL that no store was opened for.
fn reason(entry: Option<&Entry>) -> String {
    match entry {
        Some(Entry { feature, is_built_in: true, .. }) => format!("nothing may follow `{feature}:`"),
        Some(Entry { feature, .. }) => {
            format!("the program was built without the feature `{feature}` of session-runtime")
        }
        None => {
            let schemes: Vec<_> = STORES.iter().flat_map(|entry| entry.schemes).collect();
            let schemes: Vec<_> = schemes.iter().map(|scheme| format!("`{scheme}:`")).collect();
            format!("its scheme is none of {}", schemes.join(", "))
        }
    }
}

fn invalid_url(reason: impl Into<String>) -> StoreError {
    StoreError::new("be chosen by its URL", reason.into())
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
        let path = folder.path().join("the shop's 100% \u{E9}.db");
        AnyStore::connect(&format!("sqlite://{}/the%20shop's 100%25 %c3%A9.db", folder.path().display()))
            .await
            .expect("it opens");
        assert!(path.exists(), "the path is decoded");
        for url in [
            "sqlite:100%.db",
            "sqlite:%2",
            "sqlite:%+1.db",
            "sqlite:%ff.db",
            "sqlite:a%00b",
            "sqlite:%\u{20AC}",
        ] {
            assert!(refusal(url).await.contains("write `%25` for a `%`"), "{url}");
        }
        assert!(refusal("sqlite:").await.contains("names no file"));
        assert!(refusal("sqlite://").await.contains("names no file"));
    }

    /// The places that name every store cannot be made from the list, so they are compared with it.
    #[test]
    fn features_exports_and_the_readme_name_every_store() {
        let manifest = include_str!("../../Cargo.toml");
        let exports = include_str!("../lib.rs");
        let readme = include_str!("../../../README.md");
        let table = include_str!("any.rs");
        for Entry { feature, store, schemes, .. } in STORES {
            let any = manifest.lines().find(|line| line.starts_with("any = [")).expect("a feature");
            assert!(any.contains(&format!("\"{feature}\"")), "`any` turns on `{feature}`");
            assert!(manifest.contains(&format!("\n{feature} = [")), "the feature `{feature}`");
            assert!(exports.contains(store), "lib.rs exports `{store}`");
            assert!(readme.contains(&format!("| `{store}")), "the README names `{store}`");
            assert!(readme.contains(&format!("`{}:", schemes[0])), "the README has a URL of `{store}`");
            assert!(
                table.contains(&format!("| `{store}` | `{feature}` |")),
                "the docs of `AnyStore::connect`"
            );
        }
    }

    #[cfg(feature = "cookie")]
    mod cookie {
        use super::*;
        use crate::{Error, Keyring, Sessions};

        #[derive(crate::Databag)]
        #[databag(table = "in_cookies")]
        struct Shop {
            #[databag(user_id)]
            user_id: Option<i64>,
        }

        #[tokio::test]
        async fn calls_that_need_rows_are_errors_with_cookies() {
            let store = AnyStore::connect("cookie:").await.expect("nothing to connect to");
            let keyring = Keyring::generate();
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
                assert!(matches!(result, Err(Error::Usage(_))), "{call}: {result:?}");
            }
            sessions.health().await.expect("nothing can be down");
        }
    }
}
