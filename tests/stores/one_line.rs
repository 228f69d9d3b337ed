//! To change the store, change one line: the programs of the README and of an example run on every store.
//!
//! `tests/build.rs` writes the programs with that line changed. Run by
//! `tests/servers cargo test -p databag-tests --features servers --test one_line`. This test starts itself again as each
//! of the programs, so it has no test harness.
#![allow(missing_docs)]

use std::env;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::Request;

include!(concat!(env!("OUT_DIR"), "/one_line.rs"));

/// The program that this process is.
const PROGRAM: &str = "ONE_LINE_PROGRAM";

fn main() -> ExitCode {
    if let Ok(name) = env::var(PROGRAM) {
        let (_, program) =
            PROGRAMS.iter().find(|(known, _)| *known == name).expect("there is such a program");
        return match program() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}: {:?}", error.source().map(ToString::to_string));
                ExitCode::FAILURE
            }
        };
    }
    // `cargo test NAME` gives a filter, and `--list` is asked by runners.
    if env::args().any(|argument| argument == "--list") {
        for (name, _) in PROGRAMS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_asked = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let asked: Vec<&str> = PROGRAMS.iter().map(|(name, _)| *name).filter(|name| is_asked(name)).collect();
    for name in &asked {
        if name.starts_with("readme") {
            serves_a_visitor(name);
        } else {
            prints_its_cart(name);
        }
        println!("test {name} ... ok");
    }
    let filtered = PROGRAMS.len() - asked.len();
    println!(
        "\ntest result: ok. {} passed; 0 failed; 0 ignored; 0 measured; {filtered} filtered out",
        asked.len()
    );
    ExitCode::SUCCESS
}

fn command(name: &str, folder: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env::current_exe().expect("a test has a path"));
    command.env(PROGRAM, name).env("SQLITE_FILE", folder.path().join("sessions.db"));
    command
}

/// A server that is stopped when the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn serves_a_visitor(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let key = session_runtime::Keyring::generate_text();
    let mut server = command(name, &folder);
    server.env("ADDRESS", address.to_string()).env("SESSION_KEY", &*key);
    let _server = Server(server.spawn().expect("the program starts"));
    wait_for(address, name);
    let mut visitor = Visitor { address, cookie: None };
    for quantity in [2, 3] {
        let (status, _) = visitor.send("POST", "/cart", &format!("sku=tea&qty={quantity}"));
        assert_eq!(status, 303, "{name}");
    }
    let (_, cart) = visitor.send("GET", "/cart", "");
    assert!(cart.contains("\"tea\": 5"), "{name}: {cart}");
    // A user of its own: an earlier run has listed its users in the same table, under another key.
    let user = 1_000_000 + u64::from(address.port());
    assert_eq!(visitor.send("POST", &format!("/login/{user}"), "").0, 303, "{name}");
    let (status, devices) = visitor.send("GET", "/devices", "");
    assert_eq!((status, devices.lines().count()), (200, 1), "{name}: {devices}");
}

struct Visitor {
    address: SocketAddr,
    cookie: Option<String>,
}

impl Visitor {
    fn send(&mut self, method: &str, path: &str, form: &str) -> (u16, String) {
        let agent: Agent =
            Agent::config_builder().max_redirects(0).http_status_as_error(false).build().into();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let mut answer = agent.run(request.body(form.to_owned()).expect("a request")).expect("an answer");
        if let Some(set_cookie) = answer.headers().get("set-cookie") {
            let set_cookie = set_cookie.to_str().expect("text");
            self.cookie = set_cookie.split(';').next().map(str::to_owned);
        }
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }
}

fn prints_its_cart(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = command(name, &folder).stdout(Stdio::piped()).output().expect("the program runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("\"apple\": 3"), "{name}: {printed}");
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

fn wait_for(address: SocketAddr, name: &str) {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{name} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
