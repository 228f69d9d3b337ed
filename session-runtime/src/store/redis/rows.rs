//! The calls on one row.

use std::time::{Duration, Instant};

use redis::Script;

use super::failure::Failure;
use super::fields::{self, Field, Fields, MAX_VALUE, encode};
use super::link::{Call, Link};
use super::scripts;
use crate::clock::Timestamp;
use crate::store::{Outcome, Row, Scope, Table, Update};
use crate::token::{Hex, SessionId};
use crate::value::Value;

/// How long a row outlives its expiration: the server's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// How long a mark stays that only calls in flight need: longer than calls take.
pub(super) const MARK_LIFETIME: Duration = Duration::from_mins(1);

/// The field that marks a row whose id is being changed. No column has this name.
pub(super) const MARK: &str = "";
/// The field with the id of the call that changed the row last. No column has this name either. Beside a mark `to:` it
/// says that the rename is complete.
pub(super) const CALL: &str = "\0";
pub(super) const TO: &str = "to:";
pub(super) const FROM: &str = "from:";

/// Marks, numbers and addresses are shorter, whatever the limit of the table.
const MIN_VALUE: usize = 128;

/// The rows of a table, for one call.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) link: &'a Link,
    pub(super) table: &'a Table,
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
    /// The row was renamed to this id.
    To(SessionId),
    /// The row is being renamed from this id.
    From(SessionId),
}

/// What is stored under an id.
pub(super) enum Lookup {
    Nothing,
    Row(Row),
    /// A row that is being renamed from this id.
    Pending(SessionId, Row),
    /// A row was renamed to this id.
    Moved(SessionId),
}

impl Rows<'_> {
    pub(super) fn list(&self, shard: u8) -> String {
        format!("{}{shard:02x}}}", self.prefix)
    }

    pub(super) fn keys(&self, id: SessionId) -> [String; 2] {
        let list = self.list(id.as_bytes()[0]);
        [format!("{list}:{id}"), list]
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

    /// Runs a script before the deadline.
    pub(super) async fn run(&self, script: &Script, call: Call) -> Result<ScriptReply, Failure> {
        // A timeout polls its future before its clock, and no write may begin after the deadline.
        if Instant::now() >= self.deadline {
            return Err(Failure::Deadline);
        }
        let word: Vec<u8> = self.link.run(script, &call).await?;
        Ok(match word.as_slice() {
            b"stored" => ScriptReply::Stored,
            b"conflict" => ScriptReply::Conflict,
            b"gone" => ScriptReply::Gone,
            b"taken" => ScriptReply::Taken,
            mark => {
                let to = marked(TO, mark).map(ScriptReply::To);
                let from = marked(FROM, mark).map(ScriptReply::From);
                to.or(from).ok_or_else(|| Failure::malformed(MARK, "a mark"))?
            }
        })
    }

    /// Waits until enough replicas have acknowledged the write.
    pub(super) async fn wait_for_replicas(&self) -> Result<(), Failure> {
        if self.min_replicas == 0 {
            return Ok(());
        }
        // A tenth of the time is left for the answer, which says more than a missed deadline.
        let wait = self.deadline.saturating_duration_since(Instant::now()) * 9 / 10;
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let reached: u32 = self.link.ask(redis::cmd("WAIT").arg(self.min_replicas).arg(millis)).await?;
        if reached >= self.min_replicas {
            Ok(())
        } else {
            Err(Failure::TooFewReplicas { reached, needed: self.min_replicas })
        }
    }

    pub(super) async fn load(&self, id: SessionId) -> Result<Option<Row>, Failure> {
        match self.look_up(id).await? {
            Lookup::Row(row) => Ok(Some(row)),
            Lookup::Pending(from, row) => Ok(self.has_committed(from, id).await?.then_some(row)),
            Lookup::Nothing | Lookup::Moved(_) => Ok(None),
        }
    }

    pub(super) async fn look_up(&self, id: SessionId) -> Result<Lookup, Failure> {
        let names = [MARK].into_iter().chain(fields::names(self.table));
        let mut fields = self.read(id, names).await?.into_iter();
        let row = |fields| fields::row(self.table, id, fields);
        Ok(match fields.next() {
            None => Lookup::Nothing,
            Some(Field::Absent) => Lookup::Row(row(fields)),
            Some(mark) => {
                let mark = mark.bytes().unwrap_or_default();
                match (marked(TO, &mark), marked(FROM, &mark)) {
                    (Some(to), _) => Lookup::Moved(to),
                    (_, Some(from)) => Lookup::Pending(from, row(fields)),
                    (None, None) => Lookup::Nothing,
                }
            }
        })
    }

    /// Reads fields of what is stored under an id; none if there is nothing.
    pub(super) async fn read(
        &self,
        id: SessionId,
        names: impl Iterator<Item = &str>,
    ) -> Result<Vec<Field>, Failure> {
        let [key, _] = self.keys(id);
        let longest = self.table.max_state.clamp(MIN_VALUE, MAX_VALUE);
        let call = names.fold(Call::new([key]).value(longest.to_string()), Call::value);
        let fields: Vec<redis::Value> = self.link.run(&scripts::READ, &call).await?;
        let fields = fields.into_iter().map(|field| match field {
            redis::Value::BulkString(bytes) => Field::Present(bytes),
            redis::Value::Int(_) => Field::TooLong,
            _ => Field::Absent,
        });
        Ok(fields.collect())
    }

    pub(super) async fn insert(&self, row: &Row) -> Result<(), Failure> {
        self.index_user(row).await?;
        self.insert_row(row, None).await?;
        self.wait_for_replicas().await
    }

    /// Inserts a row, marked if it is being renamed from another id.
    pub(super) async fn insert_row(&self, row: &Row, from: Option<SessionId>) -> Result<(), Failure> {
        let mut call = Call::new(self.keys(row.id))
            .value(row.id.to_string())
            .value(row.expiration.as_millis().to_string())
            .value(key_expiry(row.expiration))
            .value(CLOCK_SKEW.as_millis().to_string())
            .value(CALL)
            .value(call_id()?);
        for (name, value) in Fields::of(self.table, row)?.present {
            call = call.value(name).value(value);
        }
        if let Some(from) = from {
            call = call.value(MARK).value(format!("{FROM}{from}"));
        }
        match self.run(&scripts::INSERT, call).await? {
            ScriptReply::Stored => Ok(()),
            _ => Err(Failure::Taken),
        }
    }

    /// Adds the row's id to the set of its user. This comes before the row is written, so no row lacks its entry.
    pub(super) async fn index_user(&self, row: &Row) -> Result<(), Failure> {
        let Some(user) = row.user.as_ref().filter(|_| self.table.user.is_some()) else { return Ok(()) };
        let call = Call::new([self.user_key(user)])
            .value(row.id.to_string())
            .value(row.expiration.as_millis().to_string())
            .value(CLOCK_SKEW.as_millis().to_string());
        self.run(&scripts::INDEX_USER, call).await?;
        Ok(())
    }

    pub(super) async fn unindex_user(&self, user: Option<&Value>, id: SessionId) -> Result<(), Failure> {
        if let Some(user) = user {
            let _: u64 =
                self.link.ask(redis::cmd("ZREM").arg(self.user_key(user)).arg(id.to_string())).await?;
        }
        Ok(())
    }

    pub(super) async fn update(&self, update: &Update) -> Result<Outcome, Failure> {
        if update.scope != Scope::State {
            self.index_user(&update.row).await?;
        }
        loop {
            match self.run(&scripts::UPDATE, self.update_call(update)?).await? {
                ScriptReply::Stored => {
                    self.wait_for_replicas().await?;
                    return Ok(Outcome::Stored);
                }
                ScriptReply::Conflict => return Ok(Outcome::Conflict),
                ScriptReply::From(from) if self.has_committed(from, update.id).await? => {}
                ScriptReply::From(_) | ScriptReply::Gone | ScriptReply::To(_) | ScriptReply::Taken => {
                    return Ok(Outcome::Gone);
                }
            }
        }
    }

    fn update_call(&self, update: &Update) -> Result<Call, Failure> {
        let Update { id, expected, scope, row } = update;
        let table = self.table;
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
            .value(key_expiry(row.expiration))
            .value(CALL)
            .value(call_id()?)
            .value(fields.absent.len().to_string());
        for name in fields.absent {
            call = call.value(name);
        }
        for (name, value) in fields.present {
            call = call.value(name).value(value);
        }
        Ok(call)
    }

    pub(super) async fn delete(&self, id: SessionId) -> Result<bool, Failure> {
        Ok(self.take(id).await? == ScriptReply::Stored)
    }

    /// Removes a row, or returns what is in its place.
    pub(super) async fn take(&self, id: SessionId) -> Result<ScriptReply, Failure> {
        let user = match &self.table.user {
            Some(user) => self.read(id, [user.name.as_str()].into_iter()).await?.pop(),
            None => None,
        };
        loop {
            let call = Call::new(self.keys(id))
                .value(id.to_string())
                .value(CALL)
                .value(call_id()?)
                .value(MARK_LIFETIME.as_millis().to_string());
            match self.run(&scripts::DELETE, call).await? {
                ScriptReply::Stored => break,
                ScriptReply::From(from) if self.has_committed(from, id).await? => {}
                answer => return Ok(answer),
            }
        }
        let user = user.and_then(Field::bytes).and_then(|user| fields::decode(&user));
        self.unindex_user(user.as_ref(), id).await?;
        self.wait_for_replicas().await?;
        Ok(ScriptReply::Stored)
    }
}

/// Returns the id that a mark of this kind names.
fn marked(kind: &str, mark: &[u8]) -> Option<SessionId> {
    str::from_utf8(mark).ok()?.strip_prefix(kind)?.parse().ok()
}

/// Makes the id of a call: the same call sent again has the same one.
fn call_id() -> Result<[u8; 12], Failure> {
    let mut number = [0; 12];
    getrandom::fill(&mut number).map_err(Failure::NoRandomness)?;
    Ok(number)
}

/// Returns when the key of a row expires, in the form of `PEXPIREAT`.
pub(super) fn key_expiry(expiration: Timestamp) -> String {
    // The year 9999: the server adds to the number, which must not overflow.
    const LAST: i64 = 253_402_300_799_999;
    expiration.saturating_add(CLOCK_SKEW).as_millis().clamp(1, LAST).to_string()
}
