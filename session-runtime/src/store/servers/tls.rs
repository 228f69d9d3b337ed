//! TLS in the URL of a server: a URL goes in; the driver's options come out, unless the URL only looks safe.

use std::net::IpAddr;
use std::str::FromStr;

use super::driver::Failure;

/// How a driver spells the parameters of TLS.
pub(super) struct TlsParameters {
    pub(super) server: &'static str,
    /// What stands before `://`.
    pub(super) schemes: &'static [&'static str],
    /// The parameter by which the server's certificate and name are verified.
    pub(super) verified: &'static str,
    /// The parameters that name the trusted roots.
    pub(super) roots: &'static [&'static str],
    /// The other parameters.
    pub(super) others: &'static [&'static str],
}

/// What a driver checks before it uses a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TlsMode {
    /// The server's certificate.
    Verified,
    /// Less, because the URL says so.
    Explicit,
    /// Nothing, because the URL says nothing. An attacker on the network can turn encryption off, or pose as the
    /// server, and receives the password in most authentication methods.
    Unspecified,
}

/// Parses a URL. `tls_mode` and `host` read the mode and the host or socket from the driver's options.
pub(super) fn options<O: FromStr<Err = sqlx::Error>>(
    url: &str,
    parameters: &TlsParameters,
    tls_mode: impl FnOnce(&O) -> TlsMode,
    host: impl FnOnce(&O) -> String,
) -> Result<O, Failure> {
    let TlsParameters { server, schemes, verified, .. } = parameters;
    // Drivers accept the URL of any other server.
    if !url.split_once("://").is_some_and(|(scheme, _)| schemes.contains(&scheme)) {
        return Err(Failure::Scheme(schemes[0]));
    }
    // Before the driver parses the URL: it ignores an unknown parameter, or logs it with its value.
    let roots = check_names(url, parameters)?;
    let options = url.parse()?;
    match (roots, tls_mode(&options)) {
        (_, TlsMode::Verified) | (None, TlsMode::Explicit) => {}
        (Some(parameter), _) => return Err(Failure::UnusedRoots { parameter, verified }),
        (None, TlsMode::Unspecified) => {
            let host = host(&options);
            if !is_this_machine(&host) {
                tracing::warn!(
                    host,
                    "the connection to {server} may be unencrypted, and its server is not verified: \
                     add {verified} to the URL, or another mode explicitly",
                );
            }
        }
    }
    Ok(options)
}

/// Rejects a parameter that would have no effect, and returns the one that names the trusted roots.
fn check_names(url: &str, parameters: &TlsParameters) -> Result<Option<String>, Failure> {
    let mut roots = None;
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let lower = name.to_ascii_lowercase();
        if parameters.roots.contains(&&*name) {
            roots = Some(name.into_owned());
        } else if (lower.contains("ssl") || lower.contains("tls")) && !parameters.others.contains(&&*name) {
            return Err(Failure::UnknownTls { parameter: name.into_owned(), verified: parameters.verified });
        }
    }
    Ok(roots)
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.starts_with('/') || host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: TlsParameters = TlsParameters {
        server: "a server",
        schemes: &["postgres"],
        verified: "sslmode=verify-full",
        roots: &["sslrootcert"],
        others: &["sslmode"],
    };

    #[test]
    fn a_misspelt_parameter_is_rejected_and_its_value_is_not_shown() {
        for name in ["ssl_mode", "SSLMODE", "useSSL", "sslpassword", "tls", "ssl%5Fmode"] {
            let url = format!("postgres://shop:hunter2@db/shop?application_name=a&{name}=hunter2");
            let error = check_names(&url, &PARAMETERS).expect_err(name);
            let error = format!("{error} {error:?}");
            assert!(error.contains("sslmode=verify-full") && !error.contains("hunter2"), "{error}");
        }
        for query in ["", "?", "?sslmode=disable", "?application_name=ssl", "#?ssl_mode=1"] {
            check_names(&format!("postgres://db/shop{query}"), &PARAMETERS).expect("it is spelt correctly");
        }
    }

    #[test]
    fn the_names_of_this_machine_are_recognized() {
        for host in ["/var/run/postgresql", "localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["db", "localhost.example", "10.0.0.1", "[fe80::1]", ""] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
