//! No bag opens another's sessions, and a table belongs to one bag.

use actix_web::{App, test, web};
use databag_tests::{Logs, Site};
use rusqlite::Connection;
use session_runtime::access::InCookie;
use session_runtime::{
    CookieStore, Databag, Error, Keyring, MemoryStore, Session, SessionMiddleware, Sessions, SqliteStore,
};
use tempfile::TempDir;

use crate::app::{key, keys};

/// Two modules of one program, whose structs have one name.
mod shop {
    #[derive(session_runtime::Databag)]
    #[databag(table = "accounts", cookie = "shop", secure = false)]
    pub(super) struct Account {
        #[databag(user_id)]
        pub(super) user_id: Option<i64>,
    }
}

mod admin {
    #[derive(session_runtime::Databag)]
    #[databag(table = "accounts", cookie = "admin", secure = false)]
    pub(super) struct Account {
        #[databag(user_id)]
        pub(super) user_id: Option<i64>,
    }
}

/// The same two, told apart by their tables or by their names.
macro_rules! bag {
    ($($bag:ident($($attribute:tt)*);)+) => {$(
        #[derive(Databag)]
        #[databag(cookie = "identity", secure = false, $($attribute)*)]
        struct $bag {
            #[databag(user_id)]
            user_id: Option<i64>,
        }
    )+};
}

bag! {
    Shop(name = "Account", table = "shop_accounts");
    Admin(name = "Account", table = "admin_accounts");
    ShopJson(name = "AccountJson", table = "shop_accounts_json", codec = "json");
    AdminJson(name = "AccountJson", table = "admin_accounts_json", codec = "json");
    ShopByName(name = "shop", table = "named_accounts");
    AdminByName(name = "admin", table = "named_accounts");
}

/// Has one more column than the bag whose table it names.
#[derive(Databag)]
#[databag(name = "wider", table = "named_accounts")]
struct Wider {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(column, index)]
    tenant: Option<String>,
}

#[track_caller]
fn refusal<T: Databag>(built: Result<Sessions<T>, Error>) -> String {
    match built {
        Err(Error::Config(reason)) => reason,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is accepted"),
    }
}

fn database(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(folder.path().join("sessions.db")).expect("a database")
}

#[actix_web::test]
async fn two_bags_of_one_name_and_table_are_refused_in_one_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = Sessions::<shop::Account>::builder(database(&folder)).keyring(key()).build().await;
    let shop = shop.expect("the first is accepted");
    let before = shop.check().await.expect("answers");
    let admin = Sessions::<admin::Account>::builder(database(&folder)).keyring(key()).build().await;
    let reason = refusal(admin);
    for part in ["shop::Account", "admin::Account", "`databag-tests/Account`", "`accounts`", "name = \"..\""]
    {
        assert!(reason.contains(part), "{reason}");
    }
    let other_key = Sessions::<admin::Account>::builder(database(&folder)).keyring(Keyring::generate());
    assert!(
        refusal(other_key.build().await).contains("shop::Account"),
        "it would end the sessions of the other"
    );
    assert_eq!(shop.check().await.expect("answers"), before, "nothing is left");
    let again = Sessions::<shop::Account>::builder(database(&folder)).keyring(key()).build().await;
    drop((shop, again.expect("the same bag")));
    let admin = Sessions::<admin::Account>::builder(database(&folder)).keyring(key()).build().await;
    admin.expect("the other is not there any more");
}

#[actix_web::test]
async fn two_bags_of_one_name_and_table_have_a_store_each() {
    let other_folder = tempfile::tempdir().expect("a folder");
    let shop = Sessions::<shop::Account>::builder(MemoryStore::new()).keyring(key()).build().await;
    let shop = shop.expect("the first is accepted");
    let in_memory = Sessions::<admin::Account>::builder(MemoryStore::new()).keyring(key()).build().await;
    let in_memory = in_memory.expect("another memory");
    let in_file = Sessions::<admin::Account>::builder(database(&other_folder)).keyring(key()).build().await;
    let in_file = in_file.expect("another store");
    let (token, _) = shop.create(shop::Account::defaults()).await.expect("is stored");
    for other in [&in_memory, &in_file] {
        assert!(other.load(&token).await.expect("answers").is_none());
        assert_eq!(other.count_all().await.expect("answers"), 0);
    }
    let text = Keyring::generate_text();
    let in_cookies = Sessions::<admin::Account>::builder(CookieStore).keyring(keys(&text)).build().await;
    let _in_cookies = in_cookies.expect("a cookie is no token of a row");
    let twin = Sessions::<shop::Account>::builder(CookieStore).keyring(keys(&text)).build().await;
    assert!(matches!(twin, Err(Error::Config(_))), "a cookie of the one would open as the other's");
    let twin = Sessions::<shop::Account>::builder(CookieStore).keyring(key()).build().await;
    twin.expect("it has another key");
}

#[actix_web::test]
async fn a_table_that_belongs_to_another_bag_is_refused_with_both_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = Keyring::generate_text();
    let shop = Sessions::<ShopByName>::builder(database(&folder)).keyring(keys(&keyring)).build().await;
    let shop = shop.expect("a new table belongs to the first bag");
    let (token, _) = shop.create(ShopByName { user_id: Some(7) }).await.expect("is stored");
    let admin = Sessions::<AdminByName>::builder(database(&folder)).keyring(keys(&keyring)).build().await;
    let reason = refusal(admin);
    for part in ["`named_accounts`", "bag `shop`", "bag is `admin`", "table = \"..\"", "name = \"shop\""] {
        assert!(reason.contains(part), "{reason}");
    }
    let columns = || {
        let database = Connection::open(folder.path().join("sessions.db")).expect("a database");
        let count = "SELECT count(*) FROM pragma_table_info('named_accounts')";
        database.query_row(count, [], |row| row.get::<_, i64>(0)).expect("good SQL")
    };
    let before = columns();
    let wider = Sessions::<Wider>::builder(database(&folder)).keyring(keys(&keyring)).build().await;
    assert!(refusal(wider).contains("bag `shop`"));
    assert_eq!(columns(), before, "a bag that is refused changes nothing");
    drop(shop);
    let again = Sessions::<ShopByName>::builder(database(&folder)).keyring(keys(&keyring)).build().await;
    let again = again.expect("the bag comes back to its table");
    assert_eq!(again.load(&token).await.expect("answers").expect("is live").user_id, Some(7));
}

#[actix_web::test]
async fn a_renamed_struct_that_keeps_its_name_keeps_its_sessions() {
    bag! {
        Customer(name = "databag-tests/Client", table = "renamed");
    }
    mod before {
        #[derive(session_runtime::Databag)]
        #[databag(table = "renamed")]
        pub(super) struct Client {
            #[databag(user_id)]
            pub(super) user_id: Option<i64>,
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = Keyring::generate_text();
    let old = Sessions::<before::Client>::builder(database(&folder)).keyring(keys(&keyring)).build().await;
    let old = old.expect("builds");
    let (token, _) = old.create(before::Client { user_id: Some(7) }).await.expect("is stored");
    drop(old);
    let new = Sessions::<Customer>::builder(database(&folder)).keyring(keys(&keyring)).build().await;
    let new = new.expect("it is the same bag");
    assert_eq!(new.of_user(7).await.expect("answers").len(), 1);
    assert!(new.load(&token).await.expect("answers").is_some());
}

/// Copies the only row of one table into another.
fn copy_row(folder: &TempDir, from: &str, to: &str) {
    let database = Connection::open(folder.path().join("sessions.db")).expect("a database");
    let copied = database.execute(&format!("INSERT INTO {to} SELECT * FROM {from}"), []).expect("good SQL");
    assert_eq!(copied, 1);
}

macro_rules! copied {
    ($one:ident, $other:ident, $($protect:tt)*) => {{
        let folder = tempfile::tempdir().expect("a folder");
        let one = Sessions::<$one>::builder(database(&folder)).$($protect)*.build().await.expect("builds");
        let other = Sessions::<$other>::builder(database(&folder)).$($protect)*.build().await.expect("builds");
        let (token, session) = one.create($one { user_id: Some(7) }).await.expect("is stored");
        copy_row(&folder, $one::SCHEMA.table, $other::SCHEMA.table);
        assert!(one.load(&token).await.expect("answers").is_some());
        assert!(other.load(&token).await.expect("answers").is_none(), "it opens as another bag's");
        assert!(other.get(session.id()).await.expect("answers").is_none());
        assert!(other.of_user(7).await.expect("answers").is_empty());
    }};
}

#[actix_web::test]
async fn a_row_that_is_copied_into_another_table_does_not_open() {
    let keyring = Keyring::generate_text();
    copied!(Shop, Admin, keyring(keys(&keyring)));
    copied!(ShopJson, AdminJson, keyring(keys(&keyring)));
    copied!(Shop, Admin, danger_plaintext());
    copied!(ShopJson, AdminJson, danger_plaintext());
}

#[actix_web::test]
async fn a_sealed_cookie_of_one_bag_is_anonymous_for_another() {
    let keyring = Keyring::generate_text();
    let shop = Sessions::<Shop>::builder(CookieStore).keyring(keys(&keyring)).build().await.expect("builds");
    let admin = Sessions::<Admin>::builder(CookieStore).keyring(keys(&keyring)).build().await;
    let admin: Sessions<Admin, InCookie> = admin.expect("builds");
    let (token, _) = shop.create(Shop { user_id: Some(7) }).await.expect("is sealed");
    assert!(shop.load(&token).await.expect("answers").is_some());
    assert!(admin.load(&token).await.expect("answers").is_none(), "the cookies have one name and one key");
    let page = async |session: Session<Admin>| format!("{:?}", session.user_id());
    let app = App::new().wrap(SessionMiddleware::new(admin)).route("/", web::get().to(page));
    let browser = Site::new(test::init_service(app).await).browser();
    browser.set_cookie("identity", &token.encode());
    assert_eq!(browser.get("/").await.body, "None");
}

#[actix_web::test]
async fn the_innermost_middleware_of_a_bag_wins() {
    let build = async |user_id| {
        let sessions = Sessions::<Shop>::builder(MemoryStore::new()).keyring(key());
        let sessions = sessions.cookie(format!("shop-{user_id}"));
        let sessions = sessions.build().await.expect("builds");
        let (token, _) = sessions.create(Shop { user_id: Some(user_id) }).await.expect("is stored");
        (sessions, token)
    };
    let ((outer, outer_token), (inner, inner_token)) = (build(1).await, build(2).await);
    let page = async |mut session: Session<Shop>, sessions: Sessions<Shop>| {
        let user = session.user_id;
        session.rotate();
        format!("{user:?} {}", sessions.of_user(2).await.expect("answers").len())
    };
    let app = App::new()
        .wrap(SessionMiddleware::new(outer.clone()))
        .service(
            web::scope("/inner").wrap(SessionMiddleware::new(inner.clone())).route("", web::get().to(page)),
        )
        .route("/outer", web::get().to(page));
    let browser = Site::new(test::init_service(app).await).browser();
    browser.set_cookie("shop-1", &outer_token.encode());
    browser.set_cookie("shop-2", &inner_token.encode());
    let answer = browser.get("/inner").await;
    assert_eq!(answer.body, "Some(2) 1");
    let cookies = answer.set_cookies();
    assert!(cookies.len() == 1 && cookies[0].starts_with("shop-2="), "{cookies:?}");
    assert!(inner.load(&inner_token).await.expect("answers").is_none(), "it was rotated");
    assert!(outer.load(&outer_token).await.expect("answers").is_some());
    assert_eq!(browser.get("/outer").await.body, "Some(1) 0");
}

#[actix_web::test]
async fn the_same_middleware_twice_is_refused_by_name() {
    let sessions =
        Sessions::<Shop>::builder(MemoryStore::new()).keyring(key()).build().await.expect("builds");
    let page = async |_: Session<Shop>| "never";
    let inner =
        web::scope("/twice").wrap(SessionMiddleware::new(sessions.clone())).route("", web::get().to(page));
    let app = App::new().wrap(SessionMiddleware::new(sessions)).service(inner);
    let browser = Site::new(test::init_service(app).await).browser();
    let (logs, _guard) = Logs::of_this_thread();
    assert_eq!(browser.get("/twice").await.status, 500);
    assert_eq!(logs.lines(&["ERROR", "identity::Shop", "twice"]).len(), 1, "{}", logs.text());
}
