//! What applications need of their sessions, on PostgreSQL, MariaDB, Redis and a Redis Cluster.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers --test features_servers`.
#![allow(missing_docs)]

mod suite;

use databag_tests::server::url;
use session_runtime::{AnyStore, MysqlStore, PostgresStore, RedisStore};

use self::suite::blind::blind;
use self::suite::features;

async fn postgres() -> AnyStore {
    PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers").into()
}

async fn mariadb() -> AnyStore {
    MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers").into()
}

async fn redis() -> AnyStore {
    RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers").into()
}

async fn cluster() -> AnyStore {
    RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("the cluster answers").into()
}

features! { in_postgres: crate::postgres }
features! { in_mariadb: crate::mariadb }
features! { in_redis: crate::redis }
features! { in_a_cluster: crate::cluster }
blind! { blind_in_postgres: PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers") }
blind! { blind_in_mariadb: MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers") }
blind! { blind_in_redis: RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers") }
blind! { blind_in_a_cluster: RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("it answers") }

#[actix_web::test]
async fn what_another_process_ends_is_seen_in_postgres() {
    suite::live::a_watch_ends_when_another_process_ends_the_session(postgres().await, postgres().await).await;
}

#[actix_web::test]
async fn what_another_process_ends_is_seen_in_mariadb() {
    suite::live::a_watch_ends_when_another_process_ends_the_session(mariadb().await, mariadb().await).await;
}

#[actix_web::test]
async fn what_another_process_ends_is_seen_in_redis() {
    suite::live::a_watch_ends_when_another_process_ends_the_session(redis().await, redis().await).await;
}

#[actix_web::test]
async fn what_another_process_ends_is_seen_in_a_cluster() {
    suite::live::a_watch_ends_when_another_process_ends_the_session(cluster().await, cluster().await).await;
}

#[actix_web::test]
#[ignore = "it measures"]
async fn the_cost_of_ten_thousand_watches_in_postgres() {
    suite::live::measure_ten_thousand_watches(postgres().await).await;
}

#[actix_web::test]
#[ignore = "it measures"]
async fn the_cost_of_ten_thousand_watches_in_mariadb() {
    suite::live::measure_ten_thousand_watches(mariadb().await).await;
}

#[actix_web::test]
#[ignore = "it measures"]
async fn the_cost_of_ten_thousand_watches_in_redis() {
    suite::live::measure_ten_thousand_watches(redis().await).await;
}

#[actix_web::test]
#[ignore = "it measures"]
async fn the_cost_of_ten_thousand_watches_in_cluster() {
    suite::live::measure_ten_thousand_watches(cluster().await).await;
}
