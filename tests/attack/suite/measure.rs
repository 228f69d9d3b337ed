//! What an attack may cost: memory, as the allocator and the operating system count it, and time.

#[cfg(target_os = "linux")]
use std::sync::PoisonError;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use super::case::MEASURED;

/// What Rust allocates; SQLite's own memory is in the resident memory.
#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// The most memory that one attack may take (R22).
const LIMIT: u64 = 64 << 20;

/// How long a request may keep a worker from the others (R22), in time of a processor.
const LONGEST: Duration = Duration::from_secs(1);

/// A watchdog for attacks that wait: one that never ends takes far longer, and a busy machine does not.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs an attack, and checks that it takes no more memory and time than one request may.
pub(crate) async fn is_cheap<T>(attack: impl Future<Output = T>) -> T {
    let (resident, allocated, begun) = (Resident::start(), ALLOCATED.current_usage(), Instant::now());
    let used = processor_time();
    ALLOCATED.reset_peak_usage();
    let result = tokio::time::timeout(PATIENCE, attack).await;
    let result = result.unwrap_or_else(|_| panic!("it takes more than {PATIENCE:?}"));
    let used = processor_time().saturating_sub(used);
    let allocated = ALLOCATED.peak_usage().saturating_sub(allocated) as u64;
    let resident = resident.growth();
    println!(
        "  {:?}, {used:?} of a processor: {} KiB allocated, {} KiB resident",
        begun.elapsed(),
        allocated >> 10,
        resident >> 10
    );
    assert!(used < LONGEST, "it takes {used:?} of a processor");
    assert!(allocated < LIMIT, "it allocates {} MiB", allocated >> 20);
    assert!(resident < LIMIT, "it takes {} MiB", resident >> 20);
    result
}

/// Returns the time of a processor that the threads of this process have had, as Linux counts it; elsewhere zero.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let time = |thread: std::fs::DirEntry| {
        let counts = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        counts.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(time).sum())
}

/// Returns what is allocated now, in bytes.
pub(crate) fn allocated() -> usize {
    ALLOCATED.current_usage()
}

/// The peak of the resident memory since a moment.
struct Resident(u64);

impl Resident {
    fn start() -> Self {
        // Resets the peak.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self(status("VmRSS"))
    }

    fn growth(&self) -> u64 {
        status("VmHWM").saturating_sub(self.0)
    }
}

/// Returns a line of the process's status, in bytes; 0 where there is none.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib: u64 = line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse().unwrap_or(0);
    kib * 1_024
}

/// Returns a size that a variable sets.
pub(crate) fn sized(variable: &str, default: usize) -> usize {
    let size = std::env::var(variable).ok().map(|size| size.parse().expect("a number"));
    size.unwrap_or(default)
}

#[cfg(target_os = "linux")]
#[test]
#[should_panic(expected = "of a processor")]
fn a_request_that_hangs_a_worker_is_found() {
    let _alone = MEASURED.write().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(is_cheap(async {
        let until = processor_time() + LONGEST;
        assert!(until > LONGEST, "this system does not count the time of threads");
        while processor_time() <= until {}
    }));
}
