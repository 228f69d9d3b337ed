//! Bindings of a session: addresses, proxies and user agents.

use databag_tests::{Browser, Call, Fault, Logs};
use session_runtime::{Bind, Databag, ProxyHeader, Rejection, Session, Sessions, SqliteStore};

use crate::app::{COOKIE, Shop, World, key, read_session, rejected, shop, shop_with, site};

/// Checks that a copy of the cookie is anonymous, and that the session is unchanged.
async fn assert_rejected(world: &World, thief: &Browser, owner: &Browser, reason: Rejection) {
    let writes = world.watch.writes();
    world.events.take();
    let answer = thief.get("/page").await;
    assert!(answer.body.contains("\"is_new\":true") && !answer.body.contains("tea"), "{}", answer.body);
    assert!(answer.set_cookies().is_empty());
    assert_eq!(world.events.take(), rejected(reason));
    assert_eq!(world.watch.writes(), writes, "the request writes nothing");
    assert_eq!(read_session(owner).await["cart"]["tea"], 1, "the session of the owner is unchanged");
}

async fn customer_from(world: &World, ip: &str) -> Browser {
    let browser = world.browser().from(ip);
    browser.post("/add/tea").await;
    browser
}

#[actix_web::test]
async fn a_copied_cookie_is_anonymous_at_another_address() {
    let world = shop().await;
    for (home, elsewhere) in
        [("198.51.100.4", "198.51.100.5"), ("2001:db8::1", "2001:db8::2"), ("198.51.100.4", "2001:db8::1")]
    {
        let owner = customer_from(&world, home).await;
        assert_eq!(read_session(&owner).await["ip"], home);
        assert_rejected(&world, &owner.copied().from(elsewhere), &owner, Rejection::Address).await;
        assert_eq!(read_session(&owner.copied().from(home)).await["is_new"], false);
    }
}

#[actix_web::test]
async fn a_mapped_address_is_the_address_it_maps() {
    let world = shop().await;
    let owner = customer_from(&world, "198.51.100.4").await;
    assert_eq!(read_session(&owner.copied().from("::ffff:198.51.100.4")).await["is_new"], false);
}

#[actix_web::test]
async fn a_session_bound_to_a_prefix_moves_within_its_network() {
    let world = shop_with(|builder| builder.ip_binding(Bind::Prefix)).await;
    for (home, near, far) in [
        ("198.51.100.4", "198.51.100.250", "198.51.101.4"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", "2001:db8:1:3::1"),
    ] {
        let owner = customer_from(&world, home).await;
        assert_rejected(&world, &owner.copied().from(far), &owner, Rejection::Address).await;
        let moved = owner.copied().from(near);
        let seen = moved.get("/page").await;
        assert!(seen.body.contains(&format!("\"ip\":\"{near}\"")), "{}", seen.body);
        let listed = world.sessions.get(crate::app::id(&moved)).await.expect("answers").expect("alive");
        assert_eq!(listed.ip_addr().map(|ip| ip.to_string()).as_deref(), Some(near));
    }
}

#[actix_web::test]
async fn a_session_without_binding_works_from_another_address() {
    let world = shop_with(|builder| builder.ip_binding(Bind::Off)).await;
    let owner = customer_from(&world, "198.51.100.4").await;
    let moved = owner.from("203.0.113.9");
    let seen = read_session(&moved).await;
    assert_eq!((&seen["cart"]["tea"], &seen["ip"]), (&1.into(), &"203.0.113.9".into()));
}

/// A telephone that has left the house reads a page: that is no change of the handler's, which could fail.
#[actix_web::test]
async fn a_changed_address_does_not_turn_a_read_into_a_write_that_can_fail() {
    let world = shop_with(|builder| builder.ip_binding(Bind::Off)).await;
    let owner = customer_from(&world, "198.51.100.4").await;
    world.watch.fail(Call::Update, Fault::Down);
    let seen = owner.copied().from("203.0.113.9").get("/page").await;
    assert_eq!(seen.status, 200);
    assert!(seen.body.contains("\"ip\":\"203.0.113.9\""), "{}", seen.body);
    world.watch.heal();
    assert_eq!(owner.copied().from("203.0.113.9").get("/page").await.status, 200);
    let session = crate::app::id(&owner);
    let stored = world.sessions.get(session).await.expect("answers").expect("alive");
    assert_eq!(stored.ip_addr(), Some([203, 0, 113, 9].into()), "it is stored when the store takes it");
    let elsewhere = world.sessions.clone();
    world.watch.before_next(Call::Update, async move {
        assert!(elsewhere.delete(session).await.expect("answers"));
    });
    let last = owner.copied().from("192.0.2.1").get("/page").await;
    assert_eq!(last.status, 200, "the page was read before the session ended");
}

#[actix_web::test]
async fn an_untrusted_peer_cannot_claim_an_address() {
    let world = shop().await;
    let owner = customer_from(&world, "198.51.100.4").await;
    let thief = owner.copied().from("203.0.113.9").with("x-forwarded-for", "198.51.100.4");
    assert_rejected(&world, &thief, &owner, Rejection::Address).await;
    let owner = owner.with("x-forwarded-for", "203.0.113.9");
    assert_eq!(read_session(&owner).await["ip"], "198.51.100.4");
}

#[actix_web::test]
async fn a_trusted_proxy_states_the_address_of_its_client() {
    let world = shop_with(|builder| builder.trusted_proxies(["10.0.0.0/8", "::1"])).await;
    let owner = world.browser().from("10.0.0.1").with("x-forwarded-for", "198.51.100.4, 10.9.9.9");
    owner.post("/add/tea").await;
    assert_eq!(read_session(&owner).await["ip"], "198.51.100.4");
    // A client can forge only the entries to the left of the one that the proxy adds.
    let thief = owner.copied().with("x-forwarded-for", "198.51.100.4, 203.0.113.9");
    assert_rejected(&world, &thief, &owner, Rejection::Address).await;
    let past_the_proxy = owner.copied().from("203.0.113.9").with("x-forwarded-for", "198.51.100.4");
    assert_rejected(&world, &past_the_proxy, &owner, Rejection::Address).await;
    let nonsense = owner.copied().with("x-forwarded-for", "unknown");
    assert_rejected(&world, &nonsense, &owner, Rejection::Address).await;
}

#[actix_web::test]
async fn a_mapped_network_and_a_mapped_peer_are_trusted_as_what_they_map() {
    for (network, peer) in [
        ("::ffff:10.0.0.0/104", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "::ffff:10.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.0.0.1"),
    ] {
        let world = shop_with(|builder| builder.trusted_proxies([network])).await;
        let owner = world.browser().from(peer).with("x-forwarded-for", "::ffff:198.51.100.4");
        owner.post("/add/tea").await;
        assert_eq!(read_session(&owner).await["ip"], "198.51.100.4", "{network} {peer}");
        let thief = owner.copied().with("x-forwarded-for", "198.51.100.4, 203.0.113.9");
        assert_rejected(&world, &thief, &owner, Rejection::Address).await;
    }
}

#[actix_web::test]
async fn only_the_header_that_the_proxies_write_is_read() {
    for (header, read, other, home, elsewhere) in [
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "forwarded", "198.51.100.4", "203.0.113.9"),
        (
            ProxyHeader::Forwarded,
            "forwarded",
            "x-forwarded-for",
            "for=\"198.51.100.4:4711\";proto=https",
            "For=203.0.113.9",
        ),
    ] {
        let world = shop_with(|builder| builder.trusted_proxies(["10.0.0.0/8"]).proxy_header(header)).await;
        let owner = world.browser().from("10.0.0.1").with(read, home);
        owner.post("/add/tea").await;
        assert_eq!(read_session(&owner).await["ip"], "198.51.100.4");
        let forged = format!("for=198.51.100.4, {elsewhere}");
        for thief in [
            owner.copied().with(read, elsewhere),
            owner.copied().with(read, &forged),
            owner.copied().with(read, elsewhere).with(other, "198.51.100.4"),
            owner.copied().with(read, elsewhere).with(other, "for=198.51.100.4"),
        ] {
            assert_rejected(&world, &thief, &owner, Rejection::Address).await;
        }
    }
}

#[actix_web::test]
async fn a_peer_without_an_address_is_a_proxy_only_if_told() {
    for (proxies, ip) in [
        (&["unix:"][..], serde_json::json!("198.51.100.4")),
        (&["10.0.0.0/8", "unix:"], "198.51.100.4".into()),
        (&["10.0.0.0/8"], serde_json::Value::Null),
    ] {
        let world = shop_with(|builder| builder.trusted_proxies(proxies)).await;
        let visitor = world.browser().with("x-forwarded-for", "6.6.6.6, 198.51.100.4");
        visitor.post("/add/tea").await;
        assert_eq!(read_session(&visitor).await["ip"], ip, "{proxies:?}");
    }
    let world = shop_with(session_runtime::Builder::danger_trust_every_peer).await;
    for visitor in [world.browser(), world.browser().from("203.0.113.77")] {
        let visitor = visitor.with("x-forwarded-for", "6.6.6.6, 198.51.100.4");
        visitor.post("/add/tea").await;
        assert_eq!(read_session(&visitor).await["ip"], "198.51.100.4");
    }
}

#[actix_web::test]
async fn a_request_without_a_known_address_opens_no_session_that_is_bound_to_one() {
    let world = shop_with(|builder| builder.trusted_proxies(["10.0.0.0/8"])).await;
    let owner = customer_from(&world, "198.51.100.4").await;
    for thief in [
        world.browser(),
        world.browser().with("x-forwarded-for", "198.51.100.4"),
        world.browser().from("10.0.0.1").with("x-forwarded-for", "198.51.100.4, unknown"),
        world.browser().from("10.0.0.1").with("x-forwarded-for", "198.51.100.4, unix:"),
    ] {
        thief.set_cookie(COOKIE, &owner.cookie(COOKIE).expect("a cookie"));
        assert_rejected(&world, &thief, &owner, Rejection::Address).await;
    }
}

#[actix_web::test]
async fn a_session_from_an_unknown_address_is_logged_once_and_bound_when_an_address_uses_it() {
    let (logs, _guard) = Logs::of_this_thread();
    let world = shop().await;
    for _ in 0..2 {
        world.browser().post("/add/tea").await;
    }
    let owner = world.customer().await;
    let unknown = ["WARN", "the address of a client is not known"];
    assert_eq!(logs.lines(&unknown).len(), 1, "{}", logs.text());
    let owner = owner.from("198.51.100.4");
    owner.get("/page").await;
    assert_rejected(&world, &owner.copied().from("203.0.113.9"), &owner, Rejection::Address).await;

    let unbound = shop_with(|builder| builder.ip_binding(Bind::Off)).await;
    unbound.customer().await;
    assert_eq!(logs.lines(&unknown).len(), 1, "without a binding it does not matter");
}

#[actix_web::test]
async fn a_forwarded_header_that_is_not_read_is_logged_once() {
    for header in ["x-forwarded-for", "forwarded"] {
        let (logs, _guard) = Logs::of_this_thread();
        let world = shop().await;
        for _ in 0..3 {
            let visitor = world.browser().from("10.0.0.1").with(header, "for=198.51.100.4");
            visitor.post("/add/tea").await;
            assert_eq!(read_session(&visitor).await["ip"], "10.0.0.1");
        }
        let lines = logs.lines(&["WARN", "`trusted_proxies`"]);
        assert_eq!(lines.len(), 1, "{header}: {}", logs.text());
        assert!(lines[0].to_lowercase().contains(&format!("`{header}`")), "{lines:?}");
    }
}

#[actix_web::test]
async fn a_proxy_that_names_no_client_is_logged_once() {
    let (logs, _guard) = Logs::of_this_thread();
    let world = shop_with(|builder| builder.trusted_proxies(["10.0.0.0/8"])).await;
    let visitor = |header, value| world.browser().from("10.0.0.1").with(header, value);
    visitor("x-forwarded-for", "198.51.100.4").get("/").await;
    visitor("x-forwarded-for", "198.51.100.4, 10.9.9.9").get("/").await;
    world.browser().from("203.0.113.9").get("/").await;
    assert!(logs.lines(&["WARN"]).is_empty(), "{}", logs.text());
    visitor("forwarded", "for=198.51.100.4").get("/").await;
    visitor("x-forwarded-for", " ").get("/").await;
    assert_eq!(logs.lines(&["WARN", "`proxy_header`"]).len(), 1, "{}", logs.text());
}

#[derive(Databag)]
#[databag(table = "anywhere")]
struct Anywhere {
    visits: u32,
}

#[actix_web::test]
async fn a_bag_without_an_address_logs_nothing_of_proxies() {
    let (logs, _guard) = Logs::of_this_thread();
    let store = SqliteStore::in_memory().expect("memory");
    let sessions = Sessions::<Anywhere>::builder(store).keyring(key()).build().await.expect("good settings");
    let visit = async |mut session: Session<Anywhere>| {
        session.visits += 1;
        "visited"
    };
    let site = site!(sessions; "/" => visit);
    site.browser().with("x-forwarded-for", "198.51.100.4").get("/").await;
    assert!(logs.lines(&["WARN"]).is_empty(), "{}", logs.text());
}

#[actix_web::test]
async fn a_session_bound_to_its_user_agent_does_not_open_for_another() {
    let world = shop_with(|builder| builder.bind_user_agent(true)).await;
    let owner = world.browser().with("user-agent", "Lynx/2.9");
    owner.post("/add/tea").await;
    for agent in ["Lynx/2.8", ""] {
        let thief = owner.copied().with("user-agent", agent);
        assert_rejected(&world, &thief, &owner, Rejection::UserAgent).await;
    }
    world.sessions.update(crate::app::id(&owner), |shop| shop.count += 1).await.expect("stored");
    assert_eq!(read_session(&owner).await["count"], 1, "a change outside a request keeps the binding");
}

#[actix_web::test]
async fn a_session_created_outside_a_request_is_bound_by_the_first_request_that_stores_it() {
    let world = shop_with(|builder| builder.bind_user_agent(true)).await;
    let (token, _) = world.sessions.create(Shop { count: 4, ..Databag::defaults() }).await.expect("stored");
    let owner = world.browser().from("198.51.100.4").with("user-agent", "Lynx/2.9");
    owner.set_cookie(COOKIE, &token.encode());
    assert_eq!(read_session(&owner).await["count"], 4);
    owner.post("/add/tea").await;
    assert_rejected(&world, &owner.copied().with("user-agent", "curl"), &owner, Rejection::UserAgent).await;
    assert_rejected(&world, &owner.copied().from("203.0.113.9"), &owner, Rejection::Address).await;
}

#[actix_web::test]
async fn an_address_alone_stores_no_session() {
    let world = shop().await;
    let read = async |session: Session<Shop>| format!("{:?}", session.ip_addr());
    let site = site!(world.sessions; "/" => read);
    let answer = site.browser().from("198.51.100.4").get("/").await;
    assert_eq!(answer.body, "Some(198.51.100.4)");
    assert!(answer.set_cookies().is_empty());
    assert_eq!(world.rows(), 0);
}
