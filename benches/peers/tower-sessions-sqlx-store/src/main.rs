//! axum with tower-sessions and tower-sessions-sqlx-store: `serve sqlite` or `store sqlite SECONDS`.

use std::collections::HashMap;
use std::env;
use std::error::Error;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tower_sessions::cookie::time::{Duration, OffsetDateTime};
use tower_sessions::session::{Id, Record};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};
use tower_sessions_sqlx_store::SqliteStore;
use tower_sessions_sqlx_store::sqlx::SqlitePool;
use tower_sessions_sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

type Answer<T> = Result<T, StatusCode>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = SqliteConnectOptions::new()
        .filename(bench_common::folder().join("sessions.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let store = SqliteStore::new(SqlitePool::connect_with(options).await?);
    store.migrate().await?;
    match env::args().nth(3) {
        Some(seconds) => measure(store, seconds.parse()?).await,
        None => serve(store).await,
    }
}

async fn serve(store: SqliteStore) -> Result<(), Box<dyn Error>> {
    let sessions = SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::minutes(30)));
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

async fn create(session: Session) -> Answer<&'static str> {
    session.insert("visits", 0_u64).await.map_err(failed)?;
    session.insert("name", bench_common::NAME).await.map_err(failed)?;
    session.insert("email", bench_common::EMAIL).await.map_err(failed)?;
    session.insert("cart", bench_common::cart()).await.map_err(failed)?;
    Ok("0")
}

async fn read(session: Session) -> Answer<String> {
    let visits: Option<u64> = session.get("visits").await.map_err(failed)?;
    visits.map(|visits| visits.to_string()).ok_or(StatusCode::NOT_FOUND)
}

async fn write(session: Session) -> Answer<String> {
    let visits: Option<u64> = session.get("visits").await.map_err(failed)?;
    let visits = visits.ok_or(StatusCode::NOT_FOUND)? + 1;
    session.insert("visits", visits).await.map_err(failed)?;
    Ok(visits.to_string())
}

fn failed(_: tower_sessions::session::Error) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn measure<S: SessionStore + Clone>(store: S, seconds: f64) -> Result<(), Box<dyn Error>> {
    let mut records = Vec::new();
    for _ in 0..bench_common::STORED {
        let data = HashMap::from([
            ("visits".to_owned(), 0.into()),
            ("name".to_owned(), bench_common::NAME.into()),
            ("email".to_owned(), bench_common::EMAIL.into()),
            ("cart".to_owned(), bench_common::cart().into_iter().collect()),
        ]);
        let expiry_date = OffsetDateTime::now_utc() + Duration::hours(1);
        let mut record = Record { id: Id::default(), data, expiry_date };
        store.create(&mut record).await?;
        records.push(record);
    }
    let load = {
        let store = store.clone();
        move |record| load(store.clone(), record)
    };
    let records = bench_common::measure("load", seconds, records, load).await;
    bench_common::measure("save", seconds, records, move |record| save(store.clone(), record)).await;
    Ok(())
}

async fn load<S: SessionStore>(store: S, record: Record) -> Record {
    store.load(&record.id).await.expect("the store answers").expect("the session is live")
}

async fn save<S: SessionStore>(store: S, mut record: Record) -> Record {
    let visits = record.data["visits"].as_u64().expect("it is a number");
    record.data.insert("visits".to_owned(), (visits + 1).into());
    store.save(&record).await.expect("the store answers");
    record
}
