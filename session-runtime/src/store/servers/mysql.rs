//! MySQL and MariaDB: their SQL, and how their client is called.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::mysql::{
    MySql, MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool,
    MySqlPoolOptions, MySqlRow, MySqlSslMode,
};
use sqlx::query::Query as BoundQuery;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::driver::{ErrorClass, Parameter, Query, ServerCheck, SqlDriver};
use super::startup::STARTUP_TIMEOUT;
use super::tls::{self, TlsMode, TlsParameters};
use super::{PING_AFTER_IDLE, SqlStore, StatementTimeout, delegate, failed, removed_id};
use crate::clock::Timestamp;
use crate::store::sql::dialect::{Catalog, Dialect, Names};
use crate::store::sql::{Cells, ColumnRole, Datum};
use crate::store::{Directory, Filter, Outcome, Page, Row, Store, StoreError, Table, Update};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// Sessions in MySQL 8.0, MariaDB 10.5, or later.
///
/// Any number of processes can share a table. A clone is cheap and shares the connections. A store is used within a
/// Tokio runtime, such as that of actix-web.
///
/// A call costs one round trip on a connection of the pool. While the server is down, a call fails, at its deadline
/// at the latest. When the server is back, calls succeed again.
///
/// Numbers cannot be infinite or NaN here: a session whose projected field is one of them is refused.
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
    /// The most connections that a store opens.
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
    /// is an error: an unknown one, and roots without a mode that verifies. A password of MySQL's default kind
    /// (`caching_sha2_password`) is sent over TLS only.
    ///
    /// # Errors
    ///
    /// If the URL is not one of MySQL, or the server does not answer, fails verification, or is too old.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        const OPERATION: &str = "connect to MySQL";
        let options = tls::options(url, &TLS, tls_mode, host).map_err(failed(OPERATION))?;
        let timeout = StatementTimeout::default();
        let pool = pool(options.disable_statement_logging(), &timeout);
        let store = Self(SqlStore::new(pool, Some(timeout)));
        store.0.check_server().await.map_err(failed(OPERATION))?;
        Ok(store)
    }

    /// Uses a pool of the application, with its settings.
    ///
    /// Give the pool an `acquire_timeout` below the deadline of requests, and its connections an
    /// `innodb_lock_wait_timeout`: a statement that waits for a lock goes on after its caller has stopped waiting.
    /// Their `sql_mode` must contain `STRICT_ALL_TABLES` or `STRICT_TRANS_TABLES`, as it does by default.
    ///
    /// # Errors
    ///
    /// If the server does not answer, is too old, or would truncate oversized values.
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
        let store = Self(SqlStore::new(pool, None));
        store.0.check_server().await.map_err(failed("take over the pool"))?;
        Ok(store)
    }
}

const TLS: TlsParameters = TlsParameters {
    server: "MySQL",
    schemes: &["mysql", "mariadb"],
    verified: "ssl-mode=VERIFY_IDENTITY",
    roots: &["ssl-ca", "sslca"],
    others: &["ssl-mode", "sslmode", "ssl-cert", "sslcert", "ssl-key", "sslkey"],
};

fn tls_mode(options: &MySqlConnectOptions) -> TlsMode {
    match options.get_ssl_mode() {
        MySqlSslMode::VerifyIdentity | MySqlSslMode::VerifyCa => TlsMode::Verified,
        MySqlSslMode::Required | MySqlSslMode::Disabled => TlsMode::Explicit,
        MySqlSslMode::Preferred => TlsMode::Unspecified,
    }
}

fn host(options: &MySqlConnectOptions) -> String {
    let socket = options.get_socket().map(|path| path.display().to_string());
    socket.unwrap_or_else(|| options.get_host().to_owned())
}

fn pool(options: MySqlConnectOptions, timeout: &StatementTimeout) -> MySqlPool {
    let timeout = timeout.clone();
    MySqlPoolOptions::new()
        .max_connections(MysqlStore::MAX_CONNECTIONS)
        .acquire_timeout(STARTUP_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, state| {
            Box::pin(async move {
                if state.idle_for > PING_AFTER_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| {
            // Counted in seconds. Without a timeout the server's own setting stays.
            let seconds = match timeout.millis().div_ceil(1_000) {
                0 => "DEFAULT".to_owned(),
                seconds => seconds.to_string(),
            };
            // Without strict mode the server truncates an oversized value and acknowledges it.
            let set = format!(
                "SET SESSION innodb_lock_wait_timeout = {seconds}, \
                 sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
            );
            Box::pin(async move {
                connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
                connection.execute(AssertSqlSafe(set)).await.map(drop)
            })
        })
        .connect_lazy_with(options)
}

delegate!(MysqlStore);

impl fmt::Debug for MysqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlStore").finish_non_exhaustive()
    }
}

struct Driver;

impl SqlDriver for Driver {
    type Database = MySql;

    const DIALECT: &'static Dialect = &DIALECT;

    const SERVER: &'static ServerCheck = &SERVER;

    async fn fetch(connection: &mut MySqlConnection, query: &Query<'_>) -> Result<Vec<Cells>, sqlx::Error> {
        let rows = bind(query).fetch_all(connection).await?;
        rows.iter().map(|row| cells(row, query.types)).collect()
    }

    async fn execute(connection: &mut MySqlConnection, query: &Query<'_>) -> Result<u64, sqlx::Error> {
        Ok(bind(query).execute(connection).await?.rows_affected())
    }

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
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        let mut transaction = connection.begin().await?;
        let lock = Query { sql: format!("{} FOR UPDATE", query.sql).into(), ..query.clone() };
        let mut removed = Vec::new();
        loop {
            let existing = Self::fetch(&mut transaction, query).await?;
            let locked = Self::fetch(&mut transaction, &lock).await?;
            for chunk in locked.chunks(IDS_PER_STATEMENT) {
                let list = vec!["?"; chunk.len()].join(", ");
                let ids = chunk.iter().flatten().flatten().map(Datum::from);
                let delete = Query::once(format!("{delete}({list})"), ids, &[]);
                Self::execute(&mut transaction, &delete).await?;
            }
            let found: HashSet<_> = locked.iter().filter_map(removed_id).collect();
            removed.extend(locked);
            if existing.iter().filter_map(removed_id).all(|id| found.contains(&id)) {
                break;
            }
        }
        transaction.commit().await?;
        Ok(removed)
    }

    fn classify(error: &dyn DatabaseError) -> (String, ErrorClass) {
        // What the driver calls the code is the SQLSTATE, which many errors share.
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
        let class = match number {
            Some(1062) => ErrorClass::DuplicateId,
            Some(1213) => ErrorClass::RolledBack,
            Some(1053 | 1927) => ErrorClass::ConnectionLost,
            // Out of range, of another character set, too long, a constraint; the server quotes some of the values.
            Some(1264 | 1265 | 1292 | 1366 | 1406 | 3819 | 3988 | 4025) => ErrorClass::ValueRefused,
            _ => ErrorClass::Other,
        };
        (number.map(|number| number.to_string()).unwrap_or_default(), class)
    }
}

/// The most rows that one statement removes.
const IDS_PER_STATEMENT: usize = 1_000;

fn bind<'q>(query: &'q Query<'_>) -> BoundQuery<'q, MySql, MySqlArguments> {
    let statement = sqlx::query(AssertSqlSafe(query.sql.clone())).persistent(query.is_cached);
    query.parameters.iter().fold(statement, |statement, parameter| match parameter {
        Parameter::Value(Datum::Integer(integer)) => statement.bind(*integer),
        Parameter::Value(Datum::Real(real)) => statement.bind(*real),
        Parameter::Value(Datum::Text(text)) => statement.bind(text.as_ref()),
        Parameter::Value(Datum::Blob(blob)) => statement.bind(blob.as_ref()),
        Parameter::Null(ColumnType::Integer) => statement.bind(None::<i64>),
        Parameter::Null(ColumnType::Real) => statement.bind(None::<f64>),
        Parameter::Null(ColumnType::Text) => statement.bind(None::<&str>),
        Parameter::Null(ColumnType::Blob) => statement.bind(None::<&[u8]>),
    })
}

fn cells(row: &MySqlRow, types: &[ColumnType]) -> Result<Cells, sqlx::Error> {
    let cell = |(n, ty): (usize, &ColumnType)| {
        Ok(match ty {
            ColumnType::Integer => row.try_get::<Option<_>, _>(n)?.map(Value::Integer),
            ColumnType::Real => row.try_get::<Option<_>, _>(n)?.map(Value::Real),
            ColumnType::Text => row.try_get::<Option<_>, _>(n)?.map(Value::Text),
            ColumnType::Blob => row.try_get::<Option<_>, _>(n)?.map(Value::Blob),
        })
    };
    types.iter().enumerate().map(cell).collect()
}

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
    evict_oldest: |names, condition, keep| {
        let Names { table, id, created, .. } = names;
        format!(
            "SELECT {id} FROM {table} WHERE {condition} ORDER BY {created} DESC, {id} DESC \
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
    is_strict: Some("SELECT CAST(@@sql_mode LIKE '%STRICT%' AS SIGNED)"),
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
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            declared.ends_with(" utf8mb4").then_some(ColumnType::Text)
        }
        // `BINARY` pads with zeros. Only ids always have the full length.
        "binary" => (role == ColumnRole::Key && length() == Some(32)).then_some(ColumnType::Blob),
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Some(ColumnType::Blob),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
