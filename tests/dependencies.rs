//! What the dependencies may be, as `deny.toml` says: their licences, where they come from, and which are there twice.
//! And that each is used.
//!
//! `cargo deny` checks the same, and the advisories; `tests/run` runs it where it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

struct Package {
    name: String,
    version: String,
    license: String,
    /// `None` for a package of this workspace.
    source: Option<String>,
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn metadata() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let Value::Array(packages) = metadata["packages"].take() else { panic!("a list") };
    packages
}

fn packages() -> Vec<Package> {
    metadata()
        .iter()
        .map(|package| Package {
            name: text(package, "name"),
            version: text(package, "version"),
            license: text(package, "license"),
            source: package["source"].as_str().map(str::to_owned),
        })
        .collect()
}

/// Returns the source of all targets of a package of this workspace, and its pages with programs.
fn source(package: &Value) -> String {
    let mut folders = vec![PathBuf::from(text(package, "manifest_path")).with_file_name("")];
    let targets = package["targets"].as_array().expect("a list").iter();
    folders.extend(targets.map(|target| PathBuf::from(text(target, "src_path")).with_file_name("")));
    let mut source = String::new();
    let mut seen = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        if !seen.insert(folder.clone()) {
            continue;
        }
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
                source += &fs::read_to_string(path).expect("text");
            }
        }
    }
    source
}

/// Returns the dependencies whose names the source does not use as paths.
fn unused<'a>(dependencies: impl IntoIterator<Item = &'a str>, source: &str) -> BTreeSet<&'a str> {
    let is_used = |name: &str| {
        let path = format!("{}::", name.replace('-', "_"));
        source
            .match_indices(&path)
            .any(|(at, _)| !source[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
    };
    dependencies.into_iter().filter(|name| !is_used(name)).collect()
}

fn deny_toml() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml")).expect("it is there")
}

/// Returns the quoted words behind `before` in the lines of a list of `deny.toml`.
fn list(toml: &str, name: &str, before: &str) -> BTreeSet<String> {
    let (_, list) = toml.split_once(&format!("\n{name} = [\n")).expect("the list");
    let (list, _) = list.split_once("\n]").expect("its end");
    let word = |line: &str| Some(line.split_once(before)?.1.split('"').next()?.to_owned());
    list.lines().filter_map(word).collect()
}

/// Returns whether an SPDX expression of `AND`s of `OR`s allows a use under the allowed licences.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    let license = |license: &str| allowed.contains(license.trim());
    !expression.is_empty() && expression.split(" AND ").all(|part| part.split(" OR ").any(license))
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_registry() {
    let allowed = list(&deny_toml(), "allow", "\"");
    let (own, others): (Vec<_>, Vec<_>) =
        packages().into_iter().partition(|package| package.source.is_none());
    assert!(!own.is_empty() && others.len() > 100, "{} and {}", own.len(), others.len());
    let registries: BTreeSet<_> = others.iter().filter_map(|package| package.source.as_deref()).collect();
    assert!(
        registries.len() == 1 && registries.iter().all(|source| source.starts_with("registry+")),
        "{registries:?}"
    );
    for Package { name, version, license, .. } in &others {
        assert!(is_allowed(license, &allowed), "{name} {version}: {license}");
    }
}

#[test]
fn each_dependency_is_used() {
    for package in metadata().iter().filter(|package| package["source"].is_null()) {
        let dependencies = package["dependencies"].as_array().expect("a list");
        let names = dependencies.iter().filter_map(|dependency| dependency["name"].as_str());
        // `build.rs` copies the example that uses it.
        let names =
            names.filter(|name| (text(package, "name").as_str(), *name) != ("databag-tests", "rmp-serde"));
        let unused = unused(names, &source(package));
        assert!(unused.is_empty(), "{}: {unused:?}", text(package, "name"));
    }
}

#[test]
fn an_unused_dependency_is_found() {
    let source = "use one_more::Thing; fn f() { g() } mod my_third;";
    let names = ["one-more", "third", "more"];
    assert_eq!(unused(names, source), BTreeSet::from(["third", "more"]));
}

#[test]
fn each_duplicate_has_its_reason() {
    let skipped = list(&deny_toml(), "skip", "crate = \"");
    let mut versions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for Package { name, version, .. } in packages() {
        versions.entry(name).or_default().push(version);
    }
    let duplicates = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    let mut used = BTreeSet::new();
    for (name, versions) in duplicates {
        let is_skipped = |version: &&String| {
            let by = skipped.iter().find(|skip| {
                skip.split_once('@').is_some_and(|(skipped, required)| {
                    skipped == name && format!("{version}.").starts_with(&format!("{required}."))
                })
            });
            used.extend(by.cloned());
            by.is_some()
        };
        let (skipped, left): (Vec<_>, Vec<_>) = versions.iter().partition(is_skipped);
        assert_eq!(left.len(), 1, "{name}: {versions:?}, of which deny.toml explains {skipped:?}");
    }
    assert_eq!(used, skipped, "each line of deny.toml is needed");
}

#[test]
fn a_licence_that_is_not_allowed_is_found() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for expression in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "MIT AND ISC", "(GPL-3.0 OR ISC) AND MIT"] {
        assert!(is_allowed(expression, &allowed), "{expression}");
    }
    for expression in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0"] {
        assert!(!is_allowed(expression, &allowed), "{expression}");
    }
}
