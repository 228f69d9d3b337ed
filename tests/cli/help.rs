//! What `--help` says: `DATABAG_UPDATE_HELP=1 cargo test -p databag-cli --test cli` writes the files again.

use std::path::Path;
use std::{env, fs};

use crate::tool::{Printed, bare};

const COMMANDS: [&str; 13] = [
    "",
    "stats",
    "list",
    "show",
    "revoke",
    "prune",
    "reseal",
    "check",
    "export",
    "import",
    "copy",
    "keygen",
    "completions",
];

#[test]
fn the_help_of_each_command_is_the_committed_one() {
    for command in COMMANDS {
        let arguments: Vec<_> = [command, "--help"].into_iter().filter(|part| !part.is_empty()).collect();
        let help = Printed::of(&bare(&arguments).output().expect("it runs"), &arguments, 0).stdout;
        let name = if command.is_empty() { "databag" } else { command };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/cli/help/{name}.txt"));
        if env::var_os("DATABAG_UPDATE_HELP").is_some_and(|update| update == "1") {
            fs::write(&path, &help).expect("it can be written");
        }
        let committed = fs::read_to_string(&path).expect("there is a committed text");
        assert_eq!(help, committed, "`databag {command} --help`; see the head of this file");
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{command}: a terminal has 100 columns: {help}"
        );
    }
}

#[test]
fn each_command_has_a_completion() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let arguments = ["completions", shell];
        let script = Printed::of(&bare(&arguments).output().expect("it runs"), &arguments, 0).stdout;
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn wrong_arguments_are_told_from_a_failure() {
    for arguments in [
        &["list"][..],
        &["no-such-command"],
        &["revoke", "--store", "sqlite:none.db"],
        &["revoke", "--everyone", "--user", "7", "--store", "sqlite:none.db"],
        &["list", "--store", "sqlite:none.db", "--older-than", "1w"],
        &["list", "--store", "sqlite:none.db", "--columns", "key=id"],
        &["list", "--store", "sqlite:none.db", "--timeout", "10000000000000000000s"],
        &["check", "--store", "sqlite:none.db"],
        &["copy", "--store", "sqlite:none.db", "--to", "sqlite:none.db", "--yes"],
    ] {
        Printed::of(&bare(arguments).output().expect("it runs"), arguments, 2);
    }
}
