//! A changed layout fails a test before it meets stored sessions.

use std::path::Path;
use std::process::Command;
use std::{env, fs, panic};

use session_runtime::{Databag, assert_schema};

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
    visits: u32,
}

const FILE: &str = "SCHEMA_FILE";

/// The line that a user writes. The other tests run it on files of their own.
#[test]
fn stored_sessions_can_be_read() {
    match env::var(FILE) {
        Ok(file) => assert_schema!(Shop, &file),
        Err(_) => assert_schema!(Shop, "derive/shop.schema"),
    }
}

/// Runs that line in another process, because all tests of this process share its environment.
fn update(file: &Path) -> bool {
    let this = env::current_exe().expect("a test has a path");
    let test = Command::new(this)
        .args(["--exact", "stored_sessions_can_be_read"])
        .env(FILE, file)
        .env("DATABAG_UPDATE_SCHEMA", "1")
        .output()
        .expect("a test can be run");
    test.status.success()
}

fn complaint(file: &Path) -> String {
    let file = file.to_str().expect("the path is text").to_owned();
    let panic = panic::catch_unwind(|| assert_schema!(Shop, &file)).expect_err("the layout differs");
    *panic.downcast::<String>().expect("the message has a path in it")
}

#[test]
fn the_error_about_a_missing_file_says_how_to_create_it() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let complaint = complaint(&folder.path().join("shop.schema"));
    assert!(complaint.starts_with("there is no "), "{complaint}");
    assert!(complaint.ends_with("commit it: DATABAG_UPDATE_SCHEMA=1 cargo test"), "{complaint}");
}

#[test]
fn the_environment_variable_creates_the_file_and_its_folder() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("schemas/shop.schema");
    assert!(update(&file));
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/derive/shop.schema");
    assert_eq!(
        fs::read_to_string(&file).expect("written"),
        fs::read_to_string(committed).expect("committed")
    );
    assert_schema!(Shop, file.to_str().expect("the path is text"));
}

#[test]
fn a_difference_is_an_error_until_it_is_accepted() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("shop.schema");
    fs::write(
        &file,
        "name databag-tests/Shop\nversion 0\ntable sessions\ncodec bincode\n\nfield visits\n    type u16\n",
    )
    .expect("written");
    let complaint = complaint(&file);
    for line in [
        "the layout of `databag-tests/Shop` differs from ",
        "  field visits\n-     type u16\n+     type u32\n",
        "#[databag(from = OldType)]",
        "`account` is new",
        "`version` is 0 in both",
        "accept it: DATABAG_UPDATE_SCHEMA=1 cargo test",
    ] {
        assert!(complaint.contains(line), "{line}\n\nis not in\n\n{complaint}");
    }
    assert!(update(&file));
    assert_schema!(Shop, file.to_str().expect("the path is text"));
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_an_error_with_the_reason() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let complaint = complaint(folder.path());
    assert!(complaint.contains(" cannot be read: "), "{complaint}");
    assert!(!update(folder.path()));
}

#[test]
fn the_line_ends_of_a_checkout_do_not_count() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("shop.schema");
    let committed = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/derive/shop.schema"));
    fs::write(&file, committed.expect("committed").replace('\n', "\r\n")).expect("written");
    assert_schema!(Shop, file.to_str().expect("the path is text"));
}
