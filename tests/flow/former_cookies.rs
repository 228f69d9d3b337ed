//! A deployment that changes the cookie: a browser keeps the former one beside the new one.

use actix_web::web;
use databag_tests::{Browser, Logs, Site};
use session_runtime::{
    Databag, Error, FormerCookie, Rejection, Session, SessionMiddleware, SessionRef, Sessions,
};

use crate::app::{
    COOKIE, Shop, ShopBuilder, World, key, log_in, log_out, rejected, shop_in, shop_with, site,
};

type Change = fn(ShopBuilder) -> ShopBuilder;

/// A change of the cookie.
struct Deployment {
    what: &'static str,
    before: Change,
    after: Change,
    former: FormerCookie,
}

/// The changes that leave two cookies of one name.
fn deployments() -> Vec<Deployment> {
    let shop = || FormerCookie::named("shop");
    let (at_root, at_path): (Change, Change) = (|b| b.cookie("shop"), |b| b.cookie("shop").path("/shop"));
    let in_domain: Change = |b| b.cookie("shop").domain("example.com");
    let partitioned: Change = |b| b.cookie("shop").partitioned(true);
    let [path, domain, partition] =
        [shop().path("/shop"), shop().domain("Example.com"), shop().partitioned(true)];
    vec![
        Deployment { what: "path, wider", before: at_path, after: at_root, former: path },
        Deployment { what: "path, narrower", before: at_root, after: at_path, former: shop() },
        Deployment { what: "domain, narrower", before: in_domain, after: at_root, former: domain },
        Deployment { what: "domain, wider", before: at_root, after: in_domain, former: shop() },
        Deployment { what: "no longer partitioned", before: partitioned, after: at_root, former: partition },
        Deployment { what: "partitioned", before: at_root, after: partitioned, former: shop() },
    ]
}

async fn pages(world: &World) -> Site {
    let me = async |session: SessionRef<Shop>| format!("{:?}", session.user_id());
    site!(world.sessions; "/shop/me" => me, "/shop/login/{user}" => log_in, "/shop/logout" => log_out)
}

async fn redeploy(world: World, configure: impl FnOnce(ShopBuilder) -> ShopBuilder) -> World {
    let World { folder, key, .. } = world;
    shop_in(folder, &key, configure).await
}

async fn user(browser: &Browser) -> String {
    browser.get("/shop/me").await.body
}

#[actix_web::test]
async fn a_log_in_removes_the_former_cookie() {
    for Deployment { what, before, after, former } in deployments() {
        let world = shop_with(before).await;
        let browser = pages(&world).await.browser();
        browser.post("/shop/login/7").await;
        assert_eq!(user(&browser).await, "Some(7)", "{what}");

        let world = redeploy(world, |builder| after(builder).former_cookie(former)).await;
        let browser = browser.on(&pages(&world).await);
        assert_eq!(user(&browser).await, "Some(7)", "{what}: the name is the same");
        let former = browser.cookie("shop").expect("the former cookie");
        browser.post("/shop/login/8").await;
        assert_ne!(browser.cookie("shop"), Some(former), "{what}: there is one cookie, the new one");
        for _ in 0..3 {
            assert_eq!(user(&browser).await, "Some(8)", "{what}");
        }
        browser.post("/shop/logout").await;
        assert_eq!(browser.cookies("shop").len(), 0, "{what}");
    }
}

#[actix_web::test]
async fn a_log_out_removes_the_former_cookie() {
    for Deployment { what, before, after, former } in deployments() {
        let world = shop_with(before).await;
        let browser = pages(&world).await.browser();
        browser.post("/shop/login/7").await;
        let world = redeploy(world, |builder| after(builder).former_cookie(former)).await;
        let browser = browser.on(&pages(&world).await);
        browser.post("/shop/logout").await;
        assert_eq!(browser.cookies("shop").len(), 0, "{what}");
    }
}

#[actix_web::test]
async fn a_visitor_with_both_cookies_is_anonymous_until_the_former_one_is_named() {
    for Deployment { what, before, after, former } in deployments() {
        let world = shop_with(before).await;
        let browser = pages(&world).await.browser();
        browser.post("/shop/login/7").await;

        let world = redeploy(world, after).await;
        let browser = browser.on(&pages(&world).await);
        let (logs, _guard) = Logs::of_this_thread();
        for _ in 0..2 {
            browser.post("/shop/login/8").await;
            assert_eq!(browser.cookies("shop").len(), 2, "{what}");
            world.events.take();
            assert_eq!(user(&browser).await, "None", "{what}");
            assert_eq!(world.events.take(), rejected(Rejection::Duplicate), "{what}");
        }
        assert_eq!(logs.lines(&["WARN", "former_cookie"]).len(), 1, "{what}: {}", logs.text());

        let world = redeploy(world, |builder| after(builder).former_cookie(former)).await;
        let browser = browser.on(&pages(&world).await);
        assert_eq!(user(&browser).await, "None", "{what}: it is unknown which cookie is the former one");
        browser.post("/shop/login/9").await;
        assert_eq!(browser.cookies("shop").len(), 1, "{what}");
        assert_eq!(user(&browser).await, "Some(9)", "{what}");
    }
}

#[actix_web::test]
async fn a_cookie_of_a_former_name_opens_nothing_and_goes_with_the_log_in() {
    let world = shop_with(|builder| builder.cookie("till").path("/shop")).await;
    let browser = pages(&world).await.browser();
    browser.post("/shop/login/7").await;
    let former = FormerCookie::named("till").path("/shop");
    let world = redeploy(world, |builder| builder.former_cookie(former)).await;
    let browser = browser.on(&pages(&world).await);
    assert_eq!(user(&browser).await, "None");
    assert_eq!(browser.cookies("till").len(), 1, "it may still be of use to a server of the former version");
    browser.post("/shop/login/8").await;
    assert_eq!((browser.cookies("till").len(), browser.cookies(COOKIE).len()), (0, 1));
    assert_eq!(user(&browser).await, "Some(8)");
}

#[actix_web::test]
async fn the_live_cookie_is_the_last_of_an_answer_and_the_others_are_removals() {
    let world = shop_with(|builder| {
        builder
            .cookie("shop")
            .former_cookie(FormerCookie::named("shop").path("/shop"))
            .former_cookie(FormerCookie::named("shop").domain("example.com"))
            .former_cookie(FormerCookie::named("shop"))
    })
    .await;
    let browser = world.browser();
    let cookies = browser.post("/login/7").await.set_cookies();
    let [removals @ .., live] = cookies.as_slice() else { panic!("no cookie") };
    assert_eq!(
        removals,
        [
            "shop=; HttpOnly; SameSite=Lax; Secure; Path=/shop; Max-Age=0",
            "shop=; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com; Max-Age=0",
        ]
    );
    assert!(!live.contains("Max-Age"), "{live}");
    assert!(browser.get("/").await.set_cookies().is_empty(), "an answer without a cookie removes none");
}

#[derive(Databag)]
#[databag(table = "admin", cookie = "till")]
struct Admin {
    visits: u32,
}

#[actix_web::test]
async fn a_former_cookie_that_is_the_live_one_of_another_bag_is_refused() {
    let world = shop_with(|builder| builder.former_cookie(FormerCookie::named("till"))).await;
    let store = session_runtime::SqliteStore::in_memory().expect("memory");
    let admin = Sessions::<Admin>::builder(store).keyring(key()).build().await.expect("good settings");
    let visit = async |mut shop: Session<Shop>, mut admin: Session<Admin>| -> Result<&'static str, Error> {
        (shop.count, admin.visits) = (1, 1);
        Ok("visited")
    };
    let (logs, _guard) = Logs::of_this_thread();
    for swapped in [false, true] {
        let route = || web::get().to(visit);
        let (shop, admin) =
            (SessionMiddleware::new(world.sessions.clone()), SessionMiddleware::new(admin.clone()));
        let site = if swapped {
            let app = actix_web::App::new().wrap(shop).wrap(admin).route("/", route());
            Site::new(actix_web::test::init_service(app).await)
        } else {
            let app = actix_web::App::new().wrap(admin).wrap(shop).route("/", route());
            Site::new(actix_web::test::init_service(app).await)
        };
        assert_eq!(site.browser().get("/").await.status, 500);
    }
    assert_eq!(logs.lines(&["ERROR", "`former_cookie` of one of the bags"]).len(), 2, "{}", logs.text());
}
