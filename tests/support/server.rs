//! The servers that `tests/servers` has started: where they are, and how to do them harm.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs, thread};
use std::time::Duration;

/// Returns a variable that `tests/servers` sets.
///
/// # Panics
///
/// If it is not set: a test without its server fails.
pub fn url(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run this by `tests/servers cargo test ..`"))
}

/// A server, by the name that `tests/servers` gave it.
#[derive(Clone, Copy, Debug)]
pub struct Server(pub &'static str);

impl Server {
    /// Ends it as a crash does.
    pub fn kill(self) {
        self.signal("KILL");
        thread::sleep(Duration::from_millis(200));
    }

    /// Starts it again.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn restart(self) {
        let run = self.file("run");
        Command::new(run).stdin(Stdio::null()).spawn().expect("it was started before");
    }

    /// Lets it accept connections and never answer.
    pub fn pause(self) {
        self.signal("STOP");
    }

    /// Ends a pause.
    pub fn resume(self) {
        self.signal("CONT");
    }

    fn signal(self, name: &str) {
        let pid = fs::read_to_string(self.file("pid")).expect("it was started");
        let status = Command::new("kill").args([&format!("-{name}"), pid.trim()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{self:?} cannot be sent {name}");
    }

    fn file(self, extension: &str) -> PathBuf {
        PathBuf::from(url("SERVERS")).join(format!("{}.{extension}", self.0))
    }
}
