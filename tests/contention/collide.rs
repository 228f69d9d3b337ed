//! The conflicting requests, their server, and the checks of the store afterwards.
//!
//! Every second worker has `Sessions` of its own on the same store, as another process has: conflicts are resolved by the
//! locks of a process and by the store. `RACES=n` is the number of races between a log-out and a slow request per store,
//! 100 by default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use databag_tests::{Client, Jar, Reply};
use futures_util::future::join_all;
use session_runtime::{
    Cleanup, Databag, Directory, Error, Keyring, Session, SessionId, SessionMiddleware, Sessions,
};

/// A bag with fifty fields and a setter by position.
macro_rules! wide {
    ($($field:ident)+) => {
        #[derive(Databag)]
        #[databag(table = "contention", cookie = "__Host-race")]
        pub(crate) struct Wide {
            #[databag(user_id)]
            user_id: Option<i64>,
            entries: BTreeMap<usize, usize>,
            count: u64,
            #[databag(merge = "sum")]
            sum: u64,
            $($field: usize,)+
        }

        impl Wide {
            fn fields(&mut self) -> Vec<&mut usize> {
                vec![$(&mut self.$field),+]
            }
        }
    };
}

wide! {
    f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12 f13 f14 f15 f16 f17 f18 f19 f20 f21 f22 f23 f24
    f25 f26 f27 f28 f29 f30 f31 f32 f33 f34 f35 f36 f37 f38 f39 f40 f41 f42 f43 f44 f45 f46 f47 f48 f49
}

async fn field(mut session: Session<Wide>, field: web::Path<usize>) -> &'static str {
    *session.fields()[*field] = *field + 1;
    "set"
}

async fn entry(mut session: Session<Wide>, entry: web::Path<usize>) -> &'static str {
    session.entries.insert(*entry, *entry + 1);
    "set"
}

async fn count(mut session: Session<Wide>) -> Result<&'static str, Error> {
    session.update(|bag| bag.count += 1).await?;
    Ok("counted")
}

async fn add(mut session: Session<Wide>) -> &'static str {
    session.sum += 1;
    "added"
}

/// Changes the session slowly; returns whether it had one.
async fn slow(mut session: Session<Wide>, path: web::Path<(u64, u64)>) -> Result<&'static str, Error> {
    let (what, micros) = *path;
    let found = if session.is_new() { "none" } else { "found" };
    let pause = tokio::time::sleep(Duration::from_micros(micros));
    match what {
        0 => {
            pause.await;
            session.count += 1;
        }
        1 => {
            pause.await;
            session.update(|bag| bag.count += 1).await?;
        }
        2 => {
            session.entries.insert(1, 1);
            pause.await;
            session.save().await?;
        }
        3 => {
            pause.await;
            session.rotate();
        }
        4 => {
            session.count += 1;
            pause.await;
            if !session.is_new() {
                let user = session.user_id.unwrap_or_default();
                session.log_in(user);
            }
        }
        _ => {
            pause.await;
            session.remember(true);
        }
    }
    Ok(found)
}

async fn log_out(mut session: Session<Wide>) -> &'static str {
    let found = if session.is_new() { "none" } else { "found" };
    session.log_out();
    found
}

async fn look(session: Session<Wide>) -> &'static str {
    if session.is_new() { "none" } else { "found" }
}

/// The sessions of two processes on one store, and their server.
pub(crate) struct Races {
    sessions: Sessions<Wide>,
    pub(crate) server: ServerHandle,
    pub(crate) address: SocketAddr,
}

pub(crate) async fn races<S: Directory + Clone>(store: S) -> Races {
    let key = Keyring::generate_text();
    let mut processes = Vec::new();
    for _ in 0..2 {
        let builder = Sessions::<Wide>::builder(store.clone())
            .keyring(Keyring::parse(&key).expect("a key"))
            .cleanup(Cleanup::Never)
            .deadline(Duration::from_secs(20));
        processes.push(builder.build().await.expect("good settings"));
    }
    let sessions = processes[0].clone();
    let next = Arc::new(AtomicUsize::new(0));
    let server = HttpServer::new(move || {
        let process = next.fetch_add(1, Ordering::Relaxed) % processes.len();
        App::new()
            .wrap(SessionMiddleware::new(processes[process].clone()))
            .route("/field/{field}", web::post().to(field))
            .route("/entry/{entry}", web::post().to(entry))
            .route("/count", web::post().to(count))
            .route("/add", web::post().to(add))
            .route("/slow/{what}/{micros}", web::post().to(slow))
            .route("/logout", web::post().to(log_out))
            .route("/look", web::post().to(look))
    })
    .workers(4)
    // An idle tab keeps its connection.
    .keep_alive(Duration::from_hours(1))
    .disable_signals()
    .bind("127.0.0.1:0")
    .expect("a free port");
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Races { sessions, server: handle, address }
}

impl Races {
    /// Makes a session, and returns a jar with its cookie.
    async fn session(&self, user: Option<i64>) -> (SessionId, Jar) {
        let (token, session) =
            self.sessions.create(Wide { user_id: user, ..Wide::defaults() }).await.expect("it is stored");
        (session.id(), Jar::of(self.sessions.cookie(&token).stripped().to_string()))
    }

    /// Sends all of these at once.
    async fn all(&self, jar: &Jar, paths: impl IntoIterator<Item = String>) -> Vec<Reply> {
        let send = async |path: String| Client::new(self.address, jar.clone()).post(&path).await;
        join_all(paths.into_iter().map(send)).await
    }
}

fn answered_well(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.status == 200).count()
}

/// Lets fifty requests write fifty fields, and fifty add an entry each: all of them are there, and all answered.
pub(crate) async fn fifty_writers<S: Directory + Clone>(name: &str, store: S) {
    let races = races(store).await;
    for kind in ["field", "entry"] {
        let (present, answered) = of_fifty(&races, kind).await;
        println!("{name}, {kind}: {present} of 50 present, {answered} answered 200");
        assert_eq!(present, 50, "{name}, {kind}");
        // 99 % of 50.
        assert_eq!(answered, 50, "{name}, {kind}");
    }
    races.server.stop(false).await;
}

/// Tells how many of fifty writes at once are there, and how many were answered well.
pub(crate) async fn of_fifty(races: &Races, kind: &str) -> (usize, usize) {
    let (id, jar) = races.session(None).await;
    let replies = races.all(&jar, (0..50).map(|n| format!("/{kind}/{n}"))).await;
    let mut bag = races.sessions.get(id).await.expect("answers").expect("alive").into_bag();
    let present = match kind {
        "field" => {
            let set = |(n, field): &(usize, &mut usize)| **field == n + 1;
            bag.fields().into_iter().enumerate().filter(set).count()
        }
        _ => bag.entries.iter().filter(|(n, entry)| **entry == **n + 1).count(),
    };
    (present, answered_well(&replies))
}

/// Lets twenty requests count by `update`, and twenty by a field that sums.
pub(crate) async fn twenty_increments<S: Directory + Clone>(name: &str, store: S) {
    let races = races(store).await;
    let (counted, summed, answered) = of_twenty(&races).await;
    println!("{name}: of 20 increments {counted} by update, {summed} by sum");
    assert_eq!((counted, summed, answered), (20, 20, 40), "{name}");
    races.server.stop(false).await;
}

/// Tells what twenty increments of each kind have come to, and how many of them were answered well.
pub(crate) async fn of_twenty(races: &Races) -> (u64, u64, usize) {
    let (id, jar) = races.session(None).await;
    let mut answered = 0;
    for path in ["/count", "/add"] {
        answered += answered_well(&races.all(&jar, (0..20).map(|_| path.to_owned())).await);
    }
    let bag = races.sessions.get(id).await.expect("answers").expect("alive");
    (bag.count, bag.sum, answered)
}

/// What a log-out and a slow request can differ in; it depends on the number of the race alone.
fn pauses(race: usize) -> (u64, u64, u64) {
    let race = race as u64;
    (race % 6, race * 7_919 % 2_500, race * 104_729 % 2_500)
}

/// Races a log-out against a slow request; returns whether both had the session.
pub(crate) async fn race(
    races: &Races,
    number: usize,
    [slow, out]: &mut [Client; 2],
) -> Result<bool, String> {
    let user = i64::try_from(number).expect("not so many");
    let (id, jar) = races.session(Some(user)).await;
    let old = Jar::of(jar.cookie().expect("a cookie"));
    let other = Jar::of(jar.cookie().expect("a cookie"));
    slow.use_jar(other.clone());
    out.use_jar(jar);
    let (what, work, wait) = pauses(number);
    let path = format!("/slow/{what}/{work}");
    let (late, left) = tokio::join!(slow.post(&path), async {
        tokio::time::sleep(Duration::from_micros(wait)).await;
        out.post("/logout").await
    });
    if ![200, 409].contains(&late.status) || ![200, 409].contains(&left.status) {
        return Err(format!("{path}: {} and {}", late.status, left.status));
    }
    // A request that came too late found no session: then there was no race.
    let both = late.body != "none" && left.body == "found";
    if left.status == 200 && both {
        for (name, jar) in [("the old", old), ("the slow request's", other)] {
            out.use_jar(jar);
            if out.post("/look").await.body != "none" {
                return Err(format!("{path}, logged out after {wait} µs: {name} cookie opens a session"));
            }
        }
        let alive = races.sessions.of_user(user).await.map_err(|error| error.to_string())?;
        if !alive.is_empty() || races.sessions.get(id).await.map_err(|error| error.to_string())?.is_some() {
            return Err(format!("{path}, logged out after {wait} µs: it is listed"));
        }
    }
    Ok(both)
}

/// Races log-outs against slow requests: prints how many, and how many revived a session.
pub(crate) async fn race_often<S: Directory + Clone>(name: &str, store: S) {
    const LANES: usize = 4;
    let often = std::env::var("RACES").map_or(100, |often| often.parse().expect("RACES is a number"));
    let races = races(store).await;
    let since = Instant::now();
    let lanes = (0..LANES).map(async |lane| {
        let mut clients = [(); 2].map(|()| Client::new(races.address, Jar::default()));
        let (mut met, mut revived) = (0, Vec::new());
        for number in (lane..often).step_by(LANES) {
            match race(&races, number, &mut clients).await {
                Ok(both) => met += usize::from(both),
                Err(error) => revived.push(format!("race {number}: {error}")),
            }
        }
        (met, revived)
    });
    let (met, revived): (Vec<_>, Vec<_>) = join_all(lanes).await.into_iter().unzip();
    let (met, revived) = (met.into_iter().sum::<usize>(), revived.concat());
    println!("{name}: {often} races in {:.1?}, both had the session in {met}", since.elapsed());
    println!("{name}: {} revived", revived.len());
    assert!(revived.is_empty(), "{name}; RACES={often} repeats them: {revived:#?}");
    // With fewer real races the result would prove too little.
    assert!(met * 10 > often, "{name}: only {met} of {often} were races");
    races.server.stop(false).await;
}
