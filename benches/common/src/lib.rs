//! What all servers of the benchmark share: the content of a session, and the measurement at a store.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

/// The visitor of every session.
pub const NAME: &str = "Grace Hopper";
/// Her address.
pub const EMAIL: &str = "grace.hopper@example.com";

/// The cart of a new session: with the rest about 300 bytes as JSON.
pub fn cart() -> BTreeMap<String, u32> {
    (0..9).map(|n| (format!("article {:06}", n * 7919), n)).collect()
}

/// How many sessions [`measure`] uses.
pub const STORED: usize = 10_000;

/// An empty folder of this process for a database.
///
/// # Panics
///
/// If it cannot be made.
pub fn folder() -> PathBuf {
    let folder = env::temp_dir().join(format!("databag-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// Calls `operation` on the sessions for so many seconds with 1 and with 64 clients, prints both results, and returns
/// the sessions. An operation takes a session and returns it. Each client has sessions of its own.
///
/// ```text
/// NAME CLIENTS OPERATIONS-PER-SECOND P99-IN-MICROSECONDS
/// ```
///
/// # Panics
///
/// If an operation panics.
pub async fn measure<S, F>(
    name: &str,
    seconds: f64,
    mut sessions: Vec<S>,
    operation: impl Fn(S) -> F + Clone + Send + 'static,
) -> Vec<S>
where
    S: Send + 'static,
    F: Future<Output = S> + Send + 'static,
{
    for clients in [1, 64] {
        let mut shares: Vec<VecDeque<S>> = (0..clients).map(|_| VecDeque::new()).collect();
        for (n, session) in sessions.drain(..).enumerate() {
            shares[n % clients].push_back(session);
        }
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(seconds);
        let tasks: Vec<_> =
            shares.into_iter().map(|share| tokio::spawn(client(share, operation.clone(), end))).collect();
        let mut times = Vec::new();
        for task in tasks {
            let (share, taken) = task.await.expect("the operations succeed");
            sessions.extend(share);
            times.extend(taken);
        }
        let count = u32::try_from(times.len()).expect("they take longer than a microsecond");
        let per_second = f64::from(count) / begun.elapsed().as_secs_f64();
        times.sort_unstable();
        let p99 = times.get(times.len() * 99 / 100).map_or(0, Duration::as_micros);
        println!("{name} {clients} {per_second:.0} {p99}");
    }
    sessions
}

async fn client<S, F: Future<Output = S>>(
    mut sessions: VecDeque<S>,
    operation: impl Fn(S) -> F,
    end: Instant,
) -> (VecDeque<S>, Vec<Duration>) {
    let mut times = Vec::new();
    let mut begun = Instant::now();
    while begun < end {
        // Otherwise an operation that never waits would leave no turn to the other clients.
        tokio::task::yield_now().await;
        let Some(session) = sessions.pop_front() else { break };
        sessions.push_back(operation(session).await);
        let done = Instant::now();
        times.push(done - begun);
        begun = done;
    }
    (sessions, times)
}
