//! Databag over HTTP, and at the store:
//!
//! ```text
//! server serve STORE            prints the port, and serves
//! server store STORE SECONDS    prints what `bench_common::measure` does
//! ```

use std::env;
use std::error::Error;
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use databag_bench::{Shop, plain, routes, sessions, shop};
use session_runtime::access::{Access, Backing, FindsById};
use session_runtime::{
    CookieStore, Durability, MemoryStore, PostgresStore, RedisStore, SessionMiddleware, Sessions, SqliteStore,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[1..] {
        ["serve", store] => actix_web::rt::System::new().block_on(serve_on(store)),
        ["store", store, seconds] => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(measure_on(store, seconds.parse()?))
        }
        _ => Err("usage: server serve STORE | server store STORE SECONDS".into()),
    }
}

async fn serve_on(store: &str) -> Result<()> {
    match store {
        "memory" => serve(MemoryStore::new()).await,
        "cookie" => serve(CookieStore).await,
        "redis" => serve(redis().await?).await,
        "redis-near-cache" => serve(redis().await?.near_cache(Duration::from_secs(5))).await,
        "postgres" => serve(PostgresStore::connect(&env::var("POSTGRES_URL")?).await?).await,
        _ => serve(sqlite(store)?).await,
    }
}

async fn measure_on(store: &str, seconds: f64) -> Result<()> {
    match store {
        "memory" => measure(MemoryStore::new(), seconds).await,
        _ => measure(sqlite(store)?, seconds).await,
    }
}

async fn redis() -> Result<RedisStore> {
    Ok(RedisStore::connect(&env::var("REDIS_URL")?).await?)
}

fn sqlite(durability: &str) -> Result<SqliteStore> {
    let durability = match durability {
        "sqlite-normal" => Durability::Normal,
        "sqlite-full" => Durability::Full,
        other => return Err(format!("there is no store `{other}`").into()),
    };
    Ok(SqliteStore::open(bench_common::folder().join("sessions.db"))?.durability(durability))
}

async fn serve<S: Backing>(store: S) -> Result<()> {
    let sessions = sessions(store).await?;
    let app = move || {
        App::new()
            .route("/plain", web::get().to(plain))
            .service(web::scope("").wrap(SessionMiddleware::new(sessions.clone())).configure(routes))
    };
    let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0")?;
    println!("{}", server.addrs()[0]);
    Ok(server.run().await?)
}

async fn measure<S>(store: S, seconds: f64) -> Result<()>
where
    S: Backing,
    S::Access: FindsById + Send + Sync,
{
    let sessions = sessions(store).await?;
    let mut tokens = Vec::new();
    for _ in 0..bench_common::STORED {
        let (token, snapshot) = sessions.create(shop()).await?;
        tokens.push((token, snapshot.id()));
    }
    let load = {
        let sessions = sessions.clone();
        move |session| load(sessions.clone(), session)
    };
    let stored = bench_common::measure("load", seconds, tokens, load).await;
    bench_common::measure("save", seconds, stored, move |session| save(sessions.clone(), session)).await;
    Ok(())
}

type Stored = (session_runtime::Token, session_runtime::SessionId);

async fn load<A: Access>(sessions: Sessions<Shop, A>, session: Stored) -> Stored {
    sessions.load(&session.0).await.expect("the store answers").expect("the session is live");
    session
}

async fn save<A: FindsById>(sessions: Sessions<Shop, A>, session: Stored) -> Stored {
    sessions.update(session.1, |shop| shop.visits += 1).await.expect("the store answers");
    session
}
