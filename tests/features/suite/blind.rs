//! Columns that hold keyed hashes, on every store that keeps rows.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::SystemTime;

use actix_web::{App, HttpResponse, Responder, web};
use databag_tests::{ManualClock, Site};
use futures_util::future::join_all;
use session_runtime::access::{Backing, Listed};
use session_runtime::{
    Cleanup, Databag, Error, Keyring, Session, SessionMiddleware, SessionRef, Sessions, Snapshot, Token,
};

use super::app::{MINUTE, SECOND};

#[derive(Clone, Databag)]
#[databag(table = "patients", cookie = "__Host-patient", max_per_user = 2)]
pub(crate) struct Patient {
    #[databag(user_id, blind)]
    pub(crate) user_id: Option<String>,
    #[databag(ip_addr, blind)]
    pub(crate) ip_addr: Option<IpAddr>,
    #[databag(column, blind, index, secret)]
    pub(crate) email: Option<String>,
    #[databag(column)]
    pub(crate) floor: i64,
    #[databag(column)]
    pub(crate) city: Option<String>,
    #[databag(column, blind)]
    pub(crate) ward: Option<i64>,
    pub(crate) count: u32,
}

pub(crate) const COOKIE: &str = "__Host-patient";

/// Any store that lists its rows.
pub(crate) trait Lists: Backing<Access = Listed> + Clone {}

impl<S: Backing<Access = Listed> + Clone> Lists for S {}

/// Runs every test on a store.
macro_rules! blind {
    ($store:ident: $open:expr) => {
        mod $store {
            #[allow(unused_imports)]
            use super::*;

            $crate::suite::blind::blind! { @tests $open;
                a_blind_user_is_found_counted_and_revoked,
                queries_find_equal_values_alone,
                a_log_in_ends_the_oldest_session_of_a_blind_user,
                another_user_in_the_session_is_found,
                hashes_under_an_older_key_are_found,
                a_log_in_counts_the_sessions_under_an_older_key,
                log_ins_at_once_end_the_sessions_under_an_older_key,
                a_page_that_only_reads_moves_the_session_to_the_current_key,
                blind_bytes_are_found,
                a_column_that_becomes_blind_or_is_blind_no_more_is_refused,
            }
        }
    };
    (@tests $open:expr; $($test:ident,)+) => {
        $(
            #[actix_web::test]
            async fn $test() {
                $crate::suite::blind::$test($open).await;
            }
        )+
    };
}
pub(crate) use blind;

/// The sessions under these keys, the current one first.
pub(crate) async fn open(store: impl Lists, keys: &[&str], clock: &ManualClock) -> Sessions<Patient> {
    let keyring = Keyring::parse(&keys.join(" ")).expect("good keys");
    let sessions = Sessions::<Patient>::builder(store).keyring(keyring).cleanup(Cleanup::Never);
    sessions.clock(clock.clone()).build().await.expect("good settings")
}

/// A new key: with it, no other test has rows with these hashes.
fn key() -> String {
    Keyring::generate_text().to_string()
}

fn patient(user: &str) -> Patient {
    Patient { user_id: Some(user.to_owned()), ..Patient::defaults() }
}

async fn count(sessions: &Sessions<Patient>, user: &str) -> usize {
    sessions.of_user(user).await.expect("it answers").len()
}

pub(crate) async fn a_blind_user_is_found_counted_and_revoked(store: impl Lists) {
    let sessions = open(store, &[&key()], &ManualClock::default()).await;
    let create = async |user: &str| sessions.create(patient(user)).await.expect("stored").0.session_id();
    let [dana, _, kim] = [create("dana").await, create("dana").await, create("kim").await];
    let found = sessions.of_user("dana").await.expect("it answers");
    assert_eq!(found.iter().map(|session| session.user_id()).collect::<Vec<_>>(), [Some("dana"); 2]);
    assert_eq!(count(&sessions, "Dana").await, 0);
    assert_eq!(sessions.find(Patient::USER_ID.eq("dana")).count().await.expect("it answers"), 2);
    assert_eq!(sessions.revoke_user_except("dana", dana).await.expect("it answers"), 1);
    assert!(sessions.get(dana).await.expect("it answers").is_some());
    assert_eq!(sessions.revoke_user("dana").await.expect("it answers"), 1);
    assert!(sessions.get(dana).await.expect("it answers").is_none());
    assert!(sessions.get(kim).await.expect("it answers").is_some());
}

pub(crate) async fn queries_find_equal_values_alone(store: impl Lists) {
    let sessions = open(store, &[&key()], &ManualClock::default()).await;
    // The queries for what is not equal would find the rows of other tests too.
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    let floor = i64::try_from(since.as_nanos()).expect("before 2262");
    let address: IpAddr = "2001:db8::7".parse().expect("an address");
    for (count, (email, ward, ip_addr)) in [
        (Some("a@example.com"), Some(7), Some(address)),
        (Some("b@example.com"), Some(7), None),
        (Some("7"), None, None),
        (None, Some(-7), None),
    ]
    .into_iter()
    .enumerate()
    {
        let (email, count) = (email.map(str::to_owned), u32::try_from(count).expect("few"));
        let bag = Patient { ip_addr, email, floor, ward, count, ..Patient::defaults() };
        sessions.create(bag).await.expect("stored");
    }
    let (email, ward) = (Patient::EMAIL, Patient::WARD);
    for (query, expected) in [
        (email.eq("a@example.com"), &[0][..]),
        (email.eq("A@example.com"), &[]),
        (email.ne("a@example.com"), &[1, 2]),
        (email.one_of(["b@example.com", "7", "c"]), &[1, 2]),
        (email.one_of([""; 0]), &[]),
        (email.is_none(), &[3]),
        (email.is_some(), &[0, 1, 2]),
        (email.eq("a@example.com").not(), &[1, 2, 3]),
        (ward.eq(7), &[0, 1]),
        (ward.eq(7).and(email.eq("b@example.com")), &[1]),
        (ward.eq(-7).or(email.eq("7")), &[2, 3]),
        (Patient::IP_ADDR.eq(address), &[0]),
        (Patient::FLOOR.le(floor), &[0, 1, 2, 3]),
    ] {
        let query = query.and(Patient::FLOOR.eq(floor));
        let found = sessions.find(query.clone()).await.expect("it answers");
        let mut found: Vec<_> = found.iter().map(|session| session.count).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(sessions.find(query).count().await.expect("it answers"), expected.len() as u64);
    }
    let query = ward.eq(7).and(Patient::FLOOR.eq(floor));
    assert_eq!(sessions.find(query).delete().await.expect("it answers"), 2);
}

pub(crate) async fn a_log_in_ends_the_oldest_session_of_a_blind_user(store: impl Lists) {
    let clock = ManualClock::default();
    let sessions = open(store, &[&key()], &clock).await;
    let mut tokens = Vec::new();
    for user in ["dana", "dana", "kim", "dana"] {
        clock.advance(SECOND);
        tokens.push(sessions.create(patient(user)).await.expect("stored").0);
    }
    assert_eq!(live(&sessions, &tokens).await, [false, true, true, true]);
}

async fn live(sessions: &Sessions<Patient>, tokens: &[Token]) -> Vec<bool> {
    let mut live = Vec::new();
    for token in tokens {
        live.push(sessions.load(token).await.expect("it answers").is_some());
    }
    live
}

pub(crate) async fn another_user_in_the_session_is_found(store: impl Lists) {
    let sessions = open(store, &[&key()], &ManualClock::default()).await;
    let (_, created) = sessions.create(patient("dana")).await.expect("stored");
    let change = |patient: &mut Patient| {
        patient.set_user_id("kim");
        patient.set_email("kim@example.com");
    };
    sessions.update(created.id(), change).await.expect("stored");
    let found = sessions.find(Patient::EMAIL.eq("kim@example.com")).await.expect("it answers");
    assert_eq!(found.len(), 1);
    assert_eq!([count(&sessions, "dana").await, count(&sessions, "kim").await], [0, 1]);
}

pub(crate) async fn hashes_under_an_older_key_are_found(store: impl Lists) {
    let (old, new, clock) = (key(), key(), ManualClock::default());
    let before = open(store.clone(), &[&old], &clock).await;
    let bag = Patient { email: Some("dana@example.com".to_owned()), ..patient("dana") };
    let (token, _) = before.create(bag.clone()).await.expect("stored");
    let sessions = open(store.clone(), &[&new, &old], &clock).await;
    let found = async |sessions: &Sessions<Patient>| {
        let email = Patient::EMAIL;
        [
            count(sessions, "dana").await,
            sessions.find(email.eq("dana@example.com")).await.expect("it answers").len(),
            sessions.find(email.one_of(["dana@example.com", "x"])).await.expect("it answers").len(),
        ]
    };
    assert_eq!(found(&sessions).await, [1; 3]);
    assert_eq!(live(&sessions, std::slice::from_ref(&token)).await, [true]);
    sessions.create(bag).await.expect("stored");
    assert_eq!(found(&sessions).await, [2; 3]);
    // A change of another field moves the row to the current key, with all its hashes.
    sessions.update(token.session_id(), |patient| patient.count += 1).await.expect("stored");
    assert_eq!(live(&sessions, std::slice::from_ref(&token)).await, [true]);
    let after = open(store.clone(), &[&new], &clock).await;
    assert_eq!(found(&after).await, [2; 3]);

    let (token, _) = before.create(patient("kim")).await.expect("stored");
    assert_eq!(sessions.find(Patient::USER_ID.eq("kim")).count().await.expect("it answers"), 1);
    assert_eq!(count(&after, "kim").await, 0);
    sessions.reseal_all(|_, _| {}).await.expect("it answers");
    assert_eq!([count(&after, "kim").await, count(&before, "kim").await], [1, 0]);
    assert_eq!(live(&after, std::slice::from_ref(&token)).await, [true]);
    before.create(patient("kim")).await.expect("stored");
    assert_eq!(sessions.revoke_user("kim").await.expect("it answers"), 2);
    assert_eq!(live(&after, &[token]).await, [false]);
}

pub(crate) async fn a_log_in_counts_the_sessions_under_an_older_key(store: impl Lists) {
    let (old, new, clock) = (key(), key(), ManualClock::default());
    let before = open(store.clone(), &[&old], &clock).await;
    let sessions = open(store, &[&new, &old], &clock).await;
    let mut tokens = Vec::new();
    for (sessions, user) in
        [(&before, "dana"), (&before, "dana"), (&before, "kim"), (&sessions, "dana"), (&sessions, "dana")]
    {
        clock.advance(SECOND);
        tokens.push(sessions.create(patient(user)).await.expect("stored").0);
    }
    assert_eq!(live(&sessions, &tokens).await, [false, false, true, true, true]);
    assert_eq!(count(&sessions, "dana").await, 2);
}

pub(crate) async fn log_ins_at_once_end_the_sessions_under_an_older_key(store: impl Lists) {
    let (old, new, clock) = (key(), key(), ManualClock::default());
    let before = open(store.clone(), &[&old], &clock).await;
    let [one, other] =
        [open(store.clone(), &[&new, &old], &clock).await, open(store, &[&new, &old], &clock).await];
    for _ in 0..5 {
        for _ in 0..2 {
            before.create(patient("dana")).await.expect("stored");
        }
        clock.advance(SECOND);
        let log_ins = [&one, &other, &one, &other].map(|sessions| sessions.create(patient("dana")));
        let tokens: Vec<_> =
            join_all(log_ins).await.into_iter().map(|created| created.expect("stored").0).collect();
        let live = live(&one, &tokens).await;
        assert_eq!(live.iter().filter(|is_live| **is_live).count(), 2);
        assert_eq!(count(&one, "dana").await, 2);
    }
}

pub(crate) async fn a_page_that_only_reads_moves_the_session_to_the_current_key(store: impl Lists) {
    async fn log_in(mut session: Session<Patient>) -> impl Responder {
        session.log_in("dana");
        HttpResponse::Ok()
    }

    async fn who(session: SessionRef<Patient>) -> impl Responder {
        session.user_id().unwrap_or("nobody").to_owned()
    }

    async fn end_others(mut session: Session<Patient>) -> Result<&'static str, Error> {
        session.rotate_and_end_others().await?;
        Ok("ended")
    }

    async fn site(sessions: &Sessions<Patient>) -> Site {
        let routes = |config: &mut web::ServiceConfig| {
            config
                .route("/login", web::post().to(log_in))
                .route("/who", web::get().to(who))
                .route("/others", web::post().to(end_others));
        };
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
        Site::new(actix_web::test::init_service(app).await)
    }

    let (old, new, clock) = (key(), key(), ManualClock::default());
    let before = open(store.clone(), &[&old], &clock).await;
    let browser = site(&before).await.browser();
    assert!(browser.post("/login").await.status.is_success());
    let cookie = browser.cookie(COOKIE).expect("a session");
    clock.advance(5 * MINUTE);
    let sessions = open(store.clone(), &[&new, &old], &clock).await;
    let browser = site(&sessions).await.browser();
    browser.set_cookie(COOKIE, &cookie);
    assert_eq!(browser.get("/who").await.body, "dana");
    let after = open(store, &[&new], &clock).await;
    assert_eq!(count(&after, "dana").await, 1);
    assert_eq!(browser.get("/who").await.body, "dana");
    // A changed password ends the sessions under either key.
    before.create(patient("dana")).await.expect("stored");
    assert_eq!(browser.post("/others").await.body, "ended");
    assert_eq!(count(&sessions, "dana").await, 1);
    assert_eq!(browser.get("/who").await.body, "dana");
}

/// Two declarations of one bag: with a column, and with the same column blind. The first one makes the table.
macro_rules! declarations {
    ($($module:ident $table:literal: $attribute:ident $field:ident: $ty:ty, $first:ident then $second:ident;)+) => {
        $(
            mod $module {
                use session_runtime::Databag;

                #[derive(Databag)]
                #[databag(name = "clinic/Visit", table = $table)]
                pub(super) struct Plain {
                    #[databag($attribute)]
                    $field: Option<$ty>,
                }

                #[derive(Databag)]
                #[databag(name = "clinic/Visit", table = $table)]
                pub(super) struct Blind {
                    #[databag($attribute, blind)]
                    $field: Option<$ty>,
                }
            }
        )+

        pub(crate) async fn a_column_that_becomes_blind_or_is_blind_no_more_is_refused(store: impl Lists) {
            $(
                assert_eq!(refusal_of::<$module::$first>(store.clone()).await, None);
                let refusal = refusal_of::<$module::$second>(store.clone()).await.expect("refused");
                for name in [$table, stringify!($field)] {
                    assert!(refusal.contains(&format!("{name:?}")), "{refusal}");
                }
                assert_eq!(refusal_of::<$module::$first>(store.clone()).await, None);
            )+
        }
    };
}

declarations! {
    of_integers "of_integers": column it: i64, Plain then Blind;
    of_reals "of_reals": column it: f64, Plain then Blind;
    of_texts "of_texts": column it: String, Plain then Blind;
    of_bytes "of_bytes": column it: Vec<u8>, Plain then Blind;
    of_users "of_users": user_id user_id: String, Plain then Blind;
    of_numbers "of_numbers": user_id user_id: i64, Plain then Blind;
    of_keys "of_keys": user_id user_id: Vec<u8>, Plain then Blind;
    of_addresses "of_addresses": ip_addr ip_addr: std::net::IpAddr, Plain then Blind;
    of_blind_texts "of_blind_texts": column it: String, Blind then Plain;
    of_blind_bytes "of_blind_bytes": column it: Vec<u8>, Blind then Plain;
    of_blind_users "of_blind_users": user_id user_id: i64, Blind then Plain;
    of_blind_addresses "of_blind_addresses": ip_addr ip_addr: std::net::IpAddr, Blind then Plain;
}

/// Returns why a bag cannot be built, if it cannot.
async fn refusal_of<T: Databag>(store: impl Lists) -> Option<String> {
    let sessions = Sessions::<T>::builder(store).keyring(Keyring::generate()).cleanup(Cleanup::Never);
    let mut error: Option<&dyn std::error::Error> = None;
    let refusal = sessions.build().await.err()?;
    let mut text = refusal.to_string();
    while let Some(source) = error.map_or(refusal.source(), std::error::Error::source) {
        text = format!("{text}: {source}");
        error = Some(source);
    }
    Some(text)
}

#[derive(Databag)]
#[databag(table = "tags", cookie = "__Host-tag")]
struct Tagged {
    #[databag(column, blind, index)]
    tag: Option<Vec<u8>>,
}

pub(crate) async fn blind_bytes_are_found(store: impl Lists) {
    let sessions = Sessions::<Tagged>::builder(store).keyring(Keyring::generate()).cleanup(Cleanup::Never);
    let sessions = sessions.build().await.expect("good settings");
    let (token, _) = sessions.create(Tagged { tag: Some(vec![0, 255]) }).await.expect("stored");
    sessions.create(Tagged { tag: Some(vec![0]) }).await.expect("stored");
    let found = sessions.find(Tagged::TAG.eq(vec![0, 255])).await.expect("it answers");
    assert_eq!(found.iter().map(Snapshot::id).collect::<Vec<_>>(), [token.session_id()]);
    assert_eq!(found[0].tag(), Some(&[0, 255][..]));
}
