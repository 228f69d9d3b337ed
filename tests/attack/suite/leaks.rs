//! What caches, logs, errors, files and memory show.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use session_runtime::Keyring;

use super::bags::{Bag as _, Shop};
use super::case::cases;
use super::client::{Reply, Visitor};
use super::record::{hex, unhex};
use super::stores::Setup;
use super::target::{SECRET, Target, is_victim, row_of, victim};

cases! {
    "a cache keeps a log-in" [14] All => uncached(|v| Box::pin(v.put("/login", "victim")));
    "a cache keeps a first visit" [14] All => uncached(|v| Box::pin(v.post("/add/tea")));
    "a cache keeps a rotation" [14] All => uncached(|v| Box::pin(v.post("/rotate")));
    "a cache keeps a log-out" [14] All => uncached(|v| Box::pin(v.post("/logout")));
    "a cache keeps an error that sets a cookie" [14] All => uncached_error();
    "a cache keeps a page that only extends the session (CVE-2023-30861)" [14] All => varied();
    "a cache keeps what the handler wants cached" [14] All => cached_by_handler();
    "a cache at the edge keeps what the handler wants cached" [30] All => cached_at_edge();
    "the logs of a whole life" [13] All => logs();
    "the logs of refused cookies" [13] All => logs_of_refused();
    "the logs of a row that was tampered with" [13] Rows => logs_of_tampered();
    "the logs of a store that is down" [13] Rows => logs_of_down();
    "the logs and the answer of a panic" [13] All => panicked();
    "the body of an error" [13] All => bodies();
    "the body of a page after a log-out" [4 13] All => nothing_left();
    "Debug of a session and its parts" [13] All => debug();
    "Debug of a row and its values" [32] Rows => debug_of_row();
    "Debug of a setting and its errors" [13] Any => debug_of_settings();
    "the rows of the database" [13] Rows => states();
    "the files of the database" [13] Sqlite => files();
    "the modes of the database's files" [19] Sqlite => modes();
    "the modes of a file that others could read" [19] Sqlite => opened_up();
    "the database keeps a log of its own" [17] Sqlite => write_ahead_log();
    "the version of SQLite" [20] Sqlite => version();
    "the memory of a process after a session's end" [32] Any => memory();
}

type Sent<'a> = futures_util::future::LocalBoxFuture<'a, Reply>;

/// A cache that kept an answer with a cookie would give one visitor's session to the next.
fn is_not_cached(reply: &Reply) {
    assert!(!reply.set_cookies().is_empty(), "the case sends a cookie: {reply:?}");
    assert_eq!(reply.all("cache-control"), ["no-store"], "{reply:?}");
    assert!(varies(reply), "{reply:?}");
}

fn varies(reply: &Reply) -> bool {
    reply
        .all("vary")
        .iter()
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("cookie"))
}

/// A stranger does it, and a visitor who has a session. At least one of the answers sets a cookie.
async fn uncached(target: &Target, act: for<'a> fn(&'a Visitor<'a>) -> Sent<'a>) {
    let (stranger, visitor) = (Visitor::new(target), Visitor::new(target));
    visitor.does("/add/milk", "").await;
    let replies = [act(&stranger).await, act(&visitor).await];
    assert!(replies.iter().all(varies), "{replies:?}");
    let (set, _): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| !reply.set_cookies().is_empty());
    assert!(!set.is_empty(), "{replies:?}");
    set.into_iter().for_each(is_not_cached);
}

async fn uncached_error(target: &Target) {
    let reply = Visitor::new(target).post("/fail").await;
    assert_eq!(reply.status, 400);
    is_not_cached(&reply);
}

/// The page is the visitor's own, whether or not it sets a cookie.
async fn varied(target: &Target) {
    let victim = victim(target).await;
    target.parts.clock.advance(std::time::Duration::from_mins(10));
    for path in ["/look", "/read", "/account"] {
        let reply = victim.get(path).await;
        assert!(varies(&reply), "{path}: {reply:?}");
        if !reply.set_cookies().is_empty() {
            is_not_cached(&reply);
        }
    }
    assert!(varies(&Visitor::new(target).get("/look").await), "a stranger's page is a stranger's");
}

async fn cached_by_handler(target: &Target) {
    let reply = Visitor::new(target).post("/cached").await;
    is_not_cached(&reply);
    assert!(
        reply.all("vary").iter().any(|value| value.contains("Accept")),
        "the handler's is kept: {reply:?}"
    );
}

async fn cached_at_edge(target: &Target) {
    let reply = Visitor::new(target).post("/cached").await;
    for header in ["cdn-cache-control", "surrogate-control"] {
        assert!(reply.all(header).iter().all(|value| value.contains("no-store")), "{reply:?}");
    }
}

/// Every case checks the log for tokens; this one has everything that could be logged.
async fn logs(target: &Target) {
    let victim = victim(target).await;
    for (path, text) in
        [("/notice", SECRET), ("/rotate", ""), ("/count", ""), ("/tenant", "acme"), ("/remember", "")]
    {
        victim.does(path, text).await;
    }
    target.note_secret(&victim.get("/csrf").await.body);
    victim.does("/logout", "").await;
    target.keeps_its_secrets().expect("nothing is logged");
}

async fn logs_of_refused(target: &Target) {
    let victim = victim(target).await;
    for cookie in [
        format!("{}x", victim.cookie()),
        "a-secret-of-the-visitors-own".to_owned(),
        super::target::invented(30).0,
    ] {
        target.note_secret(&cookie);
        Visitor::with(target, &cookie).get("/read").await;
    }
    target.keeps_its_secrets().expect("nothing is logged");
}

async fn logs_of_tampered(target: &Target) {
    let victim = victim(target).await;
    let (rows, original) = (target.rows().await, row_of(&victim).await);
    for at in [1, 20] {
        let mut row = original.clone();
        row.state[at] ^= 1;
        rows.replace(row).await;
        victim.get("/read").await;
        target.shop.of_user("victim").await.expect("it answers");
    }
    let text = target.logs.text();
    assert!(text.contains("a session is not accepted"), "the case logs: {text}");
    assert!(!text.contains("acme") && !text.contains("\"victim\""), "{text}");
    target.keeps_its_secrets().expect("nothing is logged");
}

async fn logs_of_down(target: &Target) {
    let victim = victim(target).await;
    target.logs.take();
    target.switch().turn(false);
    for path in ["/read", "/look"] {
        victim.get(path).await;
    }
    victim.post("/logout").await;
    Visitor::new(target).put("/login", SECRET).await;
    target.switch().turn(true);
    let text = target.logs.text();
    assert!(text.contains("ERROR") && text.contains(&victim.id().to_string()[..8]), "{text}");
    target.keeps_its_secrets().expect("nothing is logged");
}

/// A handler panics while it holds the session: the connection is closed, and the panic's message shows no value.
async fn panicked(target: &Target) {
    let victim = victim(target).await;
    let line = format!("Cookie: {}={}", Shop::COOKIE, victim.cookie());
    let bytes = super::client::request("POST", "/panic", &[line.as_bytes()], b"");
    let reply = super::client::exchange(target.address, &bytes).await;
    assert!(reply.is_none_or(|reply| reply.status == 500 && !reply.body.contains("pin")));
    target.keeps_its_secrets().expect("nothing is logged");
    assert!(is_victim(&victim).await, "the server serves on, and nothing was stored");
}

async fn bodies(target: &Target) {
    let victim = victim(target).await;
    let mut replies = vec![
        victim.put("/pin", &"p".repeat(70_000)).await,
        Visitor::new(target).get("/account").await,
        victim.put("/pay", "no token").await,
    ];
    if target.has_rows() {
        target.switch().turn(false);
        replies.push(victim.get("/read").await);
        target.switch().turn(true);
    }
    for reply in replies {
        assert!(reply.status >= 400 && reply.body.len() <= 32, "{reply:?}");
        for word in ["pin", "sessions", "store", "Shop", "attack", "switched"] {
            assert!(!reply.body.contains(word), "{reply:?}");
        }
    }
}

async fn nothing_left(target: &Target) {
    let victim = victim(target).await;
    let reply = victim.does("/logout", "").await;
    assert!(!reply.body.contains(SECRET));
    let after = victim.get("/read").await.body;
    assert!(!after.contains(SECRET) && !after.contains("victim") && !after.contains("tea"), "{after}");
}

/// Nothing here may show a token, a key or a value.
fn shows_nothing(target: &Target, shown: &str, token: &str) {
    for secret in [token, SECRET, &target.setup.keys, "acme", "\"victim\""] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

async fn debug(target: &Target) {
    let bag = Shop {
        user_id: Some("victim".to_owned()),
        tenant: Some("acme".to_owned()),
        pin: Some(SECRET.to_owned()),
        ..session_runtime::Databag::defaults()
    };
    let (token, snapshot) = target.shop.create(bag).await.expect("it is stored");
    let loaded = target.shop.load(&token).await.expect("it answers");
    let mut shown = format!(
        "{token:?} {token:#?} {snapshot:?} {snapshot:#?} {loaded:?} {:?} {:?}",
        target.shop,
        snapshot.id()
    );
    if target.has_rows() {
        let condition = Shop::TENANT.eq("acme");
        let found = target.shop.find(Shop::TENANT.eq("acme"));
        shown = format!("{shown} {condition:?} {found:?}");
    }
    shows_nothing(target, &shown, &token.encode());
    assert!(!shown.contains(&snapshot.id().to_string()[..16]), "{shown}");
}

async fn debug_of_row(target: &Target) {
    let victim = victim(target).await;
    let row = row_of(&victim).await;
    let (user, columns) = (row.user.clone(), row.columns.clone());
    let update = session_runtime::store::Update::new(row.id, 1, row.clone());
    let shown = format!("{row:?} {update:?} {user:?} {columns:?}");
    assert!(!shown.contains("victim") && !shown.contains("acme"), "{shown}");
    let state = format!("{:?}", &row.state[..8]);
    assert!(!shown.contains(state.trim_matches(['[', ']'])), "{shown}");
}

async fn debug_of_settings(target: &Target) {
    let keyring = Keyring::parse(&target.setup.keys);
    let shown = format!("{keyring:?}");
    shows_nothing(target, &shown, &target.setup.keys[..16]);
    let setup = Setup { keys: "0".repeat(64), ..target.setup.clone() };
    let Err(error) = target.store.shop(&setup, &target.parts).await else {
        panic!("a key of zeros is accepted")
    };
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(&"0".repeat(8)), "{shown}");
}

/// A thief has a copy of the rows: no cookie can be made of them, and no content read.
async fn states(target: &Target) {
    let victim = victim(target).await;
    let token = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, victim.cookie())
        .expect("base64url");
    let state = row_of(&victim).await.state;
    for secret in [&token[..], victim.cookie().as_bytes(), SECRET.as_bytes(), b"victim", b"tea"] {
        assert!(!state.windows(secret.len()).any(|window| window == secret), "the row shows it");
    }
}

fn database(target: &Target) -> Vec<std::path::PathBuf> {
    let folder = target.folder.as_ref().expect("a folder").path();
    let name = |suffix: &str| folder.join(format!("attack.db{suffix}"));
    ["", "-wal", "-shm"].map(name).into_iter().filter(|path| path.exists()).collect()
}

async fn files(target: &Target) {
    let victim = victim(target).await;
    let token = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, victim.cookie())
        .expect("base64url");
    let mut columns = 0;
    for path in database(target) {
        let bytes = std::fs::read(&path).expect("it is readable");
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        for secret in
            [&token[..], victim.cookie().as_bytes(), SECRET.as_bytes(), target.setup.keys.as_bytes()]
        {
            assert!(!holds(secret), "{} shows a secret", path.display());
        }
        columns += usize::from(holds(b"acme"));
    }
    assert!(columns > 0, "the search finds a column in the clear");
}

#[cfg(unix)]
fn mode(path: &std::path::Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).expect("it is there").permissions())
        & 0o777
}

async fn modes(target: &Target) {
    victim(target).await;
    let files = database(target);
    assert!(files.len() >= 2, "the database and its log");
    for path in files {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

async fn opened_up(target: &Target) {
    let path = target.folder.as_ref().expect("a folder").path().join("open.db");
    drop(rusqlite::Connection::open(&path).expect("a database"));
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, all).expect("it is ours");
    let store = session_runtime::SqliteStore::open(&path).expect("it opens");
    assert_eq!(mode(&path), 0o600);
    drop(store);
}

async fn write_ahead_log(target: &Target) {
    let path = &database(target)[0];
    let raw = rusqlite::Connection::open(path).expect("a database");
    let mode: String = raw.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("a pragma");
    assert_eq!(mode, "wal");
}

/// Older versions lose what a checkpoint races with.
async fn version(_: &Target) {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

/// The variable that makes a process of this program hold a session: see [`holds_a_session_if_told`].
const CHILD: &str = "ATTACK_HOLDS_A_SESSION";
/// What the child writes its token with, so that the pipe does not hold it.
const MASK: u8 = 0x5A;

/// A process makes a session, uses it and ends it. Its memory must not hold the token then.
///
/// What HTTP has read and written is not in it: the buffers of a server belong to the web framework.
async fn memory(_: &Target) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["suite::leaks::holds_a_session_if_told", "--exact", "--nocapture"])
        .env(CHILD, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let masked = lines.find_map(|line| line.split_once("masked ").map(|(_, hex)| hex.to_owned()));
    let masked = masked.expect("the child has a session");
    let token: Vec<u8> = unhex(&masked).iter().map(|byte| byte ^ MASK).collect();
    let raw =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &token).expect("base64url");
    let found = [count_in_memory(child.id(), &token), count_in_memory(child.id(), &raw)];
    child.stdin.take().expect("it is piped").write_all(b"\n").expect("it reads");
    child.wait().expect("it ends");
    assert_eq!(found, [0, 0], "the token is in memory: as text, as bytes");
}

/// Counts where bytes are in the writable memory of a process.
fn count_in_memory(process: u32, bytes: &[u8]) -> usize {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("Linux has it");
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).expect("it is a child of this process");
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, rest) = line.split_once('-').expect("a range");
        let end = rest.split(' ').next().expect("a range");
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        let mut region = vec![0; usize::try_from(end - start).expect("it fits")];
        if memory.read_exact_at(&mut region, start).is_ok() {
            count += region.windows(bytes.len()).filter(|window| *window == bytes).count();
        }
    }
    count
}

/// The child of [`memory`]. Without the variable it does nothing.
#[actix_web::test]
async fn holds_a_session_if_told() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let keyring = Keyring::parse(&Keyring::generate_text()).expect("a key");
    let store = session_runtime::MemoryStore::new();
    let sessions =
        session_runtime::Sessions::<Shop>::builder(store).keyring(keyring).build().await.expect("builds");
    let bag = Shop { user_id: Some("victim".to_owned()), ..session_runtime::Databag::defaults() };
    let (token, snapshot) = sessions.create(bag).await.expect("stored");
    let masked: Vec<u8> = token.encode().bytes().map(|byte| byte ^ MASK).collect();
    assert!(sessions.load(&token).await.expect("answers").is_some());
    sessions.delete(snapshot.id()).await.expect("answers");
    drop((token, snapshot));
    println!("masked {}", hex(&masked));
    std::io::stdin().read_line(&mut String::new()).expect("the parent ends it");
}
