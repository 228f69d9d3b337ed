//! PostgreSQL: what its SQL is, and how its client is called.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, PgSslMode, Postgres,
};
use sqlx::query::Query as Statement;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::sql::tls::{self, Mode, Words};
use super::sql::{
    Catalog, Cells, Dialect, Engine, FRESH, Meaning, Parameter, Patience, Query, START_UP_PATIENCE, SqlStore,
    delegate,
};
use super::{Directory, Filter, Outcome, Page, Row, Store, StoreError, Table, Update};
use crate::clock::Timestamp;
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// Sessions in PostgreSQL 13 or later.
///
/// Any number of processes can share a table. Cloning is cheap, and the clones share their connections. A
/// store is used within a Tokio runtime, such as that of actix-web.
///
/// A call costs one round trip on a connection of the pool. While the server is away calls fail, at the
/// deadline of their sessions at the latest, and succeed again when it is back.
///
/// Text cannot hold the character NUL here: a session whose user or projected field has one is refused.
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
pub struct PostgresStore(SqlStore<Client>);

impl PostgresStore {
    /// The most connections a store opens.
    pub const MAX_CONNECTIONS: u32 = 10;

    /// Connects to a server: `postgres://user:password@host:port/database`.
    ///
    /// A proxy in between must give each client a connection of its own, as `PgBouncer` does by
    /// `pool_mode = session`. Statements are prepared on connections and a `statement_timeout` is set on them; where
    /// one is handed from client to client, both would end up with other programs. `?statement-cache-capacity=0`
    /// does not change that.
    ///
    /// # TLS
    ///
    /// | in the URL | encrypted | the server is |
    /// | --- | --- | --- |
    /// | `?sslmode=verify-full` | yes | the host of the URL, by a certificate that Mozilla's roots vouch for |
    /// | `?sslmode=verify-full&sslrootcert=ca.pem` | yes | the same, or one that the roots in this file vouch for |
    /// | `?sslmode=require` | yes | anyone |
    /// | nothing | if the server says that it can | anyone |
    /// | `?sslmode=disable` | no | anyone |
    ///
    /// Over a network that others use, ask for `verify-full`. With less, who can get in between can be the
    /// server: read users, addresses and columns, hand out old rows, and be told the password. Rows that are
    /// sealed stay unreadable, and tokens are never sent. So there is a warning in the log where the URL says
    /// nothing and the host is another machine.
    ///
    /// `&sslcert=` and `&sslkey=` name the files of a certificate of the client's. A parameter about TLS that
    /// would have no effect is refused: one that is misspelt, and roots without a mode that verifies.
    ///
    /// # Errors
    ///
    /// If the URL is none of PostgreSQL, the server does not answer, is not the one it should be, or is too old.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        const OPERATION: &str = "connect to PostgreSQL";
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
    /// Give it an `acquire_timeout` below your requests' patience, and `lock_timeout` or `statement_timeout`
    /// to its connections: a statement that waits for a lock goes on after its caller gave up. Nothing is set on
    /// them here; what [`connect`](Self::connect) says of proxies holds, since statements are prepared.
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
        let store = Self(SqlStore::new(pool, None));
        store.0.greet().await.map_err(|failure| StoreError::new("take over the pool", failure))?;
        Ok(store)
    }
}

const WORDS: Words = Words {
    server: "PostgreSQL",
    schemes: &["postgres", "postgresql"],
    verified: "sslmode=verify-full",
    roots: &["sslrootcert", "ssl-root-cert", "ssl-ca"],
    others: &["sslmode", "ssl-mode", "sslcert", "ssl-cert", "sslkey", "ssl-key"],
};

fn look(options: &PgConnectOptions) -> (Mode, String) {
    let mode = match options.get_ssl_mode() {
        PgSslMode::VerifyFull | PgSslMode::VerifyCa => Mode::Verified,
        PgSslMode::Require | PgSslMode::Disable => Mode::Chosen,
        PgSslMode::Prefer | PgSslMode::Allow => Mode::Open,
    };
    let socket = options.get_socket().map(|path| path.display().to_string());
    (mode, socket.unwrap_or_else(|| options.get_host().to_owned()))
}

fn pool(options: PgConnectOptions, patience: &Patience) -> PgPool {
    let patience = patience.clone();
    PgPoolOptions::new()
        .max_connections(PostgresStore::MAX_CONNECTIONS)
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
            let set = format!("SET statement_timeout = {}", patience.millis());
            Box::pin(async move { connection.execute(AssertSqlSafe(set)).await.map(drop) })
        })
        .connect_lazy_with(options)
}

delegate!(PostgresStore);

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

struct Client;

impl Engine for Client {
    type Database = Postgres;

    const DIALECT: &'static Dialect = &DIALECT;

    async fn fetch(connection: &mut PgConnection, query: &Query) -> Result<Vec<Cells>, sqlx::Error> {
        let rows = statement(query).fetch_all(connection).await?;
        rows.iter().map(|row| cells(row, &query.shape)).collect()
    }

    async fn execute(connection: &mut PgConnection, query: &Query) -> Result<u64, sqlx::Error> {
        Ok(statement(query).execute(connection).await?.rows_affected())
    }

    async fn take(connection: &mut PgConnection, query: &Query, _: &str) -> Result<Vec<Cells>, sqlx::Error> {
        Self::fetch(connection, query).await
    }
}

fn statement(query: &Query) -> Statement<'_, Postgres, PgArguments> {
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

fn cells(row: &PgRow, shape: &[ColumnType]) -> Result<Cells, sqlx::Error> {
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

static DIALECT: Dialect = Dialect {
    quote: '"',
    name_length: (str::len, 63),
    parameter: |n| format!("${n}"),
    max_values: 65_535,
    exact: |column| format!("{column} COLLATE \"C\""),
    exact_hides_index: false,
    // An array is made once, where `IN` may ask again; who prunes at the same time takes other rows.
    prune: |table, id, expiration, [time, limit]| {
        format!(
            "DELETE FROM {table} WHERE {id} = ANY(ARRAY(SELECT {id} FROM {table} WHERE {expiration} <= {time} \
             ORDER BY {expiration} LIMIT {limit} FOR UPDATE SKIP LOCKED))"
        )
    },
    // Who waits for a row that is being changed looks at the condition again, with the row's new id. So no
    // statement selects the ids of what is to go: what it sees is the table as it was, with the old id.
    take: |table, id, condition| format!("DELETE FROM {table} WHERE {condition} RETURNING {id}"),
    // The ids of what stays are those of rows that are locked, which keep them.
    trim: |table, id, created, condition, keep| {
        format!(
            "DELETE FROM {table} WHERE {condition} AND {id} <> ALL(ARRAY(SELECT {id} FROM {table} \
             WHERE {condition} ORDER BY {created} DESC, {id} DESC LIMIT {keep} FOR UPDATE)) RETURNING {id}"
        )
    },
    code: |error| error.code().unwrap_or_default().into_owned(),
    // PostgreSQL, appendix A.
    meaning: |code| match code {
        "23505" => Meaning::Taken,
        "40001" | "40P01" => Meaning::Undone,
        // Shut down, crashed, or starting.
        "57P01" | "57P02" | "57P03" => Meaning::Broken,
        // Of the value, a constraint, or a view's condition: the server quotes the value, or the row.
        code if ["22", "23", "44"].iter().any(|class| code.starts_with(class)) => Meaning::Refused,
        _ => Meaning::Other,
    },
    catalog: Catalog {
        version: "SHOW server_version",
        serves: |version| {
            let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
            if major.is_some_and(|major: u32| major >= 13) { Ok(()) } else { Err("PostgreSQL 13") }
        },
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
        names_have_case: true,
        column_type: |ty| match ty {
            ColumnType::Integer => "BIGINT",
            ColumnType::Real => "DOUBLE PRECISION",
            // Compared as bytes, and so are the entries of its indexes.
            ColumnType::Text => "TEXT COLLATE \"C\"",
            ColumnType::Blob => "BYTEA",
        },
        key_type: "BYTEA",
        strict: None,
        holds: |declared, _| match declared {
            "bigint" => Some(ColumnType::Integer),
            "double precision" => Some(ColumnType::Real),
            "bytea" => Some(ColumnType::Blob),
            declared if declared == "text" || declared.starts_with("character varying") => {
                Some(ColumnType::Text)
            }
            _ => None,
        },
        table_options: "",
        // Without a name it gets one that is free and short enough.
        create_index: |table, column, _| format!("CREATE INDEX ON {table} ({column})"),
        lock: |number| {
            vec![
                "BEGIN".to_owned(),
                // An index of a large table takes its time, and a lock may be waited for, but not for ever.
                "SET LOCAL statement_timeout = 0".to_owned(),
                "SET LOCAL lock_timeout = '30s'".to_owned(),
                format!("SELECT 1::bigint FROM pg_advisory_xact_lock({number})"),
            ]
        },
        unlock: |_| vec!["COMMIT".to_owned()],
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_whatever_its_version_looks_like() {
        let serves = DIALECT.catalog.serves;
        for version in ["13.0", "15.18 (Debian 15.18-0+deb12u1)", "17beta1", "18"] {
            assert_eq!(serves(version), Ok(()), "{version}");
        }
        for version in ["12.22", "9.6.24", "12.22 (Debian 12.22-1)", ""] {
            assert_eq!(serves(version), Err("PostgreSQL 13"), "{version}");
        }
    }
}
