//! A real browser: Chromium, driven over WebDriver (W3C), and through it over the protocol of its developer tools.
//!
//! `tests/run` installs it. The few calls that tests need are JSON over HTTP, so they need no client library.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

/// How long a page may take, on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// What the id of an element is called (WebDriver, §12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A `chromedriver`. It ends when this is dropped, and its browsers with it.
#[derive(Debug)]
pub struct Driver {
    group: Group,
    /// It ends if it cannot print.
    _console: BufReader<ChildStdout>,
    agent: Agent,
    url: String,
}

impl Driver {
    /// Starts one on a free port.
    ///
    /// # Panics
    ///
    /// If it does not start: a test without its browser fails.
    pub fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let started = command.process_group(0).spawn();
        let mut group = Group(started.unwrap_or_else(|error| {
            panic!("chromedriver: {error}; `apt-get install chromium chromium-driver`")
        }));
        let mut console = BufReader::new(group.0.stdout.take().expect("it is piped"));
        let port = console.by_ref().lines().find_map(|line| {
            let line = line.ok()?;
            Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned())
        });
        let url = format!("http://127.0.0.1:{}", port.expect("chromedriver says its port"));
        let config = Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = config.timeout_global(Some(TIMEOUT)).build().into();
        Self { group, _console: console, agent, url }
    }

    /// Opens a browser with its profile in a folder.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn open(&self, profile: &Path, arguments: &[&str]) -> Chromium<'_> {
        let profile = format!("--user-data-dir={}", profile.display());
        // Root needs `--no-sandbox`; the pages are our own. The others keep it from talking to anybody else.
        let mut all = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // As on a phone. A picture of a whole page has none either.
            "--hide-scrollbars",
            &profile,
        ];
        all.extend(arguments);
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": all}}}});
        let session = self.send("POST", "/session", Some(&wanted)).expect("the browser starts");
        let id = session["sessionId"].as_str().expect("an id");
        Chromium { driver: self, path: format!("/session/{id}") }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body.to_string());
                self.agent.run(request.map_err(|error| error.to_string())?)
            }
            None => self.agent.run(request.body(()).map_err(|error| error.to_string())?),
        };
        let mut answer = answer.map_err(|error| format!("{method} {path}: {error}"))?;
        // Screenshots are larger than the limit that `read_to_string` has.
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string();
        let text = text.map_err(|error| format!("{method} {path}: {error}"))?;
        let mut value: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if answer.status().is_success() {
            Ok(value["value"].take())
        } else {
            Err(format!("{method} {path}: {}", value["value"]["message"]))
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Ends what a browser that was dropped has left.
        let _ = self.send("GET", "/shutdown", None);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && matches!(self.group.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process that leads a group. The group ends when this is dropped: a driver that is killed leaves its browsers in it.
#[derive(Debug)]
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A browser that runs. It is closed when this is dropped.
#[derive(Debug)]
pub struct Chromium<'a> {
    driver: &'a Driver,
    path: String,
}

impl Chromium<'_> {
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.driver.send(method, &format!("{}{path}", self.path), body);
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Opens a page and waits until it is there.
    ///
    /// # Panics
    ///
    /// If there is no answer; the status of an answer does not matter.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.call("POST", "/url", Some(&json!({"url": url})));
    }

    /// Returns the address of the page.
    ///
    /// # Panics
    ///
    /// If the browser has ended.
    #[track_caller]
    pub fn url(&self) -> String {
        self.call("GET", "/url", None).as_str().expect("text").to_owned()
    }

    /// Runs the body of a function in the page and returns its result.
    ///
    /// # Panics
    ///
    /// If the script throws.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", Some(&json!({"script": script, "args": []})))
    }

    /// Returns the text of an element as a visitor reads it, or nothing if there is no such element.
    ///
    /// # Panics
    ///
    /// If the selector is none.
    #[track_caller]
    pub fn text(&self, css: &str) -> Option<String> {
        let text = self.run(&format!("return document.querySelector({})?.innerText", json!(css)));
        text.as_str().map(str::to_owned)
    }

    /// Waits until a text is somewhere on the page.
    ///
    /// # Panics
    ///
    /// If it does not come.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let body = self.text("body").unwrap_or_default();
            if body.contains(text) {
                return;
            }
            assert!(Instant::now() < until, "{text:?} does not come: {body}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn element(&self, css: &str) -> String {
        let found = self.call("POST", "/element", Some(&json!({"using": "css selector", "value": css})));
        format!("/element/{}", found[ELEMENT].as_str().expect("an id"))
    }

    /// Clicks at an element.
    ///
    /// # Panics
    ///
    /// If it cannot be clicked at.
    #[track_caller]
    pub fn click(&self, css: &str) {
        self.call("POST", &format!("{}/click", self.element(css)), Some(&json!({})));
    }

    /// Clicks at a link or a button that opens a page, and waits until that page is there.
    ///
    /// # Panics
    ///
    /// If no page is opened.
    #[track_caller]
    pub fn follow(&self, css: &str) {
        self.run("window.isLeft = true");
        self.click(css);
        let until = Instant::now() + TIMEOUT;
        while self.run("return window.isLeft || document.readyState !== 'complete'") == true {
            assert!(Instant::now() < until, "{css} opens no page");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses the key that leads to the next link, button or field.
    ///
    /// # Panics
    ///
    /// If the browser has ended.
    #[track_caller]
    pub fn press_tab(&self) {
        let key = |action: &str| json!({"type": action, "value": "\u{E004}"});
        let keys = json!({"type": "key", "id": "keyboard", "actions": [key("keyDown"), key("keyUp")]});
        self.call("POST", "/actions", Some(&json!({"actions": [keys]})));
    }

    /// Types into a field, instead of what is in it.
    ///
    /// # Panics
    ///
    /// If nothing can be typed there.
    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.call("POST", &format!("{element}/clear"), Some(&json!({})));
        self.call("POST", &format!("{element}/value"), Some(&json!({"text": text})));
    }

    /// Opens another tab, goes there and returns its name.
    ///
    /// # Panics
    ///
    /// If it cannot.
    #[track_caller]
    pub fn open_tab(&self) -> String {
        let tab = self.call("POST", "/window/new", Some(&json!({"type": "tab"})));
        let tab = tab["handle"].as_str().expect("a name").to_owned();
        self.use_tab(&tab);
        tab
    }

    /// Returns the name of the tab.
    ///
    /// # Panics
    ///
    /// If it is closed.
    #[track_caller]
    pub fn tab(&self) -> String {
        self.call("GET", "/window", None).as_str().expect("a name").to_owned()
    }

    /// Goes to a tab.
    ///
    /// # Panics
    ///
    /// If it is closed.
    #[track_caller]
    pub fn use_tab(&self, tab: &str) {
        self.call("POST", "/window", Some(&json!({"handle": tab})));
    }

    /// Calls a command of the developer tools.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.call("POST", "/goog/cdp/execute", Some(&json!({"cmd": command, "params": parameters})))
    }

    /// Returns the cookies that the browser keeps of a name, each as `Storage.getCookies` describes it.
    ///
    /// # Panics
    ///
    /// If the browser has ended.
    #[track_caller]
    pub fn cookies(&self, name: &str) -> Vec<Value> {
        let Value::Array(mut cookies) = self.devtools("Storage.getCookies", &json!({}))["cookies"].take()
        else {
            panic!("a list")
        };
        cookies.retain(|cookie| cookie["name"] == name);
        cookies
    }

    /// Shows pages in a window of this size, with this `prefers-color-scheme`.
    ///
    /// # Panics
    ///
    /// If the browser has ended.
    #[track_caller]
    pub fn show(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &scheme);
    }

    /// Returns a picture of the whole page, as PNG in base64.
    ///
    /// # Panics
    ///
    /// If the browser has ended.
    #[track_caller]
    pub fn picture(&self) -> String {
        let picture = json!({"format": "png", "captureBeyondViewport": true, "clip": self.whole_page()});
        self.devtools("Page.captureScreenshot", &picture)["data"].as_str().expect("base64").to_owned()
    }

    fn whole_page(&self) -> Value {
        let size = &self.devtools("Page.getLayoutMetrics", &json!({}))["cssContentSize"];
        json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1})
    }

    /// Closes it as its user does.
    ///
    /// # Panics
    ///
    /// If it has ended before.
    #[track_caller]
    pub fn quit(self) {
        self.call("DELETE", "", None);
    }
}

impl Drop for Chromium<'_> {
    fn drop(&mut self) {
        let _ = self.driver.send("DELETE", &self.path, None);
    }
}
