//! What a program prints whose `main` returns an error of this library: one line with all causes and the remedy.
//!
//! The test runs itself as that program.

use std::error::Error;
use std::process::Command;
use std::time::Duration;
use std::{env, iter};

use session_runtime::{AnyStore, Databag, Keyring, Sessions, SqliteStore};

/// Says what the program does.
const PROGRAM: &str = "DATABAG_MAIN";

const CASES: [(&str, &str); 5] = [
    ("key", "the environment variable `NO_SUCH_KEY` is not set; make a key with `openssl rand -hex 32`"),
    (
        "key of sessions",
        "the session key is refused: the environment variable `NO_SUCH_KEY` is not set; make a key with \
         `openssl rand -hex 32`",
    ),
    ("configuration", "sessions are misconfigured: `idle` is longer than `absolute`"),
    ("url", "the store could not be chosen by its URL: `sqlite:` takes no options"),
    ("short key", "the key has 5 hexadecimal digits; it needs 64: make one with `openssl rand -hex 32`"),
];

#[derive(Databag)]
struct Shop {
    visits: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Ok(program) = env::var(PROGRAM) else { return check() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match program.as_str() {
        "key" => drop(Keyring::from_env("NO_SUCH_KEY")?),
        "key of sessions" => {
            Keyring::from_env("NO_SUCH_KEY").map_err(session_runtime::Error::from)?;
        }
        "configuration" => {
            let builder = Sessions::<Shop>::builder(SqliteStore::in_memory()?).keyring(Keyring::generate());
            runtime.block_on(builder.idle(Duration::from_hours(24 * 365)).build())?;
        }
        "url" => drop(runtime.block_on(AnyStore::connect("sqlite:shop.db?mode=ro"))?),
        "short key" => drop(Keyring::parse("abcde")?),
        other => panic!("no program: {other}"),
    }
    Ok(())
}

fn check() -> Result<(), Box<dyn Error>> {
    for (program, expected) in CASES {
        let output =
            Command::new(env::current_exe()?).env(PROGRAM, program).env_remove("NO_SUCH_KEY").output()?;
        let printed = String::from_utf8(output.stderr)?;
        assert!(!output.status.success(), "{program}");
        assert!(
            printed.lines().eq(iter::once(format!("Error: {expected}").as_str())),
            "{program}: {printed}"
        );
    }
    println!("{} programs that fail print one line each", CASES.len());
    Ok(())
}
