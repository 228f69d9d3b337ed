//! A program as a process: a test starts its own binary again.

use std::io::{BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::{Client, Jar};

/// A server that runs, and prints `http://` and its address when it listens. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    address: SocketAddr,
    /// A program whose output is closed could not print any more.
    _output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts the server that an ignored test of this binary is, in a folder and with these variables; with `ADDRESS` it is
    /// told to take a free port. Waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(test: &str, folder: impl AsRef<Path>, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
        command.args(["--ignored", "--exact", test, "--nocapture"]).current_dir(folder).stdin(Stdio::null());
        command.env("ADDRESS", "127.0.0.1:0").envs(variables.iter().copied()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut printed = Vec::new();
        let address = loop {
            let mut byte = [0];
            if output.read(&mut byte).expect("its output can be read") == 0 {
                let exit = child.wait().expect("it can be waited for");
                panic!("{test} has ended with {exit}: {}", String::from_utf8_lossy(&printed));
            }
            printed.extend(byte);
            let line = String::from_utf8_lossy(&printed);
            // The line is complete when something follows the address.
            let rest = line.split_once("http://").map(|(_, rest)| rest);
            if let Some((address, _)) = rest.and_then(|rest| rest.split_once(char::is_whitespace)) {
                break address.parse().expect("an address");
            }
        };
        Self { child, address, _output: output }
    }

    /// Opens a tab of a browser, whose cookie is in this jar.
    pub fn tab(&self, jar: &Jar) -> Client {
        Client::new(self.address, jar.clone())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
