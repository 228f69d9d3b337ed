//! Sessions of one bag, as applications manage them: by token, by id, by user, by column.

use std::cmp::Reverse;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use crate::backend::access::{Access, FindsById, Listed, Lists};
use crate::bag::{Databag, HasUser};
use crate::clock::Timestamp;
use crate::engine::cleanup::prune_all;
use crate::engine::core::{Engine, next_page, within};
use crate::engine::event::{EndCause, Event};
use crate::engine::load::{Active, Client, Intent, LoadOutcome};
use crate::engine::span;
use crate::engine::update::Read;
use crate::engine::watched::SessionWatch;
use crate::error::{Error, ErrorChain, Rejection};
#[cfg(feature = "actix")]
use crate::http::HttpConfig;
use crate::query::Condition;
use crate::store::{ColumnRef, Comparison, Filter, Page, Row};
use crate::token::{SessionId, Token};
use crate::value::ColumnValue as _;
use futures_util::stream::{self, Stream, TryStreamExt as _};
use tracing::Instrument as _;

/// How many sessions [`Sessions::of_user`] and an awaited [`Sessions::find`] return at most, unless [`Find::limit`] says
/// otherwise: a list of everything would take as much memory as there are sessions.
pub const LIST_LIMIT: u32 = 1_000;

/// The sessions of the bag `T`. Cloning is cheap, and all clones share the same sessions.
///
/// `A` is what can be done with them, which depends on what keeps them and not on its type: everything by default, on
/// every store that lists its rows; see [`access`](crate::access) for the others. A handler names `Sessions<T>` as an
/// argument and gets the sessions of its [`SessionMiddleware`](crate::SessionMiddleware).
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
///     .keyring(Keyring::generate())
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
pub struct Sessions<T, A: Access = Listed> {
    pub(crate) engine: Arc<Engine>,
    #[cfg(feature = "actix")]
    pub(crate) http: Arc<HttpConfig>,
    types: PhantomData<fn() -> (T, A)>,
}

impl<T, A: Access> Sessions<T, A> {
    pub(crate) fn new(engine: Arc<Engine>, #[cfg(feature = "actix")] http: Arc<HttpConfig>) -> Self {
        Self {
            engine,
            #[cfg(feature = "actix")]
            http,
            types: PhantomData,
        }
    }
}

/// Calls that every backend answers.
impl<T: Databag, A: Access> Sessions<T, A> {
    /// Stores a new session and returns its token: for tests, and for log-ins outside a request.
    ///
    /// # Errors
    ///
    /// If the session cannot be stored.
    pub async fn create(&self, bag: T) -> Result<(Token, Snapshot<T>), Error> {
        let mut active: Active<T> = self.engine.fresh(Client::default())?;
        active.bag = bag;
        active.intent = Intent::Keep;
        self.engine.commit(&mut active, self.engine.deadline()).await?;
        let token = active.token.clone().ok_or(Error::Ended)?;
        let snapshot = Snapshot::of(active).ok_or(Error::Ended)?;
        Ok((token, snapshot))
    }

    /// Returns the live session that a token opens. Its bindings to an address and a user agent are not checked.
    ///
    /// # Errors
    ///
    /// If the store fails, or the session's key is missing.
    pub async fn load(&self, token: &Token) -> Result<Option<Snapshot<T>>, Error> {
        match self.engine.load(token.clone(), None, self.engine.deadline()).await? {
            LoadOutcome::Live(active) => Ok(Snapshot::of(active)),
            LoadOutcome::Rejected(_) => Ok(None),
        }
    }
}

/// A future of a store's answer. It is boxed because rustc repeats the message of a missing bound wherever an opaque
/// future is used.
type BoxFuture<'a, R> = Pin<Box<dyn Future<Output = Result<R, Error>> + Send + 'a>>;

// The bounds are on the methods, so that rustc shows the message of `FindsById` and `Lists`.

/// Calls by id: a store that keeps rows answers them.
impl<T: Databag, A: Access> Sessions<T, A> {
    /// Returns the live session of this id.
    ///
    /// # Errors
    ///
    /// As [`Sessions::load`].
    pub fn get(&self, id: SessionId) -> BoxFuture<'_, Option<Snapshot<T>>>
    where
        A: FindsById,
    {
        Box::pin(async move {
            Ok(self.engine.load_by_id(id, self.engine.deadline()).await?.and_then(Snapshot::of))
        })
    }

    /// Ends a session for good, and returns whether there was one.
    ///
    /// It may be anybody's. A handler that gets the id from a client first asks whose session it is: [`get`](Self::get), then
    /// compare the user.
    ///
    /// # Errors
    ///
    /// If the store fails. This process then refuses the session all the same, and retries the deletion.
    pub fn delete(&self, id: SessionId) -> BoxFuture<'_, bool>
    where
        A: FindsById,
    {
        Box::pin(async move {
            self.engine.require_rows()?;
            self.engine.delete(id).await
        })
    }

    /// Changes a session in one step: `change` runs again on the fresh session after each conflict, until its result is
    /// stored. The result of its last run is returned. This is no activity of the visitor: it extends no limit and
    /// uses up no flash value.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if there is no such session, and if the store fails.
    pub async fn update<R>(&self, id: SessionId, change: impl FnMut(&mut T) -> R) -> Result<R, Error>
    where
        A: FindsById,
    {
        let deadline = self.engine.deadline();
        let mut active = self.engine.load_by_id(id, deadline).await?.ok_or(Error::Ended)?;
        let (value, _) = self.engine.update(&mut active, Read::Now, change, deadline).await?;
        Ok(value)
    }

    /// Keeps a session alive from a connection that makes no requests, such as a WebSocket: it extends the idle limit as a
    /// request of the visitor would, and notes the use. Returns whether there is such a session: one that has ended or
    /// expired never comes back.
    ///
    /// It may be called as often as there is something to note: it reads the session each time, and writes at most once a
    /// minute, as requests do. Call it when the visitor does something, and not for as long as the connection is open,
    /// unless an open page is to count as a use. The absolute limit stays, and so does a remembered session. A cookie with
    /// a date of its own (`persistence = "persistent"`) keeps it until an answer sets it anew.
    ///
    /// A session that changes its id meanwhile is not found by the former one: [`SessionWatch::id`] follows it.
    ///
    /// # Errors
    ///
    /// If the store fails. The connection can go on: a store that cannot be read does not mean that there is no session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Keyring, Sessions, SqliteStore};
    /// # #[derive(Databag)]
    /// # struct Shop { visits: u32 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?).keyring(Keyring::generate()).build().await?;
    /// let (_, session) = sessions.create(Shop { visits: 0 }).await?;
    /// assert!(sessions.touch(session.id()).await?);
    /// sessions.delete(session.id()).await?;
    /// assert!(!sessions.touch(session.id()).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn touch(&self, id: SessionId) -> BoxFuture<'_, bool>
    where
        A: FindsById,
    {
        Box::pin(async move {
            let span = span::commit(T::SCHEMA.name, id, "touch");
            self.engine.touch_by_id::<T>(id, self.engine.deadline()).instrument(span).await
        })
    }

    /// Watches a session for a connection that outlives its request, such as a WebSocket or an event stream: await
    /// [`SessionWatch::ended`], or use the watch as a [`Stream`], which has one item.
    ///
    /// What this process does ends the watch at once. What other processes do, and expiry, end it when the session is next
    /// read: within [`watch_period`](crate::Builder::watch_period), 5 seconds by default. A failure of the store ends no
    /// watch before the absolute limit of its session has passed, as far as it was known; it is logged once, and the sessions are
    /// read again in the next period.
    ///
    /// A session that changes its id and keeps its user ([`Session::rotate`](crate::Session::rotate)) is still watched, if
    /// this process has changed the id. After a change by another process the former id is gone, and the watch ends: the
    /// client connects again with its new cookie.
    ///
    /// The versions of all watched rows are read in turns, 256 at a time; PostgreSQL and MySQL are asked once for each 256. A row
    /// is read whole if another process has changed it.
    /// 10,000 watches of sessions of 10 KB took 4 % of the time of one core with SQLite, 2 % with PostgreSQL and 3 % with Redis, in
    /// an unoptimised program. A longer `watch_period` costs less.
    ///
    /// A session that is not stored has ended: [`save`](crate::Session::save) a new one first. Any number of watches of one
    /// session count as one. A watch does not keep these `Sessions` alive: it ends when the last clone of them is dropped.
    /// It is no use of the session: see [`touch`](Self::touch).
    ///
    /// # Errors
    ///
    /// If the store fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Keyring, Sessions, SqliteStore};
    /// use session_runtime::SessionEnd;
    ///
    /// # #[derive(Databag)]
    /// # struct Shop { visits: u32 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?).keyring(Keyring::generate()).build().await?;
    /// let (_, session) = sessions.create(Shop { visits: 0 }).await?;
    /// let mut watch = sessions.watch(session.id()).await?;
    /// // .. in a task of the connection: tokio::select! { end = watch.ended() => .., message = socket.next() => .. }
    /// sessions.delete(session.id()).await?;
    /// assert_eq!(watch.ended().await, SessionEnd::Ended);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, id: SessionId) -> BoxFuture<'_, SessionWatch>
    where
        A: FindsById,
    {
        Box::pin(self.engine.watch::<T>(id))
    }
}

/// Calls on lists: a store that lists its rows answers them.
impl<T: Databag, A: Access> Sessions<T, A> {
    /// Returns the live sessions of a user, the newest first: at most [`LIST_LIMIT`].
    ///
    /// A session that cannot be opened is left out, whether its row was tampered with or its key is missing; the log has
    /// their number. It is counted, and ended with the others, all the same; but of a user with `blind` nothing is found
    /// under a missing key.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn of_user(&self, user: impl Into<T::User>) -> BoxFuture<'_, Vec<Snapshot<T>>>
    where
        T: HasUser,
        A: Lists,
    {
        Box::pin(self.newest("of_user", is_user::<T>(user), LIST_LIMIT))
    }

    /// Ends all sessions of a user and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn revoke_user(&self, user: impl Into<T::User>) -> BoxFuture<'_, u64>
    where
        T: HasUser,
        A: Lists,
    {
        Box::pin(self.remove(is_user::<T>(user)))
    }

    /// Ends all sessions of a user except one and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn revoke_user_except(&self, user: impl Into<T::User>, kept: SessionId) -> BoxFuture<'_, u64>
    where
        T: HasUser,
        A: Lists,
    {
        Box::pin(self.remove(is_user::<T>(user).and(Filter::Id(kept).not())))
    }

    /// Starts a query by columns: `.await` it for the newest live sessions that match, [`stream`](Find::stream) all of
    /// them, or [`count`](Find::count) or [`delete`](Find::delete) them. A session that cannot be opened is left out, as
    /// [`of_user`](Self::of_user) does.
    pub fn find(&self, condition: Condition<T>) -> Find<'_, T, A>
    where
        A: Lists,
    {
        Find { sessions: self, filter: condition.filter, limit: LIST_LIMIT }
    }

    /// Returns all live sessions, read page by page in the order of their ids. A session that cannot be opened is left
    /// out, as [`of_user`](Self::of_user) does.
    pub fn stream(&self) -> impl Stream<Item = Result<Snapshot<T>, Error>> + '_
    where
        A: Lists,
    {
        self.stream_of("stream", Filter::All)
    }

    /// Counts the live sessions.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn count_all(&self) -> BoxFuture<'_, u64>
    where
        A: Lists,
    {
        Box::pin(async move {
            let live = self.count(Filter::All).await?;
            self.engine.tell(Event::Counted { live });
            Ok(live)
        })
    }

    /// Removes all expired sessions and returns how many there were. It removes them in batches, with pauses for other calls of
    /// the store: the removal of many sessions takes long.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn prune(&self) -> BoxFuture<'_, u64>
    where
        A: Lists,
    {
        Box::pin(prune_all(|| Some(&*self.engine), self.engine.now(), self.engine.context.config.deadline))
    }

    /// Ends every session and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn clear(&self) -> BoxFuture<'_, u64>
    where
        A: Lists,
    {
        Box::pin(self.remove(Filter::All))
    }

    /// Seals every session again that is not sealed under the current key, and returns how many there were. `progress`
    /// is called with the number of sessions checked so far and the number of all.
    ///
    /// A session that cannot be opened, is too large, or has a value that the store refuses, stays as it is; the log has their
    /// number. Before you remove a key, [`check`](Self::check) with the keyring that lacks it.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn reseal_all(&self, mut progress: impl FnMut(u64, u64)) -> Result<u64, Error>
    where
        A: Lists,
    {
        let total = self.count(Filter::All).await?;
        let mut skipped = Skipped::of::<T>("reseal_all");
        let (mut checked, mut resealed, mut after) = (0, 0, None);
        while let Some(rows) = self.next_page(self.live(Filter::All), &mut after).await? {
            checked += rows.len() as u64;
            for row in rows {
                resealed += u64::from(self.reseal(row, &mut skipped).await?);
            }
            progress(checked, total.max(checked));
        }
        Ok(resealed)
    }

    /// Seals a session again if it is not sealed under the current key; returns whether it was.
    async fn reseal(&self, row: Row, skipped: &mut Skipped) -> Result<bool, Error> {
        let (context, id) = (&self.engine.context, row.id);
        if context.protection.is_current(&context.place, &row.state) {
            return Ok(false);
        }
        let Some(mut active) = self.open(row, skipped)? else { return Ok(false) };
        active.intent = Intent::Keep;
        match self.engine.commit(&mut active, self.engine.deadline()).await {
            Ok(_) => Ok(true),
            Err(Error::Ended) => Ok(false),
            Err(error @ Error::Store(_)) if !error.is_refused() => Err(error),
            // Other requests kept writing it, another program has damaged it since it was read, the store takes no such
            // value in a column that is new, or it was written when the limit was higher: that stops no other session.
            Err(error) => {
                skipped.note(id, &error);
                Ok(false)
            }
        }
    }

    /// Reads every row, and counts the sessions that can be opened and those that cannot.
    ///
    /// The log names each session that cannot be opened, at the level `DEBUG`. While sessions come and go the numbers are
    /// approximate.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn check(&self) -> BoxFuture<'_, CheckReport>
    where
        A: Lists,
    {
        Box::pin(async move {
            let mut skipped = Skipped::of::<T>("check");
            let mut report = CheckReport::default();
            let (mut walked, mut after) = (0, None);
            let before = self.count_rows(Filter::All).await?;
            while let Some(rows) = self.next_page(Filter::All, &mut after).await? {
                walked += rows.len() as u64;
                for row in rows {
                    match self.outcome(row, &mut skipped)? {
                        Some(LoadOutcome::Live(_)) => report.live += 1,
                        Some(LoadOutcome::Rejected(_)) => report.expired += 1,
                        None => {}
                    }
                }
            }
            // No list returns a row whose key is no session id.
            let total = self.count_rows(Filter::All).await?.min(before);
            skipped.count += total.saturating_sub(walked);
            report.skipped = skipped.count;
            Ok(report)
        })
    }

    /// Checks that the store answers reads and takes writes.
    ///
    /// # Errors
    ///
    /// If it does not, within the deadline.
    pub fn health(&self) -> BoxFuture<'_, ()>
    where
        A: Lists,
    {
        Box::pin(async move {
            let deadline = self.engine.deadline();
            match self.engine.directory() {
                Ok(directory) => within(deadline, "answer a health check", |end| directory.health(end)).await,
                // Cookies have no server that can be down.
                Err(_) => Ok(()),
            }
        })
    }

    pub(crate) async fn rows(&self, filter: Filter, page: Page) -> Result<Vec<Row>, Error> {
        let (directory, filter) = (self.engine.directory()?, self.engine.stored_filter(filter));
        within(self.engine.deadline(), "list rows", |end| directory.find(&filter, page, end)).await
    }

    /// Returns the next page of the rows of a filter, and `None` at the end: see `next_page` of the engine.
    async fn next_page(
        &self,
        filter: Filter,
        after: &mut Option<SessionId>,
    ) -> Result<Option<Vec<Row>>, Error> {
        let filter = self.engine.stored_filter(filter);
        next_page(self.engine.directory()?, &filter, after, self.engine.deadline()).await
    }

    /// Returns the newest live sessions of a filter.
    pub(crate) async fn newest(
        &self,
        call: &'static str,
        filter: Filter,
        limit: u32,
    ) -> Result<Vec<Snapshot<T>>, Error> {
        let mut skipped = Skipped::of::<T>(call);
        let live = self.live(filter);
        let rows = self.rows(live.clone(), Page::newest(limit)).await?;
        let (limit, is_full) = (limit as usize, rows.len() >= limit as usize);
        {
            // In a block: while the store is awaited, no bag may be held that is not `Send`.
            let found = self.open_all(rows, &mut skipped)?;
            if found.len() == limit || !is_full {
                return Ok(found);
            }
        }
        // Rows that cannot be opened must not hide older sessions, however many there are.
        skipped.count = 0;
        let (mut newest, mut after) = (Vec::new(), None);
        while let Some(rows) = self.next_page(live.clone(), &mut after).await? {
            for row in rows.into_iter().filter(|row| !self.engine.backend.is_ended_here(row.id)) {
                if self.open(row.clone(), &mut skipped)?.is_some() {
                    newest.push(row);
                }
            }
            newest.sort_unstable_by_key(|row| Reverse((row.created, row.id)));
            newest.truncate(limit);
        }
        self.open_all(newest, &mut skipped)
    }

    /// Opens rows of a list. Those that cannot be opened are left out.
    #[cfg(feature = "console")]
    pub(crate) fn open_rows(&self, rows: Vec<Row>) -> Result<Vec<Snapshot<T>>, Error> {
        self.open_all(rows, &mut Skipped::of::<T>("console"))
    }

    fn stream_of<'a>(
        &'a self,
        call: &'static str,
        filter: Filter,
    ) -> impl Stream<Item = Result<Snapshot<T>, Error>> + 'a {
        let start = (None, Skipped::of::<T>(call));
        let pages = stream::try_unfold(start, move |(mut after, mut skipped)| {
            let live = self.live(filter.clone());
            async move {
                let Some(rows) = self.next_page(live, &mut after).await? else { return Ok::<_, Error>(None) };
                let page = self.open_all(rows, &mut skipped)?;
                Ok(Some((stream::iter(page.into_iter().map(Ok)), (after, skipped))))
            }
        });
        pages.try_flatten()
    }

    fn open_all(&self, rows: Vec<Row>, skipped: &mut Skipped) -> Result<Vec<Snapshot<T>>, Error> {
        let mut snapshots = Vec::with_capacity(rows.len());
        for row in rows.into_iter().filter(|row| !self.engine.backend.is_ended_here(row.id)) {
            snapshots.extend(self.open(row, skipped)?.and_then(Snapshot::of));
        }
        Ok(snapshots)
    }

    /// Opens a row of a list; `None` if there is no live session in it.
    fn open(&self, row: Row, skipped: &mut Skipped) -> Result<Option<Active<T>>, Error> {
        match self.outcome(row, skipped)? {
            Some(LoadOutcome::Live(active)) => Ok(Some(active)),
            Some(LoadOutcome::Rejected(_)) | None => Ok(None),
        }
    }

    /// Opens a row of a list: a live session or an expired one; `None` for a row that is skipped.
    fn outcome(&self, row: Row, skipped: &mut Skipped) -> Result<Option<LoadOutcome<T>>, Error> {
        let id = row.id;
        match self.engine.open(row, None, None) {
            Ok(LoadOutcome::Rejected(rejection)) if rejection != Rejection::Expired => {
                skipped.note(id, &rejection);
                Ok(None)
            }
            Ok(outcome) => Ok(Some(outcome)),
            Err(error @ Error::UnknownKey { .. }) => {
                skipped.note(id, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts the live sessions of a filter.
    pub(crate) async fn count(&self, filter: Filter) -> Result<u64, Error> {
        self.count_rows(self.live(filter)).await
    }

    async fn count_rows(&self, filter: Filter) -> Result<u64, Error> {
        let (directory, filter) = (self.engine.directory()?, self.engine.stored_filter(filter));
        within(self.engine.deadline(), "count rows", |end| directory.count(&filter, end)).await
    }

    pub(crate) async fn remove(&self, filter: Filter) -> Result<u64, Error> {
        let (directory, filter) = (self.engine.directory()?, self.engine.stored_filter(filter));
        let remove = |end| directory.remove(&filter, end);
        let removed = within(self.engine.deadline(), "delete rows", remove).await?;
        for id in &removed {
            self.engine.note_ended(*id, EndCause::Revoked);
        }
        Ok(removed.len() as u64)
    }

    pub(crate) fn live(&self, filter: Filter) -> Filter {
        filter.and(Filter::LiveAt(self.engine.now()))
    }
}

fn is_user<T: HasUser>(user: impl Into<T::User>) -> Filter {
    Filter::Compare(ColumnRef::User, Comparison::Eq, user.into().to_value())
}

/// The rows that one call on many sessions has skipped, because they cannot be opened. Their number is logged when the
/// call ends.
struct Skipped {
    bag: &'static str,
    call: &'static str,
    count: u64,
}

impl Skipped {
    fn of<T: Databag>(call: &'static str) -> Self {
        Self { bag: T::SCHEMA.name, call, count: 0 }
    }

    fn note(&mut self, id: SessionId, reason: &(dyn std::error::Error + 'static)) {
        self.count += 1;
        tracing::debug!(bag = self.bag, session = ?id, reason = %ErrorChain(reason), "a session is skipped");
    }
}

impl Drop for Skipped {
    fn drop(&mut self) {
        if self.count > 0 {
            let Self { bag, call, count } = *self;
            tracing::warn!(bag, call, count, "sessions that cannot be opened were skipped");
        }
    }
}

/// What [`Sessions::check`] has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The sessions that a visitor can use.
    pub live: u64,
    /// The sessions that have expired and are not removed yet.
    pub expired: u64,
    /// The rows that cannot be opened: tampered with, damaged, too large, undecodable, under a missing key, or with a key
    /// that is no session id.
    pub skipped: u64,
}

/// A query by columns, made by [`Sessions::find`]. Awaiting it returns the live sessions that match, the newest first: at
/// most [`LIST_LIMIT`], or as many as [`limit`](Self::limit) says.
pub struct Find<'a, T, A: Access> {
    sessions: &'a Sessions<T, A>,
    filter: Filter,
    limit: u32,
}

impl<'a, T: Databag, A: Access> Find<'a, T, A> {
    /// Sets how many sessions are returned at most when the query is awaited.
    pub fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// Returns all live sessions that match, however many, read page by page in the order of their ids.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_util::TryStreamExt as _;
    /// # use session_runtime::{Databag, Error, Sessions};
    /// # #[derive(Databag)]
    /// # struct Shop { #[databag(column)] tenant: Option<String>, visits: u64 }
    ///
    /// async fn visits(sessions: &Sessions<Shop>) -> Result<u64, Error> {
    ///     let acme = sessions.find(Shop::TENANT.eq("acme")).stream();
    ///     acme.try_fold(0, async |sum, session| Ok(sum + session.visits)).await
    /// }
    /// ```
    pub fn stream(self) -> impl Stream<Item = Result<Snapshot<T>, Error>> + 'a {
        self.sessions.stream_of("find", self.filter)
    }

    /// Counts the live sessions that match, those that cannot be opened included.
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

impl<'a, T: Databag, A: Access> IntoFuture for Find<'a, T, A> {
    type Output = Result<Vec<Snapshot<T>>, Error>;
    type IntoFuture = BoxFuture<'a, Vec<Snapshot<T>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.sessions.newest("find", self.filter, self.limit))
    }
}

impl<T, A: Access> fmt::Debug for Find<'_, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Find(..)")
    }
}

impl<T, A: Access> Clone for Sessions<T, A> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            #[cfg(feature = "actix")]
            http: self.http.clone(),
            types: PhantomData,
        }
    }
}

impl<T, A: Access> fmt::Debug for Sessions<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(..)")
    }
}

/// A stored session as it was when it was read. Changing a snapshot changes nothing in the store.
pub struct Snapshot<T> {
    id: SessionId,
    created: Timestamp,
    expires: Timestamp,
    last_used: Timestamp,
    authenticated: Option<Timestamp>,
    bag: T,
}

impl<T> Snapshot<T> {
    /// Returns the public name of the session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns when the session was first stored, or its user last logged in.
    pub fn created(&self) -> SystemTime {
        self.created.into()
    }

    /// Returns when the session expires if it is not used before.
    pub fn expires(&self) -> SystemTime {
        self.expires.into()
    }

    /// Returns when the visitor last used the session. A use is stored at most once a minute, so it may have been so much later.
    pub fn last_used(&self) -> SystemTime {
        self.last_used.into()
    }

    /// Returns when the user has logged in, or was last [reauthenticated](crate::Session::reauthenticated).
    pub fn authenticated_at(&self) -> Option<SystemTime> {
        self.authenticated.map(SystemTime::from)
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
        Some(Self {
            id: active.id,
            created: stored.created,
            expires: stored.expiration,
            last_used: stored.header.last_used,
            authenticated: stored.header.authenticated,
            bag: active.bag,
        })
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::store::memory::MemoryStore;

    #[derive(Debug, crate::Databag)]
    #[databag(table = "limited", max_per_user = 2)]
    struct Shop {
        #[databag(user_id)]
        user_id: Option<i64>,
    }

    #[tokio::test]
    async fn a_log_in_beyond_the_limit_ends_the_oldest_session_of_the_user() {
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

    /// Shows the cost of reading a changed field back: `cargo test --release .. reading_back -- --ignored --nocapture`.
    #[cfg(feature = "sqlite")]
    #[tokio::test]
    #[ignore = "it measures"]
    async fn the_cost_of_reading_back() {
        use std::collections::BTreeMap;
        use std::time::Instant;

        use crate::bag::encoding::Fields;
        use crate::envelope::Keyring;
        use crate::store::sqlite::SqliteStore;

        #[derive(crate::Databag)]
        #[databag(table = "cost")]
        struct Shelf {
            count: u64,
            theme: String,
            cart: BTreeMap<String, u32>,
        }

        const ROUNDS: u32 = 2_000;
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path().join("cost.db")).expect("a database");
        let keyring = Keyring::generate();
        let sessions = Sessions::<Shelf>::builder(store.durability(crate::Durability::Normal));
        let sessions = sessions.keyring(keyring).build().await.expect("builds");
        let mut bag = <Shelf as Databag>::defaults();
        bag.cart = (0..20).map(|sku| (format!("article {sku}"), sku)).collect();
        let fields = Fields::of(&bag).expect("encodes");
        let (_, created) = sessions.create(bag).await.expect("is stored");
        let bag = sessions.get(created.id()).await.expect("answers").expect("is live").into_bag();
        for (field, name) in ["a number", "a short text", "a map of 20 entries"].into_iter().enumerate() {
            let (mut best, mut write) = (Duration::MAX, Duration::MAX);
            for round in 0..20 {
                let start = Instant::now();
                for _ in 0..ROUNDS {
                    assert!(fields.reads_back(field, &bag));
                }
                best = best.min(start.elapsed() / ROUNDS);
                let start = Instant::now();
                for step in 0..200_u32 {
                    let change = |bag: &mut Shelf| match field {
                        0 => bag.count += 1,
                        1 => bag.theme = step.to_string(),
                        _ => drop(bag.cart.insert("article 7".to_owned(), step + round)),
                    };
                    sessions.update(created.id(), change).await.expect("is stored");
                }
                write = write.min(start.elapsed() / 200);
            }
            let percent = best.as_secs_f64() / write.as_secs_f64() * 100.0;
            println!("{name}: {best:?} of a write of {write:?} (SQLite, NORMAL): {percent:.2} %");
        }
    }
}
