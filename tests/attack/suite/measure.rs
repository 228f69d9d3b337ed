//! What an attack may cost: memory, as the allocator and the operating system count it, and time.

use std::time::{Duration, Instant};

/// What Rust allocates; SQLite's own memory is in the resident memory.
#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// The most memory that one attack may take (R22).
const LIMIT: u64 = 64 << 20;

/// A watchdog for one request: an attack that hangs a worker takes far longer, and a busy machine does not.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs an attack, and checks that it takes no more memory and time than it may.
pub(crate) async fn is_cheap<T>(attack: impl Future<Output = T>) -> T {
    let (resident, allocated, begun) = (Resident::start(), ALLOCATED.current_usage(), Instant::now());
    ALLOCATED.reset_peak_usage();
    let result = tokio::time::timeout(PATIENCE, attack).await;
    let result = result.unwrap_or_else(|_| panic!("it takes more than {PATIENCE:?}"));
    let allocated = ALLOCATED.peak_usage().saturating_sub(allocated) as u64;
    let resident = resident.growth();
    println!("  {:?}: {} KiB allocated, {} KiB resident", begun.elapsed(), allocated >> 10, resident >> 10);
    assert!(allocated < LIMIT, "it allocates {} MiB", allocated >> 20);
    assert!(resident < LIMIT, "it takes {} MiB", resident >> 20);
    result
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
