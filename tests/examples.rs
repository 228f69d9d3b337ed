//! Each example is in the table of `examples/README.md`, says how to start it, and has a test.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What is known of the examples, as text.
struct Examples {
    /// The source of each, by its path in the folder: `counter.rs`, or `bridge/main.rs` of a program in a folder.
    sources: BTreeMap<String, String>,
    readme: String,
    manifest: String,
}

/// The examples that are no `[[example]]`: the path, the command, and the file with the tests.
const PROGRAMS: [(&str, &str, &str); 2] = [
    ("bridge/main.rs", "cargo run --manifest-path examples/bridge/Cargo.toml", "examples/bridge/tests.rs"),
    ("shop/main.rs", "cargo run", "tests/demo/pages.rs"),
];

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Examples {
    fn read() -> Self {
        let mut sources = BTreeMap::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            if path.extension().is_some_and(|extension| extension == "rs") {
                sources.insert(name.to_owned(), read(&path));
            } else if path.join("main.rs").exists() {
                sources.insert(format!("{name}/main.rs"), read(path.join("main.rs")));
            }
        }
        Self { sources, readme: read("examples/README.md"), manifest: read("examples/Cargo.toml") }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let rows: Vec<_> = self.readme.lines().filter(|line| line.starts_with("| [")).collect();
        for row in &rows {
            let path = row.split_once("](").and_then(|(_, rest)| rest.split_once(')')).map(|(path, _)| path);
            if !path.is_some_and(|path| self.sources.contains_key(path)) {
                faults.push(format!("there is no example of the row {row}"));
            }
        }
        for (path, source) in &self.sources {
            let mut check = |is_good: bool, fault: &str| {
                if !is_good {
                    faults.push(format!("{path} {fault}"));
                }
            };
            let program = PROGRAMS.iter().find(|(program, ..)| program == path);
            let name = path.trim_end_matches(".rs");
            let command = program.map_or_else(
                || format!("cargo run -p examples --example {name}"),
                |(_, command, _)| (*command).to_owned(),
            );
            let of_it: Vec<_> = rows.iter().filter(|row| row.contains(&format!("]({path}) |"))).collect();
            check(of_it.len() == 1, "has one row in the table");
            check(
                of_it.iter().all(|row| row.contains(&format!("{command}`"))),
                "has its command in the table",
            );
            let docs: String = source.lines().take_while(|line| line.starts_with("//!")).collect();
            check(docs.contains(&command), "says how to start it");
            let test = program.map_or_else(|| source.clone(), |(.., tests)| read(tests));
            check(test.contains("test]\n"), "has a test");
            let target = format!("[[example]]\nname = \"{name}\"\npath = \"{path}\"\ntest = true\n");
            check(program.is_some() || self.manifest.contains(&target), "is tested by cargo");
        }
        faults
    }
}

#[test]
fn each_example_is_in_the_table_and_has_a_test() {
    let examples = Examples::read();
    assert!(examples.sources.len() >= 17, "{:?}", examples.sources.keys());
    let faults = examples.faults();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_planted_fault_is_found() {
    let planted = |plant: fn(&mut Examples), fault: &str| {
        let mut examples = Examples::read();
        plant(&mut examples);
        let faults = examples.faults();
        assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
    };
    planted(|examples| drop(examples.sources.remove("counter.rs")), "there is no example of the row");
    planted(
        |examples| {
            let source = examples.sources["counter.rs"].clone();
            examples.sources.insert("other.rs".to_owned(), source);
        },
        "other.rs has one row in the table",
    );
    planted(
        |examples| examples.readme = examples.readme.replace("--example counter`", "--example other`"),
        "counter.rs has its command in the table",
    );
    planted(
        |examples| {
            let source = examples.sources.get_mut("counter.rs").expect("it is there");
            "//! A counter.\n".clone_into(source);
        },
        "counter.rs says how to start it",
    );
    planted(
        |examples| {
            let source = examples.sources.get_mut("counter.rs").expect("it is there");
            source.truncate(source.find("#[cfg(test)]").expect("tests"));
        },
        "counter.rs has a test",
    );
    planted(
        |examples| examples.manifest = examples.manifest.replace("path = \"counter.rs\"\ntest = true\n", ""),
        "counter.rs is tested by cargo",
    );
}
