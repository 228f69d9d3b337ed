//! MySQL and MariaDB: their SQL, and how their client is called.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::connections::Connections;
use super::driver::{ErrorClass, ErrorDetails, Failure, Query, ServerCheck, SqlDriver, bind, cells};
use super::url::{self, TlsMode, UrlParameters};
use super::{SqlStore, delegate, failed, removed_id};
use crate::clock::Timestamp;
use crate::store::sql::dialect::{Catalog, Dialect, MaxLength, Names};
use crate::store::sql::{Cells, ColumnRole, Datum};
use crate::store::{
    Directory, Filter, LimitedWrite, Outcome, Page, Row, RowVersions, Store, StoreError, Table, Update,
};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// Sessions in MySQL 8.0, MariaDB 10.5, or later.
///
/// Any number of processes can share a table. A clone is cheap and shares the connections. A store is used within a
/// Tokio runtime, such as that of actix-web.
///
/// A load, an insert, a deletion or an update that finds its row costs one round trip on an open connection; an update
/// that does not find it costs one more, and so do the first use of a statement on a connection and an insert after a
/// second without calls. A log-in with `max_per_user` costs six, or five if it ends no session: it takes a lock of the user by
/// `GET_LOCK`, and is one transaction. That lock is one of a server: programs that write to several servers of a Galera
/// cluster or a replication group need one server for such log-ins. Lists and removals by a filter cost more.
///
/// A connection that broke or fell silent while it was idle is replaced within the call: after half of the time to the
/// deadline at the latest, if that is 200 milliseconds or more. A new row is not sent twice, and a deletion or an update
/// that was, and then finds no row, is an error: the first one may have been made. `Sessions` look again then. While the
/// server is down, a call fails, at its deadline at the latest. When the server is back, calls succeed again.
///
/// # Limits
///
/// | value | limit |
/// | --- | --- |
/// | numbers | finite |
/// | text and bytes | 16 MiB; in a table that exists, the length of its column |
///
/// A session with another value is refused: [`StoreError::is_refused`], with the column. A query by such a value finds
/// nothing.
///
/// # Examples
///
/// ```no_run
/// use session_runtime::MysqlStore;
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MysqlStore::connect("mysql://shop:secret@db.example/shop?ssl-mode=VERIFY_IDENTITY").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MysqlStore(SqlStore<Driver>);

impl MysqlStore {
    /// The most calls that a store makes at once, and the most connections that it keeps. A call whose connection does not
    /// answer can open a second one.
    pub const MAX_CONNECTIONS: u32 = 10;

    /// Connects to a server: `mysql://user:password@host:port/database`.
    ///
    /// # TLS
    ///
    /// | in the URL | encrypted | the server is |
    /// | --- | --- | --- |
    /// | `?ssl-mode=VERIFY_IDENTITY` | yes | the host of the URL, with a certificate under one of Mozilla's roots |
    /// | `?ssl-mode=VERIFY_IDENTITY&ssl-ca=ca.pem` | yes | the same, or with a certificate under a root in this file |
    /// | `?ssl-mode=REQUIRED` | yes | not verified |
    /// | nothing | if the server offers it | not verified |
    /// | `?ssl-mode=DISABLED` | no | not verified |
    ///
    /// Over a shared network, use `VERIFY_IDENTITY`. With less, an attacker on the network can pose as the server:
    /// read users, addresses and columns, return old rows, and receive the password. Sealed rows stay unreadable, and
    /// tokens are never sent. So the store logs a warning if the URL says nothing about TLS and the host is another
    /// machine.
    ///
    /// `&ssl-cert=` and `&ssl-key=` name the files of a client certificate. A TLS parameter that would have no effect
    /// is an error: an unknown one, and roots without a mode that verifies. Other parameters are `socket` and
    /// `statement-cache-capacity`; any other one is an error. A password of MySQL's default kind
    /// (`caching_sha2_password`) is sent over TLS only.
    ///
    /// # Errors
    ///
    /// If the URL is not one of MySQL, or the server does not answer within 10 seconds, fails verification, or is too old.
    /// The cause says what went wrong.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = Self::options(url)?;
        // What the driver would set by a statement of its own is in `SETTINGS`.
        let options = options.pipes_as_concat(false).no_engine_substitution(false).set_names(false);
        let options = options.timezone(None).disable_statement_logging();
        let store = Self(SqlStore::new(Connections::own(options, Self::MAX_CONNECTIONS)));
        store.0.check_server().await.map_err(failed(CONNECT))?;
        Ok(store)
    }

    /// Reads a URL.
    pub(crate) fn options(url: &str) -> Result<MySqlConnectOptions, StoreError> {
        let options =
            url::options(url, &PARAMETERS, tls_mode, |options| (options.get_socket(), options.get_host()));
        let options = options.map_err(failed(CONNECT))?;
        Ok(match url::bare_ipv6(options.get_host()) {
            Some(host) => options.clone().host(&host),
            None => options,
        })
    }

    /// Uses a pool of the application, with its settings.
    ///
    /// The pool of sqlx asks a connection whether it lives, before each call and after it. `test_before_acquire(false)`
    /// saves the first of these round trips, and then a write on a connection that broke while it was idle can fail, as the
    /// store does not replace a connection of a pool within the call. [`connect`](Self::connect) saves both.
    ///
    /// Give the pool an `acquire_timeout` below the deadline of requests, and its connections an
    /// `innodb_lock_wait_timeout`: a statement that waits for a lock goes on after its caller has stopped waiting.
    /// Their settings must be those of a server as it is installed: a strict `sql_mode`, `autocommit` on, no
    /// `completion_type`, and no `sql_select_limit`. [`connect`](Self::connect) sets all of these itself.
    ///
    /// # Errors
    ///
    /// If the server does not answer, is too old, or would lose data by its settings.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use session_runtime::MysqlStore;
    /// use sqlx::mysql::MySqlPoolOptions;
    ///
    /// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = MySqlPoolOptions::new().max_connections(50).connect("mysql://localhost/shop").await?;
    /// let store = MysqlStore::from_pool(pool).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_pool(pool: MySqlPool) -> Result<Self, StoreError> {
        let store = Self(SqlStore::new(Connections::Pool(pool)));
        store.0.check_server().await.map_err(failed("take over the pool"))?;
        Ok(store)
    }
}

const CONNECT: &str = "connect to MySQL";

const PARAMETERS: UrlParameters = UrlParameters {
    server: "MySQL",
    schemes: &["mysql", "mariadb"],
    verified: "ssl-mode=VERIFY_IDENTITY",
    roots: &["ssl-ca", "sslca"],
    tls: &["ssl-mode", "sslmode", "ssl-cert", "sslcert", "ssl-key", "sslkey"],
    others: &["socket", "statement-cache-capacity"],
    hint: "",
};

fn tls_mode(options: &MySqlConnectOptions) -> TlsMode {
    match options.get_ssl_mode() {
        MySqlSslMode::VerifyIdentity | MySqlSslMode::VerifyCa => TlsMode::Verified,
        MySqlSslMode::Required | MySqlSslMode::Disabled => TlsMode::Explicit,
        MySqlSslMode::Preferred => TlsMode::Unspecified,
    }
}

delegate!(MysqlStore);

impl fmt::Debug for MysqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlStore").finish_non_exhaustive()
    }
}

struct Driver;

/// The settings of a connection, whatever those of the server: with `autocommit` off a write is acknowledged and then
/// rolled back; without strict mode an oversized value is truncated; a limit of rows would hide sessions from a list.
const SETTINGS: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET NAMES utf8mb4, SESSION autocommit = 1, completion_type = 'NO_CHAIN', \
     sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_safe_updates = 0, \
     sql_select_limit = 18446744073709551615, time_zone = '+00:00'";

impl SqlDriver for Driver {
    type Database = MySql;

    const DIALECT: &'static Dialect = &DIALECT;

    const SERVER: &'static ServerCheck = &SERVER;

    const PRIMARY_KEY: Option<&'static str> = Some("PRIMARY");

    const BUSY: &'static [&'static str] = &["1040", "1053", "1203"];

    async fn connect(
        options: &MySqlConnectOptions,
        statement_timeout: u64,
    ) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = options.connect().await?;
        // Counted in seconds. Without a timeout the server's own setting stays.
        let seconds = match statement_timeout.div_ceil(1_000) {
            0 => "DEFAULT".to_owned(),
            seconds => seconds.to_string(),
        };
        let set = format!("{SETTINGS}, innodb_lock_wait_timeout = {seconds}");
        connection.execute(AssertSqlSafe(set)).await?;
        Ok(connection)
    }

    async fn fetch(connection: &mut MySqlConnection, query: &Query<'_>) -> Result<Vec<Cells>, sqlx::Error> {
        let rows = bind(query).fetch_all(connection).await?;
        rows.iter().map(|row| cells(row, query.types)).collect()
    }

    async fn execute(connection: &mut MySqlConnection, query: &Query<'_>) -> Result<u64, sqlx::Error> {
        Ok(bind(query).execute(connection).await?.rows_affected())
    }

    async fn remove(
        connection: &mut MySqlConnection,
        query: &Query<'_>,
        delete: &str,
    ) -> Result<Vec<Cells>, Failure> {
        let mut transaction = connection.begin_with(BEGIN).await.map_err(Failure::undone::<Self>)?;
        let removed = remove(&mut transaction, query, delete).await.map_err(Failure::undone::<Self>)?;
        transaction.commit().await.map_err(Failure::of::<Self>)?;
        Ok(removed)
    }

    async fn remove_within(
        connection: &mut MySqlConnection,
        query: &Query<'_>,
        delete: &str,
    ) -> Result<Vec<Cells>, sqlx::Error> {
        remove(connection, query, delete).await
    }

    /// The server waits for the lock as long as for the lock of a row.
    fn begin_locked(number: i64) -> String {
        format!("SELECT CAST(GET_LOCK('databag {number}', @@innodb_lock_wait_timeout) AS SIGNED); {BEGIN}")
    }

    fn end_locked(end: &str, number: i64) -> String {
        format!("{end}; DO RELEASE_LOCK('databag {number}')")
    }

    async fn run(connection: &mut MySqlConnection, statements: String) -> Result<bool, sqlx::Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(connection).await?;
        Ok(rows.last().is_some_and(|row| row.try_get::<i64, _>(0).is_ok_and(|taken| taken == 1)))
    }

    fn classify(error: &dyn DatabaseError) -> (ErrorClass, ErrorDetails) {
        // What the driver calls the code is the SQLSTATE, which many errors share.
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
        let code = number.map(|number| number.to_string()).unwrap_or_default();
        let [column, constraint] = names(error.message()).map(|name| name.map(str::to_owned));
        (number.map_or(ErrorClass::Other, class), ErrorDetails { code, column, constraint })
    }
}

/// One round trip. The connections of an application have their own isolation level.
const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";

/// What an error of a number means.
fn class(number: u16) -> ErrorClass {
    match number {
        1062 => ErrorClass::Duplicate,
        1213 => ErrorClass::RolledBack,
        // MySQL says so before it closes a connection that was idle.
        4031 => ErrorClass::Terminated,
        1053 | 1927 | 3169 => ErrorClass::ConnectionLost,
        // `read_only`, and a transaction for reading only.
        1290 | 1792 | 1836 => ErrorClass::ReadOnly,
        // `NULL` or no value, out of range, of another character set, too long, a constraint; the server quotes some of
        // the values.
        1048 | 1118 | 1153 | 1264 | 1265 | 1292 | 1364 | 1366 | 1406 | 1451 | 1452 | 3819 | 3988 | 4025 => {
            ErrorClass::ValueRefused
        }
        _ => ErrorClass::Other,
    }
}

/// Reads the names of a column and of a constraint in a message. Some messages quote a value before the name, and a value
/// can look like a message: `Incorrect string value: '..' for column `d`.`t`.`tenant` at row 1`.
fn names(message: &str) -> [Option<&str>; 2] {
    let between = |before, after| Some(message.strip_prefix(before)?.split_once(after)?.0);
    let refused = || {
        let (before, name) = message.rsplit_once(" for column ")?;
        let is_known = ["Out of range value", "Data truncated", "Data too long"].contains(&before)
            || (before.starts_with("Incorrect ") && before.ends_with('\''));
        let (name, row) = name.rsplit_once(" at row ")?;
        row.parse::<u64>().ok().filter(|_| is_known)?;
        Some(name.rsplit('.').next()?.trim_matches(['`', '\'', '"']))
    };
    let column = between("Column '", "' cannot be null")
        .or_else(|| between("Field '", "' doesn't have a default value"))
        .or_else(refused);
    let unique = || {
        let (before, name) = message.rsplit_once("' for key '")?;
        let name = name.strip_suffix('\'').filter(|_| before.starts_with("Duplicate entry '"))?;
        // MySQL names the table first.
        Some(name.rsplit('.').next().unwrap_or(name))
    };
    let foreign = || {
        let rest = message.strip_prefix("Cannot ")?.split_once(" a foreign key constraint fails (")?.1;
        Some(rest.split_once(" CONSTRAINT `")?.1.split_once('`')?.0)
    };
    let constraint = between("CONSTRAINT `", "` failed for")
        .or_else(|| between("Check constraint '", "' is violated"))
        .or_else(unique)
        .or_else(foreign);
    [column, constraint].map(|name| name.filter(|name| !name.is_empty()))
}

/// Removes rows within a transaction.
///
/// MySQL cannot return the rows that it removes. So the rows are locked first, which keeps other connections from
/// changing them, and then removed by their ids. Rows that are added meanwhile stay.
///
/// A locking read goes along an index. It misses a row whose id changes so that the row moves from before the
/// reader to behind it. So each round reads first, without locks, which rows there are; if the locking read did
/// not find all of them, there is another round.
async fn remove(
    connection: &mut MySqlConnection,
    query: &Query<'_>,
    delete: &str,
) -> Result<Vec<Cells>, sqlx::Error> {
    let lock = Query { sql: format!("{} FOR UPDATE", query.sql).into(), ..query.clone() };
    let mut removed = Vec::new();
    loop {
        let existing = Driver::fetch(connection, query).await?;
        let locked = Driver::fetch(connection, &lock).await?;
        for chunk in locked.chunks(IDS_PER_STATEMENT) {
            let list = vec!["?"; chunk.len()].join(", ");
            let ids = chunk.iter().flatten().flatten().map(Datum::from);
            let delete = Query::once(format!("{delete}({list})"), ids, &[]);
            Driver::execute(connection, &delete).await?;
        }
        let found: HashSet<_> = locked.iter().filter_map(removed_id).collect();
        removed.extend(locked);
        if existing.iter().filter_map(removed_id).all(|id| found.contains(&id)) {
            break;
        }
    }
    Ok(removed)
}

/// The most rows that one statement removes.
const IDS_PER_STATEMENT: usize = 1_000;

/// Selects the table of the parameter. Names of tables are case-sensitive where the server's file names are.
macro_rules! of_table {
    () => {
        "CROSS JOIN (SELECT CAST(? AS CHAR) AS subject) AS asked WHERE TABLE_SCHEMA = DATABASE() AND \
         IF(@@lower_case_table_names = 0, CAST(TABLE_NAME AS BINARY) = CAST(subject AS BINARY), \
         LOWER(TABLE_NAME) = LOWER(subject))"
    };
}

static DIALECT: Dialect = Dialect {
    quote: '`',
    name_length: |name| name.chars().count(),
    max_name_length: 64,
    parameter: |_| "?".into(),
    max_parameters: 65_535,
    insert: "INSERT INTO",
    update: "UPDATE",
    // Even the `_bin` collations ignore spaces at the end.
    byte_order: ("CAST(", " AS BINARY)"),
    byte_order_is_blob: true,
    text_holds_nul: true,
    refuses: |value, _| match value {
        Value::Real(real) if !real.is_finite() => Some("an infinite number, or NaN"),
        _ => None,
    },
    bounded: |column, ty, max| match ty {
        ColumnType::Integer | ColumnType::Real => column.to_owned(),
        ColumnType::Text | ColumnType::Blob => format!("LEFT({column}, {})", max + 1),
    },
    is_id: |id| format!("OCTET_LENGTH({id}) = 32"),
    prune: |names, time, limit| {
        let Names { table, expiration, .. } = names;
        format!("DELETE FROM {table} WHERE {expiration} <= {time} ORDER BY {expiration} LIMIT {limit}")
    },
    remove: |names, condition| {
        let Names { table, id, .. } = names;
        format!("SELECT {id} FROM {table} WHERE {condition}")
    },
    surplus: |names, condition, order, keep| {
        let Names { table, id, .. } = names;
        format!(
            "SELECT {id} FROM {table} WHERE {condition} ORDER BY {order} \
             LIMIT 18446744073709551615 OFFSET {keep}"
        )
    },
    catalog: Catalog {
        subject: |name, _| name.to_owned(),
        kind: concat!(
            "SELECT CAST(CASE TABLE_TYPE WHEN 'BASE TABLE' THEN 'table' ELSE LOWER(TABLE_TYPE) END AS CHAR) \
             FROM information_schema.TABLES ",
            of_table!()
        ),
        columns: concat!(
            "SELECT CAST(COLUMN_NAME AS CHAR), \
             CAST(CONCAT(COLUMN_TYPE, COALESCE(CONCAT(' ', CHARACTER_SET_NAME), '')) AS CHAR), \
             CAST(IS_NULLABLE = 'NO' AS SIGNED), \
             CAST(COLUMN_DEFAULT IS NOT NULL OR EXTRA LIKE '%auto_increment%' AS SIGNED), \
             CAST(COALESCE(GENERATION_EXPRESSION, '') <> '' AS SIGNED), CAST(COLUMN_KEY = 'PRI' AS SIGNED) \
             FROM information_schema.COLUMNS ",
            of_table!()
        ),
        indexes: concat!(
            "SELECT CAST(COLUMN_NAME AS CHAR) FROM information_schema.STATISTICS ",
            of_table!(),
            " AND SEQ_IN_INDEX = 1"
        ),
        is_same_name: |one, other| one == other || one.to_lowercase() == other.to_lowercase(),
        column_type: |ty| match ty {
            ColumnType::Integer => "BIGINT",
            ColumnType::Real => "DOUBLE",
            ColumnType::Text => "MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            ColumnType::Blob => "MEDIUMBLOB",
        },
        key_type: "VARBINARY(32)",
        name_type: "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        name_value: |name| {
            // Where case does not count, the server keeps names in lower case.
            format!("(SELECT IF(@@lower_case_table_names = 0, n, LOWER(n)) FROM (SELECT {name} AS n) AS t)")
        },
        holds,
        max_length,
        table_options: " ENGINE = InnoDB",
        create_index: |_, table, column, ty| {
            let length = match ty {
                // As much as an index of InnoDB holds, in bytes, and in characters of up to four bytes.
                ColumnType::Blob => "(1024)",
                ColumnType::Text => "(255)",
                ColumnType::Integer | ColumnType::Real => "",
            };
            format!("ALTER TABLE {table} ADD INDEX ({column}{length})")
        },
    },
};

static SERVER: ServerCheck = ServerCheck {
    version: "SELECT VERSION()",
    supports,
    settings: "SELECT CAST(CASE \
               WHEN @@sql_mode NOT LIKE '%STRICT%' THEN \
               'sql_mode is not strict: oversized values would be truncated; set STRICT_ALL_TABLES' \
               WHEN @@autocommit <> 1 THEN \
               'autocommit is off: writes would be acknowledged and never committed; set autocommit = 1' \
               WHEN @@completion_type <> 'NO_CHAIN' THEN \
               'a commit would begin another transaction; set completion_type = NO_CHAIN' \
               WHEN @@sql_select_limit < 18446744073709551615 THEN \
               'sql_select_limit would hide sessions from lists and revocations; set sql_select_limit = DEFAULT' \
               ELSE '' END AS CHAR), CAST(CASE @@innodb_flush_log_at_trx_commit WHEN 0 THEN \
               'innodb_flush_log_at_trx_commit is 0: when the server crashes, the writes of the last second that it has \
               acknowledged are lost, and sessions that were ended may come back; set it to 1' ELSE '' END AS CHAR)",
    lock: |number| vec![format!("SELECT CAST(GET_LOCK('databag {number}', 30) AS SIGNED)")],
    unlock: |number| vec![format!("SELECT RELEASE_LOCK('databag {number}')")],
};

/// Checks a version: `8.0.36`, `10.11.6-MariaDB`, `5.5.5-10.11.6-MariaDB`.
fn supports(version: &str) -> Result<(), &'static str> {
    let is_mariadb = version.contains("MariaDB");
    let version = version.strip_prefix("5.5.5-").filter(|_| is_mariadb).unwrap_or(version);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match is_mariadb {
        true if found < (10, 5) => Err("MariaDB 10.5"),
        false if found < (8, 0) => Err("MySQL 8.0"),
        _ => Ok(()),
    }
}

/// What a column of a declared type holds. Text must be in the character set that has all characters: in another one the
/// server would change it.
fn holds(declared: &str, role: ColumnRole) -> Option<ColumnType> {
    let (ty, rest) = declared.split_at(declared.find(['(', ' ']).unwrap_or(declared.len()));
    let length = || rest.strip_prefix('(')?.strip_suffix(')')?.parse::<u32>().ok();
    match ty {
        // Up to 65,535 bytes, which is less than a session may need.
        "tinyblob" | "blob" | "varbinary" | "char" | "varchar" | "tinytext" | "text"
            if role == ColumnRole::State =>
        {
            None
        }
        "varbinary" if role == ColumnRole::Key && length() < Some(32) => None,
        "bigint" if !rest.contains("unsigned") => Some(ColumnType::Integer),
        "double" if !rest.contains("unsigned") => Some(ColumnType::Real),
        // `CHAR` loses the spaces at the end.
        "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            declared.ends_with(" utf8mb4").then_some(ColumnType::Text)
        }
        // `BINARY` pads with zeros. Only ids always have the full length.
        "binary" => (role == ColumnRole::Key && length() == Some(32)).then_some(ColumnType::Blob),
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Some(ColumnType::Blob),
        _ => None,
    }
}

/// The longest value of a column of a declared type.
fn max_length(declared: &str) -> Option<MaxLength> {
    let (ty, rest) = declared.split_at(declared.find(['(', ' ']).unwrap_or(declared.len()));
    let length = || rest.strip_prefix('(')?.split_once(')')?.0.parse().ok();
    match ty {
        "varchar" => length().map(MaxLength::Characters),
        "varbinary" => length().map(MaxLength::Bytes),
        "tinytext" | "tinyblob" => Some(MaxLength::Bytes(255)),
        "text" | "blob" => Some(MaxLength::Bytes(65_535)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_means_what_the_manual_says() {
        for (number, expected) in [
            (4031, ErrorClass::Terminated),
            (3169, ErrorClass::ConnectionLost),
            (1927, ErrorClass::ConnectionLost),
            (1062, ErrorClass::Duplicate),
            (1213, ErrorClass::RolledBack),
            (1290, ErrorClass::ReadOnly),
            (1205, ErrorClass::Other),
            (2006, ErrorClass::Other),
        ] {
            assert_eq!(class(number), expected, "{number}");
        }
        for number in [1048, 1118, 1153, 1364, 1406, 1451, 1452, 4025] {
            assert_eq!(class(number), ErrorClass::ValueRefused, "{number}");
        }
    }

    #[test]
    fn a_message_gives_the_names_of_columns_and_constraints_and_no_part_of_a_value() {
        for (message, column, constraint) in [
            ("Data too long for column 'tenant' at row 1", Some("tenant"), None),
            ("Incorrect string value: '\\xF0' for column `d`.`t`.`tenant` at row 1", Some("tenant"), None),
            ("Column 'tenant' cannot be null", Some("tenant"), None),
            ("Field 'note' doesn't have a default value", Some("note"), None),
            ("Duplicate entry 'hunter2' for key 'PRIMARY'", None, Some("PRIMARY")),
            ("Duplicate entry 'a' for key 'b' for key 't.user_id'", None, Some("user_id")),
            ("CONSTRAINT `tenant` failed for `d`.`t`", None, Some("tenant")),
            ("Check constraint 'tenant' is violated.", None, Some("tenant")),
            (
                "Cannot add or update a child row: a foreign key constraint fails (`d`.`t`, CONSTRAINT `of` FOREIGN \
                 KEY (`user_id`) REFERENCES `users` (`id`))",
                None,
                Some("of"),
            ),
            ("Truncated incorrect DOUBLE value: 'a column hunter2'", None, None),
            ("Truncated incorrect DOUBLE value: 'a for column hunter2 at row 1'", None, None),
            ("Truncated incorrect DOUBLE value: 'a' for column hunter2 at row 1", None, None),
            ("Incorrect string value: 'a' for column hunter2", None, None),
        ] {
            assert_eq!(names(message), [column, constraint], "{message}");
        }
    }

    #[test]
    fn an_old_server_is_refused_in_every_notation_of_its_version() {
        for version in
            ["8.0.0", "8.4.3", "9.1.0-log", "10.5.1-MariaDB", "5.5.5-10.11.6-MariaDB-1", "11.4.2-MariaDB"]
        {
            assert_eq!(supports(version), Ok(()), "{version}");
        }
        for version in ["5.7.44", "10.4.34-MariaDB", "5.5.5-10.3.1-MariaDB", "5.5.68-MariaDB", ""] {
            assert!(supports(version).is_err(), "{version}");
        }
    }

    #[test]
    fn a_column_that_pads_or_is_too_short_is_accepted_only_where_that_is_harmless() {
        for (declared, roles) in [
            ("binary(32)", &[ColumnRole::Key][..]),
            ("binary(16)", &[]),
            ("varbinary(16)", &[ColumnRole::Nullable]),
            ("varbinary(32)", &[ColumnRole::Key, ColumnRole::Nullable]),
            ("blob", &[ColumnRole::Key, ColumnRole::Nullable]),
            ("mediumblob", &[ColumnRole::Key, ColumnRole::State, ColumnRole::Nullable]),
            ("varchar(20) utf8mb4", &[ColumnRole::Key, ColumnRole::Nullable]),
            ("longtext utf8mb4", &[ColumnRole::Key, ColumnRole::State, ColumnRole::Nullable]),
        ] {
            for role in [ColumnRole::Key, ColumnRole::State, ColumnRole::Nullable] {
                assert_eq!(holds(declared, role).is_some(), roles.contains(&role), "{declared}");
            }
        }
    }
}
