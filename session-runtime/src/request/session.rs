//! The session as a handler holds it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::slot::{Held, Slot};
use super::testing::slot_for_test;
use crate::bag::encoding::Fields;
use crate::bag::record::Lifetime;
use crate::bag::schema::Field;
use crate::bag::{Databag, HasUser, Projection};
use crate::clock::Timestamp;
use crate::engine::config::LONGEST_LIFE;
use crate::engine::event::{EndCause, Stage};
use crate::engine::load::{Active, Intent, LoadOutcome};
use crate::engine::update::{Read, set_cookie};
use crate::error::Error;
use crate::token::SessionId;

/// The session of a request, to read and to change.
///
/// It derefs to the bag: fields and accessors are used directly, and every change is found, however deep it is. What
/// has changed is stored when the handler has answered, before the answer is sent; if it cannot be stored, the answer
/// is an error instead.
///
/// A request has one at a time. Lend it to functions as `&mut Session<T>`; to read the session elsewhere, take a
/// [`SessionRef`]. What continues after the answer has begun (a task, a WebSocket, a streamed body) keeps the [`id`](Self::id) and
/// uses [`Sessions::update`](crate::Sessions::update), [`touch`](crate::Sessions::touch) and
/// [`watch`](crate::Sessions::watch).
///
/// It stays in its request: it is not `Send`, so `tokio::spawn` does not take it, and one that `actix_web::rt::spawn` keeps until the
/// handler has answered is an error. A task takes the [`id`](Self::id), and changes the session by
/// [`Sessions::update`](crate::Sessions::update).
///
/// # Examples
///
/// ```
/// use actix_web::{HttpResponse, Responder};
/// use session_runtime::{Databag, Session};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(merge = "sum")]
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
    pub(super) held: Rc<Held<T>>,
}

impl<T: Databag> Session<T> {
    /// Makes a session for a test of a handler, without a server and a middleware: that of a visitor who has this bag. It is
    /// stored, in memory, so that all calls work; with [`T::defaults()`](Databag::defaults) it is that of a new visitor, and
    /// not stored. See [`testing`](crate::testing) for other ways.
    ///
    /// # Panics
    ///
    /// If the bag cannot be stored.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Session};
    /// #[derive(Databag)]
    /// struct Shop {
    ///     #[databag(merge = "sum")]
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
        Self::borrow_from(&slot_for_test(bag)).expect("a new slot lends its session")
    }

    /// Takes the session out of its slot.
    pub(crate) fn borrow_from(slot: &Rc<Slot<T>>) -> Result<Self, Error> {
        Ok(Self { held: slot.lend()?, slot: slot.clone() })
    }

    /// Returns the public name of the session. It changes when a log-in, a log-out or a rotation is stored.
    pub fn id(&self) -> SessionId {
        self.held.active.id
    }

    /// Returns whether nothing is stored for this visitor yet.
    pub fn is_new(&self) -> bool {
        self.held.active.stored.is_none()
    }

    /// Returns when the session was first stored, or its user last logged in.
    pub fn created(&self) -> SystemTime {
        let stored = self.held.active.stored.as_ref();
        stored.map_or_else(|| self.slot.engine.now(), |stored| stored.created).into()
    }

    /// Returns when the session expires if it is not used before. Each request extends it, up to the absolute limit;
    /// the extension is stored at most once a minute.
    pub fn expires(&self) -> SystemTime {
        let engine = &self.slot.engine;
        let config = &engine.context.config;
        let lifetime = self.held.active.lifetime.unwrap_or_else(|| config.ordinary_lifetime());
        let fresh = || engine.now().saturating_add(config.idle(lifetime));
        self.held.active.stored.as_ref().map_or_else(fresh, |stored| stored.expiration).into()
    }

    /// Logs a user in. The session continues under a new id, so that a stolen old token is of no use (ASVS 5.0
    /// §7.2.4), and both its limits start again.
    ///
    /// Fields marked `reset_on_login` return to their defaults. All others stay, such as the cart of a visitor who signs in, **and
    /// also if another user was logged in**: mark what belongs to the user, such as a role, or call [`log_out`](Self::log_out)
    /// first.
    #[doc(alias = "login")]
    pub fn log_in(&mut self, user: impl Into<T::User>)
    where
        T: HasUser,
    {
        self.reset(|field| field.reset_on_login);
        let active = self.active_mut();
        active.bag.set_user(Some(user.into()));
        // After a log-out in the same request the former user's session still has to end.
        active.intent = active.intent.max(Intent::Renew);
    }

    /// Logs the user out: the session ends on the server, also for requests in flight, and its content is dropped,
    /// except fields marked `keep_on_logout`. These, and what is set after this call, begin a new session.
    #[doc(alias("logout", "purge", "invalidate"))]
    pub fn log_out(&mut self)
    where
        T: HasUser,
    {
        self.end(EndCause::LoggedOut, |field| field.keep_on_logout);
    }

    /// Ends the session and drops all its content. What is set after this call begins a new session.
    #[doc(alias("purge", "flush", "clear", "invalidate", "delete"))]
    pub fn destroy(&mut self) {
        self.end(EndCause::Destroyed, |_| false);
    }

    /// Continues the session under a new id: call it when its user gains rights (ASVS 5.0 §7.2.4). The old token is
    /// dead as soon as the change is stored.
    #[doc(alias("renew", "regenerate", "cycle_id", "migrate"))]
    pub fn rotate(&mut self) {
        // No client knows the id of a new session yet.
        if !self.is_new() {
            self.intend(Intent::Rotate);
        }
    }

    /// Ends all other sessions of the user, and continues this one under a new id, now and in one step: call it when the
    /// user's password has changed (ASVS 5.0 §7.4.3, §7.2.4). After `Ok` no other session of the user opens, and neither does
    /// the old token of this one; requests in flight store nothing there.
    ///
    /// Store the new password first. A log-in that has checked the old one, and stores its session before this call does, is
    /// ended by it. One that stores it later is not: let the handler of the log-in [`save`](Self::save) the session and then
    /// check the password again; unless it is still good, it calls [`destroy`](Self::destroy), **also if the second check
    /// itself fails**: its session is stored already, and would be one that nobody has checked. One of the two finds the
    /// other, whichever is first.
    ///
    /// If this call fails, the new password is stored, and the other sessions may still be open: answer with the error, so
    /// that the user tries again. If that must not be left to the user, note beside the password that sessions are to end, and
    /// remove the note after `Ok`; [`revoke_user`](crate::Sessions::revoke_user) ends them later.
    ///
    /// What this request has changed so far is stored too. Without a user this is [`rotate`](Self::rotate) and
    /// [`save`](Self::save). `on_deleted` is called for each session that has ended, unless the answer of the store was lost.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); answered 503 if the store fails. Then nothing has happened, or all of it if the answer of the
    /// store was lost; in a cluster of Redis, and in Redis for a user with more than 1,000 sessions, some of the others may have
    /// ended. This session opens by the cookie that the client has,
    /// unless all of it has happened. The call can be repeated by the next request.
    ///
    /// [`Error::Usage`] if the sessions are in the cookies of their visitors; [`StoreError::is_refused`] for a store without
    /// [`Store::write_limited`].
    ///
    /// [`StoreError::is_refused`]: crate::StoreError::is_refused
    /// [`Store::write_limited`]: crate::Store::write_limited
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Error, LoggedIn, Session};
    /// # #[derive(Databag)]
    /// # struct Shop { #[databag(user_id)] user_id: Option<i64> }
    /// # async fn store_password(_: i64, _: &str) -> Result<(), Error> { Ok(()) }
    /// async fn change_password(mut session: LoggedIn<Shop>, password: String) -> Result<&'static str, Error> {
    ///     store_password(session.user(), &password).await?;
    ///     session.rotate_and_end_others().await?;
    ///     Ok("changed")
    /// }
    /// # let _ = change_password;
    ///
    /// # async fn is_password(_: i64, _: &str) -> Result<bool, Error> { Ok(true) }
    /// async fn log_in(mut session: Session<Shop>, password: String) -> Result<&'static str, Error> {
    ///     if is_password(7, &password).await? {
    ///         session.log_in(7);
    ///         session.save().await?;
    ///         match is_password(7, &password).await {
    ///             Ok(true) => return Ok("welcome"),
    ///             changed_or_unknown => {
    ///                 session.destroy();
    ///                 changed_or_unknown?;
    ///             }
    ///         }
    ///     }
    ///     Ok("wrong password")
    /// }
    /// # let _ = log_in;
    /// ```
    pub async fn rotate_and_end_others(&mut self) -> Result<(), Error>
    where
        T: HasUser,
    {
        self.slot.engine.require_rows()?;
        let intent = self.held.active.intent;
        self.rotate();
        self.active_mut().ends_others = true;
        let saved = self.save().await;
        if saved.is_err() {
            let active = self.active_mut();
            (active.intent, active.ends_others) = (intent, false);
        }
        saved
    }

    /// Notes that the user has proved again who they are, with their password or a passkey: what asks for a
    /// [`Fresh`](crate::Fresh) session is open again. The session continues under a new id (ASVS 5.0 §7.2.4).
    ///
    /// A log-in does the same by itself.
    pub fn reauthenticated(&mut self)
    where
        T: HasUser,
    {
        self.rotate();
        self.active_mut().authenticated = true;
    }

    /// Returns when the user has logged in, or was last [`reauthenticated`](Self::reauthenticated), as far as that is stored.
    pub fn authenticated_at(&self) -> Option<SystemTime>
    where
        T: HasUser,
    {
        self.stored_authentication().map(SystemTime::from)
    }

    /// Returns for how long the user has been authenticated.
    pub(super) fn authenticated_for(&self) -> Option<Duration> {
        let (now, authenticated) = (self.slot.engine.now(), self.stored_authentication()?);
        // Clocks differ a little. A time that is further ahead tells nothing.
        let is_known = authenticated.saturating_since(now) <= Duration::from_mins(1);
        is_known.then(|| now.saturating_since(authenticated))
    }

    /// It is the authentication of the user who is stored, whom the handler may have replaced.
    fn stored_authentication(&self) -> Option<Timestamp> {
        let active = &self.held.active;
        let stored = active.stored.as_ref()?;
        let mut projection = Projection::default();
        active.bag.project(&mut projection);
        stored.header.authenticated.filter(|_| projection.user == stored.projection.user)
    }

    /// Remembers the session, or not, as a user asks for with "remember me" when they log in. A remembered session lives as
    /// long as `remember` of the bag says, 30 days by default, used or not; so does its cookie, also after the
    /// browser was closed. Any other one has the ordinary limits, and goes with the browser.
    ///
    /// The limits count from now, and again from the log-in of a visitor. They hold until the session ends, or someone logs in
    /// where a user is logged in already, without this call. Calls before and after [`log_in`](Self::log_in) are equal. A
    /// session that is remembered already keeps its limits. However often they change, a session ends no later than the longest
    /// of them allows, counted from its log-in.
    ///
    /// Call it at each log-in, with what the form says.
    pub fn remember(&mut self, remember: bool) {
        let config = &self.slot.engine.context.config;
        let limit = remember.then(|| whole_millis(config.remember.max(config.absolute)));
        self.active_mut().lifetime = Some(Lifetime { persistent: remember, limit });
    }

    /// Remembers the session as [`remember`](Self::remember) does, but for so long; at most 100 years, of which browsers keep a
    /// cookie for 400 days.
    pub fn remember_for(&mut self, limit: Duration) {
        let limit = Some(whole_millis(limit.min(LONGEST_LIFE)));
        self.active_mut().lifetime = Some(Lifetime { persistent: true, limit });
    }

    /// Stores what has changed now instead of when the handler has answered.
    ///
    /// # Errors
    ///
    /// If it cannot be stored. If the store has not confirmed the write, or this future is dropped before its end, it is
    /// unknown what is stored: later writes of the request fail with [`Error::Unconfirmed`], and it is answered 503,
    /// unless [`reload`](Self::reload) reads what is stored.
    pub async fn save(&mut self) -> Result<(), Error> {
        let slot = self.slot.clone();
        let wait = slot.wait();
        let saved = slot.engine.commit(self.active_mut(), wait.deadline).await;
        let update = saved.inspect_err(|error| self.held_mut().report(&slot.engine, error, Stage::Store))?;
        self.held_mut().reported = None;
        self.slot.note_stored(update);
        Ok(())
    }

    /// Drops what has changed in this request and reads the session again. A new session starts over.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the session was ended meanwhile, and if the store fails.
    pub async fn reload(&mut self) -> Result<(), Error> {
        let slot = self.slot.clone();
        let (engine, wait) = (&slot.engine, slot.wait());
        let client = self.held.active.client.clone();
        let was_unconfirmed = self.held.active.unconfirmed;
        let active = if self.is_new() {
            // Under another id: it is unknown whether this one has a row.
            engine.fresh(client)?
        } else {
            let token = self.held.active.token.clone().unwrap_or_else(|| engine.fresh_token());
            let loaded = engine.load(token, Some(client), wait.deadline).await;
            match loaded.inspect_err(|error| self.held_mut().report(engine, error, Stage::Reload))? {
                LoadOutcome::Live(active) => active,
                LoadOutcome::Rejected(_) => return Err(Error::Ended),
            }
        };
        *self.active_mut() = active;
        self.held_mut().reported = None;
        self.slot.note_ending(None);
        let active = &self.held.active;
        if was_unconfirmed && let Some(stored) = &active.stored {
            // The write that stored this token may have been dropped before the cookie learned of it.
            self.slot.note_stored(set_cookie(active.token.clone(), stored));
        }
        Ok(())
    }

    /// Changes the session in one step: `change` runs on the session with this request's changes so far. If another request
    /// has written it since, `change` runs again on what is stored then, until its result is stored. The result of its last
    /// run is returned. A `change` that changes nothing runs on what is stored now too.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the session was ended meanwhile, [`Error::Contended`] if every attempt until the deadline met
    /// a conflict, and if the store fails. This session is then as it was, except fields marked `skip`; after a write
    /// that was not confirmed the same holds as for [`save`](Self::save).
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
    #[doc(alias("insert", "set", "get"))]
    pub async fn update<R>(&mut self, change: impl FnMut(&mut T) -> R) -> Result<R, Error> {
        let slot = self.slot.clone();
        let wait = slot.wait();
        let updated = slot.engine.update(self.active_mut(), Read::Before, change, wait.deadline).await;
        let (value, update) =
            updated.inspect_err(|error| self.held_mut().report(&slot.engine, error, Stage::Update))?;
        self.held_mut().reported = None;
        self.slot.note_stored(update);
        Ok(value)
    }

    /// Returns a token for a form, against cross-site request forgery: 86 characters of base64url, others at each call. Write
    /// it into a hidden field, `csrf_token`; [`Csrf`](crate::Csrf) and [`verify_csrf`](Self::verify_csrf) check it.
    ///
    /// It is good until the id of the session changes, also after a rotation of keys, as long as the old key is in the
    /// keyring. Without a keyring it is good in this process only.
    ///
    /// Nothing is stored for a new visitor: a cookie of its own, named as the session's with `-csrf` at its end, carries what
    /// the token is bound to. It is good until a user logs in. A handler that changes the id and shows a form in
    /// one request calls [`save`](Self::save) in between.
    pub fn csrf_token(&self) -> String {
        self.slot.csrf.token(&self.slot.engine.csrf, &self.held.active)
    }

    /// Returns whether a form has a token of this session, or of this visitor; compares in constant time.
    /// [`Csrf`](crate::Csrf) also checks where the form comes from.
    pub fn verify_csrf(&self, submitted: &str) -> bool {
        self.slot.csrf.verify(&self.slot.engine.csrf, self.held.active.id, submitted.as_bytes())
    }

    fn intend(&mut self, intent: Intent) {
        let active = self.active_mut();
        active.intent = active.intent.max(intent);
    }

    fn end(&mut self, cause: EndCause, is_kept: impl Fn(&Field) -> bool) {
        let active = self.active_mut();
        active.end_cause = cause;
        let mut bag = T::defaults();
        // Fields that cannot be encoded, or do not come back as they are, are not kept.
        let kept = Fields::of(&active.bag).is_ok_and(|fields| {
            active.forget_replaced_flash(&fields);
            let comes_back = |field: &Field| {
                let index = T::SCHEMA.fields.iter().position(|other| other.name == field.name);
                index.is_some_and(|index| fields.reads_back(index, &active.bag))
            };
            fields.restore(&mut bag, |field| is_kept(field) && comes_back(field)).is_ok()
        });
        if !kept {
            bag = T::defaults();
        }
        active.bag = bag;
        active.set_up_bag();
        active.client.fill(&mut active.bag);
        active.lifetime = None;
        active.authenticated = false;
        // A session that is not stored has nothing to end, and may still be begun.
        active.intent = if active.stored.is_some() { Intent::End } else { Intent::Continue };
        let ending = active.is_ending().then_some(active.id);
        self.slot.note_ending(ending);
    }

    fn reset(&mut self, is_reset: impl Fn(&Field) -> bool) {
        // Encoded anew: a default may differ each time.
        let defaults =
            Fields::of(&T::defaults()).expect("the defaults were encoded when the sessions were built");
        let active = self.active_mut();
        let reset = defaults.restore(&mut active.bag, is_reset);
        reset.expect("the defaults were decoded when the sessions were built");
        active.set_up_bag();
    }

    fn active_mut(&mut self) -> &mut Active<T> {
        self.held.is_used.set(true);
        &mut self.held_mut().active
    }

    fn held_mut(&mut self) -> &mut Held<T> {
        Rc::get_mut(&mut self.held).expect("a lent session has one holder")
    }
}

/// Returns a limit as it is stored.
fn whole_millis(limit: Duration) -> Duration {
    Duration::from_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

impl<T: Databag> Deref for Session<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.is_used.set(true);
        &self.held.active.bag
    }
}

impl<T: Databag> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.active_mut().bag
    }
}

impl<T: Databag> Drop for Session<T> {
    fn drop(&mut self) {
        // A middleware may catch the panic and answer.
        if std::thread::panicking() {
            self.slot.abandon();
        } else {
            self.slot.give_back(self.held.clone());
        }
    }
}

impl<T: Databag> fmt::Debug for Session<T> {
    /// Shows the id only: the bag is users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.held.active.id).finish_non_exhaustive()
    }
}

/// A read-only view of the session of a request. It may be taken any number of times, but not while a [`Session`] is
/// held. It extends the idle expiry and writes nothing else.
pub struct SessionRef<T: Databag> {
    held: Rc<Held<T>>,
}

impl<T: Databag> SessionRef<T> {
    /// Shares the session of a slot.
    #[cfg(feature = "actix")]
    pub(crate) fn borrow_from(slot: &Slot<T>) -> Result<Self, Error> {
        Ok(Self { held: slot.share()? })
    }

    /// Returns the public name of the session.
    pub fn id(&self) -> SessionId {
        self.held.active.id
    }

    /// Returns whether nothing is stored for this visitor yet.
    pub fn is_new(&self) -> bool {
        self.held.active.stored.is_none()
    }
}

impl<T: Databag> Deref for SessionRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held.active.bag
    }
}

impl<T: Databag> fmt::Debug for SessionRef<T> {
    /// Shows the id only: the bag is users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRef").field("id", &self.held.active.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(crate::Databag)]
    struct Shop {
        #[databag(user_id)]
        user_id: Option<i64>,
        visits: u32,
    }

    #[tokio::test]
    async fn a_csrf_token_of_a_new_visitor_stays_valid_after_rotate_log_out_and_destroy() {
        let asked: [fn(&mut Session<Shop>); 3] = [Session::rotate, Session::log_out, Session::destroy];
        for ask in asked {
            for visits in [0, 1] {
                let mut session = Session::for_test(Shop::defaults());
                ask(&mut session);
                let token = session.csrf_token();
                ask(&mut session);
                let again = session.csrf_token();
                session.visits = visits;
                session.save().await.expect("stored");
                assert_eq!(session.is_new(), visits == 0, "a token needs no row");
                assert!(session.verify_csrf(&token) && session.verify_csrf(&again));
            }
        }
    }

    #[tokio::test]
    async fn a_csrf_token_ends_with_the_id_of_its_session() {
        let mut session = Session::for_test(Shop { user_id: None, visits: 1 });
        session.save().await.expect("stored");
        let token = session.csrf_token();
        session.log_in(7);
        session.save().await.expect("stored");
        assert!(!session.verify_csrf(&token) && session.verify_csrf(&session.csrf_token()));
    }

    #[derive(crate::Databag)]
    #[databag(max_per_user = 1)]
    struct Few {
        #[databag(user_id)]
        user_id: Option<i64>,
    }

    #[tokio::test]
    async fn a_handler_that_limits_the_sessions_of_a_user_is_tested_without_a_store() {
        let mut session = Session::for_test(Few { user_id: None });
        session.log_in(7);
        session.save().await.expect("stored");
        let old = session.id();
        session.rotate_and_end_others().await.expect("stored");
        assert!(session.id() != old && session.user_id == Some(7));
    }
}
