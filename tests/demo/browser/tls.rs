//! TLS in front of a server that speaks plain HTTP, as a proxy does, with a certificate made for the test.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate for this machine, which no authority has signed.
pub(crate) struct Identity {
    acceptor: TlsAcceptor,
    /// What tells a browser to trust the key of the certificate, and no other one.
    pub(crate) trust: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out certificate.pem";
        openssl(folder.path(), make);
        openssl(folder.path(), "pkey -in key.pem -pubout -outform der -out public.der");
        let file = |name: &str| folder.path().join(name);
        let public = fs::read(file("public.der")).expect("it was made");
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).expect("a key");
        let certificate = CertificateDer::from_pem_file(file("certificate.pem")).expect("a certificate");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the versions that it has")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key is that of the certificate");
        let pin = STANDARD.encode(Sha256::digest(public));
        let trust = format!("--ignore-certificate-errors-spki-list={pin}");
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), trust }
    }

    /// Serves what a server at this address serves.
    pub(crate) fn serve(&self, server: SocketAddr) -> Https {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let acceptor = self.acceptor.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A browser may close a connection at any time.
                    let mut client = acceptor.accept(client).await?;
                    let mut server = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Https { port, runtime: Some(runtime) }
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let ran = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output();
    let ran = ran.expect("openssl is installed, as `tests/servers` does");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// A server over HTTPS, until this is dropped.
pub(crate) struct Https {
    port: u16,
    runtime: Option<Runtime>,
}

impl Https {
    /// Returns the address of a page on a host of this machine.
    pub(crate) fn at(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port)
    }

    /// Returns the address of a page on `localhost`.
    pub(crate) fn url(&self, path: &str) -> String {
        self.at("localhost", path)
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
