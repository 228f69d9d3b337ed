//! Requests that collide, through HTTP, on every store and its real server.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers`. `RACES` says how many log-outs race a
//! slow request on each store; 200 if it is not set.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::rt::time::sleep;
use actix_web::{App, Error, Responder, test, web};
use databag_tests::server::url;
use futures_util::future::{join, join_all};
use session_runtime::{
    Databag, Directory, Keyring, MemoryStore, MysqlStore, PostgresStore, RedisStore, Session,
    SessionMiddleware, SessionRef, Sessions, SqliteStore,
};

#[derive(Databag)]
#[databag(table = "races", cookie = "__Host-race")]
struct Race {
    #[databag(user_id)]
    user_id: Option<i64>,
    entries: BTreeMap<String, u32>,
    count: u64,
}

async fn log_in(mut session: Session<Race>) -> impl Responder {
    session.log_in(7);
    "in"
}

async fn log_out(mut session: Session<Race>) -> impl Responder {
    session.log_out();
    "out"
}

async fn slow(mut session: Session<Race>) -> impl Responder {
    session.entries_mut().insert("slow".to_owned(), 1);
    sleep(Duration::from_millis(2)).await;
    "slow"
}

async fn put(mut session: Session<Race>, key: web::Path<String>) -> impl Responder {
    session.entries_mut().insert(key.into_inner(), 1);
    sleep(Duration::from_millis(1)).await;
    "put"
}

async fn add(mut session: Session<Race>) -> Result<String, session_runtime::Error> {
    Ok(session
        .update(|race| {
            race.count += 1;
            race.count
        })
        .await?
        .to_string())
}

async fn show(session: SessionRef<Race>) -> impl Responder {
    format!("{:?} {} {}", session.user_id(), session.entries().len(), session.count())
}

/// Answers a request that may have a cookie; returns the status, the body, and the cookie that is set.
async fn ask<B: MessageBody>(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    path: &str,
    cookie: Option<&str>,
) -> (StatusCode, String, Option<String>) {
    let mut request = test::TestRequest::get().uri(path);
    if let Some(cookie) = cookie {
        request = request.insert_header((header::COOKIE, cookie.to_owned()));
    }
    let answer = test::call_service(app, request.to_request()).await;
    let status = answer.status();
    let set = answer.headers().get(header::SET_COOKIE).and_then(|set| set.to_str().ok());
    let set = set.and_then(|set| set.split(';').next()).map(str::to_owned);
    let body = test::read_body(answer).await;
    (status, String::from_utf8_lossy(&body).into_owned(), set)
}

async fn race<S: Directory + Clone>(store: S) {
    let sessions = Sessions::<Race>::builder(store)
        .keyring(Keyring::parse(&Keyring::generate()).expect("a fresh key"))
        .deadline(Duration::from_secs(20))
        .build()
        .await
        .expect("the server answers");
    sessions.clear().await.expect("the server answers");
    let app = test::init_service(
        App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/in", web::get().to(log_in))
            .route("/out", web::get().to(log_out))
            .route("/slow", web::get().to(slow))
            .route("/put/{key}", web::get().to(put))
            .route("/add", web::get().to(add))
            .route("/show", web::get().to(show)),
    )
    .await;

    let rounds = env::var("RACES").map_or(200, |rounds| rounds.parse().expect("RACES is a number"));
    for round in 0..rounds {
        let (_, _, cookie) = ask(&app, "/in", None).await;
        let cookie = cookie.expect("a log-in sets a cookie");
        let logged_out = async {
            // From before the slow request loads until after it is stored.
            sleep(Duration::from_millis(round % 5)).await;
            ask(&app, "/out", Some(&cookie)).await
        };
        let ((slow, ..), (out, ..)) = join(ask(&app, "/slow", Some(&cookie)), logged_out).await;
        assert_eq!(out, StatusCode::OK, "round {round}");
        assert!(slow == StatusCode::OK || slow == StatusCode::CONFLICT, "round {round}: {slow}");
        let (_, body, _) = ask(&app, "/show", Some(&cookie)).await;
        assert_eq!(body, "None 0 0", "the log-out of round {round} was not final");
    }
    assert_eq!(sessions.of_user(7).await.expect("the server answers").len(), 0);

    let (_, _, cookie) = ask(&app, "/in", None).await;
    let cookie = cookie.expect("a log-in sets a cookie");
    let puts = (0..50).map(|n| format!("/put/{n}")).collect::<Vec<_>>();
    for (status, ..) in join_all(puts.iter().map(|path| ask(&app, path, Some(&cookie)))).await {
        assert_eq!(status, StatusCode::OK);
    }
    for (status, ..) in join_all((0..20).map(|_| ask(&app, "/add", Some(&cookie)))).await {
        assert_eq!(status, StatusCode::OK);
    }
    let (_, body, _) = ask(&app, "/show", Some(&cookie)).await;
    assert_eq!(body, "Some(7) 50 20", "of 50 writers and 20 updates");
}

#[actix_web::test]
async fn requests_on_memory_do_not_lose_a_write_and_a_log_out_is_final() {
    race(MemoryStore::new()).await;
}

#[actix_web::test]
async fn requests_on_sqlite_do_not_lose_a_write_and_a_log_out_is_final() {
    race(SqliteStore::in_memory().expect("a store")).await;
}

#[actix_web::test]
async fn requests_on_postgres_do_not_lose_a_write_and_a_log_out_is_final() {
    race(PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers")).await;
}

#[actix_web::test]
async fn requests_on_mysql_do_not_lose_a_write_and_a_log_out_is_final() {
    race(MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers")).await;
}

#[actix_web::test]
async fn requests_on_redis_do_not_lose_a_write_and_a_log_out_is_final() {
    race(RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers")).await;
}

#[actix_web::test]
async fn requests_on_a_redis_cluster_do_not_lose_a_write_and_a_log_out_is_final() {
    race(RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("the cluster answers")).await;
}
