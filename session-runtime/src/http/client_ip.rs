//! The address of the client, with trusted proxies in between.

use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses, as in `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), |prefix| prefix.parse().map_err(|_| ()))?;
        if prefix > width { Err(()) } else { Ok(Self { address, prefix }) }
    }
}

impl Network {
    fn contains(self, ip: IpAddr) -> bool {
        let differ = match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
            (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= self.prefix
    }
}

/// Returns the address of the client: the peer's, or, if the peer is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not a trusted proxy. Entries further left are written by the client and can be forged.
/// A list that a trusted proxy cannot have written gives no address.
pub(crate) fn client_ip<'a>(
    peer: Option<IpAddr>,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[Network],
) -> Option<IpAddr> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut client = peer?.to_canonical();
    for hop in forwarded_for.rev().flat_map(|header| header.rsplit(',')) {
        if !is_trusted(client) {
            break;
        }
        client = parse(hop.trim())?.to_canonical();
    }
    Some(client)
}

/// Reads an address, in brackets or with a port, as some proxies write it.
fn parse(hop: &str) -> Option<IpAddr> {
    let ip = || hop.parse().ok();
    let socket = || hop.parse().ok().map(|socket: std::net::SocketAddr| socket.ip());
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    ip().or_else(socket).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded_for: &[&str], trusted: &[&str]) -> Option<String> {
        let trusted: Vec<Network> =
            trusted.iter().map(|network| network.parse().expect("a network")).collect();
        let ip = client_ip(peer.parse().ok(), forwarded_for.iter().copied(), &trusted);
        ip.map(|ip| ip.to_string())
    }

    #[test]
    fn an_untrusted_peer_cannot_claim_an_address() {
        assert_eq!(client("203.0.113.9", &["10.1.1.1"], &["10.0.0.0/8"]).as_deref(), Some("203.0.113.9"));
        assert_eq!(client("10.0.0.1", &["203.0.113.9"], &[]).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn the_last_address_that_is_not_a_trusted_proxy_is_the_client() {
        let trusted = ["10.0.0.0/8", "::1"];
        let forwarded = ["6.6.6.6, 203.0.113.9", "10.2.0.1"];
        assert_eq!(client("10.0.0.1", &forwarded, &trusted).as_deref(), Some("203.0.113.9"));
        assert_eq!(client("::1", &["2001:db8::7"], &trusted).as_deref(), Some("2001:db8::7"));
        assert_eq!(client("10.0.0.1", &[], &trusted).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_read() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(
            client("::ffff:10.0.0.1", &["203.0.113.9:4711"], &trusted).as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]:80"], &trusted).as_deref(), Some("2001:db8::7"));
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]"], &trusted).as_deref(), Some("2001:db8::7"));
    }

    #[test]
    fn a_malformed_list_gives_no_address() {
        assert_eq!(client("10.0.0.1", &["unknown"], &["10.0.0.0/8"]), None);
    }

    #[test]
    fn a_network_ends_where_its_prefix_says() {
        let network: Network = "10.0.4.0/22".parse().expect("a network");
        for (ip, inside) in
            [("10.0.4.0", true), ("10.0.7.255", true), ("10.0.8.0", false), ("::a00:400", false)]
        {
            assert_eq!(network.contains(ip.parse().expect("an address")), inside, "{ip}");
        }
        for malformed in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/x", "::/129"] {
            assert!(malformed.parse::<Network>().is_err(), "{malformed}");
        }
        let everyone: Network = "0.0.0.0/0".parse().expect("a network");
        assert!(everyone.contains("255.255.255.255".parse().expect("an address")));
    }
}
