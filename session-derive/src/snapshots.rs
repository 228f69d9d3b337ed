//! Snapshots of generated code: each `snapshots/*.rs` beside its `*.expanded.rs`.
//!
//! `SNAPSHOTS=overwrite cargo test -p session-derive` replaces them by what the derives write now.

use std::path::{Path, PathBuf};
use std::{env, fs};

use quote::ToTokens;
use syn::DeriveInput;

fn inputs() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    let files = fs::read_dir(folder).expect("the folder is there").map(|file| file.expect("readable").path());
    files.filter(|file| !file.to_string_lossy().ends_with(".expanded.rs")).collect()
}

fn expanded(input: &str) -> String {
    let input: DeriveInput = syn::parse_str(input).expect("an item");
    let is_column_value = input.attrs.iter().any(|attribute| {
        attribute.path().is_ident("derive") && attribute.to_token_stream().to_string().contains("ColumnValue")
    });
    let tokens = if is_column_value { crate::column_value::derive(&input) } else { crate::databag(&input) };
    prettyplease::unparse(&syn::parse2(tokens).expect("the expansion is Rust"))
}

#[test]
fn the_generated_code_is_the_snapshot() {
    for input in inputs() {
        let file = input.with_extension("expanded.rs");
        let now = expanded(&fs::read_to_string(&input).expect("readable"));
        if env::var("SNAPSHOTS").is_ok_and(|snapshots| snapshots == "overwrite") {
            fs::write(&file, &now).expect("writable");
        }
        let before = fs::read_to_string(&file).unwrap_or_default();
        let differs = before.lines().zip(now.lines()).position(|(before, now)| before != now);
        assert!(
            before == now,
            "{} differs from line {} on; if the change is intended: SNAPSHOTS=overwrite cargo test -p session-derive",
            file.display(),
            differs.map_or(before.lines().count(), |line| line) + 1,
        );
    }
}
