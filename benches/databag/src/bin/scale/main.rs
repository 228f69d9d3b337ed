//! Databag on SQLite with 1,000 to 10,000,000 sessions: `benches/scale` builds and starts it.
//!
//! Markdown tables leave on stdout, progress on stderr. Each step is a process of its own, so that its memory and its
//! start are its own: `scale STEP FILE ROWS SECONDS` prints lines of a name and a number.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for readers"
)]

mod fill;
mod plot;
mod steps;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use session_runtime::Keyring;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a step has measured, by name.
type Figures = BTreeMap<String, f64>;

const SIZES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// The environment variable of the key that all steps share.
const KEY: &str = "DATABAG_SCALE_KEY";
/// So many operations are enough for percentiles.
const ENOUGH: f64 = 100.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => run(&Settings::from_env()?),
        [step, file, rows, seconds] => steps::run(step, Path::new(file), rows.parse()?, seconds.parse()?),
        _ => Err("usage: scale [STEP FILE ROWS SECONDS]".into()),
    }
}

struct Settings {
    /// The largest number of sessions.
    most: u64,
    rounds: usize,
    /// Seconds for each figure.
    time: f64,
    /// Seconds of the soak.
    soak: f64,
    plot: bool,
}

impl Settings {
    fn from_env() -> Result<Self> {
        let number = |name: &str, default: f64| match env::var(name) {
            Ok(value) => value.parse().map_err(|_| format!("{name} is {value:?}, and no number")),
            Err(_) => Ok(default),
        };
        Ok(Self {
            most: number("MOST", 10_000_000.0)? as u64,
            rounds: number("ROUNDS", 5.0)? as usize,
            time: number("TIME", 2.0)?,
            soak: number("SOAK", 30.0)?,
            plot: env::var_os("PLOT").is_some(),
        })
    }
}

/// The databases, which are removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn file(&self, rows: u64) -> PathBuf {
        self.0.join(format!("{rows}.db"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nothing left to do about a failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(settings: &Settings) -> Result<()> {
    let folder = env::current_exe()?.with_file_name(format!("databag-scale-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let scratch = Scratch(folder);
    let key = Keyring::generate_text();
    let sizes: Vec<u64> = SIZES.into_iter().filter(|rows| *rows <= settings.most).collect();
    let step = |name: &str, rows: u64, seconds: f64| step(&scratch.file(rows), &key, name, rows, seconds);

    let mut filled = Vec::new();
    for &rows in &sizes {
        filled.push(step("fill", rows, 0.0)?);
    }
    let mut costs: Vec<Vec<Figures>> = sizes.iter().map(|_| Vec::new()).collect();
    for round in 0..settings.rounds {
        for (&rows, costs) in sizes.iter().zip(&mut costs) {
            eprintln!("round {} of {}: {rows} sessions", round + 1, settings.rounds);
            warm(&scratch.file(rows))?;
            costs.push(step("costs", rows, settings.time)?);
        }
    }
    println!("{} rounds of {} s for each figure, one client.\n", settings.rounds, settings.time);
    print_costs(&sizes, &filled, &costs);

    let mut pruned = Vec::new();
    for &rows in &sizes {
        eprintln!("{rows} sessions: removing the expired ones");
        warm(&scratch.file(rows))?;
        pruned.push(step("prune", rows, settings.time * 5.0)?);
    }
    print_pruned(&sizes, &pruned);

    let Some(&largest) = sizes.last() else { return Err("MOST is below 1000".into()) };
    eprintln!("{largest} sessions: constant load for {} s", settings.soak);
    let soaked = step("soak", largest, settings.soak)?;
    print_soak(largest, settings.soak, &soaked);

    print_targets(largest, &costs, &pruned, &soaked);
    if settings.plot {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance-scale.svg");
        let line = |name: &'static str, label| {
            let points = sizes.iter().zip(&costs).map(|(rows, costs)| (*rows, median(costs, name)));
            plot::Line { label, points: points.collect() }
        };
        fs::write(path, plot::costs(&[line("load_cpu", "load"), line("save_cpu", "save")]))?;
    }
    Ok(())
}

/// Runs a step in a process of its own.
fn step(file: &Path, key: &str, name: &str, rows: u64, seconds: f64) -> Result<Figures> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(name).arg(file).args([rows.to_string(), seconds.to_string()]).env(KEY, key);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the step `{name}` with {rows} sessions fails").into());
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let (name, value) = line.split_once(' ').ok_or("a line has no value")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

/// Reads the whole file, so that it is in the page cache if there is memory for it.
fn warm(file: &Path) -> Result<()> {
    io::copy(&mut fs::File::open(file)?, &mut io::sink())?;
    Ok(())
}

fn print_costs(sizes: &[u64], filled: &[Figures], costs: &[Vec<Figures>]) {
    println!(
        "| sessions | load, CPU | load p50 | p99 | p99.9 | save, CPU | save p50 | p99 | p99.9 | bytes on disk | \
         memory | peak | start-up |"
    );
    println!("|{}", " --- |".repeat(13));
    for ((rows, filled), costs) in sizes.iter().zip(filled).zip(costs) {
        let figure = |name| median(costs, name);
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.1} |",
            grouped(*rows),
            spread(costs, "load_cpu"),
            figure("load_p50"),
            figure("load_p99"),
            figure("load_p999"),
            spread(costs, "save_cpu"),
            figure("save_p50"),
            figure("save_p99"),
            figure("save_p999"),
            filled["bytes"],
            figure("memory"),
            figure("peak"),
            figure("start"),
        );
    }
    println!("\nCPU time and latencies in microseconds, memory in MiB, start-up in milliseconds.\n");
}

fn print_pruned(sizes: &[u64], pruned: &[Figures]) {
    println!(
        "| sessions | expired | time to remove | CPU | load p99 | meanwhile | p99.9 | meanwhile | save p50 | meanwhile \
         | p99 | meanwhile | p99.9 | meanwhile | failures | peak |"
    );
    println!("|{}", " --- |".repeat(16));
    for (rows, figures) in sizes.iter().zip(pruned) {
        let pair = |name: &str| {
            let [quiet, busy] = ["quiet", "busy"].map(|when| figures[&format!("{when}_{name}")]);
            if figures["busy_count"] < ENOUGH {
                format!("{quiet:.1} | too short")
            } else {
                format!("{quiet:.1} | {busy:.1} ({:.1}x)", busy / quiet)
            }
        };
        println!(
            "| {} | {} | {:.2} s | {:.2} s | {} | {} | {} | {} | {} | {} | {:.1} |",
            grouped(*rows),
            grouped(rows / fill::EXPIRED),
            figures["time"],
            figures["cpu"],
            pair("load_p99"),
            pair("load_p999"),
            pair("save_p50"),
            pair("save_p99"),
            pair("save_p999"),
            figures["busy_failures"],
            figures["peak"],
        );
    }
    println!(
        "\nLatencies in microseconds, without and with the removal. Failures: of operations meanwhile. Memory in MiB.\n"
    );
}

fn print_soak(rows: u64, seconds: f64, soaked: &Figures) {
    println!("| sessions | seconds | operations | memory at the start | middle | end | longest log |");
    println!("|{}", " --- |".repeat(7));
    println!(
        "| {} | {seconds} | {} | {:.1} | {:.1} | {:.1} | {:.0} |",
        grouped(rows),
        grouped(soaked["operations"] as u64),
        soaked["start"],
        soaked["middle"],
        soaked["end"],
        soaked["log"],
    );
    println!("\nIn MiB.\n");
}

fn print_targets(largest: u64, costs: &[Vec<Figures>], pruned: &[Figures], soaked: &Figures) {
    let (Some(small), Some(large), Some(pruned)) = (costs.first(), costs.last(), pruned.last()) else {
        return;
    };
    let slower = |name: &str| match pruned["busy_count"] {
        ..ENOUGH => "too short".to_owned(),
        _ => format!("{:.2}x", pruned[&format!("busy_{name}")] / pruned[&format!("quiet_{name}")]),
    };
    let largest = grouped(largest);
    println!("| target | measured |");
    println!("| --- | --- |");
    let load = median(large, "load_cpu") / median(small, "load_cpu");
    println!("| CPU time of a load with {largest} sessions at most 3x that with 1,000 | {load:.2}x |");
    println!("| p99 of other loads at most 2x while expired rows are removed | {} |", slower("load_p99"));
    println!("| p99 of other saves at most 2x while expired rows are removed | {} |", slower("save_p99"));
    let growth = soaked["end"] - soaked["middle"];
    println!("| memory does not grow: end of the soak against its middle | {growth:+.1} MiB |");
    println!("| start-up with {largest} sessions below 1 s | {:.3} s |", median(large, "start") / 1_000.0);
}

fn sorted(figures: &[Figures], name: &str) -> Vec<f64> {
    let mut values: Vec<f64> = figures.iter().map(|figures| figures[name]).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(figures: &[Figures], name: &str) -> f64 {
    let values = sorted(figures, name);
    values[values.len() / 2]
}

fn spread(figures: &[Figures], name: &str) -> String {
    let values = sorted(figures, name);
    format!("{:.1} ({:.1}-{:.1})", values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Separates thousands by commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
