//! The demo shop in a real browser: headless Chromium, over HTTPS on `localhost`.
//!
//! Needs the packages `chromium` and `chromium-driver` of Debian, which `tests/run` installs:
//! `cargo test -p examples --features servers --test browser`. With `SCREENSHOTS=folder` it writes a picture of each page
//! there, at three widths, light and dark.

mod tls;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use actix_web::{App, HttpServer, Responder, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use databag_tests::chromium::{Chromium, Driver};
use databag_tests::demo::{Running, Shop, Visitor};
use serde::Deserialize;
use serde_json::{Value, json};
use session_runtime::{Databag, Keyring, MemoryStore, Session, SessionMiddleware, Sessions};
use tempfile::TempDir;

use crate::tls::{Https, Identity};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

fn address(shop: &Running) -> SocketAddr {
    shop.url().trim_start_matches("http://").parse().expect("an address")
}

/// A shop in production, over HTTPS.
struct World {
    driver: Driver,
    https: Https,
    identity: Identity,
    _shop: Running,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = folder();
        let shop = Shop::new(SHOP, &folder).env("SHOP_SECURE", "1").start();
        let identity = Identity::new();
        let https = identity.serve(address(&shop));
        Self { driver: Driver::start(), https, identity, _shop: shop, _folder: folder }
    }

    fn browser(&self, profile: &Path) -> Chromium<'_> {
        self.driver.open(profile, &[&self.identity.trust])
    }

    fn open(&self, browser: &Chromium<'_>, path: &str) {
        browser.open(&self.https.url(path));
    }

    /// Signs in as user 7 and waits for the page that says so.
    fn sign_in(&self, browser: &Chromium<'_>, remember: bool) {
        self.open(browser, "/login");
        if remember {
            browser.click("[name=remember]");
        }
        browser.follow("main form button");
        browser.wait_for("You are signed in as user 7.");
    }
}

/// Returns the one cookie of a name.
#[track_caller]
fn cookie(browser: &Chromium<'_>, name: &str) -> Value {
    let mut cookies = browser.cookies(name);
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    cookies.remove(0)
}

#[test]
fn a_notice_is_shown_once_and_a_cart_is_filled_in_two_tabs_at_once() {
    let (world, profile) = (World::new(), folder());
    let browser = world.browser(profile.path());
    world.open(&browser, "/");
    assert_eq!(browser.text("h1").as_deref(), Some("Your session is one Rust struct."));
    assert_eq!(browser.text(".chip").as_deref(), Some("Sign in"));
    world.sign_in(&browser, false);
    assert_eq!(browser.text(".notice").as_deref(), Some("You are signed in as user 7."));
    world.open(&browser, "/");
    assert_eq!((browser.text(".notice"), browser.text(".chip").as_deref()), (None, Some("user 7")));

    // The form waits a second between reading and writing, so both are under way at the same time.
    let first = browser.tab();
    let second = browser.open_tab();
    world.open(&browser, "/");
    for (tab, sku) in [(&first, "mug"), (&second, "kettle")] {
        browser.use_tab(tab);
        browser.run(&format!(
            "const form = document.querySelector('#tabs form'); form.sku.value = '{sku}'; setTimeout(() => form.submit());"
        ));
    }
    for (tab, sku) in [(&first, "mug"), (&second, "kettle")] {
        browser.use_tab(tab);
        let until = SystemTime::now();
        while browser.text(".notice").is_none()
            && browser.text("#items").is_some_and(|items| !items.contains(sku))
        {
            assert!(until.elapsed().is_ok_and(|waited| waited.as_secs() < 60), "{sku} does not come");
        }
    }
    world.open(&browser, "/");
    let items = browser.text("#items").expect("a cart");
    assert!(items.contains("mug") && items.contains("kettle"), "{items}");

    browser.follow("#items button[value=mug]");
    browser.wait_for("mug is not in your cart any more.");
    let items = browser.text("#items").expect("a cart");
    assert!(!items.contains("mug") && items.contains("kettle"), "{items}");
}

#[test]
fn two_requests_of_one_page_collide_and_both_are_stored() {
    let (world, profile) = (World::new(), folder());
    let browser = world.browser(profile.path());
    world.open(&browser, "/");
    assert_eq!(browser.run("return document.querySelector('#tabs button').disabled"), json!(true));
    world.sign_in(&browser, false);
    // On a busy machine the second request may begin after the first has ended.
    let collided = (0..5).any(|_| {
        world.open(&browser, "/");
        let revision =
            || browser.text("#revision").and_then(|text| text.parse::<i64>().ok()).expect("a number");
        let before = revision();
        browser.click("#tabs button");
        browser.wait_for("Both are stored");
        let told = browser.text("#told").expect("it is told");
        assert!(told.contains(&format!("revision {before} became {}", before + 2)), "{told}");
        assert_eq!(revision(), before + 2);
        let items = browser.text("#items").expect("a cart");
        assert!(items.contains("tea") && items.contains("coffee"), "{items}");
        let found: Vec<_> =
            told.lines().filter_map(|line| line.split_once("found ")?.1.split(' ').next()).collect();
        assert_eq!(found.len(), 2, "{told}");
        found[0] == found[1]
    });
    assert!(collided, "no two requests met");
}

#[test]
fn the_browser_keeps_each_cookie_as_it_is_meant() {
    let (world, profile) = (World::new(), folder());
    let browser = world.browser(profile.path());
    world.open(&browser, "/");
    let forms = cookie(&browser, "__Host-shop-csrf");
    assert_eq!(browser.cookies("__Host-shop"), [Value::Null; 0]);
    world.sign_in(&browser, false);
    let session = cookie(&browser, "__Host-shop");
    for cookie in [&forms, &session] {
        let attributes =
            ["secure", "httpOnly", "sameSite", "path", "domain", "session"].map(|name| &cookie[name]);
        assert_eq!(
            attributes,
            [&json!(true), &json!(true), &json!("Lax"), &json!("/"), &json!("localhost"), &json!(true)],
            "{cookie}"
        );
        assert_eq!(cookie["partitionKey"], Value::Null);
    }
    assert_eq!(browser.run("return document.cookie"), json!(""), "no script reads them");
    world.sign_in(&browser, true);
    let session = cookie(&browser, "__Host-shop");
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let days = (session["expires"].as_f64().expect("a date") - now) / 86_400.0;
    assert!((29.0..=30.0).contains(&days), "{session}");
}

#[test]
fn a_session_ends_with_the_browser_unless_it_is_remembered() {
    let (world, profile) = (World::new(), folder());
    for remember in [false, true] {
        let browser = world.browser(profile.path());
        world.sign_in(&browser, remember);
        let token = cookie(&browser, "__Host-shop")["value"].clone();
        browser.quit();

        let browser = world.browser(profile.path());
        let tokens: Vec<_> =
            browser.cookies("__Host-shop").into_iter().map(|cookie| cookie["value"].clone()).collect();
        assert_eq!(tokens, if remember { vec![token] } else { vec![] });
        world.open(&browser, "/");
        let chip = if remember { "user 7" } else { "Sign in" };
        assert_eq!(browser.text(".chip").as_deref(), Some(chip));
        browser.quit();
    }
}

#[test]
fn a_device_is_signed_out_from_another_one() {
    let (world, profiles) = (World::new(), [folder(), folder()]);
    let [phone, desk] = [0, 1].map(|device| world.browser(profiles[device].path()));
    for browser in [&phone, &desk] {
        world.sign_in(browser, false);
    }
    world.open(&desk, "/devices");
    let devices = || desk.run("return document.querySelectorAll('tbody tr').length");
    assert_eq!(devices(), json!(2));
    assert!(
        desk.text("tbody").is_some_and(|text| text.contains("Chrome on Linux")),
        "{:?}",
        desk.text("tbody")
    );
    desk.follow("tbody button");
    desk.wait_for("That device is signed out.");
    assert_eq!(devices(), json!(1));

    world.open(&phone, "/devices");
    assert_eq!(phone.url(), world.https.url("/login?next=/devices"));
    phone.follow("main form button");
    phone.wait_for("You are signed in as user 7.");
    assert_eq!(phone.url(), world.https.url("/devices"));
    world.open(&desk, "/devices");
    assert_eq!(devices(), json!(2));
}

#[test]
fn the_operator_finds_a_session_in_the_console_and_ends_it_by_the_keyboard() {
    let (world, profiles) = (World::new(), [folder(), folder()]);
    let [visitor, desk] = [0, 1].map(|device| world.browser(profiles[device].path()));
    world.sign_in(&visitor, false);
    world.open(&visitor, "/console");
    assert_eq!(visitor.text("h1").as_deref(), Some("For the operator"));

    world.open(&desk, "/login?next=/console");
    desk.follow("main form button");
    assert_eq!(desk.url(), world.https.url("/console/overview"));
    assert_eq!(desk.text("main dl dd").as_deref(), Some("2"), "both are live");
    // The first key leads past the links to the content, and each of the next to a link or a field that can be seen.
    desk.press_tab();
    assert_eq!(desk.run("return document.activeElement.textContent"), json!("To the content"));
    let mut stops = Vec::new();
    for _ in 0..12 {
        desk.press_tab();
        let stop = desk.run(
            "const e = document.activeElement, box = e.getBoundingClientRect(), style = getComputedStyle(e);
             return [e.tagName, box.width > 0 && style.outlineStyle !== 'none'];",
        );
        if stop[0] == json!("BODY") {
            break;
        }
        assert_eq!(stop[1], json!(true), "{stop} has no outline after {stops:?}");
        stops.push(stop[0].clone());
    }
    assert!(stops.len() > 5, "{stops:?}");

    world.open(&desk, "/console/list?user=7");
    assert_eq!(desk.run("return document.querySelectorAll('tbody tr').length"), json!(1));
    desk.follow("tbody th a");
    assert!(desk.text("h1").is_some_and(|text| text.starts_with("Session ")), "{:?}", desk.text("h1"));
    desk.follow("main .button.quiet");
    assert_eq!(desk.text("h1").as_deref(), Some("End sessions"));
    desk.follow("main form button");
    assert_eq!(desk.text("main .summary").as_deref(), Some("1 session was ended."));
    world.open(&visitor, "/");
    assert_eq!(visitor.text(".chip").as_deref(), Some("Sign in"));
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let (world, profile) = (World::new(), folder());
    let other = world.identity.serve(other_site());
    let browser = world.browser(profile.path());
    world.sign_in(&browser, true);
    browser.open(&other.at("127.0.0.1", &format!("/forge?url={}", world.https.url("/count"))));
    browser.follow("button");
    assert_eq!(browser.url(), world.https.url("/count"));
    assert_eq!(browser.text("h1").as_deref(), Some("Refused"));
    world.open(&browser, "/");
    assert_eq!(browser.text(".big").as_deref(), Some("0"));
    browser.follow("#counter button");
    assert_eq!(browser.text(".big").as_deref(), Some("1"), "the same form of the shop's own page counts");
}

#[test]
fn a_script_that_got_into_a_page_does_not_run() {
    let (world, profile) = (World::new(), folder());
    let browser = world.browser(profile.path());
    let run = || {
        browser.run(
            "const script = document.createElement('script'); script.textContent = 'window.ran = true';
             document.body.append(script); return window.ran ?? false;",
        )
    };
    browser.open("about:blank");
    assert_eq!(run(), json!(true));
    for path in ["/", "/plain", "/nowhere"] {
        world.open(&browser, path);
        assert_eq!(run(), json!(false), "{path}");
    }
}

#[test]
fn a_partitioned_cookie_is_another_one_in_the_frame_of_another_site() {
    let (driver, profile, identity) = (Driver::start(), folder(), Identity::new());
    let site = identity.serve(other_site());
    let browser = driver.open(profile.path(), &[&identity.trust]);
    browser.open(&site.url("/visit"));
    browser.wait_for("visit 1");
    browser.open(&site.at("127.0.0.1", &format!("/frame?url={}", site.url("/visit"))));
    let cookies = browser.cookies("__Host-widget");
    let mut sites: Vec<_> =
        cookies.iter().filter_map(|cookie| cookie["partitionKey"]["topLevelSite"].as_str()).collect();
    sites.sort_unstable();
    assert_eq!(sites, ["https://127.0.0.1", "https://localhost"], "{cookies:?}");
    for cookie in &cookies {
        assert_eq!((&cookie["sameSite"], &cookie["secure"]), (&json!("None"), &json!(true)), "{cookie}");
    }
    browser.open(&site.url("/visit"));
    browser.wait_for("visit 2");
}

/// What another site can embed.
#[derive(Databag)]
#[databag(table = "widgets", cookie = "__Host-widget", same_site = "none", partitioned)]
struct Widget {
    visits: u64,
}

async fn visit(mut session: Session<Widget>) -> String {
    session.visits += 1;
    format!("visit {}", session.visits)
}

#[derive(Deserialize)]
struct Target {
    url: String,
}

async fn frame(target: web::Query<Target>) -> impl Responder {
    web::Html::new(format!(r#"<!doctype html><iframe src="{}"></iframe>"#, target.url))
}

async fn forge(target: web::Query<Target>) -> impl Responder {
    web::Html::new(format!(
        r#"<!doctype html><form method="post" action="{}"><button>Win</button></form>"#,
        target.url
    ))
}

/// Starts a site of someone else, for as long as the test runs.
fn other_site() -> SocketAddr {
    let (started, address) = mpsc::channel();
    thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let sessions = Sessions::<Widget>::builder(MemoryStore::new()).keyring(Keyring::generate());
            let sessions = sessions.build().await.expect("it builds");
            let server = HttpServer::new(move || {
                App::new()
                    .wrap(SessionMiddleware::new(sessions.clone()))
                    .route("/visit", web::get().to(visit))
                    .route("/frame", web::get().to(frame))
                    .route("/forge", web::get().to(forge))
            });
            let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a free port");
            started.send(server.addrs()[0]).expect("the test waits");
            server.run().await
        })
    });
    address.recv().expect("it starts")
}

const WIDTHS: [(u32, u32); 3] = [(390, 844), (820, 1180), (1440, 900)];

/// Returns what is wrong with the page, a line each: what is wider than the window, an address broken over lines, a field without a
/// label, text with a contrast below that of WCAG 2 AA.
const FAULTS: &str = r#"
const faults = [];
const width = document.documentElement.clientWidth;
for (const element of document.querySelectorAll("body *")) {
  const box = element.getBoundingClientRect();
  if (box.right > width + 1 && !element.matches("thead *, .unseen, .unseen *, .scroll *")) faults.push(`${element.outerHTML.slice(0, 80)} ends at ${box.right}`);
}
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = rgba(getComputedStyle(e).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const [text, element] = [texts.currentNode.data.trim(), texts.currentNode.parentElement];
  if (!text || element.closest("noscript, script, thead, .unseen, :disabled, datalist, svg title, svg desc")) continue;
  const range = document.createRange();
  range.selectNodeContents(texts.currentNode);
  if (/^\d+\.\d+\.\d+\.\d+$/.test(text) && range.getClientRects().length !== 1) faults.push(`${text} is broken over lines`);
  const style = getComputedStyle(element);
  const [a, b] = [luminance(rgba(element.closest("svg") ? style.fill : style.color)), luminance(ground(element))].sort((a, b) => b - a);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < 4.5) faults.push(`${text.slice(0, 40)} has a contrast of ${contrast.toFixed(2)}`);
}
for (const field of document.querySelectorAll("input:not([type=hidden])")) {
  if (!field.labels.length) faults.push(`${field.outerHTML} has no label`);
}
if (!document.documentElement.lang) faults.push("no language");
return faults;
"#;

/// Puts one fault of each kind on the page.
const PLANTED: &str = r##"
const add = (html, style) => {
  document.querySelector("main").insertAdjacentHTML("beforeend", html);
  Object.assign(document.querySelector("main").lastElementChild.style, style);
};
add("<p>wide</p>", { position: "absolute", width: "3000px" });
add("<p>127.0.0.1</p>", { width: "4ch", overflowWrap: "anywhere" });
add("<p>pale</p>", { color: "#aaa", background: "#fff" });
add("<input>", {});
"##;

/// Below this a page counts as steady (Web Vitals, cumulative layout shift). A busy machine shows a page in parts.
const MOST_SHIFT: f64 = 0.1;

/// Returns by how much content has moved while the page was loaded.
const SHIFT: &str = r#"
return new Promise((resolve) => {
  let shift = 0;
  const note = (entries) => entries.forEach((entry) => (shift += entry.value));
  const observer = new PerformanceObserver((list) => note(list.getEntries()));
  observer.observe({ type: "layout-shift", buffered: true });
  setTimeout(() => { note(observer.takeRecords()); resolve(shift); }, 50);
});
"#;

#[test]
fn every_page_fits_and_is_readable_at_three_widths_light_and_dark() {
    let (home, profile) = (folder(), folder());
    let shop = Shop::new(SHOP, &home);
    let shop = shop.env("SHOP_TRUSTED_PROXIES", "127.0.0.1").env("SHOP_HOSTS", "127.0.0.1").start();
    let driver = Driver::start();
    let browser = driver.open(profile.path(), &[]);
    let url = |path: &str| format!("{}{path}", shop.url());
    let pictures = std::env::var_os("SCREENSHOTS");
    let check = |name: &str, width: u32, scheme: &str| {
        assert_eq!(browser.run(FAULTS), json!([]), "{name} at {width}, {scheme}");
        if let Some(folder) = &pictures {
            let picture = STANDARD.decode(browser.picture()).expect("base64");
            fs::create_dir_all(folder).expect("there is room");
            let file = Path::new(folder).join(format!("{name}-{width}-{scheme}.png"));
            fs::write(file, picture).expect("there is room");
        }
    };
    let look = |name: &str, path: &str| {
        let mut grounds = Vec::new();
        for scheme in ["light", "dark"] {
            for (width, height) in WIDTHS {
                browser.show(width, height, scheme);
                browser.open(&url(path));
                let shift = browser.run(SHIFT).as_f64().expect("a number");
                assert!(shift < MOST_SHIFT, "{name} at {width}, {scheme}: {shift}");
                check(name, width, scheme);
            }
            grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
        }
        grounds
    };

    browser.open(&url("/"));
    browser.run(PLANTED);
    let faults = browser.run(FAULTS).to_string();
    for fault in ["ends at", "is broken over lines", "has a contrast of", "has no label"] {
        assert!(faults.contains(fault), "a planted fault is found: {fault}: {faults}");
    }
    let grounds = look("new", "/");
    assert_ne!(grounds[0], grounds[1], "dark by preference");
    look("login", "/login?next=/devices");
    browser.open(&url("/login"));
    browser.follow("main form button");
    let mut elsewhere = Visitor::of(&shop);
    elsewhere.forwarded_for = Some("2001:db8:85a3:8d3:1319:8a2e:370:7348".to_owned());
    elsewhere.post("/login", "user=7");
    browser.open(&url("/"));
    browser.follow("#cart form[action='/cart'] button");
    browser.open(&url("/"));
    browser.fill("#cart input[name=sku]", "a rather long name of a thing that somebody wants to buy, loose");
    browser.follow("#cart form[action='/cart'] button");
    for (width, height) in WIDTHS {
        browser.show(width, height, "light");
        browser.open(&url("/"));
        browser.follow("#counter button");
        browser.click("#tabs button");
        browser.wait_for("Both are stored");
        check("collided", width, "light");
        browser.follow("#cart form[action='/cart'] button");
        check("notice", width, "light");
    }
    for (name, path) in [
        ("home", "/"),
        ("devices", "/devices"),
        ("api", "/api"),
        ("plain", "/plain"),
        ("404", "/nowhere"),
        ("405", "/cart"),
    ] {
        look(name, path);
    }

    look("operator", "/console");
    browser.open(&url("/login?next=/console"));
    browser.follow("main form button");
    for (name, path) in [
        ("console-overview", "/console/overview"),
        ("console-day", "/console/overview?range=day"),
        ("console-list", "/console/list"),
        ("console-search", "/console/list?user=x"),
        ("console-groups", "/console/groups?by=address"),
        ("console-end", "/console/revoke?user=7"),
    ] {
        let grounds = look(name, path);
        assert_ne!(grounds[0], grounds[1], "{name} is dark by preference");
    }
    browser.open(&url("/console/list?user=7"));
    let session = browser.run("return document.querySelector('tbody th a').getAttribute('href')");
    look("console-session", &format!("/console/{}", session.as_str().expect("a link")));
    browser.open(&url("/login"));
    browser.follow("main form button");

    browser.open(&url("/"));
    browser.follow("#preferences button[value=light]");
    let chosen = look("chosen", "/");
    assert_eq!(chosen, [grounds[0].clone(), grounds[0].clone()], "what was chosen goes first");
    browser.follow("#preferences button[value=auto]");

    browser.open(&url("/"));
    browser.follow("#outage button");
    assert_eq!(browser.text("h1").as_deref(), Some("The database does not answer"));
    look("503", "/");
    browser.follow(".banner button");
    assert_eq!((browser.url(), browser.text(".chip").as_deref()), (url("/#outage"), Some("user 7")));
}
