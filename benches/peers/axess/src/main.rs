//! axum with axess: `serve sqlite` or `store sqlite SECONDS`. Its sessions are encrypted, as its documentation asks.

use std::env;
use std::error::Error;
use std::time::Duration;

use axess::backends::sqlite::SessionStore as SqliteSessionStore;
use axess::session::SessionCrypto;
use axess::{AuthSession, ConditionalUpdate, SessionData, SessionId, SessionLayer, SessionStore as _};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

const TTL: Duration = Duration::from_secs(30 * 60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = SqliteConnectOptions::new()
        .filename(bench_common::folder().join("sessions.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let pool = SqlitePool::connect_with(options).await?;
    let store = SqliteSessionStore::new(pool, SessionCrypto::new(std::array::from_fn(|n| n as u8)));
    store.init_schema().await?;
    match env::args().nth(3) {
        Some(seconds) => measure(store, seconds.parse()?).await,
        None => serve(store).await,
    }
}

async fn serve(store: SqliteSessionStore) -> Result<(), Box<dyn Error>> {
    let sessions = SessionLayer::new(store, std::array::from_fn(|n| 255 - n as u8)).with_ttl(TTL);
    let app = Router::new()
        .route("/create", get(create))
        .route("/read", get(read))
        .route("/write", get(write))
        .layer(sessions)
        .route("/plain", get(|| async { "0" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn create(session: AuthSession) -> &'static str {
    let SessionData { custom, .. } = content();
    session.mutate_custom(|map| map.extend(custom.as_object().cloned().unwrap_or_default())).await;
    "0"
}

async fn read(session: AuthSession) -> Result<String, StatusCode> {
    let visits = session.get_custom("visits").await.ok_or(StatusCode::NOT_FOUND)?;
    Ok(visits.to_string())
}

async fn write(session: AuthSession) -> Result<String, StatusCode> {
    let visits = session.get_custom("visits").await.and_then(|visits| visits.as_u64());
    let visits = visits.ok_or(StatusCode::NOT_FOUND)? + 1;
    session.set_custom("visits", visits.into()).await;
    Ok(visits.to_string())
}

fn content() -> SessionData {
    let custom = serde_json::json!({
        "visits": 0, "name": bench_common::NAME, "email": bench_common::EMAIL, "cart": bench_common::cart(),
    });
    SessionData { custom, ..SessionData::default() }
}

type Stored = (SessionId, SessionData);

/// `save` is the compare-and-swap, which the layer uses for each change.
async fn measure(store: SqliteSessionStore, seconds: f64) -> Result<(), Box<dyn Error>> {
    let mut sessions = Vec::new();
    for n in 0..bench_common::STORED {
        let id: SessionId = format!("018f0000-0000-7000-8000-{n:012}").parse()?;
        store.save(&id, &content(), TTL).await?;
        sessions.push((id, content()));
    }
    let load = {
        let store = store.clone();
        move |session| load(store.clone(), session)
    };
    let sessions = bench_common::measure("load", seconds, sessions, load).await;
    bench_common::measure("save", seconds, sessions, move |session| save(store.clone(), session)).await;
    Ok(())
}

async fn load(store: SqliteSessionStore, (id, _): Stored) -> Stored {
    let data = store.load(&id).await.expect("the store answers").expect("the session is live");
    (id, data)
}

async fn save(store: SqliteSessionStore, (id, mut data): Stored) -> Stored {
    let visits = data.custom["visits"].as_u64().expect("it is a number");
    data.custom["visits"] = (visits + 1).into();
    data.revision += 1;
    let updated = store.update_if_revision(&id, data.revision - 1, &data, TTL).await;
    assert_eq!(updated.expect("the store answers"), ConditionalUpdate::Written);
    (id, data)
}
