//! Sends requests to the service in one thread, without sockets, for callgrind: `instructions STORE ROUTE REQUESTS`.
//!
//! The start costs instructions too: the difference between two numbers of requests is the cost of a request. See
//! `tests/instructions.rs`.

use std::env;
use std::error::Error;

use actix_web::http::header::{COOKIE, SET_COOKIE};
use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};
use actix_web::{App, web};
use databag_bench::{plain, routes, sessions};
use session_runtime::access::Backing;
use session_runtime::{Durability, MemoryStore, SessionMiddleware, SqliteStore};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, store, route, requests] = &arguments[..] else {
        return Err("usage: instructions STORE ROUTE REQUESTS".into());
    };
    let requests = requests.parse()?;
    actix_web::rt::System::new().block_on(async {
        match store.as_str() {
            "memory" => send(MemoryStore::new(), route, requests).await,
            "sqlite" => {
                let folder = bench_common::folder();
                let store = SqliteStore::open(folder.join("sessions.db"))?.durability(Durability::Normal);
                send(store, route, requests).await?;
                Ok(std::fs::remove_dir_all(folder)?)
            }
            other => Err(format!("there is no store `{other}`").into()),
        }
    })
}

async fn send<S: Backing>(store: S, route: &str, requests: u32) -> Result<(), Box<dyn Error>> {
    let sessions = sessions(store).await?;
    let app = App::new()
        .route("/plain", web::get().to(plain))
        .service(web::scope("").wrap(SessionMiddleware::new(sessions)).configure(routes));
    let service = init_service(app).await;
    let created = call_service(&service, TestRequest::get().uri("/create").to_request()).await;
    let cookie = created.headers().get(SET_COOKIE).ok_or("no session was created")?.to_str()?;
    let cookie = cookie.split(';').next().unwrap_or_default();
    let mut answer = web::Bytes::new();
    for _ in 0..requests {
        let request = TestRequest::get().uri(route).insert_header((COOKIE, cookie)).to_request();
        answer = call_and_read_body(&service, request).await;
    }
    let changes = matches!(route, "/write" | "/update");
    let expected = if changes { requests.to_string() } else { "0".to_owned() };
    if answer == expected { Ok(()) } else { Err(format!("the last answer was {answer:?}").into()) }
}
