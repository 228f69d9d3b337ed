//! `databag`: what an operator does with a store of sessions. It knows no bag: see `session_runtime::admin`.
//!
//! Arguments enter; lines for people or JSON for programs leave on stdout, everything else on stderr. No key and no
//! token is printed, and no value of a field that has no column; `keygen` prints its new key.

mod args;
mod file;
mod keys;
mod open;
mod output;
mod sessions;
mod transfer;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Cli, Command};
use crate::output::{Failure, without_reader};

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        if let Some(tip) = args::tip(&error) {
            output::say(tip);
        }
        std::process::exit(error.exit_code())
    });
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(LevelFilter::WARN);
    log.without_time().with_target(false).with_ansi(false).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::say(failure.text());
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("no runtime can be started: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Stats(args) => without_reader(sessions::stats(args).await),
            Command::List(args) => without_reader(sessions::list(args).await),
            Command::Show(args) => without_reader(sessions::show(args).await),
            Command::Revoke(args) => sessions::revoke(args).await,
            Command::Prune(args) => sessions::prune(args).await,
            Command::Reseal(args) => keys::reseal(args).await,
            Command::Check(args) => keys::check(args).await,
            Command::Export(args) => transfer::export(args).await,
            Command::Import(args) => transfer::import(args).await,
            Command::Copy(args) => transfer::copy(args).await,
            Command::Keygen(args) => keys::generate(&args),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "databag", &mut script);
                output::print(&String::from_utf8_lossy(&script))
            }
        }
    })
}
