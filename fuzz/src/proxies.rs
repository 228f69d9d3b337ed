//! `X-Forwarded-For` and `Forwarded`: the address of the client, behind trusted proxies of `10.0.0.0/8`.
//!
//! The input is what a client has written. The proxies have appended their entries to it.

use std::mem::ManuallyDrop;
use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::TestRequest;
use session_runtime::store::Unlisted;
use session_runtime::{Databag, ProxyHeader, SessionRef, Sessions};

use crate::http::{Site, run as wait};
use crate::input::Input;
use crate::rows::{Loads, Shelf, keyring, steady};
use crate::{Target, page};

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: Target = Target {
    name: "x_forwarded_for",
    run: |data| run(data, ProxyHeader::XForwardedFor),
    starts: || starts("6.6.6.6, 10.0.0.2"),
    weight: 1,
    words: WORDS,
};

/// `Forwarded`.
pub const FORWARDED: Target = Target {
    name: "forwarded",
    run: |data| run(data, ProxyHeader::Forwarded),
    starts: || starts("for=6.6.6.6;proto=http;by=\"[2001:db8::7]:80\", for=\"_a\""),
    weight: 1,
    words: WORDS,
};

const WORDS: &[&str] = &[
    "for=",
    "for=\"",
    "\"",
    "\\",
    ", ",
    ",",
    ";",
    "[",
    "]",
    ":80",
    "unix:",
    "unknown",
    "10.0.0.2",
    "6.6.6.6",
    "::1",
    "::ffff:10.0.0.1",
    "%25",
    "\t",
    "\n",
    "by=",
    "FOR=",
    "\u{E9}",
];

fn starts(forged: &str) -> Vec<Vec<u8>> {
    (0..16).map(|mode| [&[mode], forged.as_bytes()].concat()).collect()
}

/// The client of every request.
const CLIENT: &str = "203.0.113.9";

/// Bound to addresses.
#[derive(Databag)]
#[databag(name = "Addressed", table = "addressed")]
struct Addressed {
    #[databag(ip_addr)]
    ip_addr: Option<IpAddr>,
}

thread_local! {
    static X_FORWARDED_FOR_SITE: ManuallyDrop<Site> = ManuallyDrop::new(wait(site(ProxyHeader::XForwardedFor)));
    static FORWARDED_SITE: ManuallyDrop<Site> = ManuallyDrop::new(wait(site(ProxyHeader::Forwarded)));
}

async fn site(header: ProxyHeader) -> Site {
    let builder = Sessions::<Addressed>::builder(Unlisted(Shelf::default())).keyring(keyring());
    let builder = builder.proxy_header(header).trusted_proxies(["10.0.0.0/8", "unix:"]);
    let sessions: Loads<Addressed> = steady(builder).build().await.expect("good settings");
    page!(sessions, async |session: SessionRef<Addressed>| {
        session.ip_addr().map(|ip| ip.to_string()).unwrap_or_default()
    })
}

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
fn run(data: &[u8], header: ProxyHeader) {
    let mut input = Input(data);
    let mode = input.byte();
    let [peer_is_proxy, same_line, has_two_proxies, appends] = [1, 2, 4, 8].map(|bit| mode & bit == 0);
    let mut lines: Vec<Vec<u8>> = input.0.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let entry = |ip: &str| match header {
        ProxyHeader::Forwarded => format!("proto=https;for=\"{ip}\""),
        _ => ip.to_owned(),
    };
    let mut appended = vec![entry(CLIENT)];
    if has_two_proxies {
        appended.push(entry("10.0.0.3"));
    }
    let appended = appended.join(", ");
    if appends && same_line {
        lines.last_mut().expect("a split has a part").extend(format!(", {appended}").bytes());
    } else if appends {
        lines.push(appended.into());
    }
    let peer = if peer_is_proxy { "10.0.0.1:1" } else { "198.51.100.7:1" };
    let mut request = TestRequest::default().peer_addr(peer.parse::<SocketAddr>().expect("an address"));
    let (name, other) = match header {
        ProxyHeader::Forwarded => ("forwarded", "x-forwarded-for"),
        _ => ("x-forwarded-for", "forwarded"),
    };
    for line in &lines {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        // The other header is the client's.
        request = request.append_header((HeaderName::from_static(other), value.clone()));
        request = request.append_header((HeaderName::from_static(name), value));
    }
    let serve = |site: &ManuallyDrop<Site>| wait(site(request));
    let answer = match header {
        ProxyHeader::Forwarded => FORWARDED_SITE.with(serve),
        _ => X_FORWARDED_FOR_SITE.with(serve),
    };
    assert_eq!(answer.status, 200);
    match (peer_is_proxy, appends) {
        (false, _) => assert_eq!(answer.body, "198.51.100.7", "nobody else is believed"),
        // A quote that the client has opened makes the line unknown.
        (true, true) if same_line && header == ProxyHeader::Forwarded => {
            assert!(["", CLIENT].contains(&answer.body.as_str()), "{}", answer.body);
        }
        (true, true) => assert_eq!(answer.body, CLIENT),
        (true, false) => assert!(answer.body.is_empty() || answer.body.parse::<IpAddr>().is_ok()),
    }
}
