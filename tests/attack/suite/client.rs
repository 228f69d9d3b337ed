//! A client that sends bytes over a plain socket: what it sends need not be HTTP.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use session_runtime::{SessionId, Token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bags::{Bag, Shop};
use super::target::Target;

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// Returns all values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn set_cookies(&self) -> Vec<&str> {
        self.all("set-cookie")
    }

    /// Returns the session that the answer shows.
    pub(crate) fn session(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no session: {}", self.body))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let (head, body) = (String::from_utf8_lossy(&bytes[..at]), &bytes[at + 4..]);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Option<_>>()?;
        Some(Self { status, headers, body: String::from_utf8_lossy(body).into_owned() })
    }
}

/// Sends bytes over a connection of their own, and returns the answer; `None` if the server has closed it without one.
pub(crate) async fn exchange(server: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    const PATIENCE: Duration = Duration::from_mins(1);
    let exchange = async {
        let mut stream = TcpStream::connect(server).await.ok()?;
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Reply::parse(&answer)
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server is hanging")
}

/// Writes a request. The headers are lines without their ends.
pub(crate) fn request(method: &str, path: &str, headers: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let start = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let mut bytes = start.into_bytes();
    for line in headers.iter().copied().chain([length.as_bytes()]) {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A browser, or an attacker's program in the place of one.
pub(crate) struct Visitor<'a> {
    pub(crate) target: &'a Target,
    scope: &'static str,
    name: &'static str,
    cookie: RefCell<Option<String>>,
    headers: Vec<String>,
}

impl<'a> Visitor<'a> {
    pub(crate) fn new(target: &'a Target) -> Self {
        Self::of::<Shop>(target)
    }

    /// A visitor of a bag's pages.
    pub(crate) fn of<T: Bag>(target: &'a Target) -> Self {
        Self { target, scope: T::SCOPE, name: T::COOKIE, cookie: RefCell::new(None), headers: Vec::new() }
    }

    /// A visitor who sends this value.
    pub(crate) fn with(target: &'a Target, cookie: &str) -> Self {
        Self::new(target).holding(cookie)
    }

    pub(crate) fn holding(self, cookie: &str) -> Self {
        *self.cookie.borrow_mut() = Some(cookie.to_owned());
        self
    }

    /// The same visitor, who sends this header as well.
    pub(crate) fn sending(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    /// The same cookie at another application, or in a thief's browser.
    pub(crate) fn at<'b>(&self, target: &'b Target) -> Visitor<'b> {
        let Self { scope, name, cookie, headers, .. } = self;
        Visitor { target, scope, name, cookie: cookie.clone(), headers: headers.clone() }
    }

    pub(crate) fn cookie(&self) -> String {
        self.cookie.borrow().clone().expect("the visitor has a session")
    }

    pub(crate) fn has_cookie(&self) -> bool {
        self.cookie.borrow().is_some()
    }

    pub(crate) fn id(&self) -> SessionId {
        Token::parse(&self.cookie()).expect("a token").session_id()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, b"").await
    }

    pub(crate) async fn post(&self, path: &str) -> Reply {
        self.send("POST", path, b"").await
    }

    /// Sends a text to a route.
    pub(crate) async fn put(&self, path: &str, text: &str) -> Reply {
        self.send("POST", path, text.as_bytes()).await
    }

    /// Sends a request that has to succeed.
    pub(crate) async fn does(&self, path: &str, text: &str) -> Reply {
        let reply = self.put(path, text).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply
    }

    pub(crate) async fn read(&self) -> serde_json::Value {
        self.get("/read").await.session()
    }

    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let cookie = self.cookie.borrow().as_ref().map(|value| format!("Cookie: {}={value}", self.name));
        let lines: Vec<&[u8]> = self.headers.iter().chain(&cookie).map(String::as_bytes).collect();
        let bytes = request(method, &format!("{}{path}", self.scope), &lines, body);
        let reply = exchange(self.target.address, &bytes).await.expect("an answer");
        for set_cookie in reply.set_cookies() {
            self.keep(set_cookie);
        }
        reply
    }

    fn keep(&self, set_cookie: &str) {
        let (pair, attributes) = set_cookie.split_once(';').unwrap_or((set_cookie, ""));
        let (name, value) = pair.split_once('=').expect("a pair");
        if name != self.name || value == "of-the-handler" {
            return;
        }
        let is_removed = attributes.contains("Max-Age=0");
        *self.cookie.borrow_mut() = (!is_removed).then(|| value.to_owned());
        if !is_removed {
            self.target.note_secret(value);
        }
    }
}
