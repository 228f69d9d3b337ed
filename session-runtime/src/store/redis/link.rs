//! Connections: a command enters, the answer of the server that owns its key leaves.

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, Script,
    ServerErrorKind, Value,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::url::{self, CONNECT_TIMEOUT, START_UP_TIMEOUT, Target};

/// A connection to one server, to the master that sentinels name, or to a cluster.
#[derive(Clone)]
pub(super) enum Link {
    Reconnecting(Reconnecting),
    Managed(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects to what a URL names.
    pub(super) async fn open(url: &str) -> Result<Self, RedisError> {
        match url::parse(url)? {
            Target::Server(client) => Self::reconnecting(Source::Server(client)).await,
            Target::Sentinels(client) => Self::reconnecting(Source::Sentinels(client)).await,
            Target::Cluster(client) => Ok(Self::Cluster(client.get_async_connection().await?)),
        }
    }

    async fn reconnecting(source: Source) -> Result<Self, RedisError> {
        Ok(Self::Reconnecting(Reconnecting::open(source).await?))
    }

    pub(super) async fn run<T: FromRedisValue>(&self, script: &Script, call: &Call) -> Result<T, RedisError> {
        let mut invocation = script.prepare_invoke();
        for key in &call.keys {
            invocation.key(key);
        }
        for value in &call.values {
            invocation.arg(value.as_slice());
        }
        // Sends the script's hash, and its text to a server that does not know it.
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
            Self::Reconnecting(reconnecting) => Box::pin(reconnecting.send(command)),
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
            Self::Reconnecting(reconnecting) => Box::pin(async move {
                reconnecting.connection().await?.0.req_packed_commands(pipeline, offset, count).await
            }),
            Self::Managed(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// A connection to the server that takes writes. After a failure it is made again, to the server that takes them then.
#[derive(Clone)]
pub(super) struct Reconnecting {
    source: Arc<Mutex<Source>>,
    latest: Arc<std::sync::Mutex<Option<Attempt>>>,
}

/// Where the server is found.
enum Source {
    /// At one address. Another server may take its place there.
    Server(Client),
    Sentinels(SentinelClient),
}

/// A connection, or the attempt to make one, shared by all calls that wait for it.
type Attempt = Shared<BoxFuture<'static, Result<MultiplexedConnection, Arc<RedisError>>>>;

impl Reconnecting {
    async fn open(source: Source) -> Result<Self, RedisError> {
        let reconnecting = Self { source: Arc::new(Mutex::new(source)), latest: Arc::default() };
        let _connected = reconnecting.connection().await?;
        Ok(reconnecting)
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

    /// Connects in a task of its own, so that a call that misses its deadline does not cancel the attempt for others.
    fn attempt(&self) -> Attempt {
        let source = self.source.clone();
        let connecting = tokio::spawn(timeout(START_UP_TIMEOUT, async move {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(None);
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

    /// Lets the next call connect again, unless another call has done so.
    fn forget(&self, attempt: &Attempt) {
        self.latest().take_if(|latest| latest.ptr_eq(attempt));
    }

    fn latest(&self) -> MutexGuard<'_, Option<Attempt>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let (mut connection, attempt) = self.connection().await?;
        let answer = connection.req_packed_command(command).await;
        // A refusal of the server arrives as an answer.
        let answer = answer.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(needs_another_connection) {
            self.forget(&attempt);
        }
        answer
    }
}

/// Returns whether another server may be the master now: this one is gone, or became a replica. Redis 6.2 wraps the
/// refusal of a script in its own text.
fn needs_another_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.detail().is_some_and(|detail| detail.contains("-READONLY "))
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reconnecting(_) => "Reconnecting",
            Self::Managed(_) => "Managed",
            Self::Cluster(_) => "Cluster",
        })
    }
}
