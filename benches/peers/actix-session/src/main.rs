//! actix-web with actix-session: `serve redis` or `serve cookie`.

use std::env;
use std::error::Error;

use actix_session::storage::{CookieSessionStore, RedisSessionStore, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::{App, HttpServer, web};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(2).as_deref() {
        Some("redis") => {
            let store = RedisSessionStore::new(env::var("REDIS_URL")?).await?;
            serve(move || store.clone()).await
        }
        _ => serve(CookieSessionStore::default).await,
    }
}

async fn serve<S: SessionStore + 'static>(
    store: impl Fn() -> S + Clone + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let key = Key::generate();
    let app = move || {
        let sessions = SessionMiddleware::new(store(), key.clone());
        App::new().route("/plain", web::get().to(plain)).service(
            web::scope("")
                .wrap(sessions)
                .route("/create", web::get().to(create))
                .route("/read", web::get().to(read))
                .route("/write", web::get().to(write)),
        )
    };
    let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0")?;
    println!("{}", server.addrs()[0]);
    Ok(server.run().await?)
}

async fn plain() -> &'static str {
    "0"
}

async fn create(session: Session) -> Result<&'static str, Box<dyn Error>> {
    session.insert("visits", 0_u64)?;
    session.insert("name", bench_common::NAME)?;
    session.insert("email", bench_common::EMAIL)?;
    session.insert("cart", bench_common::cart())?;
    Ok("0")
}

async fn read(session: Session) -> Result<String, Box<dyn Error>> {
    Ok(session.get::<u64>("visits")?.ok_or("no session")?.to_string())
}

async fn write(session: Session) -> Result<String, Box<dyn Error>> {
    let visits = session.get::<u64>("visits")?.ok_or("no session")? + 1;
    session.insert("visits", visits)?;
    Ok(visits.to_string())
}
