//! The servers that `tests/servers` has started: where they are, and how to do them harm.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
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
    /// Ends it as a crash does.
    pub fn kill(self) {
        self.signal("KILL");
        // Its port is free when the last of its processes is gone.
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

    /// Lets it accept connections and never answer.
    pub fn pause(self) {
        self.signal("STOP");
    }

    /// Ends a pause.
    pub fn resume(self) {
        self.signal("CONT");
    }

    /// Sends a signal to the server and to the processes it has for its clients.
    ///
    /// The server comes first, so that it neither starts more nor ends the rest by itself.
    fn signal(self, name: &str) {
        let pid = fs::read_to_string(self.file("pid")).expect("it was started");
        let pid = pid.trim();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", pid]).output().expect("there is ps");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status();
        assert!(sent.is_ok_and(|status| status.success()), "{self:?} cannot be sent {name}");
        if let children @ [_, ..] = children.split_whitespace().collect::<Vec<_>>().as_slice() {
            // One of them may have ended by itself.
            let _ended = Command::new("kill").arg(format!("-{name}")).args(children).status();
        }
    }

    fn file(self, extension: &str) -> PathBuf {
        PathBuf::from(url("SERVERS")).join(format!("{}.{extension}", self.0))
    }
}

/// Opens a way to a server on which it says `told` wherever it says `real`; nothing else is changed. So a real server
/// can be one of an old version, which no machine has any more.
///
/// # Panics
///
/// If the two differ in length, which messages state.
pub fn disguise(server: SocketAddr, real: &str, told: &str) -> SocketAddr {
    assert_eq!(real.len(), told.len(), "{real} cannot become {told}");
    let (real, told) = (real.to_owned(), told.to_owned());
    way(
        server,
        |_| (),
        move |bytes| {
            while let Some(at) = bytes.windows(real.len()).position(|window| window == real.as_bytes()) {
                bytes[at..at + told.len()].copy_from_slice(told.as_bytes());
            }
        },
    )
}

/// Opens a way to a server that ends without a word, and stays open, when a client says something such. So does a
/// host that loses its power or its network.
pub fn silence(server: SocketAddr, is_last: impl Fn(&[u8]) -> bool + Clone + Send + 'static) -> SocketAddr {
    let from_client = move |bytes: &mut [u8]| {
        while is_last(bytes) {
            thread::park();
        }
    };
    way(server, from_client, |_| ())
}

fn way(
    server: SocketAddr,
    change_request: impl Fn(&mut [u8]) + Clone + Send + 'static,
    change_answer: impl Fn(&mut [u8]) + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { return };
            let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
            let (change_request, change_answer) = (change_request.clone(), change_answer.clone());
            thread::spawn(move || relay(from_client, server, change_request));
            thread::spawn(move || relay(from_server, client, change_answer));
        }
    });
    address
}

/// Passes on what is said, until one side ends.
fn relay(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        change(&mut buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
}
