//! A real server: several workers, real connections, and clients that disconnect.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use databag_tests::{Call, Fault, Gate};
use futures_util::future::join_all;
use session_runtime::SessionMiddleware;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::{Shop, World, add, count, shop_with};

fn serve(world: &World) -> (ServerHandle, SocketAddr) {
    let sessions = world.sessions.clone();
    let server = HttpServer::new(move || {
        App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/count", web::post().to(count))
            .route("/add/{sku}", web::post().to(add))
    })
    .workers(2)
    .disable_signals()
    .bind("127.0.0.1:0")
    .expect("a free port");
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (handle, address)
}

async fn connect(address: SocketAddr, path: &str, cookie: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

/// Creates a session for the test and the clients of the server; returns its cookie.
async fn session(world: &World) -> (session_runtime::SessionId, String) {
    let (token, session) =
        world.sessions.create(<Shop as session_runtime::Databag>::defaults()).await.expect("stored");
    (session.id(), world.sessions.cookie(&token).stripped().to_string())
}

#[actix_web::test]
async fn parallel_requests_to_several_workers_are_all_counted() {
    let world = shop_with(|builder| builder.deadline(Duration::from_secs(20))).await;
    let (handle, address) = serve(&world);
    let (id, cookie) = session(&world).await;
    let answers = join_all((0..20).map(|_| async {
        let mut answer = String::new();
        connect(address, "/count", &cookie).await.read_to_string(&mut answer).await.expect("an answer");
        answer
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")), "{answers:?}");
    assert_eq!(world.sessions.get(id).await.expect("answers").expect("alive").count, 20);
    handle.stop(false).await;
}

#[actix_web::test]
async fn a_handlers_changes_are_stored_although_its_client_disconnects() {
    let world = shop_with(|builder| builder.deadline(Duration::from_secs(20))).await;
    let (handle, address) = serve(&world);
    let (id, cookie) = session(&world).await;
    let gate = Gate::default();
    world.watch.fail(Call::Update, Fault::Waits(gate.clone()));
    let client = connect(address, "/add/tea", &cookie).await;
    gate.arrival().await;
    drop(client);
    gate.open();
    for _ in 0..1_000 {
        if world.sessions.get(id).await.expect("answers").expect("alive").cart.contains_key("tea") {
            return handle.stop(false).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the changes of the handler were lost");
}
