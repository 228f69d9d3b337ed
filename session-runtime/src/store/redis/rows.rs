//! The calls on one row.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{FromRedisValue, RedisError};

use super::failure::Failure;
use super::fields::{self, CallId, Kept, Stored, encode};
use super::link::{Answers, Call, Link};
use super::near_cache::NearCache;
use super::scripts;
use crate::clock::Timestamp;
use crate::store::{Outcome, Row, RowVersion, RowVersions, Scope, Table, Update};
use crate::token::{Hex, SessionId, fill_random};
use crate::value::Value;

/// How long a row outlives its expiration: the server's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// How long a mark stays that only calls in flight need: longer than calls take.
pub(super) const MARK_LIFETIME: Duration = Duration::from_mins(1);

/// The first bytes of what is no usable row: marks, and a row that is not usable yet.
pub(super) const MARKS: &str = "agmcp";

/// The same without a row that is not usable yet.
pub(super) const ONLY_MARKS: &str = "agmc";

/// The rows of a table, for one call.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) link: &'a Link,
    pub(super) near_cache: Option<&'a NearCache>,
    pub(super) table: &'a Arc<Table>,
    /// The start of every key: up to the name of the table.
    pub(super) prefix: &'a str,
    pub(super) min_replicas: u32,
    pub(super) deadline: Instant,
}

/// The reply of a script.
#[derive(Debug, PartialEq)]
pub(super) enum ScriptReply {
    Stored,
    Conflict,
    Gone,
    Taken,
    /// The row has what the new one was not given.
    More,
    /// The user has more ids than one script may look at.
    Many,
    /// The row was renamed to this id.
    To(SessionId),
    /// The row is being renamed from this id.
    From(SessionId),
}

impl Rows<'_> {
    pub(super) fn list(&self, shard: u8) -> String {
        format!("{}{shard:02x}}}", self.prefix)
    }

    pub(super) fn key(&self, id: SessionId) -> String {
        format!("{}{:02x}}}:{id}", self.prefix, id.as_bytes()[0])
    }

    pub(super) fn keys(&self, id: SessionId) -> [String; 2] {
        [self.key(id), self.list(id.as_bytes()[0])]
    }

    /// Returns the key of a user's set. A value with other bytes than plain text is written in hexadecimal digits.
    pub(super) fn user_key(&self, user: &Value) -> String {
        let user = encode(user);
        let is_plain = user.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(byte));
        let user = match str::from_utf8(&user) {
            Ok(text) if is_plain => text.to_owned(),
            _ => format!("x{}", Hex(&user)),
        };
        format!("{}user:{user}}}", self.prefix)
    }

    /// Sends calls in this order, in one trip where one server has all keys. Returns the answers up to the first trip in
    /// which the server has refused one.
    pub(super) async fn write(&self, calls: &[Call]) -> Result<Answers, Failure> {
        let mut answers = Answers { values: Vec::new(), is_second: false, tracking: None };
        let is_one_server = !self.link.is_cluster();
        for calls in calls.chunk_by(|a, b| is_one_server || a.tag() == b.tag()) {
            let mut answered = self.link.send(calls, self.min_replicas, self.deadline).await?;
            let waited = answered.values.split_off(calls.len());
            let is_refused =
                answered.values.iter().any(|answer| matches!(answer, redis::Value::ServerError(_)));
            answers.values.extend(answered.values);
            answers.is_second |= answered.is_second;
            if is_refused {
                break;
            }
            for reached in waited {
                let reached = read_answer(reached)?;
                if reached < self.min_replicas {
                    return Err(Failure::TooFewReplicas { reached, needed: self.min_replicas });
                }
            }
        }
        Ok(answers)
    }

    /// Sends calls whose answers say only whether they were refused.
    pub(super) async fn write_all(&self, calls: &[Call]) -> Result<(), Failure> {
        for answer in self.write(calls).await?.values {
            answer.extract_error()?;
        }
        Ok(())
    }

    /// Runs a script, and returns its word and the values that follow it.
    pub(super) async fn run(&self, script: Call) -> Result<(ScriptReply, Vec<Vec<u8>>), Failure> {
        let answer = self.write(&[script]).await?.values.pop();
        reply_with_values(answer.unwrap_or(redis::Value::Nil))
    }

    /// Makes a call that waits for no replica.
    pub(super) async fn ask<T: FromRedisValue>(&self, call: Call) -> Result<T, Failure> {
        let mut answers = self.link.send(&[call], 0, self.deadline).await?.values;
        read_answer(answers.pop().unwrap_or(redis::Value::Nil))
    }

    pub(super) async fn load(&self, id: SessionId) -> Result<Option<Row>, Failure> {
        let stored = self.look_up(id).await?;
        if let Some(near_cache) = self.near_cache {
            // What was kept may be older.
            near_cache.drop_row(id);
        }
        self.readable(id, stored).await
    }

    /// Returns a row, from the near cache if it is there.
    pub(super) async fn load_cached(&self, id: SessionId) -> Result<Option<Row>, Failure> {
        let Some(near_cache) = self.near_cache else { return self.load(id).await };
        let read = match near_cache.find(self.table, id) {
            Ok(row) => return Ok(Some(row)),
            Err(read) => read,
        };
        let track = Call::command("CLIENT", "CACHING".to_owned()).value("YES");
        let call = self.read_call(id, fields::most_bytes(self.table));
        let mut answers = self.link.send(&[track, call], 0, self.deadline).await?;
        let stored = self.stored(id, bytes(answers.values.pop())?);
        if let (Stored::Row(row), Some(redis::Value::Okay), Some(tracking)) =
            (&stored, answers.values.pop(), answers.tracking)
            && row.damaged.is_none()
        {
            near_cache.keep(read, self.table, row, tracking);
        }
        self.readable(id, stored).await
    }

    /// Reads the versions of rows, all at once: those of one server do not wait for another one.
    pub(super) async fn load_versions(&self, ids: &[SessionId]) -> RowVersions {
        let read = ids.iter().map(async |id| {
            let bytes = self.read_bytes(*id, fields::VERSION).await;
            (
                *id,
                bytes.map(|bytes| bytes.map_or(Some(RowVersion::default()), |bytes| fields::version(&bytes))),
            )
        });
        let mut versions = RowVersions::default();
        for (id, read) in join_all(read).await {
            match read {
                Ok(version) => versions.found.extend(version.map(|version| (id, version))),
                Err(failure) => versions.failed.push((id, failure.into_error("load a row"))),
            }
        }
        versions
    }

    async fn readable(&self, id: SessionId, stored: Stored) -> Result<Option<Row>, Failure> {
        match stored {
            Stored::Row(row) => Ok(Some(row)),
            Stored::Pending(from, row) => Ok(self.is_readable(from, id).await?.then_some(row)),
            Stored::Nothing | Stored::Moved(..) => Ok(None),
        }
    }

    pub(super) async fn look_up(&self, id: SessionId) -> Result<Stored, Failure> {
        self.read(id, fields::most_bytes(self.table)).await
    }

    /// Reads the first bytes of what is stored under an id.
    pub(super) async fn read(&self, id: SessionId, most: usize) -> Result<Stored, Failure> {
        Ok(self.stored(id, self.read_bytes(id, most).await?))
    }

    /// The same, as bytes; `None` if they are no string: another program has written it.
    pub(super) async fn read_bytes(&self, id: SessionId, most: usize) -> Result<Option<Vec<u8>>, Failure> {
        let call = self.read_call(id, most);
        bytes(self.link.send(&[call], 0, self.deadline).await?.values.pop())
    }

    fn read_call(&self, id: SessionId, most: usize) -> Call {
        Call::command("GETRANGE", self.key(id)).value("0").value((most - 1).to_string())
    }

    fn stored(&self, id: SessionId, bytes: Option<Vec<u8>>) -> Stored {
        match bytes {
            Some(bytes) => fields::read(self.table, id, &bytes),
            None => Stored::Row(fields::unreadable(self.table, id)),
        }
    }

    pub(super) async fn insert(&self, row: &Row) -> Result<(), Failure> {
        self.insert_row(row, None).await
    }

    /// Makes the call that inserts a row, marked if it is not usable yet: with the id that it is being renamed from, or its
    /// own.
    pub(super) fn insert_call(&self, row: &Row, from: Option<SessionId>) -> Result<Call, Failure> {
        let call = call_id();
        Ok(Call::script(&scripts::INSERT, &self.keys(row.id))
            .value(call)
            .value(fields::write(self.table, row, call, from, &Kept::default())?)
            .value(score(row.expiration))
            .value(key_expiry(row.expiration))
            .value(CLOCK_SKEW.as_millis().to_string()))
    }

    /// Inserts a row, as [`insert_call`](Self::insert_call) says. If it cannot be stored, its id may stay in the set of
    /// its user: another sending may have stored it, or the server a part of it.
    pub(super) async fn insert_row(&self, row: &Row, from: Option<SessionId>) -> Result<(), Failure> {
        self.insert_row_then(row, from, None).await.map(drop)
    }

    /// The same, and sends another call in the same trip, whose answer it returns.
    pub(super) async fn insert_row_then(
        &self,
        row: &Row,
        from: Option<SessionId>,
        next: Option<Call>,
    ) -> Result<Option<redis::Value>, Failure> {
        let insert = self.insert_call(row, from)?;
        let index = self.index_call(row);
        let has_next = next.is_some();
        let mut calls: Vec<_> = index.into_iter().chain([insert]).chain(next).collect();
        let mut answers = self.write(&calls).await?.values;
        let next = if has_next && answers.len() == calls.len() { answers.pop() } else { None };
        calls.truncate(calls.len() - usize::from(has_next));
        let inserted = if answers.len() == calls.len() { answers.pop().map(reply) } else { None };
        if let Some(Err(refusal)) = answers.pop().map(reply) {
            if matches!(inserted, Some(Ok(ScriptReply::Stored))) {
                self.ask::<redis::Value>(self.delete_call(row.id, MARKS)).await?;
            }
            return Err(refusal);
        }
        match inserted.transpose()? {
            Some(ScriptReply::Stored) => Ok(next),
            _ => Err(Failure::Taken),
        }
    }

    pub(super) fn index_call(&self, row: &Row) -> Option<Call> {
        let user = row.user.as_ref().filter(|_| self.table.user.is_some())?;
        Some(self.index_under(user, row))
    }

    /// Makes the call that adds a row's id to the set of a user. It comes before the row is written, so no row lacks its
    /// entry.
    pub(super) fn index_under(&self, user: &Value, row: &Row) -> Call {
        Call::script(&scripts::INDEX_USER, &[self.user_key(user)])
            .value(CLOCK_SKEW.as_millis().to_string())
            .value(LAST_EXPIRY.to_string())
            .value(row.id.to_string())
            .value(score(row.expiration))
    }

    /// Removes the entries of a user's set whose rows expired long ago, a bounded number in each step. Returns whether there
    /// were any.
    pub(super) async fn drop_dead(&self, set: &str) -> Result<bool, Failure> {
        const AT_ONCE: usize = 1_000;
        let mut dropped = false;
        loop {
            let step = Call::script(&scripts::DROP_DEAD, &[set.to_owned()])
                .value(CLOCK_SKEW.as_millis().to_string())
                .value(LAST_EXPIRY.to_string())
                .value(AT_ONCE.to_string());
            let count: usize = self.ask(step).await?;
            dropped |= count > 0;
            if count < AT_ONCE {
                return Ok(dropped);
            }
        }
    }

    /// Makes the call that removes an id from the set of a user.
    pub(super) fn unindex_call(&self, user: &Value, id: SessionId) -> Call {
        Call::command("ZREM", self.user_key(user)).value(id.to_string())
    }

    pub(super) async fn update(&self, update: &Update) -> Result<Outcome, Failure> {
        let index = (update.scope != Scope::State).then(|| self.index_call(&update.row)).flatten();
        let mut calls: Vec<_> = index.into_iter().collect();
        let mut is_second = false;
        loop {
            calls.push(self.update_call(update)?);
            let answers = self.write(&calls).await?;
            is_second |= answers.is_second;
            let mut replies = answers.values.into_iter().map(reply).collect::<Result<Vec<_>, _>>()?;
            match replies.pop() {
                Some(ScriptReply::Stored) => return Ok(Outcome::Stored),
                Some(ScriptReply::From(from)) if self.has_committed(from, update.id).await? => calls.clear(),
                _ if is_second => return Err(Failure::Unconfirmed),
                Some(ScriptReply::Conflict) => return Ok(Outcome::Conflict),
                _ => return Ok(Outcome::Gone),
            }
        }
    }

    fn update_call(&self, update: &Update) -> Result<Call, Failure> {
        let Update { id, expected, scope, row } = update;
        let call = match scope {
            Scope::State => Call::script(&scripts::UPDATE, &[self.key(*id)]),
            Scope::Expiration | Scope::Row => Call::script(&scripts::UPDATE, &self.keys(*id)),
        };
        let call = call.value(call_id()).value(expected.to_be_bytes());
        let call = call.value(fields::numbers(row, *scope)).value(&row.state);
        if *scope == Scope::State {
            return Ok(call);
        }
        let call = call.value(score(row.expiration)).value(key_expiry(row.expiration));
        if *scope == Scope::Expiration {
            return Ok(call);
        }
        let user = fields::user(self.table, row).unwrap_or_else(|| b"-".to_vec());
        let call = call.value(user).value(fields::columns(self.table, row)?);
        Ok(fields::column_names(self.table).fold(call, Call::value))
    }

    pub(super) async fn delete(&self, id: SessionId) -> Result<bool, Failure> {
        Ok(self.take(id, MARKS).await? == ScriptReply::Stored)
    }

    /// Removes a row, or returns what is in its place: one of these marks.
    pub(super) async fn take(&self, id: SessionId, marks: &str) -> Result<ScriptReply, Failure> {
        loop {
            match self.run(self.delete_call(id, marks)).await? {
                (ScriptReply::Stored, user) => {
                    if let Some(user) = user.first().and_then(|user| fields::decode(user)) {
                        self.ask::<u64>(self.unindex_call(&user, id)).await?;
                    }
                    return Ok(ScriptReply::Stored);
                }
                (ScriptReply::From(from), _) if self.has_committed(from, id).await? => {}
                (answer, _) => return Ok(answer),
            }
        }
    }

    fn delete_call(&self, id: SessionId, marks: &str) -> Call {
        let call = Call::script(&scripts::DELETE, &self.keys(id)).value(call_id());
        let call = call.value(MARK_LIFETIME.as_millis().to_string());
        call.value(fields::most_bytes(self.table).to_string()).value(marks)
    }
}

/// Reads an answer of the server.
fn read_answer<T: FromRedisValue>(answer: redis::Value) -> Result<T, Failure> {
    Ok(T::from_redis_value(answer.extract_error()?).map_err(RedisError::from)?)
}

/// Reads the answer to a [`read_call`](Rows::read_call); `None` if what is stored is no string.
fn bytes(answer: Option<redis::Value>) -> Result<Option<Vec<u8>>, Failure> {
    match answer {
        Some(redis::Value::BulkString(bytes)) => Ok(Some(bytes)),
        Some(redis::Value::ServerError(error)) if error.code() == "WRONGTYPE" => Ok(None),
        other => {
            other.unwrap_or(redis::Value::Nil).extract_error()?;
            Err(Failure::malformed("the row", "bytes"))
        }
    }
}

/// Reads the word that a script returns, or the start of a mark.
pub(super) fn reply(answer: redis::Value) -> Result<ScriptReply, Failure> {
    let word: Vec<u8> = read_answer(answer)?;
    Ok(match word.as_slice() {
        b"stored" => ScriptReply::Stored,
        b"conflict" => ScriptReply::Conflict,
        b"gone" => ScriptReply::Gone,
        b"taken" => ScriptReply::Taken,
        b"more" => ScriptReply::More,
        b"many" => ScriptReply::Many,
        mark => match (mark.first(), fields::other_id(mark)) {
            (Some(b'm' | b'c'), Some(to)) => ScriptReply::To(to),
            (Some(b'p'), Some(from)) => ScriptReply::From(from),
            _ => ScriptReply::Gone,
        },
    })
}

/// Reads the word that a script returns, or the word and the values that follow it.
pub(super) fn reply_with_values(answer: redis::Value) -> Result<(ScriptReply, Vec<Vec<u8>>), Failure> {
    match answer {
        redis::Value::Array(answers) => {
            let mut answers = answers.into_iter();
            let word = reply(answers.next().unwrap_or(redis::Value::Nil))?;
            Ok((word, answers.map(read_answer).collect::<Result<_, _>>()?))
        }
        word => Ok((reply(word)?, Vec::new())),
    }
}

/// Makes the id of a call: the same call sent again has the same one. No two calls of a process have one, and a random start
/// keeps those of processes apart.
pub(super) fn call_id() -> CallId {
    static START: LazyLock<u128> = LazyLock::new(|| {
        let mut start = [0; 16];
        fill_random(&mut start);
        u128::from_ne_bytes(start)
    });
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let number = START.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed).into());
    *number.to_le_bytes().first_chunk().expect("16 bytes have 12")
}

/// The last time at which a key can expire, in the year 9999: the server adds to the number, which must not overflow.
pub(super) const LAST_EXPIRY: i64 = 253_402_300_799_999;

/// Returns when the key of a row expires, in the form of `PEXPIREAT`.
pub(super) fn key_expiry(expiration: Timestamp) -> String {
    expiration.saturating_add(CLOCK_SKEW).as_millis().clamp(1, LAST_EXPIRY).to_string()
}

/// Returns the score of a row in the list of its shard and in the set of its user. Marks have negative ones.
fn score(expiration: Timestamp) -> String {
    expiration.as_millis().max(0).to_string()
}
