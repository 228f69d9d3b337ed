//! Sessions on their way to another store: `export`, `import`, `copy`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use futures_util::stream::{self, StreamExt as _};
use indicatif::ProgressBar;
use serde_json::json;
use session_runtime::admin::{Put, SessionTable};
use session_runtime::store::{Filter, Page, Row};
use session_runtime::{AnyStore, SessionId};

use crate::args::{CopyArgs, ExportArgs, ImportArgs, TargetArgs};
use crate::file::{Header, Line, Reader, end_to_line, row_to_line};
use crate::keys::{Faults, WRITES, create_private, is_of_row};
use crate::open::{PAGE, now, open, scheme};
use crate::output::{Failure, confirm, count, print, print_json, progress};

/// In the place of a file.
const STANDARD_STREAM: &str = "-";

pub(crate) async fn export(args: ExportArgs) -> Result<(), Failure> {
    let table = open(&args.store).await?;
    let is_stdout = args.output == Path::new(STANDARD_STREAM);
    let output: Box<dyn Write> =
        if is_stdout { Box::new(io::stdout().lock()) } else { Box::new(create_private(&args.output)?) };
    let mut output = BufWriter::new(output);
    let mut write = |line: String| {
        output
            .write_all(line.as_bytes())
            .map_err(|error| Failure::io(&args.output.display().to_string(), &error))
    };
    write(Header::new(table.bag(), table.table(), now()).to_line())?;
    let total = table.count(&Filter::LiveAt(now())).await?;
    let (bar, mut after) = (progress(total, "writing"), None);
    let (mut written, mut damaged) = (0_u64, Vec::new());
    loop {
        let rows = table.rows(&Filter::LiveAt(now()), Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        bar.inc(rows.len() as u64);
        for row in rows {
            if let Some(reason) = reason_to_leave(&table, &row) {
                damaged.push((row.id, reason));
            } else {
                write(row_to_line(&row))?;
                written += 1;
            }
        }
    }
    write(end_to_line(written))?;
    bar.finish_and_clear();
    let flushed = output.flush().and_then(|()| if is_stdout { Ok(()) } else { sync(&args.output) });
    flushed.map_err(|error| Failure::io(&args.output.display().to_string(), &error))?;
    drop(output);
    if !is_stdout {
        let mut faults = Faults::new(args.report.json);
        for (id, reason) in &damaged {
            faults.note(*id, reason)?;
        }
        if args.report.json {
            print_json(&json!({ "written": written, "left_out": damaged.len() }))?;
        } else {
            print(&format!("wrote {} to {}\n", count(written, "session"), args.output.display()))?;
        }
    }
    match damaged.len() {
        0 => Ok(()),
        left => Err(Failure::Rows(format!("rows that cannot be read and were left out: {left}"))),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
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
    let store = scheme(&args.target.url);
    let question = format!(
        "Store the sessions of `{}` in the table `{}` of {store}? Those that have ended since {} begin again.",
        header.bag, header.table.name, header.exported
    );
    confirm(&question, args.confirm.yes)?;
    let target = create(&args.target.url, &args.target, &header).await?;
    let mut transfer = Transfer::new(&target, progress(0, "storing"), args.report.json);
    let (mut rows, mut read, mut is_complete) = (Vec::new(), 0_u64, false);
    while let Some(line) = reader.line(&header.table)? {
        match line {
            Line::Row(row) => {
                read += 1;
                rows.push(row);
            }
            Line::End { rows } if rows == read => is_complete = true,
            Line::End { rows } => {
                return Err(Failure::Failed(format!(
                    "{name} says that it has {rows} rows, and it has {read}"
                )));
            }
        }
        if rows.len() >= PAGE as usize {
            transfer.store(std::mem::take(&mut rows)).await?;
        }
    }
    transfer.store(rows).await?;
    transfer.finish(read).await?;
    if is_complete { Ok(()) } else { Err(Failure::Failed(format!("{name} is cut off: it has no end"))) }
}

pub(crate) async fn copy(args: CopyArgs) -> Result<(), Failure> {
    if args.to == args.store.target.url {
        return Err(Failure::Usage("the store to copy to is the same".to_owned()));
    }
    let source = open(&args.store).await?;
    let total = source.count(&Filter::LiveAt(now())).await?;
    let (from, to) = (scheme(&args.store.target.url), scheme(&args.to));
    let question = format!(
        "Copy {} of `{}` from {from} to {to}? Those that end in {from} meanwhile live on in {to}.",
        count(total, "session"),
        source.bag()
    );
    confirm(&question, args.confirm.yes)?;
    let header = Header::new(source.bag(), source.table(), now());
    let target = create(&args.to, &args.store.target, &header).await?;
    let mut transfer = Transfer::new(&target, progress(total, "copying"), args.output.json);
    let (mut read, mut after) = (0, None);
    loop {
        let rows = source.rows(&Filter::LiveAt(now()), Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        read += rows.len() as u64;
        let mut whole = Vec::with_capacity(rows.len());
        for row in rows {
            match reason_to_leave(&source, &row) {
                Some(reason) => transfer.fault(row.id, &reason)?,
                None => whole.push(row),
            }
        }
        transfer.store(whole).await?;
    }
    transfer.finish(read).await
}

async fn create(url: &str, target: &TargetArgs, header: &Header) -> Result<SessionTable, Failure> {
    let store = AnyStore::connect(url).await?;
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

    fn fault(&mut self, id: SessionId, reason: &str) -> Result<(), Failure> {
        self.bar.suspend(|| self.faults.note(id, reason))
    }

    /// Stores rows, and checks that they are there.
    async fn store(&mut self, mut rows: Vec<Row>) -> Result<(), Failure> {
        let (all, now) = (rows.len(), now());
        rows.retain(|row| row.expiration > now);
        self.expired += (all - rows.len()) as u64;
        let expected: HashMap<SessionId, i64> = rows.iter().map(|row| (row.id, row.revision)).collect();
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
                    self.fault(id, &format!("{error:?}"))?;
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
            self.fault(id, "it was stored and is not there any more")?;
        }
        Ok(())
    }

    async fn finish(self, read: u64) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let live = self.target.count(&Filter::LiveAt(now())).await?;
        let Self { stored, updated, kept, expired, .. } = self;
        if self.is_json {
            print_json(&json!({
                "read": read, "stored": stored, "updated": updated, "kept": kept, "expired": expired,
                "faults": self.faults.count(), "live_there": live,
            }))?;
        } else {
            print(&format!(
                "read {}: stored {stored}, updated {updated}, {kept} were there, {expired} had expired; \
                 {live} are live there\n",
                count(read, "session")
            ))?;
        }
        self.faults.result("rows that were not stored")
    }
}
