//! `Set-Cookie` headers of any settings: the settings are refused, or browsers accept each header and a removal removes what
//! was set.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use actix_web::test::TestRequest;
use session_runtime::store::Unlisted;
use session_runtime::{Databag, Error, FormerCookie, Persistence, SameSite, Session, Sessions};

use crate::http::{Site, run as wait};
use crate::input::Input;
use crate::rows::{Loads, Shelf, keyring, steady};
use crate::{Target, page};

/// The target.
pub const TARGET: Target = Target {
    name: "set_cookie",
    run,
    starts: || {
        let settings = |flags: u8, times: u8, texts: &[&str]| {
            let texts = texts
                .iter()
                .flat_map(|text| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat());
            [flags, times].into_iter().chain(texts).collect::<Vec<u8>>()
        };
        vec![
            settings(0b0001, 0, &["__Host-shop", "/", "", "shop", "/shop", "example.com"]),
            settings(0b0101, 0, &["__Secure-shop", "/shop", "example.com", "__Host-shop", "/", ""]),
            settings(0b1111, 0, &["__Host-Http-shop", "/", "", "__Http-shop", "/a b", ""]),
            settings(0b0000, 9, &["shop", "/long", "", "shop", "/", ""]),
            settings(0b1_0001, 31, &["shop", "/", "example.com", "", "", ""]),
        ]
    },
    weight: 4,
    words: &[
        "__Host-",
        "__Secure-",
        "__Http-",
        "__Host-Http-",
        "__host-",
        "/",
        ";",
        "; Domain=x",
        "=",
        "\"",
        ",",
        " ",
        "\r\n",
        "example.com",
        ".",
        "-",
        "\u{E9}",
        "\x7F",
        "\0",
        "127.0.0.1",
        "Example.COM",
    ],
};

/// What a cookie carries.
#[derive(Databag)]
#[databag(name = "Cooked", table = "cooked")]
struct Cooked {
    visits: u32,
}

async fn handle(request: HttpRequest, mut session: Session<Cooked>) -> &'static str {
    match request.path() {
        "/end" => session.destroy(),
        _ => session.set_visits(2_u32),
    }
    "done"
}

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let (flags, times) = (input.byte(), usize::from(input.byte()));
    let flag = |bit: u8| flags & 1 << bit != 0;
    // Some texts are long.
    let text =
        |input: &mut Input<'_>, is_long: bool| input.text().repeat(if is_long { 1 + times % 32 } else { 1 });
    let (name, path, domain) = (text(&mut input, flag(6)), text(&mut input, true), input.text());
    let same_site = [SameSite::Lax, SameSite::Strict, SameSite::None][usize::from(flags >> 1 & 3) % 3];
    let shelf = Shelf::default();
    let mut builder = Sessions::<Cooked>::builder(Unlisted(shelf)).keyring(keyring());
    builder = builder.cookie(&name).path(&path).secure(flag(0)).same_site(same_site).partitioned(flag(3));
    if !domain.is_empty() {
        builder = builder.domain(&domain);
    }
    if flag(4) {
        builder = builder.persistence(Persistence::Persistent);
    }
    if flag(5) {
        builder = builder.development();
    }
    for _ in 0..2 {
        let (name, path, domain) = (text(&mut input, flag(6)), text(&mut input, flag(7)), input.text());
        if !name.is_empty() {
            let mut former = FormerCookie::named(name).path(path).partitioned(input.flag());
            if !domain.is_empty() {
                former = former.domain(domain);
            }
            builder = builder.former_cookie(former);
        }
    }
    wait(async {
        let sessions: Loads<Cooked> = match steady(builder).build().await {
            Ok(sessions) => sessions,
            Err(Error::Config(_)) => return,
            Err(other) => panic!("{other}"),
        };
        let site: Site = page!(sessions, handle);
        let set = site(TestRequest::with_uri("/")).await;
        assert_eq!(set.status, 200);
        let parsed: Vec<_> = set.set_cookies.iter().map(|header| checked(header)).collect();
        let live = parsed.last().expect("a new session has a cookie");
        assert!(!live.is_removal() && parsed[..parsed.len() - 1].iter().all(Parsed::is_removal));
        assert_eq!(live.name, if flag(5) { unprefixed(&name) } else { &name });
        assert_eq!(live.attributes.contains_key("max-age"), flag(4));

        let cookie = format!("{}={}", live.name, live.value);
        let removed = site(TestRequest::with_uri("/end").insert_header(("cookie", cookie))).await;
        assert_eq!(removed.status, 200);
        let removals: Vec<_> = removed.set_cookies.iter().map(|header| checked(header)).collect();
        assert_eq!(removals.len(), parsed.len(), "each answer removes the former cookies");
        let removal = removals.last().expect("the session has ended");
        assert!(removals.iter().all(Parsed::is_removal));
        let mut kept = removal.attributes.clone();
        kept.remove("max-age");
        let mut live_attributes = live.attributes.clone();
        live_attributes.remove("max-age");
        assert_eq!((&removal.name, kept), (&live.name, live_attributes), "a removal is of the same cookie");
    });
}

/// Returns a name without the prefixes for which browsers ask for `Secure`, whatever their case.
fn unprefixed(name: &str) -> &str {
    let begins = |prefix: &&str| begins(name, prefix);
    let prefix = ["__Host-Http-", "__Host-", "__Http-", "__Secure-"].into_iter().find(begins);
    prefix.map_or(name, |prefix| unprefixed(&name[prefix.len()..]))
}

fn begins(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A `Set-Cookie` header as a browser reads it.
#[derive(Debug)]
pub struct Parsed {
    name: String,
    value: String,
    /// By their names in lower case.
    attributes: BTreeMap<String, String>,
}

impl Parsed {
    fn is_removal(&self) -> bool {
        self.value.is_empty() && self.attributes.get("max-age").is_some_and(|age| age == "0")
    }
}

/// Parses a header after the grammar of RFC 6265bis §4.1.1 and checks that browsers accept the cookie (§5.6, §5.7).
///
/// # Panics
///
/// If it has another form, or a browser would drop it or one of its attributes.
pub fn checked(header: &[u8]) -> Parsed {
    let header = str::from_utf8(header).expect("ASCII");
    assert!(header.bytes().all(|byte| matches!(byte, b' '..=b'~')), "no controls: {header:?}");
    let mut parts = header.split("; ");
    let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    assert!(!name.is_empty() && name.bytes().all(is_token), "the name {name:?}");
    let is_octet = |byte: u8| matches!(byte, 0x21 | 0x23..=0x2B | 0x2D..=0x3A | 0x3C..=0x5B | 0x5D..=0x7E);
    assert!(value.bytes().all(is_octet), "the value {value:?}");
    assert!(name.len() + value.len() <= 4096, "{} bytes", name.len() + value.len());
    let mut attributes = BTreeMap::new();
    for part in parts {
        let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
        assert!(value.len() <= 1024, "browsers ignore an attribute of {} bytes", value.len());
        assert!(!value.contains(';') && value.trim() == value, "the attribute {part:?}");
        let is_good = match attribute {
            "HttpOnly" | "Secure" | "Partitioned" => part == attribute,
            "SameSite" => ["Strict", "Lax", "None"].contains(&value),
            "Path" => value.starts_with('/'),
            "Domain" => {
                !value.is_empty()
                    && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            }
            "Max-Age" => value.parse::<u64>().is_ok_and(|age| age <= 400 * 24 * 60 * 60),
            _ => false,
        };
        assert!(is_good, "the attribute {part:?}");
        let twice = attributes.insert(attribute.to_ascii_lowercase(), value.to_owned());
        assert!(twice.is_none(), "{attribute} twice");
    }
    let has = |attribute: &str| attributes.contains_key(attribute);
    let begins = |prefix: &str| begins(name, prefix);
    assert!(has("httponly") && has("samesite") && has("path"));
    if begins("__Host-") {
        assert!(has("secure") && !has("domain") && attributes["path"] == "/", "{header}");
    }
    let needs_secure =
        begins("__Secure-") || begins("__Http-") || has("partitioned") || attributes["samesite"] == "None";
    assert!(has("secure") || !needs_secure, "browsers drop it without Secure: {header}");
    // Some browsers compare prefixes as they are written.
    for prefix in ["__Host-", "__Secure-", "__Http-", "__Host-Http-"] {
        assert!(!begins(prefix) || name.starts_with(prefix), "the prefix of {name:?}");
    }
    Parsed { name: name.to_owned(), value: value.to_owned(), attributes }
}
