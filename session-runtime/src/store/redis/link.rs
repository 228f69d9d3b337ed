//! The connection: a URL enters, commands are answered by the server that is in charge of their key.

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _, Pipeline,
    RedisError, RedisFuture, Script, ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{START_UP_PATIENCE, tls};

/// After so long without an acknowledgement a connection counts as lost, and another is made.
const LOST: Duration = Duration::from_secs(5);

/// How long the setting up of a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection to one server, to the master that sentinels name, or to a cluster.
#[derive(Clone)]
pub(super) enum Link {
    Watched(Watched),
    Managed(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects by a URL, whose scheme says to what: `redis`, `redis-cluster`, `redis-sentinel`, and the same
    /// with `rediss` for TLS.
    pub(super) async fn open(url: &str) -> Result<Self, RedisError> {
        let (url, certificates) = tls::certificates(url)?;
        let (scheme, rest) = url.split_once("://").ok_or_else(|| misspelt("the URL has no scheme"))?;
        let (tls, topology) = match scheme.split_once('-') {
            None => (scheme, None),
            Some((tls, topology)) => (tls, Some(topology)),
        };
        if tls == "rediss" {
            provide_tls();
        }
        match topology {
            None => Self::single(&url, certificates).await,
            Some("cluster") => Self::cluster(tls, rest, certificates).await,
            Some("sentinel") => Self::sentinel(tls, rest, certificates).await,
            Some(_) => Err(misspelt("the URL is neither of a server, nor a cluster, nor sentinels")),
        }
    }

    async fn single(url: &str, certificates: Option<TlsCertificates>) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?.set_tcp_settings(tcp_settings());
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates)?,
            None => Client::open(info)?,
        };
        Ok(Self::Watched(Watched::open(Source::Server(client)).await?))
    }

    async fn cluster(
        tls: &str,
        rest: &str,
        certificates: Option<TlsCertificates>,
    ) -> Result<Self, RedisError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
        let at = if user.is_empty() { "" } else { "@" };
        let hosts = hosts.trim_end_matches('/').split(',');
        let nodes = hosts.map(|host| format!("{tls}://{user}{at}{host}/?{query}"));
        let mut builder = ClusterClient::builder(nodes)
            .tcp_settings(tcp_settings())
            .connection_timeout(CONNECT)
            // The store has a deadline of its own; nothing may be left to wait in the connection behind it.
            .response_timeout(START_UP_PATIENCE)
            .retries(3);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        Ok(Self::Cluster(builder.build()?.get_async_connection().await?))
    }

    async fn sentinel(
        scheme: &str,
        rest: &str,
        certificates: Option<TlsCertificates>,
    ) -> Result<Self, RedisError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, master) = rest.rsplit_once('/').ok_or_else(|| misspelt("the URL names no master"))?;
        let (user, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(user, hosts)| (user, hosts));
        let mut sentinels = Vec::new();
        for host in hosts.split(',') {
            sentinels.push(format!("{scheme}://{host}").into_connection_info()?.addr().clone());
        }
        let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
            .set_client_to_redis_tcp_settings(tcp_settings());
        // The credentials of any URL, decoded as those of a single server are.
        let info = format!("{scheme}://{user}@localhost/?{query}").into_connection_info()?;
        let protocol = info.redis_settings().protocol();
        builder = builder.set_client_to_redis_protocol(protocol).set_client_to_sentinel_protocol(protocol);
        if let Some(name) = info.redis_settings().username() {
            builder = builder.set_client_to_redis_username(name);
        }
        if let Some(password) = info.redis_settings().password() {
            builder = builder.set_client_to_redis_password(password);
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            builder = match name.as_ref() {
                tls::SENTINEL_USER => builder.set_client_to_sentinel_username(value),
                tls::SENTINEL_PASSWORD => builder.set_client_to_sentinel_password(value),
                _ => builder,
            };
        }
        if scheme == "rediss" {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        Ok(Self::Watched(Watched::open(Source::Sentinels(builder.build()?)).await?))
    }

    pub(super) async fn run(&self, script: &Script, call: &Call) -> Result<Vec<u8>, RedisError> {
        let mut invocation = script.prepare_invoke();
        for key in &call.keys {
            invocation.key(key);
        }
        for value in &call.values {
            invocation.arg(value.as_slice());
        }
        // By the script's hash; a server that does not have it is given the text.
        invocation.invoke_async(&mut self.clone()).await
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.clone()).await
    }
}

/// The keys and values of a script.
#[derive(Default)]
pub(super) struct Call {
    pub(super) keys: Vec<String>,
    pub(super) values: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn new<const N: usize>(keys: [String; N]) -> Self {
        Self { keys: keys.into(), values: Vec::new() }
    }

    pub(super) fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.values.push(value.into());
        self
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Watched(watched) => Box::pin(watched.send(command)),
            Self::Managed(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Watched(watched) => Box::pin(async move {
                watched.connection().await?.0.req_packed_commands(pipeline, offset, count).await
            }),
            Self::Managed(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// The connection to a server that takes writes: made again, to whichever server it is by then, when it fails.
#[derive(Clone)]
pub(super) struct Watched {
    source: Arc<Mutex<Source>>,
    latest: Arc<std::sync::Mutex<Option<Attempt>>>,
}

/// Where the server is found.
enum Source {
    /// At one address, behind which another may take its place.
    Server(Client),
    Sentinels(SentinelClient),
}

/// A connection that is there, or is being made, for all who wait for it.
type Attempt = Shared<BoxFuture<'static, Result<MultiplexedConnection, Arc<RedisError>>>>;

impl Watched {
    async fn open(source: Source) -> Result<Self, RedisError> {
        let watched = Self { source: Arc::new(Mutex::new(source)), latest: Arc::default() };
        let _connected = watched.connection().await?;
        Ok(watched)
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, Attempt), RedisError> {
        let attempt = self.latest().get_or_insert_with(|| self.attempt()).clone();
        match attempt.clone().await {
            Ok(connection) => Ok((connection, attempt)),
            Err(error) => {
                self.forget(&attempt);
                Err((ErrorKind::Io, "there is no connection", error.to_string()).into())
            }
        }
    }

    /// Connects in a task of its own: a caller whose deadline passes does not take along what others wait for.
    fn attempt(&self) -> Attempt {
        let source = self.source.clone();
        let connecting = tokio::spawn(timeout(START_UP_PATIENCE, async move {
            let config =
                AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
            match &mut *source.lock().await {
                Source::Server(client) => client.get_multiplexed_async_connection_with_config(&config).await,
                Source::Sentinels(client) => client.get_async_connection_with_config(&config).await,
            }
        }));
        let attempt = async {
            let given_up = || RedisError::from((ErrorKind::Io, "the server does not answer"));
            let connected = connecting.await.ok().and_then(Result::ok);
            connected.unwrap_or_else(|| Err(given_up())).map_err(Arc::new)
        };
        attempt.boxed().shared()
    }

    /// Lets the next call connect anew, unless another has done so.
    fn forget(&self, attempt: &Attempt) {
        self.latest().take_if(|latest| latest.ptr_eq(attempt));
    }

    fn latest(&self) -> MutexGuard<'_, Option<Attempt>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let (mut connection, attempt) = self.connection().await?;
        let answer = connection.req_packed_command(command).await;
        // What the server refuses arrives as an answer.
        let answer = answer.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(is_of_master) {
            self.forget(&attempt);
        }
        answer
    }
}

/// Whether another server may be the master by now: this one is gone, or was told to follow. Redis 6.2 wraps what a
/// script was refused for.
fn is_of_master(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.detail().is_some_and(|detail| detail.contains("-READONLY "))
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_user_timeout(LOST)
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Names the cryptography that TLS uses, unless the program has: rustls chooses none by itself.
fn provide_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails where another thread was faster, which does as well.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

pub(super) fn misspelt(reason: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, reason).into()
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Watched(_) => "Watched",
            Self::Managed(_) => "Managed",
            Self::Cluster(_) => "Cluster",
        })
    }
}
