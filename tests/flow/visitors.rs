//! Visitors without a session, and cookies that are not tokens.

use actix_web::test::TestRequest;
use session_runtime::{Rejection, Session, Token};

use crate::app::{COOKIE, Shop, id, read_session, rejected, shop, site, token};

fn some_token() -> String {
    Token::from_bytes([7; 32]).encode().to_string()
}

#[actix_web::test]
async fn a_visitor_without_changes_leaves_no_row_and_gets_no_cookie() {
    let world = shop().await;
    let browser = world.browser();
    for path in ["/", "/page"] {
        let answer = browser.get(path).await;
        assert!(answer.status.is_success());
        assert!(answer.set_cookies().is_empty());
    }
    assert!(browser.post("/noop").await.set_cookies().is_empty());
    assert!(browser.post("/logout").await.set_cookies().is_empty());
    assert_eq!((world.rows(), world.watch.calls()), (0, 0));
}

#[actix_web::test]
async fn a_route_without_a_session_makes_no_store_call() {
    let world = shop().await;
    let browser = world.customer().await;
    let before = world.watch.calls();
    let answer = browser.get("/plain").await;
    assert_eq!(answer.body, "plain");
    assert!(answer.set_cookies().is_empty() && answer.all("vary").is_empty());
    assert_eq!(world.watch.calls(), before);
}

#[actix_web::test]
async fn a_read_makes_one_store_call() {
    let world = shop().await;
    let browser = world.customer().await;
    let before = world.watch.calls();
    read_session(&browser).await;
    assert_eq!(world.watch.calls(), before + 1);
}

#[actix_web::test]
async fn a_malformed_cookie_causes_no_store_call_and_no_row() {
    let world = shop().await;
    let good = some_token();
    // The last of 43 characters has two bits that must be zero: this one encodes the same bytes in another way.
    let stray_bits = format!("{}d", &good[..42]);
    assert_ne!(stray_bits, good);
    let padded = format!("{good}=");
    let quoted = format!("\"{good}\"");
    for junk in ["", "x", "../../etc/passwd", "null", &stray_bits, &padded, &quoted, &good[..42]] {
        let browser = world.browser();
        browser.set_cookie(COOKIE, junk);
        let answer = browser.get("/page").await;
        assert!(answer.status.is_success(), "{junk}");
        assert!(answer.set_cookies().is_empty(), "{junk}");
        assert_eq!(world.events.take(), rejected(Rejection::Malformed), "{junk}");
    }
    assert_eq!((world.rows(), world.watch.calls()), (0, 0));
}

#[actix_web::test]
async fn two_cookies_with_one_name_are_refused_without_a_store_call() {
    let world = shop().await;
    let browser = world.customer().await;
    let good = format!("{COOKIE}={}", browser.cookie(COOKIE).expect("a cookie"));
    let other = format!("{COOKIE}={}", some_token());
    let before = world.watch.calls();
    world.events.take();
    for pair in [[&good, &other], [&other, &good], [&good, &good]] {
        let [first, second] = pair;
        let one_header = TestRequest::get().uri("/").append_header(("cookie", format!("{first}; {second}")));
        let two_headers = TestRequest::get()
            .uri("/")
            .append_header(("cookie", first.as_str()))
            .append_header(("cookie", second.as_str()));
        for request in [one_header, two_headers] {
            let answer = world.site.call(request.to_request()).await;
            assert!(answer.body.contains("\"is_new\":true"), "{}", answer.body);
            assert_eq!(world.events.take(), rejected(Rejection::Duplicate));
        }
    }
    assert_eq!(world.watch.calls(), before);
}

#[actix_web::test]
async fn a_well_formed_token_that_was_not_issued_is_never_adopted() {
    let world = shop().await;
    let browser = world.browser();
    browser.set_cookie(COOKIE, &some_token());
    let presented = id(&browser);
    assert_eq!(read_session(&browser).await["is_new"], true);
    assert_eq!(world.events.take(), rejected(Rejection::Unknown));
    assert_eq!(browser.cookie(COOKIE), Some(some_token()), "a read does not remove the cookie");
    browser.post("/add/tea").await;
    assert_ne!(browser.cookie(COOKIE), Some(some_token()));
    assert!(world.sessions.get(presented).await.expect("the store answers").is_none());
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn the_name_of_the_cookie_is_matched_exactly() {
    let world = shop().await;
    let browser = world.customer().await;
    let value = browser.cookie(COOKIE).expect("a cookie");
    let before = world.watch.calls();
    for near in ["__host-shop", "%5F%5FHost-shop", "__Host-shop2", "x__Host-shop", "__Host-sho", "shop"] {
        for header in [format!("{near}={value}"), format!("a=b;  {COOKIE}={value}")] {
            let request = TestRequest::get().uri("/").insert_header(("cookie", header));
            let answer = world.site.call(request.to_request()).await;
            assert!(answer.body.contains("\"is_new\":true"), "{near}: {}", answer.body);
        }
    }
    assert_eq!(world.watch.calls(), before);
}

#[actix_web::test]
async fn the_cookie_is_found_among_other_cookies_and_in_several_headers() {
    let world = shop().await;
    let browser = world.customer().await;
    let pair = format!("{COOKIE}={}", browser.cookie(COOKIE).expect("a cookie"));
    for headers in [
        vec![format!("a=b; {pair}; c=d")],
        vec!["a=b".to_owned(), format!("c=d; {pair}")],
        vec![format!("bad;;{pair}")],
    ] {
        let request = headers.iter().fold(TestRequest::get().uri("/"), |request, header| {
            request.append_header(("cookie", header.as_str()))
        });
        let answer = world.site.call(request.to_request()).await;
        assert!(answer.body.contains("\"is_new\":false"), "{headers:?}");
    }
}

#[actix_web::test]
async fn a_token_of_one_site_does_not_open_on_another() {
    let (world, other) = (shop().await, shop().await);
    let browser = world.customer().await;
    let stranger = other.browser();
    stranger.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    assert_eq!(read_session(&stranger).await["is_new"], true);
}

#[actix_web::test]
async fn a_change_keeps_the_id_of_the_session() {
    let world = shop().await;
    let browser = world.customer().await;
    let first = token(&browser).session_id();
    let answer = browser.post("/add/milk").await;
    assert!(answer.set_cookies().is_empty(), "the cookie does not change");
    let seen = read_session(&browser).await;
    assert_eq!(seen["id"], first.to_string());
    assert_eq!(seen["cart"], serde_json::json!({"milk": 1, "tea": 1}));
    assert_eq!(world.rows(), 1);
}

#[actix_web::test]
async fn the_id_in_a_handler_is_the_stored_id() {
    let world = shop().await;
    let save = async |mut session: Session<Shop>| {
        let before = session.id();
        session.count = 1;
        session.save().await.expect("stored");
        format!("{} {} {}", before == session.id(), session.is_new(), session.id())
    };
    let site = site!(world.sessions; "/save" => save);
    let browser = site.browser();
    let answer = browser.get("/save").await;
    assert_eq!(answer.body, format!("true false {}", id(&browser)));
}
