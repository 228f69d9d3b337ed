//! Redis and Valkey: one server, a master behind sentinels, or a cluster.
//!
//! Rows and filters enter, rows and outcomes leave. A row is a string of bytes (`fields`), so that one plain command reads it
//! and stops at the limit of the table. Every change of a row is one script
//! (`scripts`), sent over a connection that knows which server owns the key (`link`). A change of the id is a protocol of
//! three steps (`rename`). Rows that were read are kept if the program asks for it (`near_cache`).
//!
//! # Keys
//!
//! ```text
//! databag:{sessions:3f}:3f09..e1    the row of the id 3f09..e1, in the shard of its first byte
//! databag:{sessions:3f}             the ids of that shard, by expiration
//! databag:{sessions:user:i7}        the ids of the user 7, by expiration
//! databag:{sessions:owner}          the bag that the table belongs to
//! databag:{sessions:columns}:email  what the column `email` holds
//! ```
//!
//! The text in braces decides the slot of a cluster, so one script changes a row together with the list of its shard. The
//! set of a user is in another slot. An id is added to it before its row is written, so every row has its entry. An entry
//! without a row is harmless: readers of the set read the rows too, and the entry expires.
//!
//! # Calls that are sent twice
//!
//! A call is sent again after its connection broke or fell silent (`link`), whether the first was executed or not, or will
//! be executed late. So a script that inserts, changes or removes a row leaves the id of its call there, and gives the same
//! reply to the same call. A removed row leaves a mark for a minute. The other calls have the same effect twice:
//! reading, adding an id to the set of a user or removing it, a step of a rename.
//!
//! Other changes may push the id of a change out of its row. So an update that was sent twice, and is then a conflict or
//! finds no row, is an error: it may have been made.

mod failure;
mod fields;
mod limited;
mod link;
mod lists;
mod near_cache;
mod rename;
mod rows;
mod scripts;
mod server;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::ConnectionManager;
use redis::cluster_async::ClusterConnection;
use tokio::time::timeout;

use self::failure::Failure;
use self::link::{Connection, Link};
use self::near_cache::NearCache;
use self::rows::Rows;
use self::server::check_server;
use self::url::START_UP_TIMEOUT;
use super::{
    Directory, Filter, LimitedWrite, Outcome, Page, Row, RowVersions, Store, StoreError, Table, Update,
};
use crate::clock::Timestamp;
use crate::token::SessionId;

/// Sessions in Redis 6.2, Valkey 7.2, or later.
///
/// Any number of processes can share a server. Cloning is cheap, and the clones share their connections. A store is used
/// within a Tokio runtime, such as that of actix-web.
///
/// The server removes a session by itself, five minutes after it has expired: the clocks of the server and of the program
/// must not differ by more.
///
/// # Connections
///
/// Each runtime that uses a store of [`connect`](Self::connect) has a connection of its own, which it serves itself: each
/// worker of actix-web, and the runtime that connected. So a worker that a handler blocks delays no call of another.
///
/// A connection that was closed while it was idle costs no call, and neither does one that falls silent. A call without an
/// answer for half of its time, and at least 200 ms, is sent again over another connection; so is a call that a replica has
/// refused. Each call has the same result if the server executes it twice, unless other calls have followed the first: an
/// update is an error then. While the server is away, calls fail by their deadline, and succeed again when it is back.
///
/// # Durability
///
/// The server's settings decide what an acknowledged write survives: see its `appendonly` and `appendfsync`, and
/// [`min_replicas`](Self::min_replicas). Its `maxmemory-policy` should be `noeviction`; with a memory limit and another
/// policy the store logs a warning. An evicted session logs its visitor out. If the index of a user's sessions is evicted,
/// the sessions live on, but listing, limiting and revoking that user's sessions miss them until their expiry is extended.
///
/// # Access
///
/// The user in the URL needs these keys and commands:
///
/// ```text
/// ACL SETUSER databag on >secret ~databag:* +eval +evalsha +del +get +getrange +pexpireat +pttl +set +setrange
///     +type +zadd +zcount +zrange +zrangebyscore +zrem +zscan +zscore
/// ```
///
/// | with | also |
/// | --- | --- |
/// | a cluster | `+ping +cluster\|slots`, and `+asking` while slots move to another node |
/// | sentinels | `+role` |
/// | [`min_replicas`](Self::min_replicas) | `+wait` |
/// | a database other than 0 in the URL | `+select` |
/// | [`near_cache`](Self::near_cache) | `+client\|tracking +client\|caching` |
///
/// With `+info` the store also checks the server's version and eviction policy; without it a warning says that it cannot.
///
/// # Limits of a user
///
/// A log-in with `max_per_user`, and [`Session::rotate_and_end_others`](crate::Session::rotate_and_end_others), is one step on
/// one server and behind sentinels: a script that reaches all rows of the user. It names its keys itself, so a server that is
/// in fact a cluster, or a proxy in front of one, needs the URL of a cluster.
///
/// The server does nothing else while the script runs. So the script looks at 1,000 sessions at most besides those that stay. If
/// the user has more, those that expired long ago leave the index first, and then the oldest surplus ones end, a few at a
/// time, and it is several steps: a call that fails, or whose deadline passes, may have ended some of them and written
/// nothing, and the next one continues. `max_per_user` keeps users below that number.
///
/// In a cluster the sessions of a user are in different slots, and it is several steps. The surplus sessions end first, and the new
/// one begins then. So a user never has more usable sessions than allowed, and the newcomer stays until a later log-in ends it. But a
/// log-in that fails, or a program that crashes between the steps, may have ended surplus sessions and begun none.
///
/// # Queries
///
/// An index finds the sessions of a user. Every other query except the number of all live sessions reads all rows of the
/// table, a few shards at a time: such queries are for an operator's tasks, not for requests.
///
/// Removing many rows is not one step: each row is removed in a step of its own, a few at a time. If the deadline passes
/// first, the call is an error and the rows removed so far stay removed; a retry continues. A session whose id changes
/// meanwhile is found under its new id.
///
/// # Examples
///
/// ```no_run
/// use session_runtime::RedisStore;
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::connect("rediss://:secret@cache.example/0").await?;
/// let cluster = RedisStore::connect("redis-cluster://10.0.0.1:6379,10.0.0.2:6379").await?;
/// let watched = RedisStore::connect("redis-sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    link: Link,
    near_cache: Option<Arc<NearCache>>,
    min_replicas: u32,
    table: Option<Prepared>,
}

/// A table that is ready.
#[derive(Clone)]
struct Prepared {
    table: Arc<Table>,
    /// The start of every key: up to the name of the table.
    prefix: Arc<str>,
}

impl RedisStore {
    /// Connects by a URL:
    ///
    /// | to | URL |
    /// | --- | --- |
    /// | a server | `redis://user:password@host:port/database` |
    /// | a cluster | `redis-cluster://user:password@host:port,host:port`, some of its nodes |
    /// | the master that sentinels name | `redis-sentinel://user:password@host:port,host:port/master` |
    /// | a server at a Unix socket | `redis+unix:///path` or `unix:///path`, `?user=user&pass=password&db=database` |
    ///
    /// `valkey` and `valkeys` may stand for `redis` and `rediss`.
    ///
    /// `?protocol=resp3` chooses the protocol. The user and password before the hosts are for the servers; those for
    /// sentinels are `?sentinel-user=..&sentinel-password=..`.
    ///
    /// # TLS
    ///
    /// With `rediss`, `rediss-cluster` and `rediss-sentinel` the connection uses TLS. The server must prove by a certificate
    /// under one of Mozilla's roots that it is the one that the URL, the cluster or the sentinels name. Clusters and
    /// sentinels name servers by address, unless they are configured to announce host names: the certificates must be for
    /// those names.
    ///
    /// | parameter | a PEM file with |
    /// | --- | --- |
    /// | `?tls-ca-cert-file=ca.pem` | the trusted roots, instead of Mozilla's |
    /// | `&tls-cert-file=shop.pem` | the certificate of the client; servers ask for one unless configured otherwise |
    /// | `&tls-key-file=shop.key` | its key |
    ///
    /// The files are read once. With `redis` nothing is encrypted, the password included: everyone on the network path
    /// reads users, addresses and columns. Sealed rows stay unreadable, and tokens are never sent.
    ///
    /// # Errors
    ///
    /// If the URL is none of these, or the server does not answer, cannot prove its name, or is too old.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        const OPERATION: &str = "connect to Redis";
        match timeout(START_UP_TIMEOUT, Link::open(url)).await {
            Ok(Ok(link)) => Self::new(link).await.map_err(|failure| StoreError::new(OPERATION, failure)),
            Ok(Err(error)) => Err(StoreError::new(OPERATION, error)),
            Err(_) => Err(StoreError::deadline(OPERATION)),
        }
    }

    /// Checks a URL without connecting.
    #[cfg(all(feature = "testing", feature = "any"))]
    pub(crate) fn check_url(url: &str) -> Result<(), StoreError> {
        url::parse(url).map(drop).map_err(|error| StoreError::new("read a URL", error))
    }

    /// Reads what is stored under an id; `None` if it is no row.
    #[cfg(all(feature = "testing", feature = "any"))]
    pub(crate) fn read_row(table: &Table, id: SessionId, bytes: &[u8]) -> Option<Row> {
        match fields::read(table, id, bytes) {
            fields::Stored::Row(row) | fields::Stored::Pending(_, row) => Some(row),
            fields::Stored::Nothing | fields::Stored::Moved(..) => None,
        }
    }

    /// Returns what is stored of a row.
    #[cfg(all(feature = "testing", feature = "any"))]
    pub(crate) fn write_row(table: &Table, row: &Row) -> Option<Vec<u8>> {
        fields::write(table, row, [0; 12], None, &fields::Kept::default()).ok()
    }

    /// Takes a connection to one server.
    ///
    /// It reconnects by its own rules, after an error of the connection; a call that met this error is sent once more. It
    /// keeps a connection that falls silent until the operating system closes it: set `TcpSettings::set_user_timeout` or
    /// a keepalive. If its server becomes a replica and keeps the connection, writes fail until the connection is closed.
    /// A store of [`connect`](Self::connect) replaces its connection in all these cases.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or is too old.
    ///
    /// # Examples
    ///
    /// Roots from memory:
    ///
    /// ```no_run
    /// use redis::{Client, TlsCertificates, aio::ConnectionManager};
    /// use session_runtime::RedisStore;
    ///
    /// # async fn connect(pem: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    /// let certificates = TlsCertificates { root_cert: Some(pem), client_tls: None };
    /// let client = Client::build_with_tls("rediss://:secret@cache.example", certificates)?;
    /// let store = RedisStore::from_manager(ConnectionManager::new(client).await?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_manager(connection: ConnectionManager) -> Result<Self, StoreError> {
        let store = Self::new(Link::Given(Connection::Managed(connection))).await;
        store.map_err(|failure| StoreError::new("use the connection", failure))
    }

    /// Takes a connection to a cluster. It must not read from replicas: their data is older.
    ///
    /// It reconnects by its own rules, and keeps a connection to a node that falls silent until the operating system closes
    /// it. A store of [`connect`](Self::connect) replaces it.
    ///
    /// # Errors
    ///
    /// If the cluster does not answer, or is too old.
    pub async fn from_cluster(connection: ClusterConnection) -> Result<Self, StoreError> {
        let store = Self::new(Link::Given(Connection::Cluster(connection))).await;
        store.map_err(|failure| StoreError::new("use the connection", failure))
    }

    /// Describes a table, and changes nothing. There is no list of its columns, so all rows are read.
    #[cfg(feature = "admin")]
    pub(crate) async fn survey(
        &self,
        wanted: &Table,
        deadline: Instant,
    ) -> Result<super::Survey, StoreError> {
        let mut store = self.clone();
        store.prepare(wanted, Duration::ZERO).await?;
        store.within("describe its table", deadline, async |rows| rows.survey(wanted).await).await
    }

    async fn new(link: Link) -> Result<Self, Failure> {
        match timeout(START_UP_TIMEOUT, check_server(&link)).await {
            Ok(checked) => checked?,
            Err(_) => return Err(Failure::Deadline),
        }
        Ok(Self { link, near_cache: None, min_replicas: 0, table: None })
    }

    /// Requires that so many replicas acknowledge each write (`WAIT`), for this handle and clones made from it. The default
    /// is none: a lost master loses the writes that it has not sent to a replica.
    ///
    /// In a cluster the master that was written to needs so many. A write waits for them for less than half of its time.
    /// With fewer acknowledgements it is an error, although it was made. Other calls on the connection wait meanwhile.
    pub fn min_replicas(mut self, replicas: u32) -> Self {
        self.min_replicas = replicas;
        self
    }

    /// Keeps rows that requests have read in this process, for this handle and clones made from it. The default is none.
    ///
    /// The first load of a request takes a row that is kept, and makes no trip to the server. All else asks the server: a
    /// read after a conflict, [`Session::reload`](crate::Session::reload), and all calls of [`Sessions`](crate::Sessions).
    /// Every write compares the revision on the server, so a row that is old loses no update.
    ///
    /// # Staleness
    ///
    /// What this process writes over this handle and its clones, on any runtime, its next request sees. What another process writes is seen as soon as the
    /// server's message arrives (`CLIENT TRACKING`), usually within a millisecond. The message can be lost or late: the
    /// connection can be silent, or its thread blocked. So no row is used for longer than `max_age` after it was asked for,
    /// by the monotonic clock of the system. A few seconds are enough: each session is then read every few seconds at most.
    /// The rows of a connection that has ended are not used.
    ///
    /// **A session that another process has ended or revoked can still be read for that long**, and so can a value that it
    /// has changed. A write to the session is refused all the same. Without a near cache none of this can happen.
    ///
    /// # Limits
    ///
    /// At most 32,768 rows and about 16 MiB are kept, as they are stored: sealed. The server keeps the names of the keys, for
    /// each connection: see its `tracking-table-max-keys`.
    ///
    /// A store that `connect` has made for a server or for sentinels can have a near cache; its connections use RESP3. With
    /// a cluster, and with a connection that the program has made, `build` fails: they are replaced without notice, and
    /// messages would be missed unnoticed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use session_runtime::RedisStore;
    ///
    /// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = RedisStore::connect("redis://cache.example").await?.near_cache(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn near_cache(mut self, max_age: Duration) -> Self {
        let near_cache = Arc::new(NearCache::new(max_age));
        if let Some(link) = self.link.with_near_cache(&near_cache) {
            self.link = link;
        }
        self.near_cache = Some(near_cache);
        self
    }

    /// Runs a call. Each trip to the server ends at the deadline.
    async fn within<'a, T, F: Future<Output = Result<T, Failure>>>(
        &'a self,
        operation: &'static str,
        deadline: Instant,
        call: impl FnOnce(Rows<'a>) -> F,
    ) -> Result<T, StoreError> {
        let prepared = self.table.as_ref();
        let prepared = prepared.ok_or_else(|| StoreError::new(operation, Failure::NotPrepared))?;
        let Prepared { table, prefix } = prepared;
        let (link, near_cache, min_replicas) = (&self.link, self.near_cache.as_deref(), self.min_replicas);
        call(Rows { link, near_cache, table, prefix, min_replicas, deadline })
            .await
            .map_err(|failure| failure.into_error(operation))
    }
}

impl Store for RedisStore {
    async fn prepare(&mut self, table: &Table, _: Duration) -> Result<(), StoreError> {
        if self.near_cache.is_some() {
            const OPERATION: &str = "start its near cache";
            let connected = timeout(START_UP_TIMEOUT, self.link.connect_near_cache()).await;
            let connected = connected.unwrap_or(Err(Failure::Deadline));
            connected.map_err(|failure| failure.into_error(OPERATION))?;
        }
        // A brace in the name would end the text that decides the slot.
        let name = table.name.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        let prefix = format!("databag:{{{name}:").into();
        self.table = Some(Prepared { table: Arc::new(table.clone()), prefix });
        Ok(())
    }

    async fn claim(&self, table: &Table, bag: &str, deadline: Instant) -> Result<String, StoreError> {
        let mut store = self.clone();
        store.prepare(table, Duration::ZERO).await?;
        let owner = store.within("note the bag of its table", deadline, async |rows| rows.claim(bag).await);
        let owner = owner.await?;
        if owner == bag {
            let operation = "note the columns of its table";
            store.within(operation, deadline, async |rows| rows.note_columns().await).await?;
        }
        Ok(owner)
    }

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.within("load a row", deadline, async |rows| rows.load(id).await).await
    }

    async fn load_cached(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.within("load a row", deadline, async |rows| rows.load_cached(id).await).await
    }

    async fn load_versions(&self, ids: &[SessionId], deadline: Instant) -> Result<RowVersions, StoreError> {
        self.within("load rows", deadline, async |rows| Ok(rows.load_versions(ids).await)).await
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        self.within("insert a row", deadline, async |rows| rows.insert(&row).await).await
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        self.within("update a row", deadline, async |rows| {
            if update.id == update.row.id { rows.update(&update).await } else { rows.rename(&update).await }
        })
        .await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        self.within("delete a row", deadline, async |rows| rows.delete(id).await).await
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        self.within("remove expired rows", deadline, async |rows| rows.prune(now, limit).await).await
    }

    async fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        let operation = "limit the sessions of a user";
        self.within(operation, deadline, async |rows| rows.write_limited(&write).await).await
    }
}

#[diagnostic::do_not_recommend]
impl Directory for RedisStore {
    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        self.within("list rows", deadline, async |rows| rows.find(filter, page).await).await
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        self.within("count rows", deadline, async |rows| rows.count(filter).await).await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        self.within("delete rows", deadline, async |rows| rows.remove(filter).await).await
    }

    async fn health(&self, deadline: Instant) -> Result<(), StoreError> {
        self.within("answer a health check", deadline, async |rows| rows.probe().await).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("link", &self.link)
            .field("near_cache", &self.near_cache.as_deref().map(NearCache::max_age))
            .field("min_replicas", &self.min_replicas)
            .finish_non_exhaustive()
    }
}
