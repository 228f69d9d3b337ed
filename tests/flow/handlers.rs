//! Handlers and middlewares that answer errors, or save and reload the session themselves.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, FromRequest as _, HttpRequest, HttpResponse, error, test, web};
use databag_tests::{Logs, Site};
use futures_util::FutureExt as _;
use session_runtime::{Error, Session, SessionMiddleware, SessionRef};

use crate::app::{COOKIE, Shop, id, read_session, shop, site};

#[actix_web::test]
async fn the_session_is_stored_when_the_handler_answers_with_an_error() {
    let world = shop().await;
    let err = async |mut session: Session<Shop>| {
        session.attempts += 1;
        Err::<String, _>(error::ErrorForbidden("wrong password"))
    };
    let answer = async |mut session: Session<Shop>| {
        session.attempts += 1;
        HttpResponse::InternalServerError().body("broken")
    };
    let site = site!(world.sessions; "/err" => err, "/answer" => answer, "/" => async |s: Session<Shop>| s.attempts.to_string());
    let browser = site.browser();
    let refused = browser.post("/err").await;
    assert_eq!((refused.status.as_u16(), refused.body.as_str()), (403, "wrong password"));
    assert_eq!(refused.set_cookies().len(), 1);
    assert_eq!(browser.post("/answer").await.status, 500);
    assert_eq!(browser.get("/").await.body, "2");
}

async fn fail_after(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let answer = next.call(request).await?;
    if answer.request().path().starts_with("/fail") {
        Err(error::ErrorImATeapot("no coffee"))
    } else {
        Ok(answer)
    }
}

#[actix_web::test]
async fn the_session_is_stored_when_an_inner_middleware_answers_with_an_error() {
    let world = shop().await;
    let app = App::new()
        .wrap(from_fn(fail_after))
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .route("/fail", web::post().to(count_up));
    let browser = Site::new(test::init_service(app).await).browser();
    for count in 1..=2 {
        let answer = browser.post("/fail").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (418, "no coffee"));
        assert_eq!(answer.all("vary"), ["Cookie"]);
        let session = world.sessions.get(id(&browser)).await.expect("answers").expect("stored");
        assert_eq!(session.count, count);
    }
}

async fn count_up(mut session: Session<Shop>) -> &'static str {
    session.count += 1;
    "counted"
}

/// An inner middleware that uses the session before and after the handler.
async fn around(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let mut session = Session::<Shop>::extract(request.request()).await?;
    session.count += 10;
    drop(session);
    let answer = next.call(request).await?;
    let mut session = Session::<Shop>::extract(answer.request()).await?;
    session.count += 100;
    drop(session);
    Ok(answer)
}

#[actix_web::test]
async fn an_inner_middleware_and_the_handler_change_one_session() {
    let world = shop().await;
    let app = App::new()
        .wrap(from_fn(around))
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .route("/count", web::post().to(count_up));
    let browser = Site::new(test::init_service(app).await).browser();
    browser.post("/count").await;
    let session = world.sessions.get(id(&browser)).await.expect("answers").expect("stored");
    assert_eq!((session.count, world.watch.writes()), (111, 1));
}

#[actix_web::test]
async fn an_outer_middleware_can_read_the_session_afterwards_and_not_change_it() {
    async fn outside(
        request: ServiceRequest,
        next: Next<impl MessageBody>,
    ) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
        let answer = next.call(request).await?;
        let seen = SessionRef::<Shop>::extract(answer.request()).await?.count;
        let changed = Session::<Shop>::extract(answer.request()).await;
        assert!(matches!(changed, Err(Error::Usage(_))), "a change here would be lost");
        let (request, _) = answer.into_parts();
        Ok(ServiceResponse::new(request, HttpResponse::Ok().body(format!("{seen}"))))
    }
    let world = shop().await;
    let app = App::new()
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .wrap(from_fn(outside))
        .route("/count", web::post().to(count_up))
        .route("/plain", web::post().to(async || "plain"));
    let browser = Site::new(test::init_service(app).await).browser();
    browser.set_cookie(COOKIE, &world.customer().await.cookie(COOKIE).expect("a cookie"));
    for _ in 0..2 {
        assert_eq!(browser.post("/count").await.status, 200);
    }
    assert_eq!(browser.post("/plain").await.body, "2");
}

#[actix_web::test]
async fn a_save_stays_stored_when_the_handler_fails_afterwards() {
    let world = shop().await;
    let save = async |mut session: Session<Shop>| {
        session.count = 1;
        session.save().await?;
        session.reload().await?;
        Err::<String, actix_web::Error>(error::ErrorBadGateway("elsewhere"))
    };
    let site = site!(world.sessions; "/save" => save);
    let browser = site.browser();
    let answer = browser.post("/save").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (502, 1));
    assert_eq!(world.sessions.get(id(&browser)).await.expect("answers").expect("stored").count, 1);
}

#[actix_web::test]
async fn reload_drops_changes_and_reads_what_other_requests_stored() {
    let world = shop().await;
    let reload = async |mut session: Session<Shop>, sessions: session_runtime::Sessions<Shop>| {
        session.count = 5;
        session.theme = crate::app::Theme::Dark;
        sessions.update(session.id(), |shop| shop.set_tenant("acme")).await?;
        session.reload().await?;
        Ok::<_, Error>(format!("{} {:?} {:?}", session.count, session.theme, session.tenant()))
    };
    let fresh = async |mut session: Session<Shop>| {
        session.count = 5;
        session.reload().await?;
        Ok::<_, Error>(format!("{} {}", session.count, session.is_new()))
    };
    let site = site!(world.sessions; "/reload" => reload, "/fresh" => fresh);
    let browser = site.browser();
    assert_eq!(browser.post("/fresh").await.body, "0 true");
    assert_eq!(browser.cookie(COOKIE), None);
    let known = world.customer().await;
    browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
    assert_eq!(browser.post("/reload").await.body, "0 Light Some(\"acme\")");
    assert_eq!(read_session(&known).await["theme"], "Light");
}

#[actix_web::test]
async fn reload_of_a_session_that_was_ended_is_an_error() {
    let world = shop().await;
    let reload = async |mut session: Session<Shop>, sessions: session_runtime::Sessions<Shop>| {
        sessions.delete(session.id()).await?;
        session.reload().await.map(|()| "alive")
    };
    let site = site!(world.sessions; "/reload" => reload);
    let browser = site.browser();
    browser.set_cookie(COOKIE, &world.customer().await.cookie(COOKIE).expect("a cookie"));
    assert_eq!(browser.post("/reload").await.status, 409);
}

#[actix_web::test]
async fn a_session_still_held_after_the_answer_is_an_error_and_not_a_silent_loss() {
    let world = shop().await;
    let (keep, kept) = tokio::sync::oneshot::channel::<()>();
    let kept = std::rc::Rc::new(std::cell::RefCell::new(Some(kept)));
    let spawn = move |mut session: Session<Shop>| {
        let kept = kept.borrow_mut().take().expect("the handler runs once");
        async move {
            session.count += 1;
            actix_web::rt::spawn(async move {
                let _ = kept.await;
                drop(session);
            });
            "spawned"
        }
    };
    let site = site!(world.sessions; "/spawn" => spawn.clone());
    let (logs, _guard) = Logs::of_this_thread();
    let answer = site.browser().post("/spawn").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (500, 0));
    let remedies = ["Sessions::update", "Sessions::touch", "Sessions::watch"];
    for remedy in remedies {
        let line = ["ERROR", "still held after the handler has answered", remedy];
        assert_eq!(logs.lines(&line).len(), 1, "{remedy}");
    }
    drop(keep);
    assert_eq!(world.rows(), 0);
}

#[actix_web::test]
async fn a_panicking_handler_stores_nothing_and_the_session_survives() {
    let world = shop().await;
    let panic = async |mut session: Session<Shop>| {
        session.count += 1;
        assert_eq!(session.count, 0, "a mistake of the handler");
        "never"
    };
    let site = site!(world.sessions; "/panic" => panic);
    let known = world.customer().await;
    let browser = site.browser();
    browser.set_cookie(COOKIE, &known.cookie(COOKIE).expect("a cookie"));
    // A separate task runs the request and ends with the panic, like the task of a connection in a server.
    let request = actix_web::rt::spawn(async move { browser.post("/panic").await });
    assert!(request.await.is_err());
    assert!(known.post("/count").await.status.is_success());
    assert_eq!(read_session(&known).await["count"], 1);
}

#[actix_web::test]
async fn a_panic_that_is_caught_stores_nothing_either_and_is_no_success() {
    async fn caught(
        request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let answer = AssertUnwindSafe(next.call(request)).catch_unwind().await;
        answer.unwrap_or_else(|_| Err(error::ErrorImATeapot("it panicked")))
    }
    let world = shop().await;
    let change = async |mut session: Session<Shop>| {
        session.count += 1;
        session.remember(true);
        assert_eq!(session.count, 0, "a mistake of the handler");
        "never"
    };
    let save = async |mut session: Session<Shop>| {
        session.count += 1;
        session.save().await.expect("it is stored");
        session.count += 1;
        assert_eq!(session.count, 0, "a mistake of the handler");
        "never"
    };
    let leave = async |mut session: Session<Shop>| {
        session.log_out();
        assert_eq!(session.count, 7, "a mistake of the handler");
        "never"
    };
    let goes_on = async |request: HttpRequest| {
        let half = async {
            let mut session = Session::<Shop>::extract(&request).await.expect("there is one");
            session.count += 1;
            assert_eq!(session.count, 0, "a mistake of the handler");
        };
        AssertUnwindSafe(half).catch_unwind().await.expect_err("it panics");
        let taken = Session::<Shop>::extract(&request).await;
        let shown = SessionRef::<Shop>::extract(&request).await;
        format!("{} {}", taken.is_ok(), shown.is_ok())
    };
    let give_back = async |mut session: Session<Shop>| {
        session.attempts += 1;
        drop(session);
        assert!(std::hint::black_box(false), "a mistake of which the session knows nothing");
        "never"
    };
    let app = App::new()
        .wrap(from_fn(caught))
        .wrap(SessionMiddleware::new(world.sessions.clone()))
        .route("/change", web::post().to(change))
        .route("/save", web::post().to(save))
        .route("/leave", web::post().to(leave))
        .route("/goes-on", web::post().to(goes_on))
        .route("/give-back", web::post().to(give_back));
    let site = Site::new(test::init_service(app).await);
    let known = world.customer().await;
    // A touch is due.
    world.clock.advance(Duration::from_mins(2));
    let (logs, _guard) = Logs::of_this_thread();
    for path in ["/change", "/goes-on"] {
        for browser in [site.browser(), known.copied().on(&site)] {
            let answer = browser.post(path).await;
            assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (500, 0), "{path}");
        }
        assert_eq!(world.rows(), 1, "{path}: a panic begins no session");
        assert_eq!(read_session(&known.copied()).await["count"], 0, "{path}");
    }
    // Each panic, and of the handler that goes on each extractor that it asks.
    assert_eq!(logs.lines(&["ERROR", "has panicked while it held its `Session<"]).len(), 2 + 2 * 3);

    let saved = site.browser();
    let answer = saved.post("/save").await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (500, 1),
        "what was stored is found again"
    );
    assert_eq!(read_session(&saved.on(&world.site)).await["count"], 1);

    assert_eq!(known.copied().on(&site).post("/give-back").await.status, 418);
    assert_eq!(read_session(&known.copied()).await["attempts"], 1, "it was given back");

    let answer = known.copied().on(&site).post("/leave").await;
    assert_eq!(answer.status, 500);
    assert!(answer.set_cookies()[0].contains("Max-Age=0"), "{:?}", answer.set_cookies());
    assert_eq!(read_session(&known).await["is_new"], true, "it has ended all the same");
}
