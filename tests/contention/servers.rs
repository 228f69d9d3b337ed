//! Racing requests over real connections to several workers of a real server: stores on servers.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers --test races`.
#![allow(missing_docs)]

mod collide;

use std::time::Duration;

use databag_tests::server::url;
use session_runtime::{MysqlStore, PostgresStore, RedisStore};

use self::collide::{fifty_writers, race_often, twenty_increments};

async fn postgres() -> PostgresStore {
    PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers")
}

async fn mysql() -> MysqlStore {
    MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers")
}

async fn redis() -> RedisStore {
    RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers")
}

async fn near_cache() -> RedisStore {
    redis().await.near_cache(Duration::from_hours(1))
}

async fn cluster() -> RedisStore {
    RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("the cluster answers")
}

#[actix_web::test]
async fn fifty_parallel_writers_lose_nothing_in_postgres() {
    fifty_writers("PostgreSQL", postgres().await).await;
}

#[actix_web::test]
async fn twenty_parallel_increments_are_twenty_in_postgres() {
    twenty_increments("PostgreSQL", postgres().await).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_postgres() {
    race_often("PostgreSQL", postgres().await).await;
}

#[actix_web::test]
async fn fifty_parallel_writers_lose_nothing_in_mysql() {
    fifty_writers("MariaDB", mysql().await).await;
}

#[actix_web::test]
async fn twenty_parallel_increments_are_twenty_in_mysql() {
    twenty_increments("MariaDB", mysql().await).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_mysql() {
    race_often("MariaDB", mysql().await).await;
}

#[actix_web::test]
async fn fifty_parallel_writers_lose_nothing_in_redis() {
    fifty_writers("Redis", redis().await).await;
}

#[actix_web::test]
async fn twenty_parallel_increments_are_twenty_in_redis() {
    twenty_increments("Redis", redis().await).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_redis() {
    race_often("Redis", redis().await).await;
}

#[actix_web::test]
async fn fifty_parallel_writers_lose_nothing_in_redis_with_a_near_cache() {
    fifty_writers("Redis with near cache", near_cache().await).await;
}

#[actix_web::test]
async fn twenty_parallel_increments_are_twenty_in_redis_with_a_near_cache() {
    twenty_increments("Redis with near cache", near_cache().await).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_redis_with_a_near_cache() {
    race_often("Redis with near cache", near_cache().await).await;
}

#[actix_web::test]
async fn fifty_parallel_writers_lose_nothing_in_a_redis_cluster() {
    fifty_writers("Redis Cluster", cluster().await).await;
}

#[actix_web::test]
async fn twenty_parallel_increments_are_twenty_in_a_redis_cluster() {
    twenty_increments("Redis Cluster", cluster().await).await;
}

#[actix_web::test]
async fn a_log_out_is_final_against_a_slow_request_in_a_redis_cluster() {
    race_often("Redis Cluster", cluster().await).await;
}
