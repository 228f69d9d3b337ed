//! One program has the store, and pools of r2d2_sqlite and sqlx, on one file.

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use session_runtime::rusqlite::{Connection, version};
use session_runtime::{Databag, Keyring, Sessions, SqliteStore};
use sqlx::SqlitePool;

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    user_id: Option<i64>,
}

#[tokio::test]
async fn sessions_and_the_users_of_two_pools_are_in_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shop.db");
    let connection = Connection::open(&path).expect("opens");
    let store = SqliteStore::from_connection(connection).expect("takes it over");
    let sessions =
        Sessions::<Shop>::builder(store).keyring(Keyring::generate()).build().await.expect("builds");
    sessions.create(Shop { user_id: Some(7) }).await.expect("stored");

    let pool = Pool::builder().max_size(2).build(SqliteConnectionManager::file(&path)).expect("connects");
    // The pool's connections have the type that the store takes.
    let users: &Connection = &pool.get().expect("a connection");
    users
        .execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY); INSERT INTO users VALUES (7)")
        .expect("inserted");

    let url = format!("sqlite:{}", path.display());
    let pool = SqlitePool::connect(&url).await.expect("connects");
    let join = "SELECT count(*) FROM users JOIN sessions ON sessions.user_id = users.id";
    let count: i64 = sqlx::query_scalar(join).fetch_one(&pool).await.expect("counted");
    let linked: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&pool).await.expect("a version");
    assert_eq!((count, linked.as_str()), (1, version()), "both link one SQLite");
    pool.close().await;
    assert_eq!(sessions.of_user(7).await.expect("listed").len(), 1);
}
