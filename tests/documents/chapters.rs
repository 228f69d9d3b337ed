//! The chapters of the guide are complete in the documentation, and the README names what there is.

use std::path::PathBuf;

use super::links::{definition, prose, targets};
use super::{files, read, root};

fn chapters() -> Vec<(String, String)> {
    let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let pages = files(&root().join("docs/guide"), "md");
    pages.iter().map(|path| (name(path), read(path))).collect()
}

#[test]
fn every_chapter_is_in_the_documentation_and_in_both_lists() {
    let modules = read(root().join("session-runtime/src/chapters.rs"));
    let (readme, list) = (read(root().join("README.md")), read(root().join("docs/guide/README.md")));
    let chapters = chapters();
    assert!(chapters.len() > 20, "{} chapters", chapters.len());
    for (name, _) in &chapters {
        assert!(modules.contains(&format!("chapter!(\"{name}\")")), "{name} is no module");
        assert!(readme.contains(&format!("(docs/guide/{name})")), "the README does not name {name}");
        assert!(
            name == "README.md" || list.contains(&format!("]: {name}\n")),
            "the list does not name {name}"
        );
    }
}

/// A link `[text](chapter.md)` would be broken in the documentation, where a chapter is a module.
#[test]
fn every_link_of_a_chapter_has_a_target_in_the_documentation() {
    let modules = read(root().join("session-runtime/src/chapters.rs"));
    for (name, page) in chapters() {
        let prose = prose(&page);
        for (link, _) in prose.lines().filter_map(definition) {
            assert!(modules.contains(&format!("\"[{link}]: ")), "{name}: [{link}] has no target for rustdoc");
        }
        let without_definitions: Vec<_> = page.lines().filter(|line| definition(line).is_none()).collect();
        let inline = targets(&without_definitions.join("\n"));
        assert!(inline.iter().all(|target| target.starts_with("https://")), "{name}: {inline:?}");
    }
}

#[test]
fn every_chapter_begins_with_what_it_is_for_and_a_program() {
    for (name, page) in chapters().iter().filter(|(name, _)| name != "README.md") {
        let mut lines = page.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{name} has no title");
        let program = page.find("\n```rust").unwrap_or_else(|| panic!("{name} has no program"));
        let section = page.find("\n## ").unwrap_or_else(|| panic!("{name} has no sections"));
        let is_short = page[..program.min(section)].lines().filter(|line| !line.is_empty()).count() < 12;
        assert!(is_short, "{name} comes late to its point");
    }
}

#[test]
fn the_readme_names_the_version_the_features_and_the_compiler() {
    let readme = read(root().join("README.md"));
    let workspace = read(root().join("Cargo.toml"));
    let value = |key: &str| {
        let (_, rest) = workspace.split_once(&format!("\n{key} = \"")).expect("the workspace has it");
        rest.split('"').next().expect("a value").to_owned()
    };
    let version = value("version");
    let (minor, _) = version.rsplit_once('.').expect("three numbers");
    assert!(readme.contains(&format!("session-runtime = {{ version = \"{minor}\", ")), "{version}");
    let compiler = value("rust-version");
    assert!(readme.contains(&format!("![Rust {compiler}](docs/badges/rust.svg)")), "the compiler");
    assert!(read(root().join("docs/badges/rust.svg")).contains(&format!(">{compiler}+</text>")), "its badge");
    let (_, excerpt) = readme.split_once("```toml\n").expect("an excerpt of a Cargo.toml");
    let excerpt = excerpt.split("```").next().unwrap_or_default();
    let manifest = read(root().join("session-runtime/Cargo.toml"));
    let (_, features) = manifest.split_once("\n[features]\n").expect("features");
    let (features, _) = features.split_once("\n[").expect("their end");
    for feature in ["redis", "postgres", "mysql", "memory", "cookie", "any"] {
        assert!(excerpt.contains(feature) && features.contains(&format!("\n{feature} = ")), "{feature}");
    }
}
