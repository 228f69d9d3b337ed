//! Whom a server under development answers: this machine, and the hosts that the developer has named.
//!
//! Its cookie travels in the clear. And a page on the web can have its own name resolve to this machine (DNS rebinding); the
//! browser then takes it for this server's page, but the `Host` is its own. A proxy on this machine has an address of this
//! machine and may write `localhost` into the `Host`; what it passes on comes from anywhere.

use std::net::{IpAddr, Ipv6Addr};

use crate::error::Error;

/// The headers by which a proxy says that it has passed a request on. Browsers do not send them.
pub(crate) const FORWARDED: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// The hosts of a server under development, besides those of this machine.
#[derive(Clone, Debug)]
pub(crate) struct DevelopmentHosts {
    named: Vec<String>,
}

impl DevelopmentHosts {
    /// Reads the setting of a builder.
    pub(crate) fn new(named: &[String]) -> Result<Self, Error> {
        let is_host = |name: &String| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            !name.is_empty() && name.bytes().all(is_part) && without_port(name) == name
        };
        if let Some(other) = named.iter().find(|name| !is_host(name)) {
            return Err(Error::Config(format!(
                "`development_hosts`: {other:?} is not a host: write `shop.test` or `192.168.1.5`, without a scheme, a port \
                 and a path"
            )));
        }
        Ok(Self { named: named.to_vec() })
    }

    /// Returns whether other machines are served too.
    pub(crate) fn is_shared(&self) -> bool {
        !self.named.is_empty()
    }

    /// Returns whether a request is answered that names these hosts, comes from this address, and was passed on by a proxy or
    /// not. A request that names no host is not a browser's.
    pub(crate) fn serves<'a>(
        &self,
        mut hosts: impl Iterator<Item = Option<&'a str>>,
        peer: Option<IpAddr>,
        is_forwarded: bool,
    ) -> bool {
        let is_served = |host: &str| {
            let host = without_port(host);
            // A proxy has this machine's address for all its clients, so only a host that is named lets them in.
            (!is_forwarded && is_loopback(host))
                || self.named.iter().any(|named| named.eq_ignore_ascii_case(host))
        };
        let is_near = !is_forwarded && peer.is_none_or(|peer| peer.to_canonical().is_loopback());
        (self.is_shared() || is_near) && hosts.all(|host| host.is_some_and(is_served))
    }
}

/// Returns whether a `Host` names this machine. Browsers take it for as good as https there.
pub(crate) fn names_this_machine(host: &str) -> bool {
    is_loopback(without_port(host))
}

/// Takes the port off a host (RFC 9110 §7.2).
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// Returns whether a host is this machine: `localhost` and below (RFC 6761 §6.3), or an address of the loopback.
fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let ipv6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match ipv6 {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback()),
        None => {
            name == "localhost"
                || name.ends_with(".localhost")
                || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(named: &[&str], host: &str, peer: &str) -> bool {
        let named: Vec<_> = named.iter().map(|&name| name.to_owned()).collect();
        let hosts = DevelopmentHosts::new(&named).expect("hosts");
        hosts.serves([Some(host)].into_iter(), Some(peer.parse().expect("an address")), false)
    }

    #[test]
    fn this_machine_is_served_under_each_of_its_names() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "shop.localhost:3000",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:80",
        ] {
            for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
                assert!(serves(&[], host, peer), "{host} {peer}");
            }
        }
    }

    #[test]
    fn other_hosts_and_machines_are_not_served() {
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "notlocalhost",
            "localhost@example.com",
            "127.0.0.1.example.com",
            "127.1",
            "0.0.0.0",
            "192.168.1.5",
            "[::]",
            "::1",
            "[fe80::1]:80",
            "localhost:80:80",
            "localhost:x",
        ] {
            assert!(!serves(&[], host, "127.0.0.1"), "{host}");
        }
        assert!(!serves(&[], "localhost", "192.0.2.1"));
        let two = [Some("localhost"), Some("example.com")];
        let hosts = DevelopmentHosts::new(&[]).expect("none");
        assert!(!hosts.serves(two.into_iter(), None, false), "each of them counts");
        assert!(!hosts.serves([None].into_iter(), None, false), "a host that is not text");
        assert!(hosts.serves(std::iter::empty(), None, false), "HTTP/1.0, a Unix socket");
    }

    #[test]
    fn what_a_proxy_passes_on_is_served_under_a_named_host_alone() {
        let serves = |named: &[&str], host: Option<&str>| {
            let named: Vec<_> = named.iter().map(|&name| name.to_owned()).collect();
            let hosts = DevelopmentHosts::new(&named).expect("hosts");
            hosts.serves(host.map(Some).into_iter(), Some("127.0.0.1".parse().expect("an address")), true)
        };
        for host in [Some("localhost"), Some("127.0.0.1:8080"), Some("shop.test"), None] {
            assert!(!serves(&[], host), "{host:?}");
        }
        assert!(!serves(&["shop.test"], Some("localhost:8080")));
        assert!(serves(&["shop.test"], Some("shop.test")) && serves(&["localhost"], Some("localhost:8080")));
    }

    #[test]
    fn a_named_host_is_served_to_other_machines() {
        assert!(serves(&["shop.test"], "Shop.test:8080", "192.0.2.1"));
        assert!(serves(&["192.168.1.5", "[2001:db8::5]"], "[2001:DB8::5]:80", "192.0.2.1"));
        assert!(serves(&["shop.test"], "localhost", "172.17.0.1"), "a port that a container publishes");
        assert!(!serves(&["shop.test"], "example.com", "192.0.2.1"));
        for other in ["", "http://shop.test", "shop.test:8080", "shop.test/", "*", "a b", "[::1]:80"] {
            assert!(DevelopmentHosts::new(&[other.to_owned()]).is_err(), "{other}");
        }
    }
}
