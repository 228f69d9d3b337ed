//! PostgreSQL: its SQL, and how its client is called.

use std::fmt;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPool, PgSslMode, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};

use super::connections::Connections;
use super::driver::{ErrorClass, ErrorDetails, Failure, Query, ServerCheck, SqlDriver, bind, cells};
use super::url::{self, TlsMode, UrlParameters};
use super::{SqlStore, delegate, failed};
use crate::clock::Timestamp;
use crate::store::sql::Cells;
use crate::store::sql::dialect::{Catalog, Dialect, MaxLength, Names};
use crate::store::{
    Directory, Filter, LimitedWrite, Outcome, Page, Row, RowVersions, Store, StoreError, Table, Update,
};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// Sessions in PostgreSQL 13 or later.
///
/// Any number of processes can share a table. A clone is cheap and shares the connections. A store is used within a
/// Tokio runtime, such as that of actix-web.
///
/// A load, an insert, a deletion or an update that finds its row costs one round trip on an open connection; an update
/// that does not find it costs one more, and so do the first use of a statement on a connection and an insert after a
/// second without calls. A log-in with `max_per_user` costs four: it takes an advisory lock of the user, and is one transaction.
/// Lists and removals by a filter cost more.
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
/// | text | no character NUL |
/// | text and bytes of the user and of an indexed field | 2,600 bytes |
/// | text in a column `VARCHAR(n)` of a table that exists | `n` characters |
///
/// A session with another value is refused: [`StoreError::is_refused`], with the column. A query by such a value finds
/// nothing.
///
/// # Examples
///
/// ```no_run
/// use session_runtime::PostgresStore;
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://shop:secret@db.example/shop?sslmode=verify-full").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore(SqlStore<Driver>);

impl PostgresStore {
    /// The most calls that a store makes at once, and the most connections that it keeps. A call whose connection does not
    /// answer can open a second one.
    pub const MAX_CONNECTIONS: u32 = 10;

    /// Connects to a server: `postgres://user:password@host:port/database`.
    ///
    /// A proxy must give each client a connection of its own, as `PgBouncer` does with `pool_mode = session`. The
    /// store prepares statements on its connections and sets `statement_timeout` on them; a proxy that hands a
    /// connection from client to client would give both to other programs. `?statement-cache-capacity=0` does not
    /// change that.
    ///
    /// # TLS
    ///
    /// | in the URL | encrypted | the server is |
    /// | --- | --- | --- |
    /// | `?sslmode=verify-full` | yes | the host of the URL, with a certificate under one of Mozilla's roots |
    /// | `?sslmode=verify-full&sslrootcert=ca.pem` | yes | the same, or with a certificate under a root in this file |
    /// | `?sslmode=require` | yes | not verified |
    /// | nothing | if the server offers it | not verified |
    /// | `?sslmode=disable` | no | not verified |
    ///
    /// Over a shared network, use `verify-full`. With less, an attacker on the network can pose as the server: read
    /// users, addresses and columns, return old rows, and receive the password. Sealed rows stay unreadable, and
    /// tokens are never sent. So the store logs a warning if the URL says nothing about TLS and the host is another
    /// machine.
    ///
    /// `&sslcert=` and `&sslkey=` name the files of a client certificate. A TLS parameter that would have no effect
    /// is an error: an unknown one, and roots without a mode that verifies.
    ///
    /// # Other parameters
    ///
    /// `options=-csearch_path=app` names the schema of the table, and `-c` sets any other setting of the connections but
    /// `statement_timeout` and `default_transaction_isolation`, which the store sets itself.
    /// `host`, `hostaddr`, `port`, `dbname`, `user`, `password`, `application_name` and `statement-cache-capacity` are
    /// taken too. Any other parameter is an error.
    ///
    /// # Errors
    ///
    /// If the URL is not one of PostgreSQL, or the server does not answer within 10 seconds, fails verification, or is too
    /// old. The cause says what went wrong.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = Self::options(url)?;
        let connections = Connections::own(options.disable_statement_logging(), Self::MAX_CONNECTIONS);
        let store = Self(SqlStore::new(connections));
        store.0.check_server().await.map_err(failed(CONNECT))?;
        Ok(store)
    }

    /// Reads a URL.
    pub(crate) fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
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
    /// Give the pool an `acquire_timeout` below the deadline of requests, and its connections a `lock_timeout` or
    /// `statement_timeout`: a statement that waits for a lock goes on after its caller has stopped waiting. The store
    /// changes no setting of the connections. What [`connect`](Self::connect) says of proxies applies here too,
    /// because statements are prepared.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or is too old.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use session_runtime::PostgresStore;
    /// use sqlx::postgres::PgPoolOptions;
    ///
    /// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = PgPoolOptions::new().max_connections(50).connect("postgres://localhost/shop").await?;
    /// let store = PostgresStore::from_pool(pool).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_pool(pool: PgPool) -> Result<Self, StoreError> {
        let store = Self(SqlStore::new(Connections::Pool(pool)));
        store.0.check_server().await.map_err(failed("take over the pool"))?;
        Ok(store)
    }
}

const CONNECT: &str = "connect to PostgreSQL";

const PARAMETERS: UrlParameters = UrlParameters {
    server: "PostgreSQL",
    schemes: &["postgres", "postgresql"],
    verified: "sslmode=verify-full",
    roots: &["sslrootcert", "ssl-root-cert", "ssl-ca"],
    tls: &["sslmode", "ssl-mode", "sslcert", "ssl-cert", "sslkey", "ssl-key"],
    others: &[
        "application_name",
        "dbname",
        "host",
        "hostaddr",
        "options",
        "password",
        "port",
        "statement-cache-capacity",
        "user",
    ],
    hint: ": a schema is named by `options=-csearch_path=NAME`, and other settings of the session so too",
};

fn tls_mode(options: &PgConnectOptions) -> TlsMode {
    match options.get_ssl_mode() {
        PgSslMode::VerifyFull | PgSslMode::VerifyCa => TlsMode::Verified,
        PgSslMode::Require | PgSslMode::Disable => TlsMode::Explicit,
        PgSslMode::Prefer | PgSslMode::Allow => TlsMode::Unspecified,
    }
}

delegate!(PostgresStore);

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

struct Driver;

impl SqlDriver for Driver {
    type Database = Postgres;

    const DIALECT: &'static Dialect = &DIALECT;

    const SERVER: &'static ServerCheck = &SERVER;

    const PRIMARY_KEY: Option<&'static str> = None;

    const BUSY: &'static [&'static str] = &["53300", "57P03"];

    async fn connect(
        options: &PgConnectOptions,
        statement_timeout: u64,
    ) -> Result<PgConnection, sqlx::Error> {
        let mut connection = options.connect().await?;
        // At another level the server would refuse writes at the same time that it can make one after the other.
        let set = format!(
            "SET statement_timeout = {statement_timeout}; SET default_transaction_isolation = 'read committed'"
        );
        connection.execute(AssertSqlSafe(set)).await?;
        Ok(connection)
    }

    async fn fetch(connection: &mut PgConnection, query: &Query<'_>) -> Result<Vec<Cells>, sqlx::Error> {
        let rows = bind(query).fetch_all(connection).await?;
        rows.iter().map(|row| cells(row, query.types)).collect()
    }

    async fn execute(connection: &mut PgConnection, query: &Query<'_>) -> Result<u64, sqlx::Error> {
        Ok(bind(query).execute(connection).await?.rows_affected())
    }

    async fn remove(
        connection: &mut PgConnection,
        query: &Query<'_>,
        _: &str,
    ) -> Result<Vec<Cells>, Failure> {
        Self::fetch(connection, query).await.map_err(Failure::of::<Self>)
    }

    async fn remove_within(
        connection: &mut PgConnection,
        query: &Query<'_>,
        _: &str,
    ) -> Result<Vec<Cells>, sqlx::Error> {
        Self::fetch(connection, query).await
    }

    fn begin_locked(number: i64) -> String {
        format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT 1::bigint FROM pg_advisory_xact_lock({number})")
    }

    fn end_locked(end: &str, _: i64) -> String {
        end.to_owned()
    }

    async fn run(connection: &mut PgConnection, statements: String) -> Result<bool, sqlx::Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(connection).await?;
        Ok(rows.last().is_some_and(|row| row.try_get::<i64, _>(0).is_ok_and(|taken| taken == 1)))
    }

    fn classify(error: &dyn DatabaseError) -> (ErrorClass, ErrorDetails) {
        let code = error.code().unwrap_or_default().into_owned();
        let error = error.try_downcast_ref::<PgDatabaseError>();
        let column = error.and_then(PgDatabaseError::column).map(str::to_owned);
        let column = column.or_else(|| column_of_key(error?.detail()?));
        let constraint = error.and_then(PgDatabaseError::constraint).map(str::to_owned);
        (class(&code), ErrorDetails { code, column, constraint })
    }
}

/// What an error of a code means: PostgreSQL, appendix A.
fn class(code: &str) -> ErrorClass {
    match code {
        "23505" => ErrorClass::Duplicate,
        "40001" | "40P01" => ErrorClass::RolledBack,
        // By an administrator or at its end, because the connection was idle, or while the server starts. A statement
        // that is stored already gets no such error of the server (`ProcessInterrupts` in tcop/postgres.c).
        "57P01" | "57P03" | "57P05" => ErrorClass::Terminated,
        // A crash, which can come after the statement.
        "57P02" => ErrorClass::ConnectionLost,
        "25006" => ErrorClass::ReadOnly,
        // A proxy has lost its server, as `PgBouncer` says it.
        code if code.starts_with("08") => ErrorClass::ConnectionLost,
        // Data exceptions, constraints, conditions of views, and limits, such as that of an index: the server quotes
        // the value, or the row.
        code if ["22", "23", "44", "54"].iter().any(|class| code.starts_with(class)) => {
            ErrorClass::ValueRefused
        }
        _ => ErrorClass::Other,
    }
}

/// Returns the column of a key, if it is one alone: `Key (user_id)=(7) already exists.`, in any language.
fn column_of_key(detail: &str) -> Option<String> {
    let (key, _) = detail.split_once('(')?.1.split_once(")=(")?;
    match key.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
        Some(quoted) => {
            let name = quoted.replace("\"\"", "\0");
            (!name.contains('"')).then(|| name.replace('\0', "\""))
        }
        None => (!key.contains([',', '(', ' ', '"'])).then(|| key.to_owned()),
    }
}

/// The longest indexed value, in bytes. An entry of an index may have 2,704 bytes, and is compressed first; so whether a
/// longer value fits depends on it. A limit that does not is one that an application can check.
const MAX_INDEXED: usize = 2_600;

const TOO_LONG_FOR_INDEX: &str = "more than 2600 bytes, because it is indexed";

static DIALECT: Dialect = Dialect {
    quote: '"',
    name_length: str::len,
    max_name_length: 63,
    parameter: |n| format!("${n}").into(),
    max_parameters: 65_535,
    insert: "INSERT INTO",
    update: "UPDATE",
    byte_order: ("", " COLLATE \"C\""),
    byte_order_is_blob: false,
    text_holds_nul: false,
    refuses: |value, is_indexed| match value {
        Value::Text(text) if text.contains('\0') => Some("text with the character NUL"),
        Value::Text(text) if is_indexed && text.len() > MAX_INDEXED => Some(TOO_LONG_FOR_INDEX),
        Value::Blob(blob) if is_indexed && blob.len() > MAX_INDEXED => Some(TOO_LONG_FOR_INDEX),
        _ => None,
    },
    // The server reads only this part of a value that it keeps outside of the row.
    bounded: |column, ty, max| match ty {
        ColumnType::Integer | ColumnType::Real => column.to_owned(),
        ColumnType::Text | ColumnType::Blob => format!("substr({column}, 1, {})", max + 1),
    },
    is_id: |id| format!("octet_length({id}) = 32"),
    // The array is evaluated once, a subquery of `IN` may be evaluated again. Two stores that prune at the same time
    // remove different rows.
    prune: |names, time, limit| {
        let Names { table, id, expiration, .. } = names;
        format!(
            "DELETE FROM {table} WHERE {id} = ANY(ARRAY(SELECT {id} FROM {table} WHERE {expiration} <= {time} \
             ORDER BY {expiration} LIMIT {limit} FOR UPDATE SKIP LOCKED))"
        )
    },
    // A statement that waited for a row which another one changed evaluates the condition again, with the row's new
    // id. A subquery that selects ids would return the old id. So only the condition selects the rows.
    remove: |names, condition| {
        let Names { table, id, .. } = names;
        format!("DELETE FROM {table} WHERE {condition} RETURNING {id}")
    },
    // The subquery selects the rows that stay, as they were when the statement began. So it knows them by the ids by which
    // the statement finds them.
    surplus: |names, condition, order, keep| {
        let Names { table, id, .. } = names;
        format!(
            "DELETE FROM {table} WHERE {condition} AND {id} <> ALL(ARRAY(SELECT {id} FROM {table} \
             WHERE {condition} ORDER BY {order} LIMIT {keep})) RETURNING {id}"
        )
    },
    catalog: Catalog {
        subject: |_, quoted| quoted.to_owned(),
        kind: "SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view' \
               WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'relation' END \
               FROM pg_class WHERE oid = to_regclass($1)",
        columns: "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull::int::bigint, \
                  (atthasdef OR attidentity <> '')::int::bigint, (attgenerated <> '')::int::bigint, \
                  (SELECT count(*) FROM pg_index WHERE indrelid = attrelid AND indisprimary \
                  AND attnum = ANY(indkey)) \
                  FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        indexes: "SELECT attname::text FROM pg_index JOIN pg_attribute \
                  ON attrelid = indrelid AND attnum = indkey[0] \
                  WHERE indrelid = to_regclass($1) AND indpred IS NULL AND indisvalid",
        is_same_name: |one, other| one == other,
        column_type: |ty| match ty {
            ColumnType::Integer => "BIGINT",
            ColumnType::Real => "DOUBLE PRECISION",
            // Compared as bytes, and so are the entries of its indexes.
            ColumnType::Text => "TEXT COLLATE \"C\"",
            ColumnType::Blob => "BYTEA",
        },
        key_type: "BYTEA",
        name_type: "TEXT",
        name_value: str::to_owned,
        holds: |declared, _| match declared {
            "bigint" => Some(ColumnType::Integer),
            "double precision" => Some(ColumnType::Real),
            "bytea" => Some(ColumnType::Blob),
            declared if declared == "text" || declared.starts_with("character varying") => {
                Some(ColumnType::Text)
            }
            _ => None,
        },
        max_length: |declared| {
            let length = declared.strip_prefix("character varying(")?.strip_suffix(')')?;
            length.parse().ok().map(MaxLength::Characters)
        },
        table_options: "",
        // PostgreSQL chooses a name that is free and short enough.
        create_index: |_, table, column, _| format!("CREATE INDEX ON {table} ({column})"),
    },
};

static SERVER: ServerCheck = ServerCheck {
    version: "SHOW server_version",
    supports,
    settings: "SELECT '', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'synchronous_commit is off: \
               when the server crashes, the last writes that it has acknowledged are lost, and sessions that were ended \
               may come back; set it to local or on' ELSE '' END",
    lock: |number| {
        vec![
            "BEGIN".to_owned(),
            // An index of a large table takes long to build. The wait for a lock has a limit.
            "SET LOCAL statement_timeout = 0".to_owned(),
            "SET LOCAL lock_timeout = '30s'".to_owned(),
            format!("SELECT 1::bigint FROM pg_advisory_xact_lock({number})"),
        ]
    },
    unlock: |_| vec!["COMMIT".to_owned()],
};

/// Checks a version: `17.2`, `15.18 (Debian 15.18-0+deb12u1)`, `17beta1`.
fn supports(version: &str) -> Result<(), &'static str> {
    let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
    if major.is_some_and(|major: u32| major >= 13) { Ok(()) } else { Err("PostgreSQL 13") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_means_what_the_manual_says() {
        for (code, expected) in [
            ("08P01", ErrorClass::ConnectionLost),
            ("08006", ErrorClass::ConnectionLost),
            ("57P01", ErrorClass::Terminated),
            ("57P02", ErrorClass::ConnectionLost),
            ("23505", ErrorClass::Duplicate),
            ("23503", ErrorClass::ValueRefused),
            ("54000", ErrorClass::ValueRefused),
            ("40001", ErrorClass::RolledBack),
            ("25006", ErrorClass::ReadOnly),
            ("57014", ErrorClass::Other),
        ] {
            assert_eq!(class(code), expected, "{code}");
        }
    }

    #[test]
    fn the_column_of_a_key_is_named_if_it_is_one_column() {
        for (detail, column) in [
            ("Key (user_id)=(hunter2) already exists.", Some("user_id")),
            ("Schl\u{fc}ssel \u{bb}(id)=(\\x00)\u{ab} existiert bereits.", Some("id")),
            ("Key (\"my \"\"id\"\"\")=(a)=(b) already exists.", Some("my \"id\"")),
            ("Key (tenant, user_id)=(a, b) already exists.", None),
            ("Key (\"a\", \"b\")=(a, b) already exists.", None),
            ("Key (lower(user_id))=(a) already exists.", None),
            ("Failing row contains (hunter2).", None),
        ] {
            assert_eq!(column_of_key(detail).as_deref(), column, "{detail}");
        }
    }

    #[test]
    fn an_old_server_is_refused_in_every_notation_of_its_version() {
        for version in ["13.0", "15.18 (Debian 15.18-0+deb12u1)", "17beta1", "18"] {
            assert_eq!(supports(version), Ok(()), "{version}");
        }
        for version in ["12.22", "9.6.24", "12.22 (Debian 12.22-1)", ""] {
            assert_eq!(supports(version), Err("PostgreSQL 13"), "{version}");
        }
    }
}
