//! What is printed: tables and times for people, JSON for programs, questions; and how the program ends.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, json};
use session_runtime::{Error, StoreError, Timestamp, Value};

/// Why the program ends otherwise than planned.
#[derive(Debug)]
pub(crate) enum Failure {
    Failed(String),
    Usage(String),
    /// Rows that do not open, or could not be written.
    Rows(String),
    NotFound(String),
    NotConfirmed(String),
    /// The reader of the output has gone.
    BrokenPipe,
}

impl Failure {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Failed(text)
            | Self::Usage(text)
            | Self::Rows(text)
            | Self::NotFound(text)
            | Self::NotConfirmed(text) => text,
            Self::BrokenPipe => "the reader of the output has gone",
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) | Self::BrokenPipe => 1,
            Self::Usage(_) => 2,
            Self::Rows(_) => 3,
            Self::NotFound(_) => 4,
            Self::NotConfirmed(_) => 5,
        })
    }

    /// Names what could not be read or written.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::Failed(format!("{what}: {error}"))
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Usage(text) => Self::Usage(text),
            // `Debug` is one line with all causes.
            error => Self::Failed(format!("{error:?}")),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(format!("{error:?}"))
    }
}

/// Prints text to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::io("stdout", &error))
}

/// Lets a command go on without the reader of its output: for what is only looked at, or is done and only told.
pub(crate) fn without_reader(printed: Result<(), Failure>) -> Result<(), Failure> {
    match printed {
        Err(Failure::BrokenPipe) => Ok(()),
        printed => printed,
    }
}

/// Prints what a command has done.
pub(crate) fn report(is_json: bool, json: &serde_json::Value, text: &str) -> Result<(), Failure> {
    without_reader(if is_json { print_json(json) } else { print(&format!("{text}\n")) })
}

/// Says something on stderr, which may have no reader either. Names of a file or of a store may be part of it.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "databag: {}", harmless(text));
}

/// Prints a line of JSON.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

/// Prints rows below their headings, in columns.
pub(crate) fn print_table(headings: &[String], rows: &[Vec<String>]) -> Result<(), Failure> {
    let length = |text: &String| text.chars().count();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(n, heading)| {
            rows.iter().filter_map(|row| row.get(n)).chain([heading]).map(length).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let (bold, plain) = if has_colours() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{bold}{}{plain}\n", line(headings));
    for row in rows {
        text += &line(row);
        text.push('\n');
    }
    print(&text)
}

/// Prints names and values, one pair a line.
pub(crate) fn print_pairs(pairs: &[(&str, String)]) -> Result<(), Failure> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (harmless(name), value)).collect();
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in pairs {
        text += format!("{name:width$}  {value}").trim_end();
        text.push('\n');
    }
    print(&text)
}

fn has_colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Asks a question on the terminal, without characters that rewrite it. Without a terminal nothing is done without `--yes`.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::NotConfirmed(format!("{question} Nothing was changed: --yes confirms it.")));
    }
    let asked = write!(io::stderr(), "{} [y/N] ", harmless(question));
    asked.map_err(|error| Failure::io("stderr", &error))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| Failure::io("stdin", &error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::NotConfirmed("nothing was changed".to_owned())),
    }
}

/// Shows on a terminal how far a command is, on stderr.
pub(crate) fn progress(total: u64, doing: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.with_message(doing)
}

/// Writes a time as people read it: `2026-11-26T16:39:46Z`.
pub(crate) fn utc(time: Timestamp) -> String {
    let (date, second) = split(time);
    format!("{date}T{}Z", clock(second / 1000))
}

/// Writes a time for programs, with its milliseconds.
pub(crate) fn utc_exact(time: Timestamp) -> String {
    let (date, millis) = split(time);
    format!("{date}T{}.{:03}Z", clock(millis / 1000), millis % 1000)
}

/// Returns the date, and the milliseconds of the day.
fn split(time: Timestamp) -> (String, i64) {
    const DAY: i64 = 86_400_000;
    let (days, millis) = (time.as_millis().div_euclid(DAY), time.as_millis().rem_euclid(DAY));
    // The calendar repeats itself every 400 years of 146,097 days; a year begins in March here, so that a leap day is its
    // last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, is_next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + is_next_year;
    (format!("{year:04}-{month:02}-{day:02}"), millis)
}

fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Returns whether a value has the form of a hash of a blind column: 16 bytes, or their digits if the field has bytes.
pub(crate) fn is_hash(value: Option<&Value>) -> bool {
    const HASH: usize = 16;
    match value {
        Some(Value::Blob(bytes)) => bytes.len() == HASH,
        Some(Value::Text(text)) => {
            text.len() == 2 * HASH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }
        _ => false,
    }
}

/// Writes the value of a column for people. A visitor may have chosen it: no character controls the terminal.
pub(crate) fn readable(value: Option<&Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::Integer(integer)) => integer.to_string(),
        Some(Value::Real(real)) => real.to_string(),
        Some(Value::Text(digits)) if is_hash(value) => format!("hash:{digits}"),
        Some(Value::Text(text)) => harmless(text),
        Some(Value::Blob(bytes)) if is_hash(value) => format!("hash:{}", hex(bytes)),
        Some(Value::Blob(bytes)) => format!("0x{}", hex(bytes)),
    }
}

/// Returns text without characters that control a terminal.
pub(crate) fn harmless(text: &str) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::new(), |mut text, c| {
        if is_harmful(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
        text
    })
}

/// Returns the value of a column for programs: bytes as an object with their hexadecimal digits.
pub(crate) fn exact(value: Option<&Value>) -> serde_json::Value {
    match value {
        None => serde_json::Value::Null,
        Some(Value::Integer(integer)) => json!(integer),
        Some(Value::Real(real)) if real.is_finite() => json!(real),
        Some(Value::Real(real)) => json!(real.to_string()),
        Some(Value::Text(text)) => json!(text),
        Some(Value::Blob(bytes)) => json!({ "hex": hex(bytes) }),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Makes an object of pairs.
pub(crate) fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, serde_json::Value)>) -> serde_json::Value {
    serde_json::Value::Object(
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
    )
}

/// Writes a number of things.
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(utc_exact(Timestamp::from_millis(millis)), text);
        }
        assert_eq!(utc(Timestamp::from_millis(1_999)), "1970-01-01T00:00:01Z");
        for millis in [i64::MIN, i64::MAX] {
            assert!(utc(Timestamp::from_millis(millis)).ends_with('Z'));
        }
    }

    #[test]
    fn no_value_controls_the_terminal() {
        let value = Value::Text("\u{1b}]0;owned\u{7}\r\u{202e}a\u{9b}31m".to_owned());
        let shown = readable(Some(&value));
        assert_eq!(shown, "\\u{1b}]0;owned\\u{7}\\r\\u{202e}a\\u{9b}31m");
    }
}
