//! Redis and Valkey: one server, a master behind sentinels, or a cluster.
//!
//! Rows and filters enter, rows and outcomes leave. A row is a hash (`fields`), every change of it is one
//! script (`scripts`), sent over a connection that knows where its key lives (`link`).
//!
//! # Keys
//!
//! ```text
//! databag:{sessions:3f}:3f09..e1    the row of the id 3f09..e1, in the shard of its first byte
//! databag:{sessions:3f}             the ids of that shard, by expiration
//! databag:{sessions:user:i7}        the ids of the user 7, by expiration
//! ```
//!
//! What stands in braces decides the slot of a cluster, so that a row and the list of its shard are changed
//! together, by one script. A user's set lies elsewhere. An id is added to it before the row says so, and so a
//! row is never without its entry; an entry without its row is harmless, for whoever reads the set looks at the
//! rows, and goes when its time is over.
//!
//! # Changing an id
//!
//! The old id and the new one are mostly in different slots, and no script reaches both. So there are steps, and
//! the second decides:
//!
//! ```text
//!                                          old id          new id
//! 1  insert the new row, marked `from:old` usable          not usable
//! 2  replace the old row by a mark `to:new` gone           usable
//! 3  take the mark from the new row        gone            usable
//! ```
//!
//! The id that is new belongs to one caller alone, so a step can be made again, as a client of a cluster does when its
//! connection breaks under it. Whoever meets a row marked `from:old` looks at the old id: where that says `to:new` the row is taken at its
//! word, and step 3 made up for; otherwise there is no such row yet. So after a crash between any two steps
//! exactly one of the two ids can be used. Marks expire with their rows.

mod fields;
mod link;
mod scripts;
mod tls;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::ConnectionManager;
use redis::cluster_async::ClusterConnection;
use redis::{FromRedisValue as _, RedisError, Script};
use tokio::time::{Instant, timeout, timeout_at};

use self::fields::{Fields, encode};
use self::link::{Call, Link};
use super::filter::matches;
use super::{
    ColumnRef, Comparison, Directory, Filter, Outcome, Page, Row, Scope, Store, StoreError, Table, Update,
};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::Value;

/// How long start-up waits for a server to answer.
const START_UP_PATIENCE: Duration = Duration::from_secs(10);

/// How long a row outlives its expiration: the server's clock may be ahead of ours.
const SLACK: Duration = Duration::from_mins(5);

/// How many calls one listing makes at a time.
const AT_ONCE: usize = 32;

/// Into how many shards the rows of a table are divided, by the first byte of their ids.
const SHARDS: usize = 256;

/// Sessions in Redis 6.2, Valkey 7.2, or later.
///
/// Any number of processes can share a server. Cloning is cheap, and the clones share their connection. A store
/// is used within a Tokio runtime, such as that of actix-web.
///
/// A session expires in the server by itself, five minutes after its time: the clocks of the server and of the
/// program must agree to that. While the server is away calls fail, at the deadline of their sessions at the
/// latest, and succeed again when it is back.
///
/// What an acknowledged write survives is the server's matter: see its `appendonly` and `appendfsync`, and
/// [`min_replicas`](Self::min_replicas). Its `maxmemory-policy` should be `noeviction`; the store warns of any
/// other where there is a limit, since an evicted session is a visitor logged out.
///
/// # What can be asked for
///
/// The sessions of a user are found by an index of their own. Every other question but how many live reads all
/// rows of the table, a shard at a time: meant for tasks of an operator, not for requests. Removing many rows
/// removes them one by one; each is removed whole or not at all.
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
    min_replicas: u32,
    table: Option<Prepared>,
}

/// A table that is ready, as a handle uses it.
#[derive(Clone)]
struct Prepared {
    table: Arc<Table>,
    /// Begins every key, up to the name of the table.
    prefix: Arc<str>,
    deadline: Duration,
}

impl RedisStore {
    /// Connects by a URL:
    ///
    /// | to | URL |
    /// | --- | --- |
    /// | a server | `redis://user:password@host:port/database` |
    /// | a cluster | `redis-cluster://user:password@host:port,host:port`, some of its nodes |
    /// | the master that sentinels name | `redis-sentinel://user:password@host:port,host:port/master` |
    ///
    /// `?protocol=resp3` chooses the protocol.
    ///
    /// # TLS
    ///
    /// With `rediss`, `rediss-cluster` and `rediss-sentinel` the connection is TLS, and the server has to be the
    /// one that the URL, the cluster or the sentinels name, by a certificate that Mozilla's roots vouch for.
    /// Clusters and sentinels name servers by address unless they are told to announce host names: certificates
    /// must be for what they name.
    ///
    /// | parameter | names a file in PEM that holds |
    /// | --- | --- |
    /// | `?tls-ca-cert-file=ca.pem` | the roots that vouch for the server, instead of Mozilla's |
    /// | `&tls-cert-file=shop.pem` | the certificate that the client shows; servers ask for one unless told not to |
    /// | `&tls-key-file=shop.key` | its key |
    ///
    /// The files are read once. With `redis` nothing is encrypted, the password included: who is on the way reads
    /// users, addresses and columns; rows that are sealed stay unreadable, and tokens are never sent.
    ///
    /// # Errors
    ///
    /// If the URL is none of these, the server does not answer, is not the one it should be, or is too old.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        const OPERATION: &str = "connect to Redis";
        match timeout(START_UP_PATIENCE, Link::open(url)).await {
            Ok(Ok(link)) => Self::new(link).await.map_err(|failure| StoreError::new(OPERATION, failure)),
            Ok(Err(error)) => Err(StoreError::new(OPERATION, error)),
            Err(_) => Err(StoreError::deadline(OPERATION)),
        }
    }

    /// Takes a connection to one server that is there already.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or is too old.
    ///
    /// # Examples
    ///
    /// Roots that are no file:
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
        let store = Self::new(Link::Single(connection)).await;
        store.map_err(|failure| StoreError::new("take over the connection", failure))
    }

    /// Takes a connection to a cluster that is there already. It must not read from replicas: they lag behind.
    ///
    /// # Errors
    ///
    /// If the cluster does not answer, or is too old.
    pub async fn from_cluster(connection: ClusterConnection) -> Result<Self, StoreError> {
        let store = Self::new(Link::Cluster(connection)).await;
        store.map_err(|failure| StoreError::new("take over the connection", failure))
    }

    async fn new(link: Link) -> Result<Self, Failure> {
        match timeout(START_UP_PATIENCE, check_server(&link)).await {
            Ok(checked) => checked?,
            Err(_) => return Err(Failure::Deadline),
        }
        Ok(Self { link, min_replicas: 0, table: None })
    }

    /// Lets a write succeed only when so many replicas have it (`WAIT`), for this handle and clones made from it.
    /// The default is none: what the master had not sent on when it was lost is lost.
    ///
    /// In a cluster every master must have so many. A write that too few acknowledged is an error, though it was
    /// made; other calls on the connection wait meanwhile.
    pub fn min_replicas(mut self, replicas: u32) -> Self {
        self.min_replicas = replicas;
        self
    }

    /// Runs a call within the deadline.
    async fn within<'a, T, F: Future<Output = Result<T, Failure>>>(
        &'a self,
        operation: &'static str,
        call: impl FnOnce(Rows<'a>) -> F,
    ) -> Result<T, StoreError> {
        let prepared = self.table.as_ref();
        let prepared = prepared.ok_or_else(|| StoreError::new(operation, Failure::NotPrepared))?;
        let deadline = Instant::now() + prepared.deadline;
        let rows = Rows { link: &self.link, prepared, min_replicas: self.min_replicas, deadline };
        match timeout_at(deadline, call(rows)).await {
            Ok(result) => result.map_err(|failure| StoreError::new(operation, failure)),
            Err(_) => Err(StoreError::deadline(operation)),
        }
    }
}

impl Store for RedisStore {
    async fn prepare(&mut self, table: &Table, deadline: Duration) -> Result<(), StoreError> {
        // Braces would move the end of what decides the slot.
        let name = table.name.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        let prefix = format!("databag:{{{name}:").into();
        self.table = Some(Prepared { table: Arc::new(table.clone()), prefix, deadline });
        Ok(())
    }

    async fn load(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        self.within("load a row", async |rows| rows.load(id).await).await
    }

    async fn insert(&self, row: Row) -> Result<(), StoreError> {
        self.within("insert a row", async |rows| rows.insert(&row).await).await
    }

    async fn update(&self, update: Update) -> Result<Outcome, StoreError> {
        self.within("update a row", async |rows| {
            if update.id == update.row.id { rows.update(&update).await } else { rows.rename(&update).await }
        })
        .await
    }

    async fn delete(&self, id: SessionId) -> Result<bool, StoreError> {
        self.within("delete a row", async |rows| rows.delete(id).await).await
    }

    async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.within("prune expired rows", async |rows| rows.prune(now, limit).await).await
    }

    async fn trim(&self, user: &Value, keep: u32, now: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        self.within("trim the sessions of a user", async |rows| rows.trim(user, keep, now).await).await
    }
}

#[diagnostic::do_not_recommend]
impl Directory for RedisStore {
    async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, StoreError> {
        self.within("find rows", async |rows| rows.find(filter, page).await).await
    }

    async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        self.within("count rows", async |rows| rows.count(filter).await).await
    }

    async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        self.within("remove rows", async |rows| rows.remove(filter).await).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.within("pass its health check", async |rows| rows.probe().await).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("link", &self.link)
            .field("min_replicas", &self.min_replicas)
            .finish_non_exhaustive()
    }
}

/// One call: the rows of a table, until a deadline.
#[derive(Clone, Copy)]
struct Rows<'a> {
    link: &'a Link,
    prepared: &'a Prepared,
    min_replicas: u32,
    deadline: Instant,
}

/// What a script answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Stored,
    Conflict,
    Gone,
    Taken,
    /// The row was given to another id.
    To(SessionId),
    /// The row is on its way from another id.
    From(SessionId),
}

/// What was found under an id.
enum Found {
    Nothing,
    Row(Row),
    /// On its way from another id.
    Pending(SessionId, Row),
}

impl Rows<'_> {
    fn table(&self) -> &Table {
        &self.prepared.table
    }

    fn list(&self, shard: u8) -> String {
        format!("{}{shard:02x}}}", self.prepared.prefix)
    }

    fn keys(&self, id: SessionId) -> [String; 2] {
        let list = self.list(id.as_bytes()[0]);
        [format!("{list}:{id}"), list]
    }

    /// The key of a user's set. A value can hold any byte, so it is written in digits where it is not plain.
    fn user_key(&self, user: &Value) -> String {
        let user = encode(user);
        let is_plain = user.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(byte));
        let user = match str::from_utf8(&user) {
            Ok(text) if is_plain => text.to_owned(),
            _ => format!("x{}", crate::token::Hex(&user)),
        };
        format!("{}user:{user}}}", self.prepared.prefix)
    }

    async fn run(&self, script: &Script, call: Call) -> Result<Answer, Failure> {
        let word = self.link.run(script, &call).await?;
        let id = |hex: &[u8]| str::from_utf8(hex).ok().and_then(|hex| hex.parse().ok());
        Ok(match word.as_slice() {
            b"stored" => Answer::Stored,
            b"conflict" => Answer::Conflict,
            b"gone" => Answer::Gone,
            b"taken" => Answer::Taken,
            mark => {
                let to = mark.strip_prefix(TO.as_bytes()).and_then(id).map(Answer::To);
                let from = mark.strip_prefix(FROM.as_bytes()).and_then(id).map(Answer::From);
                to.or(from).ok_or_else(|| Failure::malformed(MARK, "a mark"))?
            }
        })
    }

    /// Waits until enough replicas have what was written.
    async fn acknowledged(&self) -> Result<(), Failure> {
        if self.min_replicas == 0 {
            return Ok(());
        }
        // A tenth of what is left is for the way of the answer, which says more than that time is up.
        let patience = self.deadline.saturating_duration_since(Instant::now()) * 9 / 10;
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
        let reached: u32 = self.link.ask(redis::cmd("WAIT").arg(self.min_replicas).arg(millis)).await?;
        if reached >= self.min_replicas {
            Ok(())
        } else {
            Err(Failure::TooFewReplicas { reached, needed: self.min_replicas })
        }
    }

    async fn load(&self, id: SessionId) -> Result<Option<Row>, Failure> {
        match self.look(id).await? {
            Found::Nothing => Ok(None),
            Found::Row(row) => Ok(Some(row)),
            Found::Pending(from, row) => {
                if self.has_arrived(from, id).await? {
                    return Ok(Some(row));
                }
                // The mark may have been taken away since.
                Ok(match self.look(id).await? {
                    Found::Row(row) => Some(row),
                    Found::Nothing | Found::Pending(..) => None,
                })
            }
        }
    }

    async fn look(&self, id: SessionId) -> Result<Found, Failure> {
        let [key, _] = self.keys(id);
        let mut fields: HashMap<Vec<u8>, Vec<u8>> = self.link.ask(redis::cmd("HGETALL").arg(key)).await?;
        if fields.is_empty() {
            return Ok(Found::Nothing);
        }
        let Some(mark) = fields.remove(MARK.as_bytes()) else {
            return Ok(Found::Row(fields::row(self.table(), id, fields)?));
        };
        let from = str::from_utf8(&mark).ok().and_then(|mark| mark.strip_prefix(FROM)?.parse().ok());
        match from {
            Some(from) => Ok(Found::Pending(from, fields::row(self.table(), id, fields)?)),
            None => Ok(Found::Nothing),
        }
    }

    /// Whether a row that is on its way has arrived: the old id was given up for it. If so, its mark is taken.
    async fn has_arrived(&self, from: SessionId, id: SessionId) -> Result<bool, Failure> {
        let [old, _] = self.keys(from);
        let mark: Option<String> = self.link.ask(redis::cmd("HGET").arg(&old).arg(MARK)).await?;
        if mark != Some(format!("{TO}{id}")) {
            return Ok(false);
        }
        self.settle(from, id).await?;
        Ok(true)
    }

    /// Takes the mark from the new row, and then, when nobody needs it any more, from the old one.
    async fn settle(&self, from: SessionId, id: SessionId) -> Result<(), Failure> {
        let [new, _] = self.keys(id);
        self.run(&scripts::SETTLE, Call::new([new]).value(format!("{FROM}{from}"))).await?;
        let call = Call::new(self.keys(from)).value(from.to_string()).value(format!("{TO}{id}"));
        self.run(&scripts::WITHDRAW, call).await?;
        Ok(())
    }

    async fn insert(&self, row: &Row) -> Result<(), Failure> {
        self.list_user(row).await?;
        self.add(row, None).await?;
        self.acknowledged().await
    }

    /// Adds a row, marked as on its way from another id if it is.
    async fn add(&self, row: &Row, from: Option<SessionId>) -> Result<(), Failure> {
        let mut call = Call::new(self.keys(row.id))
            .value(row.id.to_string())
            .value(row.expiration.as_millis().to_string())
            .value(end(row.expiration));
        for (name, value) in Fields::of(self.table(), row)?.present {
            call = call.value(name).value(value);
        }
        if let Some(from) = from {
            call = call.value(MARK).value(format!("{FROM}{from}"));
        }
        match self.run(&scripts::INSERT, call).await? {
            Answer::Stored => Ok(()),
            _ => Err(Failure::Taken),
        }
    }

    /// Adds the row's id to the set of its user: always before the row is written.
    async fn list_user(&self, row: &Row) -> Result<(), Failure> {
        let Some(user) = row.user.as_ref().filter(|_| self.table().user.is_some()) else { return Ok(()) };
        let call = Call::new([self.user_key(user)])
            .value(row.id.to_string())
            .value(row.expiration.as_millis().to_string())
            .value(SLACK.as_millis().to_string());
        self.run(&scripts::INDEX, call).await?;
        Ok(())
    }

    async fn unlist_user(&self, user: Option<&Value>, id: SessionId) -> Result<(), Failure> {
        if let Some(user) = user {
            let _: u64 =
                self.link.ask(redis::cmd("ZREM").arg(self.user_key(user)).arg(id.to_string())).await?;
        }
        Ok(())
    }

    async fn update(&self, update: &Update) -> Result<Outcome, Failure> {
        if update.scope != Scope::State {
            self.list_user(&update.row).await?;
        }
        loop {
            match self.run(&scripts::UPDATE, self.update_call(update)?).await? {
                Answer::Stored => {
                    self.acknowledged().await?;
                    return Ok(Outcome::Stored);
                }
                Answer::Conflict => return Ok(Outcome::Conflict),
                Answer::From(from) if self.has_arrived(from, update.id).await? => {}
                Answer::From(_) | Answer::Gone | Answer::To(_) | Answer::Taken => return Ok(Outcome::Gone),
            }
        }
    }

    fn update_call(&self, update: &Update) -> Result<Call, Failure> {
        let Update { id, expected, scope, row } = update;
        let table = self.table();
        let mut fields = Fields::of(table, row)?;
        let keeps = |name: &str| match scope {
            Scope::State => name == table.state || name == table.revision,
            Scope::Expiration => name == table.state || name == table.revision || name == table.expiration,
            Scope::Row => true,
        };
        fields.present.retain(|(name, _)| keeps(name));
        fields.absent.retain(|name| keeps(name));
        let expiration = match scope {
            Scope::State => String::new(),
            Scope::Expiration | Scope::Row => row.expiration.as_millis().to_string(),
        };
        let mut call = Call::new(self.keys(*id))
            .value(id.to_string())
            .value(table.revision.as_str())
            .value(expected.to_string())
            .value(expiration)
            .value(end(row.expiration))
            .value(CALL)
            .value(call_number()?)
            .value(fields.absent.len().to_string());
        for name in fields.absent {
            call = call.value(name);
        }
        for (name, value) in fields.present {
            call = call.value(name).value(value);
        }
        Ok(call)
    }

    /// Changes the id of a row, in the steps that the module describes.
    async fn rename(&self, update: &Update) -> Result<Outcome, Failure> {
        let Update { id: old, row, .. } = update;
        // Most that come too late are found out before anything is written.
        let before = match self.load(*old).await? {
            None => return Ok(Outcome::Gone),
            Some(before) if before.revision != update.expected => return Ok(Outcome::Conflict),
            Some(before) => before,
        };
        self.list_user(row).await?;
        self.add(row, Some(*old)).await?;
        let give = Call::new(self.keys(*old))
            .value(old.to_string())
            .value(self.table().revision.as_str())
            .value(update.expected.to_string())
            .value(format!("{TO}{}", row.id))
            .value(end(row.expiration));
        let outcome = match self.run(&scripts::GIVE, give).await? {
            // Given away to this id by this very call, which was sent again when its connection broke.
            Answer::To(to) if to == row.id => Outcome::Stored,
            Answer::Stored => Outcome::Stored,
            Answer::Conflict => Outcome::Conflict,
            _ => Outcome::Gone,
        };
        if outcome == Outcome::Stored {
            self.settle(*old, row.id).await?;
            self.unlist_user(before.user.as_ref(), *old).await?;
            self.acknowledged().await?;
        } else {
            let call = Call::new(self.keys(row.id)).value(row.id.to_string()).value(format!("{FROM}{old}"));
            self.run(&scripts::WITHDRAW, call).await?;
            self.unlist_user(row.user.as_ref(), row.id).await?;
        }
        Ok(outcome)
    }

    async fn delete(&self, id: SessionId) -> Result<bool, Failure> {
        let user = match &self.table().user {
            Some(user) => {
                let [key, _] = self.keys(id);
                self.link.ask::<Option<Vec<u8>>>(redis::cmd("HGET").arg(key).arg(&user.name)).await?
            }
            None => None,
        };
        loop {
            match self.run(&scripts::DELETE, Call::new(self.keys(id)).value(id.to_string())).await? {
                Answer::Stored => break,
                Answer::From(from) if self.has_arrived(from, id).await? => {}
                _ => return Ok(false),
            }
        }
        let user = user.and_then(|user| fields::decode(&user));
        self.unlist_user(user.as_ref(), id).await?;
        self.acknowledged().await?;
        Ok(true)
    }

    async fn prune(&self, now: Timestamp, limit: u32) -> Result<u64, Failure> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let range = ["-inf".to_owned(), now.as_millis().to_string()];
        let mut pruned = 0;
        for shards in shards().chunks(AT_ONCE) {
            let expired = self.members(shards, &range, limit - pruned).await?;
            let expired: Vec<_> = expired.into_iter().take(limit - pruned).collect();
            for ids in expired.chunks(AT_ONCE) {
                let prune = ids.iter().map(|id| {
                    let call = Call::new(self.keys(*id)).value(id.to_string()).value(&*range[1]);
                    self.run(&scripts::PRUNE, call)
                });
                for answer in join_all(prune).await {
                    pruned += usize::from(answer? == Answer::Stored);
                }
            }
            if pruned >= limit {
                break;
            }
        }
        Ok(pruned as u64)
    }

    async fn trim(&self, user: &Value, keep: u32, now: Timestamp) -> Result<Vec<SessionId>, Failure> {
        let mut live = self.of_user(user).await?;
        live.retain(|row| row.expiration > now);
        live.sort_unstable_by_key(|row| std::cmp::Reverse((row.created, row.id)));
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        self.delete_all(live.into_iter().skip(keep).map(|row| row.id)).await
    }

    async fn find(&self, filter: &Filter, page: Page) -> Result<Vec<Row>, Failure> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let is_asked = |row: &Row| page.after.is_none_or(|after| row.id > after) && matches(filter, row);
        if let Some(user) = user_of(filter) {
            let mut rows = self.of_user(user).await?;
            rows.retain(is_asked);
            rows.sort_unstable_by_key(|row| row.id);
            rows.truncate(limit);
            return Ok(rows);
        }
        let mut found = Vec::new();
        let first = page.after.map_or(0, |after| usize::from(after.as_bytes()[0]));
        for shards in shards()[first..].chunks(AT_ONCE) {
            let mut ids = self.members(shards, &EVER, usize::MAX).await?;
            ids.retain(|id| page.after.is_none_or(|after| *id > after));
            ids.sort_unstable();
            for ids in ids.chunks(AT_ONCE) {
                found.extend(self.load_all(ids).await?.into_iter().filter(is_asked));
                if found.len() >= limit {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    async fn count(&self, filter: &Filter) -> Result<u64, Failure> {
        if let Some(now) = all_live_at(filter) {
            let mut total = 0;
            for shards in shards().chunks(AT_ONCE) {
                let counts = shards.iter().map(async |shard| {
                    let mut count = redis::cmd("ZCOUNT");
                    count.arg(self.list(*shard)).arg(format!("({}", now.as_millis())).arg("+inf");
                    self.link.ask::<u64>(&count).await
                });
                for count in join_all(counts).await {
                    total += count?;
                }
            }
            return Ok(total);
        }
        Ok(self.find(filter, Page { after: None, limit: u32::MAX }).await?.len() as u64)
    }

    async fn remove(&self, filter: &Filter) -> Result<Vec<SessionId>, Failure> {
        let rows = self.find(filter, Page { after: None, limit: u32::MAX }).await?;
        self.delete_all(rows.iter().map(|row| row.id)).await
    }

    /// Writes where every write is refused that would be: by a replica, or a server that is full.
    async fn probe(&self) -> Result<(), Failure> {
        for shard in shards().iter().step_by(SHARDS / 16) {
            let key = format!("{}:health", self.list(*shard));
            let _: () = self.link.ask(redis::cmd("SET").arg(key).arg(1).arg("PX").arg(1_000)).await?;
        }
        self.acknowledged().await
    }

    async fn of_user(&self, user: &Value) -> Result<Vec<Row>, Failure> {
        if self.table().user.is_none() {
            return Err(Failure::NoColumn(ColumnRef::User));
        }
        let ids = self.range(self.user_key(user), &EVER, usize::MAX).await?;
        let mut rows = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            rows.extend(self.load_all(ids).await?);
        }
        rows.retain(|row| row.user.as_ref() == Some(user));
        Ok(rows)
    }

    async fn load_all(&self, ids: &[SessionId]) -> Result<Vec<Row>, Failure> {
        let rows = join_all(ids.iter().map(|id| self.load(*id))).await;
        rows.into_iter().filter_map(Result::transpose).collect()
    }

    async fn delete_all(&self, ids: impl Iterator<Item = SessionId>) -> Result<Vec<SessionId>, Failure> {
        let ids: Vec<_> = ids.collect();
        let mut deleted = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            for (id, was_there) in ids.iter().zip(join_all(ids.iter().map(|id| self.delete(*id))).await) {
                deleted.extend(was_there?.then_some(*id));
            }
        }
        Ok(deleted)
    }

    /// The ids of these shards whose expiration is in the range.
    async fn members(
        &self,
        shards: &[u8],
        range: &[String; 2],
        limit: usize,
    ) -> Result<Vec<SessionId>, Failure> {
        let lists = join_all(shards.iter().map(|shard| self.range(self.list(*shard), range, limit))).await;
        let lists: Vec<_> = lists.into_iter().collect::<Result<_, _>>()?;
        Ok(lists.concat())
    }

    async fn range(&self, key: String, range: &[String; 2], limit: usize) -> Result<Vec<SessionId>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(-1);
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(key).arg(&range[0]).arg(&range[1]).arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<Vec<u8>> = self.link.ask(&command).await?;
        Ok(ids.iter().filter_map(|id| str::from_utf8(id).ok()?.parse().ok()).collect())
    }
}

/// The field that marks a row whose id is being changed.
const MARK: &str = "";
/// The field that tells by which call a row was last changed. No column has this name either.
const CALL: &str = "\0";
const TO: &str = "to:";
const FROM: &str = "from:";

static EVER: LazyLock<[String; 2]> = LazyLock::new(|| ["-inf".to_owned(), "+inf".to_owned()]);

/// Tells a call apart from every other.
fn call_number() -> Result<[u8; 12], Failure> {
    let mut number = [0; 12];
    getrandom::fill(&mut number).map_err(Failure::NoRandomness)?;
    Ok(number)
}

fn shards() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// When the key of a row goes, as the server takes it.
fn end(expiration: Timestamp) -> String {
    // The year 9999: the server adds to what it is given, and must not overflow.
    const LAST: i64 = 253_402_300_799_999;
    expiration.saturating_add(SLACK).as_millis().clamp(1, LAST).to_string()
}

/// The user that every row of a filter has.
fn user_of(filter: &Filter) -> Option<&Value> {
    match filter {
        Filter::Compare(ColumnRef::User, Comparison::Eq, user) => Some(user),
        Filter::And(left, right) => user_of(left).or_else(|| user_of(right)),
        _ => None,
    }
}

/// The time at which all rows of a filter live, if it is all that do.
fn all_live_at(filter: &Filter) -> Option<Timestamp> {
    match filter {
        Filter::LiveAt(now) => Some(*now),
        Filter::And(left, right) => match (&**left, &**right) {
            (Filter::All, other) | (other, Filter::All) => all_live_at(other),
            _ => None,
        },
        _ => None,
    }
}

/// Checks that no server is too old, and warns of those that may drop sessions.
async fn check_server(link: &Link) -> Result<(), Failure> {
    let info: redis::Value = link.ask(&redis::cmd("INFO")).await?;
    for info in texts(info) {
        if let Some(policy) = eviction(&info)? {
            tracing::warn!(
                policy,
                "Redis may drop sessions when its memory is full: set maxmemory-policy to noeviction"
            );
        }
    }
    Ok(())
}

/// Reads what a server says of itself: by which policy it may drop sessions, unless it is too old.
fn eviction(info: &str) -> Result<Option<&str>, Failure> {
    let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let version = of("redis_version").unwrap_or("without a version");
    let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 2) {
        return Err(Failure::OldServer(version.to_owned()));
    }
    let is_limited = of("maxmemory").is_some_and(|limit| limit != "0");
    Ok(of("maxmemory_policy").filter(|policy| is_limited && *policy != "noeviction"))
}

/// The texts in an answer: one, or one of each node.
fn texts(value: redis::Value) -> Vec<String> {
    match value {
        redis::Value::Map(nodes) => nodes.into_iter().flat_map(|(_, value)| texts(value)).collect(),
        redis::Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        value => String::from_redis_value(value).into_iter().collect(),
    }
}

/// Why a call failed. Ends up in logs: it names fields, and shows no value of a row.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("there is a row of this id")]
    Taken,
    #[error("Redis {0} is too old: 6.2 or later is needed")]
    OldServer(String),
    #[error("{reached} replicas have the write, of {needed} that must; it may stay all the same")]
    TooFewReplicas { reached: u32, needed: u32 },
    #[error("the store was not prepared for a table")]
    NotPrepared,
    #[error("the deadline has passed")]
    Deadline,
    #[error("the operating system gives no random numbers")]
    NoRandomness(#[source] getrandom::Error),
    #[error("the table has no column {0:?}")]
    NoColumn(ColumnRef),
    #[error("the table has {table} projected columns, and the row {row}")]
    ColumnCount { table: usize, row: usize },
    #[error("field {field:?} of the row does not hold {expected}")]
    Malformed { field: String, expected: &'static str },
}

impl Failure {
    fn malformed(field: &str, expected: &'static str) -> Self {
        Self::Malformed { field: field.to_owned(), expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_by_its_version() {
        for version in ["6.2.0", "6.10.1", "7.0.15", "8.0.0-rc1", "10.0.0"] {
            assert!(eviction(&format!("# Server\r\nredis_version:{version}\r\n")).is_ok(), "{version}");
        }
        for version in ["6.0.20", "5.0.14", "2.8.2400", "", "x"] {
            let info = format!("redis_version:{version}\r\nvalkey_version:9.0.0\r\n");
            assert!(eviction(&info).is_err(), "{version}");
        }
        let error = eviction("").expect_err("it does not say").to_string();
        assert_eq!(error, "Redis without a version is too old: 6.2 or later is needed");
    }

    #[test]
    fn a_policy_counts_where_there_is_a_limit() {
        for (limit, policy, warned) in [
            ("0", "allkeys-lru", None),
            ("1048576", "noeviction", None),
            ("1048576", "volatile-ttl", Some("volatile-ttl")),
        ] {
            let info = format!(
                "redis_version:7.0.15\r\nmaxmemory:{limit}\r\nmaxmemory_human:1M\r\nmaxmemory_policy:{policy}\r\n"
            );
            assert_eq!(eviction(&info).expect("it is new enough"), warned);
        }
    }
}
