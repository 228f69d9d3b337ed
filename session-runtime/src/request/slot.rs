//! The slot that a session lives in during a request. It is one state machine:
//!
//! ```text
//! Untouched --load--> Idle --lend--> Lent --give back--> Idle
//!     |                ^              |
//!     |                |              +--panic--> Abandoned
//!     +--load--> LoadFailed --load--+
//!
//! each of them --finish--> Finished --load, by a later reader--> Finished, with a copy
//! ```
//!
//! So there is one writer at a time, and when the handler has answered it is known what it did.

use std::cell::{Cell, RefCell};
use std::mem::{Discriminant, discriminant, replace};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
#[cfg(feature = "actix")]
use tracing::{Instrument as _, Span};

use super::csrf::CsrfState;
#[cfg(feature = "actix")]
use crate::backend::Custody;
use crate::bag::Databag;
#[cfg(feature = "actix")]
use crate::engine::core::Freshness;
use crate::engine::core::{CookieUpdate, Engine};
use crate::engine::event::{Event, Failure, Stage};
use crate::engine::load::Active;
#[cfg(feature = "actix")]
use crate::engine::load::{Client, LoadOutcome};
#[cfg(feature = "actix")]
use crate::engine::span;
#[cfg(feature = "actix")]
use crate::envelope::CsrfCookie;
#[cfg(feature = "actix")]
use crate::error::Rejection;
use crate::error::{Error, ErrorChain};
#[cfg(feature = "actix")]
use crate::store::Row;
use crate::token::SessionId;
#[cfg(feature = "actix")]
use crate::token::Token;

pub(crate) struct Slot<T> {
    pub(crate) engine: Arc<Engine>,
    pub(super) state: RefCell<State<T>>,
    pub(super) csrf: CsrfState,
    /// How long this request has waited for the store.
    waited: Cell<Duration>,
    /// Extractors of one handler run side by side; the session is loaded once.
    #[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "only a middleware loads sessions"))]
    loading: Mutex<()>,
}

pub(super) enum State<T> {
    /// No extractor has asked for the session.
    Untouched,
    /// The session could not be loaded; the error was reported.
    #[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "only a middleware loads sessions"))]
    LoadFailed,
    /// No `Session` holds it. `SessionRef`s may share it.
    Idle { held: Rc<Held<T>>, cookie: Option<CookieUpdate> },
    /// A `Session` holds it.
    Lent(Loan),
    /// A handler that held it has panicked: nothing of what it has changed is stored.
    #[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "only a middleware finishes requests"))]
    Abandoned(Loan),
    /// The handler has answered. Later readers share a copy of their own; nothing is stored any more.
    #[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "only a middleware finishes requests"))]
    Finished(Option<Rc<Held<T>>>),
}

/// What is known of a session that a handler holds, in case it is never given back.
pub(super) struct Loan {
    /// What was stored so far and the cookie has to learn.
    pub(super) cookie: Option<CookieUpdate>,
    /// The session that the handler wants to end.
    pub(super) ending: Option<SessionId>,
}

/// A loaded session.
pub(crate) struct Held<T> {
    pub(super) active: Active<T>,
    /// The id that the client's cookie opens.
    #[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "only a middleware sends cookies"))]
    pub(super) known: Option<SessionId>,
    /// Whether a handler has used a [`Session`](super::Session). A handler that never ran, because a form did not
    /// parse or no user is logged in, has not read a flash value either.
    pub(super) is_used: Cell<bool>,
    /// The kind of the last failure that was reported, and whether it left a write unconfirmed.
    pub(super) reported: Option<(FailureKind, bool)>,
}

/// What tells failures apart: the stage, and whether the store refuses the write for good.
type FailureKind = (Discriminant<Error>, bool);

fn kind(error: &Error) -> FailureKind {
    (discriminant(error), error.is_refused())
}

impl<T: Databag> Held<T> {
    pub(super) fn new(active: Active<T>, known: Option<SessionId>) -> Self {
        Self { active, known, is_used: Cell::new(false), reported: None }
    }

    /// Logs and counts a failure, unless it is the consequence of one that was reported.
    pub(super) fn report(&mut self, engine: &Engine, error: &Error, stage: Stage) {
        if !self.is_reported(error) {
            report::<T>(engine, Some(self.active.id), error, stage);
            self.reported = Some((kind(error), self.active.unconfirmed));
        }
    }

    pub(super) fn is_reported(&self, error: &Error) -> bool {
        match error {
            Error::Unconfirmed => matches!(self.reported, Some((_, true))),
            // The store has failed anew: after a write that failed the request makes no other one.
            Error::Store(_) if !error.is_refused() => false,
            error => self.reported.is_some_and(|(reported, _)| reported == kind(error)),
        }
    }
}

/// A wait for the store, until it is dropped.
pub(super) struct Wait<'a> {
    pub(super) deadline: Instant,
    begun: Instant,
    waited: &'a Cell<Duration>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waited.set(self.waited.get() + self.begun.elapsed());
    }
}

/// What a request says of its visitor.
#[cfg(feature = "actix")]
pub(crate) struct RequestVisitor {
    pub(crate) token: RequestToken,
    pub(crate) client: Client,
    pub(crate) csrf: Option<CsrfCookie>,
    /// Whether browsers let no other host set its cookies.
    pub(crate) is_host_only: bool,
}

/// What a request has in the place of a token.
#[cfg(feature = "actix")]
pub(crate) enum RequestToken {
    Absent,
    Present(Token),
    Unusable(Rejection),
}

#[cfg(feature = "actix")]
impl RequestToken {
    pub(crate) fn of(found: Result<Option<Token>, Rejection>) -> Self {
        match found {
            Ok(None) => Self::Absent,
            Ok(Some(token)) => Self::Present(token),
            Err(rejection) => Self::Unusable(rejection),
        }
    }
}

impl<T: Databag> Slot<T> {
    #[cfg(feature = "actix")]
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self::with(engine, State::Untouched)
    }

    pub(super) fn holding(engine: Arc<Engine>, active: Active<T>) -> Self {
        let csrf = CsrfState::default();
        csrf.begin(&engine.csrf, &active);
        let known = active.stored.as_ref().map(|_| active.id);
        let state = State::Idle { held: Rc::new(Held::new(active, known)), cookie: None };
        Self { csrf, ..Self::with(engine, state) }
    }

    fn with(engine: Arc<Engine>, state: State<T>) -> Self {
        Self {
            engine,
            state: RefCell::new(state),
            csrf: CsrfState::default(),
            waited: Cell::default(),
            loading: Mutex::new(()),
        }
    }

    /// Begins to wait for the store. All calls of a request share the deadline; the time of its handler does not count.
    pub(super) fn wait(&self) -> Wait<'_> {
        let (begun, waited) = (Instant::now(), self.waited.get());
        // An earlier wait may have used up more than there was.
        let left = self.engine.context.config.deadline.saturating_sub(waited);
        Wait { deadline: begun + left, begun, waited: &self.waited }
    }

    /// Hands the session out for writing.
    pub(super) fn lend(&self) -> Result<Rc<Held<T>>, Error> {
        let mut state = self.state.borrow_mut();
        match replace(&mut *state, State::Untouched) {
            State::Idle { held, cookie } if Rc::strong_count(&held) == 1 => {
                let ending = held.active.is_ending().then_some(held.active.id);
                *state = State::Lent(Loan { cookie, ending });
                Ok(held)
            }
            refused => {
                let bag = std::any::type_name::<T>();
                let message = match &refused {
                    State::Finished(_) => format!(
                        "the `{bag}` session of this request has been stored: change it in the handler, or in a \
                         middleware that `SessionMiddleware` is wrapped around"
                    ),
                    State::Abandoned(_) => panicked(bag),
                    _ => format!(
                        "this request holds its `{bag}` session already: take one `Session` in the handler and lend it \
                         as `&mut Session<..>`, or drop it (or every `SessionRef`) before taking the next"
                    ),
                };
                *state = refused;
                Err(misuse(message))
            }
        }
    }

    /// Takes a session back that was handed out.
    pub(super) fn give_back(&self, held: Rc<Held<T>>) {
        let mut state = self.state.borrow_mut();
        match replace(&mut *state, State::Untouched) {
            State::Lent(Loan { cookie, .. }) => *state = State::Idle { held, cookie },
            // The request was finished without it.
            finished => *state = finished,
        }
    }

    /// Gives up a session that was handed out: its handler has panicked.
    pub(super) fn abandon(&self) {
        let mut state = self.state.borrow_mut();
        *state = match replace(&mut *state, State::Untouched) {
            State::Lent(loan) => State::Abandoned(loan),
            // The request was finished without it.
            finished => finished,
        };
    }

    /// Notes what was stored while the session is handed out.
    pub(super) fn note_stored(&self, update: Option<CookieUpdate>) {
        if let State::Lent(loan) = &mut *self.state.borrow_mut() {
            loan.ending = None;
            loan.cookie = update.or(loan.cookie.take());
        }
    }

    /// Notes which session the handler wants to end while it is handed out.
    pub(super) fn note_ending(&self, ending: Option<SessionId>) {
        if let State::Lent(loan) = &mut *self.state.borrow_mut() {
            loan.ending = ending;
        }
    }
}

/// The calls of a middleware and its extractors.
#[cfg(feature = "actix")]
impl<T: Databag> Slot<T> {
    /// Loads the session, unless that was done before.
    pub(crate) async fn load(&self, request: impl FnOnce() -> RequestVisitor) -> Result<(), Error> {
        let _alone = self.loading.lock().await;
        let is_loaded = match &*self.state.borrow() {
            State::Untouched | State::LoadFailed | State::Finished(None) => false,
            State::Idle { .. } | State::Lent(_) | State::Abandoned(_) | State::Finished(Some(_)) => true,
        };
        if is_loaded {
            return Ok(());
        }
        let RequestVisitor { token, client, csrf, is_host_only } = request();
        self.csrf.receive(csrf, is_host_only);
        let token = match token {
            RequestToken::Absent => return self.begin(client),
            RequestToken::Unusable(rejection) => {
                self.report_rejection(None, rejection);
                return self.begin(client);
            }
            RequestToken::Present(token) => token,
        };
        let span = span::load(T::SCHEMA.name, token.session_id());
        let wait = self.wait();
        let fetched = self.engine.fetch(&token, Freshness::Cached, wait.deadline);
        let fetched = fetched.instrument(span.clone()).await;
        drop(wait);
        span.in_scope(|| self.open(token, client, fetched, &span))
    }

    /// Takes in a row that was read.
    fn open(
        &self,
        token: Token,
        client: Client,
        fetched: Result<Result<Row, Rejection>, Error>,
        span: &Span,
    ) -> Result<(), Error> {
        let id = token.session_id();
        let opened = match fetched {
            Ok(Ok(row)) => self.engine.open(row, Some(token), Some(client.clone())),
            Ok(Err(rejection)) => Ok(LoadOutcome::Rejected(rejection)),
            Err(error) => Err(error),
        };
        span::note_load(span, &opened);
        match opened {
            Ok(LoadOutcome::Live(active)) => {
                self.engine.tell(Event::Loaded { session: id });
                self.put(Held::new(active, Some(id)));
                Ok(())
            }
            Ok(LoadOutcome::Rejected(rejection)) => {
                self.report_rejection(Some(id), rejection);
                self.begin(client)
            }
            Err(error) => {
                self.note_failed_load(id, &error);
                Err(error)
            }
        }
    }

    /// Begins a new session.
    fn begin(&self, client: Client) -> Result<(), Error> {
        self.put(Held::new(self.engine.fresh(client)?, None));
        Ok(())
    }

    fn put(&self, held: Held<T>) {
        self.csrf.begin(&self.engine.csrf, &held.active);
        let mut state = self.state.borrow_mut();
        let held = Rc::new(held);
        *state = match *state {
            State::Finished(_) => State::Finished(Some(held)),
            _ => State::Idle { held, cookie: None },
        };
    }

    /// Takes the bag out of a slot whose session nothing else holds.
    pub(crate) fn take_bag(&self) -> Option<T> {
        match self.state.replace(State::Finished(None)) {
            State::Idle { held, .. } => Some(Rc::into_inner(held)?.active.bag),
            _ => None,
        }
    }

    /// Returns whether a request, whose session is loaded, has submitted a token of its own.
    pub(crate) fn verify_csrf(&self, submitted: &[u8]) -> bool {
        self.csrf.verify_loaded(&self.engine.csrf, submitted)
    }

    fn note_failed_load(&self, id: SessionId, error: &Error) {
        report::<T>(&self.engine, Some(id), error, Stage::Load);
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Untouched) {
            *state = State::LoadFailed;
        }
    }

    fn report_rejection(&self, id: Option<SessionId>, rejection: Rejection) {
        self.engine.tell(match (rejection, id) {
            (Rejection::Expired, Some(session)) => Event::Expired { session },
            (reason, session) => Event::Rejected { session, reason },
        });
        let (bag, session) = (T::SCHEMA.name, id.map(tracing::field::debug));
        match rejection {
            Rejection::Tampered | Rejection::TooLarge | Rejection::Undecodable { .. }
                if self.engine.backend.custody() == Custody::Store =>
            {
                tracing::warn!(bag, session, reason = %rejection, "a session is not accepted");
            }
            Rejection::Tampered
            | Rejection::TooLarge
            | Rejection::Undecodable { .. }
            | Rejection::Address
            | Rejection::UserAgent
            | Rejection::UnknownKey
            | Rejection::Duplicate => {
                tracing::info!(bag, session, reason = %rejection, "a session is not accepted");
            }
            Rejection::Malformed | Rejection::Unknown | Rejection::Expired => {
                tracing::debug!(bag, session, reason = %rejection, "a session is not accepted");
            }
        }
    }

    /// Hands the session out for reading.
    pub(super) fn share(&self) -> Result<Rc<Held<T>>, Error> {
        let bag = std::any::type_name::<T>();
        match &*self.state.borrow() {
            State::Idle { held, .. } | State::Finished(Some(held)) => Ok(held.clone()),
            State::Abandoned(_) => Err(misuse(panicked(bag))),
            _ => Err(misuse(format!(
                "this request holds its `{bag}` session for writing: read through that `Session`, or drop it before taking \
                 a `SessionRef`",
            ))),
        }
    }

    /// Returns whether nothing has to be stored or answered: no extractor has asked for the session.
    pub(crate) fn is_untouched(&self) -> bool {
        matches!(*self.state.borrow(), State::Untouched)
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(*self.state.borrow(), State::Finished(_))
    }

    /// Hands out no session for writing any more: nothing would store it.
    pub(crate) fn forbid_writes(&self) {
        self.state.replace(State::Finished(None));
    }
}

/// Logs a failure, and counts it unless the store works: a value that it refuses is a mistake of the application.
pub(super) fn report<T: Databag>(engine: &Engine, id: Option<SessionId>, error: &Error, stage: Stage) {
    engine.tell(Event::Failed { session: id, stage, failure: Failure::of(error) });
    let (bag, session, cause) = (T::SCHEMA.name, id.map(tracing::field::debug), ErrorChain(error));
    let wanted = stage.name();
    if error.is_refused() {
        tracing::error!(bag, session, error = %cause, "could not {wanted} the session");
    } else {
        // A metrics layer counts the first field.
        tracing::error!(monotonic_counter.session_failures = 1_u64, bag, session, error = %cause, "could not {wanted} the session");
    }
}

/// Says why there is no session any more.
pub(super) fn panicked(bag: &str) -> String {
    format!(
        "a handler has panicked while it held its `Session<{bag}>`, and the panic was caught: what it has changed is not stored"
    )
}

/// Makes an error of a mistake in the application. Its answer is opaque, so the text goes to the log.
pub(super) fn misuse(message: String) -> Error {
    tracing::error!("{message}");
    Error::Usage(message)
}
