//! A real server: several workers, real connections, and clients that disconnect.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use databag_tests::{Call, Fault, Gate};
use futures_util::future::join_all;
use session_runtime::{Session, SessionMiddleware};
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
    .bind_auto_h2c("127.0.0.1:0")
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

/// HTTP/2 allows a client to send each cookie in a field of its own (RFC 9113 §8.2.3).
#[actix_web::test]
async fn over_http2_the_cookie_is_found_in_any_of_several_fields() {
    let world = shop_with(|builder| builder).await;
    let (handle, address) = serve(&world);
    let (id, cookie) = session(&world).await;
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    actix_web::rt::spawn(connection);
    for (count, cookies) in [
        (1, &["a=b", &cookie, "c=d"][..]),
        (2, &[&cookie]),
        (3, &["a=b; c=d", &format!("e=f; {cookie}")]),
        // Twice: the visitor is anonymous, and gets a new session.
        (3, &[&cookie, &cookie]),
    ] {
        let request = http::Request::post(format!("http://{address}/count"));
        let request = cookies.iter().fold(request, |request, cookie| request.header("cookie", *cookie));
        let (answer, _) = client.send_request(request.body(()).expect("a request"), true).expect("sent");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.version(), http::Version::HTTP_2);
        assert!(answer.status().is_success(), "{cookies:?}: {}", answer.status());
        assert_eq!(
            world.sessions.get(id).await.expect("answers").expect("alive").count,
            count,
            "{cookies:?}"
        );
    }
    drop(client);
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

/// Sends a request with these headers through a Unix socket, on a connection of its own.
#[cfg(unix)]
async fn ask(socket: &std::path::Path, request: &str, headers: &[&str]) -> String {
    let mut stream = tokio::net::UnixStream::connect(socket).await.expect("the server listens");
    let headers = headers.join("\r\n");
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[cfg(unix)]
#[actix_web::test]
async fn a_proxy_behind_a_unix_socket_names_the_client_if_it_is_trusted() {
    for (proxies, ip) in [(&["unix:"][..], "Some(198.51.100.4)"), (&["10.0.0.0/8"], "None"), (&[], "None")] {
        let world = shop_with(|builder| builder.trusted_proxies(proxies)).await;
        let socket = world.folder.path().join("http.sock");
        let sessions = world.sessions.clone();
        let server = HttpServer::new(move || {
            App::new()
                .wrap(SessionMiddleware::new(sessions.clone()))
                .route(
                    "/ip",
                    web::get().to(async |s: Session<Shop>| format!("{:?} {}", s.ip_addr(), s.is_new())),
                )
                .route("/count", web::post().to(count))
        })
        .workers(1)
        .disable_signals()
        .bind_uds(&socket)
        .expect("a new path")
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);

        let home = "X-Forwarded-For: 6.6.6.6, 198.51.100.4";
        let begun = ask(&socket, "POST /count", &[home]).await;
        let cookie = begun.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a pair"));
        let seen = ask(&socket, "GET /ip", &[home, &cookie]).await;
        assert!(seen.ends_with(&format!("{ip} false")), "{proxies:?}: {seen}");
        let stolen = ask(&socket, "GET /ip", &["X-Forwarded-For: 198.51.100.4, 203.0.113.9", &cookie]).await;
        let (ip, is_new) = if proxies == ["unix:"] { ("Some(203.0.113.9)", true) } else { ("None", false) };
        assert!(stolen.ends_with(&format!("{ip} {is_new}")), "{proxies:?}: {stolen}");
        handle.stop(false).await;
    }
}

/// A client can reset its connection while it waits for a worker. The request is served all the same, and the connection
/// has no address then, as a Unix socket has none.
#[cfg(target_os = "linux")]
#[actix_web::test]
async fn a_tcp_client_that_has_gone_does_not_pass_for_a_unix_socket() {
    let world = shop_with(|builder| builder.trusted_proxies(["unix:"])).await;
    let (sessions, seen) = (world.sessions.clone(), Arc::new(Mutex::new(Vec::new())));
    let ((entered, in_worker), (release, released)) = (mpsc::channel(), mpsc::channel());
    let (released, noted) = (Arc::new(Mutex::new(released)), seen.clone());
    let server = HttpServer::new(move || {
        let (entered, released, noted) = (entered.clone(), released.clone(), noted.clone());
        let block = move || {
            // Blocks the only worker.
            entered.send(()).expect("the test waits");
            released.lock().expect("one at a time").recv().expect("the test releases it");
            async { "released" }
        };
        let note = move |request: actix_web::HttpRequest, session: Session<Shop>| {
            let peer = request.peer_addr();
            noted.lock().expect("one at a time").push((peer, session.ip_addr()));
            async { "noted" }
        };
        App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/block", web::post().to(block))
            .route("/note", web::post().to(note))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .expect("a free port");
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let _blocking = connect(address, "/block", "a=b").await;
    let in_worker = web::block(move || in_worker.recv()).await;
    in_worker.expect("it is not cancelled").expect("the worker is blocked");
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = "POST /note HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.100.4\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream.set_zero_linger().expect("settable");
    drop(stream);
    release.send(()).expect("the worker waits");
    for _ in 0..1_000 {
        let noted = seen.lock().expect("one at a time").pop();
        if let Some(seen) = noted {
            assert_eq!(seen, (None, None), "the peer, and the address of the session");
            return handle.stop(false).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the request was not served");
}
