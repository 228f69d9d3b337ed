//! What is configured of a bag's sessions, and what follows from the bag itself.

use std::time::Duration;

use super::blind::BlindColumns;
use crate::bag::encoding::Fields;
use crate::bag::record::{Layout, Lifetime};
use crate::bag::schema::{Bind, Persistence, Role, Schema};
use crate::codec::Framing;
use crate::envelope::{Place, Protection, max_state};

/// No session lives longer.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_hours(24 * 365 * 100);

/// The largest record, in bytes, unless the application says otherwise.
pub(crate) const MAX_STATE_BYTES: usize = 64 * 1024;

/// The settings of a bag's sessions.
#[derive(Clone, Debug)]
pub(crate) struct SessionConfig {
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
    /// Both limits of a remembered session.
    pub(crate) remember: Duration,
    pub(crate) bind_ip: Bind,
    pub(crate) bind_agent: bool,
    /// Whether the cookie of a new session outlives the browser.
    pub(crate) persistent: bool,
    /// How long a request waits for the store, with all its calls.
    pub(crate) deadline: Duration,
    /// The largest record, in bytes.
    pub(crate) max_state_bytes: usize,
    pub(crate) cleanup: Cleanup,
    /// How often a watched session is read.
    pub(crate) watch_period: Duration,
}

impl SessionConfig {
    const DEADLINE: Duration = Duration::from_secs(2);
    const WATCH_PERIOD: Duration = Duration::from_secs(5);

    /// Returns what the struct declares, and the defaults of everything else.
    pub(crate) fn new(schema: &Schema) -> Self {
        let declared = schema.fields.iter().find_map(|field| match field.role {
            Role::Ip(bind) => Some(bind),
            _ => None,
        });
        Self {
            idle: schema.idle,
            absolute: schema.absolute,
            remember: schema.remember,
            bind_ip: declared.unwrap_or(Bind::Off),
            bind_agent: false,
            persistent: schema.cookie.persistence == Persistence::Persistent,
            deadline: Self::DEADLINE,
            max_state_bytes: MAX_STATE_BYTES,
            cleanup: Cleanup::default(),
            watch_period: Self::WATCH_PERIOD,
        }
    }

    /// Returns the lifetime of a session that no handler has given another one.
    pub(crate) fn ordinary_lifetime(&self) -> Lifetime {
        Lifetime { persistent: self.persistent, limit: None }
    }

    /// Returns the idle limit of a session.
    pub(crate) fn idle(&self, lifetime: Lifetime) -> Duration {
        lifetime.limit.unwrap_or(self.idle)
    }

    /// Returns the longest state of a row that is read.
    pub(crate) fn max_state(&self, framing: Framing) -> usize {
        max_state(self.max_state_bytes, framing)
    }
}

/// What both halves of a request know of the bag.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: SessionConfig,
    pub(crate) layout: Layout,
    /// The fields of a new session.
    pub(crate) defaults: Fields,
    pub(crate) protection: Protection,
    /// Where records are kept.
    pub(crate) place: Place,
    pub(super) blind: BlindColumns,
}

/// When expired rows are removed. An expired session never opens, whatever is chosen.
///
/// Cleanup pauses while the system clock is more than a minute off from the time that has passed since the start:
/// after it was set, or after the machine was suspended. It continues after 24 hours, or when the clocks agree again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cleanup {
    /// Not by this process.
    Never,
    /// A batch of them with every request that stores something.
    EveryRequest,
    /// All of them, in small batches, each time this has passed. The default, with 30 minutes.
    Every(Duration),
}

impl Default for Cleanup {
    fn default() -> Self {
        Self::Every(Duration::from_mins(30))
    }
}
