//! What a URL says of TLS: a URL goes in, the driver's options come out, unless it only looks safe.

use std::net::IpAddr;
use std::str::FromStr;

use super::Failure;

/// How a driver spells what concerns TLS.
pub(in crate::store) struct Words {
    pub(in crate::store) server: &'static str,
    /// What stands before `://`.
    pub(in crate::store) schemes: &'static [&'static str],
    /// What has the server's certificate and name verified.
    pub(in crate::store) verified: &'static str,
    /// The parameters that name whom to trust.
    pub(in crate::store) roots: &'static [&'static str],
    /// The other parameters.
    pub(in crate::store) others: &'static [&'static str],
}

/// What a driver makes sure of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::store) enum Mode {
    /// That the server is the one it should be.
    Verified,
    /// No more than the URL asks for, in so many words.
    Chosen,
    /// Nothing. Whoever is in between can turn encryption off, or be the server, and is sent the password by most
    /// ways of logging in.
    Open,
}

/// Reads a URL. `look` tells what the driver understood: its mode, and the host or socket that it goes to.
pub(in crate::store) fn options<O: FromStr<Err = sqlx::Error>>(
    url: &str,
    words: &Words,
    look: impl FnOnce(&O) -> (Mode, String),
) -> Result<O, Failure> {
    // Drivers take the URL of any server for one of theirs.
    if !url.split_once("://").is_some_and(|(scheme, _)| words.schemes.contains(&scheme)) {
        return Err(Failure::Scheme(words.schemes[0]));
    }
    // First, since drivers pass over what they do not know, or log it with its value.
    let roots = check_names(url, words)?;
    let options = url.parse()?;
    let (mode, host) = look(&options);
    match roots {
        Some(parameter) if mode != Mode::Verified => {
            Err(Failure::UnusedRoots { parameter, verified: words.verified })
        }
        _ => {
            if mode == Mode::Open && !is_this_machine(&host) {
                tracing::warn!(
                    host,
                    "the connection to {} may be unencrypted, and anyone may be its server: add {} to the URL, \
                     or the mode that is meant",
                    words.server,
                    words.verified
                );
            }
            Ok(options)
        }
    }
}

/// Refuses a parameter that would have no effect, and returns the one that names whom to trust.
fn check_names(url: &str, words: &Words) -> Result<Option<String>, Failure> {
    let mut roots = None;
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let lower = name.to_ascii_lowercase();
        if words.roots.contains(&&*name) {
            roots = Some(name.into_owned());
        } else if (lower.contains("ssl") || lower.contains("tls")) && !words.others.contains(&&*name) {
            return Err(Failure::UnknownTls { parameter: name.into_owned(), verified: words.verified });
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

    const WORDS: Words = Words {
        server: "it",
        schemes: &["postgres"],
        verified: "sslmode=verify-full",
        roots: &["sslrootcert"],
        others: &["sslmode"],
    };

    #[test]
    fn a_misspelt_parameter_is_refused_and_its_value_not_repeated() {
        for name in ["ssl_mode", "SSLMODE", "useSSL", "sslpassword", "tls", "ssl%5Fmode"] {
            let url = format!("postgres://shop:hunter2@db/shop?application_name=a&{name}=hunter2");
            let error = check_names(&url, &WORDS).expect_err(name);
            let error = format!("{error} {error:?}");
            assert!(error.contains("sslmode=verify-full") && !error.contains("hunter2"), "{error}");
        }
        for query in ["", "?", "?sslmode=disable", "?application_name=ssl", "#?ssl_mode=1"] {
            check_names(&format!("postgres://db/shop{query}"), &WORDS).expect("it is no misspelling");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for host in ["/var/run/postgresql", "localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["db", "localhost.example", "10.0.0.1", "[fe80::1]", ""] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
