//! The application under simulation: the real middleware and the real extractors, over a store that fails.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use actix_web::{HttpResponse, Responder, web};
use serde::{Deserialize, Serialize};
use session_runtime::{Databag, Error, Session, SessionRef};

#[derive(Databag)]
#[databag(cookie = "__Host-sim", idle = "1m", absolute = "5m")]
pub(crate) struct Sim {
    #[databag(user_id)]
    user_id: Option<u64>,
    /// The number of the request that began this content.
    lineage: u64,
    /// The numbers of the requests that wrote here.
    tags: BTreeSet<u64>,
    count: u64,
    #[databag(merge = "sum")]
    sum: u64,
}

/// What an answer shows of the session.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct View {
    pub(crate) lineage: u64,
    pub(crate) tags: BTreeSet<u64>,
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) expires: u64,
}

impl View {
    fn of(bag: &Sim, expires: SystemTime) -> Self {
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            lineage: bag.lineage,
            tags: bag.tags.clone(),
            count: bag.count,
            sum: bag.sum,
            expires: u64::try_from(expires.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The requests whose handlers began.
pub(crate) type Begun = Rc<RefCell<HashSet<u64>>>;

/// How a request is to be handled.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) number: u64,
    /// How long the handler takes, in milliseconds.
    pub(crate) takes: u64,
    pub(crate) user: u64,
}

pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.route("/read", web::get().to(read))
        .route("/peek", web::get().to(peek))
        .route("/add", web::post().to(add))
        .route("/count", web::post().to(count))
        .route("/sum", web::post().to(sum))
        .route("/login", web::post().to(log_in))
        .route("/logout", web::post().to(log_out))
        .route("/rotate", web::post().to(rotate))
        .route("/plain", web::get().to(HttpResponse::Ok));
}

async fn begin(task: &Task, begun: &Begun) {
    begun.borrow_mut().insert(task.number);
    tokio::time::sleep(Duration::from_millis(task.takes)).await;
}

fn mark(bag: &mut Sim, task: &Task) {
    if bag.lineage == 0 {
        bag.lineage = task.number;
    }
}

fn view(session: &Session<Sim>) -> impl Responder + use<> {
    web::Json(View::of(session, session.expires()))
}

async fn read(session: Session<Sim>, task: web::Query<Task>, begun: web::Data<Begun>) -> impl Responder {
    begin(&task, &begun).await;
    view(&session)
}

async fn peek(session: SessionRef<Sim>, task: web::Query<Task>, begun: web::Data<Begun>) -> impl Responder {
    begin(&task, &begun).await;
    web::Json(View::of(&session, SystemTime::UNIX_EPOCH))
}

async fn add(mut session: Session<Sim>, task: web::Query<Task>, begun: web::Data<Begun>) -> impl Responder {
    mark(&mut session, &task);
    session.tags.insert(task.number);
    begin(&task, &begun).await;
    view(&session)
}

async fn count(
    mut session: Session<Sim>,
    task: web::Query<Task>,
    begun: web::Data<Begun>,
) -> Result<impl Responder, Error> {
    begin(&task, &begun).await;
    session
        .update(|bag| {
            mark(bag, &task);
            bag.count += 1;
        })
        .await?;
    Ok(view(&session))
}

async fn sum(mut session: Session<Sim>, task: web::Query<Task>, begun: web::Data<Begun>) -> impl Responder {
    mark(&mut session, &task);
    session.sum += 1;
    begin(&task, &begun).await;
    view(&session)
}

async fn log_in(
    mut session: Session<Sim>,
    task: web::Query<Task>,
    begun: web::Data<Begun>,
) -> impl Responder {
    mark(&mut session, &task);
    begin(&task, &begun).await;
    session.log_in(task.user);
    view(&session)
}

async fn log_out(
    mut session: Session<Sim>,
    task: web::Query<Task>,
    begun: web::Data<Begun>,
) -> impl Responder {
    begin(&task, &begun).await;
    let ended = view(&session);
    session.log_out();
    ended
}

async fn rotate(
    mut session: Session<Sim>,
    task: web::Query<Task>,
    begun: web::Data<Begun>,
) -> impl Responder {
    mark(&mut session, &task);
    begin(&task, &begun).await;
    session.rotate();
    view(&session)
}
