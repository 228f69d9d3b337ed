//! The simulated application: the real middleware and extractors, over a store that fails.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use actix_web::{HttpResponse, Responder, web};
use serde::{Deserialize, Serialize};
use session_runtime::{Databag, Error, Session, SessionRef};
use tokio::time::timeout;

use crate::Watch;
use crate::model::Millis;

#[derive(Databag)]
#[databag(cookie = "__Host-sim", idle = "1m", absolute = "5m")]
pub(crate) struct Sim {
    #[databag(user_id)]
    user_id: Option<u64>,
    /// The number of the request that started this content.
    lineage: u64,
    /// Every change, in its order: a change that is applied twice is here twice.
    #[databag(merge = "append")]
    log: Vec<Entry>,
    /// The numbers of the requests that changed it.
    tags: BTreeSet<u64>,
    count: u64,
    #[databag(merge = "sum")]
    sum: u64,
}

/// A change, and the request that made it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) change: Change,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) enum Change {
    Tag,
    Sum,
    /// By `update`.
    Count,
}

impl Sim {
    fn mark(&mut self, task: &Task) {
        if self.lineage == 0 {
            self.lineage = task.number;
        }
    }

    fn make(&mut self, change: Change, task: &Task) {
        self.mark(task);
        match change {
            Change::Tag => drop(self.tags.insert(task.number)),
            Change::Sum => self.sum += 1,
            Change::Count => self.count += 1,
        }
        self.log.push(Entry { number: task.number, change });
    }
}

/// The session, as an answer shows it.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct View {
    pub(crate) lineage: u64,
    pub(crate) log: Vec<Entry>,
    pub(crate) tags: BTreeSet<u64>,
    pub(crate) count: u64,
    pub(crate) sum: u64,
    /// The change of this request, if its answer is a success.
    pub(crate) made: Vec<Change>,
}

impl View {
    fn of(bag: &Sim, made: &[Change]) -> web::Json<Self> {
        web::Json(Self {
            lineage: bag.lineage,
            log: bag.log.clone(),
            tags: bag.tags.clone(),
            count: bag.count,
            sum: bag.sum,
            made: made.to_vec(),
        })
    }
}

/// What the handler of a request does.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) number: u64,
    /// How long the handler takes, in milliseconds.
    pub(crate) takes: u64,
    /// How long it waits for the store; `None` for as long as it takes.
    pub(crate) patience: u64,
    pub(crate) user: u64,
}

/// The moment before the handler of a request writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Time since the start of the simulation.
    pub(crate) after: Duration,
    /// The time on the server's clock.
    pub(crate) shown: Millis,
}

/// The requests whose handlers have started, and the moments of their writes.
pub(crate) struct Begun {
    watch: Watch,
    requests: RefCell<HashMap<u64, Option<Moment>>>,
}

impl Begun {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { watch, requests: RefCell::default() }
    }

    pub(crate) fn handled(&self, number: u64) -> bool {
        self.requests.borrow().contains_key(&number)
    }

    pub(crate) fn wrote(&self, number: u64) -> Option<Moment> {
        self.requests.borrow().get(&number).copied().flatten()
    }

    async fn work(&self, task: &Task) {
        self.requests.borrow_mut().insert(task.number, None);
        tokio::time::sleep(Duration::from_millis(task.takes)).await;
        let moment = Moment { after: self.watch.passed(), shown: self.watch.shown() };
        self.requests.borrow_mut().insert(task.number, Some(moment));
    }
}

type Asked = web::Query<Task>;
type Work = web::Data<Begun>;

pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.route("/read", web::get().to(read))
        .route("/peek", web::get().to(peek))
        .route("/add", web::post().to(add))
        .route("/count", web::post().to(count))
        .route("/sum", web::post().to(sum))
        .route("/both", web::post().to(both))
        .route("/save", web::post().to(save))
        .route("/hasty_save", web::post().to(hasty_save))
        .route("/hasty_update", web::post().to(hasty_update))
        .route("/login", web::post().to(log_in))
        .route("/logout", web::post().to(log_out))
        .route("/rotate", web::post().to(rotate))
        .route("/plain", web::get().to(HttpResponse::Ok));
}

async fn read(session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    work.work(&task).await;
    View::of(&session, &[])
}

async fn peek(session: SessionRef<Sim>, task: Asked, work: Work) -> impl Responder {
    work.work(&task).await;
    View::of(&session, &[])
}

async fn add(mut session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    session.make(Change::Tag, &task);
    work.work(&task).await;
    View::of(&session, &[Change::Tag])
}

async fn count(mut session: Session<Sim>, task: Asked, work: Work) -> Result<impl Responder, Error> {
    work.work(&task).await;
    session.update(|bag| bag.make(Change::Count, &task)).await?;
    Ok(View::of(&session, &[Change::Count]))
}

async fn sum(mut session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    session.make(Change::Sum, &task);
    work.work(&task).await;
    View::of(&session, &[Change::Sum])
}

/// Changes the session plainly and by `update`.
async fn both(mut session: Session<Sim>, task: Asked, work: Work) -> Result<impl Responder, Error> {
    session.make(Change::Sum, &task);
    work.work(&task).await;
    session.update(|bag| bag.make(Change::Count, &task)).await?;
    Ok(View::of(&session, &[Change::Sum, Change::Count]))
}

/// Saves, retries a failed save, and changes the session afterwards.
async fn save(mut session: Session<Sim>, task: Asked, work: Work) -> Result<impl Responder, Error> {
    session.make(Change::Sum, &task);
    work.work(&task).await;
    if session.save().await.is_err() {
        session.save().await?;
    }
    session.make(Change::Tag, &task);
    Ok(View::of(&session, &[Change::Sum, Change::Tag]))
}

/// Saves, and continues whether or not the save ends.
async fn hasty_save(mut session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    session.make(Change::Sum, &task);
    work.work(&task).await;
    drop(timeout(Duration::from_millis(task.patience), session.save()).await);
    session.make(Change::Tag, &task);
    View::of(&session, &[Change::Sum, Change::Tag])
}

/// The same with `update`.
async fn hasty_update(mut session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    session.make(Change::Sum, &task);
    work.work(&task).await;
    let update = session.update(|bag| bag.make(Change::Count, &task));
    let made = matches!(timeout(Duration::from_millis(task.patience), update).await, Ok(Ok(())));
    session.make(Change::Tag, &task);
    let all = [Change::Sum, Change::Tag, Change::Count];
    View::of(&session, if made { &all } else { &all[..2] })
}

async fn log_in(mut session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    session.mark(&task);
    work.work(&task).await;
    session.log_in(task.user);
    View::of(&session, &[])
}

async fn log_out(mut session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    work.work(&task).await;
    let ended = View::of(&session, &[]);
    session.log_out();
    ended
}

async fn rotate(mut session: Session<Sim>, task: Asked, work: Work) -> impl Responder {
    session.mark(&task);
    work.work(&task).await;
    session.rotate();
    View::of(&session, &[])
}
