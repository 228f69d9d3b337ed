//! Every store on its real server: the suite, and what only that server can do wrong.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers`. Without a server its tests fail.

mod postgres {
    use databag_tests::server;
    use session_runtime::PostgresStore;
    use session_runtime::store::suite;

    async fn store() -> PostgresStore {
        PostgresStore::connect(&server::url("POSTGRES_URL")).await.expect("the server answers")
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_store() {
        suite::run(store).await;
    }
}

mod mysql {
    use databag_tests::server;
    use session_runtime::MysqlStore;
    use session_runtime::store::suite;

    async fn store() -> MysqlStore {
        MysqlStore::connect(&server::url("MYSQL_URL")).await.expect("the server answers")
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_store() {
        suite::run(store).await;
    }
}

mod redis {
    use databag_tests::server;
    use session_runtime::RedisStore;
    use session_runtime::store::suite;

    async fn store() -> RedisStore {
        RedisStore::connect(&server::url("REDIS_URL")).await.expect("the server answers")
    }

    async fn cluster() -> RedisStore {
        RedisStore::connect(&server::url("REDIS_CLUSTER_URL")).await.expect("the cluster answers")
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_store() {
        suite::run(store).await;
    }

    #[tokio::test]
    async fn a_cluster_keeps_the_promises_of_a_store() {
        suite::run(cluster).await;
    }
}
