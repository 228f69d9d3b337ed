//! TLS connections of the stores: which servers are trusted, which are refused, and with which error.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers`, which makes the certificates: those of the
//! databases are for the name `localhost`, those of Redis for the address 127.0.0.1.

use std::fmt::Debug;

use databag_tests::Logs;
use databag_tests::rows::{row, soon, table, touch};
use databag_tests::server::url;
use session_runtime::store::{Outcome, suite};
use session_runtime::{MysqlStore, PostgresStore, RedisStore, Store, StoreError};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

fn file(name: &str) -> String {
    format!("{}/{name}", url("CERTIFICATES"))
}

/// Writes, changes and reads a row.
async fn works<S: Store>(mut store: S) -> S {
    store.prepare(&table("tls"), DEADLINE).await.expect("the server answers");
    store.insert(row(1), soon()).await.expect("the server answers");
    assert_eq!(store.update(touch(&row(1)), soon()).await.expect("the server answers"), Outcome::Stored);
    assert_eq!(
        store.load(row(1).id, soon()).await.expect("the server answers").map(|row| row.revision),
        Some(2)
    );
    store
}

/// Checks that the error says what is wrong and shows no password.
#[track_caller]
fn refused<S: Debug>(connected: Result<S, StoreError>, reason: &str) {
    let error = connected.expect_err("it is not to be trusted");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(text.contains(reason), "{text}");
    assert!(!format!("{text} {error:?}").contains("open-sesame"), "{text} {error:?}");
}

mod postgres {
    use sqlx::PgPool;

    use super::*;

    fn to(query: &str) -> String {
        format!("{}?{query}", url("POSTGRES_TLS_URL"))
    }

    fn verified(query: &str) -> String {
        to(&format!("sslmode=verify-full&sslrootcert={}{query}", file("ca.pem")))
    }

    async fn connect(url: &str) -> Result<PostgresStore, StoreError> {
        PostgresStore::connect(url).await
    }

    #[tokio::test]
    async fn a_store_on_a_verified_server_keeps_its_promises() {
        suite::run(async || connect(&verified("")).await.expect("the certificate is good")).await;
    }

    #[tokio::test]
    async fn every_connection_of_a_store_is_encrypted() {
        let store = connect(&verified("&application_name=tls")).await.expect("the certificate is good");
        let store = works(store).await;
        let others = PgPool::connect(&url("POSTGRES_URL")).await.expect("the server answers");
        let encrypted: Vec<bool> = sqlx::query_scalar(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tls'",
        )
        .fetch_all(&others)
        .await
        .expect("the server answers");
        assert!(!encrypted.is_empty() && encrypted.iter().all(|encrypted| *encrypted), "{encrypted:?}");
        drop(store);
        refused(connect(&to("sslmode=disable")).await, "no encryption");
    }

    #[tokio::test]
    async fn a_server_with_an_untrusted_certificate_is_refused() {
        let strange = to(&format!("sslmode=verify-full&sslrootcert={}", file("stranger.pem")));
        refused(connect(&strange).await, "UnknownIssuer");
        refused(connect(&to("sslmode=verify-full")).await, "UnknownIssuer");
    }

    #[tokio::test]
    async fn a_server_with_another_name_is_refused() {
        refused(connect(&verified("").replace("@localhost:", "@127.0.0.1:")).await, "not valid for name");
    }

    #[tokio::test]
    async fn roots_that_would_have_no_effect_are_refused() {
        let roots = format!("sslrootcert={}", file("ca.pem"));
        refused(connect(&to(&roots)).await, "add `sslmode=verify-full`");
        refused(connect(&to(&format!("{roots}&sslmode=require"))).await, "add `sslmode=verify-full`");
        refused(connect(&to("ssl_mode=verify-full")).await, "unknown TLS parameter \"ssl_mode\"");
    }

    #[tokio::test]
    async fn a_url_without_a_tls_mode_causes_a_warning_for_a_remote_server() {
        let elsewhere = |query: &str| to(query).replace("@localhost:", "@0.0.0.0:");
        for (url, warnings) in [(elsewhere(""), 1), (elsewhere("sslmode=require"), 0), (to(""), 0)] {
            let (logs, _guard) = Logs::of_this_thread();
            // The server refuses connections without TLS.
            works(connect(&url).await.expect("no certificate is checked")).await;
            assert_eq!(logs.lines(&["WARN", "add sslmode=verify-full"]).len(), warnings, "{}", logs.text());
            assert!(!logs.text().contains("open-sesame"), "{}", logs.text());
        }
    }
}

mod mysql {
    use sqlx::MySqlPool;

    use super::*;

    fn to(query: &str) -> String {
        format!("{}?{query}", url("MYSQL_TLS_URL"))
    }

    fn verified() -> String {
        to(&format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={}", file("ca.pem")))
    }

    async fn connect(url: &str) -> Result<MysqlStore, StoreError> {
        MysqlStore::connect(url).await
    }

    #[tokio::test]
    async fn a_store_on_a_verified_server_keeps_its_promises() {
        suite::run(async || connect(&verified()).await.expect("the certificate is good")).await;
    }

    #[tokio::test]
    async fn every_connection_of_a_store_is_encrypted() {
        let pool = MySqlPool::connect(&verified()).await.expect("the certificate is good");
        works(MysqlStore::from_pool(pool.clone()).await.expect("the server answers")).await;
        let cipher: (String, String) = sqlx::query_as("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            .fetch_one(&pool)
            .await
            .expect("the server answers");
        assert!(cipher.1.starts_with("TLS_"), "{cipher:?}");
        // This user can log in over TLS only, so a connection of the store uses TLS too.
        works(connect(&verified()).await.expect("the certificate is good")).await;
        refused(connect(&to("ssl-mode=DISABLED")).await, "Access denied");
    }

    #[tokio::test]
    async fn a_server_with_an_untrusted_certificate_is_refused() {
        let strange = to(&format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={}", file("stranger.pem")));
        refused(connect(&strange).await, "UnknownIssuer");
        refused(connect(&to("ssl-mode=VERIFY_IDENTITY")).await, "UnknownIssuer");
    }

    #[tokio::test]
    async fn a_server_with_another_name_is_refused() {
        refused(connect(&verified().replace("@localhost:", "@127.0.0.1:")).await, "not valid for name");
    }

    #[tokio::test]
    async fn roots_that_would_have_no_effect_are_refused() {
        let roots = format!("ssl-ca={}", file("ca.pem"));
        refused(connect(&to(&roots)).await, "add `ssl-mode=VERIFY_IDENTITY`");
        refused(connect(&to(&format!("{roots}&ssl-mode=REQUIRED"))).await, "add `ssl-mode=VERIFY_IDENTITY`");
        refused(connect(&to("ssl_mode=VERIFY_IDENTITY")).await, "unknown TLS parameter \"ssl_mode\"");
    }

    #[tokio::test]
    async fn a_url_without_a_tls_mode_causes_a_warning_for_a_remote_server() {
        let elsewhere = |query: &str| to(query).replace("@localhost:", "@0.0.0.0:");
        for (url, warnings) in [(elsewhere(""), 1), (elsewhere("ssl-mode=REQUIRED"), 0), (to(""), 0)] {
            let (logs, _guard) = Logs::of_this_thread();
            works(connect(&url).await.expect("no certificate is checked")).await;
            assert_eq!(
                logs.lines(&["WARN", "add ssl-mode=VERIFY_IDENTITY"]).len(),
                warnings,
                "{}",
                logs.text()
            );
            assert!(!logs.text().contains("open-sesame"), "{}", logs.text());
        }
    }
}

mod redis {
    use std::fs;

    use ::redis::aio::ConnectionManager;
    use ::redis::cluster::ClusterClient;
    use ::redis::{Client, ClientTlsConfig, TlsCertificates};

    use super::*;

    const TOPOLOGIES: [&str; 3] = ["REDIS_TLS_URL", "REDIS_TLS_CLUSTER_URL", "REDIS_TLS_SENTINEL_URL"];

    fn trusting(variable: &str, authority: &str) -> String {
        format!("{}?tls-ca-cert-file={}", url(variable), file(authority))
    }

    /// With the certificate of a client that the cluster accepts.
    fn verified(variable: &str) -> String {
        let [certificate, key] = ["client.pem", "client.key"].map(file);
        format!("{}&tls-cert-file={certificate}&tls-key-file={key}", trusting(variable, "ca.pem"))
    }

    async fn connect(url: &str) -> Result<RedisStore, StoreError> {
        RedisStore::connect(url).await
    }

    #[tokio::test]
    async fn a_store_on_a_verified_server_keeps_its_promises() {
        suite::run(async || connect(&verified("REDIS_TLS_URL")).await.expect("the certificate is good"))
            .await;
    }

    #[tokio::test]
    async fn a_cluster_and_the_master_of_sentinels_are_verified_too() {
        for variable in TOPOLOGIES {
            works(connect(&verified(variable)).await.expect("the certificate is good")).await;
        }
    }

    #[tokio::test]
    async fn no_connection_is_unencrypted() {
        for variable in TOPOLOGIES {
            let plain = url(variable).replacen("rediss", "redis", 1);
            connect(&plain).await.expect_err("there is no plain port");
        }
    }

    #[tokio::test]
    async fn a_server_with_an_untrusted_certificate_is_refused() {
        for variable in TOPOLOGIES {
            refused(connect(&trusting(variable, "stranger.pem")).await, "UnknownIssuer");
            refused(connect(&url(variable)).await, "UnknownIssuer");
        }
        let unverified = format!("{}/#insecure", url("REDIS_TLS_URL"));
        refused(connect(&unverified).await, "insecure");
    }

    #[tokio::test]
    async fn a_server_with_another_name_is_refused() {
        for variable in TOPOLOGIES {
            let misnamed = verified(variable).replace("127.0.0.1:", "localhost:");
            refused(connect(&misnamed).await, "not valid for name");
        }
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_gets_an_error_that_names_it() {
        let nameless = trusting("REDIS_TLS_CLUSTER_URL", "ca.pem");
        refused(connect(&nameless).await, "CertificateRequired");
    }

    #[tokio::test]
    async fn a_connection_with_its_own_roots_can_be_handed_over() {
        let read = |name: &str| fs::read(file(name)).expect("it is there");
        let client_tls = ClientTlsConfig { client_cert: read("client.pem"), client_key: read("client.key") };
        let certificates = TlsCertificates { client_tls: Some(client_tls), root_cert: Some(read("ca.pem")) };
        let client = Client::build_with_tls(url("REDIS_TLS_URL"), certificates.clone()).expect("a URL");
        let manager = ConnectionManager::new(client).await.expect("the certificate is good");
        works(RedisStore::from_manager(manager).await.expect("the server answers")).await;

        let node = url("REDIS_TLS_CLUSTER_URL").replace("rediss-cluster", "rediss");
        let cluster = ClusterClient::builder([node]).certs(certificates).build().expect("a URL");
        let connection = cluster.get_async_connection().await.expect("the certificate is good");
        works(RedisStore::from_cluster(connection).await.expect("the cluster answers")).await;
    }
}
