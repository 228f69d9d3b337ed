//! The first program of the README: it is short, runs as pasted, and answers what the README shows.

use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Request;

#[allow(warnings, clippy::all, clippy::pedantic, reason = "the program is compiled as the README has it")]
mod program {
    include!(concat!(env!("OUT_DIR"), "/first_program.rs"));
}

const README: &str = include_str!("../README.md");

static LISTENER: Mutex<Option<TcpListener>> = Mutex::new(None);

/// The socket that the program listens at, in the place of its port.
fn listener() -> TcpListener {
    LISTENER.lock().expect("no thread has panicked").take().expect("the program listens once")
}

/// Returns the first block of a kind in the README.
fn block(kind: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{kind}\n")).expect("the README has such a block");
    rest.split("```").next().unwrap_or_default()
}

#[test]
fn the_first_program_is_short() {
    let lines = block("rust,no_run").lines().count();
    assert!((15..=25).contains(&lines), "{lines} lines");
    assert!(block("rust,no_run").contains(".development()"), "it runs on plain HTTP");
}

#[test]
fn the_first_program_answers_what_the_readme_shows() {
    // Calls wait in the queue of the socket until the program takes it.
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    *LISTENER.lock().expect("no thread has panicked") = Some(socket);
    thread::spawn(|| {
        if let Err(error) = program::main() {
            eprintln!("the first program: {error}");
        }
    });
    let agent: Agent = Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into();
    let (_, shown) = block("sh").split_once("$ curl ").expect("the README calls the program");
    let mut cookie: Option<String> = None;
    let calls: Vec<_> = shown.split("$ curl ").collect();
    assert!(calls.len() >= 2, "one call shows no session");
    for call in calls {
        let (command, output) = call.split_once('\n').expect("a call has an answer");
        let path = command.split_once("http://127.0.0.1:8080").expect("the address of the program").1;
        assert!(command.contains("--cookie-jar jar --cookie jar"), "curl keeps the cookie");
        let mut request = Request::get(format!("http://{address}{path}"));
        if let Some(cookie) = &cookie {
            request = request.header("cookie", cookie);
        }
        let mut answer = agent.run(request.body(()).expect("a request")).expect("200");
        if let Some(set) = answer.headers().get("set-cookie") {
            let set = set.to_str().expect("text");
            assert!(!set.contains("Secure"), "curl and browsers send it over plain HTTP: {set}");
            cookie = set.split(';').next().map(str::to_owned);
        }
        assert_eq!(answer.body_mut().read_to_string().expect("text"), output);
    }
}
