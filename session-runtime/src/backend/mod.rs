//! Where sessions are kept: rows in a store, or each session in its own cookie.
//!
//! Everything above calls a [`Backend`]. Where a rule depends on who holds the sessions, such as whether they are found by
//! their ids, it asks the backend for its [`Custody`].

pub(crate) mod access;
pub(crate) mod any;
#[cfg(feature = "cookie")]
pub(crate) mod cookie;
mod observed;
pub(crate) mod rows;
pub(crate) mod tombstones;

use std::sync::Arc;
use std::time::Instant;

use crate::bag::Projection;
use crate::clock::Timestamp;
use crate::codec::Framing;
use crate::envelope::Place;
use crate::store::{DynDirectory, LimitedWrite, Outcome, Row, RowVersions, StoreFuture, Update};
use crate::token::{SessionId, Token};

use self::tombstones::Tombstones;

/// Keeps the sealed sessions of one bag.
pub(crate) trait Backend: Send + Sync {
    /// Returns whether a token has the form of this backend's tokens. It changes when the store is replaced.
    fn is_token(&self, token: &Token) -> bool;

    /// Returns the row that a token opens.
    fn load<'a>(&'a self, token: &'a Token, deadline: Instant) -> StoreFuture<'a, Option<Row>>;

    /// The same for a request that begins: the row may lack what another process has stored meanwhile.
    fn load_cached<'a>(&'a self, token: &'a Token, deadline: Instant) -> StoreFuture<'a, Option<Row>> {
        self.load(token, deadline)
    }

    /// Returns what is stored now of a session that this request has loaded.
    fn reload(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Reloaded>;

    /// Returns the versions of the rows of these sessions.
    fn load_versions<'a>(&'a self, ids: &'a [SessionId], deadline: Instant) -> StoreFuture<'a, RowVersions>;

    fn insert(&self, row: Row, deadline: Instant) -> StoreFuture<'_, ()>;

    fn replace(&self, update: Update, deadline: Instant) -> StoreFuture<'_, Outcome>;

    fn delete(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, bool>;

    fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> StoreFuture<'_, u64>;

    fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> StoreFuture<'_, (Outcome, Vec<SessionId>)>;

    /// Refuses a session in this process whose deletion failed.
    fn block(&self, id: SessionId);

    /// Returns whether this process refuses a session that may look alive elsewhere.
    fn is_ended_here(&self, id: SessionId) -> bool;

    fn tombstones(&self) -> &Tombstones;

    /// Returns the token of a session after its row was written; `token` is its random token.
    fn token(&self, row: &Row, token: Option<Token>) -> Option<Token>;

    /// Takes the columns out of a row, which must equal what is sealed; `None` if there are no columns.
    fn columns(&self, row: &mut Row) -> Option<Projection>;

    /// Returns who can change what is kept.
    fn custody(&self) -> Custody;

    /// Returns where records of this framing are kept; `cookie` is the cookie's name.
    fn place(&self, framing: Framing, cookie: &str) -> Place;

    /// Returns the most bytes that a sealed record can have.
    fn max_state_len(&self, cookie: &str) -> usize;

    /// Returns why sessions cannot be configured so.
    fn refusal(&self, requirements: Requirements) -> Option<&'static str>;
}

/// What is stored of a session now.
#[derive(Debug)]
pub(crate) enum Reloaded {
    Row(Row),
    Gone,
    /// The request holds all there is.
    #[cfg_attr(not(feature = "cookie"), expect(dead_code, reason = "for `CookieStore`"))]
    Unchanged,
}

/// Who holds the sealed sessions, and could change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Custody {
    /// The store. A sealed state that does not open points to an attack on it.
    Store,
    /// The clients. Anyone can send a sealed state that does not open.
    Client,
}

/// What a configuration asks of its backend.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cookie"), expect(dead_code, reason = "for `CookieStore`"))]
pub(crate) struct Requirements {
    pub(crate) plaintext: bool,
    pub(crate) max_per_user: bool,
    pub(crate) flows: bool,
}

/// A backend that is ready, and its lists, if it keeps any.
pub(crate) struct Opened {
    /// The bag that the table belongs to.
    pub(crate) owner: String,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) directory: Option<Arc<dyn DynDirectory>>,
}
