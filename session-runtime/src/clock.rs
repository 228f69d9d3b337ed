//! Time as sessions count it: unix milliseconds, from a clock that tests can replace.
//!
//! Everything below the edge takes the time as an argument; only [`Clock::now`] reads it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// A clock that does not run backwards, so that what has expired stays expired.
///
/// A clock that falls back by more than a day was wrong before, and is believed.
pub(crate) struct Steady {
    clock: Box<dyn Clock>,
    latest: AtomicI64,
}

impl Steady {
    const HELD: Duration = Duration::from_hours(24);

    pub(crate) fn new(clock: Box<dyn Clock>) -> Self {
        Self { clock, latest: AtomicI64::new(i64::MIN) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let now = Timestamp::from(self.clock.now());
        let latest = Timestamp(self.latest.fetch_max(now.0, Ordering::Relaxed));
        if latest <= now {
            now
        } else if latest.saturating_since(now) <= Self::HELD {
            latest
        } else {
            self.latest.store(now.0, Ordering::Relaxed);
            now
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_steady_clock_does_not_run_backwards_unless_it_was_wrong_before() {
        let time = Arc::new(AtomicI64::new(0));
        let clock = {
            let time = time.clone();
            move || SystemTime::from(Timestamp(time.load(Ordering::Relaxed)))
        };
        let steady = Steady::new(Box::new(clock));
        let day = 24 * 60 * 60 * 1000;
        for (shown, believed) in
            [(10, 10), (5, 10), (11, 11), (3 * day, 3 * day), (day + 1, day + 1), (20, day + 1)]
        {
            time.store(shown, Ordering::Relaxed);
            assert_eq!(steady.now().as_millis(), believed, "at {shown}");
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
