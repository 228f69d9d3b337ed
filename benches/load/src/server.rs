//! The servers: what is measured, and each as a process on the first core.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::Result;

/// A line of the tables.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The program, and its folder in `benches`.
    program: &'static str,
    folder: &'static str,
    argument: &'static str,
    pub(crate) kind: Kind,
}

/// What a row is in.
#[derive(PartialEq)]
pub(crate) enum Kind {
    Http,
    Store,
    Both,
}

impl Row {
    pub(crate) fn is_wanted(&self, only: &str) -> bool {
        self.name.contains(only)
    }
}

const fn ours(name: &'static str, argument: &'static str, kind: Kind) -> Row {
    Row { name, program: "server", folder: "databag", argument, kind }
}

const fn peer(name: &'static str, program: &'static str, argument: &'static str, kind: Kind) -> Row {
    // The programs of peers are called `peer-`, and their folders are not.
    let (_, folder) = program.split_at("peer-".len());
    Row { name, program, folder, argument, kind }
}

pub(crate) const SERVERS: &[Row] = &[
    ours("Databag, SQLite NORMAL", "sqlite-normal", Kind::Both),
    ours("Databag, SQLite FULL", "sqlite-full", Kind::Both),
    ours("Databag, memory", "memory", Kind::Both),
    ours("Databag, cookie", "cookie", Kind::Http),
    ours("Databag, Redis", "redis", Kind::Http),
    ours("Databag, Redis with near cache", "redis-near-cache", Kind::Http),
    ours("Databag, PostgreSQL", "postgres", Kind::Http),
    peer("actix-session, Redis", "peer-actix-session", "redis", Kind::Http),
    peer("actix-session, cookie", "peer-actix-session", "cookie", Kind::Http),
    peer("tower-sessions-rusqlite-store", "peer-tower-sessions-rusqlite-store", "sqlite", Kind::Both),
    peer("tower-sessions-sqlx-store, SQLite", "peer-tower-sessions-sqlx-store", "sqlite", Kind::Both),
    peer("axum_session, SQLite, with its memory cache", "peer-axum-session", "memory", Kind::Http),
    peer("axum_session, SQLite, without it", "peer-axum-session", "database", Kind::Both),
    peer("axess, SQLite, encrypted", "peer-axess", "sqlite", Kind::Both),
    peer("bare rusqlite, no session", "peer-rusqlite", "sqlite", Kind::Both),
];

/// The crates whose versions are printed.
const CRATES: [&str; 14] = [
    "actix-session",
    "actix-web",
    "axess",
    "axum",
    "axum_session",
    "axum_session_sqlx",
    "libsqlite3-sys",
    "redis",
    "rusqlite",
    "sqlx",
    "tokio-rusqlite",
    "tower-sessions",
    "tower-sessions-rusqlite-store",
    "tower-sessions-sqlx-store",
];

pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
}

impl Server {
    pub(crate) fn start(row: &Row) -> Result<Self> {
        let folder = scratch(row)?;
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", "0"])
            .arg(program(row)?)
            .args(["serve", row.argument])
            .env("TMPDIR", &folder);
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("it has an output")?).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{} does not start", row.name));
        Ok(Self { process, address: address?, folder })
    }

    /// The CPU seconds that the process has used.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name, in brackets, may contain spaces.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // The 14th and 15th field of all, in ticks: 100 a second on Linux.
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the operations per second and the p99 in microseconds, of loads with 1 and 64 clients, then of saves.
pub(crate) fn measure_store(row: &Row, time: Duration) -> Result<Vec<(f64, f64)>> {
    let folder = scratch(row)?;
    // Not on the core of the load generator alone, which this process inherits from `benches/run`.
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0,1"]).arg(program(row)?).args(["store", row.argument]);
    let output = command
        .arg(time.as_secs_f64().to_string())
        .env("TMPDIR", &folder)
        .stderr(Stdio::inherit())
        .output()?;
    fs::remove_dir_all(&folder)?;
    if !output.status.success() {
        return Err(format!("{} fails", row.name).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let figures = text.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2).map(str::parse);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    Ok(figures.collect())
}

/// An empty folder for the database, on the disk of the programs: a database in memory costs no write.
fn scratch(row: &Row) -> Result<PathBuf> {
    let folder = program(row)?.with_file_name(format!("databag-bench-{}-{}", row.program, row.argument));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn program(row: &Row) -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name(row.program))
}

/// Prints the versions in the lock file of each program.
pub(crate) fn print_versions() -> Result<()> {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    println!("| folder | versions |\n| --- | --- |");
    let mut printed = Vec::new();
    for row in SERVERS {
        if printed.contains(&row.folder) {
            continue;
        }
        printed.push(row.folder);
        // Ours is a member of the workspace.
        let own = benches.join("peers").join(row.folder).join("Cargo.lock");
        let lock = fs::read_to_string(if own.exists() { own } else { benches.join("../Cargo.lock") })?;
        let versions = CRATES.iter().filter_map(|name| {
            let (_, rest) = lock.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
            Some(format!("{name} {}", rest.split('"').next()?))
        });
        println!("| {} | {} |", row.folder, versions.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
