//! Input that is too long, too deep, or claims more than there is. Memory and time are measured.

use std::time::Duration;

use session_runtime::Rejection;

use super::bags::{Bag as _, Shop, Text};
use super::case::{Kind, cases};
use super::client::{Visitor, exchange, request};
use super::measure::{is_cheap, sized};
use super::record::{Field, PlainState};
use super::target::{SECRET, Target, is_victim, victim};

cases! {
    "a row that claims 10^9 elements of no size" [22] Rows =>
        claimed("units", |_| vec![252, 0, 202, 154, 59]);
    "a row that claims 2^63 elements of no size" [22] Rows => claimed("units", |_| claim(1 << 63));
    "a row of 60,000 elements of no size in one byte each" [22] Rows =>
        claimed("units", |_| [&claim(1 << 40)[..], &[0; 60_000]].concat());
    "a row that claims 10^9 names" [22] Rows => claimed("names", |_| vec![252, 0, 202, 154, 59]);
    "a row that claims 2^62 entries of a map" [22] Rows => claimed("cart", |_| claim(1 << 62));
    "a row that claims a text of 2^62 bytes" [22] Rows =>
        claimed("pin", |_| [&[1][..], &claim(1 << 62)].concat());
    "a row that claims a text of 2^64 - 1 bytes" [22] Rows =>
        claimed("pin", |_| [&[1][..], &claim(u64::MAX)].concat());
    "a row with a chain of 129 links" [22] Rows => claimed("chain", |_| chain(129));
    "a row with a chain of 6,000 links" [22] Rows => claimed("chain", |_| chain(6_000));
    "a row with a chain of 60,000 links" [22] Rows => claimed("chain", |_| chain(60_000));
    "a row with a chain that does not end" [22] Rows => claimed("chain", |_| vec![1; 60_000]);
    "a row with a text that is not UTF-8" [22] Rows =>
        claimed("pin", |_| b"\x01\x04\xFF\xFE\xFD\xFC".to_vec());
    "a row with an option that is neither" [22] Rows => claimed("pin", |_| vec![7]);
    "a row with bytes behind a value" [15 22] Rows => claimed("count", |value| [value, &[0; 9]].concat());
    "a row with a number that is too short" [22] Rows => claimed("count", |_| vec![253, 1]);
    "a row with 4,000 unknown fields" [22] Rows => fields(|state| unknown(state, 4_000));
    "a row with a field twice" [15 22] Rows => doubled();
    "a row with a length beyond its end" [22] Rows =>
        fields(|state| unfinished(state, &[0xFF, 0xFF, 0xFF, 0x7F]));
    "a row with a length of five digits" [22] Rows =>
        fields(|state| unfinished(state, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]));
    "a row that ends in a field" [22] Rows => fields(|state| { state.pop(); });
    "a row of JSON that is 30,000 levels deep" [22] Rows =>
        json(|text| nested(text, "\"chain\":", &format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000))));
    "a row of JSON with a chain of 7,000 links" [22] Rows =>
        json(|text| nested(text, "\"chain\":", &format!("{}null{}", "{\"next\":".repeat(7_000), "}".repeat(7_000))));
    "a row of JSON that does not end" [22] Rows =>
        json(|text| nested(text, "\"chain\":", &"{\"next\":".repeat(7_000)));
    "a row of JSON with a number of 10^999999" [22] Rows =>
        json(|text| nested(text, "\"count\":", "1e999999"));
    "a row of JSON with a number of 30,000 digits" [22] Rows =>
        json(|text| nested(text, "\"count\":", &"9".repeat(30_000)));
    "a row of JSON with a negative count" [22] Rows => json(|text| nested(text, "\"count\":", "-1"));
    "a row of JSON with 2,000 unknown members" [22] Rows => json(many_members);
    "a row of JSON that is not UTF-8 once decoded" [22] Rows =>
        json(|text| nested(text, "\"pin\":", "\"\\ud800\""));
    "a row of 200 MiB" [22] Rows => long_row();
    "a row one byte beyond the limit" [22] Rows => row_beside_limit();
    "a request body of 2 MiB" [22] All => long_body();
    "a session one byte beyond the limit" [16 22] Rows => long_session();
    "a cart that grows with each request" [16 22] All => growing();
    "a user of 100,000 characters" [22] All => long_user();
    "a path of 60,000 characters" [22] All => long_path();
}

/// Writes a length as bincode does.
fn claim(length: u64) -> Vec<u8> {
    [&[253][..], &length.to_le_bytes()].concat()
}

fn chain(links: usize) -> Vec<u8> {
    let mut chain = vec![1; links];
    chain.push(0);
    chain
}

/// Opens an application whose rows are in the clear, so that their writer decides what is decoded.
async fn in_the_clear(target: &Target) -> Target {
    target.beside(|setup| setup.is_plain = true).await
}

/// Replaces a field of the victim's row. The row must not open as it says, and must harm nobody else.
async fn claimed(target: &Target, field: &str, replace: fn(&[u8]) -> Vec<u8>) {
    rewritten(target, |bytes| {
        let mut state = PlainState::parse(bytes);
        let field: &mut Field = state.field(field);
        field.value = replace(&field.value);
        *bytes = state.write();
    })
    .await;
}

async fn fields(target: &Target, change: fn(&mut Vec<u8>)) {
    rewritten(target, change).await;
}

async fn rewritten(target: &Target, change: impl FnOnce(&mut Vec<u8>)) {
    let plain = in_the_clear(target).await;
    let (bad, other) = (victim(&plain).await, victim(&plain).await);
    let rows = plain.rows().await;
    let mut row = rows.load(bad.id()).await.expect("a row");
    change(&mut row.state);
    rows.replace(row).await;
    refused_cheaply(&plain, &bad).await;
    let listed = is_cheap(plain.shop.get(bad.id())).await;
    assert!(listed.expect("it is no failure").is_none());
    assert!(is_victim(&other).await, "the others are served");
    plain.stop().await;
}

/// Checks that a row opens nothing, in little memory and time.
async fn refused_cheaply(target: &Target, visitor: &Visitor<'_>) {
    let reply = is_cheap(visitor.get("/read")).await;
    let shown = reply.session();
    assert!(shown["new"] == true && shown["user"].is_null(), "{shown}");
    let reasons = target.rejections();
    let is_expected = |reason: &Rejection| {
        matches!(reason, Rejection::Undecodable { .. } | Rejection::TooLarge | Rejection::Tampered)
    };
    assert!(reasons.len() == 1 && reasons.iter().all(is_expected), "{reasons:?}");
}

fn unknown(state: &mut Vec<u8>, count: u32) {
    for field in 0..count {
        state.extend_from_slice(&field.to_be_bytes());
        state.extend_from_slice(&[0; 10]);
    }
}

/// Adds a field that ends with its length.
fn unfinished(state: &mut Vec<u8>, length: &[u8]) {
    state.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    state.extend_from_slice(length);
}

/// A second user behind the first: the columns agree with one of them.
async fn doubled(target: &Target) {
    let plain = in_the_clear(target).await;
    let visitor = victim(&plain).await;
    let rows = plain.rows().await;
    let mut row = rows.load(visitor.id()).await.expect("a row");
    let mut state = PlainState::parse(&row.state);
    let mut second = state.field("user_id").clone();
    second.value = b"\x01\x05admin".to_vec();
    state.fields.push(second);
    row.state = state.write();
    rows.replace(row).await;
    assert_ne!(visitor.read().await["user"], "admin");
    plain.stop().await;
}

fn nested(text: &mut String, name: &str, value: &str) {
    let at = text.rfind(name).expect("the field is there") + name.len();
    let rest = &text[at..];
    // The values of this bag hold neither commas nor braces, apart from the cart and the chain.
    let end = if rest.starts_with('{') {
        rest.find('}').map_or(0, |end| end + 1)
    } else {
        rest.find([',', '}']).unwrap_or(0)
    };
    text.replace_range(at..at + end, value);
}

fn many_members(text: &mut String) {
    let list = |of: fn(u32) -> String| (0..2_000).map(of).collect::<String>();
    let types = list(|field| format!("\"f{field}\":\"0\","));
    let values = list(|field| format!(",\"f{field}\":1"));
    *text = text.replacen("\"types\":{", &format!("\"types\":{{{types}"), 1);
    let record = text.strip_suffix("}}").expect("a record").to_owned();
    *text = format!("{record}{values}}}}}");
}

async fn json(target: &Target, change: fn(&mut String)) {
    let plain = in_the_clear(target).await;
    let visitor = Visitor::of::<Text>(&plain);
    visitor.does("/login", "victim").await;
    let rows = plain.store.rows(Text::SCOPE).await;
    let mut row = rows.load(visitor.id()).await.expect("a row");
    let mut text = String::from_utf8(row.state).expect("text");
    change(&mut text);
    row.state = text.into_bytes();
    rows.replace(row).await;
    refused_cheaply(&plain, &visitor).await;
    plain.stop().await;
}

/// The servers take less in one packet, unless told.
async fn long_row(target: &Target) {
    let mib = if matches!(target.kind, Kind::Memory | Kind::Sqlite) { 200 } else { 8 };
    let victim = victim(target).await;
    let rows = target.rows().await;
    let mut row = rows.load(victim.id()).await.expect("a row");
    let original = row.clone();
    row.state.resize(sized("ATTACK_ROW_MIB", mib) << 20, 7);
    rows.replace(row).await;
    refused_cheaply(target, &victim).await;
    let of_user = is_cheap(target.shop.of_user("victim")).await;
    assert!(of_user.expect("one row fails no list").iter().all(|session| session.id() != victim.id()));
    rows.replace(original).await;
    assert!(is_victim(&victim).await);
    assert!(target.shop.delete(victim.id()).await.expect("the store answers"));
}

async fn row_beside_limit(target: &Target) {
    let small = target.beside(|setup| setup.max_state = Some(2_000)).await;
    let visitor = victim(target).await;
    visitor.does("/pin", &"p".repeat(4_200)).await;
    let shown = visitor.at(&small).get("/read").await.session();
    assert!(shown["user"].is_null());
    assert_eq!(small.rejections(), [Rejection::TooLarge]);
    small.stop().await;
}

async fn long_body(target: &Target) {
    let victim = victim(target).await;
    let reply = is_cheap(victim.put("/pin", &"p".repeat(2 << 20))).await;
    assert!(reply.status >= 400 && reply.set_cookies().is_empty(), "{}", reply.status);
    assert_eq!(victim.read().await["pin"], SECRET);
}

/// The limit is checked before anything is sealed or stored.
async fn long_session(target: &Target) {
    let victim = victim(target).await;
    let before = row_of_size(target, &victim).await;
    let reply = is_cheap(victim.put("/pin", &"p".repeat(65_536))).await;
    assert_eq!((reply.status, reply.body.as_str()), (500, "Internal Server Error"));
    assert!(reply.set_cookies().is_empty());
    assert_eq!(row_of_size(target, &victim).await, before);
    assert_eq!(victim.read().await["pin"], SECRET);
}

async fn row_of_size(target: &Target, visitor: &Visitor<'_>) -> (usize, i64) {
    let row = target.rows().await.load(visitor.id()).await.expect("a row");
    (row.state.len(), row.revision)
}

/// CVE-2016-4423: a visitor fills the store.
async fn growing(target: &Target) {
    let visitor = Visitor::new(target);
    let mut refused = 0;
    for number in 0..60 {
        let reply = visitor.post(&format!("/add/{number}-{}", "i".repeat(2_000))).await;
        refused += u32::from(reply.status == 500);
        assert!(matches!(reply.status, 200 | 500), "{reply:?}");
    }
    assert!(refused > 20, "{refused} of 60 requests are refused");
    if target.has_rows() {
        assert!(row_of_size(target, &visitor).await.0 < 68_000);
    }
}

/// Refused, whole, or an error of the client's; never cut.
async fn long_user(target: &Target) {
    let visitor = Visitor::new(target);
    let user = "u".repeat(100_000);
    let reply = is_cheap(visitor.put("/login", &user)).await;
    assert_eq!(reply.status, 500, "the session is too large");
    assert!(visitor.read().await["user"].is_null());
}

async fn long_path(target: &Target) {
    let path = format!("/read/{}", "x".repeat(60_000));
    let reply = exchange(target.address, &request("GET", &path, &[], b"")).await;
    assert!(reply.is_none_or(|reply| reply.status >= 400));
    let visitor = tokio::time::timeout(Duration::from_secs(20), victim(target)).await.expect("it is served");
    assert!(is_victim(&visitor).await);
    assert_eq!(Shop::SCOPE, "");
}
