//! axum with axum_session: `serve memory`, as it is by default; `serve database`, which reads the database on each
//! request; or `store database SECONDS`.

use std::env;
use std::error::Error;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use axum_session::{DatabasePool, SessionConfig, SessionLayer, SessionStore};
use axum_session_sqlx::{SessionSqlitePool, SessionSqliteSession};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

const TABLE: &str = "sessions";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = SqliteConnectOptions::new()
        .filename(bench_common::folder().join("sessions.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let pool = SessionSqlitePool::from(SqlitePool::connect_with(options).await?);
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(3) {
        Some(seconds) => measure(pool, seconds.parse()?).await,
        None => serve(pool, arguments[2] == "memory").await,
    }
}

async fn serve(pool: SessionSqlitePool, in_memory: bool) -> Result<(), Box<dyn Error>> {
    let config = SessionConfig::default().with_table_name(TABLE);
    let config = if in_memory { config } else { config.with_memory_lifetime(time::Duration::ZERO) };
    let store = SessionStore::new(Some(pool), config).await?;
    let app = Router::new()
        .route("/create", get(create))
        .route("/read", get(read))
        .route("/write", get(write))
        .layer(SessionLayer::new(store))
        .route("/plain", get(|| async { "0" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn create(session: SessionSqliteSession) -> &'static str {
    session.set("visits", 0_u64);
    session.set("name", bench_common::NAME);
    session.set("email", bench_common::EMAIL);
    session.set("cart", bench_common::cart());
    "0"
}

async fn read(session: SessionSqliteSession) -> Result<String, StatusCode> {
    let visits: Option<u64> = session.get("visits");
    visits.map(|visits| visits.to_string()).ok_or(StatusCode::NOT_FOUND)
}

async fn write(session: SessionSqliteSession) -> Result<String, StatusCode> {
    let visits = session.get::<u64>("visits").ok_or(StatusCode::NOT_FOUND)? + 1;
    session.set("visits", visits);
    Ok(visits.to_string())
}

/// The store takes sessions as text, and leaves encoding to the layer.
async fn measure(pool: SessionSqlitePool, seconds: f64) -> Result<(), Box<dyn Error>> {
    pool.initiate(TABLE).await?;
    let content = serde_json::json!({
        "name": bench_common::NAME, "email": bench_common::EMAIL, "cart": bench_common::cart(),
    });
    let content = content.to_string();
    let mut sessions = Vec::new();
    for n in 0..bench_common::STORED {
        let session = (format!("{n:036}"), content.clone(), 0);
        sessions.push(save(pool.clone(), session).await);
    }
    let load = {
        let pool = pool.clone();
        move |session| load(pool.clone(), session)
    };
    let sessions = bench_common::measure("load", seconds, sessions, load).await;
    bench_common::measure("save", seconds, sessions, move |session| save(pool.clone(), session)).await;
    Ok(())
}

/// The id, the content without the number, and the number.
type Stored = (String, String, u64);

async fn load(pool: SessionSqlitePool, session: Stored) -> Stored {
    pool.load(&session.0, TABLE).await.expect("the store answers").expect("the session is live");
    session
}

async fn save(pool: SessionSqlitePool, (id, content, visits): Stored) -> Stored {
    let changed = format!("{content}{visits}");
    pool.store(&id, &changed, i64::MAX, TABLE).await.expect("the store answers");
    (id, content, visits + 1)
}
