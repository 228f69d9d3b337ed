//! What the CSRF tokens of a request are bound to, and what becomes of the visitor's CSRF cookie.
//!
//! The token of a stored session is bound to its id. Without a stored session it is bound to a visitor's id, which the
//! cookie carries: so a form costs no row. If the visitor's session is stored later, and no user has logged in, the cookie
//! is bound to the id of that session, so that forms in other tabs stay good. A log-in changes the id and ends them.
//!
//! Without `__Host-` in its name a neighbouring host can set the cookie, together with tokens of its own for the same
//! visitor's id. Then that id does not pass into the session, and the forms end with its beginning.

use std::cell::Cell;

use crate::bag::{Databag, Projection};
#[cfg(feature = "actix")]
use crate::engine::core::CookieUpdate;
use crate::engine::load::Active;
use crate::envelope::{CsrfCookie, CsrfKeys};
use crate::token::SessionId;

#[derive(Default)]
pub(super) struct CsrfState {
    /// The cookie of the request.
    sent: Cell<Option<CsrfCookie>>,
    /// Whether browsers let no other host set it.
    #[cfg(feature = "actix")]
    is_host_only: Cell<bool>,
    /// The id of the session that the request came with, or of a new one.
    loaded: Cell<Option<SessionId>>,
    visitor: Cell<Option<Visitor>>,
}

#[derive(Clone, Copy)]
struct Visitor {
    id: SessionId,
    /// Whether this request has handed out its first token.
    #[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "only a middleware sends cookies"))]
    is_issued: bool,
}

/// What the client's CSRF cookie has to become.
#[cfg(feature = "actix")]
#[derive(Debug)]
pub(crate) enum CsrfCookieUpdate {
    Set(Box<CsrfCookie>),
    Remove,
}

impl CsrfState {
    /// Notes the cookie of the request, before the session is loaded.
    #[cfg(feature = "actix")]
    pub(super) fn receive(&self, cookie: Option<CsrfCookie>, is_host_only: bool) {
        self.sent.set(cookie);
        self.is_host_only.set(is_host_only);
    }

    /// Finds the visitor of the cookie, when the session is loaded.
    pub(super) fn begin<T: Databag>(&self, keys: &CsrfKeys, active: &Active<T>) {
        let session = active.stored.as_ref().map(|_| active.id);
        let visitor = self.sent.get().and_then(|cookie| keys.visitor(&cookie, session));
        self.visitor.set(visitor.map(|id| Visitor { id, is_issued: false }));
        self.loaded.set(Some(active.id));
    }

    /// Returns a token for a form.
    pub(super) fn token<T: Databag>(&self, keys: &CsrfKeys, active: &Active<T>) -> String {
        if active.stored.is_some() || has_user(&active.bag) {
            return keys.token(active.id);
        }
        let visitor = self.visitor.get().unwrap_or(Visitor { id: active.id, is_issued: true });
        self.visitor.set(Some(visitor));
        keys.token(visitor.id)
    }

    /// Returns whether a token is good for the session `id` or for the visitor.
    pub(super) fn verify(&self, keys: &CsrfKeys, id: SessionId, submitted: &[u8]) -> bool {
        let visitor = self.visitor.get().map_or(id, |visitor| visitor.id);
        keys.verify(submitted, &[id, visitor])
    }

    /// Like [`verify`](Self::verify), for the session that the request came with.
    #[cfg(feature = "actix")]
    pub(super) fn verify_loaded(&self, keys: &CsrfKeys, submitted: &[u8]) -> bool {
        self.loaded.get().is_some_and(|id| self.verify(keys, id, submitted))
    }

    /// Forgets the visitor if a user has logged in, at the end of the request.
    #[cfg(feature = "actix")]
    pub(super) fn end_at_log_in<T: Databag>(&self, bag: &T) {
        if self.visitor.get().is_some() && has_user(bag) {
            self.visitor.set(None);
        }
    }

    /// Returns what the answer does to the cookie. `known` is the id that the client's session cookie opens, and `cookie` what
    /// the answer does to that one.
    #[cfg(feature = "actix")]
    pub(super) fn update(
        &self,
        keys: &CsrfKeys,
        known: Option<SessionId>,
        cookie: Option<&CookieUpdate>,
    ) -> Option<CsrfCookieUpdate> {
        let removal = || self.sent.get().map(|_| CsrfCookieUpdate::Remove);
        let visitor = self.visitor.get();
        let issued = || visitor.filter(|visitor| visitor.is_issued).map(|visitor| visitor.id);
        let set = |visitor, session| CsrfCookieUpdate::Set(Box::new(keys.cookie(visitor, session)));
        match cookie {
            Some(CookieUpdate::Set { token, .. }) => {
                let id = token.session_id();
                if known == Some(id) {
                    return None;
                }
                let is_own = |visitor: &Visitor| visitor.is_issued || self.is_host_only.get();
                let begins = visitor.filter(|visitor| known.is_none() && visitor.id != id && is_own(visitor));
                begins.map(|visitor| set(visitor.id, Some(id))).or_else(removal)
            }
            Some(CookieUpdate::Remove) => issued().map(|id| set(id, None)).or_else(removal),
            None if known.is_some() => None,
            None => issued().map(|id| set(id, None)),
        }
    }
}

fn has_user<T: Databag>(bag: &T) -> bool {
    let mut projection = Projection::default();
    bag.project(&mut projection);
    projection.user.is_some()
}
