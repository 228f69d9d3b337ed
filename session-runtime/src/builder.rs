//! The configuration of sessions: checked as a whole when they are built.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::bag::{Bind, Databag, Role};
use crate::clock::{Clock, Steady};
use crate::codec::{Codec as _, Framing};
use crate::envelope::{Keyring, OVERHEAD, Protection};
use crate::error::{Error, Rejection};
use crate::hooks::Hooks;
use crate::load::Rules;
use crate::queue::Queue;
use crate::recent::Recent;
use crate::record::{DecodeError, Fields, Layout};
use crate::refused::Refused;
use crate::sessions::{Answer, Chain, Core, PRUNE_BATCH, Sessions};
use crate::store::{Store, Table, TableColumn, cookie};
use crate::token::{SessionId, TokenSource};

const CLEANUP_PAUSE: Duration = Duration::from_mins(30);
const DEADLINE: Duration = Duration::from_secs(2);
const MAX_STATE_BYTES: usize = 64 * 1024;

/// When expired rows are removed. Whatever is chosen, an expired session never opens.
///
/// None are removed while the clock disagrees with the time that has passed since the start: for a day after it
/// was set, or the machine has slept.
///
/// Nothing is removed while the clock is more than a minute off from the time that has passed since the start: it
/// was set, and may be wrong. After a day it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cleanup {
    /// Not by this process.
    Never,
    /// A batch of them with every request that stores something.
    EveryRequest,
    /// All of them, in small batches, each time this has passed. The default, with 30 minutes.
    Every(Duration),
}

/// The protection is not chosen yet: [`Builder::build`] does not compile.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unchosen;

/// The protection is chosen.
#[derive(Debug)]
#[non_exhaustive]
pub struct Protected;

/// A builder that knows whether sessions are sealed.
#[diagnostic::on_unimplemented(
    message = "nothing says how these sessions are sealed",
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
/// What the derive has declared holds until a method here overrides it. One of
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

struct Settings<S> {
    store: S,
    protection: Protection,
    idle: Duration,
    absolute: Duration,
    cleanup: Cleanup,
    bind_ip: Option<Bind>,
    bind_agent: bool,
    deadline: Duration,
    max_state_bytes: usize,
    strict: bool,
    hooks: Hooks,
    clock: Box<dyn Clock>,
    tokens: Box<dyn TokenSource>,
    #[cfg(feature = "actix")]
    web: crate::web::Settings,
}

impl<T: Databag, S: Store> Builder<T, S> {
    pub(crate) fn new(store: S) -> Self {
        let schema = T::SCHEMA;
        let settings = Settings {
            store,
            protection: Protection::Plain,
            idle: schema.idle,
            absolute: schema.absolute,
            cleanup: Cleanup::Every(CLEANUP_PAUSE),
            bind_ip: None,
            bind_agent: false,
            deadline: DEADLINE,
            max_state_bytes: MAX_STATE_BYTES,
            strict: false,
            hooks: Hooks::default(),
            clock: Box::new(SystemTime::now),
            tokens: Box::new(os_token),
            #[cfg(feature = "actix")]
            web: crate::web::Settings::new(&schema.cookie),
        };
        Self { settings, types: PhantomData }
    }
}

impl<T: Databag, S: Store, P> Builder<T, S, P> {
    /// Seals sessions with these keys.
    pub fn keyring(self, keyring: Keyring) -> Builder<T, S, Protected> {
        self.protect(Protection::Sealed(keyring))
    }

    /// Stores sessions in the clear: whoever reads the store reads them, and whoever writes it can be
    /// anybody. For looking at records while developing.
    pub fn danger_plaintext(self) -> Builder<T, S, Protected> {
        self.protect(Protection::Plain)
    }

    fn protect(self, protection: Protection) -> Builder<T, S, Protected> {
        Builder { settings: Settings { protection, ..self.settings }, types: PhantomData }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings<S>)) -> Self {
        change(&mut self.settings);
        self
    }

    #[cfg(feature = "actix")]
    pub(crate) fn set_web(self, change: impl FnOnce(&mut crate::web::Settings)) -> Self {
        self.set(|settings| change(&mut settings.web))
    }

    /// Sets how long a session lives without a request (ASVS 5.0 §7.3.1).
    pub fn idle(self, idle: Duration) -> Self {
        self.set(|settings| settings.idle = idle)
    }

    /// Sets how long a session lives at the most, counted from its log-in (ASVS 5.0 §7.3.2).
    pub fn absolute(self, absolute: Duration) -> Self {
        self.set(|settings| settings.absolute = absolute)
    }

    /// Sets when expired rows are removed.
    pub fn cleanup(self, cleanup: Cleanup) -> Self {
        self.set(|settings| settings.cleanup = cleanup)
    }

    /// Sets how strictly a session is bound to its address, for bags with an `ip_addr` field. A stolen
    /// cookie is of no use elsewhere then; a visitor whose address changes has to log in again.
    pub fn ip_binding(self, bind: Bind) -> Self {
        self.set(|settings| settings.bind_ip = Some(bind))
    }

    /// Binds sessions to the `User-Agent` they began with. It is easily forged, and changes when the
    /// browser is updated.
    pub fn bind_user_agent(self, bind: bool) -> Self {
        self.set(|settings| settings.bind_agent = bind)
    }

    /// Sets how long the store may take for each thing that a request asks of it, retries included: to load the
    /// session, to save it, to store it in the end; 2 seconds by default. After that the request is answered 503.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.set(|settings| settings.deadline = deadline)
    }

    /// Sets how large a record may be, in bytes; 64 KiB by default. A larger one is answered 500 and not
    /// stored: without a bound, visitors fill the store. In a cookie it is no larger than the cookie can be.
    pub fn max_state_bytes(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_state_bytes = bytes)
    }

    /// Is told of every session that is stored for the first time.
    pub fn on_started(self, hook: impl Fn(SessionId) + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.hooks.started = Box::new(hook))
    }

    /// Is told of every session that a request has loaded.
    pub fn on_loaded(self, hook: impl Fn(SessionId) + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.hooks.loaded = Box::new(hook))
    }

    /// Is told the old and the new id of every session that changes its id.
    pub fn on_rotated(self, hook: impl Fn(SessionId, SessionId) + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.hooks.rotated = Box::new(hook))
    }

    /// Is told of every session that is ended, except by expiry.
    pub fn on_deleted(self, hook: impl Fn(SessionId) + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.hooks.deleted = Box::new(hook))
    }

    /// Is told why a cookie was not accepted. The visitor is anonymous then.
    pub fn on_rejected(self, hook: impl Fn(Rejection) + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.hooks.rejected = Box::new(hook))
    }

    /// Replaces the system's clock, for tests.
    pub fn clock(self, clock: impl Clock) -> Self {
        self.set(|settings| settings.clock = Box::new(clock))
    }

    /// Replaces the operating system's random numbers as the source of tokens, for tests.
    pub fn token_source(self, tokens: impl TokenSource) -> Self {
        self.set(|settings| settings.tokens = Box::new(tokens))
    }

    /// Makes [`build`](Self::build) refuse what must not go into production: cookies without `Secure`, and
    /// sessions in the clear.
    pub fn production(self) -> Self {
        self.set(|settings| settings.strict = true)
    }

    /// Checks the configuration, prepares the store and starts the cleanup.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the settings do not hold together, [`Error::Store`] if the store cannot be
    /// reached or its table does not fit.
    pub fn build(self) -> Answer<'static, Sessions<T, S>>
    where
        P: Chosen,
    {
        Box::pin(self.settings.build())
    }
}

impl<S: Store> Settings<S> {
    async fn build<T: Databag>(self) -> Result<Sessions<T, S>, Error> {
        let Settings {
            mut store,
            protection,
            idle,
            absolute,
            cleanup,
            bind_ip,
            bind_agent,
            deadline,
            max_state_bytes,
            strict,
            hooks,
            clock,
            tokens,
            #[cfg(feature = "actix")]
            web,
        } = self;
        let fields = T::SCHEMA.fields;
        let declared =
            fields.iter().find_map(|field| if let Role::Ip(bind) = field.role { Some(bind) } else { None });
        let config = |condition: bool, message: &str| {
            if condition { Ok(()) } else { Err(Error::Config(message.to_owned())) }
        };
        config(!idle.is_zero(), "`idle` is zero: every session would be dead at once")?;
        config(idle <= absolute, "`idle` is longer than `absolute`")?;
        config(!deadline.is_zero(), "`deadline` is zero: no call could be answered in time")?;
        config(cleanup != Cleanup::Every(Duration::ZERO), "`cleanup` would never pause; try `EveryRequest`")?;
        config(bind_ip.is_none() || declared.is_some(), "`ip_binding` needs a field `#[databag(ip_addr)]`")?;
        let plain = matches!(protection, Protection::Plain);
        config(!(strict && plain), "`production` and `danger_plaintext` exclude each other")?;
        if plain {
            tracing::warn!(bag = T::SCHEMA.name, "sessions are stored in the clear");
        }
        #[cfg(feature = "actix")]
        let web = web.check(strict)?;
        #[cfg(feature = "actix")]
        let cookie_name = web.cookie.name();
        #[cfg(not(feature = "actix"))]
        let cookie_name = T::SCHEMA.cookie.name;

        let in_cookie = !store.keeps_rows();
        config(
            !(in_cookie && plain),
            "sessions in cookies have to be sealed, or every visitor could be anybody: use `keyring`",
        )?;
        config(
            !(in_cookie && T::SCHEMA.max_per_user.is_some()),
            "`max_per_user` needs a store that keeps rows, such as `SqliteStore`: nobody counts cookies",
        )?;
        let max_state_bytes = if in_cookie {
            max_state_bytes.min(cookie::room(cookie_name).saturating_sub(OVERHEAD))
        } else {
            max_state_bytes
        };

        let rules = Rules {
            layout: Layout::of::<T>().map_err(|source| Error::Encode { field: "", source })?,
            defaults: defaults::<T>()?,
            protection,
            cookie: in_cookie.then(|| cookie_name.to_owned()),
            idle,
            absolute,
            bind_ip: bind_ip.or(declared).unwrap_or(Bind::Off),
            bind_agent,
            max_state_bytes,
        };
        store.prepare(&table::<T>(), deadline).await?;
        let store = Arc::new(store);
        let csrf_key = rules.protection.csrf_key();
        let core = Arc::new(Core {
            rules,
            hooks,
            #[cfg(feature = "actix")]
            web,
            store: store.clone(),
            clock: Steady::new(clock),
            tokens,
            deadline,
            queue: Queue::default(),
            refused: Refused::default(),
            recent: Recent::default(),
            csrf_key,
            prune_each_time: cleanup == Cleanup::EveryRequest,
        });
        if let Cleanup::Every(pause) = cleanup {
            tokio::spawn(clean_up(Arc::downgrade(&core), pause));
        }
        Ok(Sessions { core, store, bag: PhantomData })
    }
}

impl<T, S, P> fmt::Debug for Builder<T, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Builder(..)")
    }
}

/// Encodes the fields of a new session, and makes sure that they can be read back.
pub(crate) fn defaults<T: Databag>() -> Result<Fields, Error> {
    let defaults = Fields::of(&T::defaults())?;
    match defaults.decode_into(&mut T::defaults()) {
        Ok(()) => Ok(defaults),
        Err(DecodeError { field }) => {
            let field = field.unwrap_or_default();
            Err(Error::Config(format!(
                "the default of the field `{field}` does not decode from its own encoding"
            )))
        }
    }
}

pub(crate) fn os_token() -> [u8; 32] {
    let mut token = [0; 32];
    getrandom::fill(&mut token).expect("the operating system has a random number generator");
    token
}

fn table<T: Databag>() -> Table {
    let schema = T::SCHEMA;
    let columns = &schema.columns;
    let mut table = Table {
        name: schema.table.to_owned(),
        id: columns.id.to_owned(),
        state: columns.state.to_owned(),
        state_is_text: T::Codec::FRAMING == Framing::JsonObject,
        user: None,
        ip: None,
        created: columns.created.to_owned(),
        expiration: columns.expiration.to_owned(),
        revision: columns.revision.to_owned(),
        projected: Vec::new(),
    };
    for field in schema.fields {
        let column = |name: &str, ty, index| TableColumn { name: name.to_owned(), ty, index };
        match field.role {
            Role::Plain => {}
            Role::User(ty) => table.user = Some(column(columns.user_id, ty, true)),
            Role::Ip(_) => table.ip = Some(columns.ip_addr.to_owned()),
            Role::Column { name, ty, index } => table.projected.push(column(name, ty, index)),
        }
    }
    table
}

/// Removes expired rows for as long as the sessions exist. Errors are logged; the next round tries again.
async fn clean_up(core: Weak<Core>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(core) = core.upgrade() else { return };
        let Some(now) = core.clock.agreed() else {
            tracing::warn!("the clock was set: expired sessions are not removed until it is right again");
            continue;
        };
        loop {
            match core.store.prune(now, PRUNE_BATCH).await {
                Ok(0) => break,
                // Requests go first.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "expired sessions could not be removed");
                    break;
                }
            }
        }
    }
}

#[cfg(all(test, feature = "actix"))]
mod tests {
    use super::*;

    #[derive(crate::Databag)]
    struct Plain {
        visits: u32,
    }

    /// ASVS 5.0 §7.1.1: the limits are documented.
    #[test]
    fn the_readme_states_the_defaults_as_they_are() {
        let schema = Plain::SCHEMA;
        let minutes = |duration: Duration| duration.as_secs() / 60;
        let web = crate::web::Config::for_test(&schema.cookie);
        let cookie = web.cookie.removal();
        let attributes = cookie.split_once("; ").and_then(|(_, rest)| rest.strip_suffix("; Max-Age=0"));
        let rows = [
            ("idle limit", format!("{} minutes", minutes(schema.idle))),
            ("absolute limit, counted from the log-in", format!("{} hours", minutes(schema.absolute) / 60)),
            ("cookie name", format!("`{}`", schema.cookie.name)),
            ("cookie attributes", format!("`{}`", attributes.expect("a removal has attributes"))),
            ("table", format!("`{}`", schema.table)),
            ("store deadline of each load and each write", format!("{} seconds", DEADLINE.as_secs())),
            ("size of a session", format!("{MAX_STATE_BYTES} bytes")),
            (
                "expired rows are removed",
                format!("every {} minutes, {PRUNE_BATCH} at a time", minutes(CLEANUP_PAUSE)),
            ),
        ];
        let readme = include_str!("../../README.md");
        for (setting, value) in rows {
            assert!(readme.contains(&format!("| {setting} | {value} |")), "{setting}: {value}");
        }
        assert_eq!(schema.cookie.persistence, crate::Persistence::Browser);
    }
}
