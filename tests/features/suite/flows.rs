//! Flows that leave the site and come back once.

use actix_web::{App, HttpResponse, Responder, web};
use databag_tests::{Gate, ManualClock, Site};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use session_runtime::{
    AnyStore, Cleanup, Databag, Error, Flows, Keyring, Session, SessionMiddleware, SessionRef, Sessions,
};
use tokio::sync::Barrier;

use super::app::{MINUTE, SECOND};

/// How many sessions race at the same time.
const AT_ONCE: usize = 10;

#[derive(Databag)]
#[databag(table = "travellers", cookie = "__Host-traveller", idle = "2h")]
struct Traveller {
    #[databag(user_id)]
    user_id: Option<String>,
    #[databag(flow, ttl = "10m")]
    oauth: Flows<OAuthFlow>,
    #[databag(flow, keep_on_logout)]
    mail: Flows<String>,
    count: u32,
}

#[derive(Serialize, Deserialize)]
struct OAuthFlow {
    verifier: String,
}

struct World {
    clock: ManualClock,
    site: Site,
    gate: Gate,
}

impl World {
    /// Opens an application, unless its sessions are in cookies: these are refused.
    async fn open(store: AnyStore) -> Option<Self> {
        let clock = ManualClock::default();
        let is_cookie = format!("{store:?}").contains("Cookie");
        let sessions = Sessions::<Traveller>::builder(store)
            .keyring(Keyring::generate())
            .cleanup(Cleanup::Never)
            .clock(clock.clone());
        let sessions = match sessions.build().await {
            Err(error) if is_cookie => {
                assert!(error.to_string().contains("`flow` needs a store that keeps rows"), "{error}");
                return None;
            }
            sessions => sessions.expect("good settings"),
        };
        assert!(!is_cookie, "a flow in a cookie can be finished again");
        let gate = Gate::default();
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions))
            .app_data(web::Data::new(gate.clone()))
            .app_data(web::Data::new((0..AT_ONCE).map(|_| Barrier::new(2)).collect::<Vec<_>>()))
            .route("/begin/{verifier}", web::post().to(begin))
            .route("/finish/{ticket}", web::get().to(finish))
            .route("/race/{lane}/{ticket}", web::get().to(race))
            .route("/take/{ticket}", web::get().to(take))
            .route("/count", web::post().to(count))
            .route("/open", web::get().to(open))
            .route("/mail/{address}", web::post().to(mail))
            .route("/confirm/{ticket}", web::get().to(confirm))
            .route("/login/{user}", web::post().to(log_in))
            .route("/logout", web::post().to(log_out));
        let site = Site::new(actix_web::test::init_service(app).await);
        Some(Self { clock, site, gate })
    }
}

async fn begin(mut session: Session<Traveller>, verifier: web::Path<String>) -> impl Responder {
    let ticket = session.oauth_mut().begin(OAuthFlow { verifier: verifier.into_inner() });
    ticket.to_string()
}

async fn finish(mut session: Session<Traveller>, ticket: web::Path<String>) -> Result<HttpResponse, Error> {
    let flow = session.update(|traveller| traveller.oauth.finish(&*ticket)).await?;
    Ok(match flow {
        Some(flow) => HttpResponse::Ok().body(flow.verifier),
        None => HttpResponse::Gone().finish(),
    })
}

/// Finishes a flow when two requests have read the session in which it is open; the loser is answered what it has read.
async fn race(
    mut session: Session<Traveller>,
    path: web::Path<(usize, String)>,
    starts: web::Data<Vec<Barrier>>,
) -> Result<HttpResponse, Error> {
    let (lane, ticket) = path.into_inner();
    let read = serde_json::to_value(session.oauth()).expect("JSON");
    starts[lane].wait().await;
    let flow = session.update(|traveller| traveller.oauth.finish(&ticket)).await?;
    Ok(match flow {
        Some(flow) => HttpResponse::Ok().body(flow.verifier),
        None => HttpResponse::Gone().body(read[&ticket][1][0]["verifier"].as_str().unwrap_or("").to_owned()),
    })
}

/// Takes a flow without `update`, and waits.
async fn take(
    mut session: Session<Traveller>,
    ticket: web::Path<String>,
    gate: web::Data<Gate>,
) -> impl Responder {
    let flow = session.oauth_mut().finish(&*ticket);
    gate.pass().await;
    flow.map_or("gone".to_owned(), |flow| flow.verifier)
}

async fn count(mut session: Session<Traveller>) -> impl Responder {
    session.count += 1;
    session.count.to_string()
}

async fn open(session: SessionRef<Traveller>) -> impl Responder {
    session.oauth().len().to_string()
}

async fn mail(mut session: Session<Traveller>, address: web::Path<String>) -> impl Responder {
    session.mail_mut().begin(address.into_inner()).to_string()
}

async fn confirm(mut session: Session<Traveller>, ticket: web::Path<String>) -> Result<String, Error> {
    let address = session.update(|traveller| traveller.mail.finish(&*ticket)).await?;
    Ok(address.unwrap_or_default())
}

async fn log_in(mut session: Session<Traveller>, user: web::Path<String>) -> impl Responder {
    session.log_in(user.into_inner());
    "in"
}

async fn log_out(mut session: Session<Traveller>) -> impl Responder {
    session.log_out();
    "out"
}

pub(crate) async fn two_tabs_finish_their_own_flows(store: AnyStore) {
    let Some(world) = World::open(store).await else { return };
    let (tab, stranger) = (world.site.browser(), world.site.browser());
    tab.post("/count").await;
    let (other_tab, first) = (tab.clone(), tab.post("/begin/first").await.body);
    let begun = tokio::join!(tab.post("/begin/second"), other_tab.post("/begin/third"), tab.post("/count"));
    let [second, third] = [begun.0.body, begun.1.body];
    assert_eq!(tab.get("/open").await.body, "3");
    stranger.post("/count").await;
    for ticket in [&first, &second, &third] {
        assert_eq!(stranger.get(&format!("/finish/{ticket}")).await.status, 410);
    }
    for (ticket, verifier) in [(&third, "third"), (&first, "first"), (&second, "second")] {
        let path = format!("/finish/{ticket}");
        assert_eq!(tab.get(&path).await.body, verifier);
        assert_eq!(tab.get(&path).await.status, 410);
    }
    for never in ["never-begun", "%20", "AAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(tab.get(&format!("/finish/{never}")).await.status, 410);
    }
    assert_eq!(tab.get("/open").await.body, "0");
}

pub(crate) async fn a_flow_outlives_a_log_in_and_ends_with_a_log_out(store: AnyStore) {
    let Some(world) = World::open(store).await else { return };
    let browser = world.site.browser();
    let ticket = browser.post("/begin/first").await.body;
    browser.post("/login/kim").await;
    assert_eq!(browser.get(&format!("/finish/{ticket}")).await.body, "first");
    let [oauth, mail] =
        [browser.post("/begin/second").await.body, browser.post("/mail/kim@example.org").await.body];
    browser.post("/logout").await;
    assert_eq!(browser.get(&format!("/finish/{oauth}")).await.status, 410);
    assert_eq!(browser.get(&format!("/confirm/{mail}")).await.body, "kim@example.org");
}

pub(crate) async fn a_flow_ends_by_itself(store: AnyStore) {
    let Some(world) = World::open(store).await else { return };
    let browser = world.site.browser();
    let [first, second] = [browser.post("/begin/first").await.body, browser.post("/begin/second").await.body];
    world.clock.advance(9 * MINUTE + 59 * SECOND);
    assert_eq!(browser.get(&format!("/finish/{first}")).await.body, "first");
    world.clock.advance(SECOND);
    assert_eq!(browser.get("/open").await.body, "0");
    assert_eq!(browser.get(&format!("/finish/{second}")).await.status, 410);
    // The latest 16 are kept, however many are begun.
    let mut tickets = Vec::new();
    for number in 0..20 {
        world.clock.advance(SECOND);
        tickets.push(browser.post(&format!("/begin/{number}")).await.body);
    }
    assert_eq!(browser.get("/open").await.body, "16");
    assert_eq!(browser.get(&format!("/finish/{}", tickets[3])).await.status, 410);
    assert_eq!(browser.get(&format!("/finish/{}", tickets[4])).await.body, "4");
}

/// Two tabs come back with one ticket, while the other flow of the session and its count change.
pub(crate) async fn each_ticket_is_taken_once_in_a_thousand_races(store: AnyStore) {
    const ROUNDS: usize = 1000;
    let Some(world) = World::open(store).await else { return };
    let race = async |lane: usize| {
        let tab = world.site.browser();
        for round in 0..ROUNDS / AT_ONCE {
            let verifier = format!("{lane}-{round}");
            // The session keeps the latest 16 flows.
            world.clock.advance(SECOND / 100);
            let ticket = tab.post(&format!("/begin/{verifier}")).await.body;
            let other_tab = tab.clone();
            let path = format!("/race/{lane}/{ticket}");
            let answers = tokio::join!(
                tab.get(&path),
                tab.post("/begin/other"),
                other_tab.get(&path),
                tab.post("/count")
            );
            let mut taken: Vec<_> =
                [answers.0, answers.2].map(|answer| (answer.status.as_u16(), answer.body)).into();
            taken.sort();
            assert_eq!(
                taken,
                [(200, verifier.clone()), (410, verifier)],
                "both have read that the flow is open"
            );
            assert!(answers.1.status.is_success() && answers.3.status.is_success());
        }
        assert_eq!(tab.post("/count").await.body, (ROUNDS / AT_ONCE + 1).to_string());
    };
    join_all((0..AT_ONCE).map(race)).await;
}

pub(crate) async fn of_two_handlers_that_take_one_flow_one_is_answered(store: AnyStore) {
    let Some(world) = World::open(store).await else { return };
    let tab = world.site.browser();
    let ticket = tab.post("/begin/first").await.body;
    let (path, other_tab) = (format!("/take/{ticket}"), tab.clone());
    let (one, other, ()) = tokio::join!(tab.get(&path), other_tab.get(&path), async {
        world.gate.arrival().await;
        world.gate.arrival().await;
        world.gate.open();
    });
    let mut answers = [(one.status.as_u16(), one.body), (other.status.as_u16(), other.body)];
    answers.sort();
    assert_eq!(answers, [(200, "first".to_owned()), (409, "Conflict".to_owned())]);
}
