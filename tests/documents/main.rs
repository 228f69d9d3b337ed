//! The documents: their links lead somewhere, messages that they quote exist, and the SQL that they show runs.

use std::fs;
use std::path::{Path, PathBuf};

mod chapters;
mod links;
mod messages;
mod sql;
mod sqlite;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the files of a folder whose names end so, without those that a symbolic link leads to.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, kind) = (entry.path(), entry.file_type().expect("a file has a type"));
        let name = entry.file_name();
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            files.extend(self::files(&path, extension));
        } else if kind.is_file() && path.extension().is_some_and(|other| other == extension) {
            files.push(path);
        }
    }
    files
}
