//! The pages: sessions enter, HTML leaves.
//!
//! All text from visitors is escaped by [`Text`]. Code that a page shows is in the source as it is shown: a test compares them.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use session_runtime::rusqlite::types::Value;
use session_runtime::{ReturnPath, Session, SessionId, Snapshot};

use crate::settings::Store;
use crate::{CONSOLE, MAX_NAME, OPERATOR, Shop, ShopSession, Theme, database};

/// The links at the top of each page.
const LINKS: [(&str, &str); 5] =
    [("/", "Shop"), ("/devices", "Devices"), ("/api", "API"), ("/plain", "Plain page"), (CONSOLE, "Console")];

/// How many bytes of a sealed state are shown.
const SHOWN: usize = 96;

/// What the database holds of a session.
pub(crate) enum Held {
    Nothing,
    Row(database::Row),
    /// The store is not a file that can be opened here.
    Elsewhere,
    /// The file could not be read, for this reason.
    Unreadable(String),
}

pub(crate) fn home(shop: &Shop, session: &Session<ShopSession>, held: &Held) -> String {
    let mut body = format!(
        r#"<section class="hero"><div><h1>Your session is one Rust struct.</h1>
        <p>Databag is a session library for actix-web. It seals the struct, stores it in SQLite, PostgreSQL, MySQL or Redis,
        merges what two tabs write at once, and signs nobody out when the database is down.</p>
        <p>This shop runs on it. With each button you see the code that it runs.</p></div>{}</section>"#,
        Code(bag()),
    );
    for card in [
        who(session),
        cart(session),
        tabs(session),
        counter(session),
        preferences(session),
        outage(shop, session),
        console(),
        database(shop, session, held),
    ] {
        body.push_str(&card);
    }
    page(shop, Some(session), "/", "A session is one Rust struct", &body)
}

pub(crate) fn log_in(shop: &Shop, session: &Session<ShopSession>, next: &ReturnPath) -> String {
    let body = format!(
        r#"<h1>Sign in</h1><section class="card"><div>{}</div><div>{}
        <p class="hint">The session goes on under a new id, so a token that was stolen before is of no use. A page that needs a
        user sends you here, and you come back to it.</p></div></section>"#,
        sign_in_form(session, next),
        Code(LOG_IN),
    );
    page(shop, Some(session), "/login", "Sign in", &body)
}

pub(crate) fn devices(
    shop: &Shop,
    session: &Session<ShopSession>,
    devices: &[Snapshot<ShopSession>],
) -> String {
    let mut rows = String::new();
    for device in devices {
        let id = device.id();
        let end = if id == session.id() {
            "<strong>This one</strong>".to_owned()
        } else {
            format!(
                r#"<button class="quiet" name="id" value="{id}">Sign out<span class="unseen"> {}</span></button>"#,
                Browser(device.browser())
            )
        };
        let _ = write!(
            rows,
            r#"<tr><th scope="row" data-label="Browser">{}</th><td data-label="Last used">{}</td>
            <td data-label="Address">{}</td><td data-label="Signed in">{}</td><td data-label="Expires">in {}</td>
            <td data-label="Session">{}</td><td>{end}</td></tr>"#,
            Browser(device.browser()),
            Ago(device.last_used()),
            Maybe(device.ip_addr()),
            Ago(device.created()),
            Span(until(device.expires())),
            Id(id),
        );
    }
    let token = Token(session);
    let body = format!(
        r#"<h1>Where you are signed in</h1>
        <section class="card wide"><form method="post" action="/devices/revoke">{token}<table class="stack">
        <thead><tr><th scope="col">Browser</th><th scope="col">Last used</th><th scope="col">Address</th><th scope="col">Signed in</th>
        <th scope="col">Expires</th><th scope="col">Session</th><td></td></tr></thead>
        <tbody>{rows}</tbody></table></form>
        <form method="post" action="/devices/revoke-others">{token}<button>Sign out everywhere else</button></form>
        <p class="hint">Sign in as the same user in another browser, and it shows up here. Its next request is that of a
        stranger once you have signed it out.</p>{}{}</section>"#,
        Code("let devices = sessions.of_user(session.user()).await?;"),
        Code("let ended = sessions.revoke_user_except(session.user(), session.id()).await?;"),
    );
    page(shop, Some(session), "/devices", "Devices", &body)
}

pub(crate) fn api(shop: &Shop, session: &Session<ShopSession>, json: &str) -> String {
    let body = format!(
        r#"<h1>The JSON API</h1>
        <section class="card wide"><h2>Your session, by <a href="/api/session"><code>GET /api/session</code></a></h2>
        <pre class="code"><code>{}</code></pre></section>
        <section class="card wide"><h2>Without a browser</h2>{}</section>"#,
        Text(json),
        include_str!("api.html"),
    );
    page(shop, Some(session), "/api", "The JSON API", &body)
}

pub(crate) fn plain(shop: &Shop) -> String {
    let body = format!(
        r#"<h1>A page without a session</h1><section class="card wide">
        <p>The handler of this page asks for no session. So none was loaded: there was no access to the store, no cookie was
        read and none was set, whoever you are. It is served even while the database is down.</p>{}</section>"#,
        Code("async fn plain(shop: web::Data<Shop>) -> impl Responder {"),
    );
    page(shop, None, "/plain", "A page without a session", &body)
}

/// The page of a request that was not served. No session is known: perhaps it could not be loaded.
pub(crate) fn error(shop: &Shop, status: StatusCode, detail: Option<&str>) -> String {
    let (title, text) = match status {
        StatusCode::FORBIDDEN => (
            "Refused",
            "The shop cannot tell that one of its own pages has sent this: you have signed in or out since the page was shown, \
             or another site has sent it. Nothing was changed. Go back, reload the page and try again.",
        ),
        StatusCode::NOT_FOUND => {
            ("There is nothing here", "The address is wrong, or what was here has ended.")
        }
        StatusCode::METHOD_NOT_ALLOWED => (
            "This address does not take that kind of request",
            "It answers another method. Nothing was changed.",
        ),
        StatusCode::CONFLICT => (
            "The session has ended meanwhile",
            "Another request has ended this session while this one was under way: you have signed out, or were signed out. What \
             this one has changed is not stored, and the session does not come back.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "The database does not answer",
            "You are still signed in: your cookie stays, and nobody is taken for a stranger. Nothing is answered with success \
             that was not stored. Try again in a moment.",
        ),
        _ if status.is_client_error() => ("The shop does not understand", "Nothing was changed."),
        _ => ("That failed", "The log of the shop says why. What was stored before is as it was."),
    };
    // It is served without the store.
    let plain = match status {
        StatusCode::SERVICE_UNAVAILABLE => r#" <a href="/plain">A page without a session</a>"#,
        _ => "",
    };
    let body = format!(
        r#"<section class="problem"><p class="status">{}</p><h1>{title}</h1><p>{}</p><p>{text}</p>
        <p><a class="button" href="/">To the shop</a>{plain}</p></section>"#,
        status.as_u16(),
        Text(detail.unwrap_or_default()),
    );
    page(shop, None, "", title, &body)
}

/// The page for those who may not enter the console.
pub(crate) fn no_operator(shop: &Shop) -> String {
    let body = format!(
        r#"<section class="problem"><p class="status">403</p><h1>For the operator</h1>
        <p>The console shows who is signed in, and ends sessions. In this shop it is for user {OPERATOR}.</p>
        <p><a class="button" href="/login?next={CONSOLE}">Sign in as user {OPERATOR}</a> <a href="/">To the shop</a></p></section>"#
    );
    page(shop, None, CONSOLE, "For the operator", &body)
}

fn page(shop: &Shop, session: Option<&Session<ShopSession>>, path: &str, title: &str, body: &str) -> String {
    let theme = match session.map_or(Theme::Auto, |session| *session.theme()) {
        Theme::Auto => "auto",
        Theme::Light => "light",
        Theme::Dark => "dark",
    };
    let mut links = String::new();
    for (link, text) in LINKS {
        let current = if link == path { r#" aria-current="page""# } else { "" };
        let _ = write!(links, r#"<a href="{link}"{current}>{text}</a>"#);
    }
    let user = match session.map(|session| session.user_id()) {
        Some(Some(user)) => format!(r#"<span class="chip on">user {user}</span>"#),
        Some(None) => r#"<a class="chip" href="/login">Sign in</a>"#.to_owned(),
        None => String::new(),
    };
    let notice = match session.and_then(|session| session.notice()) {
        Some(notice) => format!(r#"<p class="notice" role="status">{}</p>"#, Text(notice)),
        None => String::new(),
    };
    let banner = match &shop.outage {
        Some(outage) if outage.is_on() => {
            r#"<form class="banner" method="post" action="/outage/end"><strong>The database is switched off.</strong>
            <button>Switch it on</button></form>"#
        }
        _ => "",
    };
    format!(
        r#"<!doctype html>
<html lang="en" data-theme="{theme}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Databag</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css">
<script src="/shop.js" defer></script>
</head>
<body>
<header><a class="brand" href="/">Databag <span>shop</span></a><nav aria-label="Pages">{links}</nav>{user}</header>
{banner}{notice}
<main>{body}</main>
<footer>A demo, with its sessions in <code>{}</code>: it asks for no password, and anybody can sign in as anybody. Do not put it
on the internet.</footer>
</body>
</html>
"#,
        Text(&shop.store.to_string()),
    )
}

/// A card: what a visitor does, beside the code that it runs.
fn card(id: &str, title: &str, act: &str, hint: &str, code: &[&str]) -> String {
    let code: String = code.iter().map(|code| Code(code).to_string()).collect();
    format!(
        r#"<section class="card" id="{id}" aria-labelledby="{id}-title"><div><h2 id="{id}-title">{title}</h2>{act}</div>
        <div>{code}<p class="hint">{hint}</p></div></section>"#
    )
}

const LOG_IN: &str = "session.log_in(form.user);\nsession.remember(form.remember);";

fn sign_in_form(session: &Session<ShopSession>, next: &ReturnPath) -> String {
    let user = if next.as_str() == CONSOLE { OPERATOR } else { 7 };
    format!(
        r#"<form method="post" action="/login">{}<input type="hidden" name="next" value="{}">
        <label>User <input name="user" type="number" step="1" value="{user}" required></label>
        <label class="check"><input type="checkbox" name="remember" value="true"> Remember me</label>
        <button>Sign in</button></form>
        <p class="hint">Any number will do; there is no password.</p>"#,
        Token(session),
        Text(next.as_str()),
    )
}

fn who(session: &Session<ShopSession>) -> String {
    let mut facts = String::new();
    let mut fact = |name: &str, value: &dyn fmt::Display| {
        let _ = write!(facts, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    fact("User", &Maybe(session.user_id()));
    fact("Browser", &Browser(session.browser()));
    fact("Address", &Maybe(session.ip_addr()));
    if session.is_new() {
        fact("Session", &"nothing is stored about you yet");
    } else {
        fact("Session", &Id(session.id()));
        fact("Expires", &format_args!("in {}", Span(until(session.expires()))));
    }
    let form = match session.user_id() {
        Some(_) => format!(
            r#"<form method="post" action="/logout">{}<button>Sign out</button>
            <a href="/devices">Where else are you signed in?</a></form>"#,
            Token(session)
        ),
        None => sign_in_form(session, &ReturnPath::new("/#you")),
    };
    card(
        "you",
        "You",
        &format!("<dl>{facts}</dl>{form}"),
        "A log-in gives the session a new id, in one step with what it stores. A log-out is final, also for requests that are \
         under way.",
        &[LOG_IN, "session.log_out();"],
    )
}

const ADD: &str = r#"let added = session.update(|shop| {
    let total = put(&mut shop.cart, sku, qty)?;
    shop.set_notice(format!("Added {qty} x {sku}; there are {total} in your cart."));
    Ok::<_, &'static str>(())
});"#;

fn cart(session: &Session<ShopSession>) -> String {
    let token = Token(session);
    let mut lines = String::new();
    for (sku, qty) in session.cart() {
        let sku = Text(sku);
        let _ = write!(
            lines,
            r#"<li><span>{sku}</span><span class="number">{qty}</span>
            <button class="quiet" name="sku" value="{sku}">Remove<span class="unseen"> {sku}</span></button></li>"#
        );
    }
    let lines = match lines.as_str() {
        "" => "<p class=\"empty\">Your cart is empty.</p>".to_owned(),
        lines => {
            format!(
                r#"<form method="post" action="/cart/remove">{token}<ul class="items">{lines}</ul></form>"#
            )
        }
    };
    let act = format!(
        r#"<div id="items">{lines}</div>
        <form method="post" action="/cart">{token}
        <label class="grow">What <input name="sku" list="goods" maxlength="{MAX_NAME}" value="tea" required></label>
        <label>How many <input name="qty" type="number" min="1" max="4294967295" value="1" required></label>
        <button>Add</button>
        <datalist id="goods"><option>tea<option>coffee<option>mug<option>kettle</datalist></form>"#
    );
    card(
        "cart",
        "Your cart",
        &act,
        "<code>update</code> runs again if another request has written the session first. The notice is a flash value: it is \
         shown once, then gone.",
        &[ADD, "session.update(|shop| shop.cart.remove(&form.sku)).await?;"],
    )
}

fn tabs(session: &Session<ShopSession>) -> String {
    let (disabled, hint) = if session.is_new() {
        (
            " disabled",
            "<p class=\"hint\">Sign in or add something first: two tabs share a session once there is one.</p>",
        )
    } else {
        ("", "")
    };
    let act = format!(
        r#"<p>Your browser sends two requests at the same moment. Each reads the session, takes a second, and adds something else to
        the cart.</p>
        <form method="post" action="/cart/slow">{}<input type="hidden" name="sku" value="tea"><input type="hidden" name="qty" value="1">
        <button{disabled}>Collide</button></form>{hint}
        <p id="told" role="status"></p>
        <noscript><p class="hint">Without JavaScript the button adds tea, slowly: press it in two windows within a second.</p></noscript>"#,
        Token(session)
    );
    card(
        "tabs",
        "Two tabs that collide lose nothing",
        &act,
        "The store writes a row only if it still has the revision that was read. The second request does not overwrite the first: its \
         change is made again, on what the first has stored.",
        &[
            "rt::time::sleep(PAUSE).await;\nlet added = session.update(|shop| put(&mut shop.cart, sku, qty)).await?;",
        ],
    )
}

fn counter(session: &Session<ShopSession>) -> String {
    let act = format!(
        r#"<p class="big">{}</p>
        <form method="post">{}<button formaction="/count">Count</button>
        <button formaction="/count-plain" class="quiet">Count plainly</button></form>"#,
        session.count(),
        Token(session)
    );
    card(
        "counter",
        "A counter",
        &act,
        "The first never loses a count, however many requests count at once. The second is a change as of any other field: of two at \
         the same time the last one wins.",
        &["session.update(|shop| shop.count += 1).await?;", "session.count += 1;"],
    )
}

fn preferences(session: &Session<ShopSession>) -> String {
    let token = Token(session);
    let mut themes = String::new();
    for (theme, value, label) in
        [(Theme::Auto, "auto", "System"), (Theme::Light, "light", "Light"), (Theme::Dark, "dark", "Dark")]
    {
        let pressed = *session.theme() == theme;
        let _ = write!(
            themes,
            r#"<button class="quiet" name="theme" value="{value}" aria-pressed="{pressed}">{label}</button>"#
        );
    }
    let act = format!(
        r#"<form method="post" action="/theme" role="group" aria-label="Theme">{token}<span class="legend">Theme</span>{themes}</form>
        <form method="post" action="/tenant">{token}<label class="grow">Who you shop for <input name="tenant" maxlength="{MAX_NAME}" value="{}" placeholder="acme"></label>
        <button>Set</button></form>"#,
        Text(session.tenant().unwrap_or_default()),
    );
    card(
        "preferences",
        "Preferences",
        &act,
        "The tenant has a column of its own, where queries find it. The theme is sealed, as the cart and the counter are.",
        &["session.set_theme(form.theme);", "#[databag(column, index)]\ntenant: Option<String>,"],
    )
}

fn outage(shop: &Shop, session: &Session<ShopSession>) -> String {
    let act = match (&shop.outage, &shop.store) {
        (Some(outage), _) if outage.is_on() => {
            "<p>It is switched off. You see this page because you have no session yet.</p>".to_owned()
        }
        (Some(_), _) => format!(
            r#"<p>Each page that needs a session then says so. You stay signed in.</p>
            <form method="post" action="/outage">{}<button>Switch it off</button></form>"#,
            Token(session)
        ),
        (None, Store::Sqlite(_)) => {
            "<p>This shop is in production, and has no switch for its database.</p>".to_owned()
        }
        (None, Store::Url(_)) => "<p>Stop the server of the store, and look at any page.</p>".to_owned(),
    };
    card(
        "outage",
        "Switch the database off",
        &act,
        "A handler names the session, which is loaded before it runs. If the store fails, the answer is 503 with \
         <code>Retry-After</code>, within two seconds; the cookie stays, and when the database is back you are still signed in.",
        &["async fn home(session: Session<ShopSession>, shop: web::Data<Shop>) -> impl Responder {"],
    )
}

fn console() -> String {
    let act = format!(
        r#"<p>Who is signed in, what has happened in the last day, and forms that end sessions. User {OPERATOR} is the operator of this
        shop.</p><p><a class="button" href="{CONSOLE}">To the console</a></p>"#
    );
    card(
        "console",
        "A console for the operator",
        &act,
        "The condition is about the session of who asks; others are answered 403. The pages need no JavaScript.",
        &[
            ".service(Console::new(CONSOLE, &sessions, &history, is_operator))",
            "fn is_operator(visitor: &ShopSession) -> bool {\n    visitor.user_id == Some(OPERATOR)\n}",
        ],
    )
}

/// The row of the session, beside what each column is for.
fn database(shop: &Shop, session: &Session<ShopSession>, held: &Held) -> String {
    let content = match held {
        Held::Nothing => {
            "<p>Nothing: a visitor who only reads has no row. Sign in or fill the cart, and look again.</p>"
                .to_owned()
        }
        Held::Elsewhere => format!(
            "<p>The sessions of this shop are in <code>{}</code>, which this page cannot read without its store. With SQLite it shows \
             your row here.</p>",
            Text(&shop.store.to_string())
        ),
        Held::Unreadable(reason) => format!("<p>The file cannot be read: {}.</p>", Text(reason)),
        Held::Row(row) => {
            let mut rows = String::new();
            for (name, value) in row {
                let marker = if name == "revision" { " id=\"revision\"" } else { "" };
                let _ = write!(
                    rows,
                    r#"<tr><th scope="row"><code>{}</code></th><td{marker}>{}</td><td>{}</td></tr>"#,
                    Text(name),
                    Cell(name, value),
                    meaning(name),
                );
            }
            format!(
                r#"<table class="stack"><thead><tr><th scope="col">Column</th><th scope="col">Value</th><th scope="col">What it is</th></tr></thead>
                <tbody>{rows}</tbody></table>"#
            )
        }
    };
    let lock = if session.is_new() { "" } else { " Of what is in your cart nothing can be read here." };
    format!(
        r#"<section class="card wide" id="row" aria-labelledby="row-title"><h2 id="row-title">What the database holds</h2>
        <p>Your row, as any program reads it that can open the file: without the library, and without the key.{lock}</p>
        {content}{}</section>"#,
        Code(r#"let mut query = database.prepare("SELECT * FROM shop_sessions WHERE id = ?1")?;"#)
    )
}

fn meaning(column: &str) -> &'static str {
    match column {
        "id" => "the SHA-256 of the token. The token itself is in your cookie only",
        "state" => "the struct, sealed with AES-256-GCM-SIV for this row alone",
        "user_id" => "in the clear, to find a user's devices",
        "ip_addr" => "where the session is used from; at another address it does not open",
        "created" => "of the session, or of the log-in; unix milliseconds",
        "expiration" => "unix milliseconds; the server goes by what is sealed",
        "revision" => "goes up with each write; a write names the one that it replaces",
        "tenant" => "a field with <code>column</code>, for queries",
        _ => "",
    }
}

/// The value of a column: numbers and text as they are, and the first bytes of others.
struct Cell<'a>(&'a str, &'a Value);

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self.1 {
            Value::Null => return f.write_str("<span class=\"empty\">NULL</span>"),
            Value::Integer(integer) => return integer.fmt(f),
            Value::Real(real) => return real.fmt(f),
            Value::Text(text) => return Text(text).fmt(f),
            Value::Blob(bytes) => bytes,
        };
        let shown = &bytes[..bytes.len().min(if self.0 == "id" { 4 } else { SHOWN })];
        f.write_str("<code class=\"hex\">")?;
        for byte in shown {
            write!(f, "{byte:02x}")?;
        }
        let more = if shown.len() < bytes.len() { "…" } else { "" };
        write!(f, "{more}</code> <span class=\"length\">{} bytes</span>", bytes.len())
    }
}

/// Returns the struct of the session, as it stands in the source.
fn bag() -> &'static str {
    let source = include_str!("main.rs");
    let (_, bag) = source.split_once("/// The session of a visitor.\n").unwrap_or_default();
    bag.split_inclusive("\n}").next().unwrap_or_default()
}

fn since(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}

fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Code of this shop.
struct Code<'a>(&'a str);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<pre class=\"code\"><code>{}</code></pre>", Text(self.0))
    }
}

/// The field of a form that shows that the form is ours.
struct Token<'a>(&'a Session<ShopSession>);

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<input type="hidden" name="csrf_token" value="{}">"#, self.0.csrf_token())
    }
}

/// Text escaped for HTML, also within a quoted attribute.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number or an address, or a dash.
struct Maybe<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("–"),
        }
    }
}

/// A browser and its system, by what it says it is; all of that is in the title.
struct Browser<'a>(Option<&'a str>);

impl fmt::Display for Browser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Browsers name those that they are compatible with, so the order matters.
        const NAMES: [(&str, &str); 6] = [
            ("Edg/", "Edge"),
            ("OPR/", "Opera"),
            ("Firefox/", "Firefox"),
            ("Chrome/", "Chrome"),
            ("Safari/", "Safari"),
            ("curl/", "curl"),
        ];
        const SYSTEMS: [(&str, &str); 7] = [
            ("Android", "Android"),
            ("iPhone", "iPhone"),
            ("iPad", "iPad"),
            ("Windows", "Windows"),
            ("Mac OS X", "macOS"),
            ("CrOS", "ChromeOS"),
            ("Linux", "Linux"),
        ];
        let Some(agent) = self.0 else { return f.write_str("unknown browser") };
        let find = |known: &[(&str, &'static str)]| {
            known.iter().find(|(part, _)| agent.contains(part)).map(|(_, name)| *name)
        };
        write!(f, "<span title=\"{}\">{}", Text(agent), find(&NAMES).unwrap_or("unknown browser"))?;
        if let Some(system) = find(&SYSTEMS) {
            write!(f, " on {system}")?;
        }
        f.write_str("</span>")
    }
}

/// The first digits of a session id; the whole id is in its title.
struct Id(SessionId);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.to_string();
        write!(f, "<code title=\"{id}\">{}…</code>", &id[..8])
    }
}

/// How long ago something was. A use of a session is stored once a minute.
struct Ago(SystemTime);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match since(self.0) {
            ago if ago < Duration::from_mins(1) => f.write_str("just now"),
            ago => write!(f, "{} ago", Span(ago)),
        }
    }
}

/// A duration in its two largest units.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ ..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min", seconds / 60),
            seconds @ 3600..86_400 => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            seconds => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use session_runtime::Databag as _;

    use super::*;
    use crate::outage::Outage;

    fn shop() -> Shop {
        Shop { store: Store::Sqlite(PathBuf::from("shop.db")), outage: Some(Outage::default()) }
    }

    fn row() -> Held {
        let cell = |name: &str, value| (name.to_owned(), value);
        Held::Row(vec![
            cell("id", Value::Blob(vec![0xab; 32])),
            cell("state", Value::Blob(vec![0xcd; 300])),
            cell("tenant", Value::Text("<script>".to_owned())),
            cell("user_id", Value::Null),
            cell("revision", Value::Integer(4)),
        ])
    }

    /// Returns every page that a session is shown on.
    fn pages(session: &Session<ShopSession>) -> [String; 4] {
        let shop = shop();
        [
            home(&shop, session, &row()),
            log_in(&shop, session, &ReturnPath::new("/devices")),
            devices(&shop, session, &[]),
            api(&shop, session, "{}"),
        ]
    }

    #[test]
    fn what_a_visitor_types_is_shown_and_not_obeyed() {
        let evil = "<script>'\"&";
        let session = Session::for_test(ShopSession {
            user_id: Some(7),
            ip_addr: None,
            browser: Some(evil.to_owned()),
            tenant: Some(evil.to_owned()),
            notice: Some(evil.to_owned()),
            cart: BTreeMap::from([(evil.to_owned(), 1)]),
            theme: Theme::Dark,
            count: 0,
        });
        for page in pages(&session) {
            // The script of the shop is in a file.
            assert!(!page.contains("<script>") && page.contains("&lt;script&gt;&#39;&quot;&amp;"), "{page}");
        }
        let page = error(&shop(), StatusCode::BAD_REQUEST, Some(evil));
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;&#39;&quot;&amp;"), "{page}");
    }

    #[test]
    fn each_form_has_a_token() {
        let mut session = Session::for_test(ShopSession::defaults());
        let mut checked = 0;
        for user in [None, Some(7)] {
            session.user_id = user;
            session.cart = BTreeMap::from([("tea".to_owned(), 1)]);
            for page in pages(&session) {
                for form in page.split("<form method=\"post\"").skip(1) {
                    let (_, rest) = form.split_once("name=\"csrf_token\" value=\"").expect("a token");
                    assert!(session.verify_csrf(rest.split('"').next().expect("its end")), "{form}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 16, "{checked}");
    }

    #[test]
    fn code_is_shown_as_it_stands_in_the_source() {
        let sources = [include_str!("main.rs"), include_str!("database.rs")];
        let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let sources = sources.map(lines);
        let is_there = |code: &[String]| {
            sources.iter().any(|source| source.windows(code.len()).any(|window| window == code))
        };
        assert!(
            !is_there(&lines("session.log_in(form.user);\nsession.log_out();")),
            "a planted fault is found"
        );
        let mut session = Session::for_test(ShopSession::defaults());
        session.user_id = Some(7);
        let mut shown = 0;
        for page in pages(&session).into_iter().take(3).chain([plain(&shop())]) {
            for code in page.split("<pre class=\"code\"><code>").skip(1) {
                let code = code.split("</code>").next().expect("its end");
                let code = code.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
                let code = code.replace("&#39;", "'").replace("&amp;", "&");
                assert!(is_there(&lines(&code)), "this is not in the source: {code}");
                shown += 1;
            }
        }
        assert!(shown > 14, "{shown}");
        assert!(bag().starts_with("#[derive(Databag)]") && bag().ends_with("count: u64,\n}"), "{}", bag());
    }

    #[test]
    fn headings_are_in_order_and_ids_are_unique() {
        let mut session = Session::for_test(ShopSession::defaults());
        session.user_id = Some(7);
        let errors = [400, 403, 404, 405, 409, 500, 503]
            .map(|status| error(&shop(), StatusCode::from_u16(status).expect("a status"), None));
        for page in pages(&session).into_iter().chain([plain(&shop())]).chain(errors) {
            assert_eq!(page.matches("<h1").count(), 1, "{page}");
            assert!(page.find("<h1") < page.find("<h2").or(Some(usize::MAX)), "{page}");
            let mut ids: Vec<_> =
                page.split(" id=\"").skip(1).filter_map(|id| id.split('"').next()).collect();
            let all = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), all, "{ids:?}");
        }
    }

    #[test]
    fn a_row_is_shown_by_its_columns() {
        let session = Session::for_test(ShopSession { count: 1, ..ShopSession::defaults() });
        let page = home(&shop(), &session, &row());
        assert!(
            page.contains("<code class=\"hex\">abababab…</code> <span class=\"length\">32 bytes"),
            "{page}"
        );
        let state =
            format!("<code class=\"hex\">{}…</code> <span class=\"length\">300 bytes", "cd".repeat(SHOWN));
        assert!(
            page.contains(&state) && page.contains("NULL") && page.contains("id=\"revision\">4<"),
            "{page}"
        );
    }

    #[test]
    fn a_browser_is_named_by_what_it_says() {
        let shown = |agent| Browser(Some(agent)).to_string();
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 Safari/537.36";
        for (agent, name) in [
            (chrome, ">Chrome on Linux<"),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1",
                ">Safari on iPhone<",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
                ">Firefox on Windows<",
            ),
            ("curl/8.5.0", ">curl<"),
            ("", ">unknown browser<"),
        ] {
            assert!(shown(agent).contains(name), "{}", shown(agent));
        }
        assert_eq!(Browser(None).to_string(), "unknown browser");
    }

    #[test]
    fn spans_are_shown_in_the_units_that_matter() {
        let shown = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!(shown(59), "59 s");
        assert_eq!(shown(1799), "29 min");
        assert_eq!(shown(12 * 3600 - 1), "11 h 59 min");
        assert_eq!(shown(14 * 86_400), "14 d 0 h");
    }
}
