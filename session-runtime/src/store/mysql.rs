//! MySQL and MariaDB: what its SQL is, and how its client is called.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use sqlx::mysql::{
    MySql, MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool,
    MySqlPoolOptions, MySqlRow, MySqlSslMode,
};
use sqlx::query::Query as Statement;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::sql::tls::{self, Mode, Words};
use super::sql::{
    Catalog, Cells, Dialect, Engine, FRESH, Kind, Meaning, Parameter, Patience, Query, START_UP_PATIENCE,
    SqlStore, delegate, id,
};
use super::{Directory, Filter, Outcome, Page, Row, Store, StoreError, Table, Update};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// Sessions in MySQL 8.0, MariaDB 10.5, or later.
///
/// Any number of processes can share a table. Cloning is cheap, and the clones share their connections. A
/// store is used within a Tokio runtime, such as that of actix-web.
///
/// A call costs one round trip on a connection of the pool. While the server is away calls fail, at the
/// deadline of their sessions at the latest, and succeed again when it is back.
///
/// Numbers cannot be infinite or NaN here: a session whose projected field is one is refused.
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
pub struct MysqlStore(SqlStore<Client>);

impl MysqlStore {
    /// The most connections a store opens.
    pub const MAX_CONNECTIONS: u32 = 10;

    /// Connects to a server: `mysql://user:password@host:port/database`.
    ///
    /// # TLS
    ///
    /// | in the URL | encrypted | the server is |
    /// | --- | --- | --- |
    /// | `?ssl-mode=VERIFY_IDENTITY` | yes | the host of the URL, by a certificate that Mozilla's roots vouch for |
    /// | `?ssl-mode=VERIFY_IDENTITY&ssl-ca=ca.pem` | yes | the same, or one that the roots in this file vouch for |
    /// | `?ssl-mode=REQUIRED` | yes | anyone |
    /// | nothing | if the server says that it can | anyone |
    /// | `?ssl-mode=DISABLED` | no | anyone |
    ///
    /// Over a network that others use, ask for `VERIFY_IDENTITY`. With less, who can get in between can be the
    /// server: read users, addresses and columns, hand out old rows, and be told the password. Rows that are
    /// sealed stay unreadable, and tokens are never sent. So there is a warning in the log where the URL says
    /// nothing and the host is another machine.
    ///
    /// `&ssl-cert=` and `&ssl-key=` name the files of a certificate of the client's. A parameter about TLS that
    /// would have no effect is refused: one that is misspelt, and roots without a mode that verifies. A password
    /// of MySQL's default kind (`caching_sha2_password`) is sent over TLS only.
    ///
    /// # Errors
    ///
    /// If the URL is none of MySQL, the server does not answer, is not the one it should be, or is too old.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        const OPERATION: &str = "connect to MySQL";
        let options =
            tls::options(url, &WORDS, look).map_err(|failure| StoreError::new(OPERATION, failure))?;
        let patience = Patience::default();
        let pool = pool(options.disable_statement_logging(), &patience);
        let store = Self(SqlStore::new(pool, Some(patience)));
        store.0.greet().await.map_err(|failure| StoreError::new(OPERATION, failure))?;
        Ok(store)
    }

    /// Takes a pool that is there already, with its settings.
    ///
    /// Give it an `acquire_timeout` below your requests' patience, and `innodb_lock_wait_timeout` to its
    /// connections: a statement that waits for a lock goes on after its caller gave up. Their `sql_mode` must have
    /// `STRICT_ALL_TABLES` or `STRICT_TRANS_TABLES`, as it has by default.
    ///
    /// # Errors
    ///
    /// If the server does not answer, is too old, or would cut values that do not fit.
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
        store.0.greet().await.map_err(|failure| StoreError::new("take over the pool", failure))?;
        Ok(store)
    }
}

const WORDS: Words = Words {
    server: "MySQL",
    schemes: &["mysql", "mariadb"],
    verified: "ssl-mode=VERIFY_IDENTITY",
    roots: &["ssl-ca", "sslca"],
    others: &["ssl-mode", "sslmode", "ssl-cert", "sslcert", "ssl-key", "sslkey"],
};

fn look(options: &MySqlConnectOptions) -> (Mode, String) {
    let mode = match options.get_ssl_mode() {
        MySqlSslMode::VerifyIdentity | MySqlSslMode::VerifyCa => Mode::Verified,
        MySqlSslMode::Required | MySqlSslMode::Disabled => Mode::Chosen,
        MySqlSslMode::Preferred => Mode::Open,
    };
    let socket = options.get_socket().map(|path| path.display().to_string());
    (mode, socket.unwrap_or_else(|| options.get_host().to_owned()))
}

fn pool(options: MySqlConnectOptions, patience: &Patience) -> MySqlPool {
    let patience = patience.clone();
    MySqlPoolOptions::new()
        .max_connections(MysqlStore::MAX_CONNECTIONS)
        .acquire_timeout(START_UP_PATIENCE)
        .test_before_acquire(false)
        .before_acquire(|connection, state| {
            Box::pin(async move {
                if state.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| {
            // Counted in seconds; what the server has set is to stay while there is no deadline.
            let seconds = match patience.millis().div_ceil(1_000) {
                0 => "DEFAULT".to_owned(),
                seconds => seconds.to_string(),
            };
            // What does not fit is to be refused: else it is cut, and acknowledged.
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

struct Client;

impl Engine for Client {
    type Database = MySql;

    const DIALECT: &'static Dialect = &DIALECT;

    async fn fetch(connection: &mut MySqlConnection, query: &Query) -> Result<Vec<Cells>, sqlx::Error> {
        let rows = statement(query).fetch_all(connection).await?;
        rows.iter().map(|row| cells(row, &query.shape)).collect()
    }

    async fn execute(connection: &mut MySqlConnection, query: &Query) -> Result<u64, sqlx::Error> {
        Ok(statement(query).execute(connection).await?.rows_affected())
    }

    /// MySQL cannot return what it removes, so the rows are locked first. Nobody else can change them then, and
    /// rows that come in between are left alone.
    ///
    /// Who looks for rows to lock goes along an index, and misses one that moves from before to behind him because
    /// its id changes. So what is there at one moment is asked for before; if not all of that was found, there is
    /// another round.
    async fn take(
        connection: &mut MySqlConnection,
        query: &Query,
        delete: &str,
    ) -> Result<Vec<Cells>, sqlx::Error> {
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        let mut transaction = connection.begin().await?;
        let lock = Query { sql: format!("{} FOR UPDATE", query.sql).into(), ..query.clone() };
        let mut taken = Vec::new();
        loop {
            let seen = Self::fetch(&mut transaction, query).await?;
            let rows = Self::fetch(&mut transaction, &lock).await?;
            for chunk in rows.chunks(IDS_PER_STATEMENT) {
                let list = vec!["?"; chunk.len()].join(", ");
                let values = chunk.iter().flatten().flatten().cloned().collect();
                let delete = Query::once(format!("{delete}({list})"), values, &[]);
                Self::execute(&mut transaction, &delete).await?;
            }
            let found: HashSet<_> = rows.iter().filter_map(id).collect();
            taken.extend(rows);
            if seen.iter().filter_map(id).all(|id| found.contains(&id)) {
                break;
            }
        }
        transaction.commit().await?;
        Ok(taken)
    }
}

/// How many rows are removed by one statement of several.
const IDS_PER_STATEMENT: usize = 1_000;

fn statement(query: &Query) -> Statement<'_, MySql, MySqlArguments> {
    let statement = sqlx::query(AssertSqlSafe(query.sql.clone())).persistent(query.lasting);
    query.values.iter().fold(statement, |statement, value| match value {
        Parameter::Value(Value::Integer(integer)) => statement.bind(*integer),
        Parameter::Value(Value::Real(real)) => statement.bind(*real),
        Parameter::Value(Value::Text(text)) => statement.bind(text.as_str()),
        Parameter::Value(Value::Blob(blob)) => statement.bind(blob.as_slice()),
        Parameter::Null(ColumnType::Integer) => statement.bind(None::<i64>),
        Parameter::Null(ColumnType::Real) => statement.bind(None::<f64>),
        Parameter::Null(ColumnType::Text) => statement.bind(None::<&str>),
        Parameter::Null(ColumnType::Blob) => statement.bind(None::<&[u8]>),
    })
}

fn cells(row: &MySqlRow, shape: &[ColumnType]) -> Result<Cells, sqlx::Error> {
    let cell = |(n, ty): (usize, &ColumnType)| {
        Ok(match ty {
            ColumnType::Integer => row.try_get::<Option<_>, _>(n)?.map(Value::Integer),
            ColumnType::Real => row.try_get::<Option<_>, _>(n)?.map(Value::Real),
            ColumnType::Text => row.try_get::<Option<_>, _>(n)?.map(Value::Text),
            ColumnType::Blob => row.try_get::<Option<_>, _>(n)?.map(Value::Blob),
        })
    };
    shape.iter().enumerate().map(cell).collect()
}

/// Selects what is of the table that is asked for. Names of tables have case where the server's files do.
macro_rules! of_table {
    () => {
        "CROSS JOIN (SELECT CAST(? AS CHAR) AS subject) AS asked WHERE TABLE_SCHEMA = DATABASE() AND \
         IF(@@lower_case_table_names = 0, CAST(TABLE_NAME AS BINARY) = CAST(subject AS BINARY), \
         LOWER(TABLE_NAME) = LOWER(subject))"
    };
}

static DIALECT: Dialect = Dialect {
    quote: '`',
    name_length: (|name| name.chars().count(), 64),
    parameter: |_| "?".to_owned(),
    max_values: 65_535,
    // Even the `_bin` collations ignore spaces at the end.
    exact: |column| format!("CAST({column} AS BINARY)"),
    exact_hides_index: true,
    prune: |table, _, expiration, [time, limit]| {
        format!("DELETE FROM {table} WHERE {expiration} <= {time} ORDER BY {expiration} LIMIT {limit}")
    },
    take: |table, id, condition| format!("SELECT {id} FROM {table} WHERE {condition}"),
    trim: |table, id, created, condition, keep| {
        format!(
            "SELECT {id} FROM {table} WHERE {condition} ORDER BY {created} DESC, {id} DESC \
             LIMIT 18446744073709551615 OFFSET {keep}"
        )
    },
    // What the driver calls the code is the SQLSTATE, which is one for many errors.
    code: |error| {
        let error = error.try_downcast_ref::<MySqlDatabaseError>();
        error.map(|error| error.number().to_string()).unwrap_or_default()
    },
    meaning: |code| match code {
        "1062" => Meaning::Taken,
        "1213" => Meaning::Undone,
        "1053" | "1927" => Meaning::Broken,
        // Out of range, of another character set, too long, a constraint; the server quotes some of the values.
        "1264" | "1265" | "1292" | "1366" | "1406" | "3819" | "3988" | "4025" => Meaning::Refused,
        _ => Meaning::Other,
    },
    catalog: Catalog {
        version: "SELECT VERSION()",
        serves,
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
        names_have_case: false,
        column_type: |ty| match ty {
            ColumnType::Integer => "BIGINT",
            ColumnType::Real => "DOUBLE",
            ColumnType::Text => "MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            ColumnType::Blob => "MEDIUMBLOB",
        },
        key_type: "VARBINARY(32)",
        strict: Some("SELECT CAST(@@sql_mode LIKE '%STRICT%' AS SIGNED)"),
        holds,
        table_options: " ENGINE = InnoDB",
        create_index: |table, column, ty| {
            let length = match ty {
                // As much as an index of InnoDB holds, in bytes and in characters of four.
                ColumnType::Blob => "(1024)",
                ColumnType::Text => "(255)",
                ColumnType::Integer | ColumnType::Real => "",
            };
            format!("ALTER TABLE {table} ADD INDEX ({column}{length})")
        },
        lock: |number| vec![format!("SELECT CAST(GET_LOCK('databag {number}', 30) AS SIGNED)")],
        unlock: |number| vec![format!("SELECT RELEASE_LOCK('databag {number}')")],
    },
};

/// Tells whether a server is of a version that serves: `8.0.36`, `10.11.6-MariaDB`, `5.5.5-10.11.6-MariaDB`.
fn serves(version: &str) -> Result<(), &'static str> {
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

/// What a declared type holds. Text is in the character set that has all characters, or it would be changed.
fn holds(declared: &str, kind: Kind) -> Option<ColumnType> {
    let (ty, rest) = declared.split_at(declared.find(['(', ' ']).unwrap_or(declared.len()));
    let length = || rest.strip_prefix('(')?.strip_suffix(')')?.parse::<u32>().ok();
    match ty {
        // Up to 65,535 bytes, which is less than a session may have.
        "tinyblob" | "blob" | "varbinary" | "char" | "varchar" | "tinytext" | "text"
            if kind == Kind::State =>
        {
            None
        }
        "varbinary" if kind == Kind::Key && length() < Some(32) => None,
        "bigint" if !rest.contains("unsigned") => Some(ColumnType::Integer),
        "double" if !rest.contains("unsigned") => Some(ColumnType::Real),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            declared.ends_with(" utf8mb4").then_some(ColumnType::Text)
        }
        // `BINARY` pads with zeros: it fits ids alone, which have their length.
        "binary" => (kind == Kind::Key && length() == Some(32)).then_some(ColumnType::Blob),
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Some(ColumnType::Blob),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_whatever_its_version_looks_like() {
        for version in
            ["8.0.0", "8.4.3", "9.1.0-log", "10.5.1-MariaDB", "5.5.5-10.11.6-MariaDB-1", "11.4.2-MariaDB"]
        {
            assert_eq!(serves(version), Ok(()), "{version}");
        }
        for version in ["5.7.44", "10.4.34-MariaDB", "5.5.5-10.3.1-MariaDB", "5.5.68-MariaDB", ""] {
            assert!(serves(version).is_err(), "{version}");
        }
    }
    #[test]
    fn a_column_that_pads_or_is_too_short_serves_only_where_that_does_no_harm() {
        for (declared, kinds) in [
            ("binary(32)", &[Kind::Key][..]),
            ("binary(16)", &[]),
            ("varbinary(16)", &[Kind::Nullable]),
            ("varbinary(32)", &[Kind::Key, Kind::Nullable]),
            ("blob", &[Kind::Key, Kind::Nullable]),
            ("mediumblob", &[Kind::Key, Kind::State, Kind::Nullable]),
            ("varchar(20) utf8mb4", &[Kind::Key, Kind::Nullable]),
            ("longtext utf8mb4", &[Kind::Key, Kind::State, Kind::Nullable]),
        ] {
            for kind in [Kind::Key, Kind::State, Kind::Nullable] {
                assert_eq!(holds(declared, kind).is_some(), kinds.contains(&kind), "{declared}");
            }
        }
    }
}
