//! A clock that stands still while the machine does: what a busy machine does not run is not late.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A thread that runs less often is held up.
const PAUSE: Duration = Duration::from_millis(50);

struct Clock {
    started: Instant,
    /// When the thread ran last, and how long it was held up so far.
    ran: Mutex<(Duration, Duration)>,
}

static CLOCK: LazyLock<Clock> = LazyLock::new(|| {
    thread::spawn(|| {
        loop {
            thread::sleep(PAUSE / 5);
            CLOCK.run();
        }
    });
    Clock { started: Instant::now(), ran: Mutex::default() }
});

impl Clock {
    fn run(&self) {
        let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.started.elapsed();
        *ran = (now, ran.1 + now.saturating_sub(ran.0 + PAUSE));
    }
}

/// Returns the time since the first call, without the times at which this process did not run.
pub(crate) fn now() -> Duration {
    let ran = CLOCK.ran.lock().unwrap_or_else(PoisonError::into_inner);
    let now = CLOCK.started.elapsed();
    now.saturating_sub(ran.1 + now.saturating_sub(ran.0 + PAUSE))
}

#[test]
fn the_clock_moves() {
    let begun = now();
    thread::sleep(Duration::from_millis(100));
    assert!((Duration::from_millis(40)..).contains(&now().saturating_sub(begun)));
}
