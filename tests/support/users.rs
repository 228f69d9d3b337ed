//! What a store promises of the sessions of one user: checks for any store.

use std::time::{Duration, SystemTime};

use actix_web::{App, HttpResponse, Responder, test, web};
use futures_util::future::join_all;
use session_runtime::{
    Cleanup, Databag, Directory, Error, LoggedIn, Session, SessionId, SessionMiddleware, Sessions, Snapshot,
};

use crate::{Browser, Gate, Site};

/// How many sessions of a [`Limited`] bag a user may have.
pub const MAX: usize = 3;

/// The cookie of a [`Limited`] bag.
pub const COOKIE: &str = "limited";

/// A bag with a limit.
#[derive(Databag)]
#[databag(table = "limited", cookie = "limited", max_per_user = 3)]
#[derive(Debug)]
pub struct Limited {
    /// The user.
    #[databag(user_id)]
    pub user_id: Option<i64>,
    /// Anything else.
    pub count: u32,
}

/// Makes the sessions of a program whose clock is so many seconds ahead.
///
/// # Panics
///
/// If they cannot be built.
pub async fn sessions<S: Directory>(store: S, ahead: i64) -> Sessions<Limited> {
    let clock = move || {
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    };
    let sessions = Sessions::<Limited>::builder(store).danger_plaintext().clock(clock);
    sessions.cleanup(Cleanup::Never).build().await.expect("good settings")
}

/// Makes a user that no other test has.
///
/// # Panics
///
/// After the year 2262.
pub fn user() -> i64 {
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    i64::try_from(nanos).expect("a time of this century")
}

async fn log_in(sessions: &Sessions<Limited>, user: i64) -> SessionId {
    let (_, session) =
        sessions.create(Limited { user_id: Some(user), count: 0 }).await.expect("it is stored");
    session.id()
}

async fn ids(sessions: &Sessions<Limited>, user: i64) -> Vec<SessionId> {
    sessions.of_user(user).await.expect("it answers").iter().map(Snapshot::id).collect()
}

/// Returns the sessions of a list that are still there, for stores whose lists show no single moment: these ones were there
/// all together when the list ended.
///
/// # Panics
///
/// If the store fails.
pub async fn still_there<T: Databag>(sessions: &Sessions<T>, listed: &[SessionId]) -> Vec<SessionId> {
    let again = join_all(listed.iter().map(|id| sessions.get(*id))).await;
    let there: Vec<_> =
        again.into_iter().filter_map(|session| Some(session.expect("it answers")?.id())).collect();
    listed.iter().copied().filter(|id| there.contains(id)).collect()
}

/// Forty log-ins of one user at the same time, by programs whose clocks differ. Half of them begin a session, and half continue
/// that of a visitor. At no moment the user has more sessions than allowed. `is_snapshot` says whether a list shows one moment.
///
/// # Panics
///
/// If the store breaks its promise.
pub async fn parallel_log_ins<S: Directory>(open: impl AsyncFn() -> S, is_snapshot: bool) {
    let user = user();
    let mut programs = Vec::new();
    for ahead in [0, 5, -5, -300] {
        programs.push(sessions(open().await, ahead).await);
    }
    let log_ins: Vec<_> = (0..40)
        .map(|n: usize| {
            let program = programs[n % programs.len()].clone();
            tokio::spawn(async move {
                if n % 8 < 4 {
                    log_in(&program, user).await;
                } else {
                    let visitor = Limited { user_id: None, count: 1 };
                    let (_, visitor) = program.create(visitor).await.expect("it is stored");
                    let change = |bag: &mut Limited| bag.user_id = Some(user);
                    program.update(visitor.id(), change).await.expect("it is stored");
                }
            })
        })
        .collect();
    while !log_ins.iter().all(tokio::task::JoinHandle::is_finished) {
        let mut found = ids(&programs[0], user).await;
        if found.len() > MAX && !is_snapshot {
            found = still_there(&programs[0], &found).await;
        }
        assert!(found.len() <= MAX, "{found:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for log_in in log_ins {
        log_in.await.expect("no log-in fails");
    }
    assert_eq!(ids(&programs[0], user).await.len(), MAX);
    // Whatever the clocks say, the newcomer stays.
    for n in [3, 0, 2, 1, 3, 3, 1, 0, 2] {
        let newcomer = log_in(&programs[n], user).await;
        let left = ids(&programs[0], user).await;
        assert!(left.contains(&newcomer) && left.len() == MAX, "program {n}");
    }
}

async fn see_user(session: Session<Limited>) -> String {
    format!("{:?}", session.user_id)
}

async fn enter(mut session: Session<Limited>, user: web::Path<i64>) -> &'static str {
    session.log_in(*user);
    "in"
}

async fn change_password(mut session: LoggedIn<Limited>) -> Result<impl Responder, Error> {
    session.count += 1;
    session.rotate_and_end_others().await?;
    Ok(HttpResponse::Ok().body("changed"))
}

async fn write_late(mut session: Session<Limited>, gate: web::Data<Gate>) -> &'static str {
    gate.pass().await;
    session.count += 1;
    "written"
}

/// An application where users log in and change their passwords.
pub async fn site(sessions: &Sessions<Limited>, gate: &Gate) -> Site {
    let app = App::new()
        .wrap(SessionMiddleware::new(sessions.clone()))
        .app_data(web::Data::new(gate.clone()))
        .route("/user", web::get().to(see_user))
        .route("/login/{user}", web::post().to(enter))
        .route("/password", web::post().to(change_password))
        .route("/late", web::post().to(write_late));
    Site::new(test::init_service(app).await)
}

/// Returns browsers in which a user has logged in.
///
/// # Panics
///
/// If a log-in fails.
pub async fn log_ins<const N: usize>(site: &Site, user: i64) -> [Browser; N] {
    let browsers = [(); N].map(|()| site.browser());
    for browser in &browsers {
        assert_eq!(browser.post(&format!("/login/{user}")).await.body, "in");
        // They begin at different times.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    browsers
}

/// A user changes the password in one of three browsers: the others are signed out, and so is who has copied the cookie of
/// this one. A request in flight revives nothing.
///
/// # Panics
///
/// If the store breaks its promise.
pub async fn password_change<S: Directory>(store: S) {
    let (user, gate) = (user(), Gate::default());
    let sessions = sessions(store, 0).await;
    let site = site(&sessions, &gate).await;
    let [changing, late, other] = log_ins(&site, user).await;
    let [stranger] = log_ins(&site, user + 1).await;
    let thief = changing.copied();
    let (written, ()) = tokio::join!(late.post("/late"), async {
        gate.arrival().await;
        assert_eq!(changing.post("/password").await.status, 200);
        gate.open();
    });
    assert_eq!((written.status.as_u16(), written.set_cookies()), (409, Vec::new()));
    for signed_out in [&thief, &late, &other] {
        assert_eq!(signed_out.get("/user").await.body, "None");
    }
    assert_eq!(changing.get("/user").await.body, format!("Some({user})"));
    assert_eq!(stranger.get("/user").await.body, format!("Some({})", user + 1));
    let left = sessions.of_user(user).await.expect("it answers");
    assert_eq!((left.len(), left[0].count), (1, 1), "what the request has changed is stored too");
}
