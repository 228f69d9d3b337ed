//! `Sessions` answer what a plain model answers: stores on servers.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers --test model_servers`. `PROPTEST_CASES=n` is
//! the number of sequences per store; a failure prints the shortest sequence that was found.
#![allow(missing_docs)]

mod model;

use std::time::Duration;

use databag_tests::Cached;
use databag_tests::server::url;
use session_runtime::{Directory, MysqlStore, PostgresStore, RedisStore};
use tokio::sync::OnceCell;

use self::model::try_all;

const CASES: u32 = 48;

/// Compares two processes with the model. They connect once for all sequences.
fn compare<S: Directory + Clone>(name: &str, connect: impl AsyncFn() -> S) {
    compare_both(name, async || [connect().await, connect().await]);
}

fn compare_both<S: Directory + Clone>(name: &str, both: impl AsyncFn() -> [S; 2]) {
    let connected = OnceCell::new();
    let tried = try_all(name, CASES, async || connected.get_or_init(|| both()).await.clone());
    tried.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn sessions_in_postgres_do_what_the_model_does() {
    compare("PostgreSQL", async || {
        PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers")
    });
}

#[test]
fn sessions_in_mysql_do_what_the_model_does() {
    compare("MariaDB", async || MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers"));
}

#[test]
fn sessions_in_redis_do_what_the_model_does() {
    compare("Redis", async || RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers"));
}

/// A near cache is of one process, so the handles share it.
#[test]
fn sessions_in_redis_with_a_near_cache_do_what_the_model_does() {
    compare_both("Redis with near cache", async || {
        let store = RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers");
        let store = Cached(store.near_cache(Duration::from_hours(1)));
        [store.clone(), store]
    });
}

#[test]
fn sessions_in_a_redis_cluster_do_what_the_model_does() {
    compare("Redis Cluster", async || {
        RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("the cluster answers")
    });
}
