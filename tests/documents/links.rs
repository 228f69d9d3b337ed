//! Every relative link of every page leads to a file, and its anchor to a heading.

use std::collections::BTreeSet;
use std::path::Path;

use super::{files, read, root};

/// Returns the text of a page without blocks of code.
pub(super) fn prose(page: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// Returns a text without its spans of code.
fn without_code(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some(start) = rest.find('`') {
        kept += &rest[..start];
        let ticks = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let (fence, after) = rest[start..].split_at(ticks);
        let end = after.find(fence).unwrap_or(after.len() - ticks.min(after.len()));
        rest = after.get(end + ticks..).unwrap_or_default();
    }
    kept + rest
}

/// Returns the targets of a page's links: `[text](target)`, and `[name]: target`.
pub(super) fn targets(page: &str) -> Vec<String> {
    let prose = without_code(&prose(page));
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let defined = prose.lines().filter_map(definition).map(|(_, target)| target);
    inline.chain(defined).map(str::to_owned).collect()
}

/// Reads `[name]: target`.
pub(super) fn definition(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('[')?.split_once("]: ")
}

/// Returns the names of `[text][name]`.
pub(super) fn references(page: &str) -> BTreeSet<String> {
    let prose = without_code(&prose(page));
    let names = prose.split("][").skip(1).filter_map(|rest| rest.split(']').next());
    names.map(str::to_owned).collect()
}

/// Returns the anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Returns what is wrong with the links of a page.
fn broken(path: &Path, page: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for target in targets(page) {
        if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
            continue;
        }
        let (file, anchor) =
            target.split_once('#').map_or((&*target, None), |(file, anchor)| (file, Some(anchor)));
        let other = path.with_file_name("").join(file);
        let has =
            |anchor| anchors(&if file.is_empty() { page.to_owned() } else { read(&other) }).contains(anchor);
        let is_there = (file.is_empty() || other.exists()) && anchor.is_none_or(has);
        if !is_there {
            broken.push(format!("{}: {target}", path.display()));
        }
    }
    let defined: BTreeSet<_> = page.lines().filter_map(definition).map(|(name, _)| name.to_owned()).collect();
    let undefined = references(page).into_iter().filter(|name| !defined.contains(name));
    broken.extend(undefined.map(|name| format!("{}: [{name}] has no target", path.display())));
    broken
}

#[test]
fn every_link_leads_somewhere() {
    let pages = files(&root(), "md");
    assert!(pages.len() > 25, "{} pages", pages.len());
    let mut count = 0;
    let mut all = Vec::new();
    for path in pages {
        // It is text of rustdoc, whose links name items.
        if path.ends_with("mistakes.md") {
            continue;
        }
        let page = read(&path);
        count += targets(&page).len();
        all.extend(broken(&path, &page));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
    assert!(count > 100, "only {count} links were found");
}

#[test]
fn a_broken_link_is_found() {
    let path = root().join("README.md");
    for page in [
        "see [this](docs/nowhere.md)",
        "see [this](docs/testing.md#no-heading)",
        "see [this](#no-heading)",
        "![picture](docs/nowhere.svg)",
        "[name]: docs/nowhere.md",
        "see [this][name]",
    ] {
        assert_eq!(broken(&path, page).len(), 1, "{page}");
    }
    for page in [
        "# One heading\nsee [this](#one-heading), [that](docs/testing.md#testing) and [another](https://actix.rs)",
        "`[this](docs/nowhere.md)` and ``a `[b][c]` d``",
        "```\n[this](docs/nowhere.md)\n```",
        "[this][name]\n\n[name]: docs/testing.md",
    ] {
        assert!(broken(&path, page).is_empty(), "{page}: {:?}", broken(&path, page));
    }
}
