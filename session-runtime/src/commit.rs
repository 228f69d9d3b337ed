//! The second half of a request: an [`Active`] session goes in, a [`Plan`] for the store comes out.
//!
//! A pure decision: time and the new token are arguments, and nothing is stored here.

use std::time::Duration;

use crate::bag::{Databag, Projection, Role};
use crate::clock::Timestamp;
use crate::envelope::Binding;
use crate::error::Error;
use crate::load::{Active, Intent, Rules, Stored};
use crate::record::{Fields, Header, assemble};
use crate::store::{Row, Scope, cookie};
use crate::token::Token;

/// What is to be done with a session's row.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing.
    Keep,
    /// Move its expiration and drop what was read, at no one's request: nothing is lost if it fails.
    Touch(Step),
    /// Add it.
    Create(Step),
    /// Replace its content.
    Write(Step),
    /// Replace its content and its id, in one.
    Rotate(Step),
    /// Remove it.
    Delete,
}

/// A row to be stored, and what the session is from then on.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) row: Row,
    pub(crate) scope: Scope,
    /// The token from then on, where it is another one.
    pub(crate) token: Option<Token>,
    pub(crate) stored: Stored,
    pub(crate) base: Fields,
}

/// Decides what to do with a session that a handler could change. `fresh` makes the token of a new id.
///
/// # Errors
///
/// If a field does not encode, or the record is too large.
pub(crate) fn plan<T: Databag>(
    rules: &Rules,
    active: &Active<T>,
    now: Timestamp,
    fresh: impl FnOnce() -> Token,
) -> Result<Plan, Error> {
    let draft = Draft::of(rules, active)?;
    let Some(stored) = &active.stored else {
        // A visitor whose bag was never changed leaves no trace.
        let wanted = draft.changed || matches!(active.intent, Intent::Keep | Intent::Renew);
        if !wanted {
            return Ok(Plan::Keep);
        }
        let token = active.token.clone().unwrap_or_else(fresh);
        return draft.step(rules, active, now, Life::New, Some(token)).map(Plan::Create);
    };
    let changed = draft.changed || active.remembered != stored.header.remembered;
    // It expired while the request was in flight: what it held is not to come back.
    if stored.expiration <= now && active.intent != Intent::Leave {
        let asked = changed || active.intent > Intent::Continue;
        return if asked { Err(Error::Ended) } else { Ok(Plan::Keep) };
    }
    let user = T::SCHEMA.fields.iter().position(|field| matches!(field.role, Role::User(_)));
    let user_changed = user.is_some_and(|user| draft.fields.get(user) != active.base.get(user));
    match active.intent {
        Intent::Leave if draft.is_default(rules, active) => Ok(Plan::Delete),
        Intent::Leave | Intent::Renew => {
            draft.step(rules, active, now, Life::New, Some(fresh())).map(Plan::Rotate)
        }
        _ if user_changed => draft.step(rules, active, now, Life::New, Some(fresh())).map(Plan::Rotate),
        Intent::Rotate => draft.step(rules, active, now, Life::Extended, Some(fresh())).map(Plan::Rotate),
        Intent::Continue | Intent::Keep => {
            if changed || active.intent == Intent::Keep {
                draft.step(rules, active, now, Life::Extended, None).map(Plan::Write)
            } else if draft.flash_read || touch_is_due(rules, active, now) {
                draft.step(rules, active, now, Life::Extended, None).map(Plan::Touch)
            } else {
                Ok(Plan::Keep)
            }
        }
    }
}

/// Decides what to do with a session that a handler could only look at.
///
/// # Errors
///
/// As [`plan`].
pub(crate) fn plan_touch<T: Databag>(
    rules: &Rules,
    active: &Active<T>,
    now: Timestamp,
) -> Result<Plan, Error> {
    match &active.stored {
        Some(stored) if touch_is_due(rules, active, now) && stored.expiration > now => {
            let draft = Draft {
                fields: active.base.clone(),
                changes: Vec::new(),
                projection: stored.projection.clone(),
                changed: false,
                flash_read: false,
            };
            draft.step(rules, active, now, Life::Extended, None).map(Plan::Touch)
        }
        _ => Ok(Plan::Keep),
    }
}

/// Sliding expiry is stored at most every minute or every tenth of `idle`, whichever is shorter. What was
/// found by its id is not in use by a visitor.
fn touch_is_due<T>(rules: &Rules, active: &Active<T>, now: Timestamp) -> bool {
    let Some(stored) = active.stored.as_ref().filter(|_| active.token.is_some()) else { return false };
    let interval = Duration::from_mins(1).min(rules.idle / 10);
    let gain = extended(rules, now, stored.header.absolute).saturating_since(stored.expiration);
    gain > Duration::ZERO && gain >= interval
}

fn extended(rules: &Rules, now: Timestamp, absolute: Timestamp) -> Timestamp {
    now.saturating_add(rules.idle).min(absolute)
}

/// How long the stored session is to live.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Both limits count from now on.
    New,
    /// The idle limit counts from now on, where a touch is due.
    Extended,
}

/// What would be stored.
struct Draft {
    fields: Fields,
    changes: Vec<bool>,
    projection: Projection,
    /// Whether the handler changed a field.
    changed: bool,
    /// Whether a flash value that this request received is still there.
    flash_read: bool,
}

impl Draft {
    fn of<T: Databag>(rules: &Rules, active: &Active<T>) -> Result<Self, Error> {
        let none = rules.layout.none();
        let current = Fields::against(&active.bag, &active.base)?;
        let still_there =
            |(field, value): &(usize, Vec<u8>)| (current.get(*field) == value).then_some(*field);
        let read: Vec<usize> = active.flash.iter().filter_map(still_there).collect();
        let flash_read = read.iter().any(|&field| active.base.get(field) != none);
        let fields = if read.is_empty() { current } else { current.with(&read, none) };
        let changes: Vec<bool> = (0..fields.len())
            .map(|field| fields.get(field) != active.base.get(field) && !read.contains(&field))
            .collect();
        let mut projection = Projection::default();
        active.bag.project(&mut projection);
        Ok(Self { fields, changed: changes.contains(&true), changes, projection, flash_read })
    }

    /// Tells whether there is nothing in the bag that a new session would not have.
    fn is_default<T: Databag>(&self, rules: &Rules, active: &Active<T>) -> bool {
        T::SCHEMA.fields.iter().enumerate().all(|(index, field)| {
            let default = rules.defaults.get(index);
            matches!(field.role, Role::Ip(_))
                || self.fields.get(index) == default
                || active.bag.equals(index, default)
        })
    }

    fn step<T: Databag>(
        self,
        rules: &Rules,
        active: &Active<T>,
        now: Timestamp,
        life: Life,
        token: Option<Token>,
    ) -> Result<Step, Error> {
        let stored = active.stored.as_ref();
        let leaves = active.is_leaving();
        let header = Header {
            absolute: match (life, stored) {
                (Life::Extended, Some(stored)) => stored.header.absolute,
                _ => now.saturating_add(rules.absolute),
            },
            remembered: active.remembered,
            agent: if rules.bind_agent { active.visitor.agent } else { None },
        };
        let expiration = match stored {
            Some(stored) if life == Life::Extended && !touch_is_due(rules, active, now) => stored.expiration,
            _ => extended(rules, now, header.absolute),
        };
        let created = stored.filter(|_| life == Life::Extended).map_or(now, |stored| stored.created);
        let revision = stored.map_or(1, |stored| stored.revision.wrapping_add(1));
        let id = token.as_ref().map_or(active.id, Token::session_id);

        let carried = stored.filter(|_| !leaves).map_or(&[][..], |stored| &stored.carried);
        let changed = |field: usize| self.changes.get(field).copied().unwrap_or(false);
        let record = assemble::<T>(&rules.layout, &header, &self.fields, carried, changed);
        if record.len() > rules.max_state_bytes {
            return Err(Error::TooLarge {
                size: record.len(),
                limit: rules.max_state_bytes,
                field: self.fields.biggest::<T>(),
            });
        }
        let carried = carried.iter().filter(|carried| carried.is_kept(changed)).cloned().collect();
        let binding = Binding { bag: T::SCHEMA.name, id, created, expiration, revision };
        let state = rules.protection.seal(rules.place::<T>(), &binding, record);

        let scope = match stored {
            Some(stored) if token.is_none() && stored.projection == self.projection => {
                if stored.expiration == expiration { Scope::State } else { Scope::Expiration }
            }
            _ => Scope::Row,
        };
        let row = Row {
            id,
            state,
            user: self.projection.user.clone(),
            ip: self.projection.ip,
            created,
            expiration,
            revision,
            columns: self.projection.columns.clone(),
        };
        let token = if rules.in_cookie() { cookie::pack(&row) } else { token };
        let stored = Stored { created, expiration, revision, projection: self.projection, header, carried };
        Ok(Step { row, scope, token, stored, base: self.fields })
    }
}
