//! The end of a request: what becomes of the session when the handler has answered.

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use tracing::Instrument as _;

use super::csrf::CsrfCookieUpdate;
use super::slot::{Held, Loan, Slot, State, misuse, panicked, report};
use crate::backend::Custody;
use crate::bag::Databag;
use crate::engine::commit::Plan;
use crate::engine::core::CookieUpdate;
use crate::engine::event::Stage;
use crate::engine::span;
use crate::error::Error;
use crate::token::SessionId;

/// What the answer says about the session.
#[derive(Debug)]
pub(crate) struct FinishedSession {
    pub(crate) cookie: Option<CookieUpdate>,
    /// Whether the token in `cookie` is the one that the request came with.
    pub(crate) is_known: bool,
    pub(crate) csrf_cookie: Option<CsrfCookieUpdate>,
    /// The error to answer in the handler's place.
    pub(crate) error: Option<Error>,
}

/// How a request has used its session.
#[derive(Clone, Copy, Debug)]
struct SessionUse {
    by_handler: HandlerUse,
    /// Whether storing the session is of no use, because the answer must not carry its cookie.
    misses_cookie: bool,
    /// Whether an earlier write of the request has not been confirmed.
    is_unconfirmed: bool,
}

#[derive(Clone, Copy, Debug)]
enum HandlerUse {
    /// The handler has not used a `Session`.
    None,
    /// The handler has used a `Session` and given it back.
    GivenBack,
    /// The handler has used a `Session`, and a `SessionRef` is still held.
    StillRead,
}

/// What to do with a loaded session at the end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// Store nothing.
    Drop,
    /// Extend the idle expiry, if it is due.
    Touch,
    /// Store what has changed.
    Commit,
    /// Answer an error: the session cannot be taken back.
    RefuseShared,
    /// Answer an error: the session cannot be taken back, and it is unknown what is stored.
    RefuseUnconfirmed,
}

fn decide(usage: SessionUse) -> Finish {
    match usage {
        SessionUse { misses_cookie: true, .. } => Finish::Drop,
        SessionUse { by_handler: HandlerUse::None, .. } => Finish::Touch,
        SessionUse { by_handler: HandlerUse::GivenBack, .. } => Finish::Commit,
        SessionUse { by_handler: HandlerUse::StillRead, is_unconfirmed: true, .. } => {
            Finish::RefuseUnconfirmed
        }
        SessionUse { by_handler: HandlerUse::StillRead, .. } => Finish::RefuseShared,
    }
}

/// The end of a request, as far as it is reached without waiting.
pub(crate) enum Finishing {
    Done(FinishedSession),
    /// The store is needed. The future goes on if the client disconnects, so it borrows nothing.
    Storing(LocalBoxFuture<'static, FinishedSession>),
}

/// What a finished session does to the answer, whatever became of it in the store.
#[derive(Clone, Copy)]
struct Ending {
    /// The id that the client's cookie opens.
    known: Option<SessionId>,
    /// Whether the session was to end.
    ends: bool,
    suppress_cookie: bool,
    is_in_cookie: bool,
}

impl Ending {
    fn finish<T>(
        self,
        slot: &Slot<T>,
        stored: Result<Option<CookieUpdate>, Error>,
        earlier: Option<CookieUpdate>,
    ) -> FinishedSession {
        let (update, error) = match stored {
            Ok(update) => (update, None),
            // The browser forgets a session that was to end, whether or not the store could end it.
            Err(error) => (self.ends.then_some(CookieUpdate::Remove), Some(error)),
        };
        let cookie = update.or(earlier).filter(|update| {
            !self.suppress_cookie || self.is_in_cookie || self.known.is_none_or(|known| !update.opens(known))
        });
        let csrf_cookie = slot.csrf.update(&slot.engine.csrf, self.known, cookie.as_ref()).filter(|_| {
            // It serves the session's cookie, or a page.
            cookie.is_some() || (!self.suppress_cookie && error.is_none())
        });
        // A sealed session is another token after each write.
        let is_known = !self.is_in_cookie
            && self.known.is_some_and(|id| cookie.as_ref().is_some_and(|cookie| cookie.opens(id)));
        FinishedSession { cookie, is_known, csrf_cookie, error }
    }
}

impl FinishedSession {
    fn of(cookie: Option<CookieUpdate>, error: Option<Error>) -> Self {
        Self { cookie, is_known: false, csrf_cookie: None, error }
    }
}

impl<T: Databag> Slot<T> {
    /// Stores what has become of the session, and forbids more changes. With `suppress_cookie` the answer carries
    /// the cookie only if the session would be lost without it.
    pub(crate) fn finish(self: &Rc<Self>, suppress_cookie: bool) -> Finishing {
        let finished = match self.state.replace(State::Finished(None)) {
            State::Untouched | State::Finished(_) => FinishedSession::of(None, None),
            // No handler's answer is given for a session that could not be read.
            State::LoadFailed => FinishedSession::of(None, Some(Error::NotLoaded)),
            State::Lent(loan) => self.finish_lent(loan),
            State::Abandoned(loan) => self.finish_abandoned(loan),
            State::Idle { held, cookie } => return self.finish_idle(held, cookie, suppress_cookie),
        };
        Finishing::Done(finished)
    }

    /// A panic that was caught is no success: what the handler has changed is lost. What was stored before stays.
    fn finish_abandoned(&self, loan: Loan) -> FinishedSession {
        self.refuse(loan, misuse(panicked(std::any::type_name::<T>())))
    }

    fn finish_lent(&self, loan: Loan) -> FinishedSession {
        let bag = std::any::type_name::<T>();
        let error = Error::Usage(format!(
            "a `Session<{bag}>` is still held after the handler has answered, so it cannot be stored: drop it before, \
             and let what continues (a task, a WebSocket, a streamed body) keep its `id()` and use `Sessions::update`, \
             `Sessions::touch` and `Sessions::watch`",
        ));
        report::<T>(&self.engine, None, &error, Stage::Store);
        self.refuse(loan, error)
    }

    /// Answers an error. A session that was to end is refused, and the browser forgets it.
    fn refuse(&self, loan: Loan, error: Error) -> FinishedSession {
        let Some(id) = loan.ending else {
            return FinishedSession::of(loan.cookie, Some(error));
        };
        let blocked: Result<(), Error> = self.engine.block_if_end_failed(true, id, Err(error));
        FinishedSession::of(Some(CookieUpdate::Remove), blocked.err())
    }

    fn finish_idle(
        self: &Rc<Self>,
        mut held: Rc<Held<T>>,
        cookie: Option<CookieUpdate>,
        suppress_cookie: bool,
    ) -> Finishing {
        let (known, id, ends) = (held.known, held.active.id, held.active.is_ending());
        let is_in_cookie = self.engine.backend.custody() == Custody::Client;
        let is_used = held.is_used.get();
        let usage = SessionUse {
            by_handler: match (is_used, Rc::strong_count(&held)) {
                (false, _) => HandlerUse::None,
                (true, 1) => HandlerUse::GivenBack,
                (true, _) => HandlerUse::StillRead,
            },
            // A visitor without the cookie could not come back to a new session; and of a session in a cookie only a
            // change is worth sending.
            misses_cookie: suppress_cookie
                && (held.active.stored.is_none()
                    || (is_in_cookie && (!is_used || self.engine.only_touches(&held.active)))),
            is_unconfirmed: held.active.unconfirmed && !ends,
        };
        self.csrf.end_at_log_in(&held.active.bag);
        let ending = Ending { known, ends, suppress_cookie, is_in_cookie };
        let stored = match decide(usage) {
            Finish::Touch if self.engine.is_to_be_touched(&held.active) => {
                let slot = self.clone();
                return Finishing::Storing(Box::pin(async move {
                    let wait = slot.wait();
                    let span = span::commit(T::SCHEMA.name, id, "touch");
                    let touched = slot.engine.touch(&held.active, wait.deadline).instrument(span).await;
                    ending.finish(&slot, Ok(touched), cookie)
                }));
            }
            Finish::Drop | Finish::Touch => Ok(None),
            Finish::Commit => {
                if let Some(held) = Rc::get_mut(&mut held) {
                    held.active.set_times();
                }
                match self.engine.prepare(&held.active) {
                    Ok(Plan::Keep) => Ok(None),
                    plan => {
                        let slot = self.clone();
                        return Finishing::Storing(Box::pin(async move {
                            let stored = slot.commit(held, plan).await;
                            ending.finish(&slot, stored, cookie)
                        }));
                    }
                }
            }
            Finish::RefuseUnconfirmed => {
                let error = Error::Unconfirmed;
                if !held.is_reported(&error) {
                    report::<T>(&self.engine, Some(id), &error, Stage::Store);
                }
                Err(error)
            }
            Finish::RefuseShared => {
                let shared = "a `SessionRef` is still held after the handler has answered: drop it before, and let what \
                              continues (a task, a WebSocket, a streamed body) keep its `id()` and use `Sessions::get`, \
                              `Sessions::touch` and `Sessions::watch`";
                let error = Error::Usage(shared.to_owned());
                report::<T>(&self.engine, Some(id), &error, Stage::Store);
                self.engine.block_if_end_failed(ends, id, Err(error))
            }
        };
        Finishing::Done(ending.finish(self, stored, cookie))
    }

    async fn commit(
        &self,
        mut held: Rc<Held<T>>,
        plan: Result<Plan, Error>,
    ) -> Result<Option<CookieUpdate>, Error> {
        let held = Rc::get_mut(&mut held).expect("a shared session is not committed");
        let wait = self.wait();
        let stored = self.engine.commit_plan(&mut held.active, plan, wait.deadline).await;
        stored.inspect_err(|error| held.report(&self.engine, error, Stage::Store))
    }
}

impl CookieUpdate {
    /// Returns whether the cookie still opens the session of this id.
    fn opens(&self, id: SessionId) -> bool {
        match self {
            Self::Set { token, .. } => token.session_id() == id,
            Self::Remove => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(by_handler: HandlerUse) -> SessionUse {
        SessionUse { by_handler, misses_cookie: false, is_unconfirmed: false }
    }

    #[test]
    fn a_used_session_is_committed_and_an_unused_one_is_touched() {
        assert_eq!(decide(usage(HandlerUse::GivenBack)), Finish::Commit);
        assert_eq!(decide(usage(HandlerUse::None)), Finish::Touch);
    }

    #[test]
    fn a_used_session_that_is_still_read_is_refused() {
        assert_eq!(decide(usage(HandlerUse::StillRead)), Finish::RefuseShared);
        let unconfirmed = SessionUse { is_unconfirmed: true, ..usage(HandlerUse::StillRead) };
        assert_eq!(decide(unconfirmed), Finish::RefuseUnconfirmed);
    }

    #[test]
    fn a_session_that_is_of_no_use_without_its_cookie_is_dropped() {
        for by_handler in [HandlerUse::None, HandlerUse::GivenBack, HandlerUse::StillRead] {
            assert_eq!(decide(SessionUse { misses_cookie: true, ..usage(by_handler) }), Finish::Drop);
        }
    }
}
