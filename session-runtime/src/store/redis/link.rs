//! Connections: calls enter, the answers of the server that owns their keys leave.
//!
//! A connection that was made by a URL is replaced when it breaks, or leaves a call without an answer. The call is sent
//! again then, over the new one (see `scripts` for its result). The client of a cluster also sends calls again by itself,
//! and does not say so.

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use redis::aio::{ConnectionLike as _, ConnectionManager, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, pipe,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{timeout, timeout_at};

use super::failure::Failure;
use super::scripts::Script;
use super::url::{self, CONNECT_TIMEOUT, START_UP_TIMEOUT, Target};

/// A connection without an answer for so long may be replaced. Shorter deadlines replace none: a slow server would get a
/// new connection for each call.
const SILENCE: Duration = Duration::from_millis(200);

/// How late the server may notice that a `WAIT` has ended: it looks ten times a second.
const WAIT_GRANULARITY: Duration = Duration::from_millis(100);

/// A connection to one server, to the master that sentinels name, or to a cluster.
#[derive(Clone)]
pub(super) enum Link {
    Reconnecting(Reconnecting),
    /// The program has made it. It reconnects by its own rules.
    Given(Connection),
}

impl Link {
    /// Connects to what a URL names.
    pub(super) async fn open(url: &str) -> Result<Self, RedisError> {
        let (source, is_cluster) = match url::parse(url)? {
            Target::Server(client) => (Source::Server(client), false),
            Target::Sentinels(client) => (Source::Sentinels(client), false),
            Target::Cluster(client) => (Source::Cluster(client), true),
        };
        let reconnecting = Reconnecting {
            source: Arc::new(Mutex::new(source)),
            is_cluster,
            runtime: Handle::current(),
            connections: Arc::default(),
        };
        let _connected = reconnecting.established(&reconnecting.current()).await?;
        Ok(Self::Reconnecting(reconnecting))
    }

    pub(super) fn is_cluster(&self) -> bool {
        match self {
            Self::Reconnecting(reconnecting) => reconnecting.is_cluster,
            Self::Given(connection) => matches!(connection, Connection::Cluster(_)),
        }
    }

    /// Sends calls on keys of one server in one trip, in this order. Returns an answer to each, which may be an error of the
    /// server, and to `WAIT` if replicas are needed.
    pub(super) async fn send(
        &self,
        calls: &[Call],
        replicas: u32,
        deadline: Instant,
    ) -> Result<Answers, Failure> {
        // A timeout polls its future before its clock, and no write may begin after the deadline.
        let now = Instant::now();
        if now >= deadline {
            return Err(Failure::Deadline);
        }
        match self {
            Self::Reconnecting(reconnecting) => reconnecting.send(calls, replicas, deadline).await,
            Self::Given(connection) => {
                match connection.send(calls, replicas, now + (deadline - now) / 2).await {
                    // It reconnects for the next call.
                    Err(error) if needs_another_connection(&error) && Instant::now() < deadline => {
                        let values = connection.send(calls, replicas, deadline).await?;
                        Ok(Answers { values, is_second: true })
                    }
                    values => Ok(Answers { values: values?, is_second: false }),
                }
            }
        }
    }

    /// Asks one server, or each node of a cluster.
    pub(super) async fn ask_all(&self, command: &Cmd) -> Result<Value, RedisError> {
        let connection = match self {
            Self::Reconnecting(reconnecting) => {
                reconnecting.established(&reconnecting.current()).await?.connection
            }
            Self::Given(connection) => connection.clone(),
        };
        match connection {
            Connection::Server(mut connection) => connection.req_packed_command(command).await,
            Connection::Managed(mut connection) => connection.req_packed_command(command).await,
            Connection::Cluster(mut connection) => connection.req_packed_command(command).await,
        }
    }
}

/// The answers to calls.
pub(super) struct Answers {
    pub(super) values: Vec<Value>,
    /// Whether the calls were sent twice. The first ones may have been executed too, and others between.
    pub(super) is_second: bool,
}

/// A script or a command, with its keys and values. Keys of one call have one hash tag.
pub(super) struct Call {
    action: Action,
    keys: Vec<String>,
    values: Vec<Vec<u8>>,
}

enum Action {
    Script(&'static Script),
    Command(&'static str),
}

impl Call {
    pub(super) fn script<const N: usize>(script: &'static Script, keys: [String; N]) -> Self {
        Self { action: Action::Script(script), keys: keys.into(), values: Vec::new() }
    }

    pub(super) fn command(name: &'static str, key: String) -> Self {
        Self { action: Action::Command(name), keys: vec![key], values: Vec::new() }
    }

    pub(super) fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Returns the text that decides the slot of its keys.
    pub(super) fn tag(&self) -> &str {
        self.keys.first().and_then(|key| key.split('}').next()).unwrap_or_default()
    }

    /// Returns the command to send. A script is named by its hash, or sent as text to a server that may not know it.
    fn command_to_send(&self, form: Form) -> Cmd {
        let mut command = match (&self.action, form) {
            (Action::Command(name), _) => redis::cmd(name),
            (Action::Script(script), Form::Hash) => redis::cmd("EVALSHA").arg(script.hash()).to_owned(),
            (Action::Script(script), Form::Text) => redis::cmd("EVAL").arg(script.text).to_owned(),
        };
        if let Action::Script(_) = self.action {
            command.arg(self.keys.len());
        }
        command.arg(&self.keys);
        for value in &self.values {
            command.arg(value.as_slice());
        }
        command
    }
}

#[derive(Clone, Copy)]
enum Form {
    Hash,
    Text,
}

#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Managed(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends calls, and waits for replicas until shortly before a time.
    async fn send(&self, calls: &[Call], replicas: u32, until: Instant) -> Result<Vec<Value>, RedisError> {
        let Some((last, others)) = calls.split_last() else { return Ok(Vec::new()) };
        let wait = |pipeline: &mut Pipeline| {
            if replicas > 0 {
                // Some time is left for the answer, which says more than a missed deadline.
                let wait = until.saturating_duration_since(Instant::now()) * 9 / 10;
                let wait = wait.saturating_sub(WAIT_GRANULARITY);
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
                pipeline.cmd("WAIT").arg(replicas).arg(millis);
            }
        };
        let mut pipeline = pipe();
        // A server may not know the last script, which is sent again then. The others come as text, so that they are
        // executed before it.
        for call in others {
            pipeline.add_command(call.command_to_send(Form::Text));
        }
        pipeline.add_command(last.command_to_send(Form::Hash));
        wait(&mut pipeline);
        let mut answers = self.request(&pipeline).await?;
        let is_unknown = |answer: &Value| matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript));
        if answers.get(others.len()).is_some_and(is_unknown) {
            let mut again = pipe();
            again.add_command(last.command_to_send(Form::Text));
            wait(&mut again);
            answers.truncate(others.len());
            answers.extend(self.request(&again).await?);
        }
        // A refusal of the server arrives as an answer.
        let refusals = answers.iter().filter(|answer| matches!(answer, Value::ServerError(_)));
        let refusals = refusals.filter_map(|answer| answer.clone().extract_error().err());
        match refusals.into_iter().find(is_refusal_of_a_replica) {
            Some(refusal) => Err(refusal),
            None => Ok(answers),
        }
    }

    async fn request(&self, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let count = pipeline.len();
        match self.clone() {
            Self::Server(mut connection) => connection.req_packed_commands(pipeline, 0, count).await,
            Self::Managed(mut connection) => connection.req_packed_commands(pipeline, 0, count).await,
            Self::Cluster(mut connection) => connection.req_packed_commands(pipeline, 0, count).await,
        }
    }
}

/// A connection to the server that takes writes. Another one is made after a failure, to the server that takes them then.
#[derive(Clone)]
pub(super) struct Reconnecting {
    source: Arc<Mutex<Source>>,
    is_cluster: bool,
    /// What made the first connection. It serves the others too: the worker that met the failure may block, or end.
    runtime: Handle,
    connections: Arc<std::sync::Mutex<Connections>>,
}

/// Where the server is found.
enum Source {
    /// At one address. Another server may take its place there.
    Server(Client),
    Sentinels(SentinelClient),
    Cluster(ClusterClient),
}

#[derive(Default)]
struct Connections {
    current: Option<Attempt>,
    /// What takes the place of the current one as soon as it has answered a call: one silent node of a cluster is no reason
    /// to leave a connection that reaches the others.
    next: Option<Attempt>,
}

/// A connection, or the attempt to make one, shared by all calls that wait for it.
type Attempt = Shared<BoxFuture<'static, Result<Connected, Arc<RedisError>>>>;

#[derive(Clone)]
struct Connected {
    connection: Connection,
    waiting: Arc<std::sync::Mutex<Waiting>>,
}

/// The calls that wait for their answers.
#[derive(Default)]
struct Waiting {
    calls: usize,
    /// When the first call was sent after the last answer; `None` while there is none.
    since: Option<Instant>,
}

/// A call that waits for its answer until a time, or until it is dropped.
struct Wait<'a> {
    waiting: &'a std::sync::Mutex<Waiting>,
    until: Instant,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(self.waiting);
        waiting.calls -= 1;
        // Its client has gone away: that says nothing about the connection.
        if waiting.calls == 0 && Instant::now() < self.until {
            waiting.since = None;
        }
    }
}

impl Connected {
    async fn send(&self, calls: &[Call], replicas: u32, until: Instant) -> Result<Vec<Value>, RedisError> {
        let _wait = self.wait(until);
        let answers = self.connection.send(calls, replicas, until).await;
        lock(&self.waiting).since = None;
        answers
    }

    fn wait(&self, until: Instant) -> Wait<'_> {
        let mut waiting = lock(&self.waiting);
        waiting.calls += 1;
        waiting.since.get_or_insert_with(Instant::now);
        Wait { waiting: &self.waiting, until }
    }

    /// Returns until when a call of now waits for its answer: half of its time, so that the rest is enough for a second
    /// connection.
    fn patience(&self, deadline: Instant) -> Instant {
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        half.max(lock(&self.waiting).since.unwrap_or(now) + SILENCE)
    }

    fn is_silent(&self) -> bool {
        lock(&self.waiting).since.is_some_and(|since| since.elapsed() >= SILENCE)
    }
}

impl Reconnecting {
    async fn send(&self, calls: &[Call], replicas: u32, deadline: Instant) -> Result<Answers, Failure> {
        let current = self.current();
        let connected = self.established(&current).await?;
        let patience = connected.patience(deadline);
        let first = connected.send(calls, replicas, patience.min(deadline));
        match timeout_at(patience.into(), first).await {
            Ok(Err(error)) if needs_another_connection(&error) => {}
            Ok(values) => return Ok(Answers { values: values?, is_second: false }),
            Err(_) => {}
        }
        let trial = Trial { reconnecting: self, attempt: self.next(&current) };
        let connected = self.established(&trial.attempt).await?;
        if Instant::now() >= deadline {
            return Err(Failure::Deadline);
        }
        let values = connected.send(calls, replicas, deadline).await;
        match &values {
            Err(error) if needs_another_connection(error) => self.forget(&trial.attempt),
            _ => self.adopt(&trial.attempt),
        }
        Ok(Answers { values: values?, is_second: true })
    }

    /// Returns the connection that calls are sent over first.
    fn current(&self) -> Attempt {
        lock(&self.connections).current.get_or_insert_with(|| self.attempt()).clone()
    }

    /// Returns the connection for a call that has failed over another one.
    fn next(&self, failed: &Attempt) -> Attempt {
        let mut connections = lock(&self.connections);
        match &connections.current {
            Some(current) if !current.ptr_eq(failed) => current.clone(),
            _ => connections.next.get_or_insert_with(|| self.attempt()).clone(),
        }
    }

    fn adopt(&self, attempt: &Attempt) {
        let mut connections = lock(&self.connections);
        if let Some(next) = connections.next.take_if(|next| next.ptr_eq(attempt)) {
            connections.current = Some(next);
        }
    }

    /// Lets the next call connect again, unless another call has done so.
    fn forget(&self, attempt: &Attempt) {
        let Connections { current, next } = &mut *lock(&self.connections);
        for connection in [current, next] {
            connection.take_if(|connection| connection.ptr_eq(attempt));
        }
    }

    async fn established(&self, attempt: &Attempt) -> Result<Connected, RedisError> {
        attempt.clone().await.map_err(|error| {
            self.forget(attempt);
            (ErrorKind::Io, "there is no connection", error.to_string()).into()
        })
    }

    /// Connects in a task of its own, so that a call that misses its deadline does not cancel the attempt for others.
    fn attempt(&self) -> Attempt {
        let source = Arc::clone(&self.source);
        let connecting = self.runtime.spawn(timeout(START_UP_TIMEOUT, connect(Arc::clone(&source))));
        let attempt = async {
            let given_up = || RedisError::from((ErrorKind::Io, "the server does not answer"));
            let connected = match connecting.await {
                // That runtime has ended.
                Err(error) if error.is_cancelled() => {
                    tokio::spawn(timeout(START_UP_TIMEOUT, connect(source))).await
                }
                connected => connected,
            };
            let connected = connected.ok().and_then(Result::ok);
            let connection = connected.unwrap_or_else(|| Err(given_up())).map_err(Arc::new)?;
            Ok(Connected { connection, waiting: Arc::default() })
        };
        attempt.boxed().shared()
    }
}

async fn connect(source: Arc<Mutex<Source>>) -> Result<Connection, RedisError> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
    Ok(match &mut *source.lock().await {
        Source::Server(client) => {
            Connection::Server(client.get_multiplexed_async_connection_with_config(&config).await?)
        }
        Source::Sentinels(client) => {
            Connection::Server(client.get_async_connection_with_config(&config).await?)
        }
        Source::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
    })
}

/// A call over the connection that may become the current one. It can be dropped at its deadline; then a connection that
/// did not answer is forgotten.
struct Trial<'a> {
    reconnecting: &'a Reconnecting,
    attempt: Attempt,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(Ok(connected)) = self.attempt.peek()
            && connected.is_silent()
        {
            self.reconnecting.forget(&self.attempt);
        }
    }
}

/// Returns whether the call should be sent over another connection: this one is gone, or its server became a replica.
fn needs_another_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_io_error() || is_refusal_of_a_replica(error)
}

/// Redis 6.2 wraps the refusal of a script in its own text.
fn is_refusal_of_a_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.detail().is_some_and(|detail| detail.contains("-READONLY "))
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reconnecting(_) => "Reconnecting",
            Self::Given(_) => "Given",
        })
    }
}
