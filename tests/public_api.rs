//! The public API of the runtime is the list in `tests/public-api.txt`: a change of it is seen in a review.
//!
//! `DATABAG_UPDATE_API=1 cargo test -p databag-tests --test public_api` writes the list. The list has the signatures of
//! rustdoc's JSON, whose format is tied to the compiler: a new compiler may need a new version of `public-api`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use public_api::Builder;

#[test]
fn the_public_api_is_the_committed_list() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("public-api.txt");
    let current = listing();
    if env::var_os("DATABAG_UPDATE_API").is_some_and(|update| update == "1") {
        fs::write(&committed, current).expect("the list can be written");
        return;
    }
    let expected = fs::read_to_string(&committed).expect("there is a committed list");
    let changes: Vec<String> =
        lines_without(&current, &expected, '+').chain(lines_without(&expected, &current, '-')).collect();
    assert!(
        current == expected,
        "the public API differs from tests/public-api.txt; if that is meant, accept it:\n\
         DATABAG_UPDATE_API=1 cargo test -p databag-tests --test public_api\n\n{}",
        changes.join("\n")
    );
}

fn lines_without<'a>(text: &'a str, other: &'a str, sign: char) -> impl Iterator<Item = String> + 'a {
    text.lines()
        .filter(move |line| !other.lines().any(|known| known == *line))
        .map(move |line| format!("{sign}{line}"))
}

fn listing() -> String {
    let api = Builder::from_rustdoc_json(rustdoc_json())
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .expect("this version of `public-api` reads the JSON of this compiler");
    // The guide is text that rustdoc alone has.
    let is_guide = |line: &&str| line.starts_with("pub mod session_runtime::guide");
    api.to_string().lines().filter(|line| !is_guide(line)).fold(String::new(), |api, line| api + line + "\n")
}

/// Lets rustdoc describe the runtime with all features, and returns the file.
fn rustdoc_json() -> PathBuf {
    // A folder of its own: the variable below would make cargo build everything again.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("public-api");
    let status = Command::new(env!("CARGO"))
        .args([
            "rustdoc",
            "--locked",
            "--quiet",
            "-p",
            "session-runtime",
            "--lib",
            "--all-features",
            "--target-dir",
        ])
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        // The JSON of rustdoc is an unstable option.
        .env("RUSTC_BOOTSTRAP", "1")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "rustdoc describes the runtime");
    target.join("doc/session_runtime.json")
}
