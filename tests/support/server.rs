//! The servers that `tests/servers` has started: their addresses, and faults of them.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

/// Returns a variable that `tests/servers` sets.
///
/// # Panics
///
/// If it is not set: a test without its server fails.
pub fn url(variable: &str) -> String {
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run this by `tests/servers cargo test ..`"))
}

/// Returns the address in a URL, the first of several.
///
/// # Panics
///
/// If it has none.
pub fn address(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("://").expect("a scheme");
    let host = rest.rsplit('@').next().and_then(|rest| rest.split(['/', ',', '?']).next());
    host.and_then(|host| host.parse().ok()).unwrap_or_else(|| panic!("{url} has no address"))
}

/// A server, by the name that `tests/servers` gave it.
#[derive(Clone, Copy, Debug)]
pub struct Server(pub &'static str);

impl Server {
    /// Kills it, as a crash does.
    pub fn kill(self) {
        self.signal("KILL");
        // Its port is free when its last process has ended.
        thread::sleep(Duration::from_millis(200));
    }

    /// Starts it again.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn restart(self) {
        // In the background of a shell that ends, as `tests/servers` started it.
        let started = Command::new("sh").args(["-c", "\"$0\" &"]).arg(self.file("run")).status();
        assert!(started.is_ok_and(|status| status.success()), "{self:?} cannot be started");
    }

    /// Pauses it: it accepts connections and does not answer.
    pub fn pause(self) {
        self.signal("STOP");
    }

    /// Ends a pause.
    pub fn resume(self) {
        self.signal("CONT");
    }

    /// Sends a signal to the server and to its processes for clients. The server comes first, so that it neither starts
    /// more processes nor ends the others itself.
    fn signal(self, name: &str) {
        let pid = fs::read_to_string(self.file("pid")).expect("it was started");
        let pid = pid.trim();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", pid]).output().expect("there is ps");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status();
        assert!(sent.is_ok_and(|status| status.success()), "{self:?} cannot be sent {name}");
        if let children @ [_, ..] = children.split_whitespace().collect::<Vec<_>>().as_slice() {
            // A process may have ended already.
            let _ended = Command::new("kill").arg(format!("-{name}")).args(children).status();
        }
    }

    fn file(self, extension: &str) -> PathBuf {
        PathBuf::from(url("SERVERS")).join(format!("{}.{extension}", self.0))
    }
}

/// Starts a proxy to a server that replaces the text `real` of its answers by `told`: a real server with an old version.
///
/// # Panics
///
/// If the two differ in length, which is part of the protocol.
pub fn disguise(server: SocketAddr, real: &str, told: &str) -> SocketAddr {
    assert_eq!(real.len(), told.len(), "{real} cannot become {told}");
    let (real, told) = (real.to_owned(), told.to_owned());
    between(
        move || server,
        move |bytes| {
            replace(bytes, &real, &told);
            true
        },
    )
}

/// Starts a proxy to a server that falls silent and stays open after a message of a client that matches: a host that loses
/// its power or its network.
pub fn silence(server: SocketAddr, is_last: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> SocketAddr {
    let say = move |bytes: &mut [u8]| {
        while is_last(bytes) {
            thread::park();
        }
        true
    };
    way(move || server, say, |_| true)
}

/// Replaces a text by another of the same length.
pub fn replace(bytes: &mut [u8], real: &str, told: &str) {
    while let Some(at) = bytes.windows(real.len()).position(|window| window == real.as_bytes()) {
        bytes[at..at + told.len()].copy_from_slice(told.as_bytes());
    }
}

/// Starts a proxy that asks for the server's address for each connection, and can change its answers. If `hear` returns
/// `false`, the answer is dropped and the connection closed.
///
/// # Panics
///
/// If there is no port.
pub fn between(
    server: impl Fn() -> SocketAddr + Send + 'static,
    hear: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    way(server, |_| true, hear)
}

fn way(
    server: impl Fn() -> SocketAddr + Send + 'static,
    say: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
    hear: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let (say, hear) = (Arc::new(say), Arc::new(hear));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server())) else { return };
            let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
            let (say, hear) = (Arc::clone(&say), Arc::clone(&hear));
            thread::spawn(move || relay(from_client, server, |bytes| say(bytes)));
            thread::spawn(move || relay(from_server, client, |bytes| hear(bytes)));
        }
    });
    address
}

/// Forwards data until one side closes.
fn relay(mut from: TcpStream, mut to: TcpStream, hear: impl Fn(&mut [u8]) -> bool) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        if !hear(&mut buffer[..read]) {
            from.shutdown(Shutdown::Both)?;
            return to.shutdown(Shutdown::Both);
        }
        to.write_all(&buffer[..read])?;
    }
}
