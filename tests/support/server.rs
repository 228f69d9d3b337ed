//! The servers that `tests/servers` has started: where they are, and how to do them harm.

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
