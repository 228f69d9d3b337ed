//! Visitors of the old program come to the new one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
#[cfg(feature = "servers")]
use std::time::Duration;

use actix_session::config::{BrowserSession, CookieContentSecurity};
use actix_session::storage::{CookieSessionStore, SessionStore};
use actix_web::cookie::{Cookie, Key, time};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::SET_COOKIE;
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, web};
use session_runtime::{Keyring, SessionMiddleware, Sessions, SqliteStore};

use super::{Shop, configure, show};

const OLD: &str = "id";
const NEW: &str = "__Host-shop";

/// The old program, with the settings that it had.
struct Old<F> {
    store: F,
    key: Key,
    security: CookieContentSecurity,
    ttl: time::Duration,
}

impl<S: SessionStore + 'static, F: Fn() -> S> Old<F> {
    fn new(store: F, security: CookieContentSecurity) -> Self {
        Self { store, key: Key::generate(), security, ttl: time::Duration::DAY }
    }

    fn middleware(&self) -> actix_session::SessionMiddleware<S> {
        actix_session::SessionMiddleware::builder((self.store)(), self.key.clone())
            .cookie_content_security(self.security)
            .session_lifecycle(BrowserSession::default().state_ttl(self.ttl))
            .build()
    }

    /// Returns a visitor whom it has signed in.
    async fn visitor(&self) -> Visitor {
        let log_in = async |session: actix_session::Session| {
            session.insert("user_id", 7_i64)?;
            session.insert("cart", BTreeMap::from([("tea", 3)]))?;
            Ok::<_, actix_web::Error>("signed in")
        };
        let app = App::new().wrap(self.middleware()).route("/", web::get().to(log_in));
        let visitor = Visitor::default();
        assert_eq!(visitor.get(&init_service(app).await).await, "signed in");
        assert_eq!((visitor.has(OLD), visitor.has(NEW)), (true, false));
        visitor
    }
}

async fn sessions(path: &Path, keyring: &Keyring) -> Sessions<Shop> {
    let store = SqliteStore::open(path).expect("opens");
    Sessions::builder(store).keyring(keyring.clone()).build().await.expect("builds")
}

/// A browser.
#[derive(Default)]
struct Visitor(RefCell<BTreeMap<String, String>>);

impl Visitor {
    async fn get<B: actix_web::body::MessageBody>(
        &self,
        site: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    ) -> String {
        self.send(site, TestRequest::get()).await
    }

    async fn send<B: actix_web::body::MessageBody>(
        &self,
        site: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
        request: TestRequest,
    ) -> String {
        let pairs: Vec<_> = self.0.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.insert_header(("cookie", pairs.join("; ")));
        let answer = match site.call(request.to_request()).await {
            Ok(answer) => answer,
            // A server answers with it; no cookie is set.
            Err(error) => return error.as_response_error().status_code().to_string(),
        };
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let cookie = Cookie::parse(cookie.to_str().expect("text")).expect("a cookie");
            let (name, value) = (cookie.name().to_owned(), cookie.value().to_owned());
            if cookie.max_age() == Some(time::Duration::ZERO) {
                self.0.borrow_mut().remove(&name);
            } else {
                self.0.borrow_mut().insert(name, value);
            }
        }
        let (status, body) = (answer.status(), read_body(answer).await);
        if status.is_success() { String::from_utf8_lossy(&body).into_owned() } else { status.to_string() }
    }

    fn has(&self, name: &str) -> bool {
        self.0.borrow().contains_key(name)
    }

    fn copy(&self) -> Self {
        Self(self.0.clone())
    }
}

const SIGNED_IN: &str = r#"user Some(7), cart {"tea": 3}"#;
const ANONYMOUS: &str = "user None, cart {}";

async fn check<S: SessionStore + 'static>(old: &Old<impl Fn() -> S>) {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, keyring) = (folder.path().join("shop.db"), Keyring::generate());
    let sessions = sessions(&path, &keyring).await;
    let site = init_service(App::new().configure(|app| configure(app, &sessions, old.middleware()))).await;
    let without = App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(show));
    let without = init_service(without).await;

    // Once, and for good: also when actix-session has left.
    let (visitor, kept) = (old.visitor().await, old.visitor().await);
    assert_eq!(visitor.get(&site).await, SIGNED_IN);
    assert_eq!((visitor.has(OLD), visitor.has(NEW)), (false, true));
    let cookie = visitor.0.borrow()[NEW].clone();
    for _ in 0..2 {
        assert_eq!(visitor.get(&site).await, SIGNED_IN);
        assert_eq!(visitor.get(&without).await, SIGNED_IN);
    }
    assert_eq!(visitor.0.borrow()[NEW], cookie);
    assert_eq!(sessions.of_user(7).await.expect("listed").len(), 1);

    // A session of Databag stays as it is.
    let both = visitor.copy();
    let again = old.visitor().await;
    both.0.borrow_mut().extend(again.0.into_inner());
    assert_eq!(both.get(&site).await, SIGNED_IN);
    assert_eq!((both.has(OLD), &both.0.borrow()[NEW]), (false, &cookie));
    assert_eq!(sessions.of_user(7).await.expect("listed").len(), 1);

    // A log-out is one of both.
    assert_eq!(visitor.send(&site, TestRequest::post().uri("/log-out")).await, "signed out");
    assert_eq!((visitor.has(OLD), visitor.has(NEW)), (false, false));
    assert_eq!(visitor.get(&site).await, ANONYMOUS);

    let forged = kept.copy();
    for value in forged.0.borrow_mut().values_mut() {
        let last = value.pop().expect("a value");
        value.insert(0, last);
    }
    assert_eq!(forged.get(&site).await, ANONYMOUS);
    assert!(!forged.has(NEW));
    let foreign = Old::new(&old.store, old.security).visitor().await;
    assert_eq!(foreign.get(&site).await, ANONYMOUS);

    // While Databag cannot store a session, the old one stays.
    let broken = folder.path().join("broken.db");
    let unavailable = self::sessions(&broken, &keyring).await;
    let down = App::new().configure(|app| configure(app, &unavailable, old.middleware()));
    let down = init_service(down).await;
    fs::remove_file(&broken).expect("removed");
    assert_eq!(kept.get(&down).await, "503 Service Unavailable");
    assert_eq!((kept.has(OLD), kept.has(NEW)), (true, false));
    assert_eq!(kept.get(&site).await, SIGNED_IN);
}

#[actix_web::test]
async fn sessions_in_encrypted_cookies_go_on() {
    check(&Old::new(CookieSessionStore::default, CookieContentSecurity::Private)).await;
}

#[actix_web::test]
async fn sessions_in_signed_cookies_go_on() {
    check(&Old::new(CookieSessionStore::default, CookieContentSecurity::Signed)).await;
}

#[cfg(feature = "servers")]
#[actix_web::test]
async fn sessions_in_redis_go_on() {
    let url = std::env::var("REDIS_URL").expect("run this by `tests/servers`");
    for security in [CookieContentSecurity::Private, CookieContentSecurity::Signed] {
        let store = actix_session::storage::RedisSessionStore::builder(&url);
        let store = store.cache_keygen(|key| format!("shop:{key}")).build().await.expect("connects");
        let mut old = Old::new(|| store.clone(), security);
        check(&old).await;

        old.ttl = time::Duration::SECOND;
        let expired = old.visitor().await;
        actix_web::rt::time::sleep(Duration::from_secs(2)).await;
        let folder = tempfile::tempdir().expect("a folder");
        let sessions = sessions(&folder.path().join("shop.db"), &Keyring::generate()).await;
        let site =
            init_service(App::new().configure(|app| configure(app, &sessions, old.middleware()))).await;
        assert_eq!(expired.get(&site).await, ANONYMOUS);
        assert!(!expired.has(NEW));
    }
}
