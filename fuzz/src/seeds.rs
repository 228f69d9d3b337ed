//! The committed inputs: a file for each target, an input on each line, in hexadecimal digits.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Target;

/// The longest input that is committed, in bytes.
const LONGEST: usize = 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

fn file(target: &Target) -> PathBuf {
    folder().join(format!("{}.hex", target.name))
}

/// Where libFuzzer keeps the inputs of a target.
pub fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Reads the committed inputs of a target.
///
/// # Panics
///
/// If the file is missing or has something else.
pub fn read(target: &Target) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(file(target)).expect("each target has seeds: `cargo run -p databag-fuzz`");
    text.lines().map(|line| of_hex(line).expect("hexadecimal digits")).collect()
}

/// Writes the inputs that a target starts with, those that are committed already, and the short ones that libFuzzer has
/// found. Returns how many there are.
///
/// # Errors
///
/// If a file cannot be read or written.
pub fn collect(target: &Target) -> std::io::Result<usize> {
    let mut inputs: BTreeSet<Vec<u8>> = (target.starts)().into_iter().collect();
    if let Ok(text) = fs::read_to_string(file(target)) {
        inputs.extend(text.lines().filter_map(of_hex));
    }
    if let Ok(found) = fs::read_dir(corpus(target)) {
        for entry in found {
            let input = fs::read(entry?.path())?;
            if input.len() <= LONGEST {
                inputs.insert(input);
            }
        }
    }
    let lines: String = inputs.iter().map(|input| hex(input) + "\n").collect();
    fs::create_dir_all(folder())?;
    fs::write(file(target), lines)?;
    Ok(inputs.len())
}

/// Writes the committed inputs of a target where libFuzzer reads them.
///
/// # Errors
///
/// If a file cannot be written.
pub fn unpack(target: &Target) -> std::io::Result<()> {
    let folder = corpus(target);
    fs::create_dir_all(&folder)?;
    read(target)
        .iter()
        .enumerate()
        .try_for_each(|(n, input)| fs::write(folder.join(format!("seed-{n}")), input))
}

/// Writes bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads hexadecimal digits.
pub fn of_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() % 2 == 1 {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
