//! Connections that outlive their request: a page that says at once that its user was signed out, told by server-sent events
//! and by a WebSocket. `cargo run -p examples --example live`, and open <http://localhost:8080> in two tabs.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt, web};
use actix_ws::{CloseCode, CloseReason, Message};
use futures_util::stream;
use session_runtime::{
    Csrf, Databag, Error, Keyring, LoggedIn, Session, SessionEnd, SessionMiddleware, Sessions, SqliteStore,
};
use tokio::time::timeout;

#[derive(Databag)]
struct Account {
    #[databag(user_id)]
    user: Option<String>,
}

/// How often an event stream says that it is alive. A write to a client that has gone ends its stream, and its watch.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Takes no `Session` into the body: that would be held after the handler has answered. Its id will do.
async fn events(session: LoggedIn<Account>, sessions: Sessions<Account>) -> Result<HttpResponse, Error> {
    let watch = sessions.watch(session.id()).await?;
    let events = stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        let (event, watch) = match timeout(KEEP_ALIVE, watch.ended()).await {
            Ok(end) => (format!("event: end\ndata: {}\n\n", farewell(end)), None),
            Err(_) => (": alive\n\n".to_owned(), Some(watch)),
        };
        Some((Ok::<_, Infallible>(web::Bytes::from(event)), watch))
    });
    let mut answer = HttpResponse::Ok();
    Ok(answer.content_type("text/event-stream").insert_header((CACHE_CONTROL, "no-store")).streaming(events))
}

/// Answers each message, which counts as a use of the session. No other site can open this socket with the visitor's cookie:
/// `SameSite` keeps the cookie from its handshake.
async fn socket(
    session: LoggedIn<Account>,
    sessions: Sessions<Account>,
    request: HttpRequest,
    body: web::Payload,
) -> actix_web::Result<HttpResponse> {
    let mut watch = sessions.watch(session.id()).await?;
    let (answer, mut socket, mut messages) = actix_ws::handle(&request, body)?;
    rt::spawn(async move {
        let reason = loop {
            let message = tokio::select! {
                // After the end of the session no message is served.
                biased;
                end = watch.ended() => {
                    break Some(CloseReason { code: CloseCode::Policy, description: Some(farewell(end).to_owned()) });
                }
                message = messages.recv() => message,
            };
            let sent = match message {
                Some(Ok(Message::Text(text))) => {
                    // `false`: the session is over, and so is the watch. A store that is down ends no connection.
                    if let Err(error) = sessions.touch(watch.id()).await {
                        tracing::warn!(%error, "could not extend a session");
                    }
                    socket.text(text).await
                }
                Some(Ok(Message::Ping(bytes))) => socket.pong(&bytes).await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => break None,
                Some(Ok(_)) => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        };
        // A client that has gone needs no farewell.
        socket.close(reason).await.ok();
    });
    Ok(answer)
}

fn farewell(end: SessionEnd) -> &'static str {
    match end {
        SessionEnd::Expired => "Your session has expired.",
        SessionEnd::UserChanged => "Someone else has signed in.",
        SessionEnd::Closed => "The server is stopping.",
        _ => "You have been signed out.",
    }
}

async fn page(session: Session<Account>) -> web::Html {
    let csrf = session.csrf_token();
    web::Html::new(match &session.user {
        None => format!(
            r#"<form method="post" action="/login"><input type="hidden" name="csrf_token" value="{csrf}">
            <button>Sign in as kim</button></form>"#
        ),
        Some(user) => format!(
            r#"<h1 id="state">Hello {user}</h1>
            <form method="post" action="/logout"><input type="hidden" name="csrf_token" value="{csrf}">
            <button>Sign out everywhere</button></form>
            <script>
                const say = (text) => document.getElementById("state").textContent = text;
                const events = new EventSource("/events");
                events.addEventListener("end", (event) => {{ events.close(); say(event.data); }});
                const socket = new WebSocket(location.origin.replace("http", "ws") + "/socket");
                socket.addEventListener("close", (event) => {{ if (event.code === 1008) say(event.reason); }});
                document.addEventListener("click", () => socket.send("the visitor is here"));
            </script>"#
        ),
    })
}

async fn log_in(mut session: Session<Account>) -> HttpResponse {
    session.log_in("kim");
    see_other()
}

/// Ends the sessions of all browsers; the pages that they show say so.
async fn log_out(session: LoggedIn<Account>, sessions: Sessions<Account>) -> Result<HttpResponse, Error> {
    sessions.revoke_user_except(session.user(), session.id()).await?;
    session.log_out();
    Ok(see_other())
}

fn see_other() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish()
}

fn serve(sessions: Sessions<Account>, address: &str) -> std::io::Result<(Server, Vec<std::net::SocketAddr>)> {
    let server = HttpServer::new(move || {
        App::new()
            .wrap(Csrf::<Account>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(page))
            .route("/login", web::post().to(log_in))
            .route("/logout", web::post().to(log_out))
            .route("/events", web::get().to(events))
            .route("/socket", web::get().to(socket))
    });
    let server = server.workers(2).shutdown_timeout(1).bind(address)?;
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::<Account>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    let (server, addresses) = serve(sessions, "127.0.0.1:8080")?;
    println!("open http://{}", addresses[0]);
    Ok(server.await?)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use session_runtime::Token;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// A server, and `Sessions` on the same database, as another process has.
    struct World {
        sessions: Sessions<Account>,
        elsewhere: Sessions<Account>,
        address: SocketAddr,
        _folder: tempfile::TempDir,
    }

    impl World {
        async fn open(period: Duration) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let keyring = Keyring::generate();
            let build = || {
                let store = SqliteStore::open(folder.path().join("live.db")).expect("a database");
                let builder = Sessions::<Account>::builder(store).keyring(keyring.clone()).development();
                builder.watch_period(period).build()
            };
            let (sessions, elsewhere) =
                (build().await.expect("good settings"), build().await.expect("good settings"));
            let (server, addresses) = serve(sessions.clone(), "127.0.0.1:0").expect("a free port");
            rt::spawn(server);
            Self { sessions, elsewhere, address: addresses[0], _folder: folder }
        }

        async fn kim(&self) -> Token {
            self.sessions.create(Account { user: Some("kim".to_owned()) }).await.expect("stored").0
        }

        async fn connect(&self, path: &str, token: &Token, headers: &str) -> Connection {
            let mut stream = TcpStream::connect(self.address).await.expect("it listens");
            let token = token.encode();
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: session={}\r\n{headers}\r\n",
                *token
            );
            stream.write_all(request.as_bytes()).await.expect("it is sent");
            Connection { stream, received: Vec::new() }
        }

        async fn events(&self, token: &Token) -> Connection {
            let mut events = self.connect("/events", token, "").await;
            events.until(b"text/event-stream").await;
            events
        }

        async fn socket(&self, token: &Token) -> Connection {
            let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let mut socket = self.connect("/socket", token, upgrade).await;
            socket.until(b"101 Switching Protocols").await;
            // RFC 6455 §5.2: a final text frame of 2 bytes, masked by zeros; its echo is not masked.
            socket.stream.write_all(b"\x81\x82\0\0\0\0hi").await.expect("it is sent");
            socket.until(b"\x81\x02hi").await;
            socket
        }
    }

    struct Connection {
        stream: TcpStream,
        received: Vec<u8>,
    }

    impl Connection {
        /// Reads until these bytes have come.
        async fn until(&mut self, bytes: &[u8]) {
            let read = async {
                while !self.received.windows(bytes.len()).any(|window| window == bytes) {
                    let count = self.stream.read_buf(&mut self.received).await.expect("it is open");
                    assert_ne!(count, 0, "closed: {}", String::from_utf8_lossy(&self.received));
                }
            };
            timeout(Duration::from_secs(20), read).await.expect("the bytes come");
        }
    }

    #[actix_web::test]
    async fn a_page_learns_at_once_that_its_user_was_signed_out() {
        // Longer than the test waits.
        let world = World::open(Duration::from_hours(1)).await;
        let (one, other) = (world.kim().await, world.kim().await);
        let open = [
            world.events(&one).await,
            world.socket(&one).await,
            world.events(&other).await,
            world.socket(&other).await,
        ];
        assert_eq!(world.sessions.revoke_user("kim").await.expect("the store answers"), 2);
        for mut connection in open {
            connection.until(b"You have been signed out.").await;
        }
    }

    #[actix_web::test]
    async fn a_page_learns_what_another_process_has_ended() {
        let world = World::open(Duration::from_millis(50)).await;
        let token = world.kim().await;
        let open = [world.events(&token).await, world.socket(&token).await];
        assert!(world.elsewhere.delete(token.session_id()).await.expect("the store answers"));
        for mut connection in open {
            connection.until(b"You have been signed out.").await;
        }
    }

    #[actix_web::test]
    async fn a_visitor_without_a_session_gets_no_stream() {
        let world = World::open(Duration::from_hours(1)).await;
        let token = world.kim().await;
        assert!(world.sessions.delete(token.session_id()).await.expect("the store answers"));
        for path in ["/events", "/socket"] {
            world.connect(path, &token, "").await.until(b"HTTP/1.1 401").await;
        }
    }
}
