//! Keys and seals: `keygen`, `reseal`, `check`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use session_runtime::admin::{Resealed, SessionTable, current_key};
use session_runtime::store::{Filter, Page, Row};
use session_runtime::{Keyring, SessionId};

use crate::args::{CheckArgs, KeygenArgs, ResealArgs};
use crate::open::{Keys, PAGE, now, open_with_keys};
use crate::output::{Failure, count, harmless, print, print_json, progress, report, say};

/// How many rows are written at a time.
pub(crate) const WRITES: usize = 32;

/// How often rows that are not listed are looked for again.
const REPEATS: u32 = 4;

/// Opens a new file that only its owner can read.
pub(crate) fn create_private(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| Failure::io(&path.display().to_string(), &error))
}

/// Removes a file that this run has created and not finished, so that it can be run again.
pub(crate) fn remove_unfinished(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        say(&format!("{} is not whole and cannot be removed: {error}", path.display()));
    }
}

pub(crate) fn generate(args: &KeygenArgs) -> Result<(), Failure> {
    let key = Keyring::generate_text();
    let keyring = Keyring::parse(&key).map_err(|error| Failure::Failed(format!("{error:?}")))?;
    let id = current_key(&keyring);
    let Some(path) = &args.output else {
        print(&format!("{}\n", *key))?;
        say(&format!("the id of this key is {id}"));
        return Ok(());
    };
    let mut file = create_private(path)?;
    let written = file.write_all(key.as_bytes()).and_then(|()| file.write_all(b"\n"));
    written.and_then(|()| file.sync_all()).map_err(|error| {
        remove_unfinished(path);
        Failure::io(&path.display().to_string(), &error)
    })?;
    print(&format!("made a key in {}, its id is {id}\n", path.display()))
}

/// How many rows are named for each reason; JSON names all.
const NAMED: u64 = 10;

/// The rows that a command could not open or write, each with its reason.
#[derive(Default)]
pub(crate) struct Faults {
    is_json: bool,
    reasons: BTreeMap<String, u64>,
}

impl Faults {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json, ..Self::default() }
    }

    /// Prints a row and its reason. What cannot be printed stops no work, and counts.
    pub(crate) fn note(&mut self, id: SessionId, reason: &str) {
        let rows = self.reasons.entry(reason.to_owned()).or_default();
        *rows += 1;
        let _ = if self.is_json {
            print_json(&json!({ "id": id.to_string(), "fault": reason }))
        } else if *rows <= NAMED {
            print(&format!("{id}  {}\n", harmless(reason)))
        } else {
            Ok(())
        };
    }

    /// Prints for people how many rows have each reason of which not all were named.
    pub(crate) fn sum_up(&self) {
        for (reason, rows) in self.reasons.iter().filter(|(_, rows)| !self.is_json && **rows > NAMED) {
            let _ = print(&format!(
                "{}  {} (the first {NAMED} are named above; --json names all)\n",
                count(*rows, "row"),
                harmless(reason)
            ));
        }
    }

    /// Counts rows without an id, and prints their reason for people: the report for programs has it.
    pub(crate) fn note_many(&mut self, rows: u64, reason: &str) {
        if rows > 0 {
            *self.reasons.entry(reason.to_owned()).or_default() += rows;
            if !self.is_json {
                let _ = print(&format!("{}  {reason}\n", count(rows, "row")));
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.reasons.values().sum()
    }

    pub(crate) fn reasons(&self) -> &BTreeMap<String, u64> {
        &self.reasons
    }

    /// Fails if there are some; `what` names them.
    pub(crate) fn result(&self, what: &str) -> Result<(), Failure> {
        match self.count() {
            0 => Ok(()),
            faults => Err(Failure::Rows(format!("{what}: {faults}"))),
        }
    }
}

pub(crate) async fn reseal(args: ResealArgs) -> Result<(), Failure> {
    if args.keys.plaintext {
        return Err(Failure::Usage("records in the clear have no seal".to_owned()));
    }
    let table = open_with_keys(&args.store, &args.keys, Keys::Required).await?;
    let total = table.count(&Filter::LiveAt(now())).await?;
    let key = table.current_key().unwrap_or_default();
    if std::io::stderr().is_terminal() {
        say(&format!("sealing with the key {key}; it can be stopped: run it again to go on"));
    }
    let mut faults = Faults::new(args.output.json);
    let (bar, mut after) = (progress(total, "sealing"), None);
    let (mut resealed, mut current) = (0_u64, 0_u64);
    loop {
        let rows = table.rows(&Filter::LiveAt(now()), Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        let reseal = |row: Row| async { (row.id, table.reseal(row).await) };
        let mut results = stream::iter(rows).map(reseal).buffer_unordered(WRITES);
        while let Some((id, result)) = results.next().await {
            bar.inc(1);
            match result {
                Ok(Resealed::Stored) => resealed += 1,
                Ok(Resealed::Current) => current += 1,
                Ok(Resealed::Skipped(fault)) => bar.suspend(|| faults.note(id, &fault.to_string())),
                Ok(_) => {}
                // What one row does not take stops no other one.
                Err(error) if is_of_row(&error) => bar.suspend(|| faults.note(id, &format!("{error:?}"))),
                Err(error) => return Err(error.into()),
            }
        }
    }
    bar.finish_and_clear();
    faults.sum_up();
    let json = json!({
        "resealed": resealed, "current": current, "skipped": faults.count(), "reasons": faults.reasons(),
        "current_key": key,
    });
    let text = format!("sealed {} with the key {key}; {current} had it before", count(resealed, "session"));
    report(args.output.json, &json, &text)?;
    faults.result("rows that could not be sealed again, so keep the old keys")
}

/// Returns whether an error is of one row, and not of the store.
pub(crate) fn is_of_row(error: &session_runtime::Error) -> bool {
    match error {
        session_runtime::Error::Contended => true,
        session_runtime::Error::Store(error) => error.is_refused(),
        _ => false,
    }
}

pub(crate) async fn check(args: CheckArgs) -> Result<(), Failure> {
    let table = open_with_keys(&args.store, &args.keys, Keys::Required).await?;
    let before = table.count(&Filter::All).await?;
    let mut faults = Faults::new(args.output.json);
    let (bar, mut after) = (progress(before, "opening"), None);
    let (mut live, mut expired, mut read) = (0_u64, 0_u64, 0_u64);
    let mut not_compared = BTreeMap::<String, u64>::new();
    loop {
        let rows = table.rows(&Filter::All, Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        read += rows.len() as u64;
        bar.inc(rows.len() as u64);
        let now = now();
        for row in &rows {
            // As the program does: nobody opens what has expired, perhaps under a key that is gone.
            if row.expiration <= now && row.damaged.is_none() {
                expired += 1;
                continue;
            }
            match table.examine(row) {
                Err(fault) => bar.suspend(|| faults.note(row.id, &fault.to_string())),
                Ok(record) => {
                    live += 1;
                    for column in record.not_compared {
                        *not_compared.entry(column).or_default() += 1;
                    }
                }
            }
        }
    }
    bar.finish_and_clear();
    // No list returns a row whose key is no session id.
    let total = table.count(&Filter::All).await?.min(before);
    let mut unlisted = total.saturating_sub(read);
    for _ in 0..REPEATS {
        if unlisted == 0 {
            break;
        }
        // A log-in gives a row a new id: it may have moved from the rows that were not read yet to those that were.
        unlisted = unlisted.min(count_unlisted(&table).await?);
    }
    faults.sum_up();
    faults.note_many(unlisted, "its key is no session id");
    let json = json!({
        "live": live, "expired": expired, "faults": faults.count(), "reasons": faults.reasons(),
        "not_compared": not_compared,
    });
    let unknown = not_compared.iter().map(|(column, rows)| {
        format!(
            "the column `{}` of {} was not compared: only the program knows its type, and `Sessions::check` there\n",
            harmless(column),
            count(*rows, "session")
        )
    });
    let opened = format!("opened {}, skipped {}", count(live, "live session"), count(expired, "expired one"));
    let text = unknown.chain([opened]).collect::<String>();
    report(args.output.json, &json, &text)?;
    faults.result("rows that do not open")
}

/// Counts the rows that are counted and not listed.
async fn count_unlisted(table: &SessionTable) -> Result<u64, Failure> {
    let before = table.count(&Filter::All).await?;
    let (mut read, mut after) = (0_u64, None);
    loop {
        let rows = table.rows(&Filter::All, Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        read += rows.len() as u64;
    }
    Ok(table.count(&Filter::All).await?.min(before).saturating_sub(read))
}
