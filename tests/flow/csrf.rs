//! Forms and the guard against requests that other sites forge.

use std::time::Duration;

use actix_web::http::header::ContentType;
use actix_web::middleware::{ErrorHandlerResponse, ErrorHandlers};
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, FromRequest as _, HttpResponse, HttpServer, web};
use databag_tests::{Answer, Browser, Logs, Site};
use serde::Deserialize;
use session_runtime::builder::Protected;
use session_runtime::{
    AnyStore, Builder, Cleanup, CookieStore, Csrf, CsrfError, Databag, Error, Keyring, MemoryStore, Session,
    SessionMiddleware, SessionRef, Sessions, SqliteStore, TestRequestExt as _,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::{COOKIE, Shop, id, key, keys, log_out, shop, shop_with, site};

const CSRF_COOKIE: &str = "__Host-shop-csrf";

/// How many bytes of a form the guard searches for its token.
const SEARCHED: usize = 64 * 1024;

/// Stores that can be opened several times, as several processes do.
struct Storage {
    name: &'static str,
    open: Box<dyn Fn() -> AnyStore>,
}

fn storages() -> [Storage; 3] {
    let memory = MemoryStore::new();
    let sqlite = SqliteStore::in_memory().expect("memory");
    [
        Storage { name: "memory", open: Box::new(move || memory.clone().into()) },
        Storage { name: "sqlite", open: Box::new(move || sqlite.clone().into()) },
        Storage { name: "cookie", open: Box::new(|| CookieStore.into()) },
    ]
}

impl Storage {
    async fn sessions(&self, keyring: Keyring) -> Sessions<Shop> {
        let builder = Sessions::<Shop>::builder((self.open)()).keyring(keyring);
        builder.cleanup(Cleanup::Never).build().await.expect("good settings")
    }

    async fn site(&self) -> Site {
        pages(self.sessions(key()).await).await
    }

    /// Returns how many sessions are stored; none can be in cookies.
    async fn rows(&self, keyring: Keyring) -> u64 {
        let sessions = self.sessions(keyring).await;
        if self.name == "cookie" { 0 } else { sessions.count_all().await.expect("answers") }
    }
}

#[derive(Deserialize)]
struct Buy {
    sku: String,
}

async fn form(session: Session<Shop>) -> String {
    session.csrf_token()
}

async fn buy(mut session: Session<Shop>, form: web::Form<Buy>) -> String {
    *session.cart_mut().entry(form.sku.chars().take(9).collect()).or_default() += 1;
    format!("{} {} {:?}", form.sku.len(), session.cart().len(), session.user_id())
}

async fn log_in(mut session: Session<Shop>) -> &'static str {
    session.log_in(7);
    "in"
}

/// Shows a form, and stores the session in the same request.
async fn begin(mut session: Session<Shop>) -> String {
    let token = session.csrf_token();
    session.count += 1;
    token
}

/// Logs in, and shows a form in the same request.
async fn enter(mut session: Session<Shop>) -> Result<String, Error> {
    session.log_in(7);
    session.save().await?;
    Ok(session.csrf_token())
}

/// Logs out, and shows a form in the same request.
async fn leave(mut session: Session<Shop>) -> Result<String, Error> {
    session.log_out();
    session.save().await?;
    Ok(session.csrf_token())
}

async fn pages(sessions: Sessions<Shop>) -> Site {
    let guarded = web::scope("/guarded")
        .wrap(Csrf::<Shop>::guard())
        .route("/form", web::get().to(form))
        .route("/begin", web::get().to(begin))
        .route("/buy", web::post().to(buy))
        .route("/text", web::post().to(async |body: String| body))
        .route("/login", web::post().to(log_in))
        .route("/enter", web::post().to(enter))
        .route("/leave", web::post().to(leave))
        .route("/logout", web::post().to(log_out))
        .default_service(web::to(async |body: web::Bytes| body));
    Site::new(init_service(App::new().wrap(SessionMiddleware::new(sessions)).service(guarded)).await)
}

/// Opens the page with the form and returns its token.
async fn token(browser: &Browser) -> String {
    let page = browser.get("/guarded/form").await;
    assert!(page.status.is_success(), "{}", page.status);
    page.body
}

fn filled_in(path: &str, fields: String) -> TestRequest {
    TestRequest::post().uri(path).insert_header(ContentType::form_url_encoded()).set_payload(fields)
}

async fn submit(browser: &Browser, path: &str, token: &str) -> Answer {
    browser.send(filled_in(path, format!("sku=tea&csrf_token={token}"))).await
}

async fn status(browser: &Browser, path: &str, token: &str) -> u16 {
    submit(browser, path, token).await.status.as_u16()
}

#[actix_web::test]
async fn a_form_page_of_a_new_visitor_stores_no_row_and_its_form_is_good() {
    for storage in storages() {
        let (name, text) = (storage.name, Keyring::generate_text());
        let site = pages(storage.sessions(keys(&text)).await).await;
        let browser = site.browser();
        let page = browser.get("/guarded/form").await;
        assert_eq!(page.set_cookies().len(), 1, "{name}");
        let value = browser.cookie(CSRF_COOKIE).expect("a visitor's cookie");
        let attributes = "; HttpOnly; SameSite=Lax; Secure; Path=/";
        assert_eq!(page.set_cookies()[0], format!("{CSRF_COOKIE}={value}{attributes}"), "{name}");
        let headers = (page.all("cache-control"), page.all("vary"));
        assert_eq!(headers, (vec!["no-store".to_owned()], vec!["Cookie".to_owned()]), "{name}");
        assert_eq!(browser.cookie(COOKIE), None, "{name}");

        let again = browser.get("/guarded/form").await;
        assert_eq!((again.set_cookies().len(), again.all("cache-control").len()), (0, 0), "{name}");
        assert_eq!(storage.rows(keys(&text)).await, 0, "{name}");
        let bought = submit(&browser, "/guarded/buy", &page.body).await;
        assert_eq!((bought.status.as_u16(), bought.body.as_str()), (200, "3 1 None"), "{name}");
        assert!(browser.cookie(COOKIE).is_some(), "{name}");
    }
}

#[actix_web::test]
async fn a_form_of_a_new_visitor_needs_no_store() {
    let world = shop().await;
    let browser = pages(world.sessions.clone()).await.browser();
    let token = token(&browser).await;
    assert_eq!(status(&browser, "/guarded/text", &token).await, 200);
    assert_eq!(status(&browser, "/guarded/text", "").await, 403);
    assert_eq!((world.watch.calls(), world.rows()), (0, 0));
}

#[actix_web::test]
async fn each_answer_has_another_token_and_all_are_good() {
    for storage in storages() {
        for begins in [false, true] {
            let browser = storage.site().await.browser();
            if begins {
                browser.get("/guarded/begin").await;
            }
            let mut tokens = Vec::new();
            for _ in 0..20 {
                tokens.push(token(&browser).await);
            }
            for token in &tokens {
                // No piece of a token is in another one.
                let pieces =
                    token.as_bytes().windows(8).map(|piece| std::str::from_utf8(piece).expect("ASCII"));
                let repeated =
                    pieces.filter(|piece| tokens.iter().filter(|other| other.contains(piece)).count() > 1);
                assert_eq!(repeated.count(), 0, "{} {token}", storage.name);
                assert_eq!(status(&browser, "/guarded/text", token).await, 200, "{}", storage.name);
            }
        }
    }
}

#[actix_web::test]
async fn a_log_in_form_is_guarded_and_its_token_ends_with_the_log_in() {
    for storage in storages() {
        let (name, site) = (storage.name, storage.site().await);
        let browser = site.browser();
        assert_eq!(status(&browser, "/guarded/login", "").await, 403, "{name}");
        let before = token(&browser).await;
        let cookie = browser.cookie(CSRF_COOKIE).expect("a visitor's cookie");
        let answer = submit(&browser, "/guarded/login", &before).await;
        assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (200, 2), "{name}");
        assert_eq!(browser.cookie(CSRF_COOKIE), None, "{name}: it goes with the log-in");
        assert_eq!(status(&browser, "/guarded/buy", &before).await, 403, "{name}");
        browser.set_cookie(CSRF_COOKIE, &cookie);
        assert_eq!(status(&browser, "/guarded/buy", &before).await, 403, "{name}: with its cookie");
        let after = token(&browser).await;
        assert_eq!(submit(&browser, "/guarded/buy", &after).await.body, "3 1 Some(7)", "{name}");
    }
}

#[actix_web::test]
async fn a_user_that_is_set_without_log_in_ends_the_forms_too() {
    for storage in storages() {
        let sessions = storage.sessions(key()).await;
        let become_user = async |mut session: Session<Shop>| {
            session.user_id = Some(7);
            "in"
        };
        let check = async |_: Csrf<Shop>| "checked";
        let site = site!(sessions; "/form" => form, "/become" => become_user, "/check" => check);
        let browser = site.browser();
        let token = browser.get("/form").await.body;
        let cookie = browser.cookie(CSRF_COOKIE).expect("a visitor's cookie");
        assert_eq!(status(&browser, "/check", &token).await, 200, "{}", storage.name);
        browser.post("/become").await;
        assert_eq!(status(&browser, "/check", &token).await, 403, "{}: as it is", storage.name);
        browser.set_cookie(CSRF_COOKIE, &cookie);
        assert_eq!(status(&browser, "/check", &token).await, 403, "{}", storage.name);
    }
}

#[actix_web::test]
async fn forms_in_other_tabs_stay_good_when_a_session_begins() {
    for storage in storages() {
        let (name, site) = (storage.name, storage.site().await);
        let browser = site.browser();
        let tabs = [token(&browser).await, token(&browser).await];
        for tab in &tabs {
            assert_eq!(status(&browser, "/guarded/buy", tab).await, 200, "{name}");
        }
        let cookie = browser.cookie(CSRF_COOKIE).expect("it is bound to the session");
        let third = token(&browser).await;
        assert_eq!(status(&browser, "/guarded/login", &third).await, 200, "{name}");
        browser.set_cookie(CSRF_COOKIE, &cookie);
        for tab in tabs.iter().chain([&third]) {
            assert_eq!(status(&browser, "/guarded/buy", tab).await, 403, "{name}: a user has logged in");
        }
    }
}

#[actix_web::test]
async fn a_form_is_good_if_its_own_request_stores_the_session() {
    for storage in storages() {
        for had_a_form in [false, true] {
            let browser = storage.site().await.browser();
            if had_a_form {
                token(&browser).await;
            }
            let token = browser.get("/guarded/begin").await.body;
            assert_eq!(browser.cookie(CSRF_COOKIE).is_some(), had_a_form, "{}", storage.name);
            for _ in 0..2 {
                assert_eq!(status(&browser, "/guarded/buy", &token).await, 200, "{}", storage.name);
            }
        }
    }
}

#[actix_web::test]
async fn a_form_after_a_log_in_or_a_log_out_of_the_same_request_is_good() {
    for storage in storages() {
        let (name, site) = (storage.name, storage.site().await);
        let browser = site.browser();
        let start = token(&browser).await;
        let inside = submit(&browser, "/guarded/enter", &start).await.body;
        assert_eq!(submit(&browser, "/guarded/buy", &inside).await.body, "3 1 Some(7)", "{name}");
        let outside = submit(&browser, "/guarded/leave", &inside).await.body;
        assert_eq!(browser.cookie(COOKIE), None, "{name}");
        assert_eq!(status(&browser, "/guarded/buy", &inside).await, 403, "{name}");
        assert_eq!(submit(&browser, "/guarded/buy", &outside).await.body, "3 1 None", "{name}");
        let again = token(&browser).await;
        assert_eq!(status(&browser, "/guarded/logout", &again).await, 200, "{name}");
        assert_eq!((browser.cookie(COOKIE), browser.cookie(CSRF_COOKIE)), (None, None), "{name}");
    }
}

#[actix_web::test]
async fn a_token_of_another_visitor_or_of_none_is_refused() {
    for storage in storages() {
        let (name, site) = (storage.name, storage.site().await);
        let [visitor, customer, attacker] = [(); 3].map(|()| site.browser());
        customer.get("/guarded/begin").await;
        let own = [token(&visitor).await, token(&customer).await];
        let others = token(&attacker).await;
        let short = own[1].get(..43).expect("a half");
        for (browser, own) in [&visitor, &customer].into_iter().zip(&own) {
            for refused in [&*others, "", "x", short, &format!("{own}A"), &own.to_lowercase()] {
                let answer = submit(browser, "/guarded/buy", refused).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.body.as_str()),
                    (403, "Forbidden"),
                    "{name} {refused}"
                );
            }
        }
        let without_cookies = site.browser();
        for own in &own {
            assert_eq!(status(&without_cookies, "/guarded/buy", own).await, 403, "{name}");
        }
    }
}

/// A neighbouring host can set cookies, unless their names have `__Host-`.
#[actix_web::test]
async fn a_cookie_from_a_neighbour_does_not_open_a_session_to_its_forms() {
    for storage in storages() {
        let (name, site) = (storage.name, storage.site().await);
        let [customer, attacker] = [(); 2].map(|()| site.browser());
        customer.get("/guarded/begin").await;
        let tossed_token = token(&attacker).await;
        let tossed_cookie = attacker.cookie(CSRF_COOKIE).expect("a visitor's cookie");
        attacker.get("/guarded/begin").await;
        let bound_cookie = attacker.cookie(CSRF_COOKIE).expect("bound to the attacker's session");
        assert_ne!(tossed_cookie, bound_cookie, "{name}");
        for cookie in [tossed_cookie, bound_cookie] {
            customer.set_cookie(CSRF_COOKIE, &cookie);
            assert_eq!(status(&customer, "/guarded/buy", &tossed_token).await, 403, "{name}");
        }
    }
}

/// The neighbour plants the cookie before the visitor has a session, and knows tokens for it. The session that the visitor
/// begins then must not take it over.
#[actix_web::test]
async fn a_cookie_that_a_neighbour_has_planted_does_not_pass_into_the_session_that_begins() {
    for storage in storages() {
        for name in ["shop", "__Secure-shop", COOKIE] {
            let builder = Sessions::<Shop>::builder((storage.open)()).keyring(key()).cookie(name);
            let site = pages(builder.cleanup(Cleanup::Never).build().await.expect("good settings")).await;
            let [victim, attacker] = [(); 2].map(|()| site.browser());
            let (csrf_cookie, shown) = (format!("{name}-csrf"), format!("{} {name}", storage.name));
            let known = token(&attacker).await;
            let planted = attacker.cookie(&csrf_cookie).expect("a visitor's cookie");
            victim.set_cookie(&csrf_cookie, &planted);
            let own = token(&victim).await;
            // Browsers let no neighbour set the name with `__Host-`.
            let expected = if name == COOKIE { 200 } else { 403 };
            assert_eq!(status(&victim, "/guarded/buy", &own).await, 200, "{shown}: the session begins");
            for form in [&known, &own] {
                assert_eq!(status(&victim, "/guarded/buy", form).await, expected, "{shown}");
            }
            victim.set_cookie(&csrf_cookie, &planted);
            assert_eq!(status(&victim, "/guarded/buy", &known).await, 403, "{shown}: planted again");
            let next = token(&victim).await;
            assert_eq!(submit(&victim, "/guarded/buy", &next).await.body, "3 1 None", "{shown}");
        }
    }
}

/// The id of a session is public. A visitor who could name one in the cookie would get tokens for it.
#[actix_web::test]
async fn a_visitor_cannot_name_a_session_in_the_cookie() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    for storage in storages() {
        let site = storage.site().await;
        let [customer, attacker] = [(); 2].map(|()| site.browser());
        customer.get("/guarded/begin").await;
        token(&attacker).await;
        let genuine = attacker.cookie(CSRF_COOKIE).expect("a visitor's cookie");
        let mut forged = URL_SAFE_NO_PAD.decode(genuine).expect("base64url");
        forged[..32].copy_from_slice(id(&customer).as_bytes());
        attacker.set_cookie(CSRF_COOKIE, &URL_SAFE_NO_PAD.encode(forged));
        let token = token(&attacker).await;
        assert_eq!(status(&customer, "/guarded/buy", &token).await, 403, "{}", storage.name);
    }
}

#[actix_web::test]
async fn a_csrf_cookie_that_is_sent_twice_or_has_another_form_is_none() {
    let site = storages()[0].site().await;
    let browser = site.browser();
    let good = token(&browser).await;
    let cookie = browser.cookie(CSRF_COOKIE).expect("a visitor's cookie");
    let twice = format!("{CSRF_COOKIE}={cookie}; {CSRF_COOKIE}={cookie}");
    let padded = format!("{CSRF_COOKIE}={cookie}=");
    let other_case = format!("__host-shop-csrf={cookie}");
    for (header, expected) in [
        (format!("{CSRF_COOKIE}={cookie}"), 200),
        (twice, 403),
        (padded, 403),
        (other_case, 403),
        (format!("{CSRF_COOKIE}="), 403),
    ] {
        let stranger = site.browser().with("cookie", &header);
        assert_eq!(status(&stranger, "/guarded/text", &good).await, expected, "{header}");
        let page = stranger.get("/guarded/form").await;
        assert_eq!(page.set_cookies().len(), usize::from(expected == 403), "{header}: it gets a new one");
    }
}

#[actix_web::test]
async fn forms_outlive_a_rotation_of_keys_until_the_old_key_is_removed() {
    for storage in storages() {
        let name = storage.name;
        let [old, new] = [(); 2].map(|()| Keyring::generate_text());
        let (both, new) = (format!("{}, {}", *new, *old), new);
        let before = pages(storage.sessions(keys(&old)).await).await;
        let during = pages(storage.sessions(keys(&both)).await).await;
        let after = pages(storage.sessions(keys(&new)).await).await;
        let visitor = before.browser();
        let form = token(&visitor).await;
        assert_eq!(status(&visitor.clone().on(&after), "/guarded/text", &form).await, 403, "{name}");
        let visitor = visitor.on(&during);
        assert_eq!(visitor.get("/guarded/form").await.set_cookies().len(), 0, "{name}: its cookie is good");
        assert_eq!(status(&visitor, "/guarded/text", &form).await, 200, "{name}");

        let customer = before.browser();
        customer.get("/guarded/begin").await;
        let form = token(&customer).await;
        let customer = customer.on(&during);
        assert_eq!(status(&customer, "/guarded/buy", &form).await, 200, "{name}");
        let latest = token(&customer).await;
        let customer = customer.on(&after);
        assert_eq!(status(&customer, "/guarded/buy", &form).await, 403, "{name}: its key is gone");
        assert_eq!(status(&customer, "/guarded/buy", &latest).await, 200, "{name}");
    }
}

#[actix_web::test]
async fn methods_that_change_nothing_pass_and_all_others_need_a_token() {
    let browser = storages()[1].site().await.browser();
    let token = token(&browser).await;
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        let request = TestRequest::with_uri("/guarded/other").method(method.parse().expect("a method"));
        let request = request.insert_header(("sec-fetch-site", "cross-site"));
        assert_eq!(browser.send(request).await.status, 200, "{method}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "QUERY", "get"] {
        let request = || TestRequest::with_uri("/guarded/other").method(method.parse().expect("a method"));
        assert_eq!(browser.send(request()).await.status, 403, "{method}");
        let with_token = request().insert_header(("x-csrf-token", &*token));
        assert_eq!(browser.send(with_token).await.status, 200, "{method}");
    }
}

#[actix_web::test]
async fn the_token_is_in_the_header_or_in_the_field_of_a_form_and_nowhere_else() {
    let browser = storages()[1].site().await.browser();
    let token = token(&browser).await;
    let path = "/guarded/other";
    let field = format!("csrf_token={token}");
    let form = |fields: &str| filled_in(path, fields.to_owned());
    let typed = |content_type: &str, body: &str| {
        TestRequest::post()
            .uri(path)
            .insert_header(("content-type", content_type))
            .set_payload(body.to_owned())
    };
    let multipart =
        format!("--x\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\n{token}\r\n--x--\r\n");
    let header = ("x-csrf-token", &*token);
    for (what, request, expected) in vec![
        ("the only field", form(&field), 200),
        ("the first field", form(&format!("{field}&a=b")), 200),
        ("the last field", form(&format!("a=b&c=d&{field}")), 200),
        ("with a charset", typed("application/x-www-form-urlencoded; charset=utf-8", &field), 200),
        ("in the header", TestRequest::post().uri(path).insert_header(header), 200),
        ("in the header of JSON", typed("application/json", "{}").insert_header(header), 200),
        (
            "in the header of multipart",
            typed("multipart/form-data; boundary=x", "").insert_header(header),
            200,
        ),
        ("an empty field", form("csrf_token="), 403),
        ("another field", form(&format!("a=b&x{field}")), 403),
        ("another case", form(&format!("CSRF_TOKEN={token}")), 403),
        ("the name encoded", form(&format!("csrf%5Ftoken={token}")), 403),
        ("a part of a value", form(&format!("a=b%26{field}")), 403),
        ("in the query", TestRequest::post().uri(&format!("{path}?{field}")), 403),
        ("in the query of a form", filled_in(&format!("{path}?{field}"), "a=b".to_owned()), 403),
        ("in plain text", typed("text/plain", &field), 403),
        ("without a type", TestRequest::post().uri(path).set_payload(field.clone()), 403),
        ("in JSON", typed("application/json", &format!("{{\"csrf_token\":\"{token}\"}}")), 403),
        ("in multipart", typed("multipart/form-data; boundary=x", &multipart), 403),
        ("twice in the header", form("a=b").append_header(header).append_header(header), 403),
        ("a wrong header, a good field", form(&field).insert_header(("x-csrf-token", "x")), 403),
    ] {
        assert_eq!(browser.send(request).await.status.as_u16(), expected, "{what}");
    }
}

#[actix_web::test]
async fn the_handler_reads_the_whole_body_and_a_bounded_part_is_searched() {
    let browser = storages()[1].site().await.browser();
    let token = token(&browser).await;
    let field = format!("csrf_token={token}");
    for length in [0, 1, SEARCHED - field.len() - 1, SEARCHED, 3 * SEARCHED] {
        let body = format!("{field}&{}", "a".repeat(length));
        let answer = browser.send(filled_in("/guarded/other", body.clone())).await;
        assert_eq!((answer.status.as_u16(), answer.body == body), (200, true), "{length}");
    }
    for (length, expected) in
        [(SEARCHED - field.len() - 1, 200), (SEARCHED - field.len(), 403), (SEARCHED, 403)]
    {
        let body = format!("{}&{field}", "a".repeat(length));
        assert_eq!(browser.send(filled_in("/guarded/other", body)).await.status, expected, "{length}");
    }
}

/// The body comes in pieces through a real connection.
#[actix_web::test]
async fn a_real_server_gets_the_body_in_pieces() {
    let sessions = storages()[0].sessions(key()).await;
    let server = HttpServer::new(move || {
        App::new()
            .wrap(Csrf::<Shop>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/form", web::get().to(form))
            .route("/length", web::post().to(async |body: String| body.len().to_string()))
            .route("/argument", web::post().to(async |_: Csrf<Shop>, body: String| body.len().to_string()))
    });
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a free port");
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let exchange = async |head: String, pieces: &[&str]| {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        stream.write_all(head.as_bytes()).await.expect("sent");
        for piece in pieces {
            actix_web::rt::time::sleep(Duration::from_millis(5)).await;
            // A request that is refused early is not read to its end.
            let _ = stream.write_all(piece.as_bytes()).await;
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    let page =
        exchange("GET /form HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".to_owned(), &[]).await;
    let (head, token) = page.split_once("\r\n\r\n").expect("an answer");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    let cookie = cookie.split(';').next().expect("a pair");
    for path in ["/length", "/argument"] {
        for (token, status) in [(token, "200 OK"), ("x", "403 Forbidden")] {
            let filler = "a".repeat(100_000);
            let pieces = ["csrf_", &format!("token={token}"), "&", &filler, "&b=", "c"];
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: shop\r\nOrigin: https://shop\r\nConnection: close\r\nCookie: {cookie}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n"
            );
            let answer = exchange(head, &pieces).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {answer}");
            assert_eq!(answer.ends_with(&format!("\r\n\r\n{length}")), status == "200 OK", "{path} {answer}");
        }
    }
    handle.stop(false).await;
}

#[actix_web::test]
async fn a_handler_can_ask_for_the_guard_by_itself() {
    for storage in storages() {
        let sessions = storage.sessions(key()).await;
        let first =
            async |_: Csrf<Shop>, session: Session<Shop>, form: web::Form<Buy>| buy(session, form).await;
        let second =
            async |session: Session<Shop>, _: Csrf<Shop>, form: web::Form<Buy>| buy(session, form).await;
        let reader = async |_: SessionRef<Shop>, _: Csrf<Shop>, form: web::Form<Buy>| form.into_inner().sku;
        let last = async |form: web::Form<Buy>, _: Csrf<Shop>| form.into_inner().sku;
        let site = site!(sessions; "/form" => form, "/first" => first, "/second" => second, "/reader" => reader,
            "/last" => last);
        let browser = site.browser();
        let token = browser.get("/form").await.body;
        for path in ["/first", "/second", "/reader"] {
            assert_eq!(status(&browser, path, "x").await, 403, "{} {path}", storage.name);
            assert_eq!(status(&browser, path, &token).await, 200, "{} {path}", storage.name);
        }
        // The body is read already.
        assert_eq!(status(&browser, "/last", &token).await, 403, "{}", storage.name);
        let request = filled_in("/last", "sku=tea".to_owned()).insert_header(("x-csrf-token", &*token));
        assert_eq!(browser.send(request).await.body, "tea", "{}", storage.name);
    }
}

#[actix_web::test]
async fn a_page_of_another_origin_is_refused_whatever_its_token() {
    let site = storages()[1].site().await;
    let browser = site.browser();
    let token = token(&browser).await;
    let host = "www.example.com";
    for (fetch_site, origin, expected) in [
        (None, None, 200),
        (Some("same-origin"), Some("https://www.example.com"), 200),
        (Some("same-origin"), None, 200),
        (Some("same-origin"), Some("null"), 200),
        (Some("none"), None, 200),
        (None, Some("https://www.example.com"), 200),
        (Some("same-site"), Some("https://blog.example.com"), 403),
        (Some("cross-site"), Some("https://evil.test"), 403),
        (Some("cross-site"), None, 403),
        (Some("cross-site"), Some("https://www.example.com"), 403),
        (Some("cross-site"), Some("null"), 403),
        (Some("nonsense"), None, 403),
        (None, Some("null"), 403),
        (None, Some("https://evil.test"), 403),
        (None, Some("https://blog.example.com"), 403),
        (None, Some("http://www.example.com"), 403),
        (None, Some("https://www.example.com:8443"), 403),
    ] {
        let mut browser = browser.clone().with("host", host);
        for (name, value) in [("sec-fetch-site", fetch_site), ("origin", origin)] {
            if let Some(value) = value {
                browser = browser.with(name, value);
            }
        }
        assert_eq!(status(&browser, "/guarded/text", &token).await, expected, "{fetch_site:?} {origin:?}");
        assert_eq!(status(&browser, "/guarded/text", "").await, 403, "{fetch_site:?} {origin:?}: no token");
    }
    for header in [("sec-fetch-site", "same-origin"), ("origin", "https://www.example.com")] {
        let request = filled_in("/guarded/text", format!("csrf_token={token}"));
        let request = request.append_header(header).append_header(header).append_header(("host", host));
        assert_eq!(browser.send(request).await.status, 403, "{header:?} is sent twice");
    }
}

#[actix_web::test]
async fn other_origins_send_forms_if_they_are_trusted() {
    let trusting = |builder: crate::app::ShopBuilder| builder.trusted_origins(["https://app.example.com"]);
    let world = shop_with(trusting).await;
    let browser = pages(world.sessions.clone()).await.browser();
    let token = token(&browser).await;
    for (origin, expected) in [("https://app.example.com", 200), ("https://evil.test", 403)] {
        for fetch_site in ["same-site", "cross-site"] {
            let browser = browser.clone().with("origin", origin).with("sec-fetch-site", fetch_site);
            assert_eq!(status(&browser, "/guarded/text", &token).await, expected, "{origin} {fetch_site}");
            assert_eq!(status(&browser, "/guarded/text", "").await, 403, "{origin} {fetch_site}: no token");
        }
    }
}

#[actix_web::test]
async fn an_error_handler_sees_why_and_the_log_has_no_token() {
    let sessions = storages()[1].sessions(key()).await;
    let explain = |answer: actix_web::dev::ServiceResponse<actix_web::body::BoxBody>| {
        let why = answer.response().error().and_then(|error| error.as_error::<Error>());
        let why = match why {
            Some(Error::Csrf(why)) => format!("{why:?}"),
            other => format!("{other:?}"),
        };
        let explained = answer.into_response(HttpResponse::Forbidden().body(why));
        Ok(ErrorHandlerResponse::Response(explained.map_into_left_body()))
    };
    let forbidden = actix_web::http::StatusCode::FORBIDDEN;
    let app = App::new()
        .service(web::scope("/guarded").wrap(Csrf::<Shop>::guard()).route("/buy", web::post().to(buy)))
        .route("/form", web::get().to(form))
        .route("/argument", web::post().to(async |_: Csrf<Shop>| "never"))
        .wrap(ErrorHandlers::new().handler(forbidden, explain))
        .wrap(SessionMiddleware::new(sessions));
    let browser = Site::new(init_service(app).await).browser();
    let token = browser.get("/form").await.body;
    let wrong = format!("{}AAAA", &token[..82]);
    let (logs, _guard) = Logs::of_this_thread();
    for path in ["/guarded/buy", "/argument"] {
        let mut answers = Vec::new();
        for (fetch_site, origin, token) in
            [("cross-site", "https://evil.test", &token), ("", "", &wrong), ("", "https://evil.test", &token)]
        {
            let mut browser = browser.clone();
            for (name, value) in [("sec-fetch-site", fetch_site), ("origin", origin)] {
                if !value.is_empty() {
                    browser = browser.with(name, value);
                }
            }
            answers.push(submit(&browser, path, token).await.body);
        }
        answers.push(browser.post(path).await.body);
        let expected = [CsrfError::CrossSite, CsrfError::Token, CsrfError::Origin, CsrfError::Missing];
        assert_eq!(answers, expected.map(|why| format!("{why:?}")), "{path}");
    }
    assert_eq!(
        logs.lines(&["INFO", "databag-tests/Shop", "method=POST", "a request is refused"]).len(),
        8,
        "{}",
        logs.text()
    );
    let cookie = browser.cookie(CSRF_COOKIE).expect("a visitor's cookie");
    for secret in [&token[..40], &wrong[..40], &cookie[..40]] {
        assert!(!logs.text().contains(secret), "{}", logs.text());
    }
}

#[actix_web::test]
async fn the_guard_refuses_all_without_the_session_middleware_around_it() {
    let sessions = storages()[1].sessions(key()).await;
    let app = App::new()
        .wrap(SessionMiddleware::new(sessions))
        .wrap(Csrf::<Shop>::guard())
        .route("/", web::post().to(async || "never"));
    let site = Site::new(init_service(app).await);
    let (logs, _guard) = Logs::of_this_thread();
    let answer = site.browser().post("/").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (500, "Internal Server Error"));
    assert_eq!(logs.lines(&["ERROR", "app::Shop", "SessionMiddleware"]).len(), 1, "{}", logs.text());
}

#[actix_web::test]
async fn a_store_that_is_down_is_503_and_no_forgery() {
    let world = shop().await;
    let browser = pages(world.sessions.clone()).await.browser();
    browser.get("/guarded/begin").await;
    let token = token(&browser).await;
    world.watch.fail_all(&databag_tests::Fault::Down);
    assert_eq!(status(&browser, "/guarded/buy", &token).await, 503);
    world.watch.heal();
    assert_eq!(status(&browser, "/guarded/buy", &token).await, 200);
}

#[actix_web::test]
async fn without_a_keyring_forms_are_good_in_their_process() {
    let store = SqliteStore::in_memory().expect("memory");
    let builder = || Sessions::<Shop>::builder(store.clone()).danger_plaintext().cleanup(Cleanup::Never);
    let [here, there] =
        [builder().build().await, builder().build().await].map(|built| built.expect("builds"));
    let (here, there) = (pages(here).await, pages(there).await);
    for begins in [false, true] {
        let browser = here.browser();
        if begins {
            browser.get("/guarded/begin").await;
        }
        let token = token(&browser).await;
        assert_eq!(status(&browser, "/guarded/text", &token).await, 200);
        assert_eq!(status(&browser.on(&there), "/guarded/text", &token).await, 403);
    }
}

#[actix_web::test]
async fn a_skipped_answer_has_no_csrf_cookie() {
    let world = shop_with(|builder| builder.skip_cookie(|request, _| request.path() == "/skipped")).await;
    let site = site!(world.sessions; "/skipped" => form, "/form" => form);
    let browser = site.browser();
    assert_eq!(browser.get("/skipped").await.set_cookies().len(), 0);
    assert_eq!(browser.get("/form").await.set_cookies().len(), 1);
}

#[derive(Databag)]
#[databag(table = "tills", cookie = "__Host-till", name = "Till")]
struct Till {
    sum: u32,
}

async fn tills(cookie: &str) -> Sessions<Till> {
    let store = SqliteStore::in_memory().expect("memory");
    let builder: Builder<Till, SqliteStore, Protected> = Sessions::<Till>::builder(store).keyring(key());
    builder.cookie(cookie).cleanup(Cleanup::Never).build().await.expect("good settings")
}

#[actix_web::test]
async fn two_bags_keep_their_forms_apart() {
    let text = Keyring::generate_text();
    let store = SqliteStore::in_memory().expect("memory");
    let shops = Sessions::<Shop>::builder(store.clone()).keyring(keys(&text)).cleanup(Cleanup::Never);
    let tills = Sessions::<Till>::builder(store).keyring(keys(&text)).cleanup(Cleanup::Never);
    let app = App::new()
        .wrap(SessionMiddleware::new(shops.build().await.expect("builds")))
        .wrap(SessionMiddleware::new(tills.build().await.expect("builds")))
        .route("/shop", web::get().to(form))
        .route("/shop", web::post().to(async |_: Csrf<Shop>| "shop"))
        .route("/till", web::get().to(async |till: Session<Till>| till.csrf_token()))
        .route("/till", web::post().to(async |_: Csrf<Till>| "till"));
    let site = Site::new(init_service(app).await);
    let browser = site.browser();
    let [shop, till] = [browser.get("/shop").await.body, browser.get("/till").await.body];
    for (path, token, expected) in
        [("/shop", &shop, 200), ("/till", &till, 200), ("/shop", &till, 403), ("/till", &shop, 403)]
    {
        assert_eq!(status(&browser, path, token).await, expected, "{path}");
    }
    // The cookie of one bag under the name of the other's.
    let swapped = site.browser();
    swapped.set_cookie("__Host-till-csrf", &browser.cookie(CSRF_COOKIE).expect("a cookie"));
    assert_eq!(status(&swapped, "/till", &shop).await, 403);
    assert_eq!(swapped.get("/till").await.set_cookies().len(), 1, "it is none");
}

#[actix_web::test]
async fn a_session_cookie_with_the_name_of_a_csrf_cookie_is_refused() {
    for (cookie, shop_cookie) in [(CSRF_COOKIE, COOKIE), ("__Host-a", "__Host-a-csrf")] {
        let world = shop_with(|builder| builder.cookie(shop_cookie)).await;
        let app = App::new()
            .wrap(SessionMiddleware::new(world.sessions.clone()))
            .wrap(SessionMiddleware::new(tills(cookie).await))
            .route("/", web::get().to(async || "never"));
        let site = Site::new(init_service(app).await);
        let (logs, _guard) = Logs::of_this_thread();
        assert_eq!(site.browser().get("/").await.status, 500, "{cookie}");
        let common = format!("the same cookie, `{cookie}`");
        let common =
            if cookie == CSRF_COOKIE { common } else { "the same cookie, `__Host-a-csrf`".to_owned() };
        assert_eq!(logs.lines(&["ERROR", &common]).len(), 1, "{}", logs.text());
    }
}

#[actix_web::test]
async fn handlers_with_forms_are_tested_without_a_server() {
    async fn rename(_: Csrf<Shop>, mut session: Session<Shop>, body: String) -> String {
        session.set_tenant(body);
        session.save().await.expect("stored in the test's own store");
        session.csrf_token()
    }
    let bag = || Shop { count: 4, ..Shop::defaults() };
    let session = Session::for_test(bag());
    let token = session.csrf_token();
    assert!(session.verify_csrf(&token) && !Session::for_test(bag()).verify_csrf(&token));
    assert_eq!(rename(Csrf::for_test(), session, "acme".to_owned()).await.len(), token.len());

    let extract = async |request: TestRequest| {
        Csrf::<Shop>::extract(&request.to_http_request()).await.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(extract(TestRequest::post().session_with_csrf(bag())).await, Ok(()));
    assert!(extract(TestRequest::post().session(bag())).await.is_err(), "it has no token");
    assert_eq!(extract(TestRequest::get().session(bag())).await, Ok(()));
}
