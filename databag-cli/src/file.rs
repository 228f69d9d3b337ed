//! The file of an export: rows enter, lines leave, and the other way round.
//!
//! ```text
//! {"databag_export":1,"bag":"shop/Shop","exported":"..","table":{..}}      first
//! {"id":"3f09..","state":"AQ..","created":1,"expiration":2,"revision":1,"user":7,"ip":null,"columns":["acme"]}
//! {"end":{"rows":1}}                                                       last: without it the file is cut off
//! ```
//!
//! Each line is a JSON object. `table` names the columns as the table of the store does: `id`, `state`, `created`,
//! `expiration`, `revision`; `user` and `columns` with `name` and `type`; `ip`; and `state_is_text` and `max_state`. Times are
//! milliseconds since 1970. A state, and a value of bytes, is base64. A number that JSON cannot hold is text: `"inf"`.

use std::io::{BufRead, Read as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use session_runtime::admin::TableOptions;
use session_runtime::store::{Row, Table, TableColumn};
use session_runtime::{ColumnType, Timestamp, Value};

use crate::output::{Failure, utc_exact};

const VERSION: u64 = 1;

/// No line is longer: a row has at most a state and its columns.
const LONGEST_LINE: u64 = 1 << 30;

/// The first line.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) bag: String,
    pub(crate) table: Table,
    pub(crate) exported: String,
}

impl Header {
    pub(crate) fn new(bag: &str, table: &Table, now: Timestamp) -> Self {
        Self { bag: bag.to_owned(), table: table.clone(), exported: utc_exact(now) }
    }

    pub(crate) fn to_line(&self) -> String {
        let Self { bag, table, exported } = self;
        let column = |column: &TableColumn| json!({ "name": column.name, "type": type_name(column.ty) });
        let table = json!({
            "name": table.name, "id": table.id, "state": table.state, "state_is_text": table.state_is_text,
            "max_state": table.max_state, "created": table.created, "expiration": table.expiration,
            "revision": table.revision, "user": table.user.as_ref().map(column), "ip": table.ip,
            "columns": table.projected.iter().map(column).collect::<Vec<_>>(),
        });
        format!(
            "{}\n",
            json!({ "databag_export": VERSION, "bag": bag, "exported": exported, "table": table })
        )
    }

    /// Returns how the same table is opened where it may be.
    pub(crate) fn options(&self, timeout: Duration) -> TableOptions {
        let Self { bag, table, .. } = self;
        let mut options = TableOptions::new(table.name.clone());
        options.bag = Some(bag.clone());
        options.id.clone_from(&table.id);
        options.state.clone_from(&table.state);
        options.created.clone_from(&table.created);
        options.expiration.clone_from(&table.expiration);
        options.revision.clone_from(&table.revision);
        options.timeout = timeout;
        options
    }

    fn parse(line: &Json) -> Option<Self> {
        let table = &line["table"];
        let column = |column: &Json| {
            Some(TableColumn::new(text(&column["name"])?, type_of(column["type"].as_str()?)?))
        };
        let mut parsed = Table::new(text(&table["name"])?);
        parsed.id = text(&table["id"])?;
        parsed.state = text(&table["state"])?;
        parsed.state_is_text = table["state_is_text"].as_bool()?;
        parsed.max_state = usize::try_from(table["max_state"].as_u64()?).ok()?;
        parsed.created = text(&table["created"])?;
        parsed.expiration = text(&table["expiration"])?;
        parsed.revision = text(&table["revision"])?;
        parsed.user = match &table["user"] {
            Json::Null => None,
            user => Some(column(user)?.indexed()),
        };
        parsed.ip = if table["ip"].is_null() { None } else { Some(text(&table["ip"])?) };
        parsed.projected = table["columns"].as_array()?.iter().map(column).collect::<Option<_>>()?;
        Some(Self { bag: text(&line["bag"])?, table: parsed, exported: text(&line["exported"])? })
    }
}

/// A line after the first.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Row(Row),
    End { rows: u64 },
}

pub(crate) fn row_to_line(row: &Row) -> String {
    let line = json!({
        "id": row.id.to_string(),
        "state": STANDARD.encode(&row.state),
        "created": row.created.as_millis(),
        "expiration": row.expiration.as_millis(),
        "revision": row.revision,
        "user": value_to_json(row.user.as_ref()),
        "ip": row.ip.map(|ip| ip.to_string()),
        "columns": row.columns.iter().map(|value| value_to_json(value.as_ref())).collect::<Vec<_>>(),
    });
    format!("{line}\n")
}

pub(crate) fn end_to_line(rows: u64) -> String {
    format!("{}\n", json!({ "end": { "rows": rows } }))
}

/// Reads the lines of a file.
pub(crate) struct Reader<R> {
    input: R,
    line: u64,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, line: 0 }
    }

    pub(crate) fn header(&mut self) -> Result<Header, Failure> {
        let line = self.next()?.ok_or_else(|| Failure::Failed("the file is empty".to_owned()))?;
        match line["databag_export"].as_u64() {
            Some(VERSION) => {
                Header::parse(&line).ok_or_else(|| self.malformed("it does not describe a table"))
            }
            Some(other) => Err(Failure::Failed(format!(
                "the file has the version {other}, and this program reads the version {VERSION}"
            ))),
            None => Err(Failure::Failed("the file is no export of `databag`".to_owned())),
        }
    }

    /// Returns the next line; `None` where the file is cut off.
    pub(crate) fn line(&mut self, table: &Table) -> Result<Option<Line>, Failure> {
        let Some(line) = self.next()? else { return Ok(None) };
        if let Some(rows) = line["end"]["rows"].as_u64() {
            return Ok(Some(Line::End { rows }));
        }
        let row = parse_row(&line, table).ok_or_else(|| self.malformed("it is no row of the table"))?;
        Ok(Some(Line::Row(row)))
    }

    fn next(&mut self) -> Result<Option<Json>, Failure> {
        self.line += 1;
        let mut text = Vec::new();
        let read = (&mut self.input).take(LONGEST_LINE).read_until(b'\n', &mut text);
        read.map_err(|error| Failure::io("the file", &error))?;
        match serde_json::from_slice(&text) {
            _ if text.is_empty() => Ok(None),
            Ok(json) => Ok(Some(json)),
            // The end of a file that is cut off.
            Err(_) if !text.ends_with(b"\n") => Ok(None),
            Err(_) => Err(self.malformed("it is no JSON")),
        }
    }

    fn malformed(&self, reason: &str) -> Failure {
        Failure::Failed(format!("line {} of the file cannot be read: {reason}", self.line))
    }
}

fn parse_row(line: &Json, table: &Table) -> Option<Row> {
    let time = |name: &str| line[name].as_i64().map(Timestamp::from_millis);
    let state = STANDARD.decode(line["state"].as_str()?).ok()?;
    let id = line["id"].as_str()?.parse().ok()?;
    let mut row = Row::new(id, state, time("created")?, time("expiration")?, line["revision"].as_i64()?);
    row.user = match &table.user {
        None => None,
        Some(user) => value_of(&line["user"], user.ty)?,
    };
    row.ip = match &line["ip"] {
        Json::Null => None,
        ip => Some(ip.as_str()?.parse().ok()?),
    };
    let columns = line["columns"].as_array().filter(|columns| columns.len() == table.projected.len())?;
    let columns = table.projected.iter().zip(columns).map(|(column, value)| value_of(value, column.ty));
    row.columns = columns.collect::<Option<_>>()?;
    Some(row)
}

fn value_to_json(value: Option<&Value>) -> Json {
    match value {
        None => Json::Null,
        Some(Value::Integer(integer)) => json!(integer),
        Some(Value::Real(real)) if real.is_finite() => json!(real),
        Some(Value::Real(real)) => json!(real.to_string()),
        Some(Value::Text(text)) => json!(text),
        Some(Value::Blob(bytes)) => json!(STANDARD.encode(bytes)),
    }
}

#[expect(clippy::option_option, reason = "it cannot be read, is `NULL`, or has a value")]
fn value_of(json: &Json, ty: ColumnType) -> Option<Option<Value>> {
    if json.is_null() {
        return Some(None);
    }
    Some(Some(match ty {
        ColumnType::Integer => Value::Integer(json.as_i64()?),
        ColumnType::Real => Value::Real(match json.as_str() {
            Some(text) => text.parse().ok()?,
            None => json.as_f64()?,
        }),
        ColumnType::Text => Value::Text(text(json)?),
        ColumnType::Blob => Value::Blob(STANDARD.decode(json.as_str()?).ok()?),
    }))
}

fn text(json: &Json) -> Option<String> {
    json.as_str().map(str::to_owned)
}

const TYPES: [(ColumnType, &str); 4] = [
    (ColumnType::Integer, "integer"),
    (ColumnType::Real, "real"),
    (ColumnType::Text, "text"),
    (ColumnType::Blob, "bytes"),
];

fn type_name(ty: ColumnType) -> &'static str {
    TYPES.into_iter().find(|(other, _)| *other == ty).map_or("", |(_, name)| name)
}

fn type_of(name: &str) -> Option<ColumnType> {
    TYPES.into_iter().find(|(_, other)| *other == name).map(|(ty, _)| ty)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use session_runtime::SessionId;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new("shop_sessions");
        table.id = "sid".to_owned();
        table.max_state = 4096;
        table.user = Some(TableColumn::new("user_id", ColumnType::Integer).indexed());
        table.ip = Some("ip_addr".to_owned());
        table.projected = TYPES.map(|(ty, name)| TableColumn::new(name, ty)).to_vec();
        table
    }

    fn row() -> Row {
        let [created, expiration] = [1, i64::MAX].map(Timestamp::from_millis);
        let mut row =
            Row::new(SessionId::from_bytes([7; 32]), vec![1, 0, 255], created, expiration, i64::MIN);
        row.user = Some(Value::Integer(i64::MIN));
        row.ip = Some(IpAddr::from([203, 0, 113, 7]));
        row.columns = vec![
            Some(Value::Integer(i64::MAX)),
            Some(Value::Real(0.1)),
            Some(Value::Text("a\0\"\n".to_owned())),
            Some(Value::Blob(vec![0, 255])),
        ];
        row
    }

    fn read(text: &str) -> Reader<&[u8]> {
        Reader::new(text.as_bytes())
    }

    #[test]
    fn a_file_gives_back_what_it_was_made_of() {
        let header = Header::new("shop/Shop", &table(), Timestamp::from_millis(0));
        let mut empty = row();
        (empty.user, empty.ip, empty.columns) = (None, None, vec![None; 4]);
        let mut endless = row();
        endless.columns[1] = Some(Value::Real(f64::NEG_INFINITY));
        let rows = [row(), empty, endless];
        let lines: String = rows.iter().map(row_to_line).collect();
        let text = header.to_line() + &lines + &end_to_line(3);
        let mut reader = read(&text);
        assert_eq!(reader.header().expect("it has one"), header);
        for row in rows {
            assert_eq!(reader.line(&table()).expect("it is read"), Some(Line::Row(row)));
        }
        assert_eq!(reader.line(&table()).expect("it is read"), Some(Line::End { rows: 3 }));
    }

    #[test]
    fn the_lines_are_pinned() {
        let header = Header::new("shop/Shop", &Table::new("sessions"), Timestamp::from_millis(0)).to_line();
        assert!(header.starts_with(
            "{\"bag\":\"shop/Shop\",\"databag_export\":1,\"exported\":\"1970-01-01T00:00:00.000Z\","
        ));
        let row = row_to_line(&row());
        assert!(
            row.contains("\"state\":\"AQD/\"") && row.contains("\"revision\":-9223372036854775808"),
            "{row}"
        );
        assert_eq!(end_to_line(1), "{\"end\":{\"rows\":1}}\n");
    }

    #[test]
    fn a_file_that_is_cut_off_has_no_end() {
        let text = row_to_line(&row());
        // The last byte ends the line, and the row is whole without it.
        for length in 0..text.len() - 1 {
            assert_eq!(read(&text[..length]).line(&table()).expect("no row of it is read"), None, "{length}");
        }
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let header = Header::new("shop/Shop", &table(), Timestamp::from_millis(0)).to_line();
        let newer = header.replace("\"databag_export\":1", "\"databag_export\":2");
        for text in ["", "{}\n", "no JSON\n", &newer, &header.replace("integer", "int")] {
            assert!(read(text).header().is_err(), "{text}");
        }
        let line = row_to_line(&row());
        for text in [
            line.replace("AQD/", "?"),
            line.replace("203.0.113.7", "203.0.113.700"),
            line.replace("\"columns\":[", "\"columns\":[1,"),
            line.replace("0.1,", "true,"),
        ] {
            assert!(read(&text).line(&table()).is_err(), "{text}");
        }
    }
}
