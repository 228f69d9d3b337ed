//! Store URLs: a URL enters, a client that has not connected yet leaves.

use std::fs;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ClientTlsConfig, ErrorKind, IntoConnectionInfo as _, ProtocolVersion, RedisError,
    TlsCertificates, TlsMode,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// After so long without an acknowledgement a connection counts as lost.
#[cfg(any(target_os = "android", target_os = "linux"))]
const LOST: Duration = Duration::from_secs(5);

/// How long setting up a connection may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the start waits for a server to answer.
pub(super) const START_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a URL names.
pub(super) enum Target {
    Server(Client),
    Cluster(Box<ClusterClient>),
    Sentinels(Sentinels),
}

/// The sentinels of a URL: its scheme, and what follows.
pub(super) struct Sentinels {
    scheme: String,
    rest: String,
    certificates: Option<TlsCertificates>,
}

impl Sentinels {
    /// Returns a client for one connection: it cannot be shared. A protocol replaces that of the URL.
    pub(super) fn client(&self, protocol: Option<ProtocolVersion>) -> Result<SentinelClient, RedisError> {
        sentinels(&self.scheme, &self.rest, self.certificates.clone(), protocol)
    }
}

/// Reads a URL. Its scheme says what it names: `redis`, `redis-cluster`, `redis-sentinel`, the same with `rediss`
/// for TLS, and `redis+unix` or `unix`. `valkey` may stand for `redis`.
pub(super) fn parse(url: &str) -> Result<Target, RedisError> {
    let url = url.strip_prefix("valkey").map_or_else(|| url.to_owned(), |rest| format!("redis{rest}"));
    let (url, certificates) = certificates(&url)?;
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid_url("the URL has no scheme"))?;
    let (tls, topology) = match scheme.split_once('-') {
        None => (scheme, None),
        Some((tls, topology)) => (tls, Some(topology)),
    };
    if tls == "rediss" {
        install_tls_provider();
    }
    match topology {
        None => server(&url, certificates).map(Target::Server),
        Some("cluster") => cluster(tls, rest, certificates).map(|client| Target::Cluster(Box::new(client))),
        Some("sentinel") => {
            let sentinels = Sentinels { scheme: tls.to_owned(), rest: rest.to_owned(), certificates };
            sentinels.client(None)?;
            Ok(Target::Sentinels(sentinels))
        }
        Some(_) => Err(invalid_url("the scheme names neither a server, nor a cluster, nor sentinels")),
    }
}

fn server(url: &str, certificates: Option<TlsCertificates>) -> Result<Client, RedisError> {
    let info = url.into_connection_info()?.set_tcp_settings(tcp_settings());
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

/// Returns a client that speaks another protocol than that of its URL.
pub(super) fn with_protocol(
    client: &Client,
    protocol: Option<ProtocolVersion>,
) -> Result<Client, RedisError> {
    let info = client.get_connection_info().clone();
    match protocol {
        Some(protocol) => {
            let settings = info.redis_settings().clone().set_protocol(protocol);
            Client::open(info.set_redis_settings(settings))
        }
        None => Client::open(info),
    }
}

fn cluster(
    tls: &str,
    rest: &str,
    certificates: Option<TlsCertificates>,
) -> Result<ClusterClient, RedisError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let hosts = hosts.trim_end_matches('/').split(',');
    let nodes = hosts.map(|host| format!("{tls}://{user}{at}{host}/?{query}"));
    let mut builder = ClusterClient::builder(nodes)
        .tcp_settings(tcp_settings())
        .connection_timeout(CONNECT_TIMEOUT)
        // Calls have deadlines of their own; this bounds what waits in the connection after one was dropped.
        .response_timeout(START_UP_TIMEOUT)
        .retries(3);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()
}

fn sentinels(
    scheme: &str,
    rest: &str,
    certificates: Option<TlsCertificates>,
    protocol: Option<ProtocolVersion>,
) -> Result<SentinelClient, RedisError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, master) = rest.rsplit_once('/').ok_or_else(|| invalid_url("the URL names no master"))?;
    let (user, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(user, hosts)| (user, hosts));
    let mut sentinels = Vec::new();
    for host in hosts.split(',') {
        sentinels.push(format!("{scheme}://{host}").into_connection_info()?.addr().clone());
    }
    let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
        .set_client_to_redis_tcp_settings(tcp_settings());
    // The client decodes the credentials as those of a single server.
    let info = format!("{scheme}://{user}@localhost/?{query}").into_connection_info()?;
    let protocol = protocol.unwrap_or(info.redis_settings().protocol());
    builder = builder.set_client_to_redis_protocol(protocol).set_client_to_sentinel_protocol(protocol);
    if let Some(name) = info.redis_settings().username() {
        builder = builder.set_client_to_redis_username(name);
    }
    if let Some(password) = info.redis_settings().password() {
        builder = builder.set_client_to_redis_password(password);
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        builder = match name.as_ref() {
            SENTINEL_USER => builder.set_client_to_sentinel_username(value),
            SENTINEL_PASSWORD => builder.set_client_to_sentinel_password(value),
            _ => builder,
        };
    }
    if scheme == "rediss" {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_user_timeout(LOST)
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Installs the cryptography of TLS, unless the program has done so: rustls chooses none by itself.
fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails if another thread was first, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// The TLS parameters of a URL, named as in `redis.conf`.
const ROOTS: &str = "tls-ca-cert-file";
const CERTIFICATE: &str = "tls-cert-file";
const KEY: &str = "tls-key-file";

/// The parameter that the client of Redis reads itself.
const PROTOCOL: &str = "protocol";

/// The credentials for sentinels.
const SENTINEL_USER: &str = "sentinel-user";
const SENTINEL_PASSWORD: &str = "sentinel-password";

/// Takes the TLS parameters out of a URL, reads their files, and returns the rest of the URL.
fn certificates(url: &str) -> Result<(String, Option<TlsCertificates>), RedisError> {
    let (whole, fragment) = url.split_once('#').unwrap_or((url, ""));
    let Some((base, query)) = whole.split_once('?') else { return Ok((url.to_owned(), None)) };
    // The URL of a Unix socket has user and database in its query.
    if base.starts_with("unix:") || base.starts_with("redis+unix:") {
        return Ok((url.to_owned(), None));
    }
    let mut files = [(ROOTS, None), (CERTIFICATE, None), (KEY, None)];
    let mut rest = form_urlencoded::Serializer::new(String::new());
    let is_of_sentinels = base.split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("-sentinel"));
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if let Some((_, file)) = files.iter_mut().find(|(known, _)| *known == name) {
            *file = Some(value.into_owned());
        } else if name == PROTOCOL
            || is_of_sentinels && [SENTINEL_USER, SENTINEL_PASSWORD].contains(&name.as_ref())
        {
            rest.append_pair(&name, &value);
        } else {
            // The name may be the end of a password.
            if query.contains('@') || fragment.contains('@') {
                return Err(invalid_url(
                    "the URL has an unknown parameter, or a password with a `?`: write %3F for it",
                ));
            }
            // The client would ignore it silently, even if it was meant to secure the connection.
            let detail = format!(
                "{name:?}; there are {ROOTS}, {CERTIFICATE}, {KEY} and {PROTOCOL}, and for sentinels \
                 {SENTINEL_USER} and {SENTINEL_PASSWORD}"
            );
            return Err((ErrorKind::InvalidClientConfig, "unknown parameter of the URL", detail).into());
        }
    }
    let mut left = base.to_owned();
    for (mark, part) in [('?', rest.finish()), ('#', fragment.to_owned())] {
        if !part.is_empty() {
            left = format!("{left}{mark}{part}");
        }
    }
    let [(_, roots), (_, certificate), (_, key)] = files;
    if roots.is_none() && certificate.is_none() && key.is_none() {
        return Ok((left, None));
    }
    if !base.starts_with("rediss") {
        return Err(invalid_url("the URL names certificates without TLS: begin it with `rediss`"));
    }
    let client_tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read_certificates(CERTIFICATE, &certificate)?,
            client_key: read(KEY, &key)?,
        }),
        (None, None) => None,
        _ => return Err(invalid_url("a client certificate needs both tls-cert-file and tls-key-file")),
    };
    let root_cert = roots.map(|file| read_certificates(ROOTS, &file)).transpose()?;
    Ok((left, Some(TlsCertificates { client_tls, root_cert })))
}

/// Reads a file of certificates. The client would take a file without one for an empty list.
fn read_certificates(parameter: &'static str, file: &str) -> Result<Vec<u8>, RedisError> {
    let bytes = read(parameter, file)?;
    match CertificateDer::pem_slice_iter(&bytes).next() {
        Some(Ok(_)) => Ok(bytes),
        _ => Err(unreadable(parameter, format!("{file:?} holds no certificate in PEM"))),
    }
}

fn read(parameter: &'static str, file: &str) -> Result<Vec<u8>, RedisError> {
    fs::read(file).map_err(|error| unreadable(parameter, format!("{file:?}: {error}")))
}

fn unreadable(parameter: &'static str, reason: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, parameter, reason).into()
}

fn invalid_url(reason: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, reason).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        certificates(url).expect_err(url).to_string()
    }

    #[test]
    fn a_url_without_tls_parameters_is_unchanged() {
        for url in [
            "redis://a:1/0",
            "rediss://u:p%3F@a:1,b:2/m",
            "redis://a/?protocol=resp3",
            "rediss://a/#insecure",
            "redis-sentinel://a:1,b:2/m?sentinel-user=u&sentinel-password=p%3F",
        ] {
            let (left, found) = certificates(url).expect("it is a URL");
            assert_eq!((left.as_str(), found.is_none()), (url, true));
        }
    }

    #[test]
    fn tls_parameters_that_would_have_no_effect_are_refused() {
        assert!(refusal("redis://a/?tls-ca-cert-file=ca.pem").contains("rediss"));
        assert!(refusal("redis://a/?sentinel-password=x").contains("for sentinels"));
        assert!(refusal("rediss://a/?tls-cert-file=ca.pem").contains("tls-key-file"));
        assert!(refusal("rediss://a/?tls-ca-cert-file=no/such%20file").contains("\"no/such file\""));
        let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(refusal(&format!("rediss://a/?tls-ca-cert-file={text}")).contains("no certificate"));
    }

    #[test]
    fn the_end_of_a_password_is_not_shown_as_a_parameter() {
        for url in [
            "redis://eve:a?hunter2@a/",
            "rediss-cluster://eve:a?hunter2&b@a/",
            "redis-sentinel://e:?hunter2@a/m",
            "redis://eve:a?hunter2#b@a/",
        ] {
            let refusal = refusal(url);
            assert!(refusal.contains("%3F") && !refusal.contains("hunter2"), "{refusal}");
        }
        let known = "redis-sentinel://eve@a:1/m?sentinel-password=a@b&sentinel-user=b@c";
        assert!(parse(known).is_ok(), "a value may have an `@`");
    }

    #[test]
    fn an_unknown_parameter_is_refused_without_its_value() {
        let refusal = refusal("rediss://eve:hunter2@a/?tls-ca-cert=hunter2");
        assert!(refusal.contains("\"tls-ca-cert\"") && refusal.contains("tls-ca-cert-file"), "{refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}
