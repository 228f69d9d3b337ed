//! The attack suite on PostgreSQL, MariaDB, Redis and a Redis Cluster.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers --test attack_servers`.
#![allow(missing_docs)]

mod suite;

use databag_tests::server::url;
use session_runtime::{MysqlStore, PostgresStore, RedisStore};

use self::suite::attack;
use self::suite::case::Kind;
use self::suite::stores::Source;
use self::suite::target::Target;

async fn postgres() -> Target {
    let store = Source::open(async || {
        PostgresStore::connect(&url("POSTGRES_URL")).await.expect("the server answers")
    });
    Target::open(Kind::Postgres, store.await, None).await
}

async fn mariadb() -> Target {
    let store =
        Source::open(async || MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers"));
    Target::open(Kind::MariaDb, store.await, None).await
}

async fn redis() -> Target {
    let store =
        Source::open(async || RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers"));
    Target::open(Kind::Redis, store.await, None).await
}

async fn cluster() -> Target {
    let store = Source::open(async || {
        RedisStore::connect(&url("REDIS_CLUSTER_URL")).await.expect("the cluster answers")
    });
    Target::open(Kind::Cluster, store.await, None).await
}

attack! { in_postgres: Postgres, crate::postgres }
attack! { in_mariadb: MariaDb, crate::mariadb }
attack! { in_redis: Redis, crate::redis }
attack! { in_a_cluster: Cluster, crate::cluster }
