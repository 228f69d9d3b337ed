//! The load generator: a route and the cookies of 1,000 sessions enter, requests per second and latencies leave.
//!
//! 32 connections that are kept alive. Each has sessions of its own, so no two requests meet in one session. Every answer
//! must be 200 with the number of changes that this session had, so no change is lost or only claimed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::net::TcpStream;

use crate::Result;

const SESSIONS: usize = 1_000;
const CONNECTIONS: usize = 32;

pub(crate) struct Load {
    pub(crate) requests: usize,
    pub(crate) per_second: f64,
    /// In milliseconds, as the other.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The sessions of one server, by connection.
pub(crate) struct Cookies(Vec<Vec<Session>>);

#[derive(Default)]
struct Session {
    /// All cookies, as the header has them.
    cookie: String,
    changes: u64,
}

impl Session {
    /// Does as a browser does with `Set-Cookie`.
    fn keep(&mut self, cookie: &str) {
        let pair = cookie.split(';').next().unwrap_or_default();
        let name = &pair[..=pair.find('=').unwrap_or_default()];
        let others = self.cookie.split("; ").filter(|other| !other.is_empty() && !other.starts_with(name));
        let is_removed = cookie.contains("Max-Age=0");
        let kept: Vec<&str> = others.chain(Some(pair).filter(|_| !is_removed)).collect();
        self.cookie = kept.join("; ");
    }
}

impl Cookies {
    pub(crate) async fn create(address: SocketAddr) -> Result<Self> {
        let mut connection = Connection::open(address).await?;
        let mut cookies: Vec<Vec<Session>> = (0..CONNECTIONS).map(|_| Vec::new()).collect();
        for n in 0..SESSIONS {
            let mut session = Session::default();
            connection.send("/create", &mut session).await?;
            if session.cookie.is_empty() {
                return Err("the server creates no session".into());
            }
            cookies[n % CONNECTIONS].push(session);
        }
        Ok(Self(cookies))
    }

    /// Reads every session once.
    pub(crate) async fn check(&mut self, address: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(address).await?;
        for session in self.0.iter_mut().flatten() {
            connection.send_and_check("/read", session).await?;
        }
        Ok(())
    }
}

/// Returns whether the server has this route.
pub(crate) async fn exists(address: SocketAddr, route: &str) -> Result<bool> {
    let mut connection = Connection::open(address).await?;
    Ok(connection.send(route, &mut Session::default()).await.is_ok())
}

pub(crate) async fn load(
    address: SocketAddr,
    route: &str,
    cookies: &mut Cookies,
    time: Duration,
) -> Result<Load> {
    let connections = try_join_all((0..CONNECTIONS).map(|_| Connection::open(address))).await?;
    let begun = Instant::now();
    let clients = connections
        .into_iter()
        .zip(&mut cookies.0)
        .map(|(connection, sessions)| client(connection, route, sessions, begun + time));
    let mut times = try_join_all(clients).await?.concat();
    let per_second = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1_000.0;
    Ok(Load { requests: times.len(), per_second, p50: at(0.5), p99: at(0.99) })
}

async fn client(
    mut connection: Connection,
    route: &str,
    sessions: &mut [Session],
    end: Instant,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut begun = Instant::now();
    for n in 0.. {
        if begun >= end {
            break;
        }
        let count = sessions.len();
        connection.send_and_check(route, &mut sessions[n % count]).await?;
        let done = Instant::now();
        times.push(done - begun);
        begun = done;
    }
    Ok(times)
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    async fn send_and_check(&mut self, route: &str, session: &mut Session) -> Result<()> {
        let expected = match route {
            "/plain" => 0,
            "/read" => session.changes,
            _ => session.changes + 1,
        };
        let answer = self.send(route, session).await?;
        if answer != expected {
            return Err(format!("{route} answers {answer} instead of {expected}").into());
        }
        if route != "/plain" {
            session.changes = expected;
        }
        Ok(())
    }

    /// Sends a request, and returns the number in the answer. A new cookie replaces that of the session.
    async fn send(&mut self, route: &str, session: &mut Session) -> Result<u64> {
        let request =
            format!("GET {route} HTTP/1.1\r\nhost: localhost\r\ncookie: {}\r\n\r\n", session.cookie);
        let mut rest = request.as_bytes();
        while !rest.is_empty() {
            match self.stream.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut filled = 0;
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut self.buffer[filled..]) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            let answer = str::from_utf8(&self.buffer[..filled])?;
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length: usize = headers(head, "content-length: ").next().ok_or("no length")?.parse()?;
            if body.len() < length {
                continue;
            }
            if !head.starts_with("HTTP/1.1 200") {
                return Err(format!("{route}: {answer}").into());
            }
            for cookie in headers(head, "set-cookie: ") {
                session.keep(cookie);
            }
            return Ok(body.parse()?);
        }
    }
}

fn headers<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    head.split("\r\n").filter_map(move |line| line.strip_prefix(name))
}
