//! Connections: calls enter, the answers of the server that owns their keys leave.
//!
//! Each runtime that makes calls has a connection of its own: its calls wake no other thread, and what blocks one thread
//! delays no call of another. Calls that are made at the same time share a packet.
//!
//! A connection that was made by a URL is replaced when it breaks, or leaves a call without an answer. The call is sent
//! again then, over the new one (see `scripts` for its result). The client of a cluster also sends calls again by itself,
//! and does not say so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use redis::aio::{ConnectionLike as _, ConnectionManager, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    Arg, AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisError, ServerErrorKind,
    Value, pipe,
};
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::failure::Failure;
use super::near_cache::{NearCache, Receiver, Tracking};
use super::scripts::Script;
use super::url::{self, CONNECT_TIMEOUT, START_UP_TIMEOUT, Target};
use crate::clock::until;

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
    pub(super) async fn open(url: &str) -> Result<Self, Failure> {
        let target = Arc::new(url::parse(url)?);
        let reconnecting = Reconnecting { target, near_cache: None, runtimes: Arc::default() };
        reconnecting.connect().await?;
        Ok(Self::Reconnecting(reconnecting))
    }

    /// Returns a link with connections of its own that tell a near cache which rows have changed; `None` if the connections
    /// cannot. The cache has to be told when a connection has ended: a cluster's, and those that the program has made, are
    /// replaced without notice.
    pub(super) fn with_near_cache(&self, near_cache: &Arc<NearCache>) -> Option<Self> {
        let Self::Reconnecting(Reconnecting { target, .. }) = self else { return None };
        if self.is_cluster() {
            return None;
        }
        let (target, near_cache) = (Arc::clone(target), Some(Arc::clone(near_cache)));
        Some(Self::Reconnecting(Reconnecting { target, near_cache, runtimes: Arc::default() }))
    }

    /// Connects with a near cache.
    pub(super) async fn connect_near_cache(&self) -> Result<(), Failure> {
        match self {
            Self::Reconnecting(reconnecting) if reconnecting.near_cache.is_some() => {
                reconnecting.connect().await
            }
            _ => Err(Failure::NoNearCache),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        match self {
            Self::Reconnecting(reconnecting) => matches!(*reconnecting.target, Target::Cluster(_)),
            Self::Given(connection) => matches!(connection, Connection::Cluster(_)),
        }
    }

    /// Sends calls on keys of one server in one trip, in this order. Returns an answer to each, which may be an error of the
    /// server, and to `WAIT` if replicas are needed. Waits until the deadline.
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
            Self::Reconnecting(reconnecting) => {
                let near_cache = reconnecting.near_cache.as_deref();
                let _change = near_cache.map(|cache| cache.change(calls.iter().flat_map(Call::script_keys)));
                reconnecting.of_this_runtime().send(calls, replicas, now, deadline).await
            }
            Self::Given(connection) => {
                let answers = async {
                    match connection.send(calls, replicas, now + (deadline - now) / 2).await {
                        // It reconnects for the next call.
                        Err(error) if needs_another_connection(&error) && Instant::now() < deadline => {
                            let values = connection.send(calls, replicas, deadline).await?;
                            Ok(Answers { values, is_second: true, tracking: None })
                        }
                        values => Ok(Answers { values: values?, is_second: false, tracking: None }),
                    }
                };
                until(deadline.into(), pin!(answers)).await.unwrap_or(Err(Failure::Deadline))
            }
        }
    }

    /// Asks one server, or each node of a cluster. An error of the server is an error.
    pub(super) async fn ask_all(&self, command: &Cmd) -> Result<Value, Failure> {
        let connection = match self {
            Self::Reconnecting(reconnecting) => {
                let connections = reconnecting.of_this_runtime();
                connections.established(&connections.current()).await?.connection.clone()
            }
            Self::Given(connection) => connection.clone(),
        };
        let answer = match connection {
            Connection::Server(mut connection) => connection.req_packed_command(command).await,
            Connection::Managed(mut connection) => connection.req_packed_command(command).await,
            Connection::Cluster(mut connection) => connection.req_packed_command(command).await,
        };
        Ok(answer?.extract_error()?)
    }
}

/// The answers to calls.
pub(super) struct Answers {
    pub(super) values: Vec<Value>,
    /// Whether the calls were sent twice. The first ones may have been executed too, and others between.
    pub(super) is_second: bool,
    /// The connection that they came over, with a near cache.
    pub(super) tracking: Option<Tracking>,
}

/// A script or a command, with its keys and values. Keys of one call have one hash tag.
pub(super) struct Call {
    /// A script is named by its hash.
    command: Cmd,
    script: Option<&'static Script>,
}

/// The arguments of `EVALSHA` before the keys: its name, the hash, the number of keys.
const BEFORE_KEYS: usize = 3;

impl Call {
    pub(super) fn script(script: &'static Script, keys: &[String]) -> Self {
        let mut command = Cmd::with_capacity(12, 512);
        command.arg("EVALSHA").arg(script.hash()).arg(keys.len()).arg(keys);
        Self { command, script: Some(script) }
    }

    pub(super) fn command(name: &'static str, key: String) -> Self {
        let mut command = Cmd::with_capacity(6, 128);
        command.arg(name).arg(key);
        Self { command, script: None }
    }

    pub(super) fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.command.arg(value.as_ref());
        self
    }

    /// Returns the text that decides the slot of its keys.
    pub(super) fn tag(&self) -> &[u8] {
        let first_key = if self.script.is_some() { BEFORE_KEYS } else { 1 };
        let key = self.arguments().nth(first_key).unwrap_or_default();
        key.split(|byte| *byte == b'}').next().unwrap_or_default()
    }

    /// Returns the keys of its script. Nothing else changes a row, but for the rows that a limited write ends.
    fn script_keys(&self) -> impl Iterator<Item = &[u8]> {
        let count = self.arguments().nth(BEFORE_KEYS - 1).filter(|_| self.script.is_some());
        let count = count.and_then(|count| str::from_utf8(count).ok()?.parse().ok()).unwrap_or(0);
        self.arguments().skip(BEFORE_KEYS).take(count)
    }

    fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        self.command.args_iter().filter_map(|argument| match argument {
            Arg::Simple(argument) => Some(argument),
            // The cursor of an iterator of the client: no call has one.
            _ => None,
        })
    }

    /// Returns the command with the text of its script, for a server that may not know it.
    fn with_text(&self) -> Cmd {
        let Some(script) = self.script else { return self.command.clone() };
        let mut command = Cmd::with_capacity(12, 2_048);
        command.arg("EVAL").arg(script.text);
        // The hash is replaced by the text.
        self.arguments().skip(2).for_each(|argument| {
            command.arg(argument);
        });
        command
    }
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
        let request = async |others: &[Call], last: Cmd| {
            if let (Self::Server(connection), [], 0) = (self, others, replicas) {
                return Ok(vec![connection.clone().send_packed_command(&last).await?]);
            }
            let mut pipeline = pipe();
            // A server may not know the last script, which is sent again then. The others come as text, so that they are
            // executed before it.
            for call in others {
                pipeline.add_command(call.with_text());
            }
            pipeline.add_command(last);
            if replicas > 0 {
                // Some time is left for the answer, which says more than a missed deadline.
                let wait = until.saturating_duration_since(Instant::now()) * 9 / 10;
                let wait = wait.saturating_sub(WAIT_GRANULARITY);
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
                pipeline.cmd("WAIT").arg(replicas).arg(millis);
            }
            self.request(&pipeline).await
        };
        let mut answers = request(others, last.command.clone()).await?;
        let is_unknown = |answer: &Value| matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript));
        if answers.get(others.len()).is_some_and(is_unknown) {
            answers.truncate(others.len());
            answers.extend(request(&[], last.with_text()).await?);
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
            Self::Server(mut connection) => connection.send_packed_commands(pipeline, 0, count).await,
            Self::Managed(mut connection) => connection.req_packed_commands(pipeline, 0, count).await,
            Self::Cluster(mut connection) => connection.req_packed_commands(pipeline, 0, count).await,
        }
    }
}

/// Connections to the server that takes writes. Another one is made after a failure, to the server that takes them then.
#[derive(Clone)]
pub(super) struct Reconnecting {
    target: Arc<Target>,
    near_cache: Option<Arc<NearCache>>,
    runtimes: Arc<RwLock<HashMap<runtime::Id, Arc<Connections>>>>,
}

impl Reconnecting {
    async fn connect(&self) -> Result<(), Failure> {
        let connections = self.of_this_runtime();
        connections.established(&connections.current()).await.map(drop)
    }

    /// Returns the connections of the runtime that makes this call.
    fn of_this_runtime(&self) -> Arc<Connections> {
        let runtime = Handle::current();
        let known = self.runtimes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = known.get(&runtime.id()) {
            return Arc::clone(connections);
        }
        drop(known);
        let mut runtimes = self.runtimes.write().unwrap_or_else(PoisonError::into_inner);
        runtimes.retain(|_, connections| !connections.runtime_ended.is_closed());
        let connections = runtimes.entry(runtime.id()).or_insert_with(|| {
            let (runtime_ended, dropped) = oneshot::channel();
            // The task ends with its runtime, or with these connections.
            runtime.spawn(dropped);
            let (target, near_cache) = (Arc::clone(&self.target), self.near_cache.clone());
            Arc::new(Connections { target, near_cache, runtime_ended, pair: Mutex::default() })
        });
        Arc::clone(connections)
    }
}

/// The connections of one runtime.
struct Connections {
    target: Arc<Target>,
    near_cache: Option<Arc<NearCache>>,
    pair: Mutex<Pair>,
    /// Is closed when the runtime has ended.
    runtime_ended: oneshot::Sender<Infallible>,
}

#[derive(Default)]
struct Pair {
    current: Option<Attempt>,
    /// What takes the place of the current one as soon as it has answered a call: one silent node of a cluster is no reason
    /// to leave a connection that reaches the others.
    next: Option<Attempt>,
}

/// A connection, or the attempt to make one, shared by all calls that wait for it.
type Attempt = Shared<BoxFuture<'static, Result<Arc<Connected>, RedisError>>>;

struct Connected {
    connection: Connection,
    tracking: Option<Tracking>,
    waiting: Mutex<Waiting>,
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
    waiting: &'a Mutex<Waiting>,
    until: Instant,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(self.waiting);
        waiting.calls -= 1;
        // Its client has gone away: that says nothing about the connection.
        if waiting.calls == 0 && waiting.since.is_some() && Instant::now() < self.until {
            waiting.since = None;
        }
    }
}

impl Connected {
    async fn send(
        &self,
        calls: &[Call],
        replicas: u32,
        now: Instant,
        until: Instant,
    ) -> Result<Vec<Value>, RedisError> {
        let _wait = self.wait(now, until);
        let answers = self.connection.send(calls, replicas, until).await;
        lock(&self.waiting).since = None;
        answers
    }

    fn wait(&self, now: Instant, until: Instant) -> Wait<'_> {
        let mut waiting = lock(&self.waiting);
        waiting.calls += 1;
        waiting.since.get_or_insert(now);
        Wait { waiting: &self.waiting, until }
    }

    /// Returns until when a call of now waits for its answer: half of its time, so that the rest is enough for a second
    /// connection.
    fn patience(&self, now: Instant, deadline: Instant) -> Instant {
        let half = now + deadline.saturating_duration_since(now) / 2;
        half.max(lock(&self.waiting).since.unwrap_or(now) + SILENCE)
    }

    fn is_silent(&self) -> bool {
        lock(&self.waiting).since.is_some_and(|since| since.elapsed() >= SILENCE)
    }
}

impl Connections {
    async fn send(
        &self,
        calls: &[Call],
        replicas: u32,
        mut now: Instant,
        deadline: Instant,
    ) -> Result<Answers, Failure> {
        let current = self.current();
        let connected = if let Some(Ok(connected)) = current.peek() {
            Arc::clone(connected)
        } else {
            let established = until(deadline.into(), pin!(self.established(&current))).await;
            let Some(connected) = established else { return Err(Failure::Deadline) };
            now = Instant::now();
            connected?
        };
        if now >= deadline {
            return Err(Failure::Deadline);
        }
        let end = connected.patience(now, deadline).min(deadline);
        match until(end.into(), pin!(connected.send(calls, replicas, now, end))).await {
            Some(Err(error)) if needs_another_connection(&error) => {}
            Some(values) => {
                let tracking = connected.tracking.clone();
                return Ok(Answers { values: values?, is_second: false, tracking });
            }
            None if end == deadline => return Err(Failure::Deadline),
            None => {}
        }
        let again = self.send_again(calls, replicas, &current, deadline);
        until(deadline.into(), pin!(again)).await.unwrap_or(Err(Failure::Deadline))
    }

    /// Sends calls that have failed over a connection over the next one.
    async fn send_again(
        &self,
        calls: &[Call],
        replicas: u32,
        failed: &Attempt,
        deadline: Instant,
    ) -> Result<Answers, Failure> {
        let trial = Trial { connections: self, attempt: self.next(failed) };
        let connected = self.established(&trial.attempt).await?;
        let now = Instant::now();
        if now >= deadline {
            return Err(Failure::Deadline);
        }
        let values = connected.send(calls, replicas, now, deadline).await;
        match &values {
            Err(error) if needs_another_connection(error) => self.forget(&trial.attempt),
            _ => self.adopt(&trial.attempt),
        }
        Ok(Answers { values: values?, is_second: true, tracking: connected.tracking.clone() })
    }

    /// Returns the connection that calls are sent over first.
    fn current(&self) -> Attempt {
        lock(&self.pair).current.get_or_insert_with(|| self.attempt()).clone()
    }

    /// Returns the connection for a call that has failed over another one.
    fn next(&self, failed: &Attempt) -> Attempt {
        let mut pair = lock(&self.pair);
        match &pair.current {
            Some(current) if !current.ptr_eq(failed) => current.clone(),
            _ => pair.next.get_or_insert_with(|| self.attempt()).clone(),
        }
    }

    fn adopt(&self, attempt: &Attempt) {
        let mut pair = lock(&self.pair);
        if let Some(next) = pair.next.take_if(|next| next.ptr_eq(attempt)) {
            pair.current = Some(next);
        }
    }

    /// Lets the next call connect again, unless another call has done so.
    fn forget(&self, attempt: &Attempt) {
        let Pair { current, next } = &mut *lock(&self.pair);
        for connection in [current, next] {
            connection.take_if(|connection| connection.ptr_eq(attempt));
        }
    }

    async fn established(&self, attempt: &Attempt) -> Result<Arc<Connected>, Failure> {
        attempt.clone().await.map_err(|error| {
            self.forget(attempt);
            Failure::Connect(error)
        })
    }

    /// Connects in a task of its own, so that a call that misses its deadline does not cancel the attempt for others.
    fn attempt(&self) -> Attempt {
        let connecting = tokio::spawn(timeout(
            START_UP_TIMEOUT,
            connect(Arc::clone(&self.target), self.near_cache.clone()),
        ));
        let attempt = async {
            let given_up = || RedisError::from((ErrorKind::Io, "the server does not answer"));
            let connected = connecting.await.ok().and_then(Result::ok);
            connected.unwrap_or_else(|| Err(given_up())).map(Arc::new)
        };
        attempt.boxed().shared()
    }
}

async fn connect(target: Arc<Target>, near_cache: Option<Arc<NearCache>>) -> Result<Connected, RedisError> {
    let mut config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
    let mut tracking = None;
    if let Some(near_cache) = &near_cache {
        let receiver = Receiver::new(near_cache);
        tracking = Some(receiver.tracking());
        config = config.set_push_sender(receiver);
    }
    // Only with RESP3 does a server say anything without being asked.
    let protocol = tracking.as_ref().map(|_| ProtocolVersion::RESP3);
    let connection = match &*target {
        Target::Server(client) => {
            let client = url::with_protocol(client, protocol)?;
            Connection::Server(client.get_multiplexed_async_connection_with_config(&config).await?)
        }
        Target::Sentinels(sentinels) => {
            let mut client = sentinels.client(protocol)?;
            Connection::Server(client.get_async_connection_with_config(&config).await?)
        }
        Target::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
    };
    if tracking.is_some()
        && let Connection::Server(connection) = &connection
    {
        let client =
            async |words: &[&str]| redis::cmd("CLIENT").arg(words).exec_async(&mut connection.clone()).await;
        // It precedes each read that is to be kept. A user who may not send it gets the error now: a read would only keep
        // nothing. It has no effect yet, and the server says so, because tracking is off.
        if let Err(error) = client(&["CACHING", "YES"]).await
            && error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        {
            return Err(error);
        }
        client(&["TRACKING", "ON", "OPTIN"]).await?;
    }
    Ok(Connected { connection, tracking, waiting: Mutex::default() })
}

/// A call over the connection that may become the current one. It can be dropped at its deadline; then a connection that
/// did not answer is forgotten.
struct Trial<'a> {
    connections: &'a Connections,
    attempt: Attempt,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(Ok(connected)) = self.attempt.peek()
            && connected.is_silent()
        {
            self.connections.forget(&self.attempt);
        }
    }
}

/// Returns whether the call should be sent over another connection: this one is gone, or its server became a replica.
fn needs_another_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_io_error() || is_refusal_of_a_replica(error)
}

/// Redis 6.2 wraps the refusal of a script in an error of the code `ERR`: only the text tells it from others.
fn is_refusal_of_a_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.detail().is_some_and(|detail| detail.contains("-READONLY "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_has_ended_leaves_no_connection() {
        let target = url::parse("redis://127.0.0.1:1").expect("a URL");
        let reconnecting =
            Reconnecting { target: Arc::new(target), near_cache: None, runtimes: Arc::default() };
        for _ in 0..3 {
            let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
            let of_runtime = || runtime.block_on(async { reconnecting.of_this_runtime() });
            assert!(Arc::ptr_eq(&of_runtime(), &of_runtime()));
        }
        let runtimes = reconnecting.runtimes.read().expect("no panic").len();
        assert_eq!(runtimes, 1, "the last one has left it to the next");
    }

    #[test]
    fn the_cause_of_a_failed_connection_is_kept() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let failure = runtime.block_on(Link::open("redis://127.0.0.1:1")).expect_err("no server is there");
        assert!(matches!(&failure, Failure::Connect(cause) if cause.is_connection_refusal()), "{failure:?}");
    }
}
