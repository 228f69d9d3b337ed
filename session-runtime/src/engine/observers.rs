//! The application's observers: each is told of every [`Event`].

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::event::Event;

type Observer = Box<dyn Fn(&Event) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Observers {
    all: Vec<Observer>,
    /// Whether any is told of what costs something to find out: the time of a call, and the number of live sessions.
    measures: bool,
}

impl Observers {
    /// Adds an observer of everything.
    pub(crate) fn add(&mut self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        self.measures = true;
        self.all.push(Box::new(observer));
    }

    /// Adds an observer of the events that `pick` finds something in.
    pub(crate) fn add_hook<E>(
        &mut self,
        pick: fn(&Event) -> Option<E>,
        hook: impl Fn(E) + Send + Sync + 'static,
    ) where
        E: 'static,
    {
        self.all.push(Box::new(move |event| {
            if let Some(found) = pick(event) {
                hook(found);
            }
        }));
    }

    /// Returns whether calls of the store are timed, and sessions counted.
    pub(crate) fn measures(&self) -> bool {
        self.measures
    }

    /// Tells of an event. What has happened stays so, whatever an observer does: a panic ends here.
    #[inline]
    pub(crate) fn tell(&self, event: Event) {
        for observer in &self.all {
            if catch_unwind(AssertUnwindSafe(|| observer(&event))).is_err() {
                tracing::error!(?event, "an observer of events panicked");
            }
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.all.len())
    }
}
