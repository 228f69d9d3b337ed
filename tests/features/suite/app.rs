//! The bag and the application that the tests share.

use std::time::Duration;

use actix_web::{App, HttpResponse, Responder, web};
use databag_tests::{Browser, Gate, ManualClock, Site};
use session_runtime::builder::Protected;
use session_runtime::{
    AnyStore, Builder, Cleanup, Databag, Error, Fresh, Keyring, LoggedIn, LoginPages, Session,
    SessionMiddleware, SessionRef, Sessions, require,
};

#[derive(Databag)]
#[databag(table = "accounts", cookie = "__Host-account", idle = "30m", absolute = "12h", remember = "30d")]
pub(crate) struct Account {
    #[databag(user_id)]
    pub(crate) user_id: Option<String>,
    #[databag(user_agent)]
    pub(crate) browser: Option<String>,
    pub(crate) is_admin: bool,
    #[databag(merge = "sum")]
    pub(crate) count: u32,
    #[databag(ttl = "15m")]
    pub(crate) code: Option<String>,
}

pub(crate) const COOKIE: &str = "__Host-account";

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);

/// An application, with its store and its clock.
pub(crate) struct World {
    pub(crate) sessions: Sessions<Account>,
    pub(crate) clock: ManualClock,
    pub(crate) site: Site,
    pub(crate) gate: Gate,
}

pub(crate) type AccountBuilder = Builder<Account, AnyStore, Protected>;

impl World {
    pub(crate) async fn open(store: AnyStore) -> Self {
        Self::open_with(store, |builder| builder).await
    }

    pub(crate) async fn open_with(
        store: AnyStore,
        configure: impl FnOnce(AccountBuilder) -> AccountBuilder,
    ) -> Self {
        let clock = ManualClock::default();
        let sessions = Sessions::<Account>::builder(store)
            .keyring(Keyring::generate())
            .cleanup(Cleanup::Never)
            .clock(clock.clone())
            .login_redirect("/login")
            .reauthentication_redirect("/confirm?lang=en");
        let sessions = configure(sessions).build().await.expect("good settings");
        let gate = Gate::default();
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .app_data(web::Data::new(gate.clone()))
            .configure(routes);
        let site = Site::new(actix_web::test::init_service(app).await);
        Self { sessions, clock, site, gate }
    }

    /// Returns whether the store keeps rows, and not the browsers.
    pub(crate) async fn has_rows(&self) -> bool {
        self.sessions.count_all().await.is_ok()
    }

    pub(crate) fn browser(&self) -> Browser {
        self.site.browser()
    }

    /// Opens a browser with a user who has logged in.
    pub(crate) async fn user(&self, name: &str) -> Browser {
        let browser = self.browser();
        assert!(browser.post(&format!("/login/{name}")).await.status.is_success());
        browser
    }
}

/// Returns who these pages are shown to: a name, or `nobody`.
pub(crate) async fn shown_to(browser: &Browser) -> String {
    browser.get("/who").await.body
}

pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/who", web::get().to(who))
        .route("/login/{user}", web::post().to(log_in))
        .route("/login/{user}/remembered", web::post().to(log_in_remembered))
        .route("/login/{user}/for/{hours}", web::post().to(log_in_for))
        .route("/remember/{remember}", web::post().to(remember))
        .route("/become/{user}", web::post().to(become_user))
        .route("/logout", web::post().to(log_out))
        .route("/count", web::post().to(count))
        .route("/count/late", web::post().to(count_late))
        .route("/code/{code}", web::post().to(set_code))
        .route("/code", web::get().to(code))
        .route("/account", web::route().to(account))
        .route("/danger", web::route().to(danger))
        .route("/confirm", web::post().to(confirm))
        .route("/admin/{is_admin}", web::post().to(make_admin))
        .service(web::scope("/api").app_data(LoginPages::none()).route("/account", web::get().to(account)))
        .service(
            web::scope("/office")
                .app_data(LoginPages::none().log_in("/office/login"))
                .wrap(require(|account: &Account| account.is_admin || account.user_id.is_none()))
                .route("/account", web::get().to(account)),
        );
}

async fn who(session: SessionRef<Account>) -> impl Responder {
    session.user_id().unwrap_or("nobody").to_owned()
}

async fn log_in(mut session: Session<Account>, user: web::Path<String>) -> impl Responder {
    session.log_in(user.into_inner());
    HttpResponse::Ok()
}

/// Calls `remember` before `log_in`; the next handler calls `remember_for` after it.
async fn log_in_remembered(mut session: Session<Account>, user: web::Path<String>) -> impl Responder {
    session.remember(true);
    session.log_in(user.into_inner());
    HttpResponse::Ok()
}

async fn become_user(mut session: Session<Account>, user: web::Path<String>) -> impl Responder {
    session.user_id = Some(user.into_inner());
    HttpResponse::Ok()
}

async fn log_out(mut session: Session<Account>) -> impl Responder {
    session.log_out();
    HttpResponse::Ok()
}

async fn log_in_for(mut session: Session<Account>, path: web::Path<(String, u64)>) -> impl Responder {
    let (user, hours) = path.into_inner();
    session.log_in(user);
    session.remember_for(Duration::from_hours(hours));
    HttpResponse::Ok()
}

async fn remember(mut session: Session<Account>, remember: web::Path<bool>) -> impl Responder {
    session.remember(*remember);
    HttpResponse::Ok()
}

async fn count(mut session: Session<Account>) -> impl Responder {
    session.count += 1;
    session.count.to_string()
}

/// Counts when the session may have been changed since it was read.
async fn count_late(mut session: Session<Account>, gate: web::Data<Gate>) -> impl Responder {
    session.count += 1;
    gate.pass().await;
    session.count.to_string()
}

async fn set_code(mut session: Session<Account>, code: web::Path<String>) -> impl Responder {
    session.set_code(code.into_inner());
    HttpResponse::Ok()
}

async fn code(session: SessionRef<Account>) -> impl Responder {
    session.code().unwrap_or("none").to_owned()
}

async fn account(session: LoggedIn<Account>) -> impl Responder {
    session.user().to_owned()
}

async fn danger(session: Fresh<Account, 300>) -> impl Responder {
    session.user().to_owned()
}

async fn confirm(mut session: LoggedIn<Account>) -> Result<&'static str, Error> {
    session.reauthenticated();
    Ok("confirmed")
}

async fn make_admin(mut session: LoggedIn<Account>, is_admin: web::Path<bool>) -> impl Responder {
    session.is_admin = *is_admin;
    HttpResponse::Ok()
}
