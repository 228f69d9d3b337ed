//! Time as sessions count it: unix milliseconds, from a clock that tests can replace.
//!
//! Everything below the edge takes the time as an argument; only [`Clock::now`] reads it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time in milliseconds since the unix epoch, as stores keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps a count of milliseconds since the unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns this time moved forward, held at the end of the range instead of wrapping.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns the time from `earlier` to this one; zero if `earlier` is not earlier.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn abs_diff(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        let distance = Duration::from_millis(timestamp.0.unsigned_abs());
        let time =
            if timestamp.0 < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        time.unwrap_or(UNIX_EPOCH)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Where the time comes from. Implemented by every `Fn() -> SystemTime`.
///
/// # Examples
///
/// A clock that a test moves by hand:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::{Duration, SystemTime};
/// use session_runtime::Clock;
///
/// let seconds = Arc::new(AtomicU64::new(0));
/// let clock = {
///     let seconds = seconds.clone();
///     move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed))
/// };
/// seconds.store(60, Ordering::Relaxed);
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> SystemTime;
}

impl<F: Fn() -> SystemTime + Send + Sync + 'static> Clock for F {
    fn now(&self) -> SystemTime {
        self()
    }
}

/// The time that sessions go by: what the clock shows, unless the machine's other clock, which nobody can set,
/// speaks against it.
///
/// A clock that is set forward is followed at once: a session that lives on too long is worse than one that
/// ends too early. One that is set back is followed where the time since the start says that it was ahead by
/// mistake before. Otherwise time just goes on, so that what has expired stays expired: until the clock has
/// been apart for a whole day, and is believed.
pub(crate) struct Steady {
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

/// As of the moment of `at`.
struct State {
    at: Instant,
    /// What the clock would show if nobody had set it since the start.
    counted: Timestamp,
    /// What sessions were told last.
    told: Timestamp,
    /// Since when the clock has been showing something else than `counted`.
    apart: Option<Instant>,
}

impl State {
    /// How far the clock may be off without anybody having set it, or for so short a time that sessions wait for it.
    const SLACK: Duration = Duration::from_mins(1);
    /// After how long a clock that was set is believed.
    const BELIEVED: Duration = Duration::from_hours(24);

    fn advance(&mut self, at: Instant, shown: Timestamp) {
        let passed = at.saturating_duration_since(self.at);
        self.at = self.at.max(at);
        self.counted = self.counted.saturating_add(passed);
        if shown.abs_diff(self.counted) <= Self::SLACK {
            self.apart = None;
        } else if at.saturating_duration_since(*self.apart.get_or_insert(at)) >= Self::BELIEVED {
            self.apart = None;
            self.counted = shown;
        }
        let expected = self.told.saturating_add(passed);
        self.told = if expected.saturating_since(shown) <= Self::SLACK {
            self.told.max(shown)
        } else if self.apart.is_none() {
            shown
        } else {
            expected
        };
    }
}

impl Steady {
    pub(crate) fn new(clock: Box<dyn Clock>) -> Self {
        let shown = Timestamp::from(clock.now());
        let state = State { at: Instant::now(), counted: shown, told: shown, apart: None };
        Self { clock, state: Mutex::new(state) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.read().told
    }

    /// Returns the time if the clocks agree on it: what is deleted by mistake does not come back.
    pub(crate) fn agreed(&self) -> Option<Timestamp> {
        let state = self.read();
        state.apart.is_none().then_some(state.told)
    }

    fn read(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(Instant::now(), Timestamp::from(self.clock.now()));
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;

    /// Takes what has passed since the moment before and what the clock shows, and compares what is told and
    /// whether the clocks agree.
    fn follow(moments: &[(i64, i64, i64, bool)]) {
        let mut at = Instant::now();
        let start = Timestamp(0);
        let mut state = State { at, counted: start, told: start, apart: None };
        for &(passed, shown, told, agreed) in moments {
            at += Timestamp(passed).saturating_since(start);
            state.advance(at, Timestamp(shown));
            assert_eq!((state.told.0, state.apart.is_none()), (told, agreed), "at {shown}");
        }
    }

    #[test]
    fn what_has_passed_has_passed_however_far_the_clock_is_set_back() {
        follow(&[(HOUR, -25 * HOUR, HOUR, false)]);
        follow(&[(31 * MINUTE, 31 * MINUTE, 31 * MINUTE, true), (0, -25 * HOUR, 31 * MINUTE, false)]);
        follow(&[(10, 10, 10, true), (0, 5, 10, true), (1, 6, 10, true), (6, 12, 12, true)]);
        let set_back =
            [(0, -HOUR, 0, false), (MINUTE, MINUTE - HOUR, MINUTE, false), (0, MINUTE, MINUTE, true)];
        follow(&set_back);
    }

    /// The machine slept, and its other clock with it; then the clock is set back.
    #[test]
    fn what_has_passed_while_the_machine_slept_has_passed() {
        follow(&[(0, 31 * MINUTE, 31 * MINUTE, false), (0, -25 * HOUR, 31 * MINUTE, false)]);
        follow(&[(0, 31 * MINUTE, 31 * MINUTE, false), (0, 20 * MINUTE, 31 * MINUTE, false)]);
    }

    #[test]
    fn a_clock_that_was_ahead_by_mistake_is_followed_back() {
        let years = 10 * 365 * 24 * HOUR;
        follow(&[(0, years, years, false), (HOUR, years + HOUR, years + HOUR, false), (0, HOUR, HOUR, true)]);
    }

    #[test]
    fn a_clock_that_was_set_is_believed_after_a_day() {
        for shown in [-48 * HOUR, 48 * HOUR] {
            let told = shown.max(0);
            follow(&[
                (0, shown, told, false),
                (24 * HOUR - 1, shown + 24 * HOUR - 1, told + 24 * HOUR - 1, false),
                (1, shown + 24 * HOUR, shown + 24 * HOUR, true),
            ]);
        }
    }

    #[test]
    fn a_timestamp_survives_the_way_to_system_time_and_back() {
        for millis in [0, 1, -1, 1_700_000_000_123, -62_135_596_800_000] {
            let time = SystemTime::from(Timestamp::from_millis(millis));
            assert_eq!(Timestamp::from(time).as_millis(), millis);
        }
    }

    #[test]
    fn arithmetic_holds_at_the_ends_of_the_range() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end.saturating_add(Duration::MAX), end);
        assert_eq!(Timestamp::default().saturating_since(end), Duration::ZERO);
    }
}
