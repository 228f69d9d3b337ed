//! The engine: what the requests of one bag share, and the first half of a request around its store call.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::blind::BlindColumns;
use super::config::{Context, SessionConfig};
use super::event::Event;
use super::load::{Active, Client, LoadOutcome, open};
use super::observers::Observers;
use super::session_locks::SessionLocks;
use super::span;
use super::watched::Watches;
use crate::backend::{Backend, Custody, Opened, Reloaded};
use crate::bag::Databag;
use crate::bag::encoding::{DecodeError, EncodeError, Fields};
use crate::bag::record::{Layout, LayoutError};
use crate::clock::{Clock, SkewGuardedClock, Timestamp, until};
use crate::codec::Codec as _;
use crate::envelope::{CsrfKeys, OVERHEAD, Protection};
use crate::error::{Error, Rejection};
use crate::store::{DynDirectory, Filter, Page, Row, StoreError, Table};
use crate::token::{SessionId, Token, TokenSource, fill_random};

/// Sessions of one bag, whatever its type is.
pub(crate) struct Engine {
    pub(crate) context: Context,
    pub(super) observers: Arc<Observers>,
    pub(crate) backend: Box<dyn Backend>,
    pub(super) directory: Option<Arc<dyn DynDirectory>>,
    pub(crate) clock: SkewGuardedClock,
    tokens: Box<dyn TokenSource>,
    pub(super) locks: SessionLocks,
    pub(super) watches: Watches,
    pub(crate) csrf: CsrfKeys,
}

/// What an [`Engine`] is made of besides its configuration and its store.
pub(crate) struct Parts {
    pub(crate) protection: Protection,
    pub(crate) observers: Arc<Observers>,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) tokens: Box<dyn TokenSource>,
    pub(crate) encoding: BagEncoding,
}

/// How the bag is encoded. It is found before the store is opened, so that a bag that does not work starts nothing.
pub(crate) struct BagEncoding {
    layout: Layout,
    defaults: Fields,
}

impl BagEncoding {
    /// Describes the bag, and checks that its defaults decode.
    pub(crate) fn of<T: Databag>() -> Result<Self, Error> {
        let layout = Layout::of::<T>().map_err(|error| Error::Config(refusal(error)))?;
        let defaults = defaults::<T>(&layout)?;
        Ok(Self { layout, defaults })
    }
}

/// Which rows will do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Freshness {
    /// What is stored now.
    Current,
    /// What the store may have kept in this process.
    #[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "only a middleware serves requests"))]
    Cached,
}

/// What the client's cookie has to become after a session was stored.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "actix"), expect(dead_code, reason = "a middleware reads it"))]
pub(crate) enum CookieUpdate {
    Set { token: Token, persistent: bool, expires: Timestamp },
    Remove,
}

impl Engine {
    /// Puts an engine together. `cookie` is the name of the session cookie.
    pub(crate) fn new<T: Databag>(
        mut config: SessionConfig,
        parts: Parts,
        opened: Opened,
        cookie: &str,
    ) -> Self {
        let Parts { protection, observers, clock, tokens, encoding: BagEncoding { layout, defaults } } =
            parts;
        let Opened { owner: _, backend, directory } = opened;
        let room = backend.max_state_len(cookie).saturating_sub(OVERHEAD);
        config.max_state_bytes = config.max_state_bytes.min(room);
        let place = backend.place(T::Codec::FRAMING, cookie);
        let blind = BlindColumns::of(T::SCHEMA);
        let context = Context { config, layout, defaults, protection, place, blind };
        let csrf = context.protection.csrf_keys(T::SCHEMA.name);
        let (clock, locks) = (SkewGuardedClock::new(clock), SessionLocks::default());
        let watches = Watches::default();
        Self { context, observers, backend, directory, clock, tokens, locks, watches, csrf }
    }

    /// Tells the observers of an event.
    pub(crate) fn tell(&self, event: Event) {
        self.observers.tell(event);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn fresh_token(&self) -> Token {
        Token::from_bytes(self.tokens.token())
    }

    /// Returns whether the sessions of another engine, whose bag has the same name and table, could open as sessions of this one:
    /// in cookies if both have a key, and in rows if both have the store. A row of this table shows that: no client has
    /// its token, and lists leave it out, since it does not open.
    ///
    /// # Errors
    ///
    /// If a store does not answer.
    pub(crate) async fn shares_sessions_with(&self, other: &Self, table: &Table) -> Result<bool, Error> {
        match (self.backend.custody(), other.backend.custody()) {
            (Custody::Client, Custody::Client) => {
                Ok(self.context.protection.shares_key(&other.context.protection))
            }
            (Custody::Store, Custody::Store) => {
                let (deadline, token) = (self.deadline(), Token::from_bytes(os_token()));
                let (id, now) = (token.session_id(), self.now());
                let mut row =
                    Row::new(id, b"whose".to_vec(), now, now.saturating_add(Duration::from_mins(1)), 1);
                row.columns = vec![None; table.projected.len()];
                within(deadline, "insert a row", |end| self.backend.insert(row, end)).await?;
                let found = within(deadline, "load a row", |end| other.backend.load(&token, end)).await;
                let deadline = self.deadline();
                let deleted = within(deadline, "delete a row", |end| self.backend.delete(id, end)).await;
                // If it stays, it expires.
                let found = found?.is_some();
                deleted.map(|_| found)
            }
            _ => Ok(false),
        }
    }

    /// Returns by when store calls that start now have to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.context.config.deadline
    }

    /// Makes a session that is not stored yet.
    pub(crate) fn fresh<T: Databag>(&self, client: Client) -> Result<Active<T>, EncodeError> {
        Active::fresh(self.fresh_token(), client, self.now())
    }

    /// Returns the lists of the store.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there are none: a store that was chosen by a URL may keep its sessions in cookies.
    pub(crate) fn directory(&self) -> Result<&dyn DynDirectory, Error> {
        self.directory.as_deref().ok_or_else(without_rows)
    }

    /// Returns the filter that the store compares with its rows.
    pub(crate) fn stored_filter(&self, filter: Filter) -> Filter {
        self.context.blind.filter(&self.context.protection, filter)
    }

    /// Checks that sessions are found by their ids.
    ///
    /// # Errors
    ///
    /// As [`directory`](Self::directory).
    pub(crate) fn require_rows(&self) -> Result<(), Error> {
        if self.backend.custody() == Custody::Client { Err(without_rows()) } else { Ok(()) }
    }

    /// Loads the session that a token opens.
    pub(crate) async fn load<T: Databag>(
        &self,
        token: Token,
        client: Option<Client>,
        deadline: Instant,
    ) -> Result<LoadOutcome<T>, Error> {
        let span = span::load(T::SCHEMA.name, token.session_id());
        let fetched = self.fetch(&token, Freshness::Current, deadline).instrument(span.clone()).await;
        let outcome = fetched.and_then(|fetched| match fetched {
            Ok(row) => self.open(row, Some(token), client),
            Err(rejection) => Ok(LoadOutcome::Rejected(rejection)),
        });
        span::note_load(&span, &outcome);
        outcome
    }

    /// Loads the session of an id.
    pub(crate) async fn load_by_id<T: Databag>(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> Result<Option<Active<T>>, Error> {
        self.require_rows()?;
        let span = span::load(T::SCHEMA.name, id);
        let outcome = self.try_load_by_id(id, deadline).instrument(span.clone()).await;
        span::note_load(&span, &outcome);
        match outcome? {
            LoadOutcome::Live(active) => Ok(Some(active)),
            LoadOutcome::Rejected(_) => Ok(None),
        }
    }

    async fn try_load_by_id<T: Databag>(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> Result<LoadOutcome<T>, Error> {
        if self.backend.is_ended_here(id) {
            return Ok(LoadOutcome::Rejected(Rejection::Unknown));
        }
        match within(deadline, "load a row", |end| self.backend.reload(id, end)).await? {
            Reloaded::Row(row) => self.open(row, None, None),
            Reloaded::Gone | Reloaded::Unchanged => Ok(LoadOutcome::Rejected(Rejection::Unknown)),
        }
    }

    /// Reads the row that a token opens. [`open`](Self::open) makes a session of it.
    pub(crate) async fn fetch(
        &self,
        token: &Token,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<Result<Row, Rejection>, Error> {
        if !self.backend.is_token(token) {
            // A cookie from before the store was replaced.
            return Ok(Err(Rejection::Malformed));
        }
        if self.backend.is_ended_here(token.session_id()) {
            return Ok(Err(Rejection::Unknown));
        }
        let load = |end| match freshness {
            Freshness::Current => self.backend.load(token, end),
            Freshness::Cached => self.backend.load_cached(token, end),
        };
        let row = within(deadline, "load a row", load).await?;
        Ok(row.ok_or(Rejection::Unknown))
    }

    /// Opens a row that the store has returned.
    pub(crate) fn open<T: Databag>(
        &self,
        row: Row,
        token: Option<Token>,
        client: Option<Client>,
    ) -> Result<LoadOutcome<T>, Error> {
        self.open_at(row, token, client, self.now())
    }

    /// Opens a row as it was at this time.
    pub(super) fn open_at<T: Databag>(
        &self,
        mut row: Row,
        token: Option<Token>,
        client: Option<Client>,
        now: Timestamp,
    ) -> Result<LoadOutcome<T>, Error> {
        let columns = self.backend.columns(&mut row);
        open(&self.context, row, columns.as_ref(), token, client, now)
    }
}

fn without_rows() -> Error {
    Error::Usage(
        "these sessions are in the cookies of their visitors: they cannot be listed, nor found by their ids; choose a \
         store that keeps rows, such as `sqlite:`"
            .to_owned(),
    )
}

/// Makes a store call, which gets the deadline, and waits for it until then.
pub(crate) fn within<R, F: Future<Output = Result<R, StoreError>>>(
    deadline: Instant,
    operation: &'static str,
    call: impl FnOnce(std::time::Instant) -> F,
) -> impl Future<Output = Result<R, Error>> {
    let answer = call(deadline.into_std());
    async move {
        match until(deadline, pin!(answer)).await {
            Some(result) => result.map_err(Error::Store),
            None => Err(Error::Store(StoreError::deadline(operation))),
        }
    }
}

/// Returns the next page of the rows of a filter, in the order of their ids, and `None` at the end. `after` is the last id of
/// the page before.
pub(crate) async fn next_page(
    directory: &dyn DynDirectory,
    filter: &Filter,
    after: &mut Option<SessionId>,
    deadline: Instant,
) -> Result<Option<Vec<Row>>, Error> {
    const PAGE: u32 = 256;
    let find = |end| directory.find(filter, Page::new(*after, PAGE), end);
    let rows = within(deadline, "list rows", find).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    *after = Some(last.id);
    Ok(Some(rows))
}

/// Returns the deadline of a call that is not worth all the time that is left: the request may make others.
pub(super) fn best_effort(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}

/// Says what to write for a bag whose fields their codecs cannot store.
fn refusal(error: LayoutError) -> String {
    match error {
        LayoutError::Unreadable { field, codec } => format!(
            "the codec `{codec}` cannot read the field `{field}` back: its type asks the format which type a value has \
             (serde's `untagged`, `tag` and `flatten` do, and `serde_json::Value`), and `{codec}` does not store that; \
             write `#[databag(codec = \"json\")]` on the field, or encode it by a module, `#[databag(with = module)]`"
        ),
        LayoutError::NotJson { field, codec } => format!(
            "the bag is stored as a JSON object, which cannot hold the output of `{codec}`, the codec of the field \
             `{field}`: choose a codec whose framing is `JsonObject`"
        ),
        LayoutError::NoNone { field, codec } => format!(
            "the codec `{codec}` has no encoding of `None`, which the field `{field}` takes when its flash was read, or its time has passed"
        ),
    }
}

/// Returns an error for fields that were encoded by this request and do not decode.
pub(super) fn not_read_back<T: Databag>(layout: &Layout, error: DecodeError) -> Error {
    let field = error.field.unwrap_or_default();
    let index = T::SCHEMA.fields.iter().position(|other| other.name == field).unwrap_or_default();
    Error::NotReadBack { field, remedy: layout.remedy(index) }
}

/// Encodes the fields of a new session, and checks that they come back.
fn defaults<T: Databag>(layout: &Layout) -> Result<Fields, Error> {
    let bag = T::defaults();
    let defaults = Fields::of(&bag)?;
    match (0..defaults.len()).find(|&field| !defaults.reads_back(field, &bag)) {
        None => Ok(defaults),
        Some(field) => {
            let (name, remedy) = (T::SCHEMA.fields[field].name, layout.remedy(field));
            Err(Error::Config(format!(
                "the default of the field `{name}` does not come back from its own encoding: {remedy}"
            )))
        }
    }
}

/// Makes a random token.
pub(crate) fn os_token() -> [u8; 32] {
    let mut token = [0; 32];
    fill_random(&mut token);
    token
}
