//! The attack suite on memory, SQLite and sessions in cookies, and the table of rules and stores.
#![allow(missing_docs)]

mod suite;

use std::future::ready;
use std::rc::Rc;

use session_runtime::{Durability, MemoryStore, SqliteStore};

use self::suite::case::{Kind, Rule, Stores};
use self::suite::stores::{Cookies, Source};
use self::suite::target::Target;
use self::suite::{GROUPS, attack};

async fn memory() -> Target {
    let store = MemoryStore::new();
    Target::open(Kind::Memory, Source::open(move || ready(store.clone())).await, None).await
}

async fn sqlite() -> Target {
    let folder = Rc::new(tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("attack.db");
    let open = move || SqliteStore::open(&path).expect("a database").durability(Durability::Normal);
    Target::open(Kind::Sqlite, Source::open(move || ready(open())).await, Some(folder)).await
}

async fn cookie() -> Target {
    Target::open(Kind::Cookie, Rc::new(Cookies::default()), None).await
}

attack! { in_memory: Memory, crate::memory }
attack! { in_sqlite: Sqlite, crate::sqlite }
attack! { in_cookies: Cookie, crate::cookie }

const LAST_RULE: u8 = 32;

/// Rules that no request can prove, and the tests that do.
const ELSEWHERE: &[(u8, &str, &str)] = &[
    (1, "tests/flow/setup.rs", "tokens_are_unique_and_use_every_symbol_at_every_position"),
    (3, "tests/demo/crash.rs", "no_acknowledged_write_is_lost_when_the_shop_is_killed"),
    (7, "session-runtime/src/builder.rs", "the_readme_states_the_defaults_as_they_are"),
    (17, "tests/demo/crash.rs", "no_acknowledged_write_is_lost_when_the_shop_is_killed"),
    (18, "tests/demo/processes.rs", "two_processes_on_one_file_lose_no_write_and_answer_no_error"),
    (19, "session-runtime/src/store/sqlite/tests/faults.rs", "the_connections_have_the_documented_settings"),
    (20, "session-runtime/src/store/sqlite/file.rs", "a_linked_library_with_the_log_reset_race_is_refused"),
];

/// How many cases of a rule run on a store.
fn cases(rule: Rule, kind: Kind) -> usize {
    let cases = GROUPS.iter().flat_map(|group| group.cases);
    cases.filter(|case| case.rules.contains(&rule) && case.stores.include(kind)).count()
}

#[test]
fn every_rule_has_a_case() {
    println!("| rule | {} | elsewhere |", Kind::ALL.map(|kind| kind.to_string()).join(" | "));
    println!("| --- |{}", " ---: |".repeat(Kind::ALL.len()) + " --- |");
    for rule in (1..=LAST_RULE).map(Rule) {
        let counts = Kind::ALL.map(|kind| cases(rule, kind));
        let elsewhere: Vec<_> = ELSEWHERE.iter().filter(|(number, ..)| *number == rule.0).collect();
        let named = elsewhere.iter().map(|(_, file, test)| format!("`{test}` in `{file}`"));
        let row = counts.map(|count| count.to_string()).join(" | ");
        println!("| {rule} | {row} | {} |", named.collect::<Vec<_>>().join(", "));
        assert!(counts.iter().sum::<usize>() > 0 || !elsewhere.is_empty(), "{rule} has no case");
    }
    for (_, file, test) in ELSEWHERE {
        let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(test), "{path} has no {test}");
    }
    let count: usize = GROUPS.iter().map(|group| group.cases.len()).sum();
    println!("{count} cases in {} groups", GROUPS.len());
    assert!(count >= 200, "{count} cases");
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let names: Vec<_> = GROUPS.iter().flat_map(|group| group.cases).map(|case| case.name).collect();
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), different.len());
    assert!(Stores::All.include(Kind::Cookie) && !Stores::Rows.include(Kind::Cookie));
}

#[test]
fn every_proof_that_the_security_page_names_exists() {
    let page = include_str!("../../SECURITY.md");
    let cases = GROUPS.iter().flat_map(|group| group.cases).map(|case| case.name);
    let mut count = 0;
    for proof in page.split('`').skip(1).step_by(2) {
        if let Some(case) = proof.strip_prefix("attack: ") {
            assert!(cases.clone().any(|name| name == case), "there is no case {case:?}");
        } else if let Some((file, test)) = proof.split_once(".rs::") {
            let path = format!("{}/../{file}.rs", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(text.contains(&format!("fn {test}(")), "{path} has no {test}");
        } else {
            continue;
        }
        count += 1;
    }
    assert!(count > 50, "only {count} proofs were found");
}
