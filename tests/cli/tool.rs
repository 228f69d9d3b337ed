//! The tool as a process, and the sessions of an application that it works on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use session_runtime::{AnyStore, Databag, Keyring, Sessions, Token};

/// A word that is in every session and in no column.
pub(crate) const SECRET: &str = "sesame-in-the-cart";

/// The session of an application.
#[derive(Clone, Debug, PartialEq, Databag)]
#[databag(name = "tests/Shop", table = "cli_shop", idle = "12h", absolute = "12h")]
pub(crate) struct Shop {
    #[databag(user_id)]
    pub(crate) user_id: Option<i64>,
    #[databag(ip_addr, bind = "off")]
    pub(crate) ip_addr: Option<IpAddr>,
    #[databag(column, index)]
    pub(crate) tenant: Option<String>,
    #[databag(column)]
    pub(crate) weight: Option<f64>,
    #[databag(column)]
    pub(crate) digest: Option<Vec<u8>>,
    #[databag(ttl = "1h")]
    pub(crate) code: Option<String>,
    pub(crate) cart: BTreeMap<String, u32>,
}

impl Shop {
    pub(crate) fn of(user: i64) -> Self {
        Self {
            user_id: Some(user),
            ip_addr: Some(IpAddr::from([203, 0, 113, u8::try_from(user % 250).expect("few")])),
            tenant: Some(format!("tenant-{}", user % 3)),
            weight: Some(0.1 + f64::from(u8::try_from(user % 200).expect("few"))),
            digest: (user % 2 == 0).then(|| vec![0, 255, 7]),
            code: Some(SECRET.to_owned()),
            cart: BTreeMap::from([(SECRET.to_owned(), 2), (user.to_string(), 1)]),
        }
    }
}

/// The keys of an application, and what it has given to its visitors.
pub(crate) struct Application {
    pub(crate) sessions: Sessions<Shop>,
    pub(crate) tokens: Vec<(Token, Shop)>,
}

impl Application {
    pub(crate) async fn start(url: &str, keys: &str) -> Self {
        let store = AnyStore::connect(url).await.expect("the store answers");
        let keyring = Keyring::parse(keys).expect("good keys");
        let sessions = Sessions::<Shop>::builder(store).keyring(keyring).build().await.expect("it builds");
        Self { sessions, tokens: Vec::new() }
    }

    /// Signs users in, the first of them 1.
    pub(crate) async fn sign_in(&mut self, users: i64) {
        for user in 1..=users {
            let shop = Shop::of(user);
            let (token, _) = self.sessions.create(shop.clone()).await.expect("it is stored");
            self.tokens.push((token, shop));
        }
    }

    /// Returns how many of its visitors are signed in, each with the session as it was.
    pub(crate) async fn count_signed_in(&self, visitors: &[(Token, Shop)]) -> usize {
        let mut count = 0;
        for (token, shop) in visitors {
            if let Some(session) = self.sessions.load(token).await.expect("the store answers") {
                assert_eq!(&*session, shop);
                count += 1;
            }
        }
        count
    }

    pub(crate) fn id(&self, visitor: usize) -> String {
        self.tokens[visitor].0.session_id().to_string()
    }
}

/// The tool, with the store and the keys in its environment.
#[derive(Clone)]
pub(crate) struct Tool {
    pub(crate) url: String,
    pub(crate) table: String,
    pub(crate) keys: Option<String>,
}

impl Tool {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), table: "cli_shop".to_owned(), keys: None }
    }

    pub(crate) fn table(self, table: &str) -> Self {
        Self { table: table.to_owned(), ..self }
    }

    pub(crate) fn keys(self, keys: &str) -> Self {
        Self { keys: Some(keys.to_owned()), ..self }
    }

    /// Prepares a command on the store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.env("SESSION_STORE", &self.url);
        if !["import"].contains(&arguments[0]) {
            command.args(["--table", &self.table]);
        }
        if let Some(keys) = &self.keys {
            command.env("SESSION_KEY", keys);
        }
        command
    }

    /// Runs a command, and returns what it has printed, if it ends with this exit code.
    pub(crate) fn run(&self, arguments: &[&str], exit: i32) -> Printed {
        Printed::of(&self.command(arguments).output().expect("the tool runs"), arguments, exit)
    }

    /// Runs a command whose output nobody reads, if it ends with this exit code.
    pub(crate) fn run_unread(&self, arguments: &[&str], exit: i32) -> Printed {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool runs");
        drop(child.stdout.take());
        Printed::of(&child.wait_with_output().expect("it ends"), arguments, exit)
    }

    /// Runs a command that succeeds and prints one line of JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut lines = self.lines(arguments);
        assert_eq!(lines.len(), 1, "{arguments:?}: {lines:?}");
        lines.remove(0)
    }

    /// Runs a command that succeeds and prints lines of JSON.
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        json_lines(&self.run(&[arguments, &["--json"]].concat(), 0).stdout)
    }
}

/// Counts the rows that have a fault, by what the lines of a command say.
pub(crate) fn count_faults(printed: &Printed, reason: &str) -> usize {
    let has = |line: &Value| line["fault"].as_str().is_some_and(|fault| fault.contains(reason));
    json_lines(&printed.stdout).iter().filter(|line| has(line)).count()
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Prepares the tool, without a store in its environment.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_databag"));
    for name in ["SESSION_STORE", "SESSION_STORE_TO", "SESSION_TABLE", "SESSION_KEY"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a process has printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Printed {
    pub(crate) fn of(output: &Output, arguments: &[&str], exit: i32) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is text");
        let printed = Self { stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {printed:?}");
        printed
    }
}

/// Returns the path of the demo shop, which is built beside the tool.
pub(crate) fn shop() -> String {
    let shop = PathBuf::from(env!("CARGO_BIN_EXE_databag")).with_file_name("shop");
    if !shop.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "-p", "examples", "--bin", "shop"])
            .status();
        assert!(built.is_ok_and(|status| status.success()), "the shop is built");
    }
    shop.to_str().expect("a path in UTF-8").to_owned()
}
