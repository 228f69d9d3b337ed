//! Stores and keys: options enter, a table of sessions leaves.

use session_runtime::admin::{SessionTable, connect_existing};
use session_runtime::store::{ColumnRef, Comparison, Filter, Page, Row, Table, TableColumn};
use session_runtime::{AnyStore, ColumnType, KeyError, Keyring, SessionId, StoreError, Timestamp, Value};

use crate::args::{KeyArgs, StoreArgs};
use crate::output::{Failure, say};

/// The variable that is read without `--key-env`.
const KEY_VARIABLE: &str = "SESSION_KEY";

/// How many rows are read at a time.
pub(crate) const PAGE: u32 = 256;

/// Whether a command opens records.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keys {
    /// Only those of an option are read, and not the variable.
    Unneeded,
    /// It says more with keys. If those of the variable are refused, it goes on without them.
    Helpful,
    Optional,
    Required,
}

/// Opens the table of a store.
pub(crate) async fn open(store: &StoreArgs) -> Result<SessionTable, Failure> {
    let options = store.options().map_err(Failure::Usage)?;
    let url = &store.target.url;
    let connected = connect_existing(url).await.map_err(|error| not_connected(url, error))?;
    SessionTable::open(connected, options).await.map_err(|error| match error {
        session_runtime::Error::Usage(text) if text.starts_with("there is no table") => {
            Failure::Usage(format!(
                "{text} (--table, or the variable SESSION_TABLE); {} lists them",
                if scheme(url).contains("sql") || scheme(url).contains("postgres") || scheme(url) == "mariadb"
                {
                    "`SELECT name FROM databag_owners` in the database"
                } else {
                    "`redis-cli --scan --pattern 'databag:{*:owner}'`"
                }
            ))
        }
        session_runtime::Error::Usage(text) => Failure::Usage(format!("{text} (--table, --bag, --columns)")),
        error => error.into(),
    })
}

/// Connects to a store that may not exist yet.
pub(crate) async fn connect(url: &str) -> Result<AnyStore, Failure> {
    AnyStore::connect(url).await.map_err(|error| not_connected(url, error))
}

/// Tells a wrong argument from a store that does not answer.
pub(crate) fn not_connected(url: &str, error: StoreError) -> Failure {
    const DATABASES: [&str; 3] = ["db", "sqlite", "sqlite3"];
    let failure = Failure::from(error);
    let Failure::Failed(text) = failure else { return failure };
    if !text.contains("could not be chosen by its URL") {
        return Failure::Failed(text);
    }
    let path = std::path::Path::new(url);
    let is_database = path.extension().is_some_and(|end| DATABASES.iter().any(|known| end == *known));
    // What is no path may have a password.
    let is_path = !url.contains([':', '@']);
    Failure::Usage(if is_path && (is_database || path.is_file()) {
        format!("`{url}` is no URL of a store: write sqlite:{url}")
    } else {
        text
    })
}

/// Opens the table of a store, with the keys that are given.
pub(crate) async fn open_with_keys(
    store: &StoreArgs,
    keys: &KeyArgs,
    need: Keys,
) -> Result<SessionTable, Failure> {
    // Read first: a mistake in a key connects to nothing.
    let keyring = keyring(keys, need)?;
    if keyring.is_none() && !keys.plaintext && need == Keys::Required {
        return Err(Failure::Usage(format!(
            "this needs the keys of the program: set {KEY_VARIABLE}, or give --key-env NAME or --key-file FILE; \
             --plaintext if the records are in the clear"
        )));
    }
    let table = open(store).await?;
    Ok(match keyring {
        Some(keyring) => table.keyring(keyring),
        None if keys.plaintext => table.danger_plaintext(),
        None => table,
    })
}

fn keyring(keys: &KeyArgs, need: Keys) -> Result<Option<Keyring>, Failure> {
    let keyring = match (&keys.key_file, &keys.key_env) {
        _ if keys.plaintext => return Ok(None),
        (Some(path), _) => Keyring::from_file(path),
        (None, Some(name)) => Keyring::from_env(name),
        (None, None) if need != Keys::Unneeded && has_key_variable() => Keyring::from_env(KEY_VARIABLE),
        (None, None) => return Ok(None),
    };
    let is_chosen = keys.key_file.is_some() || keys.key_env.is_some();
    // `Debug` is one line with all causes, and shows no part of a key.
    let failed = |error| match error {
        // A new key opens nothing.
        KeyError::Missing(name) => {
            format!("the environment variable `{name}` is not set: set it to the keys of the program")
        }
        error => format!("{error:?}"),
    };
    match keyring {
        Ok(keyring) => Ok(Some(keyring)),
        Err(error) if need == Keys::Helpful && !is_chosen => {
            say(&format!("{}: no key is marked as the current one", failed(error)));
            Ok(None)
        }
        Err(error) => Err(Failure::Failed(failed(error))),
    }
}

/// Returns whether the variable has something in it. A service without keys may set it to nothing.
fn has_key_variable() -> bool {
    std::env::var_os(KEY_VARIABLE).is_some_and(|keys| !keys.is_empty())
}

/// Returns what a store is, without the password that its URL may have.
pub(crate) fn scheme(url: &str) -> &str {
    url.split(':').next().unwrap_or_default()
}

/// Names the file or the server of a store, without the user, the password and the options of its URL. Where these cannot be
/// told apart it is the scheme alone.
pub(crate) fn place(url: &str) -> String {
    let scheme = scheme(url);
    if scheme == "sqlite" {
        return url.to_owned();
    }
    let server = || {
        let rest = url.strip_prefix(scheme)?.strip_prefix("://")?;
        let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let rest = rest.split(['?', '#']).next().filter(|_| !user.contains(['?', '#']))?;
        let hosts = rest.split('/').next().unwrap_or_default();
        let has_port = |host: &str| match host.rsplit_once(':') {
            Some((name, _)) if name.starts_with('[') && host.ends_with(']') => true,
            Some((_, port)) => !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()),
            None => true,
        };
        hosts.split(',').all(has_port).then(|| format!("{scheme}://{rest}"))
    };
    server().unwrap_or_else(|| scheme.to_owned())
}

pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// Returns what is taken to another store. The clock here may be ahead of those of the program: what has expired by less
/// than a day goes too, and nothing opens it there either.
pub(crate) fn not_long_expired() -> Filter {
    Filter::LiveAt(Timestamp::from_millis(now().as_millis() - 86_400_000))
}

/// Returns the sessions of a user.
pub(crate) fn of_user(table: &SessionTable, user: &str) -> Result<Filter, Failure> {
    let column = table.table().user.as_ref();
    let column = column.ok_or_else(|| {
        Failure::Usage(format!(
            "the table `{}` has no column of a user: name it by --columns user_id=NAME",
            table.table().name
        ))
    })?;
    equals(table, ColumnRef::User, column, user)
}

/// Returns the sessions with this value in a column: `NAME=VALUE`.
pub(crate) fn of_column(table: &SessionTable, condition: &str) -> Result<Filter, Failure> {
    let (name, value) = condition.split_once('=').ok_or_else(|| {
        Failure::Usage(format!("--column {condition}: write a name and a value, as in tenant=acme"))
    })?;
    let columns = &table.table().projected;
    let found = columns.iter().position(|column| column.name == name);
    let index = found.ok_or_else(|| {
        if table.table().user.as_ref().is_some_and(|user| user.name == name) {
            return Failure::Usage(format!("`{name}` is the column of the user: use --user"));
        }
        if table.table().ip.as_ref().is_some_and(|ip| ip == name) {
            return Failure::Usage(format!("`{name}` is the column of the address: use --ip"));
        }
        let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        Failure::Usage(format!("there is no column `{name}`; there are: {}", names.join(", ")))
    })?;
    equals(table, ColumnRef::Projected(index), &columns[index], value)
}

/// Returns the sessions that were last used from an address.
pub(crate) fn of_address(table: &Table, address: &str) -> Result<Filter, Failure> {
    let address: std::net::IpAddr =
        address.parse().map_err(|_| Failure::Usage("--ip: this is no address".to_owned()))?;
    if table.ip.is_none() {
        let text = format!(
            "the table `{}` has no column of an address: name it by --columns ip_addr=NAME",
            table.name
        );
        return Err(Failure::Usage(text));
    }
    Ok(Filter::Compare(ColumnRef::Ip, Comparison::Eq, Value::Text(address.to_string())))
}

fn equals(
    table: &SessionTable,
    place: ColumnRef,
    column: &TableColumn,
    text: &str,
) -> Result<Filter, Failure> {
    let wrong = |form: &str| Failure::Usage(format!("the column `{}` holds {form}", column.name));
    let value = match column.ty {
        // A `u64` is kept by its bits.
        ColumnType::Integer => match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(integer), _) => Value::Integer(integer),
            (_, Ok(integer)) => Value::Integer(integer.cast_signed()),
            _ => return Err(wrong("whole numbers")),
        },
        ColumnType::Real => Value::Real(text.parse().map_err(|_| wrong("numbers"))?),
        ColumnType::Text => return Ok(of_text(table, place, text)),
        ColumnType::Blob => return of_bytes(table, place, column, text),
    };
    Ok(Filter::Compare(place, Comparison::Eq, value))
}

/// Returns the rows whose column has this text, or this hash of bytes as `list` shows it, or, with keys, the hash of these
/// bytes.
fn of_text(table: &SessionTable, place: ColumnRef, text: &str) -> Filter {
    let shown = text.strip_prefix("hash:").map(|digits| Value::Text(digits.to_owned()));
    let bytes = written_bytes(text).unwrap_or_else(|| text.as_bytes().to_vec());
    let hashes = table.hashes(place, &Value::Blob(bytes));
    Filter::OneOf(place, [Value::Text(text.to_owned())].into_iter().chain(shown).chain(hashes).collect())
}

/// Reads bytes as `list` shows them.
pub(crate) fn written_bytes(text: &str) -> Option<Vec<u8>> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("hash:")).and_then(parse_hex)
}

/// Returns the rows whose column has these bytes, written as `0x..`, or else, with keys, the hash of this value.
fn of_bytes(
    table: &SessionTable,
    place: ColumnRef,
    column: &TableColumn,
    text: &str,
) -> Result<Filter, Failure> {
    if let Some(bytes) = written_bytes(text) {
        return Ok(Filter::Compare(place, Comparison::Eq, Value::Blob(bytes)));
    }
    let integer = text.parse::<i64>().ok().or_else(|| text.parse::<u64>().ok().map(u64::cast_signed));
    let real = text.parse().ok().map(Value::Real);
    let values = integer.map(Value::Integer).into_iter().chain(real).chain([Value::Text(text.to_owned())]);
    let hashes: Vec<_> = values.flat_map(|value| table.hashes(place, &value)).collect();
    if hashes.is_empty() {
        return Err(Failure::Usage(format!(
            "the column `{}` holds bytes: write 0x and hexadecimal digits; or, if it is blind, give the keys of the program",
            column.name
        )));
    }
    Ok(Filter::OneOf(place, hashes))
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    digits
        .filter(|digits| digits.len() % 2 == 0)
        .map(|digits| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Finds the row of an id, or of its first digits.
pub(crate) async fn find(table: &SessionTable, id: &str) -> Result<Row, Failure> {
    const DIGITS: usize = 64;
    const FEWEST: usize = 8;
    // What is no id may be a token, and is not repeated.
    let malformed = || {
        Failure::Usage(format!(
            "a session id has {DIGITS} hexadecimal digits, of which the first {FEWEST} are enough; the cookie's token is none"
        ))
    };
    let id = &*id.trim().to_ascii_lowercase();
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !(FEWEST..=DIGITS).contains(&id.len()) || !id.bytes().all(is_digit) {
        return Err(malformed());
    }
    let first: SessionId = format!("{id:0<DIGITS$}").parse().map_err(|_| malformed())?;
    let not_found = || Failure::NotFound(format!("there is no session {id}"));
    if id.len() == DIGITS {
        return table.load(first).await?.ok_or_else(not_found);
    }
    let rows = table.rows(&Filter::All, Page::new(before(first), 2)).await?;
    let mut rows = rows.into_iter().filter(|row| row.id.to_string().starts_with(id));
    match (rows.next(), rows.next()) {
        (None, _) => Err(not_found()),
        (Some(row), None) => Ok(row),
        _ => Err(Failure::Usage(format!("several sessions begin with {id}: give more digits"))),
    }
}

/// Returns the id before another one; `None` before the first.
fn before(id: SessionId) -> Option<SessionId> {
    let mut bytes = *id.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let is_zero = *byte == 0;
        *byte = byte.wrapping_sub(1);
        if !is_zero {
            return Some(SessionId::from_bytes(bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_before_is_one_less() {
        let id = |last: [u8; 2]| {
            let mut bytes = [0; 32];
            bytes[30..].copy_from_slice(&last);
            SessionId::from_bytes(bytes)
        };
        assert_eq!(before(id([0, 0])), None);
        assert_eq!(before(id([1, 0])), Some(id([0, 255])));
        assert_eq!(before(id([0, 9])), Some(id([0, 8])));
    }

    #[test]
    fn a_place_has_no_password() {
        for (url, shown) in [
            ("sqlite:shop.db", "sqlite:shop.db"),
            (
                "postgres://shop:hunter2@db.example:5432/shop?sslmode=require",
                "postgres://db.example:5432/shop",
            ),
            ("postgres://shop:hun/ter2@db.example/shop", "postgres://db.example/shop"),
            ("postgres://shop:hun?ter2@db.example/shop", "postgres"),
            ("postgres://db.example/shop?password=hun@ter2", "postgres"),
            ("postgres://db.example/shop?password=hunter2", "postgres://db.example/shop"),
            ("redis://:hunter2", "redis"),
            ("redis://shop:hunter2", "redis"),
            ("redis-cluster://:hunter2@[::1]:7000,b:7001", "redis-cluster://[::1]:7000,b:7001"),
            ("redis://[::1]", "redis://[::1]"),
            ("mysql:hunter2", "mysql"),
        ] {
            assert_eq!(place(url), shown);
        }
    }

    #[test]
    fn bytes_are_pairs_of_digits() {
        assert_eq!(parse_hex("00ff"), Some(vec![0, 255]));
        assert_eq!((parse_hex("0"), parse_hex("zz"), parse_hex("+1")), (None, None, None));
    }
}
