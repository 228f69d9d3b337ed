//! Sessions on their way to another store: `export`, `import`, `copy`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use futures_util::stream::{self, StreamExt as _};
use indicatif::ProgressBar;
use serde_json::json;
use session_runtime::SessionId;
use session_runtime::admin::{Put, SessionTable, connect_existing};
use session_runtime::store::{Filter, Page, Row};

use crate::args::{CopyArgs, ExportArgs, ImportArgs, TargetArgs};
use crate::file::{Header, Line, Reader, end_to_line, row_to_line};
use crate::keys::{Faults, WRITES, create_private, is_of_row, remove_unfinished};
use crate::open::{PAGE, connect, not_connected, not_long_expired, now, open, place};
use crate::output::{Failure, confirm, count, progress, report};

/// In the place of a file.
const STANDARD_STREAM: &str = "-";

pub(crate) async fn export(args: ExportArgs) -> Result<(), Failure> {
    let table = open(&args.store).await?;
    if args.output == Path::new(STANDARD_STREAM) {
        let left_out = write_rows(&table, &args, io::stdout().lock()).await?.1;
        return left_out_result(left_out.len());
    }
    let file = create_private(&args.output)?;
    let written = write_rows(&table, &args, &file).await;
    let synced = written.and_then(|written| {
        let synced = file.sync_all();
        synced.map_err(|error| Failure::io(&args.output.display().to_string(), &error))?;
        Ok(written)
    });
    let (written, left_out) = match synced {
        Ok(written) => written,
        Err(failure) => {
            remove_unfinished(&args.output);
            return Err(failure);
        }
    };
    let mut faults = Faults::new(args.report.json);
    for (id, reason) in &left_out {
        faults.note(*id, reason);
    }
    faults.sum_up();
    let json = json!({ "written": written, "left_out": left_out.len() });
    let text = format!("wrote {} to {}", count(written, "session"), args.output.display());
    report(args.report.json, &json, &text)?;
    left_out_result(left_out.len())
}

fn left_out_result(left_out: usize) -> Result<(), Failure> {
    match left_out {
        0 => Ok(()),
        left => Err(Failure::Rows(format!("rows that cannot be read and were left out: {left}"))),
    }
}

/// Writes the lines of an export, and returns the number of rows, and what was left out and why.
async fn write_rows(
    table: &SessionTable,
    args: &ExportArgs,
    output: impl Write,
) -> Result<(u64, Vec<(SessionId, String)>), Failure> {
    let mut output = BufWriter::new(output);
    let mut write = |line: String| {
        output
            .write_all(line.as_bytes())
            .map_err(|error| Failure::io(&args.output.display().to_string(), &error))
    };
    write(Header::new(table.bag(), table.table(), now()).to_line())?;
    let total = table.count(&not_long_expired()).await?;
    let (bar, mut after) = (progress(total, "writing"), None);
    let (mut written, mut damaged) = (0_u64, Vec::new());
    loop {
        let rows = table.rows(&not_long_expired(), Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        bar.inc(rows.len() as u64);
        for row in rows {
            if let Some(reason) = reason_to_leave(table, &row) {
                damaged.push((row.id, reason));
            } else {
                write(row_to_line(&row))?;
                written += 1;
            }
        }
    }
    write(end_to_line(written))?;
    bar.finish_and_clear();
    output.flush().map_err(|error| Failure::io(&args.output.display().to_string(), &error))?;
    Ok((written, damaged))
}

/// Returns why a row is not taken to another store: the application would not open it there either.
fn reason_to_leave(table: &SessionTable, row: &Row) -> Option<String> {
    match &row.damaged {
        Some(column) => Some(format!("the value of the column `{column}` cannot be read")),
        None if row.state.len() > table.table().max_state => {
            Some("it is larger than `max_state_bytes`: --max-state-bytes reads it".to_owned())
        }
        None => None,
    }
}

pub(crate) async fn import(args: ImportArgs) -> Result<(), Failure> {
    let name = args.input.display().to_string();
    let is_stdin = args.input == Path::new(STANDARD_STREAM);
    let input: Box<dyn io::Read> = if is_stdin {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&args.input).map_err(|error| Failure::io(&name, &error))?)
    };
    let mut reader = Reader::new(BufReader::new(input));
    let header = reader.header()?;
    let store = place(&args.target.url);
    if !args.confirm.yes {
        let question = format!(
            "Store the sessions of `{}` in the table `{}` of {store}? Those that have ended since {} begin again.{}",
            header.bag,
            header.table.name,
            header.exported,
            warning(&args.target.url, &args.target, &header).await?
        );
        confirm(&question, false)?;
    }
    let target = create(&args.target.url, &args.target, &header).await?;
    let mut transfer = Transfer::new(&target, progress(0, "storing"), args.report.json);
    let (mut rows, mut read, mut end) = (Vec::new(), 0_u64, None);
    // What was read before a line that is malformed is stored and reported first.
    let outcome = loop {
        match reader.line(&header.table) {
            Ok(Some(Line::Row(row))) => {
                read += 1;
                rows.push(row);
            }
            Ok(Some(Line::End { rows })) => end = Some(rows),
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
        if rows.len() >= PAGE as usize {
            transfer.store(std::mem::take(&mut rows)).await?;
        }
    };
    transfer.store(rows).await?;
    let finished = transfer.finish(read).await;
    outcome?;
    match end {
        Some(rows) if rows == read => finished,
        Some(rows) => Err(Failure::Failed(format!("{name} says that it has {rows} rows, and it has {read}"))),
        None => Err(Failure::Failed(format!("{name} is cut off: it has no end"))),
    }
}

pub(crate) async fn copy(args: CopyArgs) -> Result<(), Failure> {
    if args.to == args.store.target.url {
        return Err(Failure::Usage("the store to copy to is the same".to_owned()));
    }
    let source = open(&args.store).await?;
    let total = source.count(&not_long_expired()).await?;
    let (from, to) = (place(&args.store.target.url), place(&args.to));
    let header = Header::new(source.bag(), source.table(), now());
    if !args.confirm.yes {
        let question = format!(
            "Copy {} of `{}` from {from} to {to}? Those that end in the old store meanwhile live on in the new one.{}",
            count(total, "session"),
            source.bag(),
            warning(&args.to, &args.store.target, &header).await?
        );
        confirm(&question, false)?;
    }
    let target = create(&args.to, &args.store.target, &header).await?;
    let mut transfer = Transfer::new(&target, progress(total, "copying"), args.output.json);
    let (mut read, mut after) = (0, None);
    loop {
        let rows = source.rows(&not_long_expired(), Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        read += rows.len() as u64;
        let mut whole = Vec::with_capacity(rows.len());
        for row in rows {
            match reason_to_leave(&source, &row) {
                Some(reason) => transfer.fault(row.id, &reason),
                None => whole.push(row),
            }
        }
        transfer.store(whole).await?;
    }
    transfer.finish(read).await
}

/// Returns what to know before rows come to a table that has some; nothing of one that is empty or missing.
async fn warning(url: &str, target: &TargetArgs, header: &Header) -> Result<String, Failure> {
    let store = match connect_existing(url).await {
        Ok(store) => store,
        // What cannot be opened is missing, or fails again when it is created.
        Err(error) => match not_connected(url, error) {
            failure @ Failure::Usage(_) => return Err(failure),
            _ => return Ok(String::new()),
        },
    };
    let Ok(table) = SessionTable::open(store, header.options(target.timeout)).await else {
        return Ok(String::new());
    };
    Ok(match table.count(&Filter::All).await? {
        0 => String::new(),
        rows => format!(
            " The table there has {} already. If a program has used it since an earlier copy, say no: sessions that \
             have ended there begin again, and what was written there can be undone, or hides what was written here.",
            count(rows, "row")
        ),
    })
}

async fn create(url: &str, target: &TargetArgs, header: &Header) -> Result<SessionTable, Failure> {
    let store = connect(url).await?;
    Ok(SessionTable::create(store, &header.table, &header.bag, target.timeout).await?)
}

/// Rows on their way into a store.
struct Transfer<'a> {
    target: &'a SessionTable,
    bar: ProgressBar,
    is_json: bool,
    stored: u64,
    updated: u64,
    kept: u64,
    expired: u64,
    faults: Faults,
}

impl<'a> Transfer<'a> {
    fn new(target: &'a SessionTable, bar: ProgressBar, is_json: bool) -> Self {
        let faults = Faults::new(is_json);
        Self { target, bar, is_json, stored: 0, updated: 0, kept: 0, expired: 0, faults }
    }

    fn fault(&mut self, id: SessionId, reason: &str) {
        self.bar.suspend(|| self.faults.note(id, reason));
    }

    /// Stores rows, and checks that they are there.
    async fn store(&mut self, mut rows: Vec<Row>) -> Result<(), Failure> {
        let (all, taken, now) = (rows.len(), not_long_expired(), now());
        rows.retain(|row| taken.matches(row));
        self.expired += (all - rows.len()) as u64;
        // A program there may remove what has expired at once.
        let live = rows.iter().filter(|row| row.expiration > now);
        let expected: HashMap<SessionId, i64> = live.map(|row| (row.id, row.revision)).collect();
        let mut left = expected.clone();
        let target = self.target;
        let put = |row: Row| async move { (row.id, target.put(row).await) };
        let mut results = stream::iter(rows).map(put).buffer_unordered(WRITES);
        while let Some((id, result)) = results.next().await {
            self.bar.inc(1);
            match result {
                Ok(Put::Inserted) => self.stored += 1,
                Ok(Put::Updated) => self.updated += 1,
                Ok(_) => self.kept += 1,
                Err(error) if is_of_row(&error) => {
                    left.remove(&id);
                    self.fault(id, &format!("{error:?}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let ids: Vec<_> = left.keys().copied().collect();
        for row in self.target.load_many(&ids).await? {
            if expected.get(&row.id).is_some_and(|revision| row.revision >= *revision) {
                left.remove(&row.id);
            }
        }
        for id in left.into_keys() {
            self.fault(id, "it was stored and is not there any more");
        }
        Ok(())
    }

    async fn finish(self, read: u64) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        self.faults.sum_up();
        let live = self.target.count(&Filter::LiveAt(now())).await?;
        let Self { stored, updated, kept, expired, .. } = self;
        let json = json!({
            "read": read, "stored": stored, "updated": updated, "kept": kept, "expired": expired,
            "faults": self.faults.count(), "live_there": live,
        });
        let text = format!(
            "read {}: stored {stored}, updated {updated}, {kept} were there, {expired} had expired; {live} are live there",
            count(read, "session")
        );
        report(self.is_json, &json, &text)?;
        self.faults.result("rows that were not stored")
    }
}
