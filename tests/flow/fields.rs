//! The fields of the bag: detected changes, flash values, sizes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::web;
use databag_tests::{Call, Gate, Logs, Site};
use session_runtime::{Databag, Error, LoggedIn, Session, Sessions, SqliteStore};

use crate::app::{COOKIE, Shop, Theme, id, key, read_session, shop, shop_with, site};

#[actix_web::test]
async fn a_flash_value_is_shown_once() {
    let world = shop().await;
    let browser = world.browser();
    browser.post("/notice/hello").await;
    assert!(browser.get("/page").await.body.contains("hello"));
    assert!(!browser.get("/page").await.body.contains("hello"));
}

#[actix_web::test]
async fn a_flash_value_that_was_read_is_dropped_with_another_change() {
    let world = shop().await;
    let browser = world.browser();
    browser.post("/notice/hello").await;
    browser.post("/add/tea").await;
    let seen = read_session(&browser).await;
    assert!(seen["notice"].is_null() && seen["cart"]["tea"] == 1, "{seen}");
}

#[actix_web::test]
async fn a_flash_value_can_be_replaced_by_the_request_that_received_it() {
    let world = shop().await;
    let browser = world.browser();
    browser.post("/notice/first").await;
    browser.post("/notice/second").await;
    assert!(browser.get("/page").await.body.contains("second"));
}

/// A bag with the kinds of flash fields that can be told from the received ones.
#[derive(Databag)]
#[databag(cookie = "__Host-flashes", table = "flashes")]
struct Flashes {
    #[databag(user_id)]
    user: Option<i64>,
    #[databag(flash)]
    text: Option<String>,
    #[databag(flash)]
    borrowed: Option<Cow<'static, str>>,
    #[databag(flash, keep_on_logout)]
    list: Option<Vec<u32>>,
    count: u32,
}

impl Flashes {
    fn set_all(&mut self) {
        self.text = Some("same".to_owned());
        self.set_borrowed("same");
        self.set_list(vec![1, 2]);
    }

    fn seen(&self) -> String {
        let Self { text, borrowed, list, .. } = self;
        format!("{text:?} {borrowed:?} {list:?}")
    }
}

#[actix_web::test]
async fn a_flash_value_is_kept_that_equals_the_received_one() {
    let store = SqliteStore::in_memory().expect("memory");
    let sessions = Sessions::<Flashes>::builder(store).keyring(key()).build().await.expect("good settings");
    let set = async |mut session: Session<Flashes>| {
        session.set_all();
        session.seen()
    };
    let save = async |mut session: Session<Flashes>| {
        session.set_all();
        session.save().await.expect("stored");
        session.count += 1;
        session.seen()
    };
    let update = async |mut session: Session<Flashes>, sessions: web::Data<Sessions<Flashes>>| {
        // The first attempt meets a conflict.
        sessions.update(session.id(), |bag| bag.count += 1).await.expect("stored");
        session.update(Flashes::set_all).await.expect("stored");
        session.seen()
    };
    let anew = async |mut session: Session<Flashes>| {
        // The memory of the received values is free again when the others are made.
        (session.text, session.borrowed, session.list) = (None, None, None);
        session.set_all();
        session.seen()
    };
    let read = async |mut session: Session<Flashes>| {
        session.count += 1;
        session.seen()
    };
    let conflict = async |mut session: Session<Flashes>, sessions: web::Data<Sessions<Flashes>>| {
        sessions.update(session.id(), |bag| bag.count += 1).await.expect("stored");
        session.update(|bag| bag.count += 1).await.expect("stored");
        session.seen()
    };
    let log_out = async |mut session: Session<Flashes>| {
        session.log_out();
        session.count = 1;
        "out"
    };
    let site = site!(sessions; "/set" => set, "/save" => save, "/update" => update, "/anew" => anew, "/read" => read, "/conflict" => conflict, "/log_out" => log_out);
    let browser = site.browser();
    let set = browser.post("/set").await.body;
    let none = "None None None";
    assert!(set.contains("same") && set.contains("[1, 2]"), "{set}");
    for path in ["/set", "/save", "/update", "/anew", "/set"] {
        assert_eq!(browser.post(path).await.body, set, "{path}");
        assert_eq!(browser.post(path).await.body, set, "{path}");
        assert_eq!(browser.post("/read").await.body, set, "after {path} it was received again");
        assert_eq!(browser.post("/read").await.body, none, "after {path} it was received once");
    }
    for path in ["/conflict", "/log_out"] {
        browser.post("/set").await;
        browser.post(path).await;
        assert_eq!(browser.post("/read").await.body, none, "{path} received it");
    }
}

#[actix_web::test]
async fn a_notice_that_another_request_sets_meanwhile_survives() {
    let world = shop().await;
    let browser = world.browser();
    browser.post("/notice/first").await;
    let (session, elsewhere) = (id(&browser), world.elsewhere().await);
    world.watch.before_next(Call::Update, async move {
        elsewhere.update(session, |shop| shop.set_notice("second")).await.expect("stored");
    });
    assert!(browser.get("/page").await.body.contains("first"));
    assert!(browser.get("/page").await.body.contains("second"));
    assert!(!browser.get("/page").await.body.contains("second"));
}

#[actix_web::test]
async fn a_flash_value_that_was_read_does_not_return_after_several_writes() {
    let world = shop().await;
    let save = async |mut session: Session<Shop>, times: web::Path<u64>| {
        for _ in 0..*times {
            session.count += 1;
            session.save().await.expect("stored");
        }
        format!("{:?}", session.notice())
    };
    let update = async |mut session: Session<Shop>, times: web::Path<u64>| {
        for _ in 0..*times {
            session.update(|shop| shop.count += 1).await.expect("stored");
        }
        session.theme = Theme::Dark;
        format!("{:?}", session.notice())
    };
    let site = site!(world.sessions; "/save/{times}" => save, "/update/{times}" => update);
    for path in ["/save/1", "/save/2", "/update/1", "/update/2"] {
        let (browser, known) = (site.browser(), world.browser());
        known.post("/notice/hello").await;
        browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
        assert_eq!(
            browser.get(path).await.body,
            "Some(\"hello\")",
            "{path}: the value stays for the whole request"
        );
        assert!(read_session(&known).await["notice"].is_null(), "{path}");
    }
}

#[actix_web::test]
async fn a_notice_set_meanwhile_survives_a_save_in_the_handler() {
    notice_set_meanwhile_survives("second").await;
    notice_set_meanwhile_survives("first").await;
}

async fn notice_set_meanwhile_survives(text: &str) {
    let world = shop().await;
    let save = async |mut session: Session<Shop>, gate: web::Data<Gate>| {
        session.count += 1;
        session.save().await.expect("stored");
        gate.pass().await;
        session.count += 1;
        format!("{:?}", session.notice())
    };
    let gate = web::Data::new(Gate::default());
    let app = actix_web::App::new()
        .wrap(session_runtime::SessionMiddleware::new(world.sessions.clone()))
        .app_data(gate.clone())
        .route("/save", web::post().to(save));
    let site = Site::new(actix_web::test::init_service(app).await);
    let (browser, known) = (site.browser(), world.browser());
    known.post("/notice/first").await;
    browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
    let (answer, ()) = tokio::join!(browser.post("/save"), async {
        gate.arrival().await;
        assert!(known.post(&format!("/notice/{text}")).await.status.is_success());
        gate.open();
    });
    assert_eq!(answer.body, "Some(\"first\")");
    let seen = read_session(&known).await;
    assert_eq!((&seen["notice"], &seen["count"]), (&text.into(), &2.into()));
}

#[actix_web::test]
async fn a_refused_request_does_not_use_up_the_flash_value() {
    let world = shop().await;
    let site = site!(world.sessions; "/account" => async |_: LoggedIn<Shop>| "account");
    let (browser, known) = (site.browser(), world.browser());
    known.post("/notice/hello").await;
    browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
    assert_eq!(browser.get("/account").await.status, 401);
    assert!(known.get("/page").await.body.contains("hello"));
}

#[actix_web::test]
async fn a_change_from_outside_a_request_uses_up_no_flash_value() {
    let world = shop().await;
    let browser = world.browser();
    browser.post("/notice/hello").await;
    world.sessions.update(id(&browser), |shop| shop.count += 1).await.expect("stored");
    assert!(browser.get("/page").await.body.contains("hello"));
}

#[actix_web::test]
async fn a_nested_change_is_found() {
    let world = shop().await;
    let nest = async |mut session: Session<Shop>| {
        session.notes.push(BTreeMap::from([("a".to_owned(), "1".to_owned())]));
        "pushed"
    };
    let dig = async |mut session: Session<Shop>| {
        if let Some(value) = session.notes.get_mut(0).and_then(|note| note.get_mut("a")) {
            value.push_str("23");
        }
        "dug"
    };
    let site = site!(world.sessions; "/nest" => nest, "/dig" => dig, "/" => async |s: Session<Shop>| format!("{:?}", s.notes));
    let browser = site.browser();
    browser.post("/nest").await;
    browser.post("/dig").await;
    assert_eq!(browser.get("/").await.body, "[{\"a\": \"123\"}]");
}

#[actix_web::test]
async fn fields_and_accessors_are_the_same_value() {
    let world = shop().await;
    let both = async |mut session: Session<Shop>| {
        session.tenant = Some("acme".to_owned());
        session.cart_mut().insert("tea".to_owned(), 2);
        session.cart.insert("milk".to_owned(), 1);
        format!("{:?} {}", session.tenant(), session.cart().len())
    };
    let site = site!(world.sessions; "/both" => both, "/" => async |s: Session<Shop>| format!("{:?} {:?}", s.tenant, s.cart));
    let browser = site.browser();
    assert_eq!(browser.post("/both").await.body, "Some(\"acme\") 2");
    assert_eq!(browser.get("/").await.body, "Some(\"acme\") {\"milk\": 1, \"tea\": 2}");
}

#[actix_web::test]
async fn setting_a_field_to_its_old_value_writes_nothing() {
    let world = shop().await;
    let fill = async |mut session: Session<Shop>| {
        session.tags = (0..50).map(|tag| (tag, tag)).collect();
        session.set_tenant("acme");
        "filled"
    };
    let refill = async |mut session: Session<Shop>| {
        // A new map with the same entries, possibly in another order.
        session.tags = session.tags.iter().map(|(tag, value)| (*tag, *value)).collect();
        session.set_tenant("acme");
        session.count += 1;
        session.count -= 1;
        "refilled"
    };
    let site = site!(world.sessions; "/fill" => fill, "/refill" => refill);
    let browser = site.browser();
    browser.post("/fill").await;
    let before = world.watch.writes();
    for _ in 0..5 {
        browser.post("/refill").await;
    }
    assert_eq!(world.watch.writes(), before);
}

#[actix_web::test]
async fn a_field_set_back_to_its_default_is_stored() {
    let world = shop().await;
    let browser = world.customer().await;
    let clear = async |mut session: Session<Shop>| {
        session.cart.clear();
        "cleared"
    };
    let site = site!(world.sessions; "/clear" => clear);
    let other = site.browser();
    other.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    other.post("/clear").await;
    assert_eq!(read_session(&browser).await["cart"], serde_json::json!({}));
}

#[actix_web::test]
async fn a_session_that_is_too_large_is_500_before_any_write_and_the_log_names_the_field() {
    let world = shop_with(|builder| builder.max_state_bytes(1_000)).await;
    let browser = world.customer().await;
    let fill = async |mut session: Session<Shop>| {
        session.count += 1;
        session.notes.push(BTreeMap::from([("note".to_owned(), "x".repeat(2_000))]));
        "filled"
    };
    let site = site!(world.sessions; "/fill" => fill);
    let other = site.browser();
    other.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie"));
    let before = world.watch.writes();
    let (logs, _guard) = Logs::of_this_thread();
    let answer = other.post("/fill").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (500, "Internal Server Error"));
    assert!(answer.set_cookies().is_empty());
    assert_eq!(world.watch.writes(), before);
    assert_eq!(
        logs.lines(&["ERROR", "the biggest field is `notes`", "of 1000 allowed"]).len(),
        1,
        "{}",
        logs.text()
    );
    let seen = read_session(&browser).await;
    assert_eq!((&seen["cart"]["tea"], &seen["count"]), (&1.into(), &0.into()), "the old row is intact");
    assert_eq!(site.browser().post("/fill").await.status, 500, "a new session is refused too");
}

#[actix_web::test]
async fn the_limit_of_a_session_is_exact() {
    async fn with_limit(limit: usize) -> Result<(), Error> {
        let world = shop_with(|builder| builder.max_state_bytes(limit)).await;
        let (_, session) = world.sessions.create(Shop::defaults()).await?;
        world.sessions.update(session.id(), |shop| shop.set_tenant("x".repeat(100))).await
    }
    let Err(Error::TooLarge { size, limit: 200, field: "tenant" }) = with_limit(200).await else {
        panic!("200 bytes are too few");
    };
    assert!(with_limit(size).await.is_ok());
    assert!(matches!(with_limit(size - 1).await, Err(Error::TooLarge { .. })));
}
