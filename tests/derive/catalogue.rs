//! The catalogue of mistakes in the docs of the derive lists exactly the mistakes of the ui tests.
//!
//! `TRYBUILD=overwrite cargo test -p databag-tests` writes the messages of rustc, and then the catalogue.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../session-derive/src/mistakes.md");

const HEAD: &str = "\
Each mistake is one message. It underlines the word at fault, and its help says what to write instead.

| mistake | message |
| --- | --- |
";

/// The messages of rustc about one mistake.
struct Mistake {
    /// `topic/mistake`
    name: String,
    stderr: String,
}

impl Mistake {
    fn all() -> Vec<Self> {
        let ui = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ui"));
        let entries = |folder: &Path| {
            let entries = fs::read_dir(folder).expect("the folder is there");
            let paths: BTreeSet<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
            paths
        };
        let files = entries(ui).into_iter().flat_map(|topic| entries(&topic));
        let sources = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
        let mistake = |source: std::path::PathBuf| Self {
            name: source.strip_prefix(ui).expect("below `ui`").with_extension("").display().to_string(),
            stderr: fs::read_to_string(source.with_extension("stderr"))
                .unwrap_or_else(|error| panic!("{}: {error}", source.display())),
        };
        sources.map(mistake).collect()
    }

    /// Returns each message once, without its help.
    fn messages(&self) -> Vec<&str> {
        let errors = self.stderr.lines().filter(|line| line.starts_with("error"));
        let mut messages: Vec<_> =
            errors.filter_map(|line| line.split_once(": ")).map(|(_, message)| message).collect();
        messages.dedup();
        messages
    }
}

/// Returns the rows that only the catalogue has, and the rows that only the tests have.
fn differences<'a>(documented: &'a str, shown: &'a str) -> [Vec<&'a str>; 2] {
    let [documented, shown] = [documented, shown].map(|text| text.lines().collect::<BTreeSet<_>>());
    [documented.difference(&shown).copied().collect(), shown.difference(&documented).copied().collect()]
}

#[test]
fn the_catalogue_has_exactly_the_mistakes_of_the_tests() {
    let mut shown = HEAD.to_owned();
    for mistake in Mistake::all() {
        let messages = mistake.messages().join("<br>").replace('|', "\\|");
        let _ = writeln!(shown, "| {} | {messages} |", mistake.name);
    }
    if env::var("TRYBUILD").is_ok_and(|trybuild| trybuild == "overwrite") {
        fs::write(CATALOGUE, &shown).expect("the catalogue can be written");
    }
    let documented = fs::read_to_string(CATALOGUE).expect("the catalogue can be read");
    let [untested, undocumented] = differences(&documented, &shown);
    assert!(untested.is_empty(), "in the catalogue, but in no test: {untested:#?}");
    assert!(undocumented.is_empty(), "in a test, but not in the catalogue: {undocumented:#?}");
}

#[test]
fn a_row_without_a_test_and_a_test_without_a_row_are_found() {
    let differences = differences("| a | one |\n| b | two |\n", "| a | one |\n| b | 2 |\n| c | three |\n");
    assert_eq!(differences, [vec!["| b | two |"], vec!["| b | 2 |", "| c | three |"]]);
}

#[test]
fn every_message_of_the_derive_says_what_to_write() {
    for mistake in Mistake::all() {
        let mut lines = mistake.stderr.lines();
        while let Some(line) = lines.next() {
            // The messages of rustc itself have a code, except lints.
            if line.starts_with("error: ") && !line.contains("deprecated") {
                let help = lines.next().unwrap_or_default();
                assert!(help.trim_start().starts_with("help: "), "{}: `{line}` has no help", mistake.name);
            }
        }
    }
}

#[test]
fn the_tests_have_at_least_130_different_messages() {
    let mistakes = Mistake::all();
    let messages: BTreeSet<_> = mistakes.iter().flat_map(Mistake::messages).collect();
    assert!(messages.len() >= 130, "{} mistakes", messages.len());
}
