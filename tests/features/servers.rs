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
