//! The arguments, and the text of `--help`.

#![expect(clippy::doc_markdown, reason = "the text of `--help` is no Markdown")]

use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use session_runtime::admin::TableOptions;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the store does not answer, a key is refused, an output cannot be written
  2  usage: the arguments are wrong, or an option is missing
  3  rows were found that do not open, that could not be written, or whose key is missing
  4  there is no such session, or not each one that was named
  5  not confirmed: nothing was changed

No command prints a key, a token, or the value of a field that has no column;
`keygen` prints its new key. A URL with a password is read from the variable
SESSION_STORE, so that no list of processes shows it. Times are UTC.";

/// Returns what to do about arguments that were not understood, if their own message does not say.
pub(crate) fn tip(error: &clap::Error) -> Option<&'static str> {
    match (error.kind(), error.get(ContextKind::InvalidArg)?) {
        (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing)) => {
            let is_missing = |name: &str| missing.iter().any(|argument| argument.starts_with(name));
            if is_missing("--store ") {
                Some("name the store by --store, or in the variable SESSION_STORE")
            } else if is_missing("--to ") {
                Some("name the store to copy to by --to, or in the variable SESSION_STORE_TO")
            } else {
                None
            }
        }
        (ErrorKind::UnknownArgument, ContextValue::String(unknown)) if unknown == "--all" => std::env::args()
            .any(|argument| argument == "revoke")
            .then_some("--everyone ends all sessions of the table"),
        _ => None,
    }
}

/// Looks after the sessions that a program keeps with Databag.
///
/// Works on every store, beside the program that uses it, without knowing the
/// type of the sessions. What it ends has ended at the next request.
#[derive(Debug, Parser)]
#[command(name = "databag", version, after_long_help = EXIT_CODES, verbatim_doc_comment)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Stats(StatsArgs),
    List(ListArgs),
    Show(ShowArgs),
    Revoke(RevokeArgs),
    Prune(PruneArgs),
    Reseal(ResealArgs),
    Check(CheckArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Copy(CopyArgs),
    Keygen(KeygenArgs),
    /// Prints a completion script for a shell
    ///
    /// For bash: databag completions bash > /etc/bash_completion.d/databag
    #[command(verbatim_doc_comment)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Counts the sessions
///
/// Needs no key. With --scan it also reads every row: sizes, ages, and how many
/// sessions are sealed with which key, which says when an old key can go.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct StatsArgs {
    /// Also read every row: sizes, ages, keys
    #[arg(long)]
    pub(crate) scan: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Lists sessions, the newest first
///
/// Needs no key, but to find a value of a blind column: then it needs all keys of
/// the program. A value of 16 bytes, or a text of 32 hexadecimal digits, is shown
/// as `hash:..`, as blind columns have. Several conditions must all hold.
///
///   databag list --user 7
///   databag list --column tenant=acme --older-than 12h
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ListArgs {
    /// Only sessions of this user
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Only sessions last used from this address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<String>,
    /// Only sessions with this value in a column; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) column: Vec<String>,
    /// Only sessions that began longer ago than this: 90s, 30m, 12h, 14d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) older_than: Option<Duration>,
    /// Only sessions that began within this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) newer_than: Option<Duration>,
    /// Also sessions that have expired and are not removed yet
    #[arg(long)]
    pub(crate) expired: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// All of them, in the order of their ids
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Shows what is stored of a session
///
/// Without a key: the columns of its row. With a key also what its record says
/// besides the values of the fields: last use, limits, the size of each field.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowArgs {
    /// The id, or the first 8 digits or more, as the log has them
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Ends sessions
///
/// Needs no key, but to find a user in a blind column: then it needs all keys of
/// the program, since each has hashes of its own. Asks before it ends anything. A
/// session that has ended stays ended: the next request with its cookie is that of
/// a new visitor. Of several ids those that are found end; the exit code is 4 if
/// one was not found: a log-in gives a session a new id.
///
///   databag revoke 3f09a1b2
///   databag revoke --user 7 --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "user", "everyone"]))]
pub(crate) struct RevokeArgs {
    /// Their ids, or the first 8 digits or more of each
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All sessions of this user
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// All sessions of the table
    #[arg(long)]
    pub(crate) everyone: bool,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Removes the rows of sessions that have expired
///
/// Needs no key. What has expired is decided by the clock of this machine: if it is
/// ahead of those of the program, live sessions end. So it asks first. The program
/// does the same every 30 minutes by default; this is for a full disk, and for a
/// program that does not run.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Seals every session again with the current key
///
/// The last step but one of a change of keys: first every program has the new
/// key behind the old one, then in front of it, then this command runs with both,
/// then the old key can go. Fields and expiry stay as they are. It can be stopped:
/// run it again to go on. A row that cannot be sealed again is named.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ResealArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Opens every live session, and names the rows that do not open
///
/// Checks the seal and the frame of each record, and compares it with the columns
/// whose type can be told. Only the program itself knows the types of the fields:
/// `Sessions::check` there decodes and compares all of them. Run it with the new
/// key alone before you remove an old one.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Writes all sessions to a file, but those that expired a day ago or longer
///
/// One JSON object a line: what the table is, each row, and their number. Records
/// stay sealed, and columns are in the clear, as in the store. Needs no key. The
/// file is for `databag import`, and as old as it is: do not keep it as a backup.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExportArgs {
    /// The new file, which only its owner can read; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) report: OutputArgs,
}

/// Stores the sessions of a file in a store
///
/// Creates the table if it is missing. A row of the store with the same or a higher
/// revision stays. It can be stopped and started again, until a program uses the
/// new store. Sessions that have ended since the export begin again, so it asks
/// first: stop the program before the export.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ImportArgs {
    /// The file of `databag export`; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) report: OutputArgs,
}

/// Stores the sessions of one store in another
///
/// As an export and an import in one: the table and the bag keep their names, since
/// each record opens only there. Stop the program first, then copy, then start it
/// with the new store, and never copy again: what has ended there would begin again.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CopyArgs {
    /// The store to copy to
    #[arg(long, value_name = "URL", env = "SESSION_STORE_TO", hide_env_values = true)]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Makes a new key
///
/// Prints it, or writes it to a new file that only its owner can read. A file that
/// exists is never overwritten.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct KeygenArgs {
    /// The new file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON: one object a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfirmArgs {
    /// Do not ask; without a terminal nothing is done without it
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Keys")]
pub(crate) struct KeyArgs {
    /// The variable with the keys, the current one first [default: SESSION_KEY, if it is set]
    #[arg(long, value_name = "NAME", conflicts_with = "key_file")]
    pub(crate) key_env: Option<String>,
    /// A file with the keys, one a line, the current one first
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The records are in the clear: the program uses `danger_plaintext`
    #[arg(long, conflicts_with_all = ["key_env", "key_file"])]
    pub(crate) plaintext: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct TargetArgs {
    /// The store, such as sqlite:sessions.db or postgres://host/database
    #[arg(short = 's', long = "store", value_name = "URL", env = "SESSION_STORE", hide_env_values = true)]
    pub(crate) url: String,
    /// How long a call of the store may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Where the rows are. What is left out has the default of the derive.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// The table: `#[databag(table = "..")]`
    #[arg(
        short,
        long,
        value_name = "NAME",
        env = "SESSION_TABLE",
        hide_env_values = true,
        default_value = "sessions"
    )]
    table: String,
    /// The bag, if the store does not say: `#[databag(name = "..")]`
    #[arg(long, value_name = "NAME")]
    bag: Option<String>,
    /// The limit of the program: a larger record is not read
    #[arg(long, value_name = "BYTES")]
    max_state_bytes: Option<usize>,
    /// Columns with names of their own: `#[databag(columns(id = "sid"))]` is --columns id=sid
    #[arg(long, value_name = "ROLE=NAME", value_delimiter = ',')]
    columns: Vec<String>,
}

impl StoreArgs {
    /// Returns what they say of the table.
    pub(crate) fn options(&self) -> Result<TableOptions, String> {
        let mut options = TableOptions::new(self.table.clone());
        options.bag.clone_from(&self.bag);
        options.timeout = self.target.timeout;
        if let Some(bytes) = self.max_state_bytes {
            options.max_state_bytes = bytes;
        }
        for column in &self.columns {
            let (role, name) = column.split_once('=').unwrap_or((column, ""));
            let name = name.to_owned();
            if name.is_empty() {
                return Err(format!("--columns {role}: write a role and a name, as in id=sid"));
            }
            match role {
                "id" => options.id = name,
                "state" => options.state = name,
                "user_id" => options.user = Some(name),
                "ip_addr" => options.ip = Some(name),
                "created" => options.created = name,
                "expiration" => options.expiration = name,
                "revision" => options.revision = name,
                _ => {
                    return Err(format!(
                        "--columns {role}={name}: a role is one of id, state, user_id, ip_addr, created, expiration, revision"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Reads `90s`, `30m`, `12h` or `14d`. A clock holds what is added to it.
fn duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "write a number and a unit: 90s, 30m, 12h, 14d; at most 36500d";
    const MOST: u64 = 36_500 * 24 * 60 * 60;
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?);
    let number: u64 = number.parse().map_err(|_| FORM)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(FORM.to_owned()),
    };
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds <= MOST);
    seconds.map(Duration::from_secs).ok_or_else(|| FORM.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        assert_eq!(duration("14d"), Ok(Duration::from_hours(14 * 24)));
        assert_eq!(duration("36500d"), Ok(Duration::from_hours(36_500 * 24)));
        for bad in ["", "14", "d", "-1s", "1w", "99999999999999999999d", "9999999999999999d", "36501d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
