//! What a URL says of TLS: a URL goes in, and comes out as Redis's client takes it, with the certificates it names.

use std::fs;

use redis::{ClientTlsConfig, ErrorKind, RedisError, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::link::misspelt;

/// Parameters of the URL, named as in `redis.conf`: whom to trust, and who the client is.
const ROOTS: &str = "tls-ca-cert-file";
const CERTIFICATE: &str = "tls-cert-file";
const KEY: &str = "tls-key-file";

/// The parameter that is the client's own.
const PROTOCOL: &str = "protocol";

/// Parameters of sentinels: who the client is to them.
pub(super) const SENTINEL_USER: &str = "sentinel-user";
pub(super) const SENTINEL_PASSWORD: &str = "sentinel-password";

/// Takes the certificates out of a URL, and leaves the rest.
pub(super) fn certificates(url: &str) -> Result<(String, Option<TlsCertificates>), RedisError> {
    let (whole, fragment) = url.split_once('#').unwrap_or((url, ""));
    let Some((base, query)) = whole.split_once('?') else { return Ok((url.to_owned(), None)) };
    // The way to a socket has no other place for user and database.
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
            // The client would pass over it in silence, whatever it was meant to secure.
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
        return Err(misspelt("the URL names certificates, but is not one of TLS: it begins with `rediss`"));
    }
    let client_tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read_certificates(CERTIFICATE, &certificate)?,
            client_key: read(KEY, &key)?,
        }),
        (None, None) => None,
        _ => return Err(misspelt("a certificate of the client's needs both tls-cert-file and tls-key-file")),
    };
    let root_cert = roots.map(|file| read_certificates(ROOTS, &file)).transpose()?;
    Ok((left, Some(TlsCertificates { client_tls, root_cert })))
}

/// A file without a certificate would be taken for an empty list.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        certificates(url).expect_err(url).to_string()
    }

    #[test]
    fn what_is_not_about_certificates_is_left_as_it_is() {
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
    fn a_certificate_that_would_not_be_used_is_refused() {
        assert!(refusal("redis://a/?tls-ca-cert-file=ca.pem").contains("rediss"));
        assert!(refusal("redis://a/?sentinel-password=x").contains("for sentinels"));
        assert!(refusal("rediss://a/?tls-cert-file=ca.pem").contains("tls-key-file"));
        assert!(refusal("rediss://a/?tls-ca-cert-file=no/such%20file").contains("\"no/such file\""));
        let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(refusal(&format!("rediss://a/?tls-ca-cert-file={text}")).contains("no certificate"));
    }

    #[test]
    fn a_misspelt_parameter_is_refused_and_its_value_not_repeated() {
        let refusal = refusal("rediss://eve:hunter2@a/?tls-ca-cert=hunter2");
        assert!(refusal.contains("\"tls-ca-cert\"") && refusal.contains("tls-ca-cert-file"), "{refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}
