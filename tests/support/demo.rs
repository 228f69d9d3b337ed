//! The demo shop as a process, and its visitors.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response};

/// How long a shop may take to start or to stop.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The ids of the user `nobody` and of its group.
const NOBODY: u32 = 65_534;

/// A shop before its start, in a folder with its database, key and log.
///
/// It inherits no setting from the environment of the tests.
#[derive(Debug)]
pub struct Shop {
    command: Command,
    folder: PathBuf,
}

impl Shop {
    /// Prepares the program at `binary` to run in `folder` on a free port.
    pub fn new(binary: &str, folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref().to_owned();
        let mut command = Command::new(binary);
        command.current_dir(&folder).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name == "SESSION_KEY" || name == "RUST_LOG" || name.to_string_lossy().starts_with("SHOP_") {
                command.env_remove(name);
            }
        }
        command.env("SHOP_ADDR", "127.0.0.1:0");
        Self { command, folder }
    }

    /// Prepares the program at `binary` to be run by an ordinary user, even if root runs the tests: file permissions do not
    /// apply to root.
    ///
    /// That user owns the folder, its content, and a copy of the program: the built program may be in a folder that only
    /// root can read.
    ///
    /// # Panics
    ///
    /// If root cannot change the owner or copy the program.
    pub fn unprivileged(binary: &str, folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        let runs_as = std::fs::metadata("/proc/self").expect("there is this process").uid();
        if runs_as != 0 {
            return Self::new(binary, folder);
        }
        let copy = folder.join("program");
        if !copy.exists() {
            // Copied by another process: a program that is open for writing cannot be run, and a child that another thread
            // starts at this moment would inherit the open file.
            let copied = Command::new("cp").args([Path::new(binary), &copy]).status();
            assert!(copied.is_ok_and(|status| status.success()), "{binary} cannot be copied");
            let within = std::fs::read_dir(folder).expect("it can be listed");
            let within = within.map(|entry| entry.expect("it can be listed").path());
            for path in within.chain([folder.to_owned()]) {
                chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
            }
        }
        let mut shop = Self::new(copy.to_str().expect("a path in UTF-8"), folder);
        shop.command.uid(NOBODY).gid(NOBODY);
        shop
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(mut self) -> Running {
        let mut shop = self.spawn();
        let until = Instant::now() + TIMEOUT;
        loop {
            let printed = shop.printed();
            // The line is complete when text follows the address.
            if let Some((_, rest)) = printed.split_once("http://")
                && let Some((address, _)) = rest.split_once(char::is_whitespace)
            {
                shop.url = format!("http://{address}");
                // This line comes before the first request is served and before SIGTERM is handled.
                assert_eq!(Visitor::of(&shop).get("/plain").status, 200);
                return shop;
            }
            if let Some(exit) = shop.child.try_wait().expect("it can be waited for") {
                panic!("the shop has ended with {exit}: {printed}{}", self.log());
            }
            assert!(Instant::now() < until, "the shop does not start: {printed}{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a shop that must refuse its settings; returns its exit status and its stderr.
    ///
    /// # Panics
    ///
    /// If the shop starts.
    pub fn refuse(mut self) -> (ExitStatus, String) {
        let exit = self.spawn().wait();
        (exit.expect("it refuses to start"), self.log())
    }

    fn spawn(&mut self) -> Running {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let console = self.folder.join(format!("console.{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("log"));
        self.command.stdout(File::create(&console).expect("the folder takes files"));
        self.command.stderr(log.expect("the folder takes files"));
        Running { child: self.command.spawn().expect("the shop can be run"), url: String::new(), console }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// A shop that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    url: String,
    console: PathBuf,
}

impl Running {
    /// Returns its address: `http://127.0.0.1:` and a port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns what it has printed to stdout.
    ///
    /// # Panics
    ///
    /// If the file that it prints to is gone.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.console).expect("its output can be read")
    }

    /// Kills it with SIGKILL, as a crash does.
    ///
    /// # Panics
    ///
    /// If it has ended before.
    pub fn kill(mut self) {
        assert_eq!(self.child.try_wait().expect("it can be waited for"), None, "it has ended by itself");
        self.child.kill().expect("it runs");
        self.child.wait().expect("it can be waited for");
    }

    /// Ends it with SIGTERM, as an operator does, and waits for its exit.
    ///
    /// # Panics
    ///
    /// If it does not end, or ends with an error.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id]).status();
        assert!(sent.expect("there is a shell").success(), "the shop has ended by itself");
        let exit = self.wait().expect("the shop ends on SIGTERM");
        assert!(exit.success(), "the shop has ended with {exit}");
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + TIMEOUT;
        while Instant::now() < until {
            if let Some(exit) = self.child.try_wait().expect("it can be waited for") {
                return Some(exit);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A visitor with a browser that stores and sends the cookies.
#[derive(Clone, Debug)]
pub struct Visitor {
    agent: Agent,
    url: String,
    /// The session cookie, `name=value`, as it is sent.
    pub cookie: Option<String>,
    /// The cookie of a visitor without a session, as it is sent.
    pub csrf_cookie: Option<String>,
    /// The address that a proxy in between states.
    pub forwarded_for: Option<String>,
}

impl Visitor {
    /// Makes a new visitor of a shop.
    pub fn of(shop: &Running) -> Self {
        let config = Agent::config_builder();
        let config = config.http_status_as_error(false).max_redirects(0).timeout_global(Some(ANSWER_TIMEOUT));
        let agent = config.proxy(None).build().into();
        Self { agent, url: shop.url().to_owned(), cookie: None, csrf_cookie: None, forwarded_for: None }
    }

    /// Visits another shop, or the same shop at another address, with the same cookies.
    pub fn moves_to(&mut self, shop: &Running) {
        let Self { cookie, csrf_cookie, forwarded_for, .. } = self.clone();
        *self = Self { cookie, csrf_cookie, forwarded_for, ..Self::of(shop) };
    }

    /// Returns the secret that the cookie carries.
    ///
    /// # Panics
    ///
    /// If there is no cookie.
    pub fn token(&self) -> &str {
        let cookie = self.cookie.as_deref().expect("a cookie was set");
        cookie.split_once('=').expect("a cookie has a name").1
    }

    /// Opens a page.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "text/html", None).expect("the shop answers")
    }

    /// Sends a GET as an API client does.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn get_json(&mut self, path: &str) -> Answer {
        self.send("GET", path, "application/json", None).expect("the shop answers")
    }

    /// Sends a form as a browser does, with a new token.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn post(&mut self, path: &str, form: &str) -> Answer {
        let token = self.token_of_forms().expect("the shop answers");
        self.forge(path, &format!("{form}&csrf_token={token}"))
    }

    /// Sends a form as it is.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn forge(&mut self, path: &str, form: &str) -> Answer {
        self.send("POST", path, "text/html", Some(form)).expect("the shop answers")
    }

    /// Gets a token for the next form.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn token_of_forms(&mut self) -> Result<String, ureq::Error> {
        Ok(self.send("GET", "/api/csrf", "text/plain", None)?.body)
    }

    /// Sends a form as an API client does, and returns the session in the answer.
    ///
    /// # Panics
    ///
    /// If the answer is not a session.
    pub fn api(&mut self, path: &str, form: &str) -> Value {
        self.try_api(path, form).expect("the shop answers").json()
    }

    /// Sends a form as an API client does, to a shop that may have ended.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn try_api(&mut self, path: &str, form: &str) -> Result<Answer, ureq::Error> {
        let token = self.token_of_forms()?;
        self.send("POST", path, "application/json", Some(&format!("{form}&csrf_token={token}")))
    }

    /// Returns the visitor's session.
    ///
    /// # Panics
    ///
    /// If the answer is not a session.
    pub fn session(&mut self) -> Value {
        self.get("/api/session").json()
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        accept: &str,
        form: Option<&str>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("accept", accept)
            .header("user-agent", "Firefox/145.0 (Linux)");
        for cookie in [&self.cookie, &self.csrf_cookie].into_iter().flatten() {
            request = request.header("cookie", cookie);
        }
        if let Some(address) = &self.forwarded_for {
            request = request.header("x-forwarded-for", address);
        }
        let response = match form {
            Some(form) => {
                let request = request.header("content-type", "application/x-www-form-urlencoded");
                self.agent.run(request.body(form.to_owned())?)?
            }
            None => self.agent.run(request.body(())?)?,
        };
        let answer = Answer::read(response)?;
        for set in &answer.set_cookie {
            let (pair, attributes) = set.split_once(';').unwrap_or((set, ""));
            let removed = attributes.split(';').any(|attribute| attribute.trim() == "Max-Age=0");
            let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
            let cookie = if name.ends_with("-csrf") { &mut self.csrf_cookie } else { &mut self.cookie };
            *cookie = (!removed).then(|| pair.to_owned());
        }
        Ok(answer)
    }
}

/// An answer of the shop.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The `Location`, where there is one.
    pub location: Option<String>,
    /// The `Retry-After`, where there is one.
    pub retry_after: Option<String>,
    /// The values of all `Set-Cookie` headers.
    pub set_cookie: Vec<String>,
    /// The body.
    pub body: String,
}

impl Answer {
    fn read(mut response: Response<ureq::Body>) -> Result<Self, ureq::Error> {
        let headers = response.headers();
        let texts = |name| headers.get_all(name).iter().map(|value| value.to_str().expect("text").to_owned());
        let [location, retry_after] = ["location", "retry-after"].map(|name| texts(name).next());
        let set_cookie = texts("set-cookie").collect();
        let body = response.body_mut().read_to_string()?;
        Ok(Self { status: response.status().as_u16(), location, retry_after, set_cookie, body })
    }

    /// Returns the JSON of an answer with status 200.
    ///
    /// # Panics
    ///
    /// If the status is not 200, or the body is not JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}
