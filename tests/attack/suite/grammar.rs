//! Requests whose `Cookie` headers are written by hand, and the cookies of the answers.

use std::fmt::Write as _;

use session_runtime::Rejection;

use super::bags::{Bag as _, Shop};
use super::case::cases;
use super::client::{Reply, Visitor, exchange, request};
use super::target::{SECRET, Target, invented, is_victim, victim};

/// The name of the session cookie.
const NAME: &str = Shop::COOKIE;

cases! {
    "two cookies of the name, the victim's first" [10] All =>
        sent(|v| vec![format!("{NAME}={v}; {NAME}=x")], DUPLICATE);
    "two cookies of the name, the victim's last" [10] All =>
        sent(|v| vec![format!("{NAME}=x; {NAME}={v}")], DUPLICATE);
    "the same cookie twice" [10] All => sent(|v| vec![format!("{NAME}={v}; {NAME}={v}")], DUPLICATE);
    "two Cookie headers, the victim's first" [10] All =>
        sent(|v| vec![format!("{NAME}={v}"), format!("{NAME}=x")], DUPLICATE);
    "two Cookie headers, the victim's last" [10] All =>
        sent(|v| vec![format!("{NAME}=x"), format!("{NAME}={v}")], DUPLICATE);
    "a planted token beside the victim's" [3 10] All =>
        sent(|v| vec![format!("{NAME}={}; {NAME}={v}", invented(3).0)], DUPLICATE);
    "an empty cookie of the name beside it" [10] All =>
        sent(|v| vec![format!("{NAME}=; {NAME}={v}")], DUPLICATE);
    "a thousand cookies of the name" [10 22] All =>
        sent(|v| vec![format!("{NAME}={v};").repeat(20)], DUPLICATE);
    "a name in percent signs (CVE-2020-8184)" [11] All =>
        sent(|v| vec![format!("%5F%5FHost-shop={v}")], NOTHING);
    "a name in lower case" [11] All => sent(|v| vec![format!("__host-shop={v}")], NOTHING);
    "a name in upper case" [11] All => sent(|v| vec![format!("__HOST-SHOP={v}")], NOTHING);
    "a name after a space (CVE-2021-41819)" [11] All => sent(|v| vec![format!("a=b;  {NAME}={v}")], NOTHING);
    "a name after a tab" [11] All => sent(|v| vec![format!("a=b;\t{NAME}={v}")], NOTHING);
    "a name before a space" [11] All => sent(|v| vec![format!("{NAME} ={v}")], NOTHING);
    "a name with more behind it" [11] All => sent(|v| vec![format!("{NAME}2={v}")], NOTHING);
    "a name with more before it" [11] All => sent(|v| vec![format!("x{NAME}={v}")], NOTHING);
    "a name without its prefix" [11] All => sent(|v| vec![format!("shop={v}")], NOTHING);
    "a name in fullwidth letters" [11] All => sent(|v| vec![format!("__Host-\u{FF53}hop={v}")], NOTHING);
    "a nameless cookie that holds the pair" [10 11] All => sent(|v| vec![format!("={NAME}={v}")], NOTHING);
    "a quoted pair" [10 11] All => sent(|v| vec![format!("\"{NAME}={v}\"")], NOTHING);
    "commas in the place of semicolons" [10] All => sent(|v| vec![format!("a=b, {NAME}={v}")], NOTHING);
    "a quoted value" [10] All => sent(|v| vec![format!("{NAME}=\"{v}\"")], MALFORMED);
    "a value before a space" [10] All => sent(|v| vec![format!("{NAME}={v} ; a=b")], MALFORMED);
    "a value after a space" [10] All => sent(|v| vec![format!("{NAME}= {v}")], MALFORMED);
    "a value in percent signs" [10 11] All => sent(|v| vec![format!("{NAME}={}", percent(v))], MALFORMED);
    "a second equals sign" [10] All => sent(|v| vec![format!("{NAME}=={v}")], MALFORMED);
    "a value and a comma" [10] All => sent(|v| vec![format!("{NAME}={v},{NAME}={v}")], MALFORMED);
    "the attributes of RFC 2109" [10] All =>
        sent(|v| vec![format!("$Version=1; {NAME}={v}; $Path=/")], VICTIM);
    "another program's broken cookies" [10] All =>
        sent(|v| vec![format!("a=\"; ;;=x; {NAME}={v}; b")], VICTIM);
    "several Cookie headers with one of the name" [10] All =>
        sent(|v| vec!["a=b".to_owned(), format!("{NAME}={v}")], VICTIM);
    "a Cookie header of 100 KB" [10 22] All =>
        sent(|v| vec![format!("{}{NAME}={v}", "a=b; ".repeat(20_000))], VICTIM);
    "ten thousand cookies of other names" [10 22] All =>
        sent(|v| vec![format!("{}{NAME}={v}", others(8_000))], VICTIM);
    "a cookie of 100 KB of the name" [10 22] All =>
        sent(|v| vec![format!("{NAME}={v}{}", "A".repeat(100_000))], MALFORMED);
    "a Cookie header of 1 MiB" [22] All => too_long();
    "a Cookie header of bytes that are no text" [10 22] All => no_text();
    "the token in a header of another name" [11] All => elsewhere(|v| format!("X-Session: {v}"));
    "the token in Authorization" [11] All => elsewhere(|v| format!("Authorization: Bearer {v}"));
    "the token in Cookie2" [11] All => elsewhere(|v| format!("Cookie2: {NAME}={v}"));
    "the token in the URL" [13] All => in_url();
    "every Set-Cookie has the attributes of its prefix" [8 10 12] All => attributes();
    "one Set-Cookie of the name for each answer" [10] All => one_each();
    "one Set-Cookie of the name, also if the handler sets one" [30] All => beside_handler();
    "a session that does not fit into a cookie" [9] Cookie => too_large();
    "a session that just fits into a cookie" [9] Cookie => largest();
    "a state left over on the connection" [2 10] All => keep_alive();
}

/// What comes of a request.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    /// The session is found.
    Victim,
    /// There is no cookie of the name.
    Nothing,
    Refused(Rejection),
}

const VICTIM: Expected = Expected::Victim;
const NOTHING: Expected = Expected::Nothing;
const MALFORMED: Expected = Expected::Refused(Rejection::Malformed);
const DUPLICATE: Expected = Expected::Refused(Rejection::Duplicate);

async fn get(target: &Target, path: &str, headers: &[&[u8]]) -> Reply {
    exchange(target.address, &request("GET", path, headers, b"")).await.expect("an answer")
}

/// Sends the victim's cookie in headers of another form. A neighbour of the site can write such headers: if they were taken
/// for the session's, it could sign the victim in and out.
async fn sent(target: &Target, write: fn(&str) -> Vec<String>, expected: Expected) {
    let victim = victim(target).await;
    let lines: Vec<String> = write(&victim.cookie()).iter().map(|value| format!("Cookie: {value}")).collect();
    let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
    let shown = get(target, "/read", &lines).await.session();
    let reasons = target.rejections();
    let found = match (shown["user"] == "victim", &reasons[..]) {
        (true, []) => Expected::Victim,
        (false, []) => Expected::Nothing,
        (false, [reason]) => Expected::Refused(*reason),
        _ => panic!("{shown} {reasons:?}"),
    };
    assert!(found == expected, "{shown} {reasons:?}");
    assert!(is_victim(&victim).await, "the victim's session goes on");
}

/// The server may refuse it, and must live.
async fn too_long(target: &Target) {
    let victim = victim(target).await;
    let line = format!("Cookie: {}{NAME}={}", "a=b; ".repeat(200_000), victim.cookie());
    let reply = exchange(target.address, &request("GET", "/read", &[line.as_bytes()], b"")).await;
    assert!(reply.is_none_or(|reply| reply.status >= 400));
    assert!(is_victim(&victim).await);
}

async fn no_text(target: &Target) {
    let victim = victim(target).await;
    let line = [b"Cookie: a=\xE9\xFF\x80; ", format!("{NAME}={}", victim.cookie()).as_bytes()].concat();
    assert_eq!(get(target, "/read", &[&line]).await.session()["user"], "victim");
    let line = [format!("Cookie: {NAME}=").as_bytes(), &[0xFF; 43]].concat();
    assert!(get(target, "/read", &[&line]).await.session()["user"].is_null());
    assert_eq!(target.rejections(), [Rejection::Malformed]);
}

/// The token is read from the cookie alone: other headers are sent by scripts, and logged by proxies.
async fn elsewhere(target: &Target, write: fn(&str) -> String) {
    let victim = victim(target).await;
    let line = write(&victim.cookie());
    assert!(get(target, "/read", &[line.as_bytes()]).await.session()["user"].is_null());
}

async fn in_url(target: &Target) {
    let victim = victim(target).await;
    let path = format!("/read?{NAME}={0}&session={0}", victim.cookie());
    assert!(get(target, &path, &[]).await.session()["user"].is_null());
    // The server under test logs no URL; a proxy would.
    for reply in [victim.get("/read").await, victim.post("/rotate").await, victim.post("/logout").await] {
        assert!(
            reply.all("location").is_empty() && !reply.body.contains(&victim_cookie(&victim)),
            "{reply:?}"
        );
    }
}

fn victim_cookie(victim: &Visitor<'_>) -> String {
    if victim.has_cookie() { victim.cookie() } else { "no cookie".to_owned() }
}

/// Checks each `Set-Cookie` of a life: with other attributes scripts, other hosts or plain HTTP could read or set it.
async fn attributes(target: &Target) {
    let visitor = Visitor::new(target);
    let mut cookies = 0;
    for (path, removes, persists) in [
        ("/add/tea", false, false),
        ("/login", false, false),
        ("/rotate", false, false),
        ("/fail", false, false),
        ("/remember", false, true),
        ("/logout", true, false),
    ] {
        let reply = visitor.put(path, "victim").await;
        for cookie in reply.set_cookies() {
            let (pair, attributes) = cookie.split_once("; ").expect("attributes");
            let (name, value) = pair.split_once('=').expect("a pair");
            assert_eq!(name, NAME);
            assert_eq!(value.is_empty(), removes, "{path}: {cookie}");
            assert!(
                value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
                "{cookie}"
            );
            let mut attributes: Vec<&str> = attributes.split("; ").collect();
            attributes.retain(|attribute| !attribute.starts_with("Max-Age=") || !(removes || persists));
            attributes.sort_unstable();
            assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"], "{path}: {cookie}");
            cookies += 1;
        }
    }
    assert!(cookies >= 5, "{cookies} cookies");
}

async fn one_each(target: &Target) {
    let visitor = Visitor::new(target);
    for path in ["/add/tea", "/login", "/add/milk", "/rotate", "/become", "/logout", "/add/tea", "/destroy"] {
        let reply = visitor.put(path, "victim").await;
        assert!(reply.set_cookies().len() <= 1, "{path}: {:?}", reply.set_cookies());
    }
}

/// Browsers keep the last of two, other clients the first.
async fn beside_handler(target: &Target) {
    let visitor = Visitor::new(target);
    let reply = visitor.post("/cached").await;
    let of_the_name = reply.set_cookies().iter().filter(|cookie| cookie.starts_with(NAME)).count();
    assert_eq!(of_the_name, 1, "{:?}", reply.set_cookies());
}

/// A browser drops a longer cookie silently, and the visitor would lose what was acknowledged.
async fn too_large(target: &Target) {
    let victim = victim(target).await;
    let before = victim.cookie();
    let reply = victim.put("/pin", &"p".repeat(4_000)).await;
    assert_eq!((reply.status, reply.set_cookies().len()), (500, 0), "{reply:?}");
    assert!(reply.body.len() < 64, "an opaque body: {}", reply.body);
    assert_eq!(victim.cookie(), before);
    assert_eq!(victim.read().await["pin"], SECRET);
}

async fn largest(target: &Target) {
    let victim = victim(target).await;
    let mut longest = 0;
    for length in (2_000..3_200).rev().step_by(7) {
        let reply = victim.put("/pin", &"p".repeat(length)).await;
        let Some(cookie) = reply.set_cookies().first().copied() else { continue };
        let pair = cookie.split(';').next().expect("a pair");
        longest = longest.max(pair.len() - 1);
        assert!(longest <= 4_096, "{longest} bytes");
        assert_eq!(reply.status, 200);
        break;
    }
    assert!(longest > 4_060, "{longest} bytes are the longest");
}

/// One connection, three visitors: nothing of one request is left for the next (GitHub, 2021).
async fn keep_alive(target: &Target) {
    let (victim, attacker) = (victim(target).await, Visitor::new(target));
    attacker.does("/add/own", "").await;
    let line = |visitor: &Visitor<'_>| {
        format!("GET /read HTTP/1.1\r\nHost: x\r\nCookie: {NAME}={}\r\n\r\n", visitor.cookie())
    };
    let last = request("GET", "/read", &[], b"");
    let bytes =
        [line(&victim).as_bytes(), line(&attacker).as_bytes(), line(&victim).as_bytes(), &last].concat();
    let all = exchange(target.address, &bytes).await.expect("answers");
    let all = format!("{{{}", all.body);
    let shown: Vec<bool> =
        all.split("HTTP/1.1 200").map(|answer| answer.contains("\"user\":\"victim\"")).collect();
    assert_eq!(shown, [true, false, true, false], "{all}");
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "%{byte:02X}");
        all
    })
}

fn others(count: usize) -> String {
    (0..count).fold(String::new(), |mut all, number| {
        let _ = write!(all, "n{number}=v; ");
        all
    })
}
