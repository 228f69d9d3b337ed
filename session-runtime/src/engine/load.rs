//! The first half of a request: a row enters, an [`Active`] session or a [`Rejection`] leaves.
//!
//! A pure decision: the row has been read; the time and the client are arguments.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::config::Context;
use super::event::EndCause;
use crate::bag::encoding::{EncodeError, Fields};
use crate::bag::record::{self, Header, Lifetime, PreservedField};
use crate::bag::schema::{Bind, Role};
use crate::bag::{Databag, Projection};
use crate::clock::Timestamp;
use crate::codec::Codec as _;
use crate::envelope::{Binding, BlindKey, OpenError, Place};
use crate::error::{Error, Rejection};
use crate::store::Row;
use crate::token::{Hex, SessionId, Token};

/// The client of a request.
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) ip: Option<IpAddr>,
    /// A hash of the user agent, for sessions that are bound to theirs.
    pub(crate) agent: Option<u64>,
    /// The user agent, for bags with a field for it.
    pub(crate) user_agent: Option<Arc<str>>,
}

impl Client {
    /// Fills the fields of a bag that are the client's.
    pub(crate) fn fill<T: Databag>(&self, bag: &mut T) {
        bag.set_ip(self.ip);
        bag.set_user_agent(self.user_agent.as_deref());
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(..)")
    }
}

/// A session that a request works on.
#[derive(Debug)]
pub(crate) struct Active<T> {
    pub(crate) bag: T,
    pub(crate) id: SessionId,
    /// The token; `None` if the session was found by its id.
    pub(crate) token: Option<Token>,
    pub(super) used_by: UsedBy,
    /// What is stored; `None` for a new session.
    pub(crate) stored: Option<Stored>,
    /// The fields that the bag is compared with to find what has changed.
    pub(crate) base: Fields,
    /// The lifetime that this request has given the session; `None` if it has not.
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) intent: Intent,
    /// Why the session ends, if it is to end.
    pub(crate) end_cause: EndCause,
    /// Whether the user has proved again who they are.
    pub(crate) authenticated: bool,
    /// Whether the next write ends all other sessions of the user.
    pub(crate) ends_others: bool,
    /// When the request has begun.
    pub(super) begun: Timestamp,
    pub(crate) client: Client,
    /// The flash values that this request received, as far as the handler has set no others.
    pub(super) flash: Vec<(usize, Vec<u8>)>,
    /// Whether a write was sent and not confirmed: it is unknown what is stored.
    pub(crate) unconfirmed: bool,
}

/// Who uses a session: only its visitor extends its idle expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsedBy {
    Visitor,
    /// It was found by its id.
    Application,
}

/// What is stored of a session, besides its fields.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) created: Timestamp,
    pub(crate) expiration: Timestamp,
    pub(crate) revision: i64,
    /// The values of the projected fields, as they are sealed.
    pub(crate) projection: Projection,
    /// Whether the columns of the row are others than those of a row that is written with these values.
    pub(super) has_other_columns: bool,
    pub(crate) header: Header,
    pub(crate) preserved: Vec<PreservedField>,
    /// When the fields with a `ttl` expire.
    pub(crate) expiries: Vec<Option<Timestamp>>,
}

/// What the handler wants to become of the session, besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Intent {
    /// It continues; without a change nothing is written.
    Continue,
    /// It continues, and is written even without a change.
    Keep,
    /// It continues under another id.
    Rotate,
    /// It starts again under another id: a user has logged in.
    Renew,
    /// It ends. What the bag holds now, if anything, begins a new session.
    End,
}

impl<T: Databag> Active<T> {
    /// Makes a session that is not stored yet.
    pub(super) fn fresh(token: Token, client: Client, now: Timestamp) -> Result<Self, EncodeError> {
        let mut bag = T::defaults();
        client.fill(&mut bag);
        bag.set_times(now);
        let base = Fields::of(&bag)?;
        Ok(Self::new(token.session_id(), Some(token), bag, base, client, now))
    }

    /// Returns the flash fields that hold what this request received; `fields` are those of the bag.
    pub(super) fn received_flash(&self, fields: &Fields) -> impl Iterator<Item = usize> {
        let received = |(field, value): &(usize, Vec<u8>)| {
            (fields.get(*field) == value && self.bag.is_flash_marked(*field)).then_some(*field)
        };
        self.flash.iter().filter_map(received)
    }

    /// Drops the received flash values in whose place the handler has set others; `fields` are those of the bag.
    pub(crate) fn forget_replaced_flash(&mut self, fields: &Fields) {
        let received: Vec<usize> = self.received_flash(fields).collect();
        self.flash.retain(|(field, _)| received.contains(field));
    }

    /// Takes the flash values that are stored for those that this request has received.
    pub(crate) fn receive_flash(&mut self, context: &Context) {
        self.flash = flash::<T>(context, &self.base);
        self.set_up_bag();
    }

    /// Tells the bag what its fields know of the request and do not store, after it was decoded.
    pub(crate) fn set_up_bag(&mut self) {
        self.set_times();
        for (field, _) in &self.flash {
            self.bag.mark_flash(*field);
        }
    }

    /// Tells the bag the time of the request, which a bag that the application has put in its place does not know.
    pub(crate) fn set_times(&mut self) {
        self.bag.set_times(self.begun);
    }
}

impl<T> Active<T> {
    fn new(
        id: SessionId,
        token: Option<Token>,
        bag: T,
        base: Fields,
        client: Client,
        begun: Timestamp,
    ) -> Self {
        Self {
            bag,
            id,
            used_by: if token.is_some() { UsedBy::Visitor } else { UsedBy::Application },
            token,
            stored: None,
            base,
            lifetime: None,
            intent: Intent::Continue,
            end_cause: EndCause::Destroyed,
            authenticated: false,
            ends_others: false,
            begun,
            client,
            flash: Vec::new(),
            unconfirmed: false,
        }
    }

    /// Returns whether a stored session is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.stored.is_some() && self.intent == Intent::End
    }
}

/// The session of a row, or the reason why it is not accepted.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is matched at once, never stored")]
pub(crate) enum LoadOutcome<T> {
    Live(Active<T>),
    Rejected(Rejection),
}

/// Opens a row. `columns` are what the store keeps beside the sealed state; `None` if it keeps nothing beside.
/// Without a client the session's bindings are not checked.
///
/// # Errors
///
/// If a row of a store is sealed under a key that is missing: a mistake in the configuration, not of the visitor.
pub(crate) fn open<T: Databag>(
    context: &Context,
    row: Row,
    columns: Option<&Projection>,
    token: Option<Token>,
    client: Option<Client>,
    now: Timestamp,
) -> Result<LoadOutcome<T>, Error> {
    if row.damaged.is_some() {
        return Ok(LoadOutcome::Rejected(Rejection::Tampered));
    }
    if row.state.len() > context.config.max_state(T::Codec::FRAMING) {
        return Ok(LoadOutcome::Rejected(Rejection::TooLarge));
    }
    if row.expiration <= now {
        context.protection.forget(row.id);
        return Ok(LoadOutcome::Rejected(Rejection::Expired));
    }
    let binding = Binding {
        bag: T::SCHEMA.name,
        table: T::SCHEMA.table,
        id: row.id,
        created: row.created,
        expiration: row.expiration,
        revision: row.revision,
    };
    let key = if context.blind.is_empty() {
        None
    } else {
        context.protection.blind_key_of(&context.place, &row.state)
    };
    let record = match context.protection.open(&context.place, &binding, row.state) {
        Ok(record) => record,
        // Anyone can write the name of a key into a cookie.
        Err(OpenError::UnknownKey(_)) if matches!(context.place, Place::Cookie(_)) => {
            return Ok(LoadOutcome::Rejected(Rejection::UnknownKey));
        }
        Err(OpenError::UnknownKey(id)) => {
            return Err(Error::UnknownKey { id: Hex(&id).to_string() });
        }
        Err(OpenError::Malformed | OpenError::Forged) => {
            return Ok(LoadOutcome::Rejected(Rejection::Tampered));
        }
    };
    let loaded = match record::load::<T>(&context.layout, record, now) {
        Ok(loaded) => loaded,
        Err(error) => return Ok(LoadOutcome::Rejected(Rejection::Undecodable { field: error.field })),
    };
    if loaded.header.absolute <= now {
        return Ok(LoadOutcome::Rejected(Rejection::Expired));
    }
    let mut bag = loaded.bag;
    let mut sealed = Projection::default();
    bag.project(&mut sealed);
    let has_other_columns = {
        let expected = context.blind.hashed(key, &sealed);
        let columns = columns.unwrap_or(&expected);
        if !columns_match::<T>(&expected, columns, &loaded.projected) {
            return Ok(LoadOutcome::Rejected(Rejection::Tampered));
        }
        let current = context.protection.blind_keys().next().filter(|_| key.is_some());
        columns != &*expected || !same_key(key, current)
    };
    let is_visitor = client.is_some();
    if let Some(client) = &client {
        if !same_network(context.config.bind_ip, sealed.ip, client.ip) {
            return Ok(LoadOutcome::Rejected(Rejection::Address));
        }
        // A session stored without an agent is bound when it is next written.
        if context.config.bind_agent && loaded.header.agent.is_some_and(|bound| Some(bound) != client.agent) {
            return Ok(LoadOutcome::Rejected(Rejection::UserAgent));
        }
        client.fill(&mut bag);
    }
    let client = client.unwrap_or(Client { ip: sealed.ip, agent: loaded.header.agent, user_agent: None });
    let mut active = Active::new(row.id, token, bag, loaded.fields, client, now);
    active.stored = Some(Stored {
        created: row.created,
        expiration: row.expiration,
        revision: row.revision,
        projection: sealed,
        has_other_columns,
        header: loaded.header,
        preserved: loaded.preserved,
        expiries: loaded.expiries,
    });
    // Only a visitor's request uses flash values up.
    if is_visitor {
        active.receive_flash(context);
    } else {
        active.set_up_bag();
    }
    Ok(LoadOutcome::Live(active))
}

fn same_key(one: Option<&BlindKey>, other: Option<&BlindKey>) -> bool {
    one.map(std::ptr::from_ref) == other.map(std::ptr::from_ref)
}

/// Compares the columns of a row with those that the sealed values have, where they had a column when they were sealed.
fn columns_match<T: Databag>(sealed: &Projection, row: &Projection, projected: &[bool]) -> bool {
    let mut column = 0;
    T::SCHEMA.fields.iter().zip(projected).all(|(field, &projected)| match field.role {
        Role::Plain => true,
        Role::User(_) => !projected || sealed.user == row.user,
        Role::Ip(_) if !field.blind => !projected || sealed.ip == row.ip,
        Role::Ip(_) | Role::Column { .. } => {
            column += 1;
            !projected || sealed.columns.get(column - 1) == row.columns.get(column - 1)
        }
    })
}

fn same_network(bind: Bind, bound: Option<IpAddr>, ip: Option<IpAddr>) -> bool {
    let Some(bound) = bound else { return true };
    match (bind, ip) {
        (Bind::Off, _) => true,
        (_, None) => false,
        (Bind::Exact, Some(ip)) => bound == ip,
        (Bind::Prefix, Some(ip)) => match (bound, ip) {
            (IpAddr::V4(bound), IpAddr::V4(ip)) => bound.octets()[..3] == ip.octets()[..3],
            (IpAddr::V6(bound), IpAddr::V6(ip)) => bound.octets()[..8] == ip.octets()[..8],
            _ => false,
        },
    }
}

fn flash<T: Databag>(context: &Context, fields: &Fields) -> Vec<(usize, Vec<u8>)> {
    let flash = T::SCHEMA.fields.iter().enumerate().filter(|(_, field)| field.flash);
    let received = flash
        .map(|(field, _)| (field, fields.get(field)))
        .filter(|(field, value)| *value != context.layout.none(*field));
    received.map(|(field, value)| (field, value.to_vec())).collect()
}
