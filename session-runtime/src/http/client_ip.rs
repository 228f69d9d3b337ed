//! The address of the client, with trusted proxies in between.
//!
//! A proxy adds the address of its own client at the right end of a header. Entries are read from there, and only as long
//! as the one who has added them is trusted: everything further left is written by the client and can be forged.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::error::Error;

/// The header in which proxies name their clients.
///
/// Only one is read: a client can write the one that the proxies neither append to nor remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: `203.0.113.9, 10.0.0.2`. The default.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): `for=203.0.113.9, for="[2001:db8::1]:4711"`.
    Forwarded,
}

/// Which peers are proxies, and where they name their clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies {
    networks: Vec<Network>,
    unix: bool,
    every_peer: bool,
    pub(crate) header: ProxyHeader,
}

/// One end of a connection on the way from the client to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// An address; IPv4 is never mapped to IPv6.
    Ip(IpAddr),
    /// A Unix socket, which has no address.
    Unix,
    Unknown,
}

/// How a Unix socket is written, in settings and, by nginx, in `X-Forwarded-For`.
const UNIX: &str = "unix:";

impl TrustedProxies {
    /// Reads the settings of a builder.
    pub(crate) fn new(proxies: &[String], every_peer: bool, header: ProxyHeader) -> Result<Self, Error> {
        let mut trusted = Self { every_peer, header, ..Self::default() };
        for text in proxies {
            if text == UNIX {
                trusted.unix = true;
            } else {
                let refusal = |reason| Error::Config(format!("`trusted_proxies`: {text:?} {reason}"));
                trusted.networks.push(text.parse().map_err(refusal)?);
            }
        }
        Ok(trusted)
    }

    /// Returns whether no header is believed.
    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix && !self.every_peer
    }

    /// Returns whether the header of this peer is believed.
    pub(crate) fn trusts_peer(&self, peer: Hop) -> bool {
        self.every_peer || self.trusts(peer)
    }

    fn trusts(&self, hop: Hop) -> bool {
        match hop {
            Hop::Ip(ip) => self.networks.iter().any(|network| network.contains(ip)),
            Hop::Unix => self.unix,
            Hop::Unknown => false,
        }
    }

    /// Returns the client: the peer, or, if the peer is a trusted proxy, the last hop in the lines of the header that is not a
    /// trusted proxy.
    pub(crate) fn client<'a>(&self, peer: Hop, lines: impl DoubleEndedIterator<Item = &'a [u8]>) -> Hop {
        let mut client = peer;
        let mut is_trusted = self.trusts_peer(peer);
        for hop in lines.rev().flat_map(|line| self.header.hops(line).into_iter().rev()) {
            if !is_trusted {
                break;
            }
            client = hop;
            is_trusted = self.trusts(client);
        }
        client
    }
}

/// A range of addresses, as in `10.0.0.0/8`. IPv4 addresses that are mapped to IPv6 are IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MALFORMED: &str = "is neither an address, nor a network such as `10.0.0.0/8`, nor `unix:`";
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let written: IpAddr = address.parse().map_err(|_| MALFORMED)?;
        let width = if written.is_ipv4() { 32 } else { 128 };
        let is_signed = prefix.is_some_and(|prefix| prefix.starts_with('+'));
        let prefix: u32 = prefix.map_or(Ok(width), |prefix| prefix.parse().map_err(|_| MALFORMED))?;
        if prefix > width || is_signed {
            return Err(MALFORMED);
        }
        let address = written.to_canonical();
        let mapped_bits = if address.is_ipv4() { width - 32 } else { 0 };
        let prefix = prefix.checked_sub(mapped_bits).ok_or(
            "is wider than all IPv4 addresses: the prefix of a mapped network counts 96 bits more, as in \
             `::ffff:10.0.0.0/104`",
        )?;
        if prefix == 0 {
            return Err(
                "is every address, so each visitor could claim any: name the networks of your proxies; if only \
                        your proxy can connect to this server, call `danger_trust_every_peer`",
            );
        }
        Ok(Self { address, prefix })
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

impl ProxyHeader {
    /// Returns the header's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
        }
    }

    /// Reads a line of the header, from left to right. Empty elements are no hops (RFC 9110 §5.6.1).
    fn hops(self, line: &[u8]) -> Vec<Hop> {
        match self {
            Self::XForwardedFor => {
                let elements = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                elements.filter(|element| !element.is_empty()).map(Hop::of_element).collect()
            }
            // With a quote that is not closed it is unknown where any element ends.
            Self::Forwarded => {
                let line = std::str::from_utf8(line).ok();
                line.and_then(forwarded_hops).unwrap_or_else(|| vec![Hop::Unknown])
            }
        }
    }
}

impl Hop {
    /// Names an address.
    pub(crate) fn of_ip(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }

    /// Returns the address; `None` if there is none, or it is unknown.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(ip),
            Self::Unix | Self::Unknown => None,
        }
    }

    /// Reads an element of `X-Forwarded-For`. Some proxies quote it as in `Forwarded`.
    fn of_element(element: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(element) else { return Self::Unknown };
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Self::of_node(quoted.unwrap_or(text))
    }

    /// Reads a `node` of RFC 7239 §6, and what proxies write in its place: an IPv6 address without brackets or with a zone.
    fn of_node(node: &str) -> Self {
        if node.starts_with(UNIX) {
            return Self::Unix;
        }
        address(node).map_or(Self::Unknown, Self::of_ip)
    }
}

fn address(node: &str) -> Option<IpAddr> {
    if let Some(bracketed) = node.strip_prefix('[') {
        let (ip, port) = bracketed.split_once(']')?;
        return ipv6(ip).filter(|_| is_port(port)).map(IpAddr::V6);
    }
    let colon = match node.matches(':').count() {
        // Eight groups and a port, as Java writes them without brackets.
        8 if !node.contains("::") => node.rfind(':'),
        2.. => None,
        _ => node.find(':'),
    };
    let (ip, port) = node.split_at(colon.unwrap_or(node.len()));
    let ipv4 = || ip.parse().ok().map(IpAddr::V4);
    ipv4().or_else(|| ipv6(ip).map(IpAddr::V6)).filter(|_| is_port(port))
}

/// Reads an address with or without a zone. The zone (RFC 4007 §11) says through which interface of the proxy it came.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    match text.split_once('%') {
        Some((_, "")) => None,
        Some((ip, _zone)) => ip.parse().ok(),
        None => text.parse().ok(),
    }
}

/// Returns whether this is nothing, or a colon and a port: digits, or an obfuscated one (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return text.is_empty() };
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        || port.strip_prefix('_').is_some_and(|name| {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(is_name)
        })
}

/// Reads a line of `Forwarded` (RFC 7239 §4): a hop for each element that is not empty. One that does not name its `for`,
/// or names two, is unknown. Returns `None` if a quote is not closed, or stands elsewhere than around a value.
fn forwarded_hops(line: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    let mut element: Vec<Option<Hop>> = Vec::new();
    let mut rest = line;
    loop {
        let (parameter, after) = take_parameter(rest)?;
        match parameter {
            Parameter::Empty => {}
            Parameter::For(node) => element.push(Some(Hop::of_node(&node))),
            Parameter::Other => element.push(None),
        }
        if !after.starts_with(';') && !element.is_empty() {
            let mut nodes = element.drain(..).flatten();
            hops.push(match (nodes.next(), nodes.next()) {
                (Some(hop), None) => hop,
                _ => Hop::Unknown,
            });
        }
        match after.get(1..) {
            Some(after) => rest = after,
            None => return Some(hops),
        }
    }
}

/// A parameter of an element.
enum Parameter {
    Empty,
    For(String),
    Other,
}

/// Reads a parameter. What follows it is empty or begins with `;` or `,`.
fn take_parameter(text: &str) -> Option<(Parameter, &str)> {
    const SPACE: [char; 2] = [' ', '\t'];
    let text = text.trim_start_matches(SPACE);
    let (name, rest) = text.split_at(text.find(['=', ';', ',', '"']).unwrap_or(text.len()));
    let Some(value) = rest.strip_prefix('=') else {
        let parameter =
            if name.trim_end_matches(SPACE).is_empty() { Parameter::Empty } else { Parameter::Other };
        return (!rest.starts_with('"')).then_some((parameter, rest));
    };
    let (value, rest) = if let Some(quoted) = value.strip_prefix('"') {
        let (value, rest) = take_quoted(quoted)?;
        (value, rest.trim_start_matches(SPACE))
    } else {
        // Not only a `token`: many proxies write an IPv6 address or a port without quotes.
        let (value, rest) = value.split_at(value.find([';', ',', '"']).unwrap_or(value.len()));
        (value.trim_end_matches(SPACE).to_owned(), rest)
    };
    let parameter = if name.eq_ignore_ascii_case("for") { Parameter::For(value) } else { Parameter::Other };
    (rest.is_empty() || rest.starts_with([';', ','])).then_some((parameter, rest))
}

/// Reads the rest of a `quoted-string` (RFC 9110 §5.6.4) after its first quote.
fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::ProxyHeader::{Forwarded, XForwardedFor};
    use super::*;

    fn trusted(proxies: &[&str], header: ProxyHeader) -> TrustedProxies {
        let proxies: Vec<String> = proxies.iter().map(|&proxy| proxy.to_owned()).collect();
        TrustedProxies::new(&proxies, false, header).expect("good settings")
    }

    /// The client of a peer; `?` if it is unknown.
    fn client_in(header: ProxyHeader, peer: &str, lines: &[&str], proxies: &[&str]) -> String {
        let lines = lines.iter().map(|line| line.as_bytes());
        match trusted(proxies, header).client(Hop::of_node(peer), lines) {
            Hop::Ip(ip) => ip.to_string(),
            Hop::Unix => UNIX.to_owned(),
            Hop::Unknown => "?".to_owned(),
        }
    }

    fn client(peer: &str, lines: &[&str], proxies: &[&str]) -> String {
        client_in(XForwardedFor, peer, lines, proxies)
    }

    /// The client that a proxy names in one line of `Forwarded`.
    fn forwarded(line: &str) -> String {
        client_in(Forwarded, "10.0.0.1", &[line], &["10.0.0.0/8"])
    }

    #[test]
    fn an_untrusted_peer_cannot_claim_an_address() {
        assert_eq!(client("203.0.113.9", &["10.1.1.1"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"], &[]), "10.0.0.1");
        assert_eq!(client(UNIX, &["203.0.113.9"], &["10.0.0.0/8"]), UNIX);
    }

    #[test]
    fn the_last_address_that_is_not_a_trusted_proxy_is_the_client() {
        let proxies = ["10.0.0.0/8", "::1"];
        let lines = ["6.6.6.6, 203.0.113.9", "10.2.0.1"];
        assert_eq!(client("10.0.0.1", &lines, &proxies), "203.0.113.9");
        assert_eq!(client("::1", &["2001:db8::7"], &proxies), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &[], &proxies), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.3.3.3, 10.2.0.1"], &proxies), "10.3.3.3");
    }

    #[test]
    fn a_socket_that_is_named_is_a_proxy() {
        assert_eq!(client(UNIX, &["6.6.6.6, 203.0.113.9"], &[UNIX]), "203.0.113.9");
        assert_eq!(client(UNIX, &[], &[UNIX]), UNIX);
        // nginx behind another nginx that connects through a socket.
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 203.0.113.9, unix:"], &["10.0.0.1", UNIX]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, unix:"], &["10.0.0.1"]), UNIX);
        assert_eq!(client("10.0.0.1", &["203.0.113.9, unix:/run/web"], &["10.0.0.1", UNIX]), "203.0.113.9");
    }

    #[test]
    fn any_peer_is_trusted_if_told_and_no_other_entry() {
        let proxies = TrustedProxies::new(&[], true, XForwardedFor).expect("good settings");
        for peer in [Hop::Unix, Hop::Unknown, Hop::Ip(IpAddr::from([203, 0, 113, 77]))] {
            let client = proxies.client(peer, [&b"6.6.6.6, 203.0.113.9"[..]].into_iter());
            assert_eq!(client.ip(), Some(IpAddr::from([203, 0, 113, 9])));
        }
    }

    #[test]
    fn mapped_addresses_and_networks_are_those_they_map() {
        for proxies in ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:a00:1", "::ffff:10.0.0.1/128"] {
            for peer in ["10.0.0.1", "::ffff:10.0.0.1"] {
                assert_eq!(client(peer, &["203.0.113.9"], &[proxies]), "203.0.113.9", "{proxies} {peer}");
                assert_eq!(
                    client(peer, &["::ffff:203.0.113.9"], &[proxies]),
                    "203.0.113.9",
                    "{proxies} {peer}"
                );
            }
            assert_eq!(client("11.0.0.1", &["203.0.113.9"], &[proxies]), "11.0.0.1", "{proxies}");
        }
        assert_eq!(client("10.0.0.1", &["203.0.113.9, ::ffff:10.2.3.4"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(
            client("10.0.0.1", &["203.0.113.9"], &["::/64"]),
            "10.0.0.1",
            "an IPv6 network has no IPv4"
        );
    }

    #[test]
    fn an_address_is_read_as_proxies_write_it() {
        for (entry, ip) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("203.0.113.9:0", "203.0.113.9"),
            ("[2001:db8::7]:80", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("\"[2001:db8::7]:80\"", "2001:db8::7"),
            ("\"203.0.113.9\"", "203.0.113.9"),
            ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
            ("::FFFF:203.0.113.9", "203.0.113.9"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"),
            ("2001:db8:0:0:0:0:0:7:4711", "2001:db8::7"),
            ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
            ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ] {
            assert_eq!(client("10.0.0.1", &[&format!("6.6.6.6, {entry}")], &["10.0.0.0/8"]), ip, "{entry}");
        }
    }

    #[test]
    fn empty_elements_are_read_past() {
        for lines in [
            &["6.6.6.6, 203.0.113.9", ""][..],
            &["6.6.6.6, 203.0.113.9", " , ,"],
            &["6.6.6.6,,203.0.113.9,", ",10.0.0.2", "\t"],
            &["", "203.0.113.9"],
        ] {
            assert_eq!(client("10.0.0.1", lines, &["10.0.0.0/8"]), "203.0.113.9", "{lines:?}");
        }
    }

    #[test]
    fn an_entry_that_is_not_an_address_gives_none() {
        for entry in [
            "unknown",
            "_hidden",
            "localhost",
            "203.0.113.9:",
            "203.0.113.9:x",
            "203.0.113.9:123456",
            "203.0.113",
            "203.0.113.09",
            "[2001:db8::7",
            "2001:db8::7]",
            "[203.0.113.9]",
            "[2001:db8::7]80",
            "fe80::1%",
            "\"",
            "\"\"",
            "for=203.0.113.9",
            "203.0.113.9 10.0.0.2",
            "2001:db8:0:0:0:0:0:7:x",
            "1:2:3:4:5:6:7:8:9:10",
            "1:2:3:4:5:6:7:8:",
            "é",
        ] {
            assert_eq!(client("10.0.0.1", &[&format!("6.6.6.6, {entry}")], &["10.0.0.0/8"]), "?", "{entry}");
        }
        // What the client has written does not matter.
        assert_eq!(client("10.0.0.1", &["unknown, é, 203.0.113.9"], &["10.0.0.0/8"]), "203.0.113.9");
    }

    /// The examples of RFC 7239 §4, §6 and §7, and what proxies write.
    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        for (line, ip) in [
            ("for=\"_gazonk\"", "?"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=_hidden, for=_SEVKISEK", "?"),
            ("for=unknown", "?"),
            ("for=\"unknown:80\"", "?"),
            ("for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=10.1.1.1", "2001:db8:cafe::17"),
            ("for=192.0.2.43, for=unknown, for=10.1.1.1", "?"),
            ("proto=https;by=\"_a\" ; FOR=192.0.2.60;host=\"a, b; for=6.6.6.6\"", "192.0.2.60"),
            ("for=\"192.0.2.60:_p\"", "192.0.2.60"),
            ("for=\"\\192\\.0.2.60\"", "192.0.2.60"),
            ("for=\"[fe80::1%25eth0]:80\"", "fe80::1"),
            ("for=\"::ffff:192.0.2.60\"", "192.0.2.60"),
            (";;for=192.0.2.60;", "192.0.2.60"),
            (" , ,for=192.0.2.60, ,", "192.0.2.60"),
            // Without the quotes that the RFC asks for.
            ("for=[2001:db8::7]:80;host=shop.example:443", "2001:db8::7"),
            ("for=2001:db8::7", "2001:db8::7"),
            ("for=192.0.2.60:4711 ; proto=https", "192.0.2.60"),
        ] {
            assert_eq!(forwarded(line), ip, "{line}");
        }
    }

    #[test]
    fn an_element_of_forwarded_that_names_no_client_gives_no_address() {
        for element in [
            "proto=https",
            "by=203.0.113.9",
            "for=",
            "for=\"\"",
            "for",
            "for: 203.0.113.9;proto: http",
            "203.0.113.9",
            "for=203.0.113.9;for=203.0.113.9",
            "for=203.0.113.9;For=10.1.1.1",
            "for =203.0.113.9",
            "fo=203.0.113.9",
            "for=203.0.113.9\"\"",
            "for=\"203.0.113.9\"x",
            "for=203.0.113.9;x\"y\"",
            "for=203.0.113.9;x=\"",
            "for=203.0.113.9;x=\"\\\"",
            "\"for=203.0.113.9\"",
            "for='203.0.113.9'",
        ] {
            assert_eq!(forwarded(&format!("for=6.6.6.6, {element}")), "?", "{element}");
            assert_eq!(
                client_in(Forwarded, "10.0.0.1", &["for=6.6.6.6", element], &["10.0.0.0/8"]),
                "?",
                "{element}"
            );
        }
    }

    #[test]
    fn a_quote_that_the_client_opens_hides_no_entry_of_a_proxy() {
        let proxied = ", for=203.0.113.9, for=\"10.0.0.3:80\";host=\"a\\\"b\"";
        for injected in [
            "for=6.6.6.6;x=\"",
            "for=6.6.6.6, x=\"\\",
            "for=6.6.6.6, for=\"10.0.0.2",
            "for=\"6.6.6.6",
            "\"",
            "x\"y\"",
            "for=\"6.6.6.6\"\"",
        ] {
            assert_eq!(forwarded(&format!("{injected}{proxied}")), "?", "{injected}");
            let lines = [injected, "for=203.0.113.9, for=10.0.0.3"];
            let ip = client_in(Forwarded, "10.0.0.1", &lines, &["10.0.0.0/8"]);
            assert_eq!(ip, "203.0.113.9", "a quote ends with its line: {injected}");
        }
    }

    #[test]
    fn a_network_ends_where_its_prefix_says() {
        let network: Network = "10.0.4.0/22".parse().expect("a network");
        for (ip, inside) in
            [("10.0.4.0", true), ("10.0.7.255", true), ("10.0.8.0", false), ("::a00:400", false)]
        {
            assert_eq!(network.contains(ip.parse().expect("an address")), inside, "{ip}");
        }
    }

    #[test]
    fn networks_that_say_something_else_than_meant_are_refused() {
        for (text, reason) in [
            ("", "is neither"),
            ("10.0.0.0/33", "is neither"),
            ("10.0.0/8", "is neither"),
            ("10.0.0.0/", "is neither"),
            ("10.0.0.0/x", "is neither"),
            ("::/129", "is neither"),
            ("unix", "is neither"),
            ("0.0.0.0/0", "is every address"),
            ("10.0.0.0/0", "is every address"),
            ("::/0", "is every address"),
            ("::ffff:0.0.0.0/96", "is every address"),
            // Everyone, where `10.0.0.0/8` is meant.
            ("::ffff:10.0.0.0/8", "is wider"),
            ("::ffff:10.0.0.0/95", "is wider"),
        ] {
            let refusal = text.parse::<Network>().expect_err(text);
            assert!(refusal.starts_with(reason), "{text}: {refusal}");
        }
    }

    /// An address, as the proxy at its right has written it.
    fn entry() -> impl Strategy<Value = (IpAddr, String)> {
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c])),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            any::<[u8; 4]>().prop_map(|ip| IpAddr::V6(Ipv4Addr::from(ip).to_ipv6_mapped())),
        ];
        (ip, any::<Option<u16>>(), any::<bool>()).prop_map(|(ip, port, is_bare)| {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let text = match ip {
                IpAddr::V6(_) if port.is_empty() && is_bare => ip.to_string(),
                IpAddr::V6(_) => format!("[{ip}]{port}"),
                IpAddr::V4(_) => format!("{ip}{port}"),
            };
            (ip.to_canonical(), text)
        })
    }

    fn write(header: ProxyHeader, entries: &[(IpAddr, String)]) -> String {
        let element = |(_, text): &(IpAddr, String)| match header {
            XForwardedFor => text.clone(),
            Forwarded => format!("proto=https;for=\"{text}\""),
        };
        entries.iter().map(element).collect::<Vec<_>>().join(", ")
    }

    fn header() -> impl Strategy<Value = ProxyHeader> {
        prop_oneof![Just(XForwardedFor), Just(Forwarded)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            header in header(),
            entries in proptest::collection::vec(entry(), 0..6),
        ) {
            let hops: Vec<_> = entries.iter().map(|(ip, _)| Hop::Ip(*ip)).collect();
            prop_assert_eq!(header.hops(write(header, &entries).as_bytes()), hops);
        }

        /// Proxies append to what a client has sent, in the same line or in the next one.
        #[test]
        fn nothing_left_of_an_untrusted_entry_is_taken(
            header in header(),
            forged in "[ -~]{0,40}|(for=|for=\"|[0-9.]{7}|\\[|\\]|\"|\\\\|,|;| ){0,12}",
            entries in proptest::collection::vec(entry(), 1..5),
            same_line in any::<bool>(),
        ) {
            let proxies = trusted(&["10.0.0.0/8"], header);
            let written = write(header, &entries);
            let lines = if same_line { vec![format!("{forged}, {written}")] } else { vec![forged, written] };
            let is_untrusted = |ip: &IpAddr| !proxies.trusts(Hop::Ip(*ip));
            let expected = entries.iter().rev().map(|(ip, _)| *ip).find(is_untrusted);
            let peer = Hop::Ip(IpAddr::from([10, 0, 0, 1]));
            let ip = proxies.client(peer, lines.iter().map(String::as_bytes)).ip();
            match (header, expected) {
                // With a quote that is not closed, the whole line is unknown.
                (Forwarded, Some(expected)) if same_line => prop_assert!(ip.is_none_or(|ip| ip == expected)),
                (_, Some(expected)) => prop_assert_eq!(ip, Some(expected)),
                // Every proxy is trusted, so the last one's client may say what it likes.
                (_, None) => {}
            }
            for stranger in [Hop::Ip(IpAddr::from([203, 0, 113, 9])), Hop::Unix, Hop::Unknown] {
                prop_assert_eq!(proxies.client(stranger, lines.iter().map(String::as_bytes)), stranger);
            }
        }

        #[test]
        fn no_bytes_panic(
            header in header(),
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4),
        ) {
            let peer = Hop::Ip(IpAddr::from([10, 0, 0, 1]));
            trusted(&["10.0.0.0/8", UNIX], header).client(peer, lines.iter().map(Vec::as_slice));
        }

        #[test]
        fn no_network_panics(text in "[0-9a-f:./%]{0,24}|\\PC{0,12}") {
            let _parsed = text.parse::<Network>();
        }
    }
}
