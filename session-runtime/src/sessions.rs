//! Sessions of one bag in one store: the calls around the pure halves, and what applications ask for.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::{self, Stream};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::bag::{Databag, HasUser};
use crate::builder::Builder;
use crate::clock::{Steady, Timestamp};
use crate::column::Condition;
use crate::commit::{Plan, Step, plan, plan_touch};
use crate::error::{Error, Rejection};
use crate::hooks::Hooks;
use crate::load::{Active, Intent, Rules, Stored, Verdict, Visitor, open};
use crate::merge::merge;
use crate::queue::{Queue, Turn};
use crate::recent::{Fate, Recent};
use crate::record::{DecodeError, Fields};
use crate::refused::Refused;
use crate::store::{
    AnyRows, ColumnRef, Comparison, DefaultStore, Directory, Filter, Outcome, Page, Row, Store, StoreError,
    Update, cookie,
};
use crate::token::{SessionId, Token, TokenSource};
use crate::value::{ColumnValue as _, Value};

/// How many rows a page of a listing has.
const PAGE: u32 = 256;

/// How many expired rows are removed at a time.
pub(crate) const PRUNE_BATCH: u32 = 500;

/// The sessions of the bag `T` in the store `S`. Cloning is cheap; every clone is the same sessions.
///
/// # Examples
///
/// ```
/// use session_runtime::{Databag, Keyring, Sessions, SqliteStore};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
///     visits: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?)
///     .keyring(Keyring::parse(&Keyring::generate())?)
///     .build()
///     .await?;
///
/// let (token, _) = sessions.create(Shop { user_id: Some(7), visits: 0 }).await?;
/// let session = sessions.load(&token).await?.expect("just created");
/// sessions.update(session.id(), |shop| shop.visits += 1).await?;
/// assert_eq!(sessions.of_user(7).await?[0].visits, 1);
/// # Ok(())
/// # }
/// ```
pub struct Sessions<T, S = DefaultStore> {
    pub(crate) core: Arc<Core>,
    pub(crate) store: Arc<S>,
    pub(crate) bag: PhantomData<fn() -> T>,
}

/// What all clones share, whatever the bag and the store are.
pub(crate) struct Core {
    pub(crate) rules: Rules,
    pub(crate) hooks: Hooks,
    #[cfg(feature = "actix")]
    pub(crate) web: crate::web::Config,
    pub(crate) store: Arc<dyn AnyRows>,
    pub(crate) clock: Steady,
    pub(crate) tokens: Box<dyn TokenSource>,
    pub(crate) deadline: Duration,
    pub(crate) queue: Queue,
    pub(crate) refused: Refused,
    pub(crate) recent: Recent,
    pub(crate) csrf_key: Zeroizing<[u8; 32]>,
    pub(crate) prune_each_time: bool,
}

/// What the cookie has to say after a session was stored.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// This token, for a session that ends then unless it is used.
    Token { token: Token, remembered: bool, expires: Timestamp },
    /// Nothing any more.
    Removal,
}

impl Core {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn fresh_token(&self) -> Token {
        Token::from_bytes(self.tokens.token())
    }

    /// Loads the session of a token for a visitor.
    pub(crate) async fn load<T: Databag>(
        &self,
        token: Token,
        visitor: Option<Visitor>,
    ) -> Result<Verdict<T>, Error> {
        let id = token.session_id();
        if self.is_over(id) {
            return Ok(Verdict::Rejected(Rejection::Unknown));
        }
        let row = match (token.carried(), self.rules.in_cookie()) {
            (None, false) => {
                let until = Instant::now() + self.deadline;
                let row = self.within(until, "load a row", self.store.load(id)).await?;
                row.ok_or(Rejection::Unknown)
            }
            (Some(carried), true) => cookie::unpack(carried).ok_or(Rejection::Malformed),
            // A cookie from before the store was changed.
            _ => Err(Rejection::Malformed),
        };
        match row {
            Ok(row) => open(&self.rules, row, Some(token), visitor, self.now()),
            Err(rejection) => Ok(Verdict::Rejected(rejection)),
        }
    }

    /// Tells whether this process knows that a session has ended where the store does not.
    fn is_over(&self, id: SessionId) -> bool {
        self.refused.contains(id) || (self.rules.in_cookie() && self.recent.fate(id).is_some())
    }

    // A session in a cookie has no row: what this process remembers of it stands in for one.

    async fn insert(&self, row: Row, until: Instant) -> Result<(), Error> {
        if self.rules.in_cookie() {
            return Ok(());
        }
        self.within(until, "add a row", self.store.insert(row)).await
    }

    async fn delete(&self, id: SessionId, until: Instant) -> Result<bool, Error> {
        if self.rules.in_cookie() {
            return Ok(self.recent.fate(id).is_none());
        }
        self.within(until, "delete a row", self.store.delete(id)).await
    }

    /// Stores what has become of a session, and tells what the cookie has to say.
    ///
    /// A session that was to end and could not be ended, for whatever reason, is refused here from now on.
    pub(crate) async fn commit<T: Databag>(&self, active: &mut Active<T>) -> Result<Option<Sent>, Error> {
        let (id, leaves) = (active.id, active.is_leaving());
        let outcome = self.try_commit(active).await;
        self.or_refuse(leaves, id, outcome)
    }

    async fn try_commit<T: Databag>(&self, active: &mut Active<T>) -> Result<Option<Sent>, Error> {
        let until = Instant::now() + self.deadline;
        let plan = match self.plan(active) {
            // What this request read has expired; another may have kept the session alive since.
            Err(Error::Ended) => {
                self.rebase(active, until).await?;
                self.plan(active)?
            }
            plan => plan?,
        };
        if matches!(plan, Plan::Keep) {
            return Ok(None);
        }
        let touches = matches!(plan, Plan::Touch(_));
        let sent = match self.carry_through(active, plan, until).await {
            Err(error) if touches => {
                not_touched(active.id, &error);
                None
            }
            carried => carried?,
        };
        self.prune_if_asked().await;
        Ok(sent)
    }

    /// Carries a plan out, on top of what others have stored first.
    async fn carry_through<T: Databag>(
        &self,
        active: &mut Active<T>,
        mut plan: Plan,
        until: Instant,
    ) -> Result<Option<Sent>, Error> {
        let _turn = self.turn(active, until).await?;
        loop {
            match self.carry_out(active, plan, until).await? {
                Carried::Out(sent) => return Ok(sent),
                Carried::Conflict => {
                    Self::again(until).await?;
                    self.rebase(active, until).await?;
                    plan = self.plan(active)?;
                }
            }
        }
    }

    /// Lets others go on before a write is tried again, if there is time for that.
    async fn again(until: Instant) -> Result<(), Error> {
        tokio::task::yield_now().await;
        if Instant::now() < until { Ok(()) } else { Err(Error::Contended) }
    }

    /// Stores that a session was looked at. That is at no one's request: nothing is lost if it fails.
    pub(crate) async fn touch<T: Databag>(&self, active: &Active<T>) -> Option<Sent> {
        let touched = self.try_touch(active).await;
        touched.inspect_err(|error| not_touched(active.id, error)).ok().flatten()
    }

    async fn try_touch<T: Databag>(&self, active: &Active<T>) -> Result<Option<Sent>, Error> {
        let until = Instant::now() + self.deadline;
        let mut fresh: Option<Active<T>> = None;
        loop {
            let active = fresh.as_ref().unwrap_or(active);
            let Plan::Touch(step) = plan_touch(&self.rules, active, self.now())? else { return Ok(None) };
            let touched = self.replace(active, &step, until).await;
            if let (Ok(Outcome::Conflict), Some(token)) = (&touched, &active.token) {
                // Whoever was first need not have moved the expiration.
                Self::again(until).await?;
                match self.load(token.clone(), None).await? {
                    Verdict::Live(read) => fresh = Some(read),
                    Verdict::Rejected(_) => return Ok(None),
                }
                continue;
            }
            let token = step.token.or_else(|| active.token.clone());
            let sent = || sent(token, active.remembered, step.row.expiration);
            return Ok(Self::was_touched(active.id, touched).then(sent).flatten());
        }
    }

    /// Logs what kept a touch from being stored.
    fn was_touched(id: SessionId, touched: Result<Outcome, Error>) -> bool {
        match touched {
            Ok(outcome) => outcome == Outcome::Stored,
            Err(error) => {
                not_touched(id, &error);
                false
            }
        }
    }

    /// Applies a change to what is stored and stores the result in one step, as often as it takes.
    pub(crate) async fn update<T: Databag, R>(
        &self,
        active: &mut Active<T>,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<(R, Option<Sent>), Error> {
        let (id, leaves) = (active.id, active.is_leaving());
        let outcome = self.try_update(active, &mut change).await;
        let updated = self.or_refuse(leaves, id, outcome)?;
        self.prune_if_asked().await;
        Ok(updated)
    }

    async fn try_update<T: Databag, R>(
        &self,
        active: &mut Active<T>,
        change: &mut impl FnMut(&mut T) -> R,
    ) -> Result<(R, Option<Sent>), Error> {
        let until = Instant::now() + self.deadline;
        let _turn = self.turn(active, until).await?;
        loop {
            if active.stored.is_some() {
                self.rebase(active, until).await?;
            }
            let before = Fields::against(&active.bag, &active.base)?;
            let value = change(&mut active.bag);
            let carried = match self.plan(active) {
                Ok(plan) => self.carry_out(active, plan, until).await,
                Err(error) => Err(error),
            };
            if let Ok(Carried::Out(sent)) = carried {
                return Ok((value, sent));
            }
            // The change was not stored, so it was not made either: it is made again on what others have
            // stored, or, if it failed, must not be stored with the rest of the request.
            before.decode_into(&mut active.bag).map_err(undecodable)?;
            carried?;
            Self::again(until).await?;
        }
    }

    /// Tells whether there is nothing to store but that the session was looked at.
    pub(crate) fn only_touches<T: Databag>(&self, active: &Active<T>) -> bool {
        matches!(self.plan(active), Ok(Plan::Touch(_)))
    }

    fn plan<T: Databag>(&self, active: &Active<T>) -> Result<Plan, Error> {
        plan(&self.rules, active, self.now(), || self.fresh_token())
    }

    /// Waits until no other request of this process writes the session.
    async fn turn<T>(&self, active: &Active<T>, until: Instant) -> Result<Turn<'_>, Error> {
        timeout_at(until, self.queue.turn(active.id)).await.map_err(|_| Error::Contended)
    }

    async fn carry_out<T: Databag>(
        &self,
        active: &mut Active<T>,
        plan: Plan,
        until: Instant,
    ) -> Result<Carried, Error> {
        let old = active.id;
        if !active.is_leaving() && self.is_over(old) {
            return Err(Error::Ended);
        }
        match plan {
            Plan::Keep => Ok(Carried::Out(None)),
            Plan::Create(step) => {
                self.insert(step.row.clone(), until).await?;
                (self.hooks.started)(step.row.id);
                self.trim::<T>(step.row.user.as_ref(), until).await;
                Ok(Carried::Out(Self::renamed(active, step)))
            }
            Plan::Touch(step) => match self.replace(active, &step, until).await {
                Ok(Outcome::Conflict) => Ok(Carried::Conflict),
                touched => {
                    let sent =
                        if Self::was_touched(old, touched) { Self::refreshed(active, step) } else { None };
                    Ok(Carried::Out(sent))
                }
            },
            Plan::Write(step) => match self.replace(active, &step, until).await? {
                Outcome::Stored => Ok(Carried::Out(Self::refreshed(active, step))),
                Outcome::Conflict => Ok(Carried::Conflict),
                Outcome::Gone => Err(Error::Ended),
            },
            Plan::Rotate(step) => {
                let leaves = active.is_leaving();
                match self.replace(active, &step, until).await? {
                    // It was to end while this was under way, and could not be ended under its old id.
                    Outcome::Stored if !leaves && self.refused.contains(old) => {
                        self.refused.insert(step.row.id, self.store.clone());
                        Err(Error::Ended)
                    }
                    Outcome::Stored => {
                        if leaves {
                            self.has_ended(old);
                            (self.hooks.started)(step.row.id);
                        } else {
                            self.recent.note(old, Fate::Renamed(step.row.id));
                            (self.hooks.rotated)(old, step.row.id);
                        }
                        self.trim::<T>(step.row.user.as_ref(), until).await;
                        Ok(Carried::Out(Self::renamed(active, step)))
                    }
                    Outcome::Conflict => Ok(Carried::Conflict),
                    // Once it has ended, what the bag holds now begins another.
                    Outcome::Gone if leaves => {
                        self.end(old, until).await?;
                        self.insert(step.row.clone(), until).await?;
                        (self.hooks.started)(step.row.id);
                        Ok(Carried::Out(Self::renamed(active, step)))
                    }
                    Outcome::Gone => Err(Error::Ended),
                }
            }
            Plan::Delete => {
                self.end(old, until).await?;
                *active = Active::fresh(self.fresh_token(), active.visitor)?;
                Ok(Carried::Out(Some(Sent::Removal)))
            }
        }
    }

    /// Ends a session, under whatever id it goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if it is gone and this process does not know why: another one may have renamed it.
    async fn end(&self, mut id: SessionId, until: Instant) -> Result<(), Error> {
        loop {
            if self.delete(id, until).await? {
                self.has_ended(id);
                return Ok(());
            }
            match self.recent.fate(id) {
                Some(Fate::Renamed(next)) => id = next,
                Some(Fate::Ended) => return Ok(()),
                None => return Err(Error::Ended),
            }
        }
    }

    fn has_ended(&self, id: SessionId) {
        self.recent.note(id, Fate::Ended);
        (self.hooks.deleted)(id);
    }

    async fn replace<T>(&self, active: &Active<T>, step: &Step, until: Instant) -> Result<Outcome, Error> {
        if self.rules.in_cookie() {
            return Ok(if self.is_over(active.id) { Outcome::Gone } else { Outcome::Stored });
        }
        let expected = active.stored.as_ref().map_or(0, |stored| stored.revision);
        let update = Update { id: active.id, expected, scope: step.scope, row: step.row.clone() };
        self.within(until, "update a row", self.store.update(update)).await
    }

    /// Ends the oldest sessions of a user who has more than the bag allows. The log-in that was one too many
    /// has succeeded, so if this fails, the next one sees to it.
    async fn trim<T: Databag>(&self, user: Option<&Value>, until: Instant) {
        let (Some(keep), Some(user)) = (T::SCHEMA.max_per_user, user) else { return };
        let trim = self.store.trim(user, keep, self.now());
        match self.within(until, "trim the sessions of a user", trim).await {
            Ok(trimmed) => trimmed.into_iter().for_each(|id| self.has_ended(id)),
            Err(error) => tracing::warn!(error = %Chain(&error), "old sessions of a user could not be ended"),
        }
    }

    /// Makes a session that was to end unusable here, if the store did not end it.
    pub(crate) fn or_refuse<R>(
        &self,
        leaves: bool,
        id: SessionId,
        outcome: Result<R, Error>,
    ) -> Result<R, Error> {
        if leaves && outcome.is_err() {
            // Others may have renamed it while this request was in flight.
            let last = self.recent.latest_id(id);
            if self.rules.in_cookie() {
                self.recent.note(last, Fate::Ended);
            } else {
                self.refused.insert(last, self.store.clone());
            }
        }
        outcome
    }

    /// Takes over what was stored.
    fn adopt<T>(active: &mut Active<T>, step: Step) {
        active.id = step.row.id;
        active.token = step.token.or(active.token.take());
        active.base = step.base;
        active.stored = Some(step.stored);
        active.intent = Intent::Continue;
    }

    /// Takes over what was stored under a new id, which the cookie must learn.
    fn renamed<T>(active: &mut Active<T>, step: Step) -> Option<Sent> {
        let expires = step.row.expiration;
        Self::adopt(active, step);
        sent(active.token.clone(), active.remembered, expires)
    }

    /// Takes over what was stored under the same id. The cookie has news only if its date has, or if it
    /// carries the session itself.
    fn refreshed<T>(active: &mut Active<T>, step: Step) -> Option<Sent> {
        let dates = |stored: &Stored| (stored.header.remembered, stored.expiration);
        let news = step.token.is_some() || active.stored.as_ref().map(dates) != Some(dates(&step.stored));
        Self::renamed(active, step).filter(|_| news)
    }

    /// Loads what another writer has stored and moves the request's own changes on top of it.
    async fn rebase<T: Databag>(&self, active: &mut Active<T>, until: Instant) -> Result<(), Error> {
        if self.rules.in_cookie() {
            // What the request has brought is all there is.
            return Ok(());
        }
        let Some(row) = self.within(until, "load a row", self.store.load(active.id)).await? else {
            // Who leaves learns what became of it when there is nothing left to end.
            return if active.is_leaving() { Ok(()) } else { Err(Error::Ended) };
        };
        let theirs = match open::<T>(&self.rules, row, None, None, self.now())? {
            Verdict::Live(theirs) => theirs,
            Verdict::Rejected(Rejection::Expired) => return Err(Error::Ended),
            Verdict::Rejected(rejection) => return Err(unusable(rejection)),
        };
        // Who leaves takes nothing along that was written meanwhile.
        if !active.is_leaving() {
            let ours = Fields::against(&active.bag, &active.base)?;
            // A flash value that was read is in the bag still, and no change that would undo another's.
            let none = self.rules.layout.none();
            let replaced = |(field, value): &(usize, Vec<u8>)| {
                let read = ours.get(*field) == value && active.base.get(*field) == none;
                (read && theirs.base.get(*field) != none).then_some(*field)
            };
            let replaced: Vec<usize> = active.flash.iter().filter_map(replaced).collect();
            let ours = if replaced.is_empty() { ours } else { ours.with(&replaced, none) };
            let merged = merge::<T>(&active.base, &ours, &theirs.base)?;
            merged.decode_into(&mut active.bag).map_err(undecodable)?;
        }
        let stored = active.stored.as_ref();
        let untouched = stored.is_none_or(|stored| stored.header.remembered == active.remembered);
        if untouched && !active.is_leaving() {
            active.remembered = theirs.remembered;
        }
        active.base = theirs.base;
        active.stored = theirs.stored;
        Ok(())
    }

    async fn within<R>(
        &self,
        until: Instant,
        operation: &'static str,
        call: impl Future<Output = Result<R, StoreError>>,
    ) -> Result<R, Error> {
        match timeout_at(until, call).await {
            Ok(result) => result.map_err(Error::Store),
            Err(_) => Err(Error::Store(StoreError::deadline(operation))),
        }
    }

    /// Returns the token against request forgery of a session: 43 characters of base64url.
    pub(crate) fn csrf_token(&self, id: SessionId) -> String {
        let mut token = [0; 32];
        let hkdf = Hkdf::<Sha256>::from_prk(self.csrf_key.as_slice()).expect("the key is as long as a hash");
        hkdf.expand(id.as_bytes(), &mut token).expect("32 bytes are within HKDF's limit");
        URL_SAFE_NO_PAD.encode(token)
    }

    pub(crate) fn verify_csrf(&self, id: SessionId, presented: &str) -> bool {
        self.csrf_token(id).as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// Removes some expired rows, if that is to happen with everything that is stored.
    async fn prune_if_asked(&self) {
        if self.prune_each_time
            && let Some(now) = self.clock.agreed()
        {
            let until = Instant::now() + self.deadline;
            let prune = self.store.prune(now, PRUNE_BATCH);
            if let Err(error) = self.within(until, "remove expired rows", prune).await {
                tracing::warn!(error = %Chain(&error), "expired sessions could not be removed");
            }
        }
    }
}

fn not_touched(id: SessionId, error: &Error) {
    tracing::warn!(session = ?id, error = %Chain(error), "a session could not be touched");
}

/// What the cookie of a session has to say; nothing for one that was found by its id.
fn sent(token: Option<Token>, remembered: bool, expires: Timestamp) -> Option<Sent> {
    token.map(|token| Sent::Token { token, remembered, expires })
}

/// What came of a [`Plan`].
enum Carried {
    Out(Option<Sent>),
    Conflict,
}

fn undecodable(error: DecodeError) -> Error {
    unusable(Rejection::Undecodable { field: error.field })
}

/// A row that this request could read a moment ago cannot be read any more.
fn unusable(rejection: Rejection) -> Error {
    Error::Store(StoreError::new("return the row as it was", rejection))
}

/// Shows an error with all its causes, as logs want it.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A stored session as it was when it was read. Changing it changes nothing in the store.
pub struct Snapshot<T> {
    id: SessionId,
    created: Timestamp,
    expires: Timestamp,
    bag: T,
}

impl<T> Snapshot<T> {
    /// Returns the public name of the session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns when the session began: when it was first stored, or its user last logged in.
    pub fn created(&self) -> SystemTime {
        self.created.into()
    }

    /// Returns when the session ends, unless it is used before.
    pub fn expires(&self) -> SystemTime {
        self.expires.into()
    }

    /// Returns the bag.
    pub fn into_bag(self) -> T {
        self.bag
    }
}

impl<T> Deref for Snapshot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.bag
    }
}

impl<T> fmt::Debug for Snapshot<T> {
    /// Shows the id only: the bag is users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<T> Snapshot<T> {
    fn of(active: Active<T>) -> Option<Self> {
        let stored = active.stored?;
        Some(Self { id: active.id, created: stored.created, expires: stored.expiration, bag: active.bag })
    }
}

impl<T> Sessions<T> {
    /// Begins the configuration of sessions in a store of any kind.
    pub fn builder<S: Store>(store: S) -> Builder<T, S>
    where
        T: Databag,
    {
        Builder::new(store)
    }
}

impl<T: Databag, S: Store> Sessions<T, S> {
    /// Stores a new session and returns its token: for tests, and for log-ins outside a request.
    ///
    /// # Errors
    ///
    /// If the session cannot be stored.
    pub async fn create(&self, bag: T) -> Result<(Token, Snapshot<T>), Error> {
        let mut active = Active::<T>::fresh(self.core.fresh_token(), Visitor::default())?;
        active.bag = bag;
        active.intent = Intent::Keep;
        self.core.commit(&mut active).await?;
        let token = active.token.clone().ok_or(Error::Ended)?;
        let snapshot = Snapshot::of(active).ok_or(Error::Ended)?;
        Ok((token, snapshot))
    }

    /// Returns the session a token opens, if it lives. It is not bound to an address here.
    ///
    /// # Errors
    ///
    /// If the store fails, or the session's key is missing.
    pub async fn load(&self, token: &Token) -> Result<Option<Snapshot<T>>, Error> {
        match self.core.load(token.clone(), None).await? {
            Verdict::Live(active) => Ok(Snapshot::of(active)),
            Verdict::Rejected(_) => Ok(None),
        }
    }

    /// Returns the session of this id, if it lives.
    ///
    /// # Errors
    ///
    /// As [`Sessions::load`].
    pub async fn get(&self, id: SessionId) -> Result<Option<Snapshot<T>>, Error> {
        Ok(self.active(id).await?.and_then(Snapshot::of))
    }

    /// Ends a session, at once and for good; tells whether there was one.
    ///
    /// # Errors
    ///
    /// If the store fails. This process then refuses the session all the same.
    pub async fn delete(&self, id: SessionId) -> Result<bool, Error> {
        self.by_id()?;
        let until = Instant::now() + self.core.deadline;
        let outcome = self.core.delete(id, until).await;
        let deleted = self.core.or_refuse(true, id, outcome)?;
        if deleted {
            self.core.has_ended(id);
        }
        Ok(deleted)
    }

    /// Changes a session as one step: `change` is run again on the fresh session until its result is
    /// stored before anybody else's. Its last result is returned. This is no activity of the visitor's: it
    /// moves no limit, and uses up no flash value.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if there is no such session, and if the store fails.
    pub async fn update<R>(&self, id: SessionId, change: impl FnMut(&mut T) -> R) -> Result<R, Error> {
        let mut active = self.active(id).await?.ok_or(Error::Ended)?;
        let (value, _) = self.core.update(&mut active, change).await?;
        Ok(value)
    }

    /// Refuses what has to find a session by its id, where there is no row of it.
    fn by_id(&self) -> Result<(), Error> {
        const {
            assert!(
                S::KEEPS_ROWS,
                "sessions in `CookieStore` are with their visitors: none can be found, changed or ended by its id; use a \
                 store that keeps rows, such as `SqliteStore`"
            );
        }
        if self.core.rules.in_cookie() {
            let reason = "it is in the cookie of its visitor";
            return Err(Error::Store(StoreError::new("find a session by its id", reason)));
        }
        Ok(())
    }

    async fn active(&self, id: SessionId) -> Result<Option<Active<T>>, Error> {
        self.by_id()?;
        if self.core.refused.contains(id) {
            return Ok(None);
        }
        let until = Instant::now() + self.core.deadline;
        let Some(row) = self.core.within(until, "load a row", Store::load(&*self.store, id)).await? else {
            return Ok(None);
        };
        match open(&self.core.rules, row, None, None, self.core.now())? {
            Verdict::Live(active) => Ok(Some(active)),
            Verdict::Rejected(_) => Ok(None),
        }
    }
}

/// What a store is going to answer. Boxed, because rustc repeats what a missing bound has to say wherever an
/// opaque future is used.
pub type Answer<'a, R> = Pin<Box<dyn Future<Output = Result<R, Error>> + Send + 'a>>;

/// What only a store can answer that keeps rows. The methods name that, not the `impl`: so rustc shows what
/// [`Directory`] has to say.
impl<T: Databag, S: Store> Sessions<T, S> {
    /// Returns the live sessions of a user.
    ///
    /// # Errors
    ///
    /// If the store fails, or a session's key is missing.
    pub fn of_user(&self, user: impl Into<T::User>) -> Answer<'_, Vec<Snapshot<T>>>
    where
        T: HasUser,
        S: Directory,
    {
        Box::pin(self.find_all(is_user::<T>(user)))
    }

    /// Ends all sessions of a user and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn revoke_user(&self, user: impl Into<T::User>) -> Answer<'_, u64>
    where
        T: HasUser,
        S: Directory,
    {
        Box::pin(self.remove(is_user::<T>(user)))
    }

    /// Ends all sessions of a user but one and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn revoke_user_except(&self, user: impl Into<T::User>, kept: SessionId) -> Answer<'_, u64>
    where
        T: HasUser,
        S: Directory,
    {
        let others = Filter::Not(Box::new(Filter::Id(kept)));
        Box::pin(self.remove(Filter::And(Box::new(is_user::<T>(user)), Box::new(others))))
    }

    /// Begins a query by columns: `.await` it for the live sessions, or
    /// [`count`](Find::count) or [`delete`](Find::delete) them.
    pub fn find(&self, condition: Condition<T>) -> Find<'_, T, S>
    where
        S: Directory,
    {
        Find { sessions: self, filter: condition.filter }
    }

    /// Returns all live sessions, read page by page in the order of their ids.
    pub fn stream(&self) -> impl Stream<Item = Result<Snapshot<T>, Error>> + '_
    where
        S: Directory,
    {
        let start = (VecDeque::new(), None, false);
        stream::try_unfold(start, async |(mut read, mut after, mut done)| {
            while read.is_empty() && !done {
                let rows = self.rows(Filter::All, after).await?;
                done = rows.is_empty();
                after = rows.last().map(|row| row.id);
                read.extend(self.open_all(rows)?);
            }
            Ok(read.pop_front().map(|snapshot| (snapshot, (read, after, done))))
        })
    }

    /// Counts the live sessions.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn count_all(&self) -> Answer<'_, u64>
    where
        S: Directory,
    {
        Box::pin(self.count(Filter::All))
    }

    /// Removes all expired sessions and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn prune(&self) -> Answer<'_, u64>
    where
        S: Directory,
    {
        Box::pin(async move {
            let mut removed = 0;
            loop {
                let until = Instant::now() + self.core.deadline;
                let prune = self.store.prune(self.core.now(), PRUNE_BATCH);
                match self.core.within(until, "remove expired rows", prune).await? {
                    0 => return Ok(removed),
                    batch => removed += batch,
                }
            }
        })
    }

    /// Ends every session and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn clear(&self) -> Answer<'_, u64>
    where
        S: Directory,
    {
        Box::pin(self.remove(Filter::All))
    }

    /// Seals every session that is not sealed under the current key anew, and returns how many were.
    /// `progress` is told how many of all have been looked at.
    ///
    /// # Errors
    ///
    /// If the store fails, or a session's key is missing.
    pub async fn reseal_all(&self, mut progress: impl FnMut(u64, u64)) -> Result<u64, Error>
    where
        S: Directory,
    {
        let place = self.core.rules.place::<T>();
        let total = self.count(Filter::All).await?;
        let (mut seen, mut resealed, mut after) = (0, 0, None);
        loop {
            let rows = self.rows(Filter::All, after).await?;
            let Some(last) = rows.last() else { return Ok(resealed) };
            after = Some(last.id);
            seen += rows.len() as u64;
            for row in rows {
                if self.core.rules.protection.is_current(place, &row.state) {
                    continue;
                }
                if let Verdict::Live(mut active) =
                    open::<T>(&self.core.rules, row, None, None, self.core.now())?
                {
                    active.intent = Intent::Keep;
                    match self.core.commit(&mut active).await {
                        Ok(_) => resealed += 1,
                        Err(Error::Ended) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            progress(seen, total.max(seen));
        }
    }

    /// Checks that the store answers and takes writes.
    ///
    /// # Errors
    ///
    /// If it does not, within the deadline.
    pub fn health(&self) -> Answer<'_, ()>
    where
        S: Directory,
    {
        Box::pin(async move {
            let until = Instant::now() + self.core.deadline;
            self.core.within(until, "answer a health check", self.store.health()).await
        })
    }
}

impl<T: Databag, S: Directory> Sessions<T, S> {
    async fn rows(&self, filter: Filter, after: Option<SessionId>) -> Result<Vec<Row>, Error> {
        let until = Instant::now() + self.core.deadline;
        let live = self.live(filter);
        let page = Page { after, limit: PAGE };
        self.core.within(until, "list rows", self.store.find(&live, page)).await
    }

    async fn find_all(&self, filter: Filter) -> Result<Vec<Snapshot<T>>, Error> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let rows = self.rows(filter.clone(), after).await?;
            let Some(last) = rows.last() else { return self.open_all(found) };
            after = Some(last.id);
            found.extend(rows);
        }
    }

    fn open_all(&self, rows: Vec<Row>) -> Result<Vec<Snapshot<T>>, Error> {
        let mut snapshots = Vec::with_capacity(rows.len());
        for row in rows.into_iter().filter(|row| !self.core.refused.contains(row.id)) {
            let id = row.id;
            match open(&self.core.rules, row, None, None, self.core.now())? {
                Verdict::Live(active) => snapshots.extend(Snapshot::of(active)),
                Verdict::Rejected(Rejection::Expired) => {}
                Verdict::Rejected(reason) => {
                    tracing::warn!(session = ?id, %reason, "a session is left out of a list");
                }
            }
        }
        Ok(snapshots)
    }

    async fn count(&self, filter: Filter) -> Result<u64, Error> {
        let until = Instant::now() + self.core.deadline;
        let live = self.live(filter);
        self.core.within(until, "count rows", self.store.count(&live)).await
    }

    async fn remove(&self, filter: Filter) -> Result<u64, Error> {
        let until = Instant::now() + self.core.deadline;
        let removed = self.core.within(until, "delete rows", self.store.remove(&filter)).await?;
        for id in &removed {
            self.core.has_ended(*id);
        }
        Ok(removed.len() as u64)
    }

    fn live(&self, filter: Filter) -> Filter {
        Filter::And(Box::new(filter), Box::new(Filter::LiveAt(self.core.now())))
    }
}

fn is_user<T: HasUser>(user: impl Into<T::User>) -> Filter {
    Filter::Compare(ColumnRef::User, Comparison::Eq, user.into().to_value())
}

/// A query by columns, made by [`Sessions::find`]. Awaiting it returns the live sessions that match.
pub struct Find<'a, T, S> {
    sessions: &'a Sessions<T, S>,
    filter: Filter,
}

impl<T: Databag, S: Directory> Find<'_, T, S> {
    /// Counts the live sessions that match.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn count(self) -> Result<u64, Error> {
        self.sessions.count(self.filter).await
    }

    /// Ends the sessions that match and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn delete(self) -> Result<u64, Error> {
        self.sessions.remove(self.filter).await
    }
}

impl<'a, T: Databag, S: Directory> IntoFuture for Find<'a, T, S> {
    type Output = Result<Vec<Snapshot<T>>, Error>;
    type IntoFuture = Answer<'a, Vec<Snapshot<T>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.sessions.find_all(self.filter))
    }
}

impl<T, S> fmt::Debug for Find<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Find(..)")
    }
}

impl<T, S> Clone for Sessions<T, S> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), store: self.store.clone(), bag: PhantomData }
    }
}

impl<T, S> fmt::Debug for Sessions<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(..)")
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store::memory::MemoryStore;

    #[derive(Debug, crate::Databag)]
    #[databag(max_per_user = 2)]
    struct Shop {
        #[databag(user_id)]
        user_id: Option<i64>,
    }

    #[tokio::test]
    async fn the_oldest_sessions_of_a_user_give_way_to_new_ones() {
        let seconds = Arc::new(AtomicU64::new(0));
        let clock = {
            let seconds = seconds.clone();
            move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed))
        };
        let sessions = Sessions::<Shop>::builder(MemoryStore::new()).danger_plaintext().clock(clock);
        let sessions = sessions.build().await.expect("builds");
        let mut tokens = Vec::new();
        for user_id in [Some(7), Some(7), Some(8), Some(7), None] {
            tokens.push(sessions.create(Shop { user_id }).await.expect("is stored").0);
        }
        let mut live = Vec::new();
        for token in &tokens {
            live.push(sessions.load(token).await.expect("loads").is_some());
        }
        assert_eq!(live, [false, true, true, true, true]);
    }
}
