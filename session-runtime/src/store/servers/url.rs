//! The URL of a server: it goes in; the driver's options come out, unless a parameter would have no effect, or the URL
//! only looks safe.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::driver::Failure;

/// How a driver spells the parameters of a URL.
pub(super) struct UrlParameters {
    pub(super) server: &'static str,
    /// What stands before `://`.
    pub(super) schemes: &'static [&'static str],
    /// The parameter by which the server's certificate and name are verified.
    pub(super) verified: &'static str,
    /// The parameters that name the trusted roots.
    pub(super) roots: &'static [&'static str],
    /// The other parameters of TLS.
    pub(super) tls: &'static [&'static str],
    /// The other parameters. One of `options` may stand in brackets: `options[search_path]`.
    pub(super) others: &'static [&'static str],
    /// What to write for another parameter.
    pub(super) hint: &'static str,
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

/// Parses a URL. `tls_mode` and `address` read the mode, and the socket and the host, from the driver's options.
pub(super) fn options<O: FromStr<Err = sqlx::Error>>(
    url: &str,
    parameters: &UrlParameters,
    tls_mode: impl FnOnce(&O) -> TlsMode,
    address: impl FnOnce(&O) -> (Option<&PathBuf>, &str),
) -> Result<O, Failure> {
    let UrlParameters { server, schemes, verified, .. } = parameters;
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
            let (socket, host) = address(&options);
            let host = socket.map_or(host.into(), |path| path.to_string_lossy());
            if !is_this_machine(&host) {
                tracing::warn!(
                    host = &*host,
                    "the connection to {server} may be unencrypted, and its server is not verified: \
                     add {verified} to the URL, or another mode explicitly",
                );
            }
        }
    }
    Ok(options)
}

/// Rejects a parameter that would have no effect, and returns the one that names the trusted roots.
fn check_names(url: &str, parameters: &UrlParameters) -> Result<Option<String>, Failure> {
    let mut roots = None;
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let lower = name.to_ascii_lowercase();
        if parameters.roots.contains(&&*name) {
            roots = Some(name.into_owned());
        } else if parameters.tls.contains(&&*name) {
        } else {
            let is_tls = lower.contains("ssl") || lower.contains("tls");
            let is_option = name.starts_with("options[") && name.ends_with(']');
            let known = if is_option { "options" } else { &*name };
            if !is_tls && parameters.others.contains(&known) {
                continue;
            }
            // The name may be the end of a password.
            if query.contains('@') || fragment.contains('@') {
                return Err(Failure::UnknownParameterOrPassword);
            }
            let parameter = name.into_owned();
            return Err(if is_tls {
                Failure::UnknownTls { parameter, verified: parameters.verified }
            } else {
                Failure::UnknownParameter { parameter, hint: parameters.hint }
            });
        }
    }
    Ok(roots)
}

/// Returns an IPv6 address without the brackets that it has in a URL, and that the driver would look up as a name.
pub(super) fn bare_ipv6(host: &str) -> Option<String> {
    host.strip_prefix('[')?.strip_suffix(']').map(str::to_owned)
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.starts_with('/') || host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: UrlParameters = UrlParameters {
        server: "a server",
        schemes: &["postgres"],
        verified: "sslmode=verify-full",
        roots: &["sslrootcert"],
        tls: &["sslmode"],
        others: &["application_name", "options"],
        hint: ": a hint",
    };

    #[test]
    fn a_misspelt_parameter_is_rejected_and_its_value_is_not_shown() {
        for name in ["ssl_mode", "SSLMODE", "useSSL", "sslpassword", "tls", "ssl%5Fmode"] {
            let url = format!("postgres://shop:hunter2@db/shop?application_name=a&{name}=hunter2");
            let error = check_names(&url, &PARAMETERS).expect_err(name);
            let error = format!("{error} {error:?}");
            assert!(error.contains("sslmode=verify-full") && !error.contains("hunter2"), "{error}");
        }
        for name in [
            "schema",
            "currentSchema",
            "application-name",
            "search_path",
            "options[a",
            "a[options]",
            "application_name[a]",
        ] {
            let error =
                check_names(&format!("postgres://db/shop?{name}=hunter2"), &PARAMETERS).expect_err(name);
            let error = error.to_string();
            assert!(
                error.contains(name) && error.ends_with(": a hint") && !error.contains("hunter2"),
                "{error}"
            );
        }
        for name in ["hunter2", "tls-hunter2", "hunter2#b"] {
            let error =
                check_names(&format!("postgres://shop:a?{name}@db/shop"), &PARAMETERS).expect_err(name);
            let error = format!("{error} {error:?}");
            assert!(error.contains("%3F") && !error.contains("hunter2"), "{error}");
        }
        for query in
            ["", "?", "?sslmode=disable", "?application_name=ssl", "?options[search_path]=a", "#?ssl_mode=1"]
        {
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
