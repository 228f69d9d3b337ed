//! The console: who may enter it, what it shows, and what its forms end.

use std::net::IpAddr;

use actix_web::test::{TestRequest, init_service};
use actix_web::{App, web};
use databag_tests::{Browser, Call, Fault, Logs, Site, Watch, Watched};
use session_runtime::{
    AnyStore, Cleanup, Console, CookieStore, Databag, History, Keyring, Session, SessionId,
    SessionMiddleware, Sessions, SqliteStore,
};

#[derive(Databag)]
#[databag(table = "consoled", cookie = "__Host-consoled", idle = "30m", absolute = "12h")]
struct Shop {
    #[databag(user_id)]
    user_id: Option<String>,
    #[databag(ip_addr)]
    ip_addr: Option<IpAddr>,
    #[databag(user_agent)]
    browser: Option<String>,
    #[databag(column, index)]
    tenant: Option<String>,
    #[databag(column)]
    visits: u32,
    #[databag(column, blind)]
    email: Option<String>,
    #[databag(secret)]
    pin: Option<String>,
    note: String,
    is_admin: bool,
}

const COOKIE: &str = "__Host-consoled";
const BASE: &str = "/admin/sessions";
const EVIL: &str = "\"><script>'&</script>";
const EVIL_IN_QUERY: &str = "%22%3E%3Cscript%3E%27%26%3C%2Fscript%3E";
const ESCAPED: &str = "&quot;&gt;&lt;script&gt;&#39;&amp;&lt;/script&gt;";

struct Office {
    sessions: Sessions<Shop>,
    site: Site,
}

impl Office {
    async fn open() -> Self {
        Self::watched().await.0
    }

    /// Opens the office on a store that can fail.
    async fn watched() -> (Self, Watch) {
        Self::on(SqliteStore::in_memory().expect("a database")).await
    }

    async fn on(store: SqliteStore) -> (Self, Watch) {
        let (store, watch) = Watched::new(store);
        let history = History::new();
        let sessions = Sessions::<Shop>::builder(store)
            .keyring(Keyring::generate())
            .cleanup(Cleanup::Never)
            .on_event(history.observer())
            .build()
            .await
            .expect("good settings");
        (Self::of(sessions, &history).await, watch)
    }

    async fn of(sessions: Sessions<Shop>, history: &History) -> Self {
        let visit = async |mut session: Session<Shop>| {
            session.visits += 1;
            "visited"
        };
        let app = App::new()
            .service(Console::new(BASE, &sessions, history, |viewer: &Shop| viewer.is_admin))
            .route("/visit", web::post().to(visit))
            .wrap(SessionMiddleware::new(sessions.clone()));
        let site = Site::new(init_service(app).await);
        Self { sessions, site }
    }

    async fn begin(&self, bag: Shop) -> SessionId {
        self.sessions.create(bag).await.expect("is stored").1.id()
    }

    /// Returns a browser with a session of this bag.
    async fn browser(&self, bag: Shop) -> Browser {
        let (token, _) = self.sessions.create(bag).await.expect("is stored");
        let browser = self.site.browser();
        browser.set_cookie(COOKIE, &token.encode());
        browser
    }

    async fn admin(&self) -> Browser {
        self.browser(Shop { user_id: Some("root".to_owned()), is_admin: true, ..Shop::defaults() }).await
    }

    async fn is_live(&self, id: SessionId) -> bool {
        self.sessions.get(id).await.expect("answers").is_some()
    }
}

fn user(name: &str) -> Shop {
    Shop { user_id: Some(name.to_owned()), ..Shop::defaults() }
}

fn tenant(name: &str) -> Shop {
    Shop { tenant: Some(name.to_owned()), ..Shop::defaults() }
}

async fn shown(browser: &Browser, page: &str) -> String {
    let answer = browser.get(&format!("{BASE}/{page}")).await;
    assert_eq!(answer.status, 200, "{page}: {}", answer.body);
    answer.body
}

/// Returns how many sessions a list has.
fn listed(page: &str) -> usize {
    page.matches(" scope=\"row\" data-label=\"Session\">").count()
}

#[actix_web::test]
async fn nobody_enters_without_a_session_that_may() {
    let office = Office::open().await;
    let dana = office.begin(user("dana")).await;
    let visitors = [office.site.browser(), office.browser(user("erik")).await];
    for visitor in &visitors {
        for page in ["", "/", "/overview", "/list", "/groups", "/revoke", "/style.css", "/elsewhere"] {
            let answer = visitor.get(&format!("{BASE}{page}")).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (403, "Forbidden"), "{page}");
        }
        let details = visitor.get(&format!("{BASE}/session?id={dana}")).await;
        assert_eq!((details.status.as_u16(), details.body.as_str()), (403, "Forbidden"));
        let form = TestRequest::post().uri(&format!("{BASE}/revoke?id={dana}"));
        assert_eq!(visitor.send(form).await.status, 403);
    }
    assert!(office.is_live(dana).await);
    let admin = office.admin().await;
    for path in [BASE, "/admin/sessions/"] {
        let answer = admin.get(path).await;
        let leads_to = if path == BASE { "./sessions/overview" } else { "./overview" };
        assert_eq!((answer.status.as_u16(), answer.all("location")), (303, vec![leads_to.to_owned()]));
    }
    assert_eq!(admin.get(&format!("{BASE}/elsewhere")).await.status, 404);
}

#[actix_web::test]
async fn a_page_needs_nothing_from_elsewhere_and_runs_no_script() {
    let office = Office::open().await;
    let admin = office.admin().await;
    let dana = office.begin(user("dana")).await;
    let pages = ["overview", "overview?range=day", "list", "groups", "revoke", "revoke?user=dana"];
    for page in pages.into_iter().chain([format!("session?id={dana}").as_str()]) {
        let answer = admin.get(&format!("{BASE}/{page}")).await;
        assert_eq!(answer.status, 200, "{page}");
        let policy = answer.all("content-security-policy").concat();
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; "), "{page}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{page}: {policy}");
        for (header, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(answer.all(header), [value], "{page}");
        }
        for foreign in
            ["//", "<script", "javascript:", " style=", " src=", " onclick=", " onload=", " onerror="]
        {
            assert!(!answer.body.contains(foreign), "{page} has {foreign}");
        }
        assert!(answer.body.contains("<html lang=\"en\">") && answer.body.contains("<h1>"), "{page}");
    }
    let style = admin.get(&format!("{BASE}/style.css")).await;
    assert_eq!(style.all("content-type"), ["text/css; charset=utf-8"]);
    assert!(
        style.body.contains("light dark") && !style.body.contains("url(") && !style.body.contains("@import")
    );
}

#[actix_web::test]
async fn what_a_visitor_chooses_is_shown_and_not_obeyed() {
    let office = Office::open().await;
    let admin = office.admin().await;
    let evil = Some(EVIL.to_owned());
    let agent = Some(format!("{EVIL} Firefox/1.0"));
    let id =
        office.begin(Shop { user_id: evil.clone(), tenant: evil, browser: agent, ..Shop::defaults() }).await;
    for page in [
        "list".to_owned(),
        format!("list?user={EVIL_IN_QUERY}"),
        format!("session?id={id}"),
        "groups?by=user".to_owned(),
        "groups?by=column.tenant".to_owned(),
        format!("revoke?column.tenant={EVIL_IN_QUERY}"),
    ] {
        let page = shown(&admin, &page).await;
        assert!(page.contains(ESCAPED) && !page.contains("<script"), "{page}");
    }
    let answer = admin.get(&format!("{BASE}/list?id={EVIL_IN_QUERY}&column.visits={EVIL_IN_QUERY}")).await;
    assert!(answer.status == 400 && !answer.body.contains("<script"), "{}", answer.body);
    let found = shown(&admin, &format!("list?user={EVIL_IN_QUERY}")).await;
    assert_eq!(listed(&found), 1, "the link of a value finds it: {found}");
}

#[actix_web::test]
async fn only_a_form_of_the_console_ends_a_session() {
    let office = Office::open().await;
    let admin = office.admin().await;
    let dana = office.begin(user("dana")).await;
    let id = dana.to_string();
    let revoke = format!("{BASE}/revoke?id={id}");
    let form = |token: &str| TestRequest::post().uri(&revoke).set_form([("csrf_token", token)]);
    for token in ["", "a-token", &"A".repeat(86)] {
        assert_eq!(admin.send(form(token)).await.status, 403);
    }
    let page = format!("{BASE}/session?id={id}");
    let other = admin.clone().with("sec-fetch-site", "cross-site");
    assert_eq!(other.submit(&page, &revoke, &[]).await.status, 403);
    // A token is not enough: the address says exactly which sessions are ended.
    for unclear in [
        "",
        "?user=",
        "?all=no",
        "?id=nothing",
        "?column.visits=many",
        "?user=dana&all=yes",
        "?user=dana&user=dana",
        "?user=dana&column.gone=acme",
        "?user=dana&none=column.gone",
        "?column.gone=acme&all=yes",
        &format!("?id={}", &id[..8]),
    ] {
        let answer = admin.submit(&page, &format!("{BASE}/revoke{unclear}"), &[("id", &id)]).await;
        assert_eq!(answer.status, 400, "{unclear}");
    }
    assert!(office.is_live(dana).await);
    assert!(!shown(&admin, &format!("session?id={id}")).await.contains("signs you out"));
    let (logs, _guard) = Logs::of_this_thread();
    let ended = admin.submit(&page, &revoke, &[]).await;
    assert_eq!(ended.status, 200);
    assert_eq!(logs.lines(&["INFO", "sessions were ended", &format!("by=\"id={}\"", &id[..8])]).len(), 1);
    assert!(!logs.text().contains(&id[..9]), "{}", logs.text());
    assert!(ended.body.contains("1 session was ended.") && !office.is_live(dana).await, "{}", ended.body);
    assert_eq!(admin.get(&page).await.status, 404);
}

#[actix_web::test]
async fn a_value_with_the_ends_of_lines_is_ended_as_it_is() {
    let office = Office::open().await;
    let admin = office.admin().await;
    let [bare, both] = ["acme\nx", "acme\r\nx"].map(tenant);
    let (bare, both) = (office.begin(bare).await, office.begin(both).await);
    let confirmation = shown(&admin, "revoke?column.tenant=acme%0Ax").await;
    let (_, form) = confirmation.split_once(" action=\"").expect("a form");
    let action = form.split('"').next().expect("its end");
    assert_eq!(action, "revoke?column.tenant=acme%0Ax", "a browser sends ends of lines in forms as CRLF");
    let page = format!("{BASE}/revoke?column.tenant=acme%0Ax");
    assert_eq!(admin.submit(&page, &format!("{BASE}/{action}"), &[]).await.status, 200);
    assert!(!office.is_live(bare).await && office.is_live(both).await);
}

#[actix_web::test]
async fn the_sessions_of_a_user_or_of_a_search_end_together_after_a_confirmation() {
    let office = Office::open().await;
    let admin = office.admin().await;
    for _ in 0..3 {
        office.begin(user("dana")).await;
        office.begin(tenant("acme")).await;
    }
    let erik = office.begin(user("erik")).await;
    for page in ["revoke?user=dana", "revoke?column.tenant=acme"] {
        let confirmation = shown(&admin, page).await;
        assert!(confirmation.contains("<strong>3 sessions match</strong>"), "{confirmation}");
        assert!(confirmation.contains(&format!(" action=\"{page}\"")), "{confirmation}");
        assert!(!confirmation.contains("signs you out"), "{confirmation}");
        let page = format!("{BASE}/{page}");
        assert!(admin.submit(&page, &page, &[]).await.body.contains("3 sessions were ended."));
        assert!(admin.get(&page).await.body.contains("No session matches."));
    }
    assert!(office.is_live(erik).await);
    for page in ["revoke", "revoke?user=root"] {
        assert!(shown(&admin, page).await.contains("signs you out"), "{page}");
    }
    let confirmation = shown(&admin, "revoke").await;
    assert!(confirmation.contains("All 2 sessions"), "{confirmation}");
    assert!(confirmation.contains(" action=\"revoke?all=yes\""), "{confirmation}");
    let revoke = format!("{BASE}/revoke");
    let ended = admin.submit(&revoke, &format!("{revoke}?all=yes"), &[]).await;
    assert!(ended.body.contains("2 sessions were ended."), "{}", ended.body);
    assert_eq!(admin.get(&format!("{BASE}/list")).await.status, 403, "the viewer is signed out too");
}

#[actix_web::test]
async fn a_path_may_end_with_a_slash() {
    let (sessions, history) = (Sessions::<Shop>::for_test(), History::new());
    let app = App::new()
        .service(Console::new("/staff/", &sessions, &history, |_: &Shop| true))
        .wrap(SessionMiddleware::new(sessions.clone()));
    let site = Site::new(init_service(app).await);
    let browser = site.browser();
    let (token, _) = sessions.create(user("dana")).await.expect("is stored");
    browser.set_cookie(sessions.cookie(&token).name(), &token.encode());
    for (page, status) in [("/staff/overview", 200), ("/staff", 303), ("/staff/", 303), ("/elsewhere", 404)] {
        assert_eq!(browser.get(page).await.status, status, "{page}");
    }
}

#[actix_web::test]
async fn the_largest_groups_have_a_chart() {
    let office = Office::open().await;
    let admin = office.admin().await;
    for _ in 0..3 {
        office.begin(tenant("acme")).await;
    }
    let page = shown(&admin, "groups?by=column.tenant").await;
    for line in
        ["acme: 3 at the end, between 3 and 3.", "–: 1 at the end, between 1 and 1.", "history.follow"]
    {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert!(shown(&admin, "groups?by=user").await.contains("root: 1 at the end"));
}

#[actix_web::test]
async fn a_row_that_cannot_be_opened_hides_no_other_and_makes_no_list_long() {
    let folder = tempfile::tempdir().expect("there is room");
    let open = || SqliteStore::open(folder.path().join("sessions.db")).expect("a database");
    let (office, watch) = Office::on(open()).await;
    let admin = office.admin().await;
    for _ in 0..60 {
        office.begin(tenant("acme")).await;
    }
    // Under another key.
    Office::on(open()).await.0.begin(tenant("acme")).await;
    let calls = watch.count(Call::List);
    let page = shown(&admin, "list?column.tenant=acme").await;
    assert_eq!(watch.count(Call::List) - calls, 2, "one count, and one page");
    assert_eq!(listed(&page), 49);
    assert!(page.contains("61 sessions match; ") && page.contains(">Older</a>"), "{page}");
    assert!(page.contains("<code>databag check</code>") && !page.contains("1 to "), "no wrong range: {page}");
    let page = shown(&admin, "list?column.tenant=acme&page=1").await;
    assert!(page.contains("61 sessions match; 51 to 61, the newest first."), "{page}");
}

#[actix_web::test]
async fn the_numbers_are_those_of_the_traffic() {
    let office = Office::open().await;
    let admin = office.admin().await;
    for _ in 0..2 {
        assert!(office.site.browser().post("/visit").await.status.is_success());
    }
    let stranger = office.site.browser();
    stranger.set_cookie(COOKIE, "nonsense");
    stranger.post("/visit").await;
    let dana = office.begin(user("dana")).await;
    office.sessions.delete(dana).await.expect("ends");
    for range in ["hour", "day"] {
        let page = shown(&admin, &format!("overview?range={range}")).await;
        for (name, number) in [
            ("Live now", 4),
            ("Created", 5),
            ("Ended", 1),
            ("Expired", 0),
            ("Not accepted", 1),
            ("Conflicts", 0),
        ] {
            assert!(page.contains(&format!("<dt>{name}</dt><dd>{number}</dd>")), "{name}: {page}");
        }
        for (name, number) in [("revoked", 1), ("signed out", 0), ("malformed", 1), ("sent twice", 0)] {
            assert!(
                page.contains(&format!("<th scope=\"row\">{name}</th><td>{number}</td>")),
                "{name}: {page}"
            );
        }
        // Each chart says in words what it shows, and is there as a table.
        for part in ["<svg viewBox=", " role=\"img\" aria-labelledby=", "<title id=", "<desc id="] {
            assert_eq!(page.matches(part).count(), 4, "{part}");
        }
        assert!(page.contains("created: 5 in all") && page.contains("live: 4 at the end"), "{page}");
        let rows = if range == "hour" { 60 } else { 96 };
        let (_, table) = page.split_once("<details").expect("a table");
        assert_eq!(table.matches("<tr><th scope=\"row\">").count(), rows);
        assert!(
            table.contains(&"<td>–</td>".repeat(7)),
            "nothing is known of the time before the start: {table}"
        );
    }
}

#[actix_web::test]
async fn a_history_that_nothing_fills_says_so() {
    let sessions = Sessions::<Shop>::for_test();
    let office = Office::of(sessions, &History::new()).await;
    let page = shown(&office.admin().await, "overview").await;
    assert!(page.contains("Nothing is counted") && page.contains("<dt>Live now</dt><dd>1</dd>"), "{page}");
}

#[actix_web::test]
async fn a_store_that_does_not_answer_is_said_and_nothing_is_taken_for_ended() {
    let (office, watch) = Office::watched().await;
    let admin = office.admin().await;
    let dana = office.begin(user("dana")).await;
    watch.fail(Call::List, Fault::Down);
    let overview = shown(&admin, "overview").await;
    for known in ["The store does not answer.", "<dt>Live now</dt><dd>–</dd>", "<dt>Created</dt><dd>2</dd>"]
    {
        assert!(overview.contains(known), "{known}: {overview}");
    }
    for page in ["list", "list?id=abcd", "groups", "revoke?user=dana"] {
        let answer = admin.get(&format!("{BASE}/{page}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.all("retry-after")),
            (503, vec!["1".to_owned()]),
            "{page}"
        );
        assert!(
            answer.body.contains("The store does not answer") && !answer.body.contains("No session"),
            "{page}"
        );
        assert!(!answer.all("content-security-policy").is_empty(), "{page}");
    }
    watch.heal();
    watch.fail(Call::Remove, Fault::Down);
    let confirmation = format!("{BASE}/revoke?user=dana");
    let answer = admin.submit(&confirmation, &confirmation, &[]).await;
    assert_eq!(answer.status, 503);
    assert!(office.is_live(dana).await);
}

#[actix_web::test]
async fn sessions_are_found_by_user_address_column_and_the_beginning_of_an_id() {
    let office = Office::open().await;
    let admin = office.admin().await;
    let address = Some(IpAddr::from([203, 0, 113, 7]));
    let dana = office
        .begin(Shop {
            user_id: Some("dana".to_owned()),
            ip_addr: address,
            tenant: Some("acme".to_owned()),
            visits: 3,
            email: Some("dana@example.com".to_owned()),
            ..Shop::defaults()
        })
        .await;
    office.begin(Shop { visits: 3, ..tenant("other") }).await;
    let id = dana.to_string();
    for (search, expected) in [
        ("list", 3),
        ("list?user=dana", 1),
        ("list?user=DANA", 0),
        ("list?user=dana%20", 0),
        ("list?address=203.0.113.7", 1),
        ("list?column.tenant=acme", 1),
        ("list?column.visits=3", 2),
        ("list?column.visits=3&user=dana", 1),
        ("list?column.email=dana%40example.com", 1),
        ("list?none=column.tenant", 1),
        ("list?none=user&column.visits=3", 1),
        (format!("list?id={id}").as_str(), 1),
        (format!("list?id={}", &id[..8]).as_str(), 1),
        (format!("list?id={}", id[..8].to_uppercase()).as_str(), 1),
    ] {
        let page = shown(&admin, search).await;
        assert_eq!(listed(&page), expected, "{search}: {page}");
    }
    let all = shown(&admin, "list").await;
    for part in [">3 sessions, the newest first.<", ">End all 3 sessions …<", " data-label=\"Tenant\">"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let two = shown(&admin, "list?column.visits=3").await;
    assert!(
        two.contains(">2 sessions match, the newest first.<") && two.contains(">End these 2 sessions …<"),
        "{two}"
    );
    let one = shown(&admin, "list?user=dana").await;
    assert!(one.contains(">1 session matches.<") && one.contains(">End this session …<"), "{one}");
    for mistake in [
        "list?column.visits=many",
        "list?address=nowhere",
        "list?id=xyz",
        "list?column.gone=1",
        "list?none=gone",
    ] {
        let answer = admin.get(&format!("{BASE}/{mistake}")).await;
        assert_eq!((answer.status.as_u16(), listed(&answer.body)), (400, 0), "{mistake}");
        assert!(answer.body.contains("role=\"alert\""), "{mistake}");
    }
}

#[actix_web::test]
async fn no_value_of_the_record_and_of_a_blind_column_is_shown() {
    let office = Office::open().await;
    let admin = office.admin().await;
    let id = office
        .begin(Shop {
            user_id: Some("dana".to_owned()),
            email: Some("dana@example.com".to_owned()),
            pin: Some("pin-4711".to_owned()),
            note: "a note in the record".to_owned(),
            ..Shop::defaults()
        })
        .await;
    for page in [
        "list",
        "list?user=dana",
        &format!("session?id={id}"),
        "groups",
        "groups?by=column.email",
        "revoke?user=dana",
    ] {
        let page = shown(&admin, page).await;
        for value in ["dana@example.com", "pin-4711", "a note in the record"] {
            assert!(!page.contains(value), "{value}: {page}");
        }
    }
    let details = shown(&admin, &format!("session?id={id}")).await;
    for field in ["<code>pin</code>", "<code>email</code>", ">hidden<", "the record, and a hash in a column"]
    {
        assert!(details.contains(field), "{field}: {details}");
    }
}

#[actix_web::test]
async fn a_long_list_has_pages_the_newest_first() {
    let office = Office::open().await;
    let admin = office.admin().await;
    for _ in 0..60 {
        office.begin(tenant("acme")).await;
    }
    let first = shown(&admin, "list?column.tenant=acme").await;
    assert_eq!(listed(&first), 50);
    assert!(first.contains("60 sessions match; 1 to 50, the newest first."), "{first}");
    assert!(
        first.contains("href=\"list?column.tenant=acme&amp;page=1\">Older</a>") && !first.contains(">Newer<"),
        "{first}"
    );
    let all = shown(&admin, "list?page=1").await;
    assert!(all.contains(">61 sessions; 51 to 61, the newest first.<"), "{all}");
    let second = shown(&admin, "list?column.tenant=acme&page=1").await;
    assert_eq!(listed(&second), 10);
    assert!(second.contains("&amp;page=0\">Newer</a>") && !second.contains(">Older<"), "{second}");
    assert_eq!(listed(&shown(&admin, "list?page=4000000000").await), 11, "the last page");
    let groups = shown(&admin, "groups?by=column.tenant").await;
    assert!(groups.contains("href=\"list?column.tenant=acme\">acme</a></th><td>60</td>"), "{groups}");
    assert!(groups.contains("href=\"list?none=column.tenant\">none</a></th><td>1</td>"), "{groups}");
}

#[actix_web::test]
async fn a_store_that_was_chosen_by_a_url_may_have_no_lists() {
    let builder = Sessions::<Shop>::builder(AnyStore::from(CookieStore)).keyring(Keyring::generate());
    let office = Office::of(builder.build().await.expect("good settings"), &History::new()).await;
    let admin = office.admin().await;
    for page in ["overview", "list", "groups", "revoke"] {
        let answer = admin.get(&format!("{BASE}/{page}")).await;
        assert_eq!(answer.status, 500, "{page}");
        assert!(
            answer.body.contains("Not with this store") && answer.body.contains("cookie"),
            "{}",
            answer.body
        );
    }
}

#[derive(Databag)]
#[databag(table = "staff", cookie = "__Host-staff")]
struct Staff {
    #[databag(user_id)]
    user_id: Option<i64>,
    may_operate: bool,
}

#[actix_web::test]
async fn the_viewers_may_have_a_bag_of_their_own() {
    let office = Office::open().await;
    let staff = Sessions::<Staff>::for_test();
    let console =
        Console::new("/sessions", &office.sessions, &History::new(), |viewer: &Staff| viewer.may_operate);
    let app =
        App::new().service(web::scope("/admin").service(console)).wrap(SessionMiddleware::new(staff.clone()));
    let site = Site::new(init_service(app).await);
    let dana = office.begin(user("dana")).await;
    let admin_of_the_shop = office.admin().await.on(&site);
    assert_eq!(admin_of_the_shop.get(&format!("{BASE}/list")).await.status, 403);
    let (token, _) = staff.create(Staff { user_id: Some(1), may_operate: true }).await.expect("is stored");
    let operator = site.browser();
    operator.set_cookie("__Host-staff", &token.encode());
    assert_eq!(listed(&shown(&operator, "list").await), 2);
    let page = format!("{BASE}/session?id={dana}");
    assert!(!shown(&operator, "revoke").await.contains("signs you out"), "it is of another bag");
    assert_eq!(operator.submit(&page, &format!("{BASE}/revoke?id={dana}"), &[]).await.status, 200);
    assert!(!office.is_live(dana).await);
}
