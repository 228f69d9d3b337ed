//! The first half of a request: a row goes in, an [`Active`] session or a reason against it comes out.
//!
//! A pure decision: the row has been read, time and the visitor are arguments.

use std::net::IpAddr;
use std::time::Duration;

use crate::bag::{Bind, Databag, Projection, Role};
use crate::clock::Timestamp;
use crate::codec::Codec as _;
use crate::envelope::{Binding, OpenError, Place, Protection};
use crate::error::{Error, Rejection};
use crate::record::{self, Carried, EncodeError, Fields, Header, Layout};
use crate::store::Row;
use crate::token::{Hex, SessionId, Token};

/// What both halves of a request go by: the same for every session of a bag.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) layout: Layout,
    /// The fields of a new session.
    pub(crate) defaults: Fields,
    pub(crate) protection: Protection,
    /// The name of the cookie that sessions are in, where no row of them is kept.
    pub(crate) cookie: Option<String>,
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
    pub(crate) bind_ip: Bind,
    pub(crate) bind_agent: bool,
    pub(crate) max_state_bytes: usize,
}

impl Rules {
    /// Returns where the records of a bag go.
    pub(crate) fn place<T: Databag>(&self) -> Place<'_> {
        self.cookie.as_deref().map_or(Place::in_row(T::Codec::FRAMING), Place::Cookie)
    }

    /// Tells whether sessions are in their visitors' cookies.
    pub(crate) fn in_cookie(&self) -> bool {
        self.cookie.is_some()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) ip: Option<IpAddr>,
    /// A hash of the user agent.
    pub(crate) agent: Option<u64>,
}

/// A session in the hands of a request.
#[derive(Debug)]
pub(crate) struct Active<T> {
    pub(crate) bag: T,
    pub(crate) id: SessionId,
    /// The token, unless the session was found by its id.
    pub(crate) token: Option<Token>,
    /// What is stored; `None` for a session that is not.
    pub(crate) stored: Option<Stored>,
    /// What the bag is compared with to tell what has changed.
    pub(crate) base: Fields,
    pub(crate) remembered: bool,
    pub(crate) intent: Intent,
    pub(crate) visitor: Visitor,
    /// The flash values that this request received.
    pub(crate) flash: Vec<(usize, Vec<u8>)>,
}

/// What is stored of a session, besides its fields.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) created: Timestamp,
    pub(crate) expiration: Timestamp,
    pub(crate) revision: i64,
    pub(crate) projection: Projection,
    pub(crate) header: Header,
    pub(crate) carried: Vec<Carried>,
}

/// What is to become of a session besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Intent {
    /// It goes on; without a change there is nothing to do.
    Continue,
    /// It goes on, and is written even if nothing has changed.
    Keep,
    /// It goes on under another id.
    Rotate,
    /// It begins anew under another id: somebody has logged in.
    Renew,
    /// It ends; what the bag holds now, if anything, begins a new one.
    Leave,
}

impl<T: Databag> Active<T> {
    /// Begins a session that is not stored yet.
    pub(crate) fn fresh(token: Token, visitor: Visitor) -> Result<Self, EncodeError> {
        let mut bag = T::defaults();
        bag.set_ip(visitor.ip);
        Ok(Self {
            base: Fields::of(&bag)?,
            bag,
            id: token.session_id(),
            token: Some(token),
            stored: None,
            remembered: false,
            intent: Intent::Continue,
            visitor,
            flash: Vec::new(),
        })
    }
}

impl<T> Active<T> {
    /// Tells whether the session as it is stored is to end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.stored.is_some() && self.intent == Intent::Leave
    }
}

/// What a row turned out to be.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(crate) enum Verdict<T> {
    Live(Active<T>),
    Rejected(Rejection),
}

/// Opens a row. Without a visitor nothing is checked against one.
///
/// # Errors
///
/// If the row is sealed under a key that is missing: that is a mistake of ours, not of the visitor's.
pub(crate) fn open<T: Databag>(
    rules: &Rules,
    row: Row,
    token: Option<Token>,
    visitor: Option<Visitor>,
    now: Timestamp,
) -> Result<Verdict<T>, Error> {
    if row.expiration <= now {
        return Ok(Verdict::Rejected(Rejection::Expired));
    }
    let binding = Binding {
        bag: T::SCHEMA.name,
        id: row.id,
        created: row.created,
        expiration: row.expiration,
        revision: row.revision,
    };
    let record = match rules.protection.open(rules.place::<T>(), &binding, &row.state) {
        Ok(record) => record,
        Err(OpenError::UnknownKey(id)) => {
            return Err(Error::UnknownKey { id: Hex(&id).to_string() });
        }
        Err(OpenError::Malformed | OpenError::Forged) => return Ok(Verdict::Rejected(Rejection::Tampered)),
    };
    let loaded = match record::load::<T>(&rules.layout, record) {
        Ok(loaded) => loaded,
        Err(error) => return Ok(Verdict::Rejected(Rejection::Undecodable { field: error.field })),
    };
    if loaded.header.absolute <= now {
        return Ok(Verdict::Rejected(Rejection::Expired));
    }
    let mut bag = loaded.bag;
    let mut sealed = Projection::default();
    bag.project(&mut sealed);
    let projection = if rules.in_cookie() {
        // There are no columns that could say anything else.
        sealed.clone()
    } else {
        Projection { user: row.user, ip: row.ip, columns: row.columns }
    };
    if !agree::<T>(&sealed, &projection, &loaded.projected) {
        return Ok(Verdict::Rejected(Rejection::Tampered));
    }
    if let Some(visitor) = visitor {
        if !same_network(rules.bind_ip, sealed.ip, visitor.ip) {
            return Ok(Verdict::Rejected(Rejection::Address));
        }
        // A session from before agents were bound is bound when it is next written.
        if rules.bind_agent && loaded.header.agent.is_some_and(|bound| Some(bound) != visitor.agent) {
            return Ok(Verdict::Rejected(Rejection::UserAgent));
        }
        bag.set_ip(visitor.ip);
    }
    Ok(Verdict::Live(Active {
        bag,
        id: row.id,
        token,
        // Flash values are for visitors: no one else uses them up.
        flash: if visitor.is_some() { flash::<T>(rules, &loaded.fields) } else { Vec::new() },
        base: loaded.fields,
        remembered: loaded.header.remembered,
        intent: Intent::Continue,
        visitor: visitor.unwrap_or(Visitor { ip: projection.ip, agent: loaded.header.agent }),
        stored: Some(Stored {
            created: row.created,
            expiration: row.expiration,
            revision: row.revision,
            projection,
            header: loaded.header,
            carried: loaded.carried,
        }),
    }))
}

/// Compares the columns of a row with what was sealed, as far as it was projected when it was sealed.
fn agree<T: Databag>(sealed: &Projection, row: &Projection, projected: &[bool]) -> bool {
    let mut column = 0;
    T::SCHEMA.fields.iter().zip(projected).all(|(field, &projected)| match field.role {
        Role::Plain => true,
        Role::User(_) => !projected || sealed.user == row.user,
        Role::Ip(_) => !projected || sealed.ip == row.ip,
        Role::Column { .. } => {
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

fn flash<T: Databag>(rules: &Rules, fields: &Fields) -> Vec<(usize, Vec<u8>)> {
    let flash = T::SCHEMA.fields.iter().enumerate().filter(|(_, field)| field.flash);
    let received =
        flash.map(|(field, _)| (field, fields.get(field))).filter(|(_, value)| *value != rules.layout.none());
    received.map(|(field, value)| (field, value.to_vec())).collect()
}
