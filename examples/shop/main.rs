//! The demo: a shop in which every visitor has a session.
//!
//! `cargo run` starts it on <http://127.0.0.1:8080>. People use its pages; any other client gets JSON for
//! `Accept: application/json`. `--help` lists what the environment can change.

mod database;
mod errors;
mod key;
mod outage;
mod pages;
mod settings;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::future::{Ready, ready};
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::{ErrorBadRequest, ErrorNotFound};
use actix_web::http::header::{self, ACCEPT, CACHE_CONTROL, ContentType, LOCATION};
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, HttpServer, Responder, rt, web};
use serde::{Deserialize, Serialize};
use session_runtime::access::{Backing, Listed};
use session_runtime::{
    AnyStore, Console, Csrf, Databag, History, Keyring, LoggedIn, ReturnPath, Session, SessionId,
    SessionMiddleware, Sessions, Snapshot, SqliteStore, StoreError, Timestamp,
};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::outage::{Outage, Switched};
use crate::pages::Held;
use crate::settings::{HELP, Settings, Store};

/// The session of a visitor.
#[derive(Databag)]
#[databag(table = "shop_sessions", cookie = "__Host-shop")]
#[databag(idle = "30m", absolute = "12h")]
struct ShopSession {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(ip_addr)]
    ip_addr: Option<IpAddr>,
    #[databag(user_agent)]
    browser: Option<String>,
    #[databag(column, index)]
    tenant: Option<String>,
    #[databag(flash)]
    notice: Option<String>,
    cart: BTreeMap<String, u32>,
    #[databag(default = Theme::Auto)]
    theme: Theme,
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Theme {
    Light,
    Dark,
    /// As the visitor's system has it.
    Auto,
}

/// What handlers know of the shop.
struct Shop {
    store: Store,
    /// The switch of the database; none in production.
    outage: Option<Outage>,
}

/// Where the console is, and the user who may enter it.
const CONSOLE: &str = "/console";
const OPERATOR: i64 = 1;

/// The longest SKU and the longest tenant, in characters.
const MAX_NAME: usize = 64;

/// The largest number of different items in a cart.
const MAX_LINES: usize = 100;

/// How long a slow request takes, in which others of its session are served.
const PAUSE: Duration = Duration::from_secs(1);

type Answer = actix_web::Result<HttpResponse>;

#[actix_web::main]
async fn main() -> ExitCode {
    match start().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, text }) => {
            eprintln!("shop: {text}");
            ExitCode::from(exit)
        }
    }
}

async fn start() -> Result<(), Failure> {
    if let Some(argument) = env::args().nth(1) {
        if argument != "--help" && argument != "-h" {
            return Err(Failure::settings(format!(
                "there is no argument `{argument}`; `--help` lists the settings"
            )));
        }
        print!("{HELP}");
        return Ok(());
    }
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env();
    let filter = filter.map_err(|error| Failure::settings(format!("RUST_LOG: {error}")))?;
    let stderr = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    stderr.with_env_filter(filter).init();

    let settings = Settings::from_env().map_err(Failure::settings)?;
    let keyring = key::keyring().map_err(Failure::settings)?;
    let has_switch = !settings.secure && matches!(settings.store, Store::Sqlite(_));
    let shop = Shop { store: settings.store.clone(), outage: has_switch.then(Outage::default) };
    let history = History::new();
    let sessions = open(&shop, &settings, keyring, &history).await?;
    history.follow(&sessions);

    let shop = web::Data::new(shop);
    let server = HttpServer::new(move || {
        // What is not in here works while the store does not.
        let pages = web::scope("")
            .configure(|app| routes(app, &shop))
            .service(Console::new(CONSOLE, &sessions, &history, is_operator))
            .wrap(Csrf::<ShopSession>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()));
        App::new()
            .app_data(shop.clone())
            .configure(|app| files(app, &shop))
            .service(pages)
            .wrap(from_fn(errors::explain))
            .wrap(security_headers())
    });
    let bound = server.shutdown_timeout(5).bind(settings.addresses.as_slice());
    let server =
        bound.map_err(|error| Failure::plain(format!("cannot listen on {}: {error}", settings.address)))?;
    for address in server.addrs() {
        println!("shop: open http://{address}  (sessions in {})", settings.store);
    }
    server.run().await.map_err(|error| Failure::new(&error))
}

async fn open(
    shop: &Shop,
    settings: &Settings,
    keyring: Keyring,
    history: &History,
) -> Result<Sessions<ShopSession>, Failure> {
    let store = match &settings.store {
        Store::Url(url) => AnyStore::connect(url).await?,
        Store::Sqlite(path) => {
            let store = SqliteStore::open(path)?.durability(settings.durability);
            match &shop.outage {
                Some(outage) => {
                    let store = Switched { store, outage: outage.clone() };
                    return build(store, settings, keyring, history).await;
                }
                None => store.into(),
            }
        }
    };
    build(store, settings, keyring, history).await
}

async fn build(
    store: impl Backing<Access = Listed>,
    settings: &Settings,
    keyring: Keyring,
    history: &History,
) -> Result<Sessions<ShopSession>, Failure> {
    let mut sessions = Sessions::<ShopSession>::builder(store)
        .keyring(keyring)
        .trusted_proxies(&settings.trusted_proxies)
        .on_event(history.observer())
        .login_redirect("/login");
    sessions = if settings.secure {
        sessions.production()
    } else {
        sessions.development().development_hosts(&settings.hosts)
    };
    if let Some(idle) = settings.idle {
        sessions = sessions.idle(idle);
    }
    if let Some(absolute) = settings.absolute {
        sessions = sessions.absolute(absolute);
    }
    Ok(sessions.build().await?)
}

/// What takes no session.
fn files(app: &mut web::ServiceConfig, shop: &Shop) {
    const FILES: [(&str, &str, &str); 3] = [
        ("/style.css", "text/css; charset=utf-8", include_str!("style.css")),
        ("/shop.js", "text/javascript; charset=utf-8", include_str!("shop.js")),
        ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ];
    for (path, content_type, content) in FILES {
        let file = move || async move {
            let mut answer = HttpResponse::Ok();
            answer.content_type(content_type).insert_header((CACHE_CONTROL, "no-cache")).body(content)
        };
        app.service(web::resource(path).get(file));
    }
    if shop.outage.is_some() {
        app.service(web::resource("/outage/end").post(end_outage));
    }
}

fn routes(app: &mut web::ServiceConfig, shop: &Shop) {
    if shop.outage.is_some() {
        app.service(web::resource("/outage").post(begin_outage));
    }
    app.service(web::resource("/").get(home))
        .service(web::resource("/login").get(log_in_page).post(log_in))
        .service(web::resource("/logout").post(log_out))
        .service(web::resource("/cart").post(add_to_cart))
        .service(web::resource("/cart/remove").post(remove_from_cart))
        .service(web::resource("/cart/slow").post(add_slowly))
        .service(web::resource("/theme").post(set_theme))
        .service(web::resource("/tenant").post(set_tenant))
        .service(web::resource("/count").post(count))
        .service(web::resource("/count-plain").post(count_plain))
        .service(web::resource("/devices").get(devices))
        .service(web::resource("/devices/revoke").post(revoke))
        .service(web::resource("/devices/revoke-others").post(revoke_others))
        .service(web::resource("/api").get(api_page))
        .service(web::resource("/api/csrf").get(api_csrf))
        .service(web::resource("/api/session").get(api_session))
        .service(web::resource("/api/devices").get(api_devices))
        .service(web::resource("/plain").get(plain));
}

fn is_operator(visitor: &ShopSession) -> bool {
    visitor.user_id == Some(OPERATOR)
}

async fn home(session: Session<ShopSession>, shop: web::Data<Shop>) -> impl Responder {
    let held = match &shop.store {
        _ if session.is_new() => Held::Nothing,
        Store::Url(_) => Held::Elsewhere,
        Store::Sqlite(path) => {
            let (path, id) = (path.clone(), session.id());
            match web::block(move || database::row(&path, id)).await {
                Ok(Ok(Some(row))) => Held::Row(row),
                Ok(Ok(None)) => Held::Nothing,
                Ok(Err(error)) => Held::Unreadable(error.to_string()),
                Err(error) => Held::Unreadable(error.to_string()),
            }
        }
    };
    web::Html::new(pages::home(&shop, &session, &held))
}

async fn api_page(session: Session<ShopSession>, shop: web::Data<Shop>) -> Answer {
    let json = serde_json::to_string_pretty(&View::of(&session))?;
    Ok(HttpResponse::Ok().content_type(ContentType::html()).body(pages::api(&shop, &session, &json)))
}

async fn api_session(session: Session<ShopSession>) -> impl Responder {
    HttpResponse::Ok().json(View::of(&session))
}

/// Returns a token for the header `X-CSRF-Token`. The session is not read, so a notice stays for the page that shows it.
async fn api_csrf(session: Session<ShopSession>) -> String {
    session.csrf_token()
}

/// Takes no session, so it makes no store call and sets no cookie.
async fn plain(shop: web::Data<Shop>) -> impl Responder {
    web::Html::new(pages::plain(&shop))
}

#[derive(Deserialize)]
struct LogInPage {
    #[serde(default)]
    next: ReturnPath,
}

async fn log_in_page(
    session: Session<ShopSession>,
    query: web::Query<LogInPage>,
    shop: web::Data<Shop>,
) -> impl Responder {
    web::Html::new(pages::log_in(&shop, &session, &query.next))
}

#[derive(Deserialize)]
struct LogIn {
    user: i64,
    #[serde(default)]
    remember: bool,
    #[serde(default)]
    next: ReturnPath,
}

async fn log_in(mut session: Session<ShopSession>, form: web::Form<LogIn>, wanted: Wanted) -> Answer {
    session.log_in(form.user);
    session.remember(form.remember);
    session.set_notice(format!("You are signed in as user {}.", form.user));
    wanted.reply(&mut session, form.next.as_str()).await
}

/// Drops everything, so the cookie is removed too.
async fn log_out(mut session: Session<ShopSession>, wanted: Wanted) -> Answer {
    session.log_out();
    wanted.reply(&mut session, "/").await
}

#[derive(Deserialize)]
struct Add {
    sku: String,
    qty: u32,
}

async fn add_to_cart(mut session: Session<ShopSession>, form: web::Form<Add>, wanted: Wanted) -> Answer {
    let Add { sku, qty } = form.into_inner();
    let sku = name("sku", &sku)?;
    let added = session.update(|shop| {
        let total = put(&mut shop.cart, sku, qty)?;
        shop.set_notice(format!("Added {qty} x {sku}; there are {total} in your cart."));
        Ok::<_, &'static str>(())
    });
    added.await?.map_err(ErrorBadRequest)?;
    wanted.reply(&mut session, "/#cart").await
}

/// Adds an item to a cart and returns its quantity.
fn put(cart: &mut BTreeMap<String, u32>, sku: &str, qty: u32) -> Result<u32, &'static str> {
    if qty == 0 {
        return Err("qty: add at least one");
    }
    if cart.len() >= MAX_LINES && !cart.contains_key(sku) {
        return Err("the cart is full");
    }
    let held = cart.get(sku).copied().unwrap_or_default();
    let total = held.checked_add(qty).ok_or("qty: no cart holds that many")?;
    cart.insert(sku.to_owned(), total);
    Ok(total)
}

#[derive(Deserialize)]
struct Remove {
    sku: String,
}

/// Removes an item, also one that another tab has removed.
async fn remove_from_cart(
    mut session: Session<ShopSession>,
    form: web::Form<Remove>,
    wanted: Wanted,
) -> Answer {
    session.update(|shop| shop.cart.remove(&form.sku)).await?;
    session.set_notice(format!("{} is not in your cart any more.", form.sku));
    wanted.reply(&mut session, "/#cart").await
}

/// What a slow request has read and done, as JSON.
#[derive(Serialize)]
struct Slow<'a> {
    /// How many items the cart had when the request was read.
    found: usize,
    added: &'a str,
    cart: &'a BTreeMap<String, u32>,
}

/// Adds an item long after the session was loaded: another request has likely written it since.
async fn add_slowly(mut session: Session<ShopSession>, form: web::Form<Add>, wanted: Wanted) -> Answer {
    let Add { sku, qty } = form.into_inner();
    let sku = name("sku", &sku)?;
    let found = session.cart().len();
    rt::time::sleep(PAUSE).await;
    let added = session.update(|shop| put(&mut shop.cart, sku, qty)).await?;
    added.map_err(ErrorBadRequest)?;
    if wanted == Wanted::Json {
        return Ok(HttpResponse::Ok().json(Slow { found, added: sku, cart: session.cart() }));
    }
    session.set_notice(format!("Added {sku}, slowly."));
    wanted.reply(&mut session, "/#tabs").await
}

#[derive(Deserialize)]
struct Look {
    theme: Theme,
}

async fn set_theme(mut session: Session<ShopSession>, form: web::Form<Look>, wanted: Wanted) -> Answer {
    session.set_theme(form.theme);
    session.set_notice(match form.theme {
        Theme::Light => "The lights are on.",
        Theme::Dark => "The lights are off.",
        Theme::Auto => "The lights are as your system has them.",
    });
    wanted.reply(&mut session, "/#preferences").await
}

#[derive(Deserialize)]
struct Tenant {
    tenant: String,
}

async fn set_tenant(mut session: Session<ShopSession>, form: web::Form<Tenant>, wanted: Wanted) -> Answer {
    if form.tenant.trim().is_empty() {
        session.clear_tenant();
        session.set_notice("You shop for nobody else.");
    } else {
        let tenant = name("tenant", &form.tenant)?;
        session.set_tenant(tenant);
        session.set_notice(format!("You shop for {tenant}."));
    }
    wanted.reply(&mut session, "/#preferences").await
}

/// Counts exactly, with any number of simultaneous requests of the session.
async fn count(mut session: Session<ShopSession>, wanted: Wanted) -> Answer {
    session.update(|shop| shop.count += 1).await?;
    wanted.reply(&mut session, "/#counter").await
}

/// Counts with a plain change of the field. Of simultaneous requests the last one wins.
async fn count_plain(mut session: Session<ShopSession>, wanted: Wanted) -> Answer {
    session.count += 1;
    wanted.reply(&mut session, "/#counter").await
}

async fn devices(
    session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
    shop: web::Data<Shop>,
) -> actix_web::Result<impl Responder> {
    let devices = sessions.of_user(session.user()).await?;
    Ok(web::Html::new(pages::devices(&shop, &session, &devices)))
}

async fn api_devices(
    session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
) -> actix_web::Result<impl Responder> {
    let devices = sessions.of_user(session.user()).await?;
    let devices: Vec<Device> = devices.iter().map(|device| Device::of(device, session.id())).collect();
    Ok(HttpResponse::Ok().json(devices))
}

#[derive(Deserialize)]
struct Revoke {
    id: SessionId,
}

async fn revoke(
    mut session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
    form: web::Form<Revoke>,
    wanted: Wanted,
) -> Answer {
    if form.id == session.id() {
        return wanted.reply(&mut session.log_out(), "/").await;
    }
    let device = sessions.get(form.id).await?;
    let own = device.is_some_and(|device| device.user_id() == Some(session.user()));
    if !own || !sessions.delete(form.id).await? {
        return Err(ErrorNotFound("you have no such session"));
    }
    session.set_notice("That device is signed out.");
    wanted.reply(&mut session, "/devices").await
}

async fn revoke_others(
    mut session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
    wanted: Wanted,
) -> Answer {
    let ended = sessions.revoke_user_except(session.user(), session.id()).await?;
    session.set_notice(match ended {
        0 => "You are signed in on no other device.".to_owned(),
        1 => "One other device is signed out.".to_owned(),
        _ => format!("{ended} other devices are signed out."),
    });
    wanted.reply(&mut session, "/devices").await
}

async fn begin_outage(shop: web::Data<Shop>) -> impl Responder {
    if let Some(outage) = &shop.outage {
        outage.begin();
    }
    web::Redirect::to("/").see_other()
}

/// Takes no session, which could not be loaded, and so no token: a forged request ends an outage too.
async fn end_outage(shop: web::Data<Shop>) -> impl Responder {
    if let Some(outage) = &shop.outage {
        outage.end();
    }
    web::Redirect::to("/#outage").see_other()
}

/// The session as JSON. `expires` is in unix milliseconds.
#[derive(Serialize)]
struct View<'a> {
    id: SessionId,
    is_new: bool,
    user_id: Option<i64>,
    ip_addr: Option<IpAddr>,
    browser: Option<&'a str>,
    tenant: Option<&'a str>,
    notice: Option<&'a str>,
    cart: &'a BTreeMap<String, u32>,
    theme: Theme,
    count: u64,
    expires: i64,
}

impl<'a> View<'a> {
    fn of(session: &'a Session<ShopSession>) -> Self {
        Self {
            id: session.id(),
            is_new: session.is_new(),
            user_id: session.user_id(),
            ip_addr: session.ip_addr(),
            browser: session.browser(),
            tenant: session.tenant(),
            notice: session.notice(),
            cart: session.cart(),
            theme: *session.theme(),
            count: session.count(),
            expires: Timestamp::from(session.expires()).as_millis(),
        }
    }
}

/// One of a user's sessions as JSON. Times are in unix milliseconds.
#[derive(Serialize)]
struct Device<'a> {
    id: SessionId,
    ip: Option<IpAddr>,
    browser: Option<&'a str>,
    created: i64,
    last_used: i64,
    expires: i64,
    this: bool,
}

impl<'a> Device<'a> {
    fn of(device: &'a Snapshot<ShopSession>, this: SessionId) -> Self {
        Self {
            id: device.id(),
            ip: device.ip_addr(),
            browser: device.browser(),
            created: Timestamp::from(device.created()).as_millis(),
            last_used: Timestamp::from(device.last_used()).as_millis(),
            expires: Timestamp::from(device.expires()).as_millis(),
            this: device.id() == this,
        }
    }
}

/// What kind of answer a client wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Page,
    Json,
    Text,
}

impl Wanted {
    fn by(request: &HttpRequest) -> Self {
        let accepted = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
        let accepted: Vec<_> = accepted.collect();
        let accepts = |kind| accepted.iter().any(|value| value.contains(kind));
        match (accepts("application/json"), accepts("text/html")) {
            (true, _) => Self::Json,
            (false, true) => Self::Page,
            (false, false) => Self::Text,
        }
    }

    /// Answers a form that was served.
    async fn reply(self, session: &mut Session<ShopSession>, page: &str) -> Answer {
        if self == Self::Json {
            // The session has its new id only after the save.
            session.save().await?;
            return Ok(HttpResponse::Ok().json(View::of(session)));
        }
        Ok(HttpResponse::SeeOther().insert_header((LOCATION, page)).finish())
    }
}

impl FromRequest for Wanted {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::by(request)))
    }
}

/// Checks a name that a visitor has typed.
fn name<'a>(field: &str, text: &'a str) -> actix_web::Result<&'a str> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(char::is_control) {
        let text =
            format!("{field}: 1 to {MAX_NAME} characters are needed, none of them a control character");
        return Err(ErrorBadRequest(text));
    }
    Ok(name)
}

/// Lets pages use the shop's own files only, and forbids frames.
fn security_headers() -> DefaultHeaders {
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                  form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    DefaultHeaders::new()
        .add((header::CONTENT_SECURITY_POLICY, policy))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::REFERRER_POLICY, "same-origin"))
}

/// Why the shop does not run: one line for the console, and the exit code.
struct Failure {
    exit: u8,
    text: String,
}

impl Failure {
    fn new(error: &dyn std::error::Error) -> Self {
        Self::plain(chain(error))
    }

    fn plain(text: String) -> Self {
        Self { exit: 1, text }
    }

    fn settings(text: String) -> Self {
        Self { exit: 2, text }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(&error)
    }
}

impl From<session_runtime::Error> for Failure {
    fn from(error: session_runtime::Error) -> Self {
        match error {
            session_runtime::Error::Config(_) => Self::settings(chain(&error)),
            _ => Self::new(&error),
        }
    }
}

/// Shows an error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
