//! Time in unix milliseconds, from a clock that tests can replace, and waits that end at a time.
//!
//! Decisions take the time as an argument; only [`Clock::now`] reads it.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::poll;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

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
/// A test moves a [`ManualClock`](crate::testing::ManualClock).
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> SystemTime;
}

impl<F: Fn() -> SystemTime + Send + Sync + 'static> Clock for F {
    fn now(&self) -> SystemTime {
        self()
    }
}

/// A clock that stands still until a test moves it. Clones share the time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use session_runtime::testing::ManualClock;
/// use session_runtime::{Databag, Sessions};
///
/// #[derive(Databag)]
/// #[databag(idle = "30m")]
/// struct Shop {
///     visits: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_runtime::Error> {
/// let clock = ManualClock::default();
/// let sessions = Sessions::<Shop>::for_test_at(clock.clone());
/// let (token, _) = sessions.create(Shop { visits: 1 }).await?;
/// clock.advance(Duration::from_mins(29));
/// assert!(sessions.load(&token).await?.is_some());
/// clock.advance(Duration::from_mins(1));
/// assert!(sessions.load(&token).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    millis: Arc<AtomicI64>,
}

impl Default for ManualClock {
    /// Some time in the year 2030.
    fn default() -> Self {
        Self { millis: Arc::new(AtomicI64::new(1_900_000_000_000)) }
    }
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.millis.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Moves the clock back. Sessions follow it as far as that undoes an [`advance`](Self::advance) by more than a minute:
    /// a clock that is set back revives nothing.
    pub fn turn_back(&self, by: Duration) {
        self.millis.fetch_sub(millis(by), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        Timestamp(self.millis.load(Ordering::SeqCst)).into()
    }
}

/// The time of sessions: the system clock, unless the monotonic clock disagrees.
///
/// A clock that is set forward is followed at once: a session that lives too long is worse than one that ends too
/// early. A clock that is set back is followed if that undoes a step forward since the start. Otherwise time continues
/// from where it was, so that an expired session stays expired, until the clocks have disagreed for 24 hours: then the
/// system clock is accepted.
pub(crate) struct SkewGuardedClock {
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

/// As of the moment of `at`.
struct State {
    at: Instant,
    /// What the system clock would show if it had not been set since the start.
    counted: Timestamp,
    /// The time that was reported last.
    reported: Timestamp,
    /// Since when the system clock has differed from `counted`.
    diverged_since: Option<Instant>,
}

impl State {
    /// The largest difference between the clocks that is taken for drift.
    const SLACK: Duration = Duration::from_mins(1);
    /// After how long a clock that was set is accepted.
    const ACCEPTED: Duration = Duration::from_hours(24);

    fn advance(&mut self, at: Instant, shown: Timestamp) {
        let passed = at.saturating_duration_since(self.at);
        self.at = self.at.max(at);
        self.counted = self.counted.saturating_add(passed);
        if shown.abs_diff(self.counted) <= Self::SLACK {
            self.diverged_since = None;
        } else if at.saturating_duration_since(*self.diverged_since.get_or_insert(at)) >= Self::ACCEPTED {
            self.diverged_since = None;
            self.counted = shown;
        }
        let expected = self.reported.saturating_add(passed);
        self.reported = if expected.saturating_since(shown) <= Self::SLACK {
            self.reported.max(shown)
        } else if self.diverged_since.is_none() {
            shown
        } else {
            expected
        };
    }
}

impl SkewGuardedClock {
    pub(crate) fn new(clock: Box<dyn Clock>) -> Self {
        let shown = Timestamp::from(clock.now());
        let state = State { at: Instant::now(), counted: shown, reported: shown, diverged_since: None };
        Self { clock, state: Mutex::new(state) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.read().reported
    }

    /// Returns the time if the clocks agree: a row that is deleted by mistake does not come back.
    pub(crate) fn agreed(&self) -> Option<Timestamp> {
        let state = self.read();
        state.diverged_since.is_none().then_some(state.reported)
    }

    fn read(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(Instant::now(), Timestamp::from(self.clock.now()));
        state
    }
}

/// Waits until the deadline. A timer is set only for a future that is not ready at once. Where a handler has blocked the
/// thread, the deadline may pass before a task of the store could read an answer that is there: it has its turn first.
pub(crate) async fn until<F: Future>(deadline: Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
    if let Poll::Ready(output) = poll!(&mut future) {
        return Some(output);
    }
    if let Ok(output) = timeout_at(deadline, &mut future).await {
        return Some(output);
    }
    yield_now().await;
    match poll!(future) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;

    /// Each moment: the time passed, what the system clock shows, the time reported, whether the clocks agree.
    fn follow(moments: &[(i64, i64, i64, bool)]) {
        let mut at = Instant::now();
        let start = Timestamp(0);
        let mut state = State { at, counted: start, reported: start, diverged_since: None };
        for &(passed, shown, reported, agreed) in moments {
            at += Timestamp(passed).saturating_since(start);
            state.advance(at, Timestamp(shown));
            assert_eq!((state.reported.0, state.diverged_since.is_none()), (reported, agreed), "at {shown}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_never_moves_time_back() {
        follow(&[(HOUR, -25 * HOUR, HOUR, false)]);
        follow(&[(31 * MINUTE, 31 * MINUTE, 31 * MINUTE, true), (0, -25 * HOUR, 31 * MINUTE, false)]);
        follow(&[(10, 10, 10, true), (0, 5, 10, true), (1, 6, 10, true), (6, 12, 12, true)]);
        let set_back =
            [(0, -HOUR, 0, false), (MINUTE, MINUTE - HOUR, MINUTE, false), (0, MINUTE, MINUTE, true)];
        follow(&set_back);
    }

    /// The machine was suspended, and its monotonic clock with it; then the system clock is set back.
    #[test]
    fn time_that_passed_during_a_suspend_is_never_taken_back() {
        follow(&[(0, 31 * MINUTE, 31 * MINUTE, false), (0, -25 * HOUR, 31 * MINUTE, false)]);
        follow(&[(0, 31 * MINUTE, 31 * MINUTE, false), (0, 20 * MINUTE, 31 * MINUTE, false)]);
    }

    #[test]
    fn a_clock_that_undoes_a_step_forward_is_followed_back() {
        let years = 10 * 365 * 24 * HOUR;
        follow(&[(0, years, years, false), (HOUR, years + HOUR, years + HOUR, false), (0, HOUR, HOUR, true)]);
    }

    #[test]
    fn a_clock_that_was_set_is_accepted_after_a_day() {
        for shown in [-48 * HOUR, 48 * HOUR] {
            let reported = shown.max(0);
            follow(&[
                (0, shown, reported, false),
                (24 * HOUR - 1, shown + 24 * HOUR - 1, reported + 24 * HOUR - 1, false),
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
