//! What became of sessions a moment ago, in this process.
//!
//! A log-out may find that its session has ended, or has gone on under another id while the request was in
//! flight. The store cannot tell the two apart: a row is gone in either case. The first is what was wanted, and
//! the second must not be answered as if it were.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::token::SessionId;

/// How many are remembered: more than can change while one request is in flight.
const REMEMBERED: usize = 4096;

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has ended.
    Ended,
    /// It goes on under this id.
    Renamed(SessionId),
}

#[derive(Debug, Default)]
pub(crate) struct Recent {
    fates: Mutex<Fates>,
}

#[derive(Debug, Default)]
struct Fates {
    of: HashMap<SessionId, Fate>,
    oldest_first: VecDeque<SessionId>,
}

impl Recent {
    pub(crate) fn note(&self, id: SessionId, fate: Fate) {
        let mut fates = self.fates();
        // An id meets its fate once.
        if fates.of.insert(id, fate).is_none() {
            fates.oldest_first.push_back(id);
        }
        if fates.oldest_first.len() > REMEMBERED
            && let Some(oldest) = fates.oldest_first.pop_front()
        {
            fates.of.remove(&oldest);
        }
    }

    pub(crate) fn fate(&self, id: SessionId) -> Option<Fate> {
        self.fates().of.get(&id).copied()
    }

    /// Returns the id that a session goes on under, as far as this process has renamed it.
    pub(crate) fn latest_id(&self, mut id: SessionId) -> SessionId {
        let fates = self.fates();
        while let Some(Fate::Renamed(next)) = fates.of.get(&id) {
            id = *next;
        }
        id
    }

    fn fates(&self) -> MutexGuard<'_, Fates> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let recent = Recent::default();
        let id = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            SessionId::from_bytes(bytes)
        };
        for n in 0..=REMEMBERED {
            recent.note(id(n), Fate::Renamed(id(n + 1)));
        }
        assert_eq!((recent.fate(id(0)), recent.fate(id(1))), (None, Some(Fate::Renamed(id(2)))));
        assert_eq!(recent.fates().of.len(), REMEMBERED);
    }
}
