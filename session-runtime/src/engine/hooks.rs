//! The application's callbacks.

use std::fmt;

use crate::error::Rejection;
use crate::token::SessionId;

type Hook<E> = Box<dyn Fn(E) + Send + Sync>;

/// Each callback does nothing until it is set.
pub(crate) struct Hooks {
    pub(crate) started: Hook<SessionId>,
    pub(crate) loaded: Hook<SessionId>,
    pub(crate) rotated: Box<dyn Fn(SessionId, SessionId) + Send + Sync>,
    pub(crate) deleted: Hook<SessionId>,
    pub(crate) rejected: Hook<Rejection>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            started: Box::new(|_| {}),
            loaded: Box::new(|_| {}),
            rotated: Box::new(|_, _| {}),
            deleted: Box::new(|_| {}),
            rejected: Box::new(|_| {}),
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks(..)")
    }
}
