//! The servers that `tests/servers` has started: their addresses and their faults.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Returns a variable that `tests/servers` sets.
///
/// # Panics
///
/// If the variable is not set: a test without its server fails.
pub fn url(variable: &str) -> String {
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run this by `tests/servers cargo test ..`"))
}

/// Returns the first address in a URL.
///
/// # Panics
///
/// If the URL has no address.
pub fn address(url: &str) -> SocketAddr {
    addresses(url)[0]
}

/// Returns all addresses in a URL.
///
/// # Panics
///
/// If the URL has no address.
pub fn addresses(url: &str) -> Vec<SocketAddr> {
    let (_, rest) = url.split_once("://").expect("a scheme");
    let hosts = rest.rsplit('@').next().and_then(|rest| rest.split(['/', '?']).next());
    let hosts: Result<Vec<_>, _> = hosts.unwrap_or_default().split(',').map(str::parse).collect();
    hosts.unwrap_or_else(|_| panic!("{url} has no address"))
}

/// A server, by the name that `tests/servers` gave it.
#[derive(Clone, Copy, Debug)]
pub struct Server(pub &'static str);

impl Server {
    /// Finds the server at an address.
    ///
    /// # Panics
    ///
    /// If `tests/servers` has started none there.
    pub fn at(address: SocketAddr) -> Self {
        let all = ["postgres", "mysql", "redis", "master", "replica", "cluster-1", "cluster-2", "cluster-3"];
        let port = address.port().to_string();
        let listens = |server: &Self| {
            fs::read_to_string(server.file("run")).is_ok_and(|command| command.contains(&port))
        };
        all.map(Self).into_iter().find(listens).unwrap_or_else(|| panic!("no server has port {port}"))
    }

    /// Kills it, as a crash does, and waits until it has ended: its port and its memory are free then.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn kill(self) {
        let pid = self.pid();
        // A process that it starts while it is killed would keep it from starting again.
        self.stop(&pid);
        let processes = [children(&pid), vec![pid]].concat();
        send("KILL", &processes);
        for process in &processes {
            // Until it has been reaped: PostgreSQL takes a process that has ended for a running one before.
            self.wait_until(process, "", "end");
        }
    }

    /// Starts it again.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn restart(self) {
        // A shell starts it in the background and ends, as `tests/servers` does.
        let started = Command::new("sh").args(["-c", "\"$0\" &"]).arg(self.file("run")).status();
        assert!(started.is_ok_and(|status| status.success()), "{self:?} cannot be started");
    }

    /// Pauses it: it accepts connections and does not answer.
    ///
    /// # Panics
    ///
    /// If it does not stop.
    pub fn pause(self) {
        let pid = self.pid();
        self.stop(&pid);
        // It starts no more processes.
        for child in children(&pid) {
            self.stop(&child);
        }
    }

    /// Ends a pause.
    pub fn resume(self) {
        self.signal("CONT");
    }

    /// Stops a process: when `kill` returns, its threads may still answer.
    fn stop(self, pid: &str) {
        send("STOP", &[pid]);
        self.wait_until(pid, "TZX", "stop");
    }

    /// Waits until each thread of a process has one of these states, or has ended.
    fn wait_until(self, pid: &str, states: &str, what: &str) {
        let begun = Instant::now();
        while !has_state(pid, states) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{self:?} does not {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a signal to the server and to its processes for clients. The server comes first, so that it neither starts
    /// more processes nor ends the others itself.
    fn signal(self, name: &str) {
        let pid = self.pid();
        let children = children(&pid);
        assert!(send(name, &[&pid]), "{self:?} cannot be sent {name}");
        if !children.is_empty() {
            // A process may have ended already.
            send(name, &children);
        }
    }

    fn pid(self) -> String {
        fs::read_to_string(self.file("pid")).expect("it was started").trim().to_owned()
    }

    fn file(self, extension: &str) -> PathBuf {
        PathBuf::from(url("SERVERS")).join(format!("{}.{extension}", self.0))
    }
}

fn send(signal: &str, processes: &[impl AsRef<OsStr>]) -> bool {
    Command::new("kill")
        .arg(format!("-{signal}"))
        .args(processes)
        .status()
        .is_ok_and(|status| status.success())
}

fn children(pid: &str) -> Vec<String> {
    let listed = Command::new("ps").args(["-o", "pid=", "--ppid", pid]).output().expect("there is ps");
    String::from_utf8_lossy(&listed.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Returns whether each thread of a process has one of these states, or has ended. The state follows the name, which is in
/// parentheses.
fn has_state(pid: &str, states: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        state.is_none_or(|state| states.contains(state))
    })
}

/// Starts a proxy that replaces the text `real` by `replacement` in the answers of a server. So a real server reports an
/// old version.
///
/// # Panics
///
/// If the two texts differ in length: messages of the protocol state their length.
pub fn disguise(server: SocketAddr, real: &str, replacement: &str) -> SocketAddr {
    assert_eq!(real.len(), replacement.len(), "{real} cannot become {replacement}");
    let (real, replacement) = (real.to_owned(), replacement.to_owned());
    between(
        move || server,
        move |bytes| {
            replace(bytes, &real, &replacement);
            true
        },
    )
}

/// Starts a proxy that stops at the first message of a client that matches `is_last`. It forwards neither this message nor
/// a later one, and keeps the connection open, like a host that loses its power or its network.
pub fn silence(server: SocketAddr, is_last: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> SocketAddr {
    let on_request = move |bytes: &mut [u8]| {
        while is_last(bytes) {
            thread::park();
        }
        true
    };
    proxy(move || server, on_request, |_| true)
}

/// Starts a proxy that can change what clients send to a server. If `on_request` returns `false`, the proxy drops the message
/// and closes the connection. If `on_answer` does, it drops the answer.
pub fn intercept(
    server: SocketAddr,
    on_request: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
    on_answer: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    proxy(move || server, on_request, on_answer)
}

/// Replaces each occurrence of a text by another text of the same length.
pub fn replace(bytes: &mut [u8], real: &str, replacement: &str) {
    while let Some(at) = bytes.windows(real.len()).position(|window| window == real.as_bytes()) {
        bytes[at..at + replacement.len()].copy_from_slice(replacement.as_bytes());
    }
}

/// Starts a proxy that can change the answers of a server. It calls `server` for the address of each connection. If
/// `on_answer` returns `false`, the proxy drops the answer and closes the connection.
///
/// # Panics
///
/// If no port is free.
pub fn between(
    server: impl Fn() -> SocketAddr + Send + 'static,
    on_answer: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    proxy(server, |_| true, on_answer)
}

fn proxy(
    server: impl Fn() -> SocketAddr + Send + 'static,
    on_request: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
    on_answer: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let (on_request, on_answer) = (Arc::new(on_request), Arc::new(on_answer));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server())) else { return };
            let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
            let (on_request, on_answer) = (Arc::clone(&on_request), Arc::clone(&on_answer));
            thread::spawn(move || relay(from_client, server, |bytes| on_request(bytes)));
            thread::spawn(move || relay(from_server, client, |bytes| on_answer(bytes)));
        }
    });
    address
}

/// Forwards data until one side closes or `on_data` returns `false`.
fn relay(mut from: TcpStream, mut to: TcpStream, on_data: impl Fn(&mut [u8]) -> bool) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        if !on_data(&mut buffer[..read]) {
            from.shutdown(Shutdown::Both)?;
            return to.shutdown(Shutdown::Both);
        }
        to.write_all(&buffer[..read])?;
    }
}
