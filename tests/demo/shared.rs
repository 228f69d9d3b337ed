//! Two shops on one server: a change at one is visible at the other at once.
//!
//! Run by `tests/servers cargo test -p examples --features servers --test shared`.

use std::thread;

use databag_tests::demo::{Running, Shop, Visitor};
use databag_tests::server::url;
use serde_json::json;

/// How many sessions are ended at one shop and replayed at the other.
const LOG_OUTS: usize = 50;

/// How many visitors count in one session at the same time, and how often each counts.
const COUNTERS: usize = 8;
const COUNTS: usize = 25;

fn two_shops_share(store: &str) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let open = |_| Shop::new(env!("CARGO_BIN_EXE_shop"), &folder).env("SHOP_STORE", store).start();
    let shops: [Running; 2] = std::array::from_fn(open);
    let there = |visitor: &Visitor| {
        let mut visitor = visitor.clone();
        visitor.moves_to(&shops[1]);
        visitor
    };

    let mut here = Visitor::of(&shops[0]);
    here.api("/cart", "sku=tea&qty=2");
    here.api("/tenant", "tenant=acme");
    assert_eq!(there(&here).api("/cart", "sku=tea&qty=1")["cart"], json!({"tea": 3}));
    assert_eq!(here.session()["tenant"], "acme");
    here.api("/login", "user=7");
    assert_eq!(there(&here).session()["user_id"], 7);

    let mut elsewhere = Visitor::of(&shops[1]);
    elsewhere.api("/login", "user=7");
    let devices = here.get("/api/devices").json();
    assert_eq!(devices.as_array().map(Vec::len), Some(2), "{devices}");
    assert_eq!(here.post("/devices/revoke-others", "").status, 303);
    assert_eq!(elsewhere.session()["is_new"], true);

    thread::scope(|scope| {
        for counter in 0..COUNTERS {
            let mut visitor = if counter % 2 == 0 { here.clone() } else { there(&here) };
            scope.spawn(move || {
                for _ in 0..COUNTS {
                    assert_eq!(visitor.post("/count", "").status, 303);
                }
            });
        }
    });
    assert_eq!(here.session()["count"], COUNTERS * COUNTS);

    for _ in 0..LOG_OUTS {
        let mut visitor = Visitor::of(&shops[0]);
        visitor.api("/login", "user=8");
        let mut copy = there(&visitor);
        assert_eq!(copy.session()["user_id"], 8);
        visitor.api("/logout", "");
        assert_eq!(copy.session()["is_new"], true);
        copy.api("/cart", "sku=tea&qty=1");
        assert_eq!(copy.session()["user_id"], json!(null));
    }
    shops.into_iter().for_each(Running::stop);

    let log = std::fs::read_to_string(folder.path().join("log")).expect("there is a log");
    let trouble: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(trouble, [""; 0]);
}

#[test]
fn two_shops_share_postgresql() {
    two_shops_share(&url("POSTGRES_URL"));
}

#[test]
fn two_shops_share_mariadb() {
    two_shops_share(&url("MYSQL_URL"));
}

#[test]
fn two_shops_share_redis() {
    two_shops_share(&url("REDIS_URL"));
}

#[test]
fn two_shops_share_a_redis_cluster() {
    two_shops_share(&url("REDIS_CLUSTER_URL"));
}

#[test]
fn two_shops_share_a_redis_that_sentinels_watch() {
    two_shops_share(&url("REDIS_SENTINEL_URL"));
}
