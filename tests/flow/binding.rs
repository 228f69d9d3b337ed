//! Bindings of a session: addresses, proxies and user agents.

use databag_tests::Browser;
use session_runtime::{Bind, Rejection, Session};

use crate::app::{COOKIE, Shop, World, read_session, rejected, shop, shop_with, site};

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
    let (token, _) = world
        .sessions
        .create(Shop { count: 4, ..session_runtime::Databag::defaults() })
        .await
        .expect("stored");
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
