//! Who is signed in, and the end of sessions: `stats`, `list`, `show`, `revoke`, `prune`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::json;
use session_runtime::admin::{Fault, FieldSummary, RecordSummary, SessionTable};
use session_runtime::store::{ColumnRef, Filter, Page, Row};
use session_runtime::{ColumnType, SessionId, Timestamp};

use crate::args::{ListArgs, PruneArgs, RevokeArgs, ShowArgs, StatsArgs};
use crate::open::{
    Keys, PAGE, find, now, of_address, of_column, of_user, open, open_with_keys, place, scheme, written_bytes,
};
use crate::output::{
    Failure, confirm, count, exact, harmless, is_hash, object, print, print_json, print_pairs, print_table,
    progress, readable, report, say, utc, utc_exact,
};

/// How many digits of an id a table has.
const SHOWN_DIGITS: usize = 16;

pub(crate) async fn stats(args: StatsArgs) -> Result<(), Failure> {
    let need = if args.scan { Keys::Helpful } else { Keys::Unneeded };
    let table = open_with_keys(&args.store, &args.keys, need).await?;
    let live = Filter::LiveAt(now());
    let total = table.count(&Filter::All).await?;
    let alive = table.count(&live).await?;
    let signed_in = match table.table().user {
        Some(_) => Some(table.count(&live.and(Filter::IsNull(ColumnRef::User).not())).await?),
        None => None,
    };
    let scanned = if args.scan { Some(Scan::of(&table, total).await?) } else { None };
    let layout = table.table();
    let projected = layout.projected.iter().map(|column| &column.name);
    let columns: Vec<_> =
        layout.user.iter().map(|user| &user.name).chain(&layout.ip).chain(projected).collect();
    let expired = total.saturating_sub(alive);
    if args.output.json {
        let mut stats = json!({
            "store": scheme(&args.store.target.url), "place": place(&args.store.target.url), "bag": table.bag(), "table": layout.name, "columns": columns,
            "rows": total, "live": alive, "expired": expired, "signed_in": signed_in,
        });
        if let Some(scan) = scanned {
            stats["scan"] = json!({
                "bytes": scan.bytes, "largest": scan.largest, "oldest": scan.oldest.map(utc_exact),
                "newest": scan.newest.map(utc_exact), "keys": scan.keys, "current_key": table.current_key(),
            });
        }
        return print_json(&stats);
    }
    let columns: Vec<_> = columns.into_iter().map(|name| harmless(name)).collect();
    let mut pairs = vec![
        ("store", harmless(&place(&args.store.target.url))),
        ("bag", harmless(table.bag())),
        ("table", layout.name.clone()),
        ("columns", columns.join(", ")),
        ("live", alive.to_string()),
    ];
    pairs.extend(signed_in.map(|signed_in| ("signed in", signed_in.to_string())));
    pairs.push(("expired", expired.to_string()));
    if let Some(scan) = scanned {
        pairs.push(("bytes", scan.bytes.to_string()));
        pairs.push(("largest", scan.largest.to_string()));
        pairs.extend(scan.oldest.map(|time| ("oldest", utc(time))));
        pairs.extend(scan.newest.map(|time| ("newest", utc(time))));
        let current = table.current_key();
        for (key, sealed) in scan.keys {
            let note = if current.as_ref() == Some(&key) { ", the current one" } else { "" };
            pairs.push(("key", format!("{key}: {}{note}", count(sealed, "session"))));
        }
    }
    print_pairs(&pairs)
}

/// What only the rows themselves say.
#[derive(Default)]
struct Scan {
    bytes: usize,
    largest: usize,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    /// How many sessions are sealed with which key; `none` for those that are not sealed.
    keys: BTreeMap<String, u64>,
}

impl Scan {
    async fn of(table: &SessionTable, total: u64) -> Result<Self, Failure> {
        let mut scan = Self::default();
        let (bar, mut after) = (progress(total, "reading"), None);
        loop {
            let rows = table.rows(&Filter::LiveAt(now()), Page::new(after, PAGE)).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.id);
            bar.inc(rows.len() as u64);
            for row in &rows {
                scan.bytes += row.state.len();
                scan.largest = scan.largest.max(row.state.len());
                scan.oldest = Some(scan.oldest.map_or(row.created, |oldest| oldest.min(row.created)));
                scan.newest = scan.newest.max(Some(row.created));
                *scan.keys.entry(table.key_of(row).unwrap_or_else(|| "none".to_owned())).or_default() += 1;
            }
        }
        bar.finish_and_clear();
        Ok(scan)
    }
}

pub(crate) async fn list(args: ListArgs) -> Result<(), Failure> {
    let need = if args.user.is_some() || !args.column.is_empty() { Keys::Optional } else { Keys::Unneeded };
    let table = open_with_keys(&args.store, &args.keys, need).await?;
    let now = now();
    let mut filter = if args.expired { Filter::All } else { Filter::LiveAt(now) };
    if let Some(user) = &args.user {
        filter = of_user(&table, user)?.and(filter);
    }
    if let Some(address) = &args.ip {
        filter = of_address(table.table(), address)?.and(filter);
    }
    for condition in &args.column {
        filter = of_column(&table, condition)?.and(filter);
    }
    let age = |row: &Row| now.saturating_since(row.created);
    let is_asked = |row: &Row| {
        args.older_than.is_none_or(|least| age(row) >= least)
            && args.newer_than.is_none_or(|most| age(row) <= most)
    };
    if args.all && args.output.json {
        let mut after = None;
        loop {
            let rows = table.rows(&filter, Page::new(after, PAGE)).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.id);
            let lines = rows
                .iter()
                .filter(|row| is_asked(row))
                .map(|row| format!("{}\n", row_json(&table, row, now)));
            print(&lines.collect::<String>())?;
        }
    }
    let rows = if args.all || args.older_than.is_some() {
        let newest = (!args.all).then_some(args.limit as usize);
        read_all(&table, &filter, newest, is_asked).await?
    } else {
        table.rows(&filter, Page::newest(args.limit)).await?.into_iter().filter(is_asked).collect()
    };
    if args.output.json {
        return rows.iter().try_for_each(|row| print_json(&row_json(&table, row, now)));
    }
    print_rows(&table, &rows, now)?;
    let is_full = !args.all && rows.len() == args.limit as usize;
    if is_full {
        say(&format!("these are the newest {}: --limit or --all shows more", args.limit));
    }
    Ok(())
}

/// Reads all rows, and returns so many of the newest; without a number all of them, in the order of their ids.
async fn read_all(
    table: &SessionTable,
    filter: &Filter,
    newest: Option<usize>,
    is_asked: impl Fn(&Row) -> bool,
) -> Result<Vec<Row>, Failure> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let rows = table.rows(filter, Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = Some(last.id);
        found.extend(rows.into_iter().filter(&is_asked));
        if let Some(newest) = newest {
            found.sort_unstable_by_key(|row: &Row| Reverse((row.created, row.id)));
            found.truncate(newest);
        }
    }
}

fn print_rows(table: &SessionTable, rows: &[Row], now: Timestamp) -> Result<(), Failure> {
    let layout = table.table();
    let mut headings = vec!["ID".to_owned()];
    headings.extend(layout.user.iter().map(|_| "USER".to_owned()));
    headings.extend(layout.ip.iter().map(|_| "ADDRESS".to_owned()));
    headings.extend(["CREATED", "EXPIRES", "BYTES"].map(str::to_owned));
    headings.extend(layout.projected.iter().map(|column| harmless(&column.name)));
    headings.extend(rows.iter().any(|row| row.damaged.is_some()).then(|| "DAMAGED".to_owned()));
    let cells = |row: &Row| {
        let mut cells = vec![short(row.id)];
        cells.extend(layout.user.iter().map(|_| readable(row.user.as_ref())));
        cells.extend(layout.ip.iter().map(|_| row.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string())));
        let expires = if row.expiration <= now { "expired".to_owned() } else { utc(row.expiration) };
        cells.extend([utc(row.created), expires, row.state.len().to_string()]);
        cells.extend(row.columns.iter().map(|value| readable(value.as_ref())));
        if let Some(column) = &row.damaged {
            cells.push(harmless(column));
        }
        cells
    };
    print_table(&headings, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn short(id: SessionId) -> String {
    let mut id = id.to_string();
    id.truncate(SHOWN_DIGITS);
    id
}

fn row_json(table: &SessionTable, row: &Row, now: Timestamp) -> serde_json::Value {
    let layout = table.table();
    let columns = layout.projected.iter().zip(&row.columns);
    json!({
        "id": row.id.to_string(),
        "user": exact(row.user.as_ref()),
        "ip": row.ip.map(|ip| ip.to_string()),
        "created": utc_exact(row.created),
        "expires": utc_exact(row.expiration),
        "expired": row.expiration <= now,
        "revision": row.revision,
        "bytes": row.state.len(),
        "key": table.key_of(row),
        "columns": object(columns.map(|(column, value)| (column.name.as_str(), exact(value.as_ref())))),
        "damaged": row.damaged,
    })
}

pub(crate) async fn show(args: ShowArgs) -> Result<(), Failure> {
    let table = open_with_keys(&args.store, &args.keys, Keys::Optional).await?;
    let row = find(&table, &args.id).await?;
    let now = now();
    let record = match table.examine(&row) {
        Ok(record) => Ok(Some(record)),
        Err(Fault::NoKeys) => Ok(None),
        Err(fault) => Err(fault),
    };
    if args.output.json {
        let mut json = row_json(&table, &row, now);
        match &record {
            Ok(record) => json["record"] = record.as_ref().map(record_json).into(),
            Err(fault) => json["fault"] = fault.to_string().into(),
        }
        print_json(&json)?;
    } else {
        print_session(&table, &row, record.as_ref().ok().and_then(Option::as_ref), now)?;
    }
    record.map(drop).map_err(|fault| Failure::Rows(format!("the session does not open: {fault}")))
}

fn record_json(record: &RecordSummary) -> serde_json::Value {
    let field = |field: &FieldSummary| {
        json!({
            "name": field.name, "bytes": field.bytes, "column": field.has_column,
            "expires": field.expires.map(utc_exact),
        })
    };
    json!({
        "bytes": record.bytes,
        "last_used": utc_exact(record.last_used),
        "absolute_expiry": utc_exact(record.absolute),
        "logged_in": record.authenticated.map(utc_exact),
        "remembered": record.is_remembered,
        "own_limit_seconds": record.limit.map(|limit| limit.as_secs()),
        "bound_to_user_agent": record.is_bound_to_agent,
        "not_compared": record.not_compared,
        "fields": record.fields.iter().map(field).collect::<Vec<_>>(),
    })
}

fn print_session(
    table: &SessionTable,
    row: &Row,
    record: Option<&RecordSummary>,
    now: Timestamp,
) -> Result<(), Failure> {
    let layout = table.table();
    let yes = |is_so: bool| (if is_so { "yes" } else { "no" }).to_owned();
    let mut pairs = vec![("id", row.id.to_string())];
    pairs.extend(layout.user.iter().map(|_| ("user", readable(row.user.as_ref()))));
    pairs.extend(
        layout.ip.iter().map(|_| ("address", row.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()))),
    );
    for (column, value) in layout.projected.iter().zip(&row.columns) {
        pairs.push((&column.name, readable(value.as_ref())));
    }
    pairs.push(("created", utc(row.created)));
    let note = if row.expiration <= now { " (expired)" } else { "" };
    pairs.push(("expires", format!("{}{note}", utc(row.expiration))));
    pairs.push(("revision", row.revision.to_string()));
    pairs.push(("sealed", format!("{} bytes", row.state.len())));
    pairs.push(("key", table.key_of(row).unwrap_or_else(|| "none".to_owned())));
    if let Some(record) = record {
        pairs.push(("last used", utc(record.last_used)));
        pairs.push(("ends at latest", utc(record.absolute)));
        pairs.extend(record.authenticated.map(|time| ("logged in", utc(time))));
        pairs.push(("remembered", yes(record.is_remembered)));
        pairs.extend(record.limit.map(|limit| ("own limit", format!("{} s", limit.as_secs()))));
        pairs.push(("bound to a user agent", yes(record.is_bound_to_agent)));
        if !record.not_compared.is_empty() {
            let columns: Vec<_> = record.not_compared.iter().map(|column| harmless(column)).collect();
            pairs.push(("not compared", format!("{}: only the program knows the type", columns.join(", "))));
        }
        pairs.push((
            "record",
            format!("{} bytes, {}", record.bytes, count(record.fields.len() as u64, "field")),
        ));
    }
    print_pairs(&pairs)?;
    let Some(record) = record else { return Ok(()) };
    let cells = |(number, field): (usize, &FieldSummary)| {
        let name = field.name.as_deref().map_or_else(|| format!("field {}", number + 1), harmless);
        let column = if field.has_column { "yes" } else { "no" };
        let expires = field.expires.map_or_else(|| "-".to_owned(), utc);
        vec![name, field.bytes.to_string(), column.to_owned(), expires]
    };
    let rows: Vec<_> = record.fields.iter().enumerate().map(cells).collect();
    print("\n")?;
    print_table(&["FIELD", "BYTES", "COLUMN", "EXPIRES"].map(str::to_owned), &rows)
}

pub(crate) async fn revoke(args: RevokeArgs) -> Result<(), Failure> {
    let need = if args.user.is_some() { Keys::Optional } else { Keys::Unneeded };
    let table = open_with_keys(&args.store, &args.keys, need).await?;
    if args.ids.is_empty() { revoke_many(&table, &args).await } else { revoke_ids(&table, &args).await }
}

async fn revoke_many(table: &SessionTable, args: &RevokeArgs) -> Result<(), Failure> {
    let (filter, whose) = match &args.user {
        Some(user) => (of_user(table, user)?, format!("of the user {user}")),
        None => (Filter::All, format!("of everyone, in `{}`", table.bag())),
    };
    let is_bytes = table.table().user.as_ref().is_some_and(|user| user.ty == ColumnType::Blob);
    let unknown = match &args.user {
        // What the column itself holds has nothing to do with keys.
        Some(user) if user.starts_with("hash:") || is_bytes && written_bytes(user).is_some() => 0,
        Some(_) => count_other_hashes(table).await?,
        None => 0,
    };
    let other = format!(
        "{} of a blind column with keys that are not given: other sessions of this user may be among them; give \
         all keys of the program",
        count(unknown, "live session")
    );
    if unknown > 0 {
        say(&other);
    }
    let live = table.count(&filter.clone().and(Filter::LiveAt(now()))).await?;
    confirm(&format!("End {} {whose}?", count(live, "session")), args.confirm.yes)?;
    report_ended(args, &table.remove(&filter).await?)?;
    if unknown > 0 { Err(Failure::Rows(other)) } else { Ok(()) }
}

/// Counts the live sessions whose user is a hash that none of the keys has made.
async fn count_other_hashes(table: &SessionTable) -> Result<u64, Failure> {
    let filter = Filter::LiveAt(now()).and(Filter::IsNull(ColumnRef::User).not());
    let (mut unknown, mut after) = (0, None);
    loop {
        let rows = table.rows(&filter, Page::new(after, PAGE)).await?;
        let Some(last) = rows.last() else { return Ok(unknown) };
        after = Some(last.id);
        let is_unknown = |row: &&Row| {
            is_hash(row.user.as_ref()) && matches!(table.examine(row), Err(Fault::UnknownKey { .. }))
        };
        unknown += rows.iter().filter(is_unknown).count() as u64;
    }
}

async fn revoke_ids(table: &SessionTable, args: &RevokeArgs) -> Result<(), Failure> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in &args.ids {
        match find(table, id).await {
            Ok(row) => found.push(row),
            Err(Failure::NotFound(_)) => missing.push(id.clone()),
            Err(failure) => return Err(failure),
        }
    }
    found.sort_unstable_by_key(|row| row.id);
    found.dedup_by_key(|row| row.id);
    if !found.is_empty() {
        let question = format!("End {}: {}?", count(found.len() as u64, "session"), whose(&found));
        confirm(&question, args.confirm.yes)?;
    }
    let (mut ended, mut failed) = (Vec::new(), None);
    for id in found.into_iter().map(|row| row.id) {
        match table.delete(id).await {
            Ok(true) => ended.push(id),
            Ok(false) => missing.push(id.to_string()),
            // The store itself fails, so it is not asked for each of the others.
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    report_ended(args, &ended)?;
    match (failed, missing.is_empty()) {
        (Some(error), _) => Err(error.into()),
        (None, true) => Ok(()),
        (None, false) => Err(Failure::NotFound(format!(
            "there is no session {}: it has ended, or a log-in has given it another id",
            missing.join(", ")
        ))),
    }
}

/// Says of whom sessions are, for a question.
fn whose(rows: &[Row]) -> String {
    const NAMED: usize = 10;
    let one = |row: &Row| {
        let user = row.user.as_ref().map_or_else(
            || "without a user".to_owned(),
            |user| format!("of the user {}", readable(Some(user))),
        );
        let address = row.ip.map(|ip| format!(" from {ip}")).unwrap_or_default();
        format!("{} {user}{address}", short(row.id))
    };
    let mut named: Vec<_> = rows.iter().take(NAMED).map(one).collect();
    named.extend((rows.len() > NAMED).then(|| format!("and {} more", rows.len() - NAMED)));
    named.join(", ")
}

fn report_ended(args: &RevokeArgs, ended: &[SessionId]) -> Result<(), Failure> {
    let json = json!({ "ended": ended.iter().map(SessionId::to_string).collect::<Vec<_>>() });
    report(args.output.json, &json, &format!("ended {}", count(ended.len() as u64, "session")))
}

pub(crate) async fn prune(args: PruneArgs) -> Result<(), Failure> {
    let table = open(&args.store).await?;
    let now = now();
    let expired = table.count(&Filter::LiveAt(now).not()).await?;
    let question = format!(
        "Remove {}? The clock of this machine says {}: if it is ahead, live sessions end.",
        count(expired, "expired session"),
        utc(now)
    );
    confirm(&question, args.confirm.yes)?;
    let removed = table.prune().await?;
    let text = format!("removed {}", count(removed, "expired session"));
    report(args.output.json, &json!({ "removed": removed }), &text)
}
