//! The house rules of the runtime's source: lower floors never name upper ones, and no files form a circle.
//!
//! ARCHITECTURE.md explains the floors. The check reads the paths `crate::..`, `super::..` and `self::..` of every file,
//! macros included and test modules excepted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The floors from the lowest to the highest: a file uses its own floor and those below.
const FLOORS: [(&str, &[&str]); 10] = [
    ("values", &["value", "token", "clock", "codec", "error_chain"]),
    ("secrets", &["envelope"]),
    ("fields", &["bag"]),
    ("rows", &["store"]),
    ("errors", &["error"]),
    ("http", &["http"]),
    ("engine", &["backend", "engine"]),
    ("applications", &["admin", "query", "sessions", "builder"]),
    ("request", &["request"]),
    ("web", &["web"]),
];

/// Floors that must not name each other although one is above the other: module, and the module it must not use.
const STRANGERS: [(&str, &str); 5] =
    [("store", "envelope"), ("store", "bag"), ("bag", "envelope"), ("engine", "http"), ("backend", "http")];

/// Modules by their path, such as `engine::load`, with the modules that each uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_file_uses_a_higher_floor_and_no_files_form_a_circle() {
    let sources = read_sources();
    assert!(sources.len() > 40, "the runtime has more files than {}", sources.len());
    let violations = violations(&sources);
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn only_the_web_floor_names_actix() {
    for (module, source) in read_sources() {
        let is_web = floor(&module) == Some("web");
        assert!(is_web || !mentions(&tokens(&source), "actix_web"), "`{module}` names actix_web");
    }
}

#[test]
fn the_crate_root_allows_no_dead_code() {
    let root = fs::read_to_string(source_folder().join("lib.rs")).expect("the runtime has a root");
    assert!(!mentions(&tokens(&root), "dead_code"));
}

#[test]
fn every_kind_of_violation_is_found() {
    let planted = |changes: &[(&str, &str)]| {
        let mut sources = read_sources();
        for (module, line) in changes {
            let is_new = *module == "planted";
            assert!(is_new || sources.contains_key(*module), "there is `{module}`");
            let source = sources.entry((*module).to_owned()).or_default();
            source.insert_str(source.find("\nuse ").map_or(0, |at| at + 1), line);
        }
        violations(&sources)
    };
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("token", "use crate::store::Row;\n")], "`token` uses `store`, which is on a higher floor"),
        (
            &[("engine::load", "use crate::{error::Error, web::SessionMiddleware};\n")],
            "`engine::load` uses `web`, which is on a higher floor",
        ),
        (
            &[("engine::load", "fn planted() { crate::sessions::planted(); }\n")],
            "`engine::load` uses `sessions`, which is on a higher floor",
        ),
        (&[("engine::load", "use crate::http::HttpConfig;\n")], "`engine` does not know `http`"),
        (&[("store::memory", "use crate::envelope::Keyring;\n")], "`store` does not know `envelope`"),
        (
            &[("bag::record", "macro_rules! planted { () => { crate::envelope::Keyring }; }\n")],
            "`bag` does not know `envelope`",
        ),
        (&[("engine::load", "use super::commit::Plan;\n")], "circle"),
        (
            &[
                ("http::cookie", "use super::client_ip::Network;\n"),
                ("http::client_ip", "use super::cookie::Planted;\n"),
            ],
            "circle",
        ),
        (&[("planted", "")], "`planted` is on no floor"),
    ];
    for (case, expected) in cases {
        let found = planted(case);
        assert!(found.iter().any(|violation| violation.contains(expected)), "{case:?}: {found:?}");
    }
}

#[test]
fn a_planted_use_of_actix_is_seen() {
    assert!(mentions(&tokens("fn planted() { actix_web::rt::spawn(todo!()); }"), "actix_web"));
    assert!(!mentions(&tokens("#[cfg(test)] mod tests { use actix_web::App; }"), "actix_web"));
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../session-runtime/src")
}

/// Reads every file that is on a floor, by its module path. `lib.rs` and `__private.rs` name every floor, and `chapters.rs` is
/// text.
fn read_sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    read_folder(&source_folder(), "", &mut sources);
    sources.retain(|module, _| !["lib", "__private", "chapters"].contains(&module.as_str()));
    sources
}

fn read_folder(folder: &Path, parent: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let module = if parent.is_empty() { name.clone() } else { format!("{parent}::{name}") };
        if path.is_dir() {
            read_folder(&path, &module, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if name == "mod" { parent.to_owned() } else { module };
            sources.insert(module, fs::read_to_string(&path).expect("it is text"));
        }
    }
}

fn violations(sources: &BTreeMap<String, String>) -> Vec<String> {
    let modules: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
    let uses: Uses = sources
        .iter()
        .filter(|(module, _)| !is_test_module(module))
        .map(|(module, source)| (module.clone(), used_modules(module, source, &modules)))
        .collect();
    let mut violations = Vec::new();
    for (module, used) in &uses {
        match floor_rank(module) {
            None => {
                violations
                    .push(format!("`{module}` is on no floor: add it to FLOORS and to ARCHITECTURE.md"));
            }
            Some(rank) => {
                let higher = used.iter().filter(|used| floor_rank(used) > Some(rank));
                violations.extend(
                    higher.map(|used| format!("`{module}` uses `{used}`, which is on a higher floor")),
                );
            }
        }
        for (stranger, unknown) in STRANGERS {
            let names = used.iter().find(|used| top(used) == unknown);
            if let (true, Some(used)) = (top(module) == stranger, names) {
                violations.push(format!("`{module}` uses `{used}`: `{stranger}` does not know `{unknown}`"));
            }
        }
    }
    violations.extend(circles(&uses));
    violations
}

/// A module whose whole file is tests.
fn is_test_module(module: &str) -> bool {
    module.split("::").any(|part| part == "tests" || part == "suite")
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn floor_rank(module: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, modules)| modules.contains(&top(module)))
}

fn floor(module: &str) -> Option<&'static str> {
    floor_rank(module).map(|rank| FLOORS[rank].0)
}

/// Finds the modules that a file uses, re-exports included.
fn used_modules(module: &str, source: &str, modules: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut paths = Vec::new();
    collect_paths(tokens(source), &mut paths);
    let resolve = |path: &Vec<String>| {
        let mut absolute: Vec<&str> = Vec::new();
        let mut segments = path.iter().map(String::as_str).peekable();
        match segments.next()? {
            "crate" => {}
            "self" => absolute.extend(module.split("::")),
            "super" => {
                absolute.extend(module.split("::"));
                absolute.pop();
                while segments.next_if_eq(&"super").is_some() {
                    absolute.pop();
                }
            }
            _ => return None,
        }
        absolute.extend(segments);
        (1..=absolute.len())
            .rev()
            .map(|length| absolute[..length].join("::"))
            .find(|path| modules.contains(path.as_str()))
    };
    let used = paths.iter().filter_map(resolve).filter(|used| used != module && !is_test_module(used));
    used.collect()
}

fn tokens(source: &str) -> TokenStream {
    source.parse().expect("the source is Rust")
}

fn mentions(tokens: &TokenStream, name: &str) -> bool {
    without_tests(tokens.clone()).iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(&group.stream(), name),
        _ => false,
    })
}

/// Drops items marked `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if is_punct(&tokens[at], '#') && tokens.get(at + 1).is_some_and(is_test_attribute) {
            // The item ends with its braces or its semicolon.
            at += 2;
            while at < tokens.len() {
                let ends = is_punct(&tokens[at], ';')
                    || matches!(&tokens[at], TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                at += 1;
                if ends {
                    break;
                }
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn is_test_attribute(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let text: String = group.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,") || text.starts_with("cfg(all(doctest,")
}

fn is_punct(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == punct)
}

/// Collects the paths that start with `crate`, `self` or `super`, with `{..}` written out.
fn collect_paths(tokens: TokenStream, paths: &mut Vec<Vec<String>>) {
    let tokens = without_tests(tokens);
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(ident) if ["crate", "self", "super"].iter().any(|root| ident == root) => {
                at = collect_path(&tokens, at, &[], paths);
            }
            TokenTree::Group(group) => {
                collect_paths(group.stream(), paths);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Collects one path, or all paths of a tree; returns where it ends.
fn collect_path(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(ident) => path.push(ident.to_string()),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for tree in inner.split(|token| is_punct(token, ',')).filter(|tree| !tree.is_empty()) {
                    collect_path(tree, 0, &path, paths);
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        let continues = tokens.get(at).is_some_and(|token| is_punct(token, ':'))
            && tokens.get(at + 1).is_some_and(|token| is_punct(token, ':'));
        if !continues {
            break;
        }
        at += 2;
    }
    let is_glob = tokens.get(at).is_some_and(|token| is_punct(token, '*'));
    // `pub(super)` and the value `self` are no paths.
    if path.len() > 1 || is_glob {
        paths.push(path);
    }
    at
}

/// Finds the circles: for each module the shortest way back to itself.
fn circles(uses: &Uses) -> Vec<String> {
    let mut circles = BTreeSet::new();
    for start in uses.keys() {
        if let Some(mut circle) = way_back(uses, start) {
            let least = circle.iter().enumerate().min_by_key(|(_, module)| *module).map_or(0, |(at, _)| at);
            circle.rotate_left(least);
            circles.insert(format!("a circle of files: {}", circle.join(" -> ")));
        }
    }
    circles.into_iter().collect()
}

fn way_back(uses: &Uses, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in uses.get(way.last()?).into_iter().flatten() {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push([way.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
        ways = longer;
    }
    None
}
