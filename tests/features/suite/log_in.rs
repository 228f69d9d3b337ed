//! What visitors are answered who must log in, or once more, or may not do it at all.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, web};
use databag_tests::{Answer, Browser, Site};
use session_runtime::{AnyStore, LoggedIn, NotLoggedIn, SessionMiddleware};

use super::app::{Account, COOKIE, MINUTE, SECOND, World, shown_to};

const PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn shown(answer: &Answer) -> (u16, String, String) {
    let header = |name| answer.all(name).join(", ");
    match answer.status.as_u16() {
        303 => (303, header("location"), answer.body.clone()),
        status => (status, header("content-type"), answer.body.clone()),
    }
}

fn accepting(browser: &Browser, accept: &str) -> Browser {
    browser.clone().with("accept", accept)
}

async fn get(browser: &Browser, accept: &str, path: &str) -> (u16, String, String) {
    shown(&accepting(browser, accept).get(path).await)
}

fn text(status: u16, body: &str) -> (u16, String, String) {
    (status, "text/plain; charset=utf-8".to_owned(), body.to_owned())
}

fn json(status: u16, body: &str) -> (u16, String, String) {
    (status, "application/json".to_owned(), body.to_owned())
}

fn redirect(location: &str) -> (u16, String, String) {
    (303, location.to_owned(), String::new())
}

pub(crate) async fn a_visitor_who_must_log_in_is_answered_by_what_they_accept(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    assert_eq!(shown(&browser.get("/account").await), text(401, "Unauthorized"));
    for plain in ["*/*", "text/plain", "image/png", "text/plain, text/html;q=0.1", "text/html;q=0, */*", "?"]
    {
        assert_eq!(get(&browser, plain, "/account").await, text(401, "Unauthorized"), "{plain}");
    }
    let not_logged_in = json(401, r#"{"error":"not_logged_in"}"#);
    for wants_json in
        ["application/json", "application/problem+json, */*", "application/json, text/html;q=0.9"]
    {
        assert_eq!(get(&browser, wants_json, "/account").await, not_logged_in, "{wants_json}");
    }
    assert_eq!(get(&browser, PAGE, "/account").await, redirect("/login?next=/account"));
    let query = "/account?page=2&to=%2F%2Fevil.example";
    assert_eq!(
        get(&browser, PAGE, query).await,
        redirect("/login?next=/account%3Fpage%3D2%26to%3D%252F%252Fevil.example")
    );
    assert_eq!(browser.cookie(COOKIE), None);
    let user = world.user("kim").await;
    assert_eq!(get(&user, PAGE, "/account").await, text(200, "kim"));
}

pub(crate) async fn a_form_is_no_way_back(store: AnyStore) {
    let world = World::open(store).await;
    let answer = accepting(&world.browser(), PAGE).post("/account").await;
    assert_eq!(shown(&answer), redirect("/login"));
}

pub(crate) async fn a_scope_has_pages_of_its_own(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.browser();
    assert_eq!(get(&browser, PAGE, "/api/account").await, text(401, "Unauthorized"));
    assert_eq!(get(&browser, PAGE, "/office/account").await, redirect("/office/login?next=/office/account"));
}

pub(crate) async fn only_a_fresh_log_in_opens_what_needs_one(store: AnyStore) {
    let world = World::open(store).await;
    assert_eq!(get(&world.browser(), PAGE, "/danger").await, redirect("/login?next=/danger"));
    let browser = world.user("kim").await;
    world.clock.advance(5 * MINUTE);
    assert_eq!(browser.get("/danger").await.body, "kim");
    world.clock.advance(SECOND);
    assert_eq!(shown(&browser.get("/danger").await), text(403, "Forbidden"));
    let hint = r#"{"error":"insufficient_user_authentication","max_age":300}"#;
    assert_eq!(get(&browser, "application/json", "/danger").await, json(403, hint));
    assert_eq!(get(&browser, PAGE, "/danger").await, redirect("/confirm?lang=en&next=/danger"));
    assert_eq!(browser.get("/account").await.body, "kim");
}

pub(crate) async fn a_user_who_proves_again_who_they_are_is_fresh(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.user("kim").await;
    for _ in 0..2 {
        world.clock.advance(6 * MINUTE);
        browser.post("/count").await;
        assert_eq!(browser.get("/danger").await.status, 403);
        let thief = browser.copied();
        let before = browser.cookie(COOKIE);
        assert_eq!(browser.post("/confirm").await.body, "confirmed");
        assert_ne!(browser.cookie(COOKIE), before, "a new token");
        assert_eq!(browser.get("/danger").await.body, "kim");
        // Sessions in cookies too: this process remembers which have changed their token.
        assert_eq!(thief.get("/danger").await.status, 401);
    }
    world.clock.advance(6 * MINUTE);
    browser.post("/login/kim").await;
    assert_eq!(browser.get("/danger").await.body, "kim");
}

/// By the field, and not by `log_in`.
pub(crate) async fn a_user_who_is_written_into_the_bag_has_logged_in_freshly(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.user("kim").await;
    world.clock.advance(6 * MINUTE);
    assert_eq!(browser.get("/danger").await.status, 403);
    let before = browser.cookie(COOKIE);
    // The user who is there already has proved nothing.
    browser.post("/become/kim").await;
    assert_eq!((browser.cookie(COOKIE), browser.get("/danger").await.status.as_u16()), (before.clone(), 403));
    browser.post("/become/eve").await;
    assert_ne!(browser.cookie(COOKIE), before, "a new token");
    assert_eq!(browser.get("/danger").await.body, "eve");
    world.clock.advance(5 * MINUTE + SECOND);
    assert_eq!(browser.get("/danger").await.status, 403);
    let visitor = world.browser();
    visitor.post("/count").await;
    world.clock.advance(6 * MINUTE);
    visitor.post("/become/lee").await;
    assert_eq!(visitor.get("/danger").await.body, "lee");
}

pub(crate) async fn a_scope_requires_what_it_says(store: AnyStore) {
    let world = World::open(store).await;
    let browser = world.user("kim").await;
    assert_eq!(shown(&browser.get("/office/account").await), text(403, "Forbidden"));
    let not_allowed = json(403, r#"{"error":"not_allowed"}"#);
    assert_eq!(get(&browser, "application/json", "/office/account").await, not_allowed);
    browser.post("/admin/true").await;
    assert_eq!(browser.get("/office/account").await.body, "kim");
    browser.post("/admin/false").await;
    assert_eq!(browser.get("/office/account").await.status, 403);
    assert_eq!(shown_to(&browser).await, "kim");
}

async fn polite<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let answer = next.call(request).await?;
    let is_anonymous =
        answer.response().error().is_some_and(|error| error.as_error::<NotLoggedIn>().is_some());
    Ok(answer.map_body(|_, body| {
        if is_anonymous { EitherBody::left("please log in") } else { EitherBody::right(body) }
    }))
}

pub(crate) async fn an_error_handler_finds_the_reason(store: AnyStore) {
    let world = World::open(store).await;
    let app = App::new()
        .wrap(from_fn(polite))
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .route("/account", web::get().to(async |_: LoggedIn<Account>| "account"));
    let site = Site::new(actix_web::test::init_service(app).await);
    let answer = site.browser().get("/account").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (401, "please log in"));
}
