//! A client of a real server, with one connection and a cookie jar.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// An answer of the server.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The values of all `Set-Cookie` headers.
    pub set_cookies: Vec<String>,
    /// The body.
    pub body: String,
}

/// The cookie of a browser; its tabs share it.
#[derive(Clone, Debug, Default)]
pub struct Jar(Rc<RefCell<Option<String>>>);

impl Jar {
    /// Makes a jar that holds a cookie, written `name=value`.
    pub fn of(cookie: String) -> Self {
        Self(Rc::new(RefCell::new(Some(cookie))))
    }

    /// Returns the cookie as `name=value`.
    pub fn cookie(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    fn keep(&self, set_cookie: &str) {
        let (pair, attributes) = set_cookie.split_once(';').unwrap_or((set_cookie, ""));
        let removed = attributes.split(';').any(|attribute| attribute.trim() == "Max-Age=0");
        *self.0.borrow_mut() = (!removed).then(|| pair.to_owned());
    }
}

/// A tab: it sends one request after another over one connection.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    jar: Jar,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Makes a client of the server at `address`.
    pub fn new(address: SocketAddr, jar: Jar) -> Self {
        Self { address, jar, connection: None }
    }

    /// Uses another jar from now on, over the same connection.
    pub fn use_jar(&mut self, jar: Jar) {
        self.jar = jar;
    }

    /// Sends a GET, and stores the cookie of its answer.
    ///
    /// # Panics
    ///
    /// If there is no answer within a minute.
    pub async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path).await
    }

    /// Sends a POST without a body, and stores the cookie of its answer.
    ///
    /// # Panics
    ///
    /// If there is no answer within a minute.
    pub async fn post(&mut self, path: &str) -> Reply {
        self.send("POST", path).await
    }

    async fn send(&mut self, method: &str, path: &str) -> Reply {
        let reply = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(method, path)).await;
        let reply = reply.unwrap_or_else(|_| panic!("{path} was not answered within {ANSWER_TIMEOUT:?}"));
        let reply = reply.unwrap_or_else(|error| panic!("{path} was not answered: {error}"));
        for cookie in &reply.set_cookies {
            self.jar.keep(cookie);
        }
        reply
    }

    async fn exchange(&mut self, method: &str, path: &str) -> io::Result<Reply> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            BufReader::new(stream)
        };
        let cookie = self.jar.cookie().map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}Content-Length: 0\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let reply = read(&mut connection).await?;
        self.connection = Some(connection);
        Ok(reply)
    }
}

async fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let malformed = |line: &str| io::Error::other(format!("a malformed answer: {line:?}"));
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut reply = Reply {
        status: status.ok_or_else(|| malformed(&line))?,
        set_cookies: Vec::new(),
        body: String::new(),
    };
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| malformed(value))?,
            "set-cookie" => reply.set_cookies.push(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    reply.body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(reply)
}
