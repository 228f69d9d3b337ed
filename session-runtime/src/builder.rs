//! The configuration of sessions, checked as a whole when they are built.

use std::any::{TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use crate::backend::Requirements;
use crate::backend::access::Backing;
use crate::bag::Databag;
use crate::bag::schema::{Bind, Role, Schema};
use crate::clock::Clock;
use crate::codec::{Codec as _, Framing};
use crate::engine::cleanup::clean_up;
use crate::engine::config::{Cleanup, LONGEST_LIFE, SessionConfig};
use crate::engine::core::{BagEncoding, Engine, Parts, os_token};
use crate::engine::event::Event;
use crate::engine::observers::Observers;
use crate::envelope::{Keyring, Protection, hash_type};
use crate::error::{Error, Rejection};
#[cfg(feature = "actix")]
use crate::http::HttpSettings;
use crate::sessions::Sessions;
use crate::store::{Table, TableColumn};
use crate::token::{SessionId, TokenSource};
use crate::value::ColumnType;

/// Neither a keyring nor plaintext is chosen: [`Builder::build`] does not compile.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unchosen;

/// A keyring or plaintext is chosen.
#[derive(Debug)]
#[non_exhaustive]
pub struct Protected;

/// Whether a builder knows how sessions are protected.
#[diagnostic::on_unimplemented(
    message = "it is not chosen how these sessions are protected",
    label = "neither `.keyring(..)` nor `.danger_plaintext()` was called before this",
    note = "seal them: `.keyring(Keyring::from_env(\"SESSION_KEY\")?)`"
)]
pub trait Chosen: sealed::Sealed {}

#[diagnostic::do_not_recommend]
impl Chosen for Protected {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Protected {}
}

/// Configures [`Sessions`]. Made by [`Sessions::builder`].
///
/// The struct's attributes hold until a method here overrides them. One of
/// [`keyring`](Self::keyring) and [`danger_plaintext`](Self::danger_plaintext) is required:
///
/// ```compile_fail,E0277
/// # use session_runtime::{Databag, Sessions, SqliteStore};
/// # #[derive(Databag)]
/// # struct Shop { visits: u32 }
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?).build().await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Builder<T, S, P = Unchosen> {
    settings: Settings<S>,
    types: PhantomData<fn() -> (T, P)>,
}

pub(crate) struct Settings<S> {
    store: S,
    protection: Protection,
    pub(crate) config: SessionConfig,
    ip_binding: Option<Bind>,
    production: bool,
    observers: Observers,
    clock: Box<dyn Clock>,
    tokens: Box<dyn TokenSource>,
    #[cfg(feature = "actix")]
    http: HttpSettings,
}

impl<T: Databag> Sessions<T> {
    /// Starts the configuration of sessions in a store of any kind.
    pub fn builder<S: Backing>(store: S) -> Builder<T, S> {
        let settings = Settings {
            store,
            protection: Protection::Plain,
            config: SessionConfig::new(T::SCHEMA),
            ip_binding: None,
            production: false,
            observers: Observers::default(),
            clock: Box::new(SystemTime::now),
            tokens: Box::new(os_token),
            #[cfg(feature = "actix")]
            http: HttpSettings::new(&T::SCHEMA.cookie),
        };
        Builder { settings, types: PhantomData }
    }
}

impl<T: Databag, S: Backing, P> Builder<T, S, P> {
    /// Seals sessions with these keys.
    pub fn keyring(self, keyring: Keyring) -> Builder<T, S, Protected> {
        self.protect(Protection::sealed(keyring))
    }

    /// Stores sessions in the clear: a reader of the store reads them, and a writer of the store can sign in as any
    /// user. For inspecting records during development.
    pub fn danger_plaintext(self) -> Builder<T, S, Protected> {
        self.protect(Protection::Plain)
    }

    fn protect(self, protection: Protection) -> Builder<T, S, Protected> {
        Builder { settings: Settings { protection, ..self.settings }, types: PhantomData }
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut Settings<S>)) -> Self {
        change(&mut self.settings);
        self
    }

    #[cfg(feature = "actix")]
    pub(crate) fn set_http(self, change: impl FnOnce(&mut HttpSettings)) -> Self {
        self.set(|settings| change(&mut settings.http))
    }

    /// Sets how long a session lives without a request (ASVS 5.0 §7.3.1); at most 100 years.
    pub fn idle(self, idle: Duration) -> Self {
        self.set(|settings| settings.config.idle = idle)
    }

    /// Sets the longest life of a session, counted from its log-in (ASVS 5.0 §7.3.2); at most 100 years.
    pub fn absolute(self, absolute: Duration) -> Self {
        self.set(|settings| settings.config.absolute = absolute)
    }

    /// Sets how long a session lives that [`Session::remember`](crate::Session::remember) has made a remembered one, used or
    /// not: at least as long as any other session, and at most 100 years.
    pub fn remember(self, remember: Duration) -> Self {
        self.set(|settings| settings.config.remember = remember)
    }

    /// Sets when expired rows are removed.
    pub fn cleanup(self, cleanup: Cleanup) -> Self {
        self.set(|settings| settings.config.cleanup = cleanup)
    }

    /// Sets how strictly a session is bound to the client's address, for bags with an `ip_addr` field. A stolen cookie
    /// then does not work from another address; a visitor whose address changes has to log in again.
    ///
    /// A request whose address is not known does not open a session that is bound to one. A session that such a request
    /// begins is bound to none, until a request with an address uses it; that is logged, once. Behind proxies name them in
    /// [`trusted_proxies`](Self::trusted_proxies): without them all visitors have the address of a proxy.
    pub fn ip_binding(self, bind: Bind) -> Self {
        self.set(|settings| settings.ip_binding = Some(bind))
    }

    /// Binds sessions to the `User-Agent` they began with. A thief can send the same one, and an update of the browser
    /// changes it.
    pub fn bind_user_agent(self, bind: bool) -> Self {
        self.set(|settings| settings.config.bind_agent = bind)
    }

    /// Sets how long a request waits for the store of these sessions, all calls and retries together; 2 seconds by default,
    /// at most a day. After that the request is answered 503. The time of the handler does not count. A call of
    /// [`Sessions`] has so much time of its own.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.set(|settings| settings.config.deadline = deadline)
    }

    /// Sets the largest record, in bytes; 64 KiB by default. A larger one is answered 500 and not stored: without a limit
    /// visitors could fill the store. In a cookie the limit is at most what the cookie can hold.
    ///
    /// A stored session that is larger is not read whole, and its visitor is anonymous
    /// ([`Rejection::TooLarge`]): before you lower the limit, let the larger sessions expire.
    pub fn max_state_bytes(self, bytes: usize) -> Self {
        self.set(|settings| settings.config.max_state_bytes = bytes)
    }

    /// Sets how often each session is read that [`Sessions::watch`] watches; 5 seconds by default, at most a day. So long an
    /// open connection can outlive its session if another process has ended it. What this process ends, it ends at once.
    pub fn watch_period(self, period: Duration) -> Self {
        self.set(|settings| settings.config.watch_period = period)
    }

    /// Adds an observer of all [`Event`]s of these sessions: for counters, an audit log, a console. Several observers add up.
    ///
    /// It is called where the event happens, within the request, and perhaps while the session waits to be written by other
    /// requests: let it be quick, and never block. What takes longer, and every call of these [`Sessions`], belongs into a
    /// task (`tokio::spawn`) or behind a channel. A panic of it is logged, and changes nothing. An observer that holds a clone
    /// of these [`Sessions`] keeps them alive: the store is closed, and its watches and clean-up end, when it lets go of them.
    ///
    /// With an observer the calls of the store are timed, and the live sessions are counted after each clean-up in the
    /// background. The other callbacks, such as [`on_started`](Self::on_started), cost neither.
    pub fn on_event(self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.observers.add(observer))
    }

    /// Counts the events of these sessions by the facade `metrics`, for the exporter that the program
    /// has installed before this call: `databag_loads_total{outcome}`, `databag_store_duration_seconds{store,op,outcome}` and
    /// others. Each has the label `bag`, the name of the bag; none has an id. `docs/observability.md` lists them.
    ///
    /// `databag_sessions_live` is what was counted last: after each [`cleanup`](Self::cleanup) in the background, and by
    /// [`Sessions::count_all`], which a handler of `/metrics` can call first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Error, Keyring, Sessions, SqliteStore};
    /// # #[derive(Databag)]
    /// # struct Shop { visits: u32 }
    /// # async fn start(store: SqliteStore, keyring: Keyring) -> Result<(), Error> {
    /// let sessions = Sessions::<Shop>::builder(store).keyring(keyring).metrics().build().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "metrics")]
    pub fn metrics(self) -> Self {
        self.on_event(crate::engine::metrics::observer(T::SCHEMA.name))
    }

    /// Adds a callback for each session that is stored for the first time: [`Event::Created`].
    pub fn on_started(self, hook: impl Fn(SessionId) + Send + Sync + 'static) -> Self {
        self.hook(hook, |event| match event {
            Event::Created { session } => Some(*session),
            _ => None,
        })
    }

    /// Adds a callback for each session that a request has loaded: [`Event::Loaded`].
    pub fn on_loaded(self, hook: impl Fn(SessionId) + Send + Sync + 'static) -> Self {
        self.hook(hook, |event| match event {
            Event::Loaded { session } => Some(*session),
            _ => None,
        })
    }

    /// Adds a callback for each session that changes its id; it gets the old id and the new one: [`Event::Rotated`].
    pub fn on_rotated(self, hook: impl Fn(SessionId, SessionId) + Send + Sync + 'static) -> Self {
        let hook = move |(from, to)| hook(from, to);
        self.hook(hook, |event| match event {
            Event::Rotated { from, to } => Some((*from, *to)),
            _ => None,
        })
    }

    /// Adds a callback for each session that is ended, except by expiry: [`Event::Ended`]. For the sessions that a log-in ends
    /// because of `max_per_user` it is not called if the store's answer to that log-in was lost.
    pub fn on_deleted(self, hook: impl Fn(SessionId) + Send + Sync + 'static) -> Self {
        self.hook(hook, |event| match event {
            Event::Ended { session, .. } => Some(*session),
            _ => None,
        })
    }

    /// Adds a callback for each token that is not accepted; it gets the reason. The visitor is then anonymous:
    /// [`Event::Rejected`], and [`Event::Expired`].
    pub fn on_rejected(self, hook: impl Fn(Rejection) + Send + Sync + 'static) -> Self {
        self.hook(hook, |event| match event {
            Event::Rejected { reason, .. } => Some(*reason),
            Event::Expired { .. } => Some(Rejection::Expired),
            _ => None,
        })
    }

    fn hook<E: 'static>(
        self,
        hook: impl Fn(E) + Send + Sync + 'static,
        pick: fn(&Event) -> Option<E>,
    ) -> Self {
        self.set(|settings| settings.observers.add_hook(pick, hook))
    }

    /// Replaces the system's clock, for tests: by a [`ManualClock`](crate::testing::ManualClock).
    pub fn clock(self, clock: impl Clock) -> Self {
        self.set(|settings| settings.clock = Box::new(clock))
    }

    /// Replaces the operating system's random generator as the source of tokens, for tests.
    pub fn token_source(self, tokens: impl TokenSource) -> Self {
        self.set(|settings| settings.tokens = Box::new(tokens))
    }

    /// Makes [`build`](Self::build) refuse what must not go into production: a cookie without `Secure` or without the prefix
    /// `__Host-`, sessions in the clear, a key that ends with the process ([`Keyring::generate`]), and `development`.
    pub fn production(self) -> Self {
        self.set(|settings| settings.production = true)
    }

    /// Checks the configuration, prepares the store and starts the cleanup.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the settings contradict each other, [`Error::Store`] if the store cannot be reached or its
    /// table does not fit.
    pub fn build(self) -> Building<T, S::Access>
    where
        P: Chosen,
    {
        Box::pin(self.settings.build())
    }
}

/// The future of a builder; boxed, because rustc repeats the message of a missing bound wherever an opaque future is
/// used.
type Building<T, A> = Pin<Box<dyn Future<Output = Result<Sessions<T, A>, Error>> + Send>>;

impl<S: Backing> Settings<S> {
    async fn build<T: Databag>(self) -> Result<Sessions<T, S::Access>, Error> {
        let Self { store, protection, mut config, ip_binding, production, observers, clock, tokens, .. } =
            self;
        let plaintext = matches!(protection, Protection::Plain);
        refuse(production && plaintext, "`production` and `danger_plaintext` exclude each other")?;
        refuse(
            plaintext && T::SCHEMA.fields.iter().any(|field| field.blind),
            "a blind column needs a key, and `danger_plaintext` has none: remove `blind`, or seal the sessions",
        )?;
        refuse(
            ip_binding.is_some() && !T::SCHEMA.has_ip(),
            "`ip_binding` needs a field `#[databag(ip_addr)]`",
        )?;
        config.bind_ip = ip_binding.unwrap_or(config.bind_ip);
        check(&config)?;
        shorten(&mut config);
        if plaintext {
            tracing::warn!(bag = T::SCHEMA.name, "sessions are stored in the clear");
        }
        #[cfg(feature = "actix")]
        let http = Arc::new(self.http.check(production)?);
        #[cfg(feature = "actix")]
        let cookie = http.cookie.name();
        #[cfg(not(feature = "actix"))]
        let cookie = T::SCHEMA.cookie.name;

        refuse(
            production && protection.is_temporary(),
            "`production` needs a key that outlives the process: `.keyring(Keyring::from_env(\"SESSION_KEY\")?)`",
        )?;
        let counts_by_list = T::SCHEMA.max_per_user.is_some()
            && T::SCHEMA.fields.iter().any(|field| field.blind && matches!(field.role, Role::User(_)))
            && protection.blind_keys().nth(1).is_some();
        let observers = Arc::new(observers);
        let parts = Parts {
            protection,
            observers: observers.clone(),
            clock,
            tokens,
            encoding: BagEncoding::of::<T>()?,
        };
        let table = table::<T>(&config);
        let opened = store.open(table.clone(), T::SCHEMA.name, config.deadline, observers).await?;
        if opened.owner != T::SCHEMA.name {
            return Err(Error::Config(foreign_table(T::SCHEMA, &opened.owner)));
        }
        let requirements = Requirements {
            plaintext,
            max_per_user: T::SCHEMA.max_per_user.is_some(),
            flows: T::SCHEMA.fields.iter().any(|field| field.flow),
        };
        if let Some(refusal) = opened.backend.refusal(requirements) {
            return Err(Error::Config(refusal.to_owned()));
        }
        refuse(
            counts_by_list && opened.directory.is_none(),
            "`max_per_user` counts the sessions of a blind user under older keys by a list, and this store has none: \
             implement `Directory` for it, or remove the older keys when the sessions under them have expired",
        )?;
        let cleanup = config.cleanup;
        let engine = Arc::new(Engine::new::<T>(config, parts, opened, cookie));
        register::<T>(&engine, &table).await?;
        if let Cleanup::Every(pause) = cleanup {
            tokio::spawn(clean_up(Arc::downgrade(&engine), pause));
        }
        Ok(Sessions::new(
            engine,
            #[cfg(feature = "actix")]
            http,
        ))
    }
}

impl<T, S, P> fmt::Debug for Builder<T, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Builder(..)")
    }
}

/// Checks that settings do not contradict each other.
fn check(config: &SessionConfig) -> Result<(), Error> {
    refuse(config.idle.is_zero(), "`idle` is zero: every session would expire at once")?;
    refuse(config.idle > config.absolute, "`idle` is longer than `absolute`")?;
    refuse(config.deadline.is_zero(), "`deadline` is zero: no call could be answered in time")?;
    refuse(
        config.watch_period.is_zero(),
        "`watch_period` is zero: watched sessions would be read without a pause",
    )?;
    refuse(
        config.cleanup == Cleanup::Every(Duration::ZERO),
        "`cleanup` would never pause: use `EveryRequest`, or a longer time",
    )
}

/// Shortens times that are meant as "for ever" to what every store and clock can hold.
fn shorten(config: &mut SessionConfig) {
    const LONGEST_WAIT: Duration = Duration::from_hours(24);
    config.idle = config.idle.min(LONGEST_LIFE);
    config.absolute = config.absolute.min(LONGEST_LIFE);
    config.remember = config.remember.min(LONGEST_LIFE);
    config.deadline = config.deadline.min(LONGEST_WAIT);
    config.watch_period = config.watch_period.min(LONGEST_WAIT);
}

/// Says what to write for a bag whose table belongs to another bag.
fn foreign_table(schema: &Schema, owner: &str) -> String {
    let Schema { name, table, .. } = schema;
    format!(
        "the table `{table}` of this store belongs to the bag `{owner}`, and this bag is `{name}`: each would list and end \
         the sessions of the other. Give this bag a table of its own, `#[databag(table = \"..\")]`; if it is the same bag \
         under a new name, keep the old one, `#[databag(name = \"{owner}\")]`"
    )
}

/// Checks that no other type of this process has the bag's identity in the same store: the sessions of one would open as the other's.
async fn register<T: Databag>(engine: &Arc<Engine>, table: &Table) -> Result<(), Error> {
    #[derive(Clone)]
    struct Registered {
        identity: [&'static str; 2],
        ty: TypeId,
        type_name: &'static str,
        engine: Weak<Engine>,
    }
    static REGISTERED: Mutex<Vec<Registered>> = Mutex::new(Vec::new());

    let Schema { name, table: table_name, .. } = T::SCHEMA;
    let identity = [*name, *table_name];
    let is_twin = |other: &&Registered| other.identity == identity && other.ty != TypeId::of::<T>();
    let twins: Vec<_> = {
        let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
        registered.retain(|other| other.engine.strong_count() > 0);
        let twins = registered.iter().filter(is_twin).cloned().collect();
        // Before the twins are asked, so that of two that are built at the same time one finds the other.
        registered.push(Registered {
            identity,
            ty: TypeId::of::<T>(),
            type_name: type_name::<T>(),
            engine: Arc::downgrade(engine),
        });
        twins
    };
    for twin in twins {
        let Some(other) = twin.engine.upgrade() else { continue };
        let shared = engine.shares_sessions_with(&other, table).await.inspect_err(|_| {
            let (bag, twin) = (type_name::<T>(), twin.type_name);
            tracing::error!(
                bag,
                twin,
                "it is not known whether two bags of one name and table have one store"
            );
        });
        if shared? {
            return Err(Error::Config(format!(
                "the bags `{}` and `{}` are both `{name}` in the table `{table_name}` of one store, so the sessions of one would open \
                 as those of the other: give one of them a name or a table of its own, `#[databag(name = \"..\", table = \"..\")]`",
                twin.type_name,
                type_name::<T>(),
            )));
        }
    }
    Ok(())
}

fn refuse(is_wrong: bool, message: &str) -> Result<(), Error> {
    if is_wrong { Err(Error::Config(message.to_owned())) } else { Ok(()) }
}

fn table<T: Databag>(config: &SessionConfig) -> Table {
    let schema = T::SCHEMA;
    let columns = &schema.columns;
    let mut table = Table {
        id: columns.id.to_owned(),
        state: columns.state.to_owned(),
        state_is_text: T::Codec::FRAMING == Framing::JsonObject,
        max_state: config.max_state(T::Codec::FRAMING),
        created: columns.created.to_owned(),
        expiration: columns.expiration.to_owned(),
        revision: columns.revision.to_owned(),
        ..Table::new(schema.table)
    };
    for field in schema.fields {
        let column = |name: &str, ty, index| {
            let ty = if field.blind { hash_type(ty) } else { ty };
            TableColumn { name: name.to_owned(), ty, index }
        };
        match field.role {
            Role::Plain => {}
            Role::User(ty) => table.user = Some(column(columns.user_id, ty, true)),
            // A store keeps addresses as text, and their hashes as any other column.
            Role::Ip(_) if field.blind => {
                table.projected.push(column(columns.ip_addr, ColumnType::Text, false));
            }
            Role::Ip(_) => table.ip = Some(columns.ip_addr.to_owned()),
            Role::Column { name, ty, index } => table.projected.push(column(name, ty, index)),
        }
    }
    table
}

#[cfg(all(test, feature = "actix"))]
mod tests {
    use super::*;
    use crate::engine::cleanup::PRUNE_BATCH;

    #[derive(crate::Databag)]
    struct Plain {
        visits: u32,
    }

    /// ASVS 5.0 §7.1.1: the limits are documented.
    #[test]
    fn the_readme_states_the_defaults_as_they_are() {
        let schema = Plain::SCHEMA;
        let minutes = |duration: Duration| duration.as_secs() / 60;
        let config = SessionConfig::new(schema);
        let http = crate::http::HttpConfig::for_test(&schema.cookie);
        let cookie = http.cookie.removal();
        let attributes = cookie.split_once("; ").and_then(|(_, rest)| rest.strip_suffix("; Max-Age=0"));
        let Cleanup::Every(pause) = config.cleanup else { panic!("cleanup runs by itself") };
        let rows = [
            ("idle limit", format!("{} minutes", minutes(schema.idle))),
            ("absolute limit, counted from the log-in", format!("{} hours", minutes(schema.absolute) / 60)),
            (
                "life of a remembered session, used or not",
                format!("{} days", minutes(schema.remember) / 60 / 24),
            ),
            ("cookie name", format!("`{}`", schema.cookie.name)),
            ("cookie attributes", format!("`{}`", attributes.expect("a removal has attributes"))),
            ("header of trusted proxies", format!("`{}`", http.proxies.header.name())),
            ("table", format!("`{}`", schema.table)),
            (
                "store deadline of a request, with all its calls",
                format!("{} seconds", config.deadline.as_secs()),
            ),
            ("size of a session", format!("{} bytes", config.max_state_bytes)),
            ("a watched session is read", format!("every {} seconds", config.watch_period.as_secs())),
            ("sessions in a list, the newest", crate::LIST_LIMIT.to_string()),
            (
                "expired rows are removed",
                format!("every {} minutes, {PRUNE_BATCH} at a time", minutes(pause)),
            ),
        ];
        let readme = include_str!("../../README.md");
        for (setting, value) in rows {
            assert!(readme.contains(&format!("| {setting} | {value} |")), "{setting}: {value}");
        }
        assert_eq!(schema.cookie.persistence, crate::Persistence::Browser);
    }
}
