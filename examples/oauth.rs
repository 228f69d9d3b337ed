//! A log-in at another site: OAuth 2.0 with a state and PKCE (RFC 6749, RFC 7636).
//! `cargo run -p examples --example oauth` starts a site and a small provider; open <http://localhost:8080>.
//!
//! The session keeps what the site must know when the visitor comes back, one flow for each tab. Try: begin in two tabs and
//! finish both; go back and send the callback again; change a letter of its `state`.
//!
//! ```sh
//! curl -i -c jar http://localhost:8080/log-in?next=/orders    # follow `location` by hand: the provider, then /callback
//! ```

#[path = "oauth/provider.rs"]
mod provider;

use std::error::Error;
use std::time::Duration;

use actix_web::error::{ErrorBadGateway, ErrorBadRequest, ErrorForbidden};
use actix_web::http::header::LOCATION;
use actix_web::{App, HttpResponse, HttpServer, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use session_runtime::{
    Databag, Flows, Keyring, ReturnPath, Session, SessionMiddleware, Sessions, SqliteStore,
};
use sha2::{Digest as _, Sha256};

#[derive(Databag)]
struct Account {
    #[databag(user_id)]
    user: Option<String>,
    #[databag(flow, ttl = "10m")]
    oauth: Flows<OAuthFlow>,
}

#[derive(Serialize, Deserialize)]
struct OAuthFlow {
    /// What only this site knows: with it the provider gives the user out for the code.
    verifier: String,
    return_to: String,
}

/// What the site knows of the provider.
struct Client {
    provider: String,
    /// Where visitors come back, as it is registered at the provider.
    callback: String,
    agent: ureq::Agent,
}

impl Client {
    fn new(provider: String, callback: String) -> Self {
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).proxy(None);
        Self { provider, callback, agent: agent.build().into() }
    }

    /// Asks the provider which user the code is for. Blocks.
    fn redeem(&self, code: &str, verifier: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
        #[derive(Deserialize)]
        struct User {
            sub: String,
        }
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "shop"),
            ("redirect_uri", &self.callback),
            ("code", code),
            ("code_verifier", verifier),
        ];
        let mut answer = self.agent.post(format!("{}/token", self.provider)).send_form(form)?;
        Ok(serde_json::from_str::<User>(&answer.body_mut().read_to_string()?)?.sub)
    }
}

/// Returns 32 random bytes as base64url.
fn random() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The challenge of a verifier, by the method `S256`.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

#[derive(Deserialize)]
struct LogIn {
    #[serde(default)]
    next: ReturnPath,
}

async fn log_in(
    mut session: Session<Account>,
    client: web::Data<Client>,
    query: web::Query<LogIn>,
) -> HttpResponse {
    let verifier = random();
    let challenge = challenge(&verifier);
    let state = session.oauth_mut().begin(OAuthFlow { verifier, return_to: query.next.to_string() });
    // The callback is a URL without a query, and the rest is base64url: nothing needs an escape.
    let Client { provider, callback, .. } = &**client;
    see_other(&format!(
        "{provider}/authorize?response_type=code&client_id=shop&redirect_uri={callback}&state={state}\
         &code_challenge={challenge}&code_challenge_method=S256"
    ))
}

#[derive(Deserialize)]
struct Callback {
    state: String,
    /// Missing if the user, or the provider, has refused.
    code: Option<String>,
}

async fn callback(
    mut session: Session<Account>,
    client: web::Data<Client>,
    query: web::Query<Callback>,
) -> actix_web::Result<HttpResponse> {
    let Callback { state, code } = query.into_inner();
    // Of all requests with this state one gets the flow. A state of another browser, or made up, gets none: so nobody logs a
    // visitor in as somebody else by a link.
    let flow = session.update(|account| account.oauth.finish(&state)).await?;
    let flow = flow.ok_or_else(|| ErrorBadRequest("this log-in was finished, or has ended: begin again"))?;
    let code = code.ok_or_else(|| ErrorForbidden("the provider has not logged you in"))?;
    let user = web::block(move || client.redeem(&code, &flow.verifier)).await?.map_err(|error| {
        eprintln!("oauth: {error}");
        ErrorBadGateway("the provider has not said who you are")
    })?;
    // A new session id, as after any log-in. The flows of other tabs stay open.
    session.log_in(user);
    Ok(see_other(&flow.return_to))
}

async fn home(session: Session<Account>) -> web::Html {
    web::Html::new(match session.user() {
        Some(user) => format!("Hello {}", escaped(user)),
        None => r#"<a href="/log-in?next=/">Log in at the provider</a>"#.to_owned(),
    })
}

/// The name is text of another server.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn see_other(location: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, location)).finish()
}

fn configure(app: &mut web::ServiceConfig, sessions: &Sessions<Account>, client: &web::Data<Client>) {
    app.app_data(client.clone()).service(
        web::scope("")
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/log-in", web::get().to(log_in))
            .route("/callback", web::get().to(callback))
            .default_service(web::get().to(home)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::<Account>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    let callback = "http://localhost:8080/callback".to_owned();
    let state = web::Data::new(provider::Provider::new(callback.clone()));
    let provider = HttpServer::new(move || App::new().configure(|app| provider::configure(app, &state)));
    let provider = provider.workers(1).bind("127.0.0.1:8081")?.run();
    let client = web::Data::new(Client::new("http://127.0.0.1:8081".to_owned(), callback));
    let site = HttpServer::new(move || App::new().configure(|app| configure(app, &sessions, &client)));
    let site = site.bind("127.0.0.1:8080")?.run();
    println!("oauth: open http://localhost:8080");
    futures_util::future::try_join(site, provider).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, init_service};
    use actix_web::{Responder as _, rt};
    use databag_tests::{Answer, Browser, Site};

    use super::*;

    const CALLBACK: &str = "https://www.example.com/callback";

    /// The site, and the provider: its server for the site, and its pages for browsers.
    struct World {
        site: Site,
        pages: Site,
        provider: web::Data<provider::Provider>,
        client: web::Data<Client>,
    }

    fn location(answer: &Answer) -> String {
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.all("location").remove(0)
    }

    impl World {
        async fn open() -> Self {
            let provider = web::Data::new(provider::Provider::new(CALLBACK.to_owned()));
            let app =
                |provider: web::Data<_>| App::new().configure(move |app| provider::configure(app, &provider));
            let pages = Site::new(init_service(app(provider.clone())).await);
            let state = provider.clone();
            let server = HttpServer::new(move || app(state.clone())).workers(1).bind("127.0.0.1:0");
            let server = server.expect("a free port");
            let url = format!("http://{}", server.addrs()[0]);
            rt::spawn(server.run());
            let client = web::Data::new(Client::new(url, CALLBACK.to_owned()));
            let sessions = Sessions::for_test();
            let app = App::new().configure(|app| configure(app, &sessions, &client));
            Self { site: Site::new(init_service(app).await), pages, provider, client }
        }

        /// Begins a log-in in a tab, goes to the provider, and returns where it sends the browser back.
        async fn go(&self, tab: &Browser, next: &str) -> String {
            let authorize = location(&tab.get(&format!("/log-in?next={next}")).await);
            let path = authorize.strip_prefix(&self.client.provider).expect("it leads to the provider");
            let back = location(&self.pages.browser().get(path).await);
            back.strip_prefix("https://www.example.com").expect("it leads back").to_owned()
        }
    }

    async fn is_logged_in(browser: &Browser) -> bool {
        browser.get("/").await.body == "Hello kim"
    }

    #[actix_web::test]
    async fn two_tabs_log_in_at_once_and_each_returns_to_its_page() {
        let world = World::open().await;
        let tab = world.site.browser();
        let (first, second) = (world.go(&tab, "/orders").await, world.go(&tab, "/cart").await);
        assert_eq!(location(&tab.get(&second).await), "/cart");
        assert!(is_logged_in(&tab).await);
        assert_eq!(location(&tab.get(&first).await), "/orders");
        assert!(is_logged_in(&tab).await);
        let elsewhere = world.go(&tab, "https://evil.example").await;
        assert_eq!(location(&tab.get(&elsewhere).await), "/", "a link cannot send the visitor away");
    }

    #[actix_web::test]
    async fn the_name_is_shown_as_text() {
        let account = Account { user: Some("<b>kim & co".to_owned()), ..Account::defaults() };
        let page = home(Session::for_test(account)).await;
        let page = page.respond_to(&TestRequest::default().to_http_request()).into_body();
        assert_eq!(page, "Hello &lt;b>kim &amp; co");
    }

    #[actix_web::test]
    async fn a_callback_is_good_once() {
        let world = World::open().await;
        let browser = world.site.browser();
        let back = world.go(&browser, "/").await;
        let other_tab = browser.clone();
        let answers = tokio::join!(browser.get(&back), other_tab.get(&back));
        let mut statuses = [answers.0.status.as_u16(), answers.1.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 400]);
        assert_eq!(browser.get(&back).await.status, 400);
        assert!(is_logged_in(&browser).await);
    }

    #[actix_web::test]
    async fn a_forged_callback_logs_nobody_in_and_uses_up_no_code() {
        let world = World::open().await;
        let (victim, eve) = (world.site.browser(), world.site.browser());
        let (of_victim, of_eve) = (world.go(&victim, "/").await, world.go(&eve, "/").await);
        // The link that Eve sends, one with a state that is made up, and one without a state.
        let (code, _) = of_eve.split_once("&state=").expect("a state");
        assert_eq!(victim.get(&of_eve).await.status, 400);
        assert_eq!(victim.get(&format!("{code}&state=AAAAAAAAAAAAAAAAAAAAAA")).await.status, 400);
        assert_eq!(victim.get(code).await.status, 400);
        assert_eq!(world.site.browser().get(&of_victim).await.status, 400, "without the session");
        assert!(!is_logged_in(&victim).await && world.provider.open_codes() == 2);
        // The flow of the victim itself is as it was.
        assert_eq!(location(&victim.get(&of_victim).await), "/");
        assert!(is_logged_in(&victim).await);
    }

    #[actix_web::test]
    async fn a_refusal_of_the_provider_logs_nobody_in() {
        let world = World::open().await;
        let browser = world.site.browser();
        let back = world.go(&browser, "/").await;
        let (_, state) = back.split_once("&state=").expect("a state");
        let refusal = format!("/callback?error=access_denied&state={state}");
        assert_eq!(browser.get(&refusal).await.status, 403);
        assert_eq!(browser.get(&back).await.status, 400, "the flow is finished");
        // A code that the provider does not know.
        let back = world.go(&browser, "/").await;
        let (_, state) = back.split_once("&state=").expect("a state");
        assert_eq!(browser.get(&format!("/callback?code=none&state={state}")).await.status, 502);
        assert!(!is_logged_in(&browser).await);
    }

    #[actix_web::test]
    async fn the_provider_checks_the_verifier_and_redeems_a_code_once() {
        let world = World::open().await;
        let verifier = random();
        let ask = |verifier: &str| {
            let challenge = challenge(verifier);
            format!(
                "/authorize?response_type=code&client_id=shop&redirect_uri={CALLBACK}&state=s\
                 &code_challenge={challenge}&code_challenge_method=S256"
            )
        };
        let code = async || {
            let back = location(&world.pages.browser().get(&ask(&verifier)).await);
            let (_, code) = back.split_once("?code=").expect("a code");
            code.split_once('&').expect("a state").0.to_owned()
        };
        let redeem = async |code: &str, verifier: &str| {
            let (client, code, verifier) = (world.client.clone(), code.to_owned(), verifier.to_owned());
            let user = web::block(move || client.redeem(&code, &verifier).ok()).await;
            user.expect("it does not panic")
        };
        let good = code().await;
        assert_eq!(redeem(&good, &verifier).await.as_deref(), Some("kim"));
        assert_eq!(redeem(&good, &verifier).await, None);
        let stolen = code().await;
        assert_eq!(redeem(&stolen, "a verifier of the thief").await, None);
        assert_eq!(redeem(&stolen, &verifier).await, None, "the code is used up");
        let good = ask(&verifier);
        for (part, other) in
            [("S256", "plain"), ("example.com", "evil.example"), ("=shop", "=other"), ("=s&", "=&")]
        {
            let bad = good.replace(part, other);
            assert_eq!(world.pages.browser().get(&bad).await.status, 400, "{bad}");
        }
    }
}
