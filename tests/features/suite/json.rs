//! The same features in a bag that is a JSON object.

use std::time::Duration;

use actix_web::{App, HttpResponse, Responder, web};
use databag_tests::{Browser, ManualClock, Site};
use session_runtime::{
    AnyStore, Cleanup, Databag, Error, Flows, Keyring, Session, SessionMiddleware, SessionRef, Sessions,
};

use super::app::{DAY, HOUR, MINUTE, SECOND};

#[derive(Databag)]
#[databag(table = "guests", cookie = "__Host-guest", codec = "json", idle = "30m", remember = "30d")]
struct Guest {
    #[databag(user_id)]
    user_id: Option<String>,
    #[databag(ttl = "15m")]
    code: Option<String>,
    count: u32,
}

#[derive(Databag)]
#[databag(table = "senders", cookie = "__Host-sender", codec = "json", idle = "12h")]
struct Sender {
    #[databag(flow, ttl = "2h")]
    mail: Flows<String>,
    /// In JSON both values are `null`.
    #[databag(flow)]
    confirmed: Flows<()>,
    #[databag(flow)]
    invited: Flows<Option<String>>,
}

async fn open<T: Databag>(
    store: AnyStore,
    routes: fn(&mut web::ServiceConfig),
) -> Result<(Sessions<T>, ManualClock, Site), Error> {
    let clock = ManualClock::default();
    let sessions = Sessions::<T>::builder(store).keyring(Keyring::generate()).cleanup(Cleanup::Never);
    let sessions = sessions.clock(clock.clone()).build().await?;
    let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
    Ok((sessions, clock, Site::new(actix_web::test::init_service(app).await)))
}

fn guest_routes(config: &mut web::ServiceConfig) {
    async fn who(session: SessionRef<Guest>) -> impl Responder {
        format!("{} {}", session.user_id().unwrap_or("nobody"), session.code().unwrap_or("none"))
    }
    async fn log_in(mut session: Session<Guest>, path: web::Path<(String, u64)>) -> impl Responder {
        let (user, hours) = path.into_inner();
        session.log_in(user);
        match hours {
            0 => session.remember(true),
            hours => session.remember_for(Duration::from_hours(hours)),
        }
        HttpResponse::Ok()
    }
    async fn set_code(mut session: Session<Guest>, code: web::Path<String>) -> impl Responder {
        session.set_code(code.into_inner());
        HttpResponse::Ok()
    }
    async fn count(mut session: Session<Guest>) -> impl Responder {
        session.count += 1;
        session.count.to_string()
    }
    config
        .route("/who", web::get().to(who))
        .route("/login/{user}/{hours}", web::post().to(log_in))
        .route("/code/{code}", web::post().to(set_code))
        .route("/count", web::post().to(count));
}

async fn who(browser: &Browser) -> String {
    browser.get("/who").await.body
}

pub(crate) async fn a_remembered_session_lives_as_long_as_the_bag_says(store: AnyStore) {
    let (_, clock, site) = open::<Guest>(store, guest_routes).await.expect("good settings");
    let browser = site.browser();
    let answer = browser.post("/login/kim/0").await;
    assert!(answer.set_cookies()[0].contains("; Max-Age=2592000"), "{:?}", answer.set_cookies());
    for _ in 0..2 {
        clock.advance(14 * DAY + 23 * HOUR + 59 * MINUTE);
        assert_eq!(who(&browser).await, "kim none");
        browser.post("/count").await;
    }
    clock.advance(2 * MINUTE);
    assert_eq!(who(&browser).await, "nobody none");
    browser.post("/login/kim/2").await;
    clock.advance(HOUR + 59 * MINUTE + 59 * SECOND);
    assert_eq!(who(&browser).await, "kim none");
    clock.advance(SECOND);
    assert_eq!(who(&browser).await, "nobody none");
}

pub(crate) async fn a_field_ends_when_its_time_has_passed(store: AnyStore) {
    let (_, clock, site) = open::<Guest>(store, guest_routes).await.expect("good settings");
    let browser = site.browser();
    browser.post("/code/0451").await;
    clock.advance(10 * MINUTE);
    browser.post("/count").await;
    clock.advance(4 * MINUTE + 59 * SECOND);
    assert_eq!(who(&browser).await, "nobody 0451");
    clock.advance(SECOND);
    assert_eq!(who(&browser).await, "nobody none");
    assert_eq!(browser.post("/count").await.body, "2");
}

fn sender_routes(config: &mut web::ServiceConfig) {
    async fn begin(mut session: Session<Sender>) -> impl Responder {
        let sender = &mut *session;
        let invited = [None, Some("lee".to_owned())].map(|guest| sender.invited.begin(guest).to_string());
        let [nobody, lee] = invited;
        [sender.mail.begin("kim".to_owned()).to_string(), sender.confirmed.begin(()).to_string(), nobody, lee]
            .join(" ")
    }
    async fn finish(mut session: Session<Sender>, ticket: web::Path<String>) -> Result<String, Error> {
        session
            .update(|sender| {
                let mail = sender.mail.finish(&*ticket).map(|mail| format!("mail {mail}"));
                let confirmed = sender.confirmed.finish(&*ticket).map(|()| "confirmed".to_owned());
                let invited = sender.invited.finish(&*ticket).map(|guest| format!("invited {guest:?}"));
                mail.or(confirmed).or(invited).unwrap_or_else(|| "gone".to_owned())
            })
            .await
    }
    /// Writes a bag that does not know the time.
    async fn begin_anew(mut session: Session<Sender>) -> impl Responder {
        let mut sender = Sender::defaults();
        let ticket = sender.mail.begin("max".to_owned()).to_string();
        *session = sender;
        ticket
    }
    config
        .route("/begin", web::post().to(begin))
        .route("/begin-anew", web::post().to(begin_anew))
        .route("/finish/{ticket}", web::get().to(finish));
}

pub(crate) async fn every_value_of_a_flow_comes_back_once(store: AnyStore) {
    let Ok((_, clock, site)) = open::<Sender>(store, sender_routes).await else { return };
    let browser = site.browser();
    let tickets = browser.post("/begin").await.body;
    let finished = async |ticket: &str| browser.get(&format!("/finish/{ticket}")).await.body;
    for (ticket, value) in
        tickets.split(' ').zip(["mail kim", "confirmed", "invited None", "invited Some(\"lee\")"])
    {
        assert_eq!(finished(ticket).await, value);
        assert_eq!(finished(ticket).await, "gone");
    }
    let tickets = browser.post("/begin").await.body;
    let tickets: Vec<_> = tickets.split(' ').collect();
    clock.advance(10 * MINUTE);
    assert_eq!(finished(tickets[1]).await, "gone");
    assert_eq!(finished(tickets[0]).await, "mail kim");
}

/// The application makes a bag, begins a flow in it, and stores it as a session.
pub(crate) async fn a_flow_in_a_bag_for_a_new_session_lives_as_long_as_the_field_says(store: AnyStore) {
    let Ok((sessions, clock, site)) = open::<Sender>(store, sender_routes).await else { return };
    let live = async |ticket: &str, session: &session_runtime::Token, after: Duration| {
        clock.advance(after);
        let session = sessions.load(session).await.expect("it answers").expect("it lives");
        assert_eq!(session.mail().len(), 1, "{ticket}");
        session.id()
    };
    let mut sender = Sender::defaults();
    let ticket = sender.mail.begin("kim".to_owned());
    let (token, _) = sessions.create(sender).await.expect("stored");
    live(ticket.as_str(), &token, HOUR + 59 * MINUTE + 59 * SECOND).await;
    clock.advance(SECOND);
    let session = sessions.load(&token).await.expect("it answers").expect("it lives");
    assert_eq!(session.mail().len(), 0);

    // The same in `update`, and in a handler.
    let ticket = sessions.update(session.id(), |sender| {
        *sender = Sender::defaults();
        sender.mail.begin("lee".to_owned())
    });
    let ticket = ticket.await.expect("stored");
    let id = live(ticket.as_str(), &token, HOUR + 59 * MINUTE + 59 * SECOND).await;
    clock.advance(SECOND);
    let finished = sessions.update(id, |sender| sender.mail.finish(&ticket)).await;
    assert_eq!(finished.expect("stored"), None);
    let browser = site.browser();
    let ticket = browser.post("/begin-anew").await.body;
    clock.advance(HOUR + 59 * MINUTE + 59 * SECOND);
    assert_eq!(browser.get(&format!("/finish/{ticket}")).await.body, "mail max");
    let ticket = browser.post("/begin-anew").await.body;
    clock.advance(2 * HOUR);
    assert_eq!(browser.get(&format!("/finish/{ticket}")).await.body, "gone");
}
