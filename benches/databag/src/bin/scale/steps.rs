//! What one process does with a database, and measures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OpenFlags};
use session_runtime::access::Backing;
use session_runtime::builder::{Builder, Protected};
use session_runtime::{
    Cleanup, Databag, Durability, Keyring, SessionId, Sessions, SqliteStore, Timestamp, Token,
};
use tokio::runtime::Handle;

use crate::fill::{EXPIRED, fill, mixed};
use crate::{KEY, Result};

/// Clients of the steps `prune` and `soak`.
const CLIENTS: u64 = 4;

/// A session of about 300 bytes, of a user.
#[derive(Debug, Databag)]
#[databag(table = "visitors")]
pub(crate) struct Visitor {
    #[databag(user_id)]
    user_id: Option<i64>,
    visits: u64,
    name: String,
    email: String,
    cart: BTreeMap<String, u32>,
}

impl Visitor {
    pub(crate) fn new(n: u64) -> Self {
        Self {
            user_id: Some((mixed(n) >> 1).cast_signed()),
            visits: 0,
            name: bench_common::NAME.to_owned(),
            email: bench_common::EMAIL.to_owned(),
            cart: bench_common::cart(),
        }
    }
}

/// The bytes of the n-th token.
pub(crate) fn token(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

pub(crate) fn builder<S: Backing>(store: S) -> Result<Builder<Visitor, S, Protected>> {
    // Longer than the benchmark runs.
    let day = Duration::from_hours(24);
    let builder = Sessions::<Visitor>::builder(store).keyring(Keyring::from_env(KEY)?);
    Ok(builder.idle(day).absolute(2 * day).cleanup(Cleanup::Never))
}

fn store(file: &Path) -> Result<SqliteStore> {
    Ok(SqliteStore::open(file)?.durability(Durability::Normal))
}

pub(crate) async fn open(file: &Path) -> Result<Sessions<Visitor>> {
    Ok(builder(store(file)?)?.build().await?)
}

pub(crate) fn run(step: &str, file: &Path, rows: u64, seconds: f64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let time = Duration::from_secs_f64(seconds);
    runtime.block_on(async {
        match step {
            "fill" => fill(file, rows).await,
            "costs" => costs(file, rows, time).await,
            "prune" => prune(file, rows, time).await,
            "soak" => soak(file, rows, time).await,
            other => Err(format!("there is no step `{other}`").into()),
        }
    })
}

/// Opens the database, then loads random sessions, then saves random sessions, one at a time.
async fn costs(file: &Path, rows: u64, time: Duration) -> Result<()> {
    let begun = Instant::now();
    let sessions = open(file).await?;
    println!("start {}", begun.elapsed().as_secs_f64() * 1_000.0);
    let mut random = Random::new(u64::from(std::process::id()), rows);
    for saves in [false, true] {
        let name = if saves { "save" } else { "load" };
        // Opens the connections and fills their caches.
        run_for(time / 4, async || operation(&sessions, &mut random, saves).await).await?;
        let before = cpu()?;
        let mut times = run_for(time, async || operation(&sessions, &mut random, saves).await).await?;
        println!("{name}_cpu {}", (cpu()? - before) * 1_000_000.0 / times.len() as f64);
        print_times(name, &mut times);
    }
    println!("memory {}\npeak {}", memory("VmRSS")?, memory("VmHWM")?);
    Ok(())
}

async fn operation(sessions: &Sessions<Visitor>, random: &mut Random, saves: bool) -> Result<()> {
    if saves { save(sessions, random).await } else { load(sessions, random).await }
}

async fn load(sessions: &Sessions<Visitor>, random: &mut Random) -> Result<()> {
    let loaded = sessions.load(&random.token()).await?;
    loaded.map(drop).ok_or_else(|| "a live session is missing".into())
}

async fn save(sessions: &Sessions<Visitor>, random: &mut Random) -> Result<()> {
    Ok(sessions.update(random.session(), |visitor| visitor.visits += 1).await?)
}

async fn run_for(time: Duration, mut operation: impl AsyncFnMut() -> Result<()>) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut begun = Instant::now();
    let end = begun + time;
    while begun < end {
        operation().await?;
        let done = Instant::now();
        times.push(done - begun);
        begun = done;
    }
    Ok(times)
}

/// Measures loads and saves without the background cleanup, then while it removes all expired rows.
async fn prune(file: &Path, rows: u64, time: Duration) -> Result<()> {
    let store = store(file)?;
    let sessions = builder(store.clone())?.build().await?;
    let quiet = Clients::start(&sessions, rows);
    tokio::time::sleep(time).await;
    quiet.stop("quiet")?;

    let watch = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let now = Timestamp::from(SystemTime::now()).as_millis();
    let mut expired = watch.prepare("SELECT 1 FROM visitors WHERE expiration <= ? LIMIT 1")?;
    let busy = Clients::start(&sessions, rows);
    let (begun, before) = (Instant::now(), cpu()?);
    let _pruning = builder(store)?.cleanup(Cleanup::Every(Duration::from_millis(1))).build().await?;
    while expired.exists([now])? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("time {}\ncpu {}", begun.elapsed().as_secs_f64(), cpu()? - before);
    busy.stop("busy")?;
    println!("peak {}", memory("VmHWM")?);
    Ok(())
}

/// Loads, saves, creates and deletes, with the background cleanup.
async fn soak(file: &Path, rows: u64, time: Duration) -> Result<()> {
    let sessions = builder(store(file)?)?.cleanup(Cleanup::Every(Duration::from_secs(1))).build().await?;
    let operations = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let end = begun + time;
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (sessions, operations, mut random) =
                (sessions.clone(), operations.clone(), Random::new(n, rows));
            tokio::spawn(async move {
                let mut run = async || -> Result<()> {
                    while Instant::now() < end {
                        load(&sessions, &mut random).await?;
                        save(&sessions, &mut random).await?;
                        let (_, created) = sessions.create(Visitor::new(random.next())).await?;
                        sessions.delete(created.id()).await?;
                        operations.fetch_add(4, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                    Ok(())
                };
                run().await.map_err(|error| error.to_string())
            })
        })
        .collect();
    let mut log = 0;
    // The start is after a tenth of the time: until then caches fill.
    for (name, share) in [("start", 0.1), ("middle", 0.55), ("end", 1.0)] {
        let at = begun + time.mul_f64(share);
        while Instant::now() < at {
            log = log.max(fs::metadata(with_suffix(file, "-wal"))?.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{name} {}", memory("VmRSS")?);
    }
    for task in tasks {
        task.await??;
    }
    println!("operations {}\nlog {}", operations.load(Ordering::Relaxed), log as f64 / f64::from(1 << 20));
    Ok(())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// What a client has measured.
#[derive(Default)]
struct Measured {
    loads: Vec<Duration>,
    saves: Vec<Duration>,
    failures: u32,
}

/// Clients that load and save at random times, each on a thread of its own: Tokio's timers would let them begin at the
/// same milliseconds as the cleanup.
struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Measured>>,
}

impl Clients {
    fn start(sessions: &Sessions<Visitor>, rows: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..CLIENTS)
            .map(|n| {
                let (runtime, sessions, stop) = (Handle::current(), sessions.clone(), stop.clone());
                thread::spawn(move || client(&runtime, &sessions, Random::new(n, rows), &stop))
            })
            .collect();
        Self { stop, threads }
    }

    fn stop(self, name: &str) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Measured::default();
        for thread in self.threads {
            let measured = thread.join().map_err(|_| "a client has panicked")?;
            all.loads.extend(measured.loads);
            all.saves.extend(measured.saves);
            all.failures += measured.failures;
        }
        println!("{name}_count {}\n{name}_failures {}", all.saves.len(), all.failures);
        print_times(&format!("{name}_load"), &mut all.loads);
        print_times(&format!("{name}_save"), &mut all.saves);
        Ok(())
    }
}

fn client(runtime: &Handle, sessions: &Sessions<Visitor>, mut random: Random, stop: &AtomicBool) -> Measured {
    let mut measured = Measured::default();
    while !stop.load(Ordering::Relaxed) {
        for saves in [false, true] {
            // A millisecond on average.
            thread::sleep(Duration::from_micros(random.next() % 2_000));
            let begun = Instant::now();
            let done = runtime.block_on(operation(sessions, &mut random, saves));
            let times = if saves { &mut measured.saves } else { &mut measured.loads };
            times.push(begun.elapsed());
            measured.failures += u32::from(done.is_err());
        }
    }
    measured
}

/// Prints percentiles in microseconds.
fn print_times(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    for (label, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        let at = times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        println!("{name}_{label} {}", at.as_secs_f64() * 1_000_000.0);
    }
}

/// Picks live sessions.
struct Random {
    state: u64,
    rows: u64,
}

impl Random {
    fn new(seed: u64, rows: u64) -> Self {
        Self { state: mixed(seed), rows }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mixed(self.state)
    }

    fn token(&mut self) -> Token {
        let n = self.next() % self.rows;
        Token::from_bytes(token(if n.is_multiple_of(EXPIRED) { n + 1 } else { n }))
    }

    fn session(&mut self) -> SessionId {
        self.token().session_id()
    }
}

/// The CPU seconds that this process has used.
fn cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The 14th and 15th field of all, in ticks: 100 a second on Linux.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// The memory of this process in MiB: `VmRSS`, or `VmHWM` for the most it had.
fn memory(name: &str) -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let (_, rest) = status.split_once(name).ok_or("there is no such line")?;
    let kibibytes: f64 = rest.split_whitespace().nth(1).ok_or("the line is empty")?.parse()?;
    Ok(kibibytes / 1_024.0)
}
