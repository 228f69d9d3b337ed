//! The bag, the application and the store that most tests use.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, Responder, web};
use databag_tests::{Browser, ManualClock, Site, Watch, Watched};
use serde::{Deserialize, Serialize};
use session_runtime::builder::Protected;
use session_runtime::{
    Builder, Cleanup, Databag, Durability, Error, Keyring, Rejection, Session, SessionId, SessionMiddleware,
    SessionRef, Sessions, SqliteStore, Token,
};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Theme {
    Light,
    Dark,
}

#[derive(Databag)]
#[databag(table = "sessions", cookie = "__Host-shop", idle = "30m", absolute = "12h")]
pub(crate) struct Shop {
    #[databag(user_id)]
    pub(crate) user_id: Option<i64>,
    #[databag(ip_addr)]
    pub(crate) ip_addr: Option<IpAddr>,
    #[databag(column, index)]
    pub(crate) tenant: Option<String>,
    #[databag(flash)]
    pub(crate) notice: Option<String>,
    pub(crate) cart: BTreeMap<String, u32>,
    #[databag(default = Theme::Light, keep_on_logout)]
    pub(crate) theme: Theme,
    #[databag(reset_on_login)]
    pub(crate) attempts: u32,
    pub(crate) count: u64,
    pub(crate) notes: Vec<BTreeMap<String, String>>,
    pub(crate) tags: HashMap<u32, u32>,
    #[databag(secret)]
    pub(crate) pin: Option<String>,
}

pub(crate) const COOKIE: &str = "__Host-shop";

/// Starts an application with the middleware of these sessions and these routes.
macro_rules! site {
    ($sessions:expr; $($path:literal => $handler:expr),+ $(,)?) => {
        ::databag_tests::Site::new(
            ::actix_web::test::init_service(
                ::actix_web::App::new()
                    .wrap(::session_runtime::SessionMiddleware::new($sessions.clone()))
                    .app_data(::actix_web::web::Data::new($sessions.clone()))
                    $(.route($path, ::actix_web::web::route().to($handler)))+,
            )
            .await,
        )
    };
}
pub(crate) use site;

/// An application under test, with its store, clock and events.
pub(crate) struct World {
    pub(crate) sessions: Sessions<Shop>,
    pub(crate) store: SqliteStore,
    pub(crate) watch: Watch,
    pub(crate) clock: ManualClock,
    pub(crate) events: Events,
    pub(crate) folder: TempDir,
    pub(crate) site: Site,
    pub(crate) key: String,
}

pub(crate) type ShopBuilder = Builder<Shop, Watched, Protected>;

/// The calls of the hooks, in order.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub(crate) fn note(&self, event: String) {
        self.0.lock().expect("no test panics in a hook").push(event);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics in a hook"))
    }
}

pub(crate) fn key() -> Keyring {
    Keyring::generate()
}

/// Reads master keys, the current one first.
pub(crate) fn keys(text: &str) -> Keyring {
    Keyring::parse(text).expect("generated keys")
}

pub(crate) async fn shop() -> World {
    shop_with(|builder| builder).await
}

pub(crate) async fn shop_with(configure: impl FnOnce(ShopBuilder) -> ShopBuilder) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    shop_in(folder, &Keyring::generate_text(), configure).await
}

/// Opens the shop on the database in `folder`, as a restart does.
pub(crate) async fn shop_in(
    folder: TempDir,
    key: &str,
    configure: impl FnOnce(ShopBuilder) -> ShopBuilder,
) -> World {
    let store = SqliteStore::open(folder.path().join("shop.db")).expect("a database");
    let store = store.durability(Durability::Normal);
    let (watched, watch) = Watched::new(store.clone());
    let clock = ManualClock::default();
    let events = Events::default();
    let [started, loaded, rotated, deleted, rejected] = [(); 5].map(|()| events.clone());
    let builder = Sessions::<Shop>::builder(watched)
        .keyring(keys(key))
        .cleanup(Cleanup::Never)
        .clock(clock.clone())
        .on_started(move |id| started.note(format!("started {id:?}")))
        .on_loaded(move |id| loaded.note(format!("loaded {id:?}")))
        .on_rotated(move |old, new| rotated.note(format!("rotated {old:?} {new:?}")))
        .on_deleted(move |id| deleted.note(format!("deleted {id:?}")))
        .on_rejected(move |reason| rejected.note(format!("rejected {reason:?}")));
    let sessions = configure(builder).build().await.expect("good settings");
    let site = Site::new(
        actix_web::test::init_service(
            App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes),
        )
        .await,
    );
    World { sessions, store, watch, clock, events, folder, site, key: key.to_owned() }
}

impl World {
    pub(crate) fn browser(&self) -> Browser {
        self.site.browser()
    }

    /// Returns a browser with a session that has a cart.
    pub(crate) async fn customer(&self) -> Browser {
        let browser = self.browser();
        assert!(browser.post("/add/tea").await.status.is_success());
        assert!(browser.cookie(COOKIE).is_some());
        browser
    }

    /// Returns a browser with a session that has a user.
    pub(crate) async fn user(&self, user: i64) -> Browser {
        let browser = self.customer().await;
        assert!(browser.post(&format!("/login/{user}")).await.status.is_success());
        browser
    }

    /// Opens a second connection to the database, beside the store.
    pub(crate) fn database(&self) -> rusqlite::Connection {
        let database = rusqlite::Connection::open(self.folder.path().join("shop.db")).expect("a database");
        database.busy_timeout(std::time::Duration::from_secs(5)).expect("settable");
        database
    }

    /// Runs a statement beside the store; returns the number of changed rows.
    pub(crate) fn sql(&self, statement: &str) -> usize {
        self.database().execute(statement, []).expect("good SQL")
    }

    pub(crate) fn rows(&self) -> i64 {
        self.database().query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).expect("a table")
    }

    /// Returns `Sessions` of the same bag on the same database, as another process has.
    pub(crate) async fn elsewhere(&self) -> Sessions<Shop> {
        self.elsewhere_with(keys(&self.key)).await
    }

    /// Like [`elsewhere`](Self::elsewhere), with other keys.
    pub(crate) async fn elsewhere_with(&self, keyring: Keyring) -> Sessions<Shop> {
        Sessions::<Shop>::builder(self.store.clone())
            .keyring(keyring)
            .cleanup(Cleanup::Never)
            .clock(self.clock.clone())
            .build()
            .await
            .expect("good settings")
    }
}

pub(crate) fn token(browser: &Browser) -> Token {
    Token::parse(&browser.cookie(COOKIE).expect("a cookie")).expect("canonical")
}

pub(crate) fn id(browser: &Browser) -> SessionId {
    token(browser).session_id()
}

pub(crate) fn rejected(reason: Rejection) -> Vec<String> {
    vec![format!("rejected {reason:?}")]
}

/// Reads a browser's session without a change.
pub(crate) async fn read_session(browser: &Browser) -> serde_json::Value {
    let answer = browser.get("/").await;
    assert!(answer.status.is_success(), "{}", answer.status);
    serde_json::from_str(&answer.body).expect("JSON")
}

pub(crate) fn show(id: SessionId, is_new: bool, shop: &Shop) -> HttpResponse {
    let body = serde_json::json!({
        "id": id, "is_new": is_new, "user": shop.user_id, "ip": shop.ip_addr, "tenant": shop.tenant,
        "notice": shop.notice, "cart": shop.cart, "theme": shop.theme, "attempts": shop.attempts,
        "count": shop.count, "notes": shop.notes, "pin": shop.pin,
    });
    HttpResponse::Ok().content_type("application/json").body(body.to_string())
}

pub(crate) fn routes(app: &mut web::ServiceConfig) {
    let post = web::post;
    app.route("/plain", web::get().to(async || "plain"))
        .route("/", web::get().to(async |s: SessionRef<Shop>| show(s.id(), s.is_new(), &s)))
        .route("/page", web::get().to(async |s: Session<Shop>| show(s.id(), s.is_new(), &s)))
        .route("/noop", post().to(async |_: Session<Shop>| "nothing"))
        .route("/add/{sku}", post().to(add))
        .route("/tenant/{tenant}", post().to(tenant))
        .route("/theme/dark", post().to(dark))
        .route("/notice/{text}", post().to(notice))
        .route("/login/{user}", post().to(log_in))
        .route("/become/{user}", post().to(become_user))
        .route("/logout", post().to(log_out))
        .route("/destroy", post().to(destroy))
        .route("/rotate", post().to(rotate))
        .route("/remember/{yes}", post().to(remember))
        .route("/count", post().to(count))
        .route("/count-plain", post().to(count_plain));
}

pub(crate) async fn add(mut session: Session<Shop>, sku: web::Path<String>) -> impl Responder {
    *session.cart_mut().entry(sku.into_inner()).or_default() += 1;
    "added"
}

async fn tenant(mut session: Session<Shop>, tenant: web::Path<String>) -> impl Responder {
    session.set_tenant(tenant.into_inner());
    "set"
}

async fn dark(mut session: Session<Shop>) -> impl Responder {
    session.set_theme(Theme::Dark);
    "dark"
}

async fn notice(mut session: Session<Shop>, text: web::Path<String>) -> impl Responder {
    session.set_notice(text.into_inner());
    "noticed"
}

pub(crate) async fn log_in(mut session: Session<Shop>, user: web::Path<i64>) -> impl Responder {
    session.log_in(*user);
    "in"
}

async fn become_user(mut session: Session<Shop>, user: web::Path<i64>) -> impl Responder {
    session.user_id = Some(*user);
    "in"
}

pub(crate) async fn log_out(mut session: Session<Shop>) -> impl Responder {
    session.log_out();
    "out"
}

async fn destroy(mut session: Session<Shop>) -> impl Responder {
    session.destroy();
    "gone"
}

async fn rotate(mut session: Session<Shop>) -> impl Responder {
    session.rotate();
    "rotated"
}

async fn remember(mut session: Session<Shop>, yes: web::Path<bool>) -> impl Responder {
    session.remember(*yes);
    "remembered"
}

pub(crate) async fn count(mut session: Session<Shop>) -> Result<String, Error> {
    let count = session
        .update(|shop| {
            shop.count += 1;
            shop.count
        })
        .await?;
    Ok(count.to_string())
}

async fn count_plain(mut session: Session<Shop>) -> impl Responder {
    session.count += 1;
    session.count.to_string()
}
