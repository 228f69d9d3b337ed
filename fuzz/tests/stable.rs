//! Runs each target on its seeds and on mutations of them: none panics, takes a second or 64 MiB.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FUZZ_RUNS` | how many executions each target has, and fewer for a slow one |
//! | `FUZZ_TARGET` | runs one target only |
//! | `FUZZ_INPUT` | runs the target on this input only, in hexadecimal digits |
//! | `FUZZ_TRACE` | prints each input before it is executed, for one that ends the process |
//!
//! The same number of executions has the same inputs.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use databag_fuzz::mutate::{Random, mutated};
use databag_fuzz::{TARGETS, Target, seeds};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// How long an execution may take.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// How long an execution may take by the clock, if it does not use a processor for as long as [`TIME_LIMIT`].
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an execution is waited for. It cannot be stopped, so the process ends then.
const HANGS: Duration = Duration::from_mins(1);

/// How much memory an execution may take at once, in bytes.
const MEMORY_LIMIT: usize = 64 << 20;

/// How many executions a target has by default, with and without optimisation.
const RUNS: u64 = if cfg!(debug_assertions) { 4_000 } else { 20_000 };

/// Memory is measured by one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong with an input.
struct Finding {
    reason: String,
    input: Vec<u8>,
}

/// What the executions of a target have taken.
struct Report {
    executions: u64,
    time: Duration,
    /// The longest execution.
    longest: Duration,
    /// In bytes.
    most_memory: usize,
}

/// Executes a target once, and returns how long it took and how much memory.
fn execute(target: &Target, input: &[u8]) -> Result<(Duration, usize), String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let (time, memory) = (started.elapsed(), MEMORY.peak_usage().saturating_sub(before));
    match result {
        Err(panic) => Err(format!("it panics: {}", message(&*panic))),
        Ok(()) if memory > MEMORY_LIMIT => Err(format!("it takes {memory} bytes of memory")),
        Ok(()) => Ok((time, memory)),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Executes a target, again if it took long: time in which the processor had other work is not the target's. What waits is found by
/// the clock, with more patience.
fn checked(target: &Target, input: &[u8]) -> Result<(Duration, usize), String> {
    let mut measured = execute(target, input)?;
    for _ in 0..4 {
        if measured.0 < TIME_LIMIT {
            return Ok(measured);
        }
        let before = processor_time();
        let time = execute(target, input)?.0;
        let used = processor_time().saturating_sub(before);
        measured.0 = measured.0.min(if time < PATIENCE { used } else { time });
    }
    if measured.0 < TIME_LIMIT { Ok(measured) } else { Err(format!("it takes {:?}", measured.0)) }
}

/// Returns the time of a processor that the threads of this process have had, as Linux counts it.
fn processor_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let time = |thread: fs::DirEntry| {
        let counts = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        counts.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(time).sum())
}

/// Ends the process if an execution does not end.
fn watch(executions: &'static AtomicU64, name: &'static str) {
    thread::spawn(move || {
        let mut seen = executions.load(Ordering::Relaxed);
        while seen != u64::MAX {
            thread::sleep(HANGS);
            let now = executions.load(Ordering::Relaxed);
            if now == seen && now != u64::MAX {
                eprintln!("execution {now} of `{name}` does not end; FUZZ_TRACE=1 prints its input");
                std::process::exit(1);
            }
            seen = now;
        }
    });
}

fn fuzz(target: &'static Target, seeds: &[Vec<u8>], runs: u64) -> Result<Report, Finding> {
    let executions: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    watch(executions, target.name);
    let traces = env::var_os("FUZZ_TRACE").is_some();
    let mut random = Random::of(target.name);
    let started = Instant::now();
    let mut report =
        Report { executions: runs, time: Duration::ZERO, longest: Duration::ZERO, most_memory: 0 };
    // What a target keeps is not an execution's.
    drop(execute(target, seeds.first().map_or(&[], Vec::as_slice)));
    for run in 0..runs {
        executions.store(run, Ordering::Relaxed);
        let seed = usize::try_from(run).ok().and_then(|run| seeds.get(run));
        let input = seed.cloned().unwrap_or_else(|| mutated(&mut random, seeds, target.words));
        if traces {
            println!("{} {}", target.name, seeds::hex(&input));
        }
        match checked(target, &input) {
            Ok((time, memory)) => {
                report.longest = report.longest.max(time);
                report.most_memory = report.most_memory.max(memory);
            }
            Err(reason) => {
                executions.store(u64::MAX, Ordering::Relaxed);
                return Err(Finding { reason, input });
            }
        }
    }
    executions.store(u64::MAX, Ordering::Relaxed);
    report.time = started.elapsed();
    Ok(report)
}

#[test]
fn no_target_finds_anything() {
    let _alone = alone();
    let only = env::var("FUZZ_TARGET").ok();
    let targets: Vec<_> =
        TARGETS.iter().filter(|target| only.as_ref().is_none_or(|name| name == target.name)).collect();
    assert!(!targets.is_empty(), "there is no target {only:?}");
    if let Ok(input) = env::var("FUZZ_INPUT") {
        let input = seeds::of_hex(&input).expect("hexadecimal digits");
        for target in targets {
            match checked(target, &input) {
                Ok((time, memory)) => println!("{}: {time:?}, {memory} bytes", target.name),
                Err(reason) => panic!("{}: {reason}", target.name),
            }
        }
        return;
    }
    let runs = env::var("FUZZ_RUNS").map_or(RUNS, |runs| runs.parse().expect("a number"));
    println!("| target | executions | seconds | longest | most memory |\n| --- | --- | --- | --- | --- |");
    let mut findings = Vec::new();
    for target in targets {
        let seeds: Vec<_> = seeds::read(target).into_iter().chain((target.starts)()).collect();
        match fuzz(target, &seeds, (runs / target.weight).max(seeds.len() as u64)) {
            Ok(Report { executions, time, longest, most_memory }) => println!(
                "| {} | {executions} | {:.1} | {:.1} ms | {} KiB |",
                target.name,
                time.as_secs_f64(),
                longest.as_secs_f64() * 1e3,
                most_memory >> 10,
            ),
            Err(Finding { reason, input }) => {
                let (name, input) = (target.name, seeds::hex(&input));
                let finding = format!(
                    "{name}: {reason}\nto repeat it: FUZZ_TARGET={name} FUZZ_INPUT={input} cargo test -p databag-fuzz --test \
                     stable"
                );
                println!("{finding}");
                findings.push(finding);
            }
        }
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n\n"));
}

#[test]
fn every_program_of_libfuzzer_runs_its_target() {
    for target in TARGETS {
        let path = format!("{}/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), target.name);
        assert!(fs::metadata(&path).is_ok(), "there is {path}");
        let manifest = include_str!("../Cargo.toml");
        assert!(
            manifest.contains(&format!("name = \"{}\"", target.name)),
            "`{}` is in the manifest",
            target.name
        );
    }
    let programs = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz_targets")).expect("a folder");
    assert_eq!(programs.count(), TARGETS.len());
}

#[test]
fn the_time_of_a_processor_is_counted() {
    let (before, begun) = (processor_time(), Instant::now());
    while processor_time() == before {
        assert!(begun.elapsed() < HANGS, "this system does not tell it");
    }
}

/// A target that finds an input.
macro_rules! planted {
    ($name:ident, $run:expr, $reason:literal) => {
        #[test]
        fn $name() {
            static TARGET: Target = Target {
                name: stringify!($name),
                run: $run,
                starts: || vec![b"good".to_vec()],
                weight: 1,
                words: &["bad"],
            };
            let _alone = alone();
            let finding = fuzz(&TARGET, &(TARGET.starts)(), 20_000).err().expect("it is found");
            assert!(finding.reason.starts_with($reason), "{}", finding.reason);
            assert!(checked(&TARGET, &finding.input).is_err(), "the input repeats it");
        }
    };
}

fn is_bad(data: &[u8]) -> bool {
    data.windows(3).any(|word| word == b"bad")
}

planted!(a_panic_is_found, |data| assert!(!is_bad(data), "bad"), "it panics: bad");
planted!(
    much_memory_is_found,
    |data| drop(std::hint::black_box(vec![1_u8; if is_bad(data) { MEMORY_LIMIT + 1 } else { 1 }])),
    "it takes 671"
);
planted!(
    a_long_execution_is_found,
    |data| if is_bad(data) {
        let begun = processor_time();
        while processor_time() < begun + TIME_LIMIT {}
    },
    "it takes 1."
);
