//! Text that means something to a database, to HTTP, or to a proxy.

use session_runtime::store::{Filter, Page, Table, TableColumn};
use session_runtime::{
    Bind, ColumnType, CookieStore, Directory, FormerCookie, Keyring, MemoryStore, Rejection, SessionId,
    Sessions, SqliteStore, Store,
};

use super::bags::{Bag as _, Shop};
use super::case::cases;
use super::client::{Visitor, exchange, request};
use super::target::{Target, invented, is_victim, victim};

cases! {
    "a user with a quote" [22] All => user("o'brien");
    "a user that is SQL" [22] All => user("x'; DROP TABLE attack_shop; --");
    "a user that is always true" [6] All => user("' OR '1'='1");
    "a user with a backslash" [22] All => user("\\'; DELETE FROM attack_shop WHERE 1=1; -- \\");
    "a user that is a pattern" [6] All => user("%");
    "a user with a double quote" [22] All => user("\"attack_shop\"");
    "a user with a placeholder" [22] All => user("?1 $1 :user @user");
    "a user with a line break" [13] All => user("a\r\nSet-Cookie: b=c");
    "a user that is a command of Redis" [22] All => user("x\r\n*1\r\n$8\r\nFLUSHALL\r\n");
    "a user with braces of a Redis slot" [6 21] All => user("{attack_shop:user:tvictim}");
    "a user with a colon" [6 21] All => user("a:b:tvictim");
    "a user that is a glob" [6] All => user("*");
    "a user of emoji" [22] All => user("\u{1F9D9}\u{200D}\u{2640}\u{FE0F}");
    "a user of combining characters" [6] All => user("vict\u{0131}m\u{0301}");
    "a user with a zero byte" [6 22] All => refusable("victim\0");
    "a user of a zero byte" [6 22] All => refusable("\0");
    "an empty user" [6] All => user("");
    "a user of a space" [6] All => user(" ");
    "the victim's name in capitals" [6] All => user("VICTIM");
    "the victim's name with a space behind it" [6] All => user("victim ");
    "the victim's name with an accent" [6] All => user("vict\u{00ED}m");
    "the victim's name in fullwidth letters" [6] All => user("\u{FF56}ictim");
    "a user of 255 characters" [6 22] All => refusable_of("u", 255);
    "a user of 300 characters" [6 22] All => refusable_of("u", 300);
    "a user of 10,000 characters" [6 22] All => refusable_of("u", 10_000);
    "a user of 2,000 characters of four bytes" [6 22] All => refusable_of("\u{1F9D9}", 1_000);
    "a column that is SQL" [22] All => tenant("acme'); DROP TABLE attack_shop; --");
    "a column with a line break" [13] All => tenant("a\r\nb");
    "a column with a zero byte" [22] All => tenant("a\0b");
    "a column of 10,000 characters" [22] All => tenant_of(10_000);
    "a query for a column that is SQL" [6] Rows => query("acme' OR '1'='1");
    "a query for a pattern" [6] Rows => query("%");
    "a query for the value in capitals" [6] Rows => query("ACME");
    "a query for the value with a space behind it" [6] Rows => query("acme ");
    "a session id that is no id" [2] Any => ids();
    "a table whose name is SQL" [22] Sqlite => table_name();
    "a flash text with a header" [8] All => flash();
    "a cookie's name with a header" [8 10] Any => cookie_settings();
    "a forwarded address from a stranger" [27] All => forwarded_by_stranger();
    "a forwarded address before the proxy's" [27] All => forwarded_twice();
    "a forwarded address that is none" [27] All => forwarded_unknown();
    "a forwarded address in another header" [27] All => forwarded_elsewhere();
    "a thief at another address" [27] All => stolen();
    "a thief with another user agent" [27] All => stolen_agent();
    "a network that is every address" [27] Any => networks();
}

/// Somebody chooses such a name. It must name this user alone, and come back as it is.
async fn user(target: &Target, name: &str) {
    let (victim, attacker) = (victim(target).await, Visitor::new(target));
    attacker.does("/login", name).await;
    attacker.does("/add/milk", "").await;
    only_his(target, &attacker, name).await;
    assert!(is_victim(&victim).await);
}

async fn only_his(target: &Target, attacker: &Visitor<'_>, name: &str) {
    assert_eq!(attacker.read().await["user"], name);
    if target.has_rows() {
        let shop = &target.shop;
        let found = shop.of_user(name).await.expect("it answers");
        assert!(
            found.iter().all(|session| session.user_id.as_deref() == Some(name)),
            "other users are found"
        );
        assert!(found.iter().any(|session| session.id() == attacker.id()), "the session is not found");
        let ended = shop.revoke_user(name).await.expect("it answers");
        assert_eq!(ended, found.len() as u64, "other users' sessions are ended");
    }
}

/// A store may refuse such a name for good: then it is 500, and nothing is stored or cut.
async fn refusable(target: &Target, name: &str) {
    let (victim, attacker) = (victim(target).await, Visitor::new(target));
    let reply = attacker.put("/login", name).await;
    if reply.status == 200 {
        only_his(target, &attacker, name).await;
    } else {
        assert_eq!((reply.status, reply.set_cookies().len()), (500, 0), "{reply:?}");
        assert!(reply.body.len() < 64, "{}", reply.body);
        assert!(attacker.read().await["user"].is_null());
    }
    assert!(is_victim(&victim).await, "the store serves the others");
}

async fn refusable_of(target: &Target, letter: &str, count: usize) {
    refusable(target, &letter.repeat(count)).await;
}

async fn tenant(target: &Target, text: &str) {
    let victim = victim(target).await;
    let reply = victim.put("/tenant", text).await;
    let expected = if reply.status == 200 { text } else { "acme" };
    assert!(matches!(reply.status, 200 | 500), "{reply:?}");
    let shown = victim.read().await;
    assert_eq!((&shown["tenant"], &shown["user"]), (&expected.into(), &"victim".into()));
}

async fn tenant_of(target: &Target, count: usize) {
    tenant(target, &"t".repeat(count)).await;
}

async fn query(target: &Target, text: &str) {
    let victim = victim(target).await;
    let find = || target.shop.find(Shop::TENANT.eq(text));
    assert!(find().await.expect("it answers").is_empty(), "it finds what it does not name");
    assert_eq!(find().count().await.expect("it answers"), 0);
    assert_eq!(find().delete().await.expect("it answers"), 0);
    assert!(is_victim(&victim).await);
}

async fn ids(_: &Target) {
    let id = invented(20).1.to_string();
    for text in [
        "",
        "0",
        "' OR '1'='1",
        &id[..63],
        &format!("{id}0"),
        &id.to_uppercase(),
        &format!(" {id}"),
        &format!("{id}\0"),
    ] {
        assert!(text.parse::<SessionId>().is_err(), "{text:?} is an id");
    }
    assert!(id.parse::<SessionId>().is_ok());
}

/// Names of tables come from programs. They are quoted whatever they hold, or refused.
async fn table_name(target: &Target) {
    let victim = victim(target).await;
    let deadline = || std::time::Instant::now() + std::time::Duration::from_secs(10);
    for name in ["a\"; DROP TABLE attack_shop; --", "a'b", "a]b`c", "select", "x\"\"y"] {
        let path = target.folder.as_ref().expect("a folder").path().join("names.db");
        let mut store = SqliteStore::open(path).expect("a database");
        let mut table = Table::new(name);
        table.projected = vec![TableColumn::new(format!("{name}c"), ColumnType::Text).indexed()];
        store.prepare(&table, std::time::Duration::from_secs(10)).await.expect("the name is quoted");
        let found = store.find(&Filter::All, Page::new(None, 10), deadline()).await;
        assert!(found.expect("it is a table").is_empty(), "{name}");
    }
    assert!(is_victim(&victim).await);
}

async fn flash(target: &Target) {
    let victim = victim(target).await;
    let text = "hello\r\nSet-Cookie: __Host-shop=planted\r\n\r\n<script>";
    let reply = victim.does("/notice", text).await;
    assert!(reply.headers.iter().all(|(_, value)| !value.contains("planted")), "{reply:?}");
    assert_eq!(victim.read().await["notice"], text);
    assert!(victim.read().await["notice"].is_null(), "it is shown once");
}

async fn cookie_settings(target: &Target) {
    let builder = || {
        let keyring = Keyring::parse(&target.setup.keys).expect("a key");
        Sessions::<Shop>::builder(MemoryStore::new()).keyring(keyring)
    };
    for text in ["a\r\nSet-Cookie: b=c", "a; Domain=evil.example", "a=b", "a b", "a\0", "", "\u{E9}", "a,b"] {
        let refused = [
            builder().cookie(text).build().await,
            builder().cookie("plain").path(format!("/{text};")).build().await,
            builder().cookie("plain").domain(format!("{text}.")).build().await,
            builder().former_cookie(FormerCookie::named(text)).build().await,
            builder().login_redirect(format!("/{text}\r\n")).build().await,
        ];
        for (setting, built) in refused.into_iter().enumerate() {
            assert!(built.is_err(), "setting {setting} takes {text:?}");
        }
    }
    for same_site in ["__host-x", "__HOST-x", "__secure-x"] {
        assert!(builder().cookie(same_site).build().await.is_err());
    }
    let in_cookie = Sessions::<Shop>::builder(CookieStore).danger_plaintext().build().await;
    assert!(in_cookie.is_err(), "sessions in cookies in the clear");
}

/// Returns the address that the application sees of a client with these headers.
async fn seen(target: &Target, headers: &[&str]) -> serde_json::Value {
    let lines: Vec<&[u8]> = headers.iter().map(|line| line.as_bytes()).collect();
    let reply = exchange(target.address, &request("GET", "/read", &lines, b"")).await.expect("an answer");
    reply.session()["ip"].clone()
}

async fn forwarded_by_stranger(target: &Target) {
    for header in
        ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1", "Client-IP: 10.0.0.1"]
    {
        assert_eq!(seen(target, &[header]).await, "127.0.0.1", "{header}");
    }
}

async fn behind_proxy(target: &Target) -> Target {
    target.beside(|setup| setup.proxies = vec!["127.0.0.1"]).await
}

/// The client writes the left end of the header, and the proxy appends the address that it sees.
async fn forwarded_twice(target: &Target) {
    let proxied = behind_proxy(target).await;
    for headers in [
        &["X-Forwarded-For: 10.0.0.1, 203.0.113.9"][..],
        &["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 203.0.113.9"],
        &["X-Forwarded-For: 127.0.0.1, 203.0.113.9"],
        &["X-Forwarded-For: unknown,,, 203.0.113.9 ,"],
        &["X-Forwarded-For: \"10.0.0.1, 203.0.113.9"],
    ] {
        assert_eq!(seen(&proxied, headers).await, "203.0.113.9", "{headers:?}");
    }
    proxied.stop().await;
}

/// An address that is not known is not "any address".
async fn forwarded_unknown(target: &Target) {
    let proxied = behind_proxy(target).await;
    let victim = Visitor::new(&proxied).sending("X-Forwarded-For: 203.0.113.9");
    victim.does("/login", "victim").await;
    for claim in
        ["unknown", "_hidden", "localhost", "203.0.113.9.", "203.0.113.256", "0xcb.0.113.9", "[203.0.113.9]"]
    {
        let thief = Visitor::with(&proxied, &victim.cookie()).sending(&format!("X-Forwarded-For: {claim}"));
        let seen = thief.read().await;
        assert!(seen["user"].is_null(), "{claim}: {seen}");
        assert_eq!(proxied.rejections(), [Rejection::Address], "{claim}");
    }
    proxied.stop().await;
}

async fn forwarded_elsewhere(target: &Target) {
    let proxied = behind_proxy(target).await;
    let headers = ["Forwarded: for=10.0.0.1", "X-Forwarded-For: 203.0.113.9", "X-Real-IP: 10.0.0.1"];
    assert_eq!(seen(&proxied, &headers).await, "203.0.113.9");
    proxied.stop().await;
}

async fn stolen(target: &Target) {
    let proxied = behind_proxy(target).await;
    let victim = Visitor::new(&proxied).sending("X-Forwarded-For: 203.0.113.9");
    victim.does("/login", "victim").await;
    let thief = |header: &str| Visitor::with(&proxied, &victim.cookie()).sending(header);
    for header in ["X-Forwarded-For: 203.0.113.8", "X-Forwarded-For: 203.0.113.9, 203.0.113.8", "X-Other: 1"]
    {
        let seen = thief(header).read().await;
        assert!(seen["user"].is_null() && seen["new"] == true, "{header}: {seen}");
        assert_eq!(proxied.rejections(), [Rejection::Address]);
    }
    assert_eq!(victim.read().await["user"], "victim", "the session goes on");
    proxied.stop().await;
}

async fn stolen_agent(target: &Target) {
    let bound = target.beside(|setup| setup.bind_agent = true).await;
    let victim = Visitor::new(&bound).sending("User-Agent: one");
    victim.does("/login", "victim").await;
    for header in ["User-Agent: other", "User-Agent: ", "X-Agent: one"] {
        let seen = Visitor::with(&bound, &victim.cookie()).sending(header).read().await;
        assert!(seen["user"].is_null(), "{header}: {seen}");
        assert_eq!(bound.rejections(), [Rejection::UserAgent]);
    }
    assert_eq!(victim.read().await["user"], "victim");
    bound.stop().await;
}

async fn networks(target: &Target) {
    for network in [
        "0.0.0.0/0",
        "::/0",
        "::ffff:0.0.0.0/96",
        "::ffff:10.0.0.0/8",
        "10.0.0.0/33",
        "10.0.0/8",
        "*",
        "",
        "10.0.0.1/+8",
    ] {
        let keyring = Keyring::parse(&target.setup.keys).expect("a key");
        let builder = Sessions::<Shop>::builder(MemoryStore::new()).keyring(keyring).ip_binding(Bind::Exact);
        assert!(builder.trusted_proxies([network]).build().await.is_err(), "{network:?} is trusted");
    }
    assert_eq!(Shop::COOKIE, "__Host-shop");
}
