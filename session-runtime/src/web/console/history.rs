//! What has happened to the sessions of one bag, minute by minute: events enter, the numbers of the last day leave.
//!
//! They are in the memory of this process, and count what this process does. No number belongs to a session or a visitor.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::bag::Databag;
use crate::clock::Timestamp;
use crate::engine::core::Engine;
use crate::engine::event::{EndCause, Event};
use crate::error::ErrorChain;
use crate::sessions::Sessions;

/// How many minutes are kept: a day.
const MINUTES: usize = 24 * 60;

/// The names of the reasons of [`Event::Rejected`].
pub(super) const REASONS: [&str; 9] = [
    "malformed",
    "duplicate",
    "unknown",
    "tampered",
    "too_large",
    "undecodable",
    "address",
    "user_agent",
    "unknown_key",
];

/// The numbers of the last 24 hours, for a [`Console`](crate::Console): per minute the sessions that were created and ended, the
/// tokens that were not accepted, the conflicts and the failures, and how many sessions were live.
///
/// It knows what this process has done since it was started; only the number of live sessions is that of the store. It takes
/// 127 KB of memory, however much happens. An event that is counted locks it for the time of an addition; a page that is
/// shown, for a few microseconds. Clones share the numbers.
///
/// # Examples
///
/// ```
/// use session_runtime::{Databag, History, Keyring, Sessions, SqliteStore};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let history = History::new();
/// let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?)
///     .keyring(Keyring::generate())
///     .on_event(history.observer())
///     .build()
///     .await?;
/// history.follow(&sessions);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

struct Shared {
    minutes: Mutex<Box<[Minute]>>,
    is_observing: AtomicBool,
}

/// The numbers of a minute. Its place in the ring is its remainder.
#[derive(Clone, Copy, Default)]
struct Minute {
    /// In minutes since the unix epoch.
    begins: u32,
    counts: Counts,
    live: Option<u64>,
}

/// What has happened in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) created: u32,
    /// By the cause, as in [`EndCause::ALL`].
    pub(super) ended: [u32; EndCause::ALL.len()],
    pub(super) expired: u32,
    /// By the reason, as in [`REASONS`].
    pub(super) rejected: [u32; REASONS.len()],
    pub(super) conflicts: u32,
    pub(super) failures: u32,
}

/// The numbers of one or more minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    /// In minutes since the unix epoch.
    pub(super) begins: u32,
    pub(super) counts: Counts,
    /// The live sessions as they were counted last.
    pub(super) live: Option<u64>,
}

/// What an event changes.
#[derive(Clone, Copy)]
enum Change {
    Created,
    Ended(usize),
    Expired,
    Rejected(usize),
    Conflicted,
    Failed,
    Live(u64),
}

impl History {
    /// Makes a history in which nothing has happened.
    pub fn new() -> Self {
        let minutes = Mutex::new(vec![Minute::default(); MINUTES].into_boxed_slice());
        Self { shared: Arc::new(Shared { minutes, is_observing: AtomicBool::new(false) }) }
    }

    /// Returns the observer that fills it, for [`Builder::on_event`](crate::Builder::on_event).
    pub fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static + use<> {
        self.shared.is_observing.store(true, Ordering::Relaxed);
        let shared = self.shared.clone();
        move |event: &Event| {
            if let Some(change) = Change::of(event) {
                shared.note(change, minute_of(SystemTime::now().into()));
            }
        }
    }

    /// Counts the live sessions once a minute, in a task that ends with these sessions. Without it they are counted when somebody
    /// opens the console, and after each [`cleanup`](crate::Builder::cleanup). SQL stores read an index for it, Redis its lists.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn follow<T: Databag>(&self, sessions: &Sessions<T>) {
        tokio::spawn(count_every_minute(Arc::downgrade(&sessions.engine)));
    }

    /// Returns whether an observer fills it.
    pub(super) fn is_observing(&self) -> bool {
        self.shared.is_observing.load(Ordering::Relaxed)
    }

    /// Returns the numbers of the last `minutes` minutes, `per` of them in one interval, the oldest first. The last interval
    /// is the one that `now` is in.
    pub(super) fn last(&self, now: Timestamp, minutes: u32, per: u32) -> Vec<Interval> {
        let end = (minute_of(now) / per + 1) * per;
        let begin = end.saturating_sub(minutes);
        let mut intervals: Vec<_> = (begin..end)
            .step_by(per as usize)
            .map(|begins| Interval { begins, ..Interval::default() })
            .collect();
        let mut kept: Vec<Minute> = {
            let minutes = self.shared.lock();
            minutes.iter().filter(|minute| (begin..end).contains(&minute.begins)).copied().collect()
        };
        kept.sort_unstable_by_key(|minute| minute.begins);
        for minute in kept {
            let place = (minute.begins - begin) / per;
            if let Some(interval) = intervals.get_mut(place as usize) {
                interval.counts.add(&minute.counts);
                interval.live = minute.live.or(interval.live);
            }
        }
        intervals
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History(..)")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Box<[Minute]>> {
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: Change, begins: u32) {
        let mut minutes = self.lock();
        let Some(minute) = minutes.get_mut(begins as usize % MINUTES) else { return };
        if minute.begins != begins {
            *minute = Minute { begins, ..Minute::default() };
        }
        let counts = &mut minute.counts;
        match change {
            Change::Live(live) => minute.live = Some(live),
            Change::Created => one_more(&mut counts.created),
            Change::Ended(cause) => one_more(&mut counts.ended[cause]),
            Change::Expired => one_more(&mut counts.expired),
            Change::Rejected(reason) => one_more(&mut counts.rejected[reason]),
            Change::Conflicted => one_more(&mut counts.conflicts),
            Change::Failed => one_more(&mut counts.failures),
        }
    }
}

fn one_more(count: &mut u32) {
    *count = count.saturating_add(1);
}

impl Change {
    fn of(event: &Event) -> Option<Self> {
        Some(match *event {
            Event::Created { .. } => Self::Created,
            Event::Ended { cause, .. } => {
                Self::Ended(EndCause::ALL.iter().position(|other| *other == cause)?)
            }
            Event::Expired { .. } => Self::Expired,
            Event::Rejected { reason, .. } => {
                Self::Rejected(REASONS.iter().position(|name| *name == reason.name())?)
            }
            Event::Conflicted { .. } => Self::Conflicted,
            Event::Failed { .. } => Self::Failed,
            Event::Counted { live } => Self::Live(live),
            _ => return None,
        })
    }
}

impl Counts {
    /// Returns the numbers of all intervals together.
    pub(super) fn sum(intervals: &[Interval]) -> Self {
        let mut sum = Self::default();
        for interval in intervals {
            sum.add(&interval.counts);
        }
        sum
    }

    fn add(&mut self, other: &Self) {
        let Self { created, ended, expired, rejected, conflicts, failures } = self;
        let single = [created, expired, conflicts, failures].into_iter();
        let all = single.chain(ended).chain(rejected);
        let other_single = [other.created, other.expired, other.conflicts, other.failures].into_iter();
        for (count, more) in all.zip(other_single.chain(other.ended).chain(other.rejected)) {
            *count = count.saturating_add(more);
        }
    }

    /// Returns how many sessions were ended, whatever the cause.
    pub(super) fn all_ended(&self) -> u64 {
        self.ended.iter().copied().map(u64::from).sum()
    }

    /// Returns how many tokens were not accepted, whatever the reason; an expired session is no reason.
    pub(super) fn all_rejected(&self) -> u64 {
        self.rejected.iter().copied().map(u64::from).sum()
    }
}

/// Returns the minutes since the unix epoch.
pub(super) fn minute_of(time: Timestamp) -> u32 {
    u32::try_from(time.as_millis() / 60_000).unwrap_or(0)
}

async fn count_every_minute(engine: Weak<Engine>) {
    loop {
        let Some(engine) = engine.upgrade() else { return };
        let counted = engine.count_live(engine.now()).await;
        // Sessions that are dropped close their store meanwhile.
        drop(engine);
        if let Err(error) = counted {
            tracing::warn!(error = %ErrorChain(&error), "could not count the live sessions");
        }
        sleep(Duration::from_mins(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Rejection;
    use crate::token::SessionId;

    const NOW: u32 = 30_000_000;

    fn at(minute: u32) -> Timestamp {
        Timestamp::from_millis(i64::from(minute) * 60_000)
    }

    fn note(history: &History, event: &Event, minute: u32) {
        history.shared.note(Change::of(event).expect("it is counted"), minute);
    }

    #[test]
    fn what_has_happened_is_counted_in_its_minute() {
        let (history, session) = (History::new(), SessionId::from_bytes([1; 32]));
        for minute in [NOW, NOW - 59, NOW - 60] {
            note(&history, &Event::Created { session }, minute);
        }
        note(&history, &Event::Counted { live: 7 }, NOW - 30);
        let hour = history.last(at(NOW), 60, 1);
        assert_eq!((hour.len(), hour[0].begins, hour[59].begins), (60, NOW - 59, NOW));
        assert_eq!((hour[0].counts.created, hour[58].counts.created, hour[59].counts.created), (1, 0, 1));
        assert_eq!((hour[29].live, hour[30].live), (Some(7), None));
        assert_eq!(Counts::sum(&hour).created, 2);
        let day = history.last(at(NOW), 24 * 60, 15);
        assert_eq!((day.len(), Counts::sum(&day).created), (96, 3));
    }

    #[test]
    fn a_minute_of_the_day_before_is_forgotten() {
        let (history, session) = (History::new(), SessionId::from_bytes([1; 32]));
        let day = 24 * 60;
        note(&history, &Event::Created { session }, NOW - day);
        assert_eq!(Counts::sum(&history.last(at(NOW), day, 1)), Counts::default());
        note(&history, &Event::Conflicted { session }, NOW);
        let counts = Counts::sum(&history.last(at(NOW), day, 1));
        assert_eq!((counts.created, counts.conflicts), (0, 1), "the minute of the same place is another one");
    }

    #[test]
    fn each_cause_and_each_reason_has_its_place() {
        let (history, session) = (History::new(), SessionId::from_bytes([1; 32]));
        for &cause in EndCause::ALL {
            note(&history, &Event::Ended { session, cause }, NOW);
        }
        for reason in [
            Rejection::Malformed,
            Rejection::Duplicate,
            Rejection::Unknown,
            Rejection::Tampered,
            Rejection::TooLarge,
            Rejection::Undecodable { field: None },
            Rejection::Address,
            Rejection::UserAgent,
            Rejection::UnknownKey,
        ] {
            note(&history, &Event::Rejected { session: None, reason }, NOW);
        }
        let counts = Counts::sum(&history.last(at(NOW), 60, 1));
        assert_eq!((counts.ended, counts.rejected), ([1; 4], [1; 9]));
    }

    #[test]
    fn it_takes_as_much_memory_as_it_says() {
        assert_eq!(size_of::<Minute>() * MINUTES, 126_720);
    }
}
