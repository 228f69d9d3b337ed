//! The second half of a request: an [`Active`] session enters, a [`Plan`] for the store leaves.
//!
//! A pure decision: the time and the new token are arguments, and nothing is stored here.

use std::time::Duration;

use super::config::Context;
use super::load::{Active, Intent, Stored, UsedBy};
use crate::bag::comparison::Comparison;
use crate::bag::encoding::Fields;
use crate::bag::record::{Header, assemble};
use crate::bag::schema::{Bind, Role};
use crate::bag::{Databag, Projection};
use crate::clock::Timestamp;
use crate::envelope::Binding;
use crate::error::Error;
use crate::store::{Row, Scope};
use crate::token::Token;

/// What to do with a session's row.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing.
    Keep,
    /// Extend the idle expiry and drop flash values that were read. Best effort: no handler asked for it.
    Touch(Box<RowWrite>),
    /// Insert it.
    Create(Box<RowWrite>),
    /// Replace its content.
    Write(Box<RowWrite>),
    /// Replace its content and its id in one step.
    Rotate(Box<RowWrite>),
    /// Delete it.
    Delete,
}

/// A row to be stored, and the state of the session after that.
#[derive(Debug)]
pub(crate) struct RowWrite {
    pub(crate) row: Row,
    pub(crate) scope: Scope,
    /// The random token of the session, if it has a new one.
    pub(crate) token: Option<Token>,
    /// How many sessions the user may have after this write, if it ends the others.
    pub(crate) max_per_user: Option<u32>,
    /// Whether the handler ends the others, and not a log-in beyond the limit.
    pub(crate) ends_others: bool,
    /// The size of the record, in bytes.
    pub(crate) size: usize,
    pub(crate) stored: Stored,
    pub(crate) base: Fields,
}

/// Decides what to do with a session that a handler could change. `fresh` makes the token of a new id.
///
/// # Errors
///
/// If a field does not encode, or the record is too large.
pub(crate) fn plan<T: Databag>(
    context: &Context,
    active: &Active<T>,
    now: Timestamp,
    fresh: impl FnOnce() -> Token,
) -> Result<Plan, Error> {
    let fields = Fields::against(&active.bag, &active.base)?;
    if is_only_read(active, &fields) && !touch_is_due(context, active, now) {
        return Ok(Plan::Keep);
    }
    let pending = PendingRecord::of(context, active, fields)?;
    let Some(stored) = &active.stored else {
        // A visitor whose bag was never changed leaves no trace.
        let wanted = pending.changed || matches!(active.intent, Intent::Keep | Intent::Renew);
        if !wanted {
            return Ok(Plan::Keep);
        }
        // All of it: what equals a default by its encoding may still differ from it.
        refuse_lost(context, active, &pending.fields, |_| true)?;
        let token = active.token.clone().unwrap_or_else(fresh);
        return pending.write(context, active, now, ExpiryUpdate::Restart, Some(token)).map(Plan::Create);
    };
    let changed = pending.changed || !keeps_lifetime(active, stored);
    // It expired while the request was in flight, and must not come back.
    if stored.expiration <= now && active.intent != Intent::End {
        let asked = changed || active.intent > Intent::Continue;
        return if asked { Err(Error::Ended) } else { Ok(Plan::Keep) };
    }
    let user = T::SCHEMA.fields.iter().position(|field| matches!(field.role, Role::User(_)));
    let user_changed = user.is_some_and(|user| pending.fields.get(user) != active.base.get(user));
    // Another user is a log-in: an attacker may know the former id (session fixation).
    let intent = if user_changed { active.intent.max(Intent::Renew) } else { active.intent };
    match intent {
        Intent::End if pending.is_default(context, active) => Ok(Plan::Delete),
        Intent::End | Intent::Renew => {
            pending.write(context, active, now, ExpiryUpdate::Restart, Some(fresh())).map(Plan::Rotate)
        }
        Intent::Rotate => {
            pending.write(context, active, now, ExpiryUpdate::Extend, Some(fresh())).map(Plan::Rotate)
        }
        Intent::Continue | Intent::Keep => {
            if changed || intent == Intent::Keep {
                pending.write(context, active, now, ExpiryUpdate::Extend, None).map(Plan::Write)
            } else if pending.refreshed || touch_is_due(context, active, now) {
                pending.write(context, active, now, ExpiryUpdate::Extend, None).map(Plan::Touch)
            } else {
                Ok(Plan::Keep)
            }
        }
    }
}

/// Returns whether a handler that could change a stored session has done nothing to it.
fn is_only_read<T>(active: &Active<T>, fields: &Fields) -> bool {
    active.intent == Intent::Continue
        && active.flash.is_empty()
        && active.stored.as_ref().is_some_and(|stored| keeps_lifetime(active, stored))
        && (0..fields.len()).all(|field| fields.get(field) == active.base.get(field))
}

fn keeps_lifetime<T>(active: &Active<T>, stored: &Stored) -> bool {
    active.lifetime.is_none_or(|lifetime| lifetime == stored.header.lifetime)
}

/// Decides what to do with a session that a handler could only read.
///
/// # Errors
///
/// As [`plan`].
pub(crate) fn plan_touch<T: Databag>(
    context: &Context,
    active: &Active<T>,
    now: Timestamp,
) -> Result<Plan, Error> {
    match &active.stored {
        Some(stored) if is_to_be_touched(context, active, now) => {
            let pending = PendingRecord {
                fields: active.base.clone(),
                changes: Vec::new(),
                projection: stored.projection.clone(),
                changed: false,
                refreshed: false,
            };
            pending.write(context, active, now, ExpiryUpdate::Extend, None).map(Plan::Touch)
        }
        _ => Ok(Plan::Keep),
    }
}

/// Returns whether a session that a handler could only read is to be stored.
pub(super) fn is_to_be_touched<T>(context: &Context, active: &Active<T>, now: Timestamp) -> bool {
    touch_is_due(context, active, now) && active.stored.as_ref().is_some_and(|stored| stored.expiration > now)
}

/// Sliding expiry and the last use are stored at most every minute or every tenth of the idle limit, whichever is shorter.
fn touch_is_due<T>(context: &Context, active: &Active<T>, now: Timestamp) -> bool {
    let Some(stored) = active.stored.as_ref().filter(|_| active.used_by == UsedBy::Visitor) else {
        return false;
    };
    let idle = context.config.idle(stored.header.lifetime);
    let extended = now.saturating_add(idle).min(stored.header.absolute);
    let unstored =
        extended.saturating_since(stored.expiration).max(now.saturating_since(stored.header.last_used));
    unstored > Duration::ZERO && unstored >= Duration::from_mins(1).min(idle / 10)
}

/// What a write does to the limits of the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExpiryUpdate {
    /// Both limits count from now.
    Restart,
    /// The idle limit counts from now, if a touch is due.
    Extend,
}

/// Encodes the fields of a session, and checks that what the request has changed comes back as it is. Nothing may decode
/// the fields into the bag before that: the bag would then equal what comes back.
///
/// # Errors
///
/// If a field does not encode, or [`Error::NotReadBack`].
pub(super) fn readable_fields<T: Databag>(context: &Context, active: &Active<T>) -> Result<Fields, Error> {
    let fields = Fields::against(&active.bag, &active.base)?;
    refuse_lost_changes(context, active, &fields)?;
    Ok(fields)
}

fn refuse_lost_changes<T: Databag>(
    context: &Context,
    active: &Active<T>,
    fields: &Fields,
) -> Result<(), Error> {
    refuse_lost(context, active, fields, |field| fields.get(field) != active.base.get(field))
}

/// Refuses fields that do not come back as they are, among those that `is_checked` selects.
fn refuse_lost<T: Databag>(
    context: &Context,
    active: &Active<T>,
    fields: &Fields,
    is_checked: impl Fn(usize) -> bool,
) -> Result<(), Error> {
    let mut checked = (0..fields.len()).filter(|&field| is_checked(field));
    match checked.find(|&field| !fields.reads_back(field, &active.bag)) {
        None => Ok(()),
        Some(field) => {
            let (field, remedy) = (T::SCHEMA.fields[field].name, context.layout.remedy(field));
            Err(Error::NotReadBack { field, remedy })
        }
    }
}

/// What a write would store.
struct PendingRecord {
    fields: Fields,
    changes: Vec<bool>,
    projection: Projection,
    /// Whether the handler changed a field.
    changed: bool,
    /// Whether there is something to store that no handler has changed: a flash value that this request received is still
    /// there, or the client says that it is another one.
    refreshed: bool,
}

impl PendingRecord {
    fn of<T: Databag>(context: &Context, active: &Active<T>, current: Fields) -> Result<Self, Error> {
        let none = |field| context.layout.none(field);
        refuse_lost_changes(context, active, &current)?;
        let read: Vec<usize> = active.received_flash(&current).collect();
        let flash_read = read.iter().any(|&field| active.base.get(field) != none(field));
        let fields = if read.is_empty() { current } else { current.with(&read, none) };
        let changes: Vec<bool> = (0..fields.len())
            .map(|field| fields.get(field) != active.base.get(field) && !read.contains(&field))
            .collect();
        let mut projection = Projection::default();
        active.bag.project(&mut projection);
        // A session that is to be bound to its first address is stored, or the answer is an error.
        let is_bound = context.config.bind_ip != Bind::Off;
        let binds = is_bound && active.stored.as_ref().is_some_and(|stored| stored.projection.ip.is_none());
        let is_of_client = projection.ip == active.client.ip && !binds;
        let of_client = |field: usize| {
            let field = &T::SCHEMA.fields[field];
            field.user_agent || is_of_client && matches!(field.role, Role::Ip(_))
        };
        let by_handler = |(field, &is_changed): (usize, &bool)| is_changed && !of_client(field);
        Ok(Self {
            fields,
            projection,
            changed: changes.iter().enumerate().any(by_handler),
            refreshed: flash_read || changes.contains(&true),
            changes,
        })
    }

    /// Returns when the fields with a `ttl` expire. The time counts from when the value was last changed.
    fn expiries<T: Databag>(
        &self,
        context: &Context,
        stored: Option<&Stored>,
        now: Timestamp,
    ) -> Vec<Option<Timestamp>> {
        let mut expiries = Vec::new();
        for (index, field) in T::SCHEMA.fields.iter().enumerate() {
            let Some(ttl) = field.ttl.filter(|_| self.fields.get(index) != context.layout.none(index)) else {
                continue;
            };
            let is_changed = self.changes.get(index).copied().unwrap_or(false);
            let known = stored.and_then(|stored| stored.expiries.get(index).copied().flatten());
            expiries.resize(self.fields.len(), None);
            expiries[index] = known.filter(|_| !is_changed).or_else(|| Some(now.saturating_add(ttl)));
        }
        expiries
    }

    /// Returns whether the bag equals that of a new session.
    fn is_default<T: Databag>(&self, context: &Context, active: &Active<T>) -> bool {
        T::SCHEMA.fields.iter().enumerate().all(|(index, field)| {
            let default = context.defaults.get(index);
            matches!(field.role, Role::Ip(_))
                || field.user_agent
                || self.fields.get(index) == default
                || active.bag.compare(index, default, Comparison::Unchanged)
        })
    }

    /// Returns the header of the record, which has the absolute limit, and when the row expires.
    fn header<T>(
        &self,
        context: &Context,
        active: &Active<T>,
        now: Timestamp,
        expiry: ExpiryUpdate,
    ) -> (Header, Timestamp) {
        let stored = active.stored.as_ref();
        let continued = stored.filter(|_| expiry == ExpiryUpdate::Extend);
        // A visitor may have chosen before the log-in, and not for the next user.
        let chosen =
            continued.or(stored.filter(|stored| !active.is_ending() && stored.projection.user.is_none()));
        let lifetime = active.lifetime.unwrap_or_else(|| {
            chosen.map_or_else(|| context.config.ordinary_lifetime(), |stored| stored.header.lifetime)
        });
        let continued_limits = continued.filter(|stored| stored.header.lifetime.limit == lifetime.limit);
        let limit = lifetime.limit.unwrap_or(context.config.absolute);
        let absolute = match continued {
            Some(stored) if continued_limits.is_some() => stored.header.absolute,
            // However often the limit changes, it ends no later than the longest one that counts from the log-in.
            Some(stored) => {
                let latest = stored.created.saturating_add(limit).max(stored.header.absolute);
                now.saturating_add(limit).min(latest)
            }
            None => now.saturating_add(limit),
        };
        let is_used = active.used_by == UsedBy::Visitor || continued.is_none();
        let header = Header {
            absolute,
            last_used: continued.filter(|_| !is_used).map_or(now, |stored| stored.header.last_used),
            lifetime,
            agent: if context.config.bind_agent { active.client.agent } else { None },
            authenticated: match continued {
                _ if self.projection.user.is_none() => None,
                Some(stored) if !active.authenticated => stored.header.authenticated,
                _ => Some(now),
            },
        };
        let expiration = match continued_limits {
            Some(stored) if !touch_is_due(context, active, now) => stored.expiration,
            _ => now.saturating_add(context.config.idle(lifetime)).min(absolute),
        };
        (header, expiration)
    }

    /// Returns which columns of a row differ from what is stored under the same id.
    fn scope(&self, stored: &Stored, expiration: Timestamp) -> Scope {
        if stored.has_other_columns || stored.projection != self.projection {
            Scope::Row
        } else if stored.expiration == expiration {
            Scope::State
        } else {
            Scope::Expiration
        }
    }

    fn write<T: Databag>(
        self,
        context: &Context,
        active: &Active<T>,
        now: Timestamp,
        expiry: ExpiryUpdate,
        token: Option<Token>,
    ) -> Result<Box<RowWrite>, Error> {
        let stored = active.stored.as_ref();
        let (header, expiration) = self.header(context, active, now, expiry);
        let expiries = self.expiries::<T>(context, stored, now);
        let created = match (stored, expiry) {
            (Some(stored), ExpiryUpdate::Extend) => stored.created,
            _ => now,
        };
        let revision = stored.map_or(1, |stored| stored.revision.wrapping_add(1));
        let id = token.as_ref().map_or(active.id, Token::session_id);

        let preserved = stored.filter(|_| !active.is_ending()).map_or(&[][..], |stored| &stored.preserved);
        let changed = |field: usize| self.changes.get(field).copied().unwrap_or(false);
        let record = assemble::<T>(&context.layout, &header, &self.fields, &expiries, preserved, changed);
        if record.len() > context.config.max_state_bytes {
            return Err(Error::TooLarge {
                size: record.len(),
                limit: context.config.max_state_bytes,
                field: self.fields.biggest::<T>(),
            });
        }
        let preserved = preserved.iter().filter(|preserved| preserved.is_kept(changed)).cloned().collect();
        let (bag, table) = (T::SCHEMA.name, T::SCHEMA.table);
        let binding = Binding { bag, table, id, created, expiration, revision };
        let state = context.protection.seal(&context.place, &binding, &record);

        let scope = match stored {
            Some(stored) if token.is_none() => self.scope(stored, expiration),
            _ => Scope::Row,
        };
        let max_per_user = match expiry {
            _ if self.projection.user.is_none() => None,
            _ if active.ends_others => Some(1),
            // A log-in. Any other write leaves the user as many sessions as before.
            ExpiryUpdate::Restart => T::SCHEMA.max_per_user,
            ExpiryUpdate::Extend => None,
        };
        let key = context.protection.blind_keys().next();
        let columns = context.blind.hashed(key, &self.projection).into_owned();
        let row = Row {
            id,
            state,
            user: columns.user,
            ip: columns.ip,
            created,
            expiration,
            revision,
            columns: columns.columns,
            damaged: None,
        };
        let stored = Stored {
            created,
            expiration,
            revision,
            projection: self.projection,
            has_other_columns: false,
            header,
            preserved,
            expiries,
        };
        let (ends_others, size, base) = (active.ends_others, record.len(), self.fields);
        Ok(Box::new(RowWrite { row, scope, token, max_per_user, ends_others, size, stored, base }))
    }
}
