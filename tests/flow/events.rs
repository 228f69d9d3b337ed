//! What observers are told of failures, the spans of loads and commits, and the page that lists all of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use databag_tests::{Call, Fault, Logs};
use session_runtime::event::{CallOutcome, EndCause, Failure, Stage, StoreOperation};
use session_runtime::{Error, Event, Rejection, Session, Token, health};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::app::{COOKIE, Shop, World, id, shop, shop_with, site};

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Opens the shop with an observer.
async fn observed(deadline: Duration) -> (World, Told) {
    let told = Told::default();
    let observer = told.clone();
    let world = shop_with(|builder| {
        builder.deadline(deadline).on_event(move |event: &Event| {
            observer.0.lock().unwrap_or_else(PoisonError::into_inner).push(*event);
        })
    });
    (world.await, told)
}

fn calls(events: &[Event]) -> Vec<(StoreOperation, CallOutcome)> {
    let call = |event: &Event| match *event {
        Event::StoreCall { operation, outcome, .. } => Some((operation, outcome)),
        _ => None,
    };
    events.iter().filter_map(call).collect()
}

fn failures(events: &[Event]) -> Vec<(Stage, Failure)> {
    let failure = |event: &Event| match *event {
        Event::Failed { stage, failure, .. } => Some((stage, failure)),
        _ => None,
    };
    events.iter().filter_map(failure).collect()
}

#[actix_web::test]
async fn one_failure_is_told_once_with_what_the_request_wanted() {
    let (world, told) = observed(Duration::from_secs(2)).await;
    let site = site!(world.sessions;
        "/read" => async |_: Session<Shop>| "read",
        "/save" => async |mut session: Session<Shop>| -> Result<&'static str, Error> {
            session.count += 1;
            session.save().await?;
            Ok("saved")
        },
        "/update" => async |mut session: Session<Shop>| -> Result<&'static str, Error> {
            session.update(|shop| shop.count += 1).await?;
            Ok("updated")
        },
    );
    let browser = world.customer().await;
    let value = browser.cookie(COOKIE).expect("a cookie");
    let cases = [
        ("/read", Call::Load, Stage::Load, Failure::Store),
        ("/save", Call::Update, Stage::Store, Failure::Store),
        ("/update", Call::Update, Stage::Update, Failure::Store),
    ];
    for (path, call, stage, failure) in cases {
        let browser = site.browser();
        browser.set_cookie(COOKIE, &value);
        world.watch.fail(call, Fault::Down);
        told.take();
        assert_eq!(browser.post(path).await.status, 503, "{path}");
        assert_eq!(failures(&told.take()), [(stage, failure)], "{path}");
        world.watch.heal();
    }
    let browser = site.browser();
    browser.set_cookie(COOKIE, &value);
    world.watch.fail(Call::Update, Fault::Refused);
    assert_eq!(browser.post("/update").await.status, 500);
    assert_eq!(failures(&told.take()), [(Stage::Update, Failure::Refused)]);
}

#[actix_web::test]
async fn the_outcome_of_each_call_of_the_store_is_told() {
    let (world, told) = observed(Duration::from_millis(200)).await;
    let browser = world.customer().await;
    world.watch.fail(Call::Load, Fault::Down);
    told.take();
    browser.get("/").await;
    assert_eq!(calls(&told.take()), [(StoreOperation::Load, CallOutcome::Failed)]);
    world.watch.fail(Call::Load, Fault::Hangs);
    browser.get("/").await;
    let events = told.take();
    assert_eq!(calls(&events), [(StoreOperation::Load, CallOutcome::Abandoned)]);
    let is_long = |event: &Event| match event {
        Event::StoreCall { store, duration, .. } => {
            *store == "Watched" && *duration >= Duration::from_millis(190)
        }
        _ => false,
    };
    assert!(events.iter().any(is_long), "until the deadline: {events:?}");
    world.watch.heal();
    browser.get("/").await;
    assert_eq!(calls(&told.take()), [(StoreOperation::Load, CallOutcome::Answered)]);
}

/// The deletion is retried in the background, and that is a call too.
#[actix_web::test]
async fn the_retries_of_a_deletion_are_told() {
    let (world, told) = observed(Duration::from_millis(200)).await;
    let browser = world.customer().await;
    world.watch.fail(Call::Delete, Fault::Down);
    assert_eq!(browser.post("/destroy").await.status, 503);
    world.watch.heal();
    told.take();
    for _ in 0..1_000 {
        if world.rows() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(calls(&told.take()), [(StoreOperation::Delete, CallOutcome::Answered)]);
}

#[actix_web::test]
async fn a_probe_is_answered_503_within_the_deadline_and_logs_the_cause() {
    let world = shop_with(|builder| builder.deadline(Duration::from_millis(200))).await;
    let site = site!(world.sessions; "/ready" => health::<Shop>);
    for fault in [Fault::Down, Fault::Hangs] {
        world.watch.fail(Call::Health, fault);
        let (logs, _guard) = Logs::of_this_thread();
        let answer = tokio::time::timeout(Duration::from_secs(10), site.browser().get("/ready")).await;
        let answer = answer.expect("within the deadline");
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "Service Unavailable"));
        assert_eq!(answer.all("cache-control"), ["no-store"]);
        assert_eq!(logs.lines(&["WARN", "the sessions are not ready"]).len(), 1, "{}", logs.text());
    }
}

#[actix_web::test]
async fn loads_and_commits_have_spans_with_stable_names_and_no_secret() {
    let (world, logs) = (shop().await, Logs::default());
    // With a line for each span that closes.
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(logs.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let browser = world.browser();
    let mut secrets = vec!["a-private-item".to_owned()];
    for path in ["/add/a-private-item", "/count", "/login/4242424242", "/rotate"] {
        browser.post(path).await;
        secrets.push(browser.cookie(COOKIE).expect("a cookie"));
        secrets.push(id(&browser).to_string()[..9].to_owned());
    }
    world.clock.advance(Duration::from_mins(2));
    browser.get("/").await;
    browser.post("/logout").await;
    browser.set_cookie(COOKIE, &Token::from_bytes([7; 32]).encode());
    browser.get("/").await;
    world.watch.fail(Call::Load, Fault::Down);
    browser.get("/").await;
    let text = logs.text();
    for (span, field) in [
        ("databag.load", "outcome=\"loaded\""),
        ("databag.load", "outcome=\"rejected\""),
        ("databag.load", "outcome=\"failed\""),
        ("databag.commit", "plan=\"create\""),
        ("databag.commit", "plan=\"update\""),
        ("databag.commit", "plan=\"rotate\""),
        ("databag.commit", "plan=\"touch\""),
        ("databag.commit", "plan=\"delete\""),
    ] {
        let lines = logs.lines(&[span, field, "bag=\"databag-tests/Shop\"", "session=", "close"]);
        assert!(!lines.is_empty(), "{span} {field}: {text}");
    }
    for secret in secrets.iter().chain(["4242424242".to_owned()].iter()) {
        assert!(!text.contains(secret.as_str()), "{secret} in {text}");
    }
}

/// Returns the words in backticks in the first cells of the table under a heading.
fn rows(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n##").next().unwrap_or_default();
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
    section.lines().filter_map(cell).collect()
}

fn observability() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/observability.md");
    std::fs::read_to_string(path).expect("the page")
}

#[test]
fn the_page_lists_every_event_and_no_other() {
    let source = include_str!("../../session-runtime/src/engine/event.rs");
    let (_, events) = source.split_once("pub enum Event {\n").expect("the events");
    let (events, _) = events.split_once("\n}\n").expect("their end");
    let variant = |line: &str| Some(line.strip_prefix("    ")?.strip_suffix(" {")?.to_owned());
    let events: BTreeSet<_> =
        events.lines().filter(|line| !line.starts_with("     ")).filter_map(variant).collect();
    assert!(events.len() > 10 && events.contains("Created"), "{events:?}");
    assert_eq!(rows(&observability(), "Events"), events);
}

#[test]
fn the_page_lists_every_name_of_a_label() {
    let page = observability();
    let reasons = [
        Rejection::Malformed,
        Rejection::Duplicate,
        Rejection::Unknown,
        Rejection::Expired,
        Rejection::Tampered,
        Rejection::TooLarge,
        Rejection::Undecodable { field: None },
        Rejection::Address,
        Rejection::UserAgent,
        Rejection::UnknownKey,
    ];
    let names = (EndCause::ALL.iter().map(|name| name.name()))
        .chain(Stage::ALL.iter().map(|name| name.name()))
        .chain(Failure::ALL.iter().map(|name| name.name()))
        .chain(StoreOperation::ALL.iter().map(|name| name.name()))
        .chain(CallOutcome::ALL.iter().map(|name| name.name()))
        .chain(reasons.iter().map(|name| name.name()));
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_page_lists_every_span_and_no_other() {
    let source = include_str!("../../session-runtime/src/engine/span.rs");
    let spans: BTreeSet<_> =
        source.split("\"databag.").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect();
    let spans: BTreeSet<_> = spans.into_iter().map(|name| format!("databag.{name}")).collect();
    assert_eq!(spans.len(), 2);
    assert_eq!(rows(&observability(), "Spans"), spans);
}
