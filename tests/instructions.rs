//! The instructions of a request, counted by callgrind, are those in `benches/instructions.txt`: a change of the cost is
//! seen in a review, on a machine as busy as it likes.
//!
//! `DATABAG_UPDATE_INSTRUCTIONS=1 cargo test -p databag-tests --features servers --test instructions` writes the table.
//! The counts depend on the compiler and on the versions in `Cargo.lock`; a few percent of them on the processor.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

const STORES: [&str; 2] = ["memory", "sqlite"];
const ROUTES: [&str; 5] = ["/plain", "/unused", "/read", "/write", "/update"];

/// How many requests the shorter run makes; the longer one makes twice as many.
const REQUESTS: u64 = 1_000;

/// How many percent a count may differ from the table.
const TOLERANCE: u64 = 5;

#[test]
fn a_request_takes_the_instructions_of_the_committed_table() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/instructions.txt");
    let mut lines = vec![format!("{:<10}{:>10}{:>10}\n", "", STORES[0], STORES[1])];
    let mut counts = Vec::new();
    for route in ROUTES {
        let of_route = STORES.map(|store| {
            let [short, long] = [REQUESTS, 2 * REQUESTS].map(|requests| count(store, route, requests));
            (long - short) / REQUESTS
        });
        lines.push(format!("{route:<10}{:>10}{:>10}\n", of_route[0], of_route[1]));
        counts.extend(of_route);
    }
    let current = lines.concat();
    if env::var_os("DATABAG_UPDATE_INSTRUCTIONS").is_some_and(|update| update == "1") {
        fs::write(&committed, current).expect("the table can be written");
        return;
    }
    let expected = fs::read_to_string(&committed).expect("there is a committed table");
    let numbers: Vec<u64> = expected.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers.len(), counts.len(), "benches/instructions.txt has another form");
    let is_near =
        |(&current, &expected): (&u64, &u64)| current.abs_diff(expected) * 100 <= expected * TOLERANCE;
    assert!(
        counts.iter().zip(&numbers).all(is_near),
        "a request takes more or fewer instructions than benches/instructions.txt says; if that is meant, or the \
         compiler is another, accept it:\n\
         DATABAG_UPDATE_INSTRUCTIONS=1 cargo test -p databag-tests --features servers --test instructions\n\n\
         committed\n{expected}\ncurrent\n{current}"
    );
}

/// Counts the instructions of a whole run.
fn count(store: &str, route: &str, requests: u64) -> u64 {
    let runner =
        r#"target."cfg(all())".runner = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]"#;
    let output = Command::new(env!("CARGO"))
        .args(["run", "--release", "--locked", "--quiet", "-p", "databag-bench", "--bin", "instructions"])
        .args(["--config", runner, "--", store, route, &requests.to_string()])
        .output()
        .expect("cargo runs");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{store} {route}: {printed}");
    let collected = printed.lines().find_map(|line| line.split("Collected : ").nth(1));
    collected.and_then(|count| count.trim().parse().ok()).expect("callgrind prints a count")
}
