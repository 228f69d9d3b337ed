//! The demo shop over HTTP: a process, a database file, cookies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use databag_tests::demo::{Running, Shop, Visitor};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

const KEY: &str = "1e6643f1604cf5280ba8c6617017389469408f35b36f83db53a5901561d9eb38";

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

fn open_shop() -> (TempDir, Running) {
    let folder = folder();
    let shop = Shop::new(SHOP, &folder).start();
    (folder, shop)
}

fn database(folder: &TempDir) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(folder.path().join("shop.db"), flags).expect("there is a database")
}

fn rows(folder: &TempDir) -> i64 {
    let count = database(folder).query_row("SELECT count(*) FROM shop_sessions", [], |row| row.get(0));
    count.expect("there is a table")
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
}

#[test]
fn a_visitor_who_only_reads_has_no_session() {
    let (folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    for path in ["/plain", "/api/session"] {
        let answer = visitor.get(path);
        assert_eq!((answer.status, answer.set_cookie.len()), (200, 0), "{path}");
    }
    // A page with forms sets the cookie that they need.
    assert_eq!(visitor.get("/").set_cookie.len(), 1);
    assert!(visitor.csrf_cookie.is_some() && visitor.cookie.is_none());
    assert_eq!(visitor.session()["is_new"], true);
    assert_eq!(rows(&folder), 0);
}

#[test]
fn the_session_has_the_keys_that_clients_rely_on() {
    let (_folder, shop) = open_shop();
    let session = Visitor::of(&shop).session();
    let keys: Vec<&str> = session.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "browser", "cart", "count", "expires", "id", "ip_addr", "is_new", "notice", "tenant", "theme",
            "user_id"
        ]
    );
    assert_eq!(session["id"].as_str().map(str::len), Some(64));
    assert_eq!(session["ip_addr"], "127.0.0.1");
    assert_eq!(session["cart"], json!({}));
    assert_eq!((&session["theme"], &session["count"]), (&json!("auto"), &json!(0)));
    for nothing in ["notice", "tenant", "user_id"] {
        assert_eq!(session[nothing], Value::Null, "{nothing}");
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let left = u128::from(session["expires"].as_u64().expect("a number")) - now;
    assert!((29 * 60_000..=30 * 60_000).contains(&left), "{left} ms");
}

#[test]
fn a_form_of_a_browser_is_answered_with_a_redirect() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    let forms = [
        ("/login", "user=7", "/"),
        ("/login", "user=7&next=/devices", "/devices"),
        ("/login", "user=7&next=//evil.example", "/"),
        ("/cart", "sku=tea&qty=1", "/#cart"),
        ("/cart/slow", "sku=tea&qty=1", "/#tabs"),
        ("/cart/remove", "sku=tea", "/#cart"),
        ("/theme", "theme=dark", "/#preferences"),
        ("/tenant", "tenant=acme", "/#preferences"),
        ("/count", "", "/#counter"),
        ("/count-plain", "", "/#counter"),
        ("/devices/revoke-others", "", "/devices"),
        ("/logout", "", "/"),
    ];
    for (path, form, page) in forms {
        let answer = visitor.post(path, form);
        assert_eq!((answer.status, answer.location.as_deref()), (303, Some(page)), "{path}: {}", answer.body);
    }
}

#[test]
fn a_form_is_sent_with_the_token_of_its_page_only() {
    let (folder, shop) = open_shop();
    let [mut visitor, mut attacker] = [(); 2].map(|()| Visitor::of(&shop));
    let token_in = |page: &str| {
        let (_, rest) = page.split_once(r#"name="csrf_token" value=""#).expect("a form");
        rest.split('"').next().expect("its end").to_owned()
    };
    let own = token_in(&visitor.get("/").body);
    let others = token_in(&attacker.get("/").body);
    for token in ["", &others, "x"] {
        let answer = visitor.forge("/login", &format!("user=7&csrf_token={token}"));
        assert_eq!(answer.status, 403, "{token}");
        assert!(answer.body.contains("<h1>Refused</h1>"), "{}", answer.body);
    }
    assert_eq!(visitor.forge("/login", "user=7").status, 403);
    assert_eq!(rows(&folder), 0);
    assert_eq!(visitor.forge("/login", &format!("user=7&csrf_token={own}")).status, 303);
    for (page, path) in [("/", "/cart"), ("/devices", "/devices/revoke-others")] {
        assert_eq!(visitor.forge(path, &format!("sku=tea&qty=1&csrf_token={own}")).status, 403, "{path}");
        let token = token_in(&visitor.get(page).body);
        assert_eq!(visitor.forge(path, &format!("sku=tea&qty=1&csrf_token={token}")).status, 303, "{path}");
    }
}

#[test]
fn a_form_of_an_api_client_is_answered_with_the_stored_session() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    let steps = [
        ("/cart", "sku=tea&qty=2", "/cart/tea", json!(2)),
        ("/cart", "sku=tea&qty=3", "/cart/tea", json!(5)),
        ("/cart/remove", "sku=tea", "/cart", json!({})),
        ("/cart/remove", "sku=tea", "/cart", json!({})),
        ("/theme", "theme=dark", "/theme", json!("dark")),
        ("/tenant", "tenant=acme", "/tenant", json!("acme")),
        ("/tenant", "tenant=", "/tenant", Value::Null),
        ("/count", "", "/count", json!(1)),
        ("/count-plain", "", "/count", json!(2)),
        ("/login", "user=-7", "/user_id", json!(-7)),
    ];
    for (path, form, pointer, value) in steps {
        let answered = visitor.api(path, form);
        assert_eq!(answered.pointer(pointer), Some(&value), "{path}");
        assert_eq!(answered["is_new"], false, "{path}");
        let stored = visitor.session();
        assert_eq!(answered, stored, "{path}");
    }
}

#[test]
fn the_page_shows_the_session() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    let page = visitor.get("/").body;
    assert!(page.contains("no password"), "the page says that it is a demo");
    assert!(page.contains(r#"data-theme="auto""#));
    visitor.post("/login", "user=4711");
    visitor.post("/theme", "theme=dark");
    visitor.post("/cart", "sku=Earl%20Grey&qty=3");
    let page = visitor.get("/").body;
    for shown in ["user 4711", r#"data-theme="dark""#, "Added 3 x Earl Grey", "<span>Earl Grey</span>"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
}

#[test]
fn a_notice_is_shown_once() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/cart", "sku=tea&qty=2");
    assert_eq!(visitor.session()["notice"], "Added 2 x tea; there are 2 in your cart.");
    assert_eq!(visitor.session()["notice"], Value::Null);
    visitor.post("/cart", "sku=tea&qty=1");
    assert!(visitor.get("/").body.contains("there are 3 in your cart"));
    assert!(!visitor.get("/").body.contains("there are 3 in your cart"));
}

#[test]
fn bad_input_is_explained_and_changes_nothing() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.api("/cart", "sku=tea&qty=1");
    visitor.session();
    let before = visitor.session();
    let long = format!("sku={}&qty=1", "x".repeat(65));
    let bad = [
        ("/login", "user=bob"),
        ("/login", ""),
        ("/login", "user=99999999999999999999"),
        ("/cart", "sku=tea"),
        ("/cart", "qty=1"),
        ("/cart", "sku=&qty=1"),
        ("/cart", "sku=te%0Aa&qty=1"),
        ("/cart", "sku=tea&qty=0"),
        ("/cart", "sku=tea&qty=-1"),
        ("/cart", "sku=tea&qty=4294967295"),
        ("/cart", &long),
        ("/theme", "theme=pink"),
        ("/theme", ""),
        ("/tenant", "tenant=a%00b"),
    ];
    for (path, form) in bad {
        let answer = visitor.post(path, form);
        assert_eq!(answer.status, 400, "{path} {form}: {}", answer.body);
        assert!(answer.body.len() > 10, "{path} {form}: {:?}", answer.body);
        assert_eq!(visitor.session(), before, "{path} {form}");
    }
}

#[test]
fn bad_input_of_a_new_visitor_leaves_no_row() {
    let (folder, shop) = open_shop();
    let answer = Visitor::of(&shop).post("/cart", "sku=tea&qty=0");
    assert_eq!((answer.status, answer.set_cookie.len()), (400, 0));
    assert_eq!(rows(&folder), 0);
}

#[test]
fn a_cart_holds_at_most_a_hundred_different_items() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    for thing in 0..100 {
        assert_eq!(visitor.post("/cart", &format!("sku=thing-{thing}&qty=1")).status, 303);
    }
    assert_eq!(visitor.post("/cart", "sku=another&qty=1").status, 400);
    assert_eq!(visitor.api("/cart", "sku=thing-0&qty=1")["cart"]["thing-0"], 2);
}

#[test]
fn a_log_in_changes_the_cookie_and_keeps_the_cart() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    let before = visitor.api("/cart", "sku=tea&qty=1");
    let mut thief = visitor.clone();
    let after = visitor.api("/login", "user=7");
    assert_ne!(before["id"], after["id"]);
    assert_eq!(after["cart"], json!({"tea": 1}));
    assert_eq!(thief.session()["cart"], json!({}), "the cookie from before the log-in is dead");
}

#[test]
fn a_log_out_ends_the_session_for_every_copy_of_its_cookie() {
    let (folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/login", "user=7");
    let mut thief = visitor.clone();
    let answer = visitor.post("/logout", "");
    assert!(answer.set_cookie[0].contains("Max-Age=0"), "{:?}", answer.set_cookie);
    assert_eq!(visitor.session()["user_id"], Value::Null);
    assert_eq!(thief.session()["user_id"], Value::Null);
    assert_eq!(rows(&folder), 0);
}

#[test]
fn sessions_survive_a_restart() {
    for end in [Running::stop, Running::kill] {
        let (folder, shop) = open_shop();
        let mut visitor = Visitor::of(&shop);
        visitor.post("/login", "user=7");
        visitor.post("/cart", "sku=tea&qty=2");
        end(shop);
        let shop = Shop::new(SHOP, &folder).start();
        visitor.moves_to(&shop);
        let session = visitor.session();
        assert_eq!((&session["user_id"], &session["cart"]), (&json!(7), &json!({"tea": 2})));
        assert_eq!(session["notice"], "Added 2 x tea; there are 2 in your cart.");
    }
}

#[test]
fn a_copied_cookie_is_anonymous_at_another_address() {
    let folder = folder();
    let shop = Shop::new(SHOP, &folder)
        .env("SHOP_TRUSTED_PROXIES", "127.0.0.1")
        .env("SHOP_HOSTS", "127.0.0.1")
        .start();
    let mut owner = Visitor::of(&shop);
    owner.forwarded_for = Some("203.0.113.9".to_owned());
    let session = owner.api("/login", "user=7");
    assert_eq!(session["ip_addr"], "203.0.113.9");
    let mut thief = owner.clone();
    for address in ["198.51.100.1", "203.0.113.9, 198.51.100.1"] {
        thief.forwarded_for = Some(address.to_owned());
        let stolen = thief.session();
        assert_eq!((&stolen["user_id"], &stolen["is_new"]), (&Value::Null, &json!(true)));
        assert_eq!(thief.get_json("/api/devices").status, 401);
    }
    assert_eq!(owner.session()["user_id"], 7, "the owner is still signed in");
}

#[test]
fn only_a_trusted_proxy_can_state_an_address() {
    let folder = folder();
    let shop = Shop::new(SHOP, &folder).env("SHOP_HOSTS", "127.0.0.1").start();
    let mut visitor = Visitor::of(&shop);
    visitor.forwarded_for = Some("203.0.113.9".to_owned());
    assert_eq!(visitor.session()["ip_addr"], "127.0.0.1");
}

/// The shop serves plain HTTP, and a proxy has the address of this machine for everybody.
#[test]
fn a_shop_under_development_answers_nothing_that_a_proxy_passes_on() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    assert_eq!(visitor.get("/").status, 200);
    visitor.forwarded_for = Some("203.0.113.9".to_owned());
    assert_eq!(visitor.get("/").status, 403);
}

#[test]
fn a_user_sees_and_ends_their_own_sessions_only() {
    let (_folder, shop) = open_shop();
    let [mut phone, mut desk, mut other] = [(); 3].map(|()| Visitor::of(&shop));
    let sent = phone.get("/devices");
    assert_eq!((sent.status, sent.location.as_deref()), (303, Some("/login?next=/devices")));
    let log_in = phone.get("/login?next=/devices").body;
    assert!(log_in.contains(r#"name="next" value="/devices""#), "{log_in}");
    let refused = phone.get_json("/api/devices");
    assert_eq!((refused.status, refused.body.as_str()), (401, r#"{"error":"not_logged_in"}"#));
    let sent = phone.post("/devices/revoke-others", "");
    assert_eq!((sent.status, sent.location.as_deref()), (303, Some("/login")));
    phone.post("/login", "user=7");
    let desk_id = desk.api("/login", "user=7")["id"].as_str().expect("text").to_owned();
    let other_id = other.api("/login", "user=8")["id"].as_str().expect("text").to_owned();

    let devices = phone.get("/api/devices").json();
    let devices = devices.as_array().expect("a list");
    assert_eq!(devices.len(), 2);
    let this: Vec<_> = devices.iter().filter(|device| device["this"] == true).collect();
    assert_eq!(this.len(), 1);
    assert_eq!(this[0]["id"], phone.session()["id"]);
    for device in devices {
        assert_eq!(
            (&device["ip"], &device["browser"]),
            (&json!("127.0.0.1"), &json!("Firefox/145.0 (Linux)"))
        );
        assert!(device["created"].as_u64() <= device["last_used"].as_u64(), "{device}");
        assert!(device["created"].as_u64() < device["expires"].as_u64(), "{device}");
    }
    let page = phone.get("/devices").body;
    for shown in [&desk_id[..8], "Firefox on Linux</span>", "just now"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }

    assert_eq!(phone.post("/devices/revoke", &format!("id={other_id}")).status, 404);
    assert_eq!(other.session()["user_id"], 8);
    assert_eq!(phone.post("/devices/revoke", &format!("id={}", "0".repeat(64))).status, 404);
    assert_eq!(phone.post("/devices/revoke", "id=nonsense").status, 400);

    assert_eq!(phone.post("/devices/revoke", &format!("id={desk_id}")).status, 303);
    assert_eq!(desk.session()["user_id"], Value::Null);
    assert_eq!(phone.session()["user_id"], 7);
}

#[test]
fn a_user_ends_all_their_other_sessions_at_once() {
    let (_folder, shop) = open_shop();
    let mut visitors = [(); 4].map(|()| Visitor::of(&shop));
    for visitor in &mut visitors {
        visitor.post("/login", "user=7");
    }
    let mut other = Visitor::of(&shop);
    other.post("/login", "user=8");
    visitors[0].post("/devices/revoke-others", "");
    assert_eq!(visitors[0].session()["notice"], "3 other devices are signed out.");
    let users = visitors.each_mut().map(|visitor| visitor.session()["user_id"].clone());
    assert_eq!(users, [json!(7), Value::Null, Value::Null, Value::Null]);
    assert_eq!(other.session()["user_id"], 8);
}

#[test]
fn a_user_can_end_the_session_they_are_in() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    let id = visitor.api("/login", "user=7")["id"].as_str().expect("text").to_owned();
    let session = visitor.api("/devices/revoke", &format!("id={id}"));
    assert_eq!((&session["user_id"], &session["is_new"]), (&Value::Null, &json!(true)));
    assert_eq!(visitor.cookie, None);
}

#[test]
fn the_plain_page_sets_no_cookie_and_reads_none() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/login", "user=7");
    for cookie in [visitor.cookie.clone(), Some("shop=nonsense".to_owned()), None] {
        visitor.cookie = cookie;
        let answer = visitor.get("/plain");
        assert_eq!((answer.status, answer.set_cookie.len()), (200, 0));
        assert!(!answer.body.contains("user 7"));
    }
}

#[test]
fn the_cookie_is_for_https_unless_the_shop_is_on_loopback() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    let set = visitor.post("/count", "").set_cookie.remove(0);
    assert!(set.starts_with("shop=") && set.contains("HttpOnly") && !set.contains("Secure"), "{set}");

    let folder = folder();
    let shop = Shop::new(SHOP, &folder).env("SHOP_SECURE", "1").start();
    let set = Visitor::of(&shop).post("/count", "").set_cookie.remove(0);
    for part in ["__Host-shop=", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(set.contains(part), "{part}: {set}");
    }
    assert!(!set.contains("Domain") && !set.contains("Max-Age"), "{set}");
}

#[test]
fn a_session_ends_when_it_has_been_idle_and_at_its_absolute_limit() {
    let folder = folder();
    let shop = Shop::new(SHOP, &folder).env("SHOP_IDLE", "3000ms").env("SHOP_ABSOLUTE", "6s").start();
    let mut idle = Visitor::of(&shop);
    let mut busy = Visitor::of(&shop);
    idle.post("/count", "");
    busy.post("/count", "");
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(500));
        assert_eq!(busy.session()["count"], 1, "a session that is used goes on");
    }
    assert_eq!(idle.session()["count"], 0, "one that is not ends");
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(500));
        busy.session();
    }
    assert_eq!(busy.session()["count"], 0, "none outlives the absolute limit");
}

#[test]
fn the_key_is_generated_once_and_readable_by_its_owner_only() {
    let (folder, shop) = open_shop();
    assert!(shop.printed().contains("shop.key"), "{}", shop.printed());
    let path = folder.path().join("shop.key");
    let key = fs::read_to_string(&path).expect("a key was made");
    assert_eq!(mode(&path), 0o600);
    assert!(!shop.printed().contains(&key));
    shop.stop();
    let shop = Shop::new(SHOP, &folder).start();
    assert!(!shop.printed().contains("shop.key"), "{}", shop.printed());
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), key);
}

#[test]
fn two_shops_that_start_at_once_agree_on_a_key() {
    let folder = folder();
    let shops = thread::scope(|scope| {
        let start = || scope.spawn(|| Shop::new(SHOP, &folder).start());
        [start(), start(), start()].map(|shop| shop.join().expect("the shop starts"))
    });
    let mut visitor = Visitor::of(&shops[0]);
    visitor.post("/login", "user=7");
    for shop in &shops {
        visitor.moves_to(shop);
        assert_eq!(visitor.session()["user_id"], 7);
    }
    let files = fs::read_dir(&folder).expect("the folder is there");
    let keys = files
        .filter(|file| file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().contains("key")));
    assert_eq!(keys.count(), 1);
}

#[test]
fn a_key_in_the_environment_is_used_and_no_file_is_created() {
    let folder = folder();
    let start = |key| Shop::new(SHOP, &folder).env("SESSION_KEY", key).start();
    let shop = start(KEY.to_owned());
    assert!(!folder.path().join("shop.key").exists());
    let mut visitor = Visitor::of(&shop);
    visitor.post("/login", "user=7");
    shop.stop();

    let shop = start(KEY.replace('8', "9"));
    visitor.moves_to(&shop);
    assert_eq!(visitor.get("/api/session").status, 503, "a missing key does not log the visitor out");
    shop.stop();

    let shop = start(format!("{},{KEY}", KEY.replace('8', "9")));
    visitor.moves_to(&shop);
    assert_eq!(visitor.session()["user_id"], 7, "an older key still opens");
}

#[test]
fn invalid_settings_are_refused_in_one_line() {
    let bad = [
        ("SESSION_KEY", ""),
        ("SESSION_KEY", "secret"),
        ("SESSION_KEY", &KEY[..62]),
        ("SESSION_KEY", &"00".repeat(32)),
        ("SHOP_STORE", "couchdb://127.0.0.1/"),
        ("SHOP_SECURE", "yes"),
        ("SHOP_IDLE", "soon"),
        ("SHOP_IDLE", "0s"),
        ("SHOP_ABSOLUTE", "1m"),
        ("SHOP_TRUSTED_PROXIES", "127.0.0.1,proxy"),
        ("SHOP_DURABILITY", "none"),
        ("SHOP_ADDR", "nowhere"),
        ("RUST_LOG", "shop=loud"),
    ];
    for (name, value) in bad {
        let folder = folder();
        let (exit, said) = Shop::new(SHOP, &folder).env(name, value).refuse();
        assert_eq!(exit.code(), Some(2), "{name}={value}: {said}");
        assert_eq!(
            said.lines().filter(|line| line.starts_with("shop: ")).count(),
            1,
            "{name}={value}: {said}"
        );
        if name == "SESSION_KEY" {
            assert!(said.contains(name), "{said}");
            assert!(value.is_empty() || !said.contains(value), "{said}");
        }
    }
}

#[test]
fn an_address_in_use_is_refused() {
    let (_folder, shop) = open_shop();
    let (exit, said) = {
        let folder = folder();
        Shop::new(SHOP, &folder).env("SHOP_ADDR", shop.url().trim_start_matches("http://")).refuse()
    };
    assert_eq!(exit.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on"), "{said}");
}

#[test]
fn the_database_is_at_the_configured_path_and_readable_by_its_owner_only() {
    let folder = folder();
    let shop = Shop::new(SHOP, &folder).env("SHOP_STORE", "sqlite:other.db").start();
    Visitor::of(&shop).post("/count", "");
    for file in ["other.db", "other.db-wal", "other.db-shm"] {
        assert_eq!(mode(folder.path().join(file)), 0o600, "{file}");
    }
    assert!(!folder.path().join("shop.db").exists());
}

#[test]
fn it_runs_without_a_database() {
    for store in ["memory:", "cookie:"] {
        let folder = folder();
        let shop = Shop::new(SHOP, &folder).env("SHOP_STORE", store).start();
        assert!(shop.printed().contains(store.trim_end_matches(':')), "{}", shop.printed());
        let mut visitor = Visitor::of(&shop);
        visitor.api("/cart", "sku=tea&qty=2");
        visitor.api("/login", "user=7");
        visitor.api("/theme", "theme=dark");
        assert_eq!(visitor.api("/count", "")["count"], 1);
        let session = visitor.session();
        assert_eq!(
            [&session["user_id"], &session["theme"], &session["cart"]["tea"]],
            [&json!(7), &json!("dark"), &json!(2)],
            "{store}"
        );
        // Sessions in cookies cannot be listed: the page needs a store that keeps rows.
        let devices = if store == "memory:" { 200 } else { 500 };
        let page = visitor.get("/devices");
        assert_eq!(page.status, devices, "{store}");
        assert_eq!(page.body.contains("<h1>That failed</h1>"), devices == 500, "{}", page.body);
        let mut copy = visitor.clone();
        assert_eq!(visitor.api("/logout", "")["is_new"], true);
        assert_eq!(copy.session()["is_new"], true, "{store}");
        assert!(!folder.path().join("shop.db").exists());
        shop.stop();
    }
}

#[test]
fn the_table_has_columns_that_people_can_read() {
    let (folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/tenant", "tenant=acme");
    let session = visitor.api("/login", "user=7");
    let database = database(&folder);
    let mut columns =
        database.prepare("SELECT name, type FROM pragma_table_info('shop_sessions')").expect("SQL");
    let columns: Vec<(String, String)> = columns
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .expect("a table");
    let columns: Vec<_> = columns.iter().map(|(name, ty)| (name.as_str(), ty.as_str())).collect();
    assert_eq!(
        columns,
        [
            ("id", "BLOB"),
            ("state", "BLOB"),
            ("user_id", "INTEGER"),
            ("ip_addr", "TEXT"),
            ("created", "INTEGER"),
            ("expiration", "INTEGER"),
            ("revision", "INTEGER"),
            ("tenant", "TEXT"),
        ]
    );
    let row: (String, i64, String, String, i64) = database
        .query_row("SELECT hex(id), user_id, ip_addr, tenant, expiration FROM shop_sessions", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .expect("one row");
    let id = session["id"].as_str().expect("text").to_uppercase();
    let expires = session["expires"].as_i64().expect("a number");
    assert_eq!(row, (id, 7, "127.0.0.1".to_owned(), "acme".to_owned(), expires));
}

#[test]
fn errors_are_pages_for_people_and_json_for_programs() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/login", "user=7");
    let absent = format!("id={}", "0".repeat(64));
    let people = [
        (404, "There is nothing here", visitor.get("/nowhere")),
        (405, "This address does not take that kind of request", visitor.get("/cart")),
        (403, "Refused", visitor.forge("/count", "csrf_token=x")),
        (404, "you have no such session", visitor.post("/devices/revoke", &absent)),
        (400, "qty: add at least one", visitor.post("/cart", "sku=tea&qty=0")),
        (413, "The shop does not understand", visitor.post("/cart", &"x".repeat(20_000))),
    ];
    for (status, said, answer) in people {
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.starts_with("<!doctype html>") && answer.body.contains(said), "{}", answer.body);
        assert!(!answer.body.contains("user 7"), "the page knows no session");
    }
    let programs = [
        (404, json!({"error": "not_found"}), visitor.get_json("/nowhere")),
        (405, json!({"error": "method_not_allowed"}), visitor.get_json("/cart")),
        (
            404,
            json!({"error": "not_found", "detail": "you have no such session"}),
            visitor.try_api("/devices/revoke", &absent).expect("it answers"),
        ),
        (
            400,
            json!({"error": "bad_request", "detail": "qty: add at least one"}),
            visitor.try_api("/cart", "sku=tea&qty=0").expect("it answers"),
        ),
    ];
    for (status, said, answer) in programs {
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(serde_json::from_str::<Value>(&answer.body).expect("JSON"), said);
    }
}

/// The shop is slow on purpose: the log-out is answered while the other request waits. On a machine where it is not, the
/// request is served, and sent again.
#[test]
fn a_request_whose_session_was_ended_meanwhile_is_told_so() {
    let (_folder, shop) = open_shop();
    for is_browser in [true, false] {
        let answer = (0..10).find_map(|_| {
            let mut visitor = Visitor::of(&shop);
            visitor.api("/login", "user=7");
            let mut tab = visitor.clone();
            let slow = thread::spawn(move || {
                if is_browser {
                    tab.post("/cart/slow", "sku=tea&qty=1")
                } else {
                    tab.try_api("/cart/slow", "sku=tea&qty=1").expect("it answers")
                }
            });
            thread::sleep(Duration::from_millis(300));
            visitor.api("/logout", "");
            let answer = slow.join().expect("it is answered");
            (answer.status == 409).then_some(answer)
        });
        let body = answer.expect("409").body;
        let said = if is_browser { "The session has ended meanwhile" } else { r#"{"error":"conflict"}"# };
        assert!(body.contains(said), "{body}");
    }
}

#[test]
fn two_tabs_that_collide_lose_nothing() {
    let (folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.api("/count", "");
    let revision = || {
        let revision =
            database(&folder).query_row("SELECT revision FROM shop_sessions", [], |row| row.get(0));
        revision.expect("there is one row")
    };
    let before: i64 = revision();
    let answers = thread::scope(|scope| {
        let tabs = ["tea", "coffee"].map(|sku| {
            let mut tab = visitor.clone();
            scope.spawn(move || tab.api("/cart/slow", &format!("sku={sku}&qty=1")))
        });
        tabs.map(|tab| tab.join().expect("it is answered"))
    });
    assert_eq!(answers.each_ref().map(|answer| &answer["found"]), [&json!(0), &json!(0)], "they collide");
    assert_eq!(revision(), before + 2);
    assert_eq!(visitor.session()["cart"], json!({"coffee": 1, "tea": 1}));
}

#[test]
fn an_outage_is_a_503_after_which_the_visitor_is_signed_in() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/login", "user=7");
    visitor.session();
    assert_eq!(visitor.forge("/outage", "").status, 403, "it takes a token");
    assert_eq!(visitor.get("/").status, 200);
    assert_eq!(visitor.post("/outage", "").status, 303);
    let cookie = visitor.cookie.clone();
    for path in ["/", "/devices", "/api", "/api/session"] {
        let answer = visitor.get(path);
        assert_eq!((answer.status, answer.retry_after.is_some(), answer.set_cookie.len()), (503, true, 0));
        assert!(answer.body.contains("You are still signed in"), "{path}: {}", answer.body);
        assert!(answer.body.contains(r#"action="/outage/end""#), "{path}: {}", answer.body);
        let answer = visitor.get_json(path);
        assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"error":"service_unavailable"}"#));
    }
    assert_eq!(visitor.post("/count", "").status, 503);
    let mut newcomer = Visitor::of(&shop);
    assert_eq!(newcomer.get("/").status, 200, "there is no session to load");
    for served in ["/plain", "/style.css", "/shop.js", "/icon.svg"] {
        assert_eq!(visitor.get(served).status, 200, "{served}");
    }
    assert_eq!(visitor.forge("/outage/end", "").status, 303);
    assert_eq!(visitor.cookie, cookie);
    assert_eq!(visitor.session()["user_id"], 7);
}

#[test]
fn a_shop_in_production_has_no_switch() {
    let folder = folder();
    let shop = Shop::new(SHOP, &folder).env("SHOP_SECURE", "1").start();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/login", "user=7");
    assert!(!visitor.get("/").body.contains(r#"action="/outage""#));
    for path in ["/outage", "/outage/end"] {
        assert_eq!(visitor.post(path, "").status, 404, "{path}");
    }
    assert_eq!(visitor.session()["user_id"], 7);
}

#[test]
fn a_visitor_sees_their_row_as_the_file_has_it() {
    let (folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    assert!(visitor.get("/").body.contains("a visitor who only reads has no row"));
    visitor.post("/tenant", "tenant=acme");
    visitor.post("/cart", "sku=oolong&qty=1");
    visitor.session();
    let query = "SELECT lower(hex(substr(state, 1, 16))), length(state), revision FROM shop_sessions";
    let (state, length, revision): (String, i64, i64) = database(&folder)
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("one row");
    let page = visitor.get("/").body;
    let (_, row) = page.split_once("What the database holds").expect("the section");
    for shown in [state, format!("{length} bytes"), format!(">{revision}<"), "acme".to_owned()] {
        assert!(row.contains(&shown), "{shown}: {row}");
    }
    assert!(!row.contains("oolong"), "{row}");
    shop.stop();

    let shop = Shop::new(SHOP, &folder).env("SHOP_STORE", "memory:").start();
    visitor = Visitor::of(&shop);
    visitor.post("/count", "");
    assert!(visitor.get("/").body.contains("are in <code>memory</code>"));
}

#[test]
fn a_session_that_is_to_be_remembered_has_a_cookie_with_a_date() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    let set = visitor.post("/login", "user=7").set_cookie.remove(0);
    assert!(!set.contains("Max-Age"), "{set}");
    let set = visitor.post("/login", "user=7&remember=true").set_cookie.remove(0);
    let (_, seconds) = set.split_once("Max-Age=").expect("a date");
    let days = seconds.parse::<f64>().expect("the last attribute") / 86_400.0;
    assert!((29.9..=30.0).contains(&days), "{set}");
}

#[test]
fn pages_take_nothing_from_elsewhere_and_nothing_inline() {
    let (_folder, shop) = open_shop();
    let mut visitor = Visitor::of(&shop);
    visitor.post("/login", "user=7");
    for path in ["/", "/devices", "/api", "/plain", "/login", "/nowhere"] {
        let page = visitor.get(path).body;
        for inline in ["<style", " style=", " onclick=", "javascript:", "src=\"http", "<script>"] {
            assert!(!page.contains(inline), "{path}: {inline}");
        }
    }
}

/// Returns the files of a folder that contain a text.
fn leaks(folder: &Path, needle: &[u8], allowed: &[&str]) -> Vec<String> {
    let files = fs::read_dir(folder).expect("the folder is there").map(|file| file.expect("a file"));
    let names = files.map(|file| file.file_name().into_string().expect("text"));
    names
        .filter(|name| !allowed.contains(&name.as_str()))
        .filter(|name| {
            let bytes = fs::read(folder.join(name)).expect("the file can be read");
            bytes.windows(needle.len()).any(|window| window == needle)
        })
        .collect()
}

#[test]
fn no_secret_and_no_cart_is_found_in_the_database_its_log_or_the_logs() {
    let folder = folder();
    let shop = Shop::new(SHOP, &folder).env("RUST_LOG", "trace").start();
    let mut visitor = Visitor::of(&shop);
    let mut tokens = Vec::new();
    visitor.post("/cart", "sku=oolong-from-anxi&qty=2");
    tokens.push(visitor.token().to_owned());
    visitor.post("/login", "user=7");
    tokens.push(visitor.token().to_owned());
    visitor.post("/tenant", "tenant=acme-and-sons");
    visitor.get("/");
    visitor.post("/cart", "sku=oolong-from-anxi&qty=0");
    visitor.get("/api/devices");
    // Refused input is not logged either.
    let mut stranger = Visitor::of(&shop);
    stranger.cookie = Some(format!("shop={}", "A".repeat(43)));
    stranger.get("/");
    stranger.cookie = Some("shop=made-up-by-a-stranger".to_owned());
    stranger.get("/");
    tokens.extend(["A".repeat(43), "made-up-by-a-stranger".to_owned()]);

    let key = fs::read_to_string(folder.path().join("shop.key")).expect("a key was made");
    let raw_key: Vec<u8> =
        (0..32).map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).expect("hex")).collect();
    let check = |when: &str| {
        let leaks = |needle: &[u8]| leaks(folder.path(), needle, &["shop.key"]);
        for token in &tokens {
            assert_eq!(leaks(token.as_bytes()), [""; 0], "a token is found {when}");
        }
        assert_eq!(leaks(b"oolong-from-anxi"), [""; 0], "a cart is found {when}");
        assert_eq!(leaks(key.as_bytes()), [""; 0], "the key is found {when}");
        assert_eq!(leaks(&raw_key), [""; 0], "the key is found {when}");
        // The search finds a text that is there.
        assert!(!leaks(b"CREATE TABLE").is_empty());
    };
    let log = fs::read_to_string(folder.path().join("log")).expect("there is a log");
    assert!(log.contains("TRACE"), "everything is logged: {log}");
    assert!(folder.path().join("shop.db-wal").exists());
    check("while the shop runs");
    visitor.post("/logout", "");
    shop.stop();
    check("when it has stopped");
}
