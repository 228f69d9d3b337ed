//! The SQL for operators runs on PostgreSQL and MariaDB. Run by `tests/servers cargo test -p databag-tests --features servers
//! --test documents_servers`.

use std::env;
use std::time::{Duration, SystemTime};

use session_runtime::{AnyStore, Databag as _, Keyring, Sessions};
use sqlx::AssertSqlSafe;

use self::sql::{Shop, statements};

mod sql;

macro_rules! runs {
    ($test:ident, $pool:ty, $url:literal, $section:literal) => {
        #[tokio::test]
        async fn $test() {
            let url = env::var($url).expect("tests/servers names the server");
            let raw = <$pool>::connect(&url).await.expect("the server answers");
            let table = Shop::SCHEMA.table;
            let drop = AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}"));
            sqlx::query(drop).execute(&raw).await.expect("an earlier run is over");
            let key = Keyring::generate();
            let build = async || {
                let store = AnyStore::connect(&url).await.expect("the server answers");
                Sessions::<Shop>::builder(store).keyring(key.clone())
            };
            let sessions = build().await.build().await.expect("good settings");
            let long_ago = || SystemTime::now() - Duration::from_hours(24);
            let earlier = build().await.clock(long_ago).build().await.expect("good settings");
            let shop = |user_id| Shop { user_id, tenant: Some("acme".to_owned()) };
            let (_, one) = sessions.create(shop(Some(8))).await.expect("stored");
            sessions.create(shop(Some(7))).await.expect("stored");
            earlier.create(shop(None)).await.expect("stored");
            sessions.create(shop(None)).await.expect("stored");

            let (reads, deletions) = statements($section, one.id());
            assert_eq!((reads.len(), deletions.len()), (6, 4));
            for sql in &reads {
                let rows = sqlx::query(AssertSqlSafe(sql.clone())).fetch_all(&raw).await;
                let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
                assert!(!rows.is_empty(), "{sql}");
            }
            let of_the_log = sqlx::query_scalar(AssertSqlSafe(reads[2].clone())).fetch_one(&raw).await;
            let of_the_log: String = of_the_log.expect("a row");
            assert_eq!(of_the_log, one.id().to_string(), "the session of a line in the log");
            for sql in &deletions {
                let done = sqlx::query(AssertSqlSafe(sql.clone())).execute(&raw).await;
                let done = done.unwrap_or_else(|error| panic!("{sql}: {error}"));
                assert_eq!(done.rows_affected(), 1, "{sql}");
            }
            assert_eq!(sessions.count_all().await.expect("counted"), 0);
            sqlx::query(AssertSqlSafe(format!("DROP TABLE {table}"))).execute(&raw).await.expect("dropped");
        }
    };
}

runs!(the_sql_for_operators_runs_on_postgresql, sqlx::PgPool, "POSTGRES_URL", "PostgreSQL");
runs!(the_sql_for_operators_runs_on_mariadb, sqlx::MySqlPool, "MYSQL_URL", "MySQL and MariaDB");
