//! A read-only database file and a read-only folder: the answers that visitors get.
//!
//! The shop runs as an ordinary user, because file permissions do not apply to root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use databag_tests::demo::{Answer, Running, Shop, Visitor};
use tempfile::TempDir;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

const KEY: &str = "1e6643f1604cf5280ba8c6617017389469408f35b36f83db53a5901561d9eb38";

/// A folder for the database within a writable folder for the output of the shop.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let outer = tempfile::tempdir().expect("there is room for a folder");
        fs::create_dir(outer.path().join("data")).expect("it takes folders");
        Self(outer)
    }

    fn shop(&self) -> Shop {
        let shop = Shop::unprivileged(SHOP, &self.0).env("SESSION_KEY", KEY);
        shop.env("SHOP_STORE", "sqlite:data/shop.db")
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn database(&self) -> PathBuf {
        self.folder().join("shop.db")
    }

    /// Returns the names and contents of the files in the folder.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.folder()).expect("it can be listed");
        let mut paths: Vec<_> = files.map(|file| file.expect("it can be listed").path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect()
    }

    /// Makes the folder and its files read-only for all users, or writable for the owner.
    fn let_all_be_written(&self, writable: bool) {
        // The order matters: an ordinary user cannot change files in a folder without access to it.
        for (path, _) in self.content() {
            set_mode(&path, if writable { 0o600 } else { 0o400 });
        }
        set_mode(&self.folder(), if writable { 0o700 } else { 0o500 });
    }
}

impl Drop for Place {
    /// The owner of the folder must be able to remove it.
    fn drop(&mut self) {
        set_mode(&self.folder(), 0o700);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("<h1>The database does not answer</h1>"), "{}", answer.body);
    assert!(answer.retry_after.is_some() && answer.set_cookie.is_empty(), "{answer:?}");
}

/// Checks that reads work, writes are 503, and cookies do not change.
fn assert_read_only(shop: &Running, visitor: &mut Visitor, count: u64) {
    let cookie = visitor.cookie.clone();
    for path in ["/count", "/count-plain", "/count"] {
        assert_unavailable(&visitor.post(path, ""));
        let mut newcomer = Visitor::of(shop);
        assert_unavailable(&newcomer.post(path, ""));
        assert_eq!(newcomer.get("/").status, 200, "a visitor without a session");
        assert_eq!(visitor.session()["count"], count, "the old row is intact");
    }
    assert_eq!(visitor.cookie, cookie);
}

/// Counts as the visitor and as a new visitor.
fn assert_writable(shop: &Running, visitor: &mut Visitor, count: u64) {
    assert_eq!(visitor.api("/count", "")["count"], count);
    assert_eq!(visitor.session()["count"], count);
    assert_eq!(Visitor::of(shop).api("/count-plain", "")["count"], 1);
}

#[test]
fn a_read_only_file_is_read_and_writes_are_503_until_it_is_writable() {
    let place = Place::new();
    let shop = place.shop().start();
    let mut visitor = Visitor::of(&shop);
    assert_writable(&shop, &mut visitor, 1);
    shop.stop();

    set_mode(&place.database(), 0o400);
    let shop = place.shop().start();
    visitor.moves_to(&shop);
    assert_read_only(&shop, &mut visitor, 1);
    // SQLite has made the files beside it read-only too.
    set_mode(&place.database(), 0o600);
    assert_writable(&shop, &mut visitor, 2);
    shop.stop();

    let shop = place.shop().start();
    visitor.moves_to(&shop);
    assert_writable(&shop, &mut visitor, 3);
}

#[test]
fn a_folder_that_may_only_be_read_costs_no_write_and_with_its_files_writes_are_503_until_they_may_be_written()
{
    let place = Place::new();
    let shop = place.shop().start();
    let mut visitor = Visitor::of(&shop);
    assert_writable(&shop, &mut visitor, 1);

    // A running shop has the files open that it needs. After a crash the next shop finds them.
    set_mode(&place.folder(), 0o500);
    assert_writable(&shop, &mut visitor, 2);
    shop.kill();
    let shop = place.shop().start();
    visitor.moves_to(&shop);
    assert_writable(&shop, &mut visitor, 3);
    place.let_all_be_written(false);
    assert_writable(&shop, &mut visitor, 4);
    shop.kill();

    let shop = place.shop().start();
    visitor.moves_to(&shop);
    assert_read_only(&shop, &mut visitor, 4);
    place.let_all_be_written(true);
    assert_writable(&shop, &mut visitor, 5);
}

#[test]
fn a_closed_database_in_a_read_only_folder_is_not_opened_and_not_changed() {
    let place = Place::new();
    let shop = place.shop().start();
    let mut visitor = Visitor::of(&shop);
    assert_writable(&shop, &mut visitor, 1);
    shop.stop();

    let before = place.content();
    set_mode(&place.folder(), 0o500);
    let (exit, said) = place.shop().refuse();
    // SQLite needs files beside the database to know whether other processes write.
    assert!(
        !exit.success() && said.contains("the folder of ") && said.contains("data/shop.db\" is not writable"),
        "{said}"
    );
    assert_eq!(place.content(), before);

    set_mode(&place.folder(), 0o700);
    let shop = place.shop().start();
    visitor.moves_to(&shop);
    assert_writable(&shop, &mut visitor, 2);
}
