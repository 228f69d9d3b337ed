//! The session as a handler holds it, and the slot it lives in during a request.
//!
//! The slot belongs to the request; a [`Session`] takes the session out of it and puts it back when it
//! is dropped. So there is one writer at a time, and what a handler did is known when it has finished.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use crate::bag::{Databag, Field, HasUser};
use crate::error::{Error, Rejection};
use crate::load::{Active, Intent, Verdict, Visitor};
use crate::record::Fields;
use crate::sessions::{Chain, Core, Sent};
use crate::store::StoreError;
use crate::token::{SessionId, Token};

/// The session of a request, to read and to change.
///
/// It derefs to the bag: fields and accessors are used directly, and every change is found, however
/// deep it is. What has changed is stored when the handler has answered, before the answer is sent; if it
/// cannot be stored, the answer is an error instead.
///
/// There is one at a time in a request. For functions further down, lend it: `&mut Session<T>`; to look
/// at the session from elsewhere, take a [`SessionRef`].
///
/// # Examples
///
/// ```
/// use actix_web::{HttpResponse, Responder};
/// use session_runtime::{Databag, Session};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// async fn visit(mut session: Session<Shop>) -> impl Responder {
///     session.visits += 1;
///     HttpResponse::Ok().body(format!("visit {}", session.visits))
/// }
/// # let _ = visit;
/// ```
pub struct Session<T: Databag> {
    slot: Rc<Slot<T>>,
    active: Rc<Active<T>>,
}

impl<T: Databag> Session<T> {
    /// Makes a session for a test of a handler, which needs no server, no middleware and no store then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Session};
    /// #[derive(Databag)]
    /// struct Shop {
    ///     visits: u32,
    /// }
    ///
    /// async fn visit(mut session: Session<Shop>) -> String {
    ///     session.visits += 1;
    ///     format!("visit {}", session.visits)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let session = Session::for_test(Shop { visits: 4 });
    /// assert_eq!(visit(session).await, "visit 5");
    /// # }
    /// ```
    pub fn for_test(bag: T) -> Self {
        match Slot::for_test(bag).take() {
            Ok(session) => session,
            Err(_) => unreachable!("a new slot lends its session"),
        }
    }

    /// Returns the public name of the session. It changes at a log-in and a log-out, when that is stored.
    pub fn id(&self) -> SessionId {
        self.active.id
    }

    /// Tells whether nothing is stored for this visitor yet.
    pub fn is_new(&self) -> bool {
        self.active.stored.is_none()
    }

    /// Returns when the session began: when it was first stored, or its user last logged in.
    pub fn created(&self) -> SystemTime {
        self.active.stored.as_ref().map_or_else(|| self.slot.core.now(), |stored| stored.created).into()
    }

    /// Returns when the session ends, unless it is used before. Every request moves that on, up to the
    /// absolute limit; it is stored at most once a minute.
    pub fn expires(&self) -> SystemTime {
        let fresh = || self.slot.core.now().saturating_add(self.slot.core.rules.idle);
        self.active.stored.as_ref().map_or_else(fresh, |stored| stored.expiration).into()
    }

    /// Signs a user in. The session continues under a new id, so that one who knew the old token gains
    /// nothing (ASVS 5.0 §7.2.4), and both its limits begin again. Fields marked `reset_on_login` go back
    /// to their defaults.
    pub fn log_in(&mut self, user: impl Into<T::User>)
    where
        T: HasUser,
    {
        self.reset(|field| field.reset_on_login);
        let active = self.active_mut();
        active.bag.set_user(Some(user.into()));
        // After a log-out the session of the one before still has to end, and nothing of it is taken along.
        active.intent = active.intent.max(Intent::Renew);
    }

    /// Signs the user out: the session ends on the server, also for requests in flight, and its content
    /// goes, but for fields marked `keep_on_logout`. They, and what is set after this, begin a new session.
    pub fn log_out(&mut self)
    where
        T: HasUser,
    {
        self.leave(|field| field.keep_on_logout);
    }

    /// Ends the session and drops all its content. What is set after this begins a new session.
    pub fn destroy(&mut self) {
        self.leave(|_| false);
    }

    /// Continues the session under a new id, as is due when its user gains rights. The old token is
    /// dead as soon as that is stored.
    pub fn rotate(&mut self) {
        // Nobody knows the id of a new session yet.
        if !self.is_new() {
            self.intend(Intent::Rotate);
        }
    }

    /// Makes the cookie outlive the browser, as "remember me" does, or not. The limits of the session
    /// stay what they are.
    pub fn remember(&mut self, remember: bool) {
        self.active_mut().remembered = remember;
    }

    /// Stores what has changed now, and not when the handler has answered.
    ///
    /// # Errors
    ///
    /// If it cannot be stored. When the store has failed, or this is not awaited to its end, nobody knows
    /// whether it was: the request is then answered 503 and stores nothing more, unless
    /// [`reload`](Self::reload) finds out.
    pub async fn save(&mut self) -> Result<(), Error> {
        let core = self.slot.core.clone();
        let id = self.active.id;
        self.begin_write()?;
        let saved = core.commit(self.active_mut()).await;
        self.slot.unsure.set(matches!(saved, Err(Error::Store(_))));
        match saved {
            Ok(sent) => {
                self.slot.leaving.set(None);
                self.slot.note(sent);
                Ok(())
            }
            Err(error) => {
                Slot::<T>::log(Some(id), &error, "a session could not be stored");
                Err(error)
            }
        }
    }

    /// Refuses to write what may be written already: to store it again could count it twice. From here on
    /// that holds until the store has answered. Whoever leaves takes nothing along that could be counted.
    fn begin_write(&self) -> Result<(), Error> {
        if self.slot.unsure.replace(true) && self.active.intent != Intent::Leave {
            return Err(unsure());
        }
        Ok(())
    }

    /// Drops what has changed in this request and reads the session again. A new session starts over.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the session was ended meanwhile, and if the store fails.
    pub async fn reload(&mut self) -> Result<(), Error> {
        let core = self.slot.core.clone();
        let visitor = self.active.visitor;
        let active = if self.is_new() {
            // Under another id: it is not known whether there is a row of this one.
            Active::fresh(core.fresh_token(), visitor)?
        } else {
            let token = self.active.token.clone().unwrap_or_else(|| core.fresh_token());
            match core.load(token, Some(visitor)).await? {
                Verdict::Live(active) => active,
                Verdict::Rejected(_) => return Err(Error::Ended),
            }
        };
        *self.active_mut() = active;
        self.slot.unsure.set(false);
        self.slot.leaving.set(None);
        Ok(())
    }

    /// Changes the session as one step: `change` is run on the session as it is stored now, with this
    /// request's changes so far, and run again until the result is stored before anybody else's. Its last
    /// result is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the session was ended meanwhile, [`Error::Contended`] if others were first until
    /// the deadline, and if the store fails. The session here is then as it was, but for fields marked `skip`;
    /// what holds of the request after the store has failed, see at [`save`](Self::save).
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Error, Session};
    /// # #[derive(Databag)]
    /// # struct Shop { count: u64 }
    /// async fn count(mut session: Session<Shop>) -> Result<String, Error> {
    ///     let count = session.update(|shop| {
    ///         shop.count += 1;
    ///         shop.count
    ///     }).await?;
    ///     Ok(format!("{count}"))
    /// }
    /// # let _ = count;
    /// ```
    pub async fn update<R>(&mut self, change: impl FnMut(&mut T) -> R) -> Result<R, Error> {
        let core = self.slot.core.clone();
        let id = self.active.id;
        self.begin_write()?;
        let updated = core.update(self.active_mut(), change).await;
        self.slot.unsure.set(matches!(updated, Err(Error::Store(_))));
        let (value, sent) =
            updated.inspect_err(|error| Slot::<T>::log(Some(id), error, "a session could not be updated"))?;
        self.slot.leaving.set(None);
        self.slot.note(sent);
        Ok(value)
    }

    /// Returns the token that forms of this session carry against cross-site request forgery: 43
    /// characters of base64url. It holds until the session's id or the current key of the
    /// keyring changes. A new session is stored for it.
    pub fn csrf_token(&mut self) -> String {
        if self.is_new() {
            self.intend(Intent::Keep);
        }
        self.slot.core.csrf_token(self.active.id)
    }

    /// Tells whether a form carries the token of this session, in constant time. A session that is not
    /// stored has none.
    pub fn verify_csrf(&self, presented: &str) -> bool {
        !self.is_new() && self.slot.core.verify_csrf(self.active.id, presented)
    }

    fn intend(&mut self, intent: Intent) {
        let active = self.active_mut();
        active.intent = active.intent.max(intent);
    }

    fn leave(&mut self, kept: impl Fn(&Field) -> bool) {
        let active = self.active_mut();
        let mut bag = T::defaults();
        // What cannot be encoded, or not be read back, could not have been kept.
        if !Fields::of(&active.bag).is_ok_and(|held| held.restore(&mut bag, kept).is_ok()) {
            bag = T::defaults();
        }
        active.bag = bag;
        active.bag.set_ip(active.visitor.ip);
        active.remembered = false;
        // A session that is not stored has nothing to end, and may still be begun on purpose.
        active.intent = if active.stored.is_some() { Intent::Leave } else { Intent::Continue };
        let leaving = active.is_leaving().then_some(active.id);
        self.slot.leaving.set(leaving);
    }

    fn reset(&mut self, dropped: impl Fn(&Field) -> bool) {
        // Not those of the rules: a default may be another one each time.
        let defaults =
            Fields::of(&T::defaults()).expect("the defaults were encoded when the sessions were built");
        let reset = defaults.restore(&mut self.active_mut().bag, dropped);
        reset.expect("they were decoded then, too");
    }

    fn active_mut(&mut self) -> &mut Active<T> {
        self.slot.used.set(true);
        Rc::get_mut(&mut self.active).expect("the slot is empty, so this is the only holder")
    }
}

impl<T: Databag> Deref for Session<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.slot.used.set(true);
        &self.active.bag
    }
}

impl<T: Databag> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.active_mut().bag
    }
}

impl<T: Databag> Drop for Session<T> {
    fn drop(&mut self) {
        self.slot.state.replace(State::Here(self.active.clone()));
    }
}

impl<T: Databag> fmt::Debug for Session<T> {
    /// Shows the id only: the bag is users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.active.id).finish_non_exhaustive()
    }
}

/// The session of a request, to read only. It may be taken any number of times, but not while a
/// [`Session`] is held. It counts as activity and stores nothing else.
pub struct SessionRef<T: Databag> {
    active: Rc<Active<T>>,
}

impl<T: Databag> SessionRef<T> {
    /// Returns the public name of the session.
    pub fn id(&self) -> SessionId {
        self.active.id
    }

    /// Tells whether nothing is stored for this visitor yet.
    pub fn is_new(&self) -> bool {
        self.active.stored.is_none()
    }
}

impl<T: Databag> Deref for SessionRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.active.bag
    }
}

impl<T: Databag> fmt::Debug for SessionRef<T> {
    /// Shows the id only: the bag is users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRef").field("id", &self.active.id).finish_non_exhaustive()
    }
}

/// A [`Session`] whose user is signed in. For others the handler does not run: they are answered 401, or
/// sent to the address that `login_redirect` names.
///
/// # Examples
///
/// ```
/// use session_runtime::{Databag, LoggedIn};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
/// }
///
/// async fn account(session: LoggedIn<Shop>) -> String {
///     format!("user {}", session.user())
/// }
/// # let _ = account;
/// ```
pub struct LoggedIn<T: HasUser> {
    session: Session<T>,
}

impl<T: HasUser> LoggedIn<T> {
    /// Wraps the session of a signed-in user; `None` for others.
    pub fn new(session: Session<T>) -> Option<Self> {
        let signed_in = session.active.bag.user().is_some();
        signed_in.then_some(Self { session })
    }

    /// Returns the user.
    ///
    /// # Panics
    ///
    /// If the handler has signed the user out before, through this very session.
    pub fn user(&self) -> T::UserRef<'_> {
        self.session.active.bag.user().expect("nobody has signed the user out")
    }
}

impl<T: HasUser> Deref for LoggedIn<T> {
    type Target = Session<T>;

    fn deref(&self) -> &Session<T> {
        &self.session
    }
}

impl<T: HasUser> DerefMut for LoggedIn<T> {
    fn deref_mut(&mut self) -> &mut Session<T> {
        &mut self.session
    }
}

impl<T: HasUser> fmt::Debug for LoggedIn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}

/// Where the session of a request is while nobody holds it.
pub(crate) struct Slot<T> {
    pub(crate) core: Arc<Core>,
    state: RefCell<State<T>>,
    /// Extractors of one handler run side by side; the session is loaded once.
    loading: tokio::sync::Mutex<()>,
    /// What the cookie has to say about what was stored so far.
    sent: RefCell<Option<Sent>>,
    /// Whether a handler has used a [`Session`]. One that could not run, because a form did not parse or nobody
    /// is signed in, has not read a flash either.
    used: Cell<bool>,
    /// Whether the session could not be loaded.
    failed: Cell<bool>,
    /// Whether it is not known what is stored: a handler has saved the session, and no answer came.
    unsure: Cell<bool>,
    /// The session that a handler wants to end.
    leaving: Cell<Option<SessionId>>,
    /// The session that the browser knows.
    known: Cell<Option<SessionId>>,
    /// Whether the session was stored for the last time.
    closed: Cell<bool>,
}

enum State<T> {
    /// Nobody has asked for the session.
    Unasked,
    Here(Rc<Active<T>>),
    /// A [`Session`] has it.
    Lent,
}

/// What a request has in place of a token.
pub(crate) enum Presented {
    Nothing,
    Token(Token),
    Unusable(Rejection),
}

/// What is to be answered when a request is over.
pub(crate) struct Closed {
    pub(crate) sent: Option<Sent>,
    /// What made it impossible to store the session.
    pub(crate) error: Option<Error>,
}

impl<T: Databag> Slot<T> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            state: RefCell::new(State::Unasked),
            loading: tokio::sync::Mutex::new(()),
            sent: RefCell::new(None),
            used: Cell::new(false),
            failed: Cell::new(false),
            unsure: Cell::new(false),
            leaving: Cell::new(None),
            known: Cell::new(None),
            closed: Cell::new(false),
        }
    }

    pub(crate) fn for_test(bag: T) -> Rc<Self> {
        let core = Arc::new(crate::testing::core::<T>());
        let mut active =
            Active::fresh(core.fresh_token(), Visitor::default()).expect("the bag can be encoded");
        active.bag = bag;
        let slot = Self::new(core);
        slot.state.replace(State::Here(Rc::new(active)));
        Rc::new(slot)
    }

    /// Loads the session, unless that was done before.
    pub(crate) async fn load(&self, request: impl FnOnce() -> (Presented, Visitor)) -> Result<(), Error> {
        let _alone = self.loading.lock().await;
        if !matches!(*self.state.borrow(), State::Unasked) {
            return Ok(());
        }
        let (presented, visitor) = request();
        match presented {
            Presented::Nothing => {}
            Presented::Unusable(rejection) => self.report(None, rejection),
            Presented::Token(token) => {
                let id = token.session_id();
                match self.core.load(token, Some(visitor)).await {
                    Ok(Verdict::Live(active)) => {
                        (self.core.hooks.loaded)(id);
                        self.known.set(Some(id));
                        self.state.replace(State::Here(Rc::new(active)));
                        return Ok(());
                    }
                    Ok(Verdict::Rejected(rejection)) => self.report(Some(id), rejection),
                    Err(error) => {
                        self.failed.set(true);
                        if matches!(error, Error::UnknownKey { .. }) && self.core.rules.in_cookie() {
                            // Anyone can name a key in a cookie; that is no failure of ours to be counted.
                            tracing::warn!(session = ?id, error = %Chain(&error), "a session could not be loaded");
                        } else {
                            Self::log(Some(id), &error, "a session could not be loaded");
                        }
                        return Err(error);
                    }
                }
            }
        }
        let active = Active::fresh(self.core.fresh_token(), visitor)?;
        self.state.replace(State::Here(Rc::new(active)));
        Ok(())
    }

    /// Tells whether nobody has asked for the session.
    pub(crate) fn is_unasked(&self) -> bool {
        matches!(*self.state.borrow(), State::Unasked) && !self.failed.get()
    }

    /// Hands the session out for writing.
    pub(crate) fn take(self: &Rc<Self>) -> Result<Session<T>, Error> {
        if self.closed.get() {
            let bag = std::any::type_name::<T>();
            return Err(misuse(format!(
                "the `{bag}` session of this request has been stored: change it in the handler, or in a middleware \
                 that `SessionMiddleware` is wrapped around",
            )));
        }
        match self.state.replace(State::Lent) {
            State::Here(active) if Rc::strong_count(&active) == 1 => {
                Ok(Session { slot: self.clone(), active })
            }
            taken => {
                self.state.replace(taken);
                let bag = std::any::type_name::<T>();
                Err(misuse(format!(
                    "this request holds its `{bag}` session already: take one `Session` in the handler and lend it as \
                     `&mut Session<..>`, or drop it (or every `SessionRef`) before taking the next",
                )))
            }
        }
    }

    /// Hands the session out for reading.
    pub(crate) fn look(&self) -> Result<SessionRef<T>, Error> {
        if let State::Here(active) = &*self.state.borrow() {
            return Ok(SessionRef { active: active.clone() });
        }
        let bag = std::any::type_name::<T>();
        Err(misuse(format!(
            "this request holds its `{bag}` session for writing: read through that `Session`, or drop it before taking \
             a `SessionRef`",
        )))
    }

    /// Tells whether the session was stored for the last time.
    #[cfg(feature = "actix")]
    pub(crate) fn is_shut(&self) -> bool {
        self.closed.get()
    }

    /// Hands out no session for writing any more: nobody would store it.
    pub(crate) fn shut(&self) {
        self.closed.set(true);
    }

    /// Stores what has become of the session when the request is over. A `muted` answer cannot bring a
    /// visitor a cookie, so none begins a session.
    pub(crate) async fn close(&self, muted: bool) -> Closed {
        self.shut();
        let active = match self.state.replace(State::Unasked) {
            State::Unasked => {
                // Whatever the handler has made of it: no answer is given for a session nobody could read.
                let failed = || StoreError::new("load a row", "the request went on without it");
                return Closed { sent: None, error: self.failed.get().then(|| Error::Store(failed())) };
            }
            State::Here(active) => active,
            State::Lent => {
                let bag = std::any::type_name::<T>();
                let error = Error::Usage(format!(
                    "a `Session<{bag}>` is still held after the handler has answered, so it cannot be stored: drop it \
                     before, and let what goes on (a task, a streamed body) use `Sessions::update`",
                ));
                Self::log(None, &error, "a session could not be stored");
                if let Some(id) = self.leaving.get() {
                    let refused: Result<(), Error> = self.core.or_refuse(true, id, Err(error));
                    return Closed { sent: Some(Sent::Removal), error: refused.err() };
                }
                return Closed { sent: self.sent.take(), error: Some(error) };
            }
        };
        let (id, leaves) = (active.id, active.intent == Intent::Leave);
        let carries = self.core.rules.in_cookie();
        let stored = if muted && active.stored.is_none() {
            Ok(None)
        } else if self.unsure.get() && !leaves {
            Err(unsure())
        } else if muted && carries && (!self.used.get() || self.core.only_touches(&active)) {
            // The cookie is to stay away, and nothing is lost without it.
            Ok(None)
        } else if self.used.get() {
            if let Ok(mut active) = Rc::try_unwrap(active) {
                self.core.commit(&mut active).await
            } else {
                let held = "a `SessionRef` is still held after the handler has answered: drop it before";
                self.core.or_refuse(leaves, id, Err(Error::Usage(held.to_owned())))
            }
        } else {
            Ok(self.core.touch(&active).await)
        };
        let error = match stored {
            Ok(sent) => {
                self.note(sent);
                None
            }
            Err(error) => {
                Self::log(Some(id), &error, "a session could not be stored");
                if leaves {
                    // Whoever logs out is out, as far as this browser goes.
                    self.note(Some(Sent::Removal));
                }
                Some(error)
            }
        };
        let known = self.known.get();
        let sent = self.sent.take();
        let sent =
            sent.filter(|sent| !muted || carries || known.is_none_or(|known| sent.names_other_than(known)));
        Closed { sent, error }
    }

    fn note(&self, sent: Option<Sent>) {
        if sent.is_some() {
            self.sent.replace(sent);
        }
    }

    fn report(&self, id: Option<SessionId>, rejection: Rejection) {
        (self.core.hooks.rejected)(rejection);
        let (bag, session) = (std::any::type_name::<T>(), id.map(tracing::field::debug));
        match rejection {
            // In a row that is an attack on the store; a cookie can be made up by anyone.
            Rejection::Tampered | Rejection::Undecodable { .. } if !self.core.rules.in_cookie() => {
                tracing::warn!(bag, session, reason = %rejection, "a session is not accepted");
            }
            Rejection::Tampered
            | Rejection::Undecodable { .. }
            | Rejection::Address
            | Rejection::UserAgent
            | Rejection::Duplicate => {
                tracing::info!(bag, session, reason = %rejection, "a session is not accepted");
            }
            Rejection::Malformed | Rejection::Unknown | Rejection::Expired => {
                tracing::debug!(bag, session, reason = %rejection, "a session is not accepted");
            }
        }
    }

    fn log(id: Option<SessionId>, error: &Error, message: &'static str) {
        let (bag, session) = (std::any::type_name::<T>(), id.map(tracing::field::debug));
        // The first field is what a metrics layer counts.
        tracing::error!(monotonic_counter.session_failures = 1_u64, bag, session, error = %Chain(error), "{message}");
    }
}

fn unsure() -> Error {
    Error::Store(StoreError::new("save the session", "an earlier write of this request was not answered"))
}

/// Makes an error of what a developer has to mend. Its answer is opaque, so it goes to the log.
fn misuse(message: String) -> Error {
    tracing::error!("{message}");
    Error::Usage(message)
}

impl Sent {
    fn names_other_than(&self, id: SessionId) -> bool {
        match self {
            Self::Token { token, .. } => token.session_id() != id,
            Self::Removal => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(crate::Databag)]
    struct Shop {
        #[databag(user_id)]
        user_id: Option<i64>,
    }

    #[tokio::test]
    async fn a_form_for_a_new_visitor_is_good_whatever_else_was_asked_of_the_session() {
        let asked: [fn(&mut Session<Shop>); 3] = [Session::rotate, Session::log_out, Session::destroy];
        for ask in asked {
            let mut session = Session::for_test(Shop::defaults());
            ask(&mut session);
            let token = session.csrf_token();
            ask(&mut session);
            let again = session.csrf_token();
            session.save().await.expect("stored");
            assert!(session.verify_csrf(&token) && session.verify_csrf(&again));
        }
    }
}
