//! The demo: a shop in which every visitor has a session.
//!
//! `cargo run` starts it on <http://127.0.0.1:8080>. People use its pages; any other client gets JSON for
//! `Accept: application/json`. `settings.rs` lists what the environment can change.

mod key;
mod pages;
mod settings;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::process::ExitCode;

use actix_web::dev::Payload;
use actix_web::error::{ErrorBadRequest, ErrorNotFound};
use actix_web::http::header::{self, ACCEPT, LOCATION};
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, HttpServer, Responder, web};
use serde::{Deserialize, Serialize};
use session_runtime::{
    AnyStore, Csrf, Databag, LoggedIn, Session, SessionId, SessionMiddleware, Sessions, Snapshot,
    SqliteStore, StoreError, Timestamp,
};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::settings::{Settings, Store};

/// The session of a visitor.
#[derive(Databag)]
#[databag(table = "shop_sessions", cookie = "__Host-shop", idle = "30m", absolute = "12h")]
struct ShopSession {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(ip_addr)]
    ip_addr: Option<IpAddr>,
    #[databag(column, index)]
    tenant: Option<String>,
    #[databag(flash)]
    notice: Option<String>,
    cart: BTreeMap<String, u32>,
    #[databag(default = Theme::Light)]
    theme: Theme,
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Theme {
    Light,
    Dark,
}

/// The longest SKU and the longest tenant, in characters.
const MAX_NAME: usize = 64;

/// The largest number of different items in a cart.
const MAX_LINES: usize = 100;

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
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env();
    let filter = filter.map_err(|error| Failure::settings(format!("RUST_LOG: {error}")))?;
    let stderr = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    stderr.with_env_filter(filter).init();

    let settings = Settings::from_env().map_err(Failure::settings)?;
    let keyring = key::keyring().map_err(Failure::settings)?;
    let store = open(&settings).await.map_err(|error| Failure::new(&error))?;
    let mut sessions =
        Sessions::<ShopSession>::builder(store).keyring(keyring).trusted_proxies(&settings.trusted_proxies);
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
    let sessions = sessions.build().await?;

    let server = HttpServer::new(move || {
        App::new()
            .wrap(Csrf::<ShopSession>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .wrap(security_headers())
            .configure(routes)
    });
    let bound = server.shutdown_timeout(5).bind(settings.addresses.as_slice());
    let server =
        bound.map_err(|error| Failure::plain(format!("cannot listen on {}: {error}", settings.address)))?;
    for address in server.addrs() {
        println!("shop: open http://{address}  (sessions in {})", settings.store);
    }
    server.run().await.map_err(|error| Failure::new(&error))
}

async fn open(settings: &Settings) -> Result<AnyStore, StoreError> {
    match &settings.store {
        Store::Sqlite(path) => Ok(SqliteStore::open(path)?.durability(settings.durability).into()),
        Store::Url(url) => AnyStore::connect(url).await,
    }
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(web::resource("/").get(home))
        .service(web::resource("/login").post(log_in))
        .service(web::resource("/logout").post(log_out))
        .service(web::resource("/cart").post(add_to_cart))
        .service(web::resource("/theme").post(set_theme))
        .service(web::resource("/tenant").post(set_tenant))
        .service(web::resource("/count").post(count))
        .service(web::resource("/count-plain").post(count_plain))
        .service(web::resource("/devices").get(devices))
        .service(web::resource("/devices/revoke").post(revoke))
        .service(web::resource("/devices/revoke-others").post(revoke_others))
        .service(web::resource("/api/csrf").get(api_csrf))
        .service(web::resource("/api/session").get(api_session))
        .service(web::resource("/api/devices").get(api_devices))
        .service(web::resource("/plain").get(plain));
}

async fn home(session: Session<ShopSession>) -> impl Responder {
    web::Html::new(pages::home(&session))
}

async fn api_session(session: Session<ShopSession>) -> impl Responder {
    HttpResponse::Ok().json(View::of(&session))
}

/// Returns a token for the header `X-CSRF-Token`. The session is not read, so a notice stays for the page that shows it.
async fn api_csrf(session: Session<ShopSession>) -> String {
    session.csrf_token()
}

/// Takes no session, so it makes no store call and sets no cookie.
async fn plain() -> impl Responder {
    web::Html::new(pages::plain())
}

#[derive(Deserialize)]
struct LogIn {
    user: i64,
}

async fn log_in(mut session: Session<ShopSession>, form: web::Form<LogIn>, reply: Reply) -> Answer {
    session.log_in(form.user);
    session.set_notice(format!("You are signed in as user {}.", form.user));
    reply.with(&mut session).await
}

/// Drops everything, so the cookie is removed too.
async fn log_out(mut session: Session<ShopSession>, reply: Reply) -> Answer {
    session.log_out();
    reply.with(&mut session).await
}

#[derive(Deserialize)]
struct Add {
    sku: String,
    qty: u32,
}

async fn add_to_cart(mut session: Session<ShopSession>, form: web::Form<Add>, reply: Reply) -> Answer {
    let Add { sku, qty } = form.into_inner();
    let sku = name("sku", &sku)?;
    // Two tabs can add items at the same time: the cart has the items of both.
    let added = session.update(|shop| {
        let total = put(&mut shop.cart, sku, qty)?;
        shop.set_notice(format!("Added {qty} x {sku}; there are {total} in your cart."));
        Ok::<_, &'static str>(())
    });
    added.await?.map_err(ErrorBadRequest)?;
    reply.with(&mut session).await
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
struct Look {
    theme: Theme,
}

async fn set_theme(mut session: Session<ShopSession>, form: web::Form<Look>, reply: Reply) -> Answer {
    session.set_theme(form.theme);
    session.set_notice(match form.theme {
        Theme::Light => "The lights are on.",
        Theme::Dark => "The lights are off.",
    });
    reply.with(&mut session).await
}

#[derive(Deserialize)]
struct Tenant {
    tenant: String,
}

async fn set_tenant(mut session: Session<ShopSession>, form: web::Form<Tenant>, reply: Reply) -> Answer {
    if form.tenant.trim().is_empty() {
        session.clear_tenant();
        session.set_notice("You shop for nobody else.");
    } else {
        let tenant = name("tenant", &form.tenant)?;
        session.set_tenant(tenant);
        session.set_notice(format!("You shop for {tenant}."));
    }
    reply.with(&mut session).await
}

/// Counts exactly, with any number of simultaneous requests of the session.
async fn count(mut session: Session<ShopSession>, reply: Reply) -> Answer {
    session.update(|shop| shop.count += 1).await?;
    reply.with(&mut session).await
}

/// Counts with a plain change of the field. Of simultaneous requests the last one wins.
async fn count_plain(mut session: Session<ShopSession>, reply: Reply) -> Answer {
    session.count += 1;
    reply.with(&mut session).await
}

async fn devices(
    session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
) -> actix_web::Result<impl Responder> {
    let devices = sessions.of_user(session.user()).await?;
    Ok(web::Html::new(pages::devices(&session, &devices)))
}

async fn api_devices(
    session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
) -> actix_web::Result<impl Responder> {
    let devices = sessions.of_user(session.user()).await?;
    let devices: Vec<Device> = devices.iter().map(|device| Device::of(device, session.id())).collect();
    Ok(web::Json(devices))
}

#[derive(Deserialize)]
struct Revoke {
    id: SessionId,
}

async fn revoke(
    mut session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
    form: web::Form<Revoke>,
    reply: Reply,
) -> Answer {
    if form.id == session.id() {
        return reply.with(&mut session.log_out()).await;
    }
    let device = sessions.get(form.id).await?;
    let own = device.is_some_and(|device| device.user_id() == Some(session.user()));
    if !own || !sessions.delete(form.id).await? {
        return Err(ErrorNotFound("you have no such session"));
    }
    session.set_notice("That device is signed out.");
    reply.with(&mut session).await
}

async fn revoke_others(
    mut session: LoggedIn<ShopSession>,
    sessions: Sessions<ShopSession>,
    reply: Reply,
) -> Answer {
    let ended = sessions.revoke_user_except(session.user(), session.id()).await?;
    session.set_notice(match ended {
        0 => "You are signed in on no other device.".to_owned(),
        1 => "One other device is signed out.".to_owned(),
        _ => format!("{ended} other devices are signed out."),
    });
    reply.with(&mut session).await
}

/// The session as JSON. `expires` is in unix milliseconds.
#[derive(Serialize)]
struct View<'a> {
    id: SessionId,
    is_new: bool,
    user_id: Option<i64>,
    ip_addr: Option<IpAddr>,
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
struct Device {
    id: SessionId,
    ip: Option<IpAddr>,
    created: i64,
    expires: i64,
    this: bool,
}

impl Device {
    fn of(device: &Snapshot<ShopSession>, this: SessionId) -> Self {
        Self {
            id: device.id(),
            ip: device.ip_addr(),
            created: Timestamp::from(device.created()).as_millis(),
            expires: Timestamp::from(device.expires()).as_millis(),
            this: device.id() == this,
        }
    }
}

/// How a form is answered.
enum Reply {
    Page,
    Json,
}

impl Reply {
    async fn with(self, session: &mut Session<ShopSession>) -> Answer {
        match self {
            Self::Page => Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish()),
            Self::Json => {
                // The session has its new id only after the save.
                session.save().await?;
                Ok(HttpResponse::Ok().json(View::of(session)))
            }
        }
    }
}

impl FromRequest for Reply {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let accepted = request.headers().get_all(ACCEPT);
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        let json = accepted.any(|value| value.contains("application/json"));
        ready(Ok(if json { Self::Json } else { Self::Page }))
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

/// Forbids scripts and frames: no page needs them.
fn security_headers() -> DefaultHeaders {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; \
                  frame-ancestors 'none'; base-uri 'none'";
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
