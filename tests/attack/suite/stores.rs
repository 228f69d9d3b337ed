//! The stores under attack: each can be switched off, counts its calls, and can be written without the library.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use databag_tests::ManualClock;
use futures_util::future::LocalBoxFuture;
use session_runtime::access::{Backing, Listed};
use session_runtime::store::{Filter, LimitedWrite, Outcome, Page, Row, Update};
use session_runtime::{
    AnyStore, Builder, Cleanup, CookieStore, Databag, Directory, Error, Keyring, Rejection, SessionId,
    Sessions, Store, StoreError, Timestamp, Transport,
};

use super::bags::{Admin, Few, Shop, Text, Twin, table};

/// The settings of an application.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) keys: String,
    pub(crate) is_plain: bool,
    pub(crate) proxies: Vec<&'static str>,
    pub(crate) bind_agent: bool,
    pub(crate) max_state: Option<usize>,
    pub(crate) cookie: Option<String>,
    /// Whether the header of a bag carries its tokens, beside the cookie.
    pub(crate) has_header: bool,
    pub(crate) deadline: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        let keys = Keyring::generate_text().to_string();
        Self {
            keys,
            is_plain: false,
            proxies: Vec::new(),
            bind_agent: false,
            max_state: None,
            cookie: None,
            has_header: false,
            deadline: Duration::from_secs(20),
        }
    }
}

/// What was noticed of the cookies that were not accepted.
pub(crate) type OnRejected = Arc<dyn Fn(Rejection) + Send + Sync>;

/// What an application is made of besides its settings.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) clock: ManualClock,
    pub(crate) on_rejected: OnRejected,
}

/// A store from which applications can be opened.
pub(crate) trait Opener {
    fn shop<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Shop>;
    fn admin<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Admin>;
    fn text<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Text>;
    fn few<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Few>;
    fn twin<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Twin>;
    /// The rows of the bag in the scope of this name.
    fn rows(&self, scope: &str) -> LocalBoxFuture<'_, Rc<dyn Rows>>;
    fn switch(&self) -> &Switch;
    /// The same rows, as another process reaches them.
    fn elsewhere(&self) -> LocalBoxFuture<'_, Rc<dyn Opener>>;
}

pub(crate) type Opening<'a, T> = LocalBoxFuture<'a, Result<Sessions<T>, Error>>;

fn open<'a, T, S>(store: S, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, T>
where
    T: Databag,
    S: Backing<Access = Listed> + 'a,
{
    Box::pin(async move {
        let on_rejected = parts.on_rejected.clone();
        let mut builder: Builder<T, S> = Sessions::<T>::builder(store)
            .cleanup(Cleanup::Never)
            .clock(parts.clock.clone())
            .trusted_proxies(&setup.proxies)
            .bind_user_agent(setup.bind_agent)
            .deadline(setup.deadline)
            .on_rejected(move |reason| on_rejected(reason));
        if let Some(bytes) = setup.max_state {
            builder = builder.max_state_bytes(bytes);
        }
        if let Some(name) = &setup.cookie {
            builder = builder.cookie(name);
        }
        if setup.has_header {
            builder = builder.transport(header::<T>().map_or(Transport::Cookie, Transport::CookieOrHeader));
        }
        if setup.is_plain {
            return builder.danger_plaintext().build().await;
        }
        builder.keyring(Keyring::parse(&setup.keys)?).build().await
    })
}

/// Returns the header that can carry the tokens of a bag.
pub(crate) fn header<T: Databag>() -> Option<&'static str> {
    match T::SCHEMA.table {
        "attack_shop" => Some("X-Shop-Token"),
        "attack_admin" => Some("X-Admin-Token"),
        _ => None,
    }
}

macro_rules! bags {
    ($store:expr) => {
        fn shop<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Shop> {
            open($store(self), setup, parts)
        }

        fn admin<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Admin> {
            open($store(self), setup, parts)
        }

        fn text<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Text> {
            open($store(self), setup, parts)
        }

        fn few<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Few> {
            open($store(self), setup, parts)
        }

        fn twin<'a>(&'a self, setup: &'a Setup, parts: &'a Parts) -> Opening<'a, Twin> {
            open($store(self), setup, parts)
        }
    };
}

/// Makes a store.
type Connect<S> = Rc<dyn Fn() -> LocalBoxFuture<'static, S>>;

/// A store, and how another process makes one of the same rows.
pub(crate) struct Source<S> {
    store: Switched<S>,
    connect: Connect<S>,
}

impl<S: Directory + Clone> Source<S> {
    pub(crate) async fn open<F: Future<Output = S> + 'static>(
        connect: impl Fn() -> F + 'static,
    ) -> Rc<dyn Opener> {
        Self::of(Rc::new(move || Box::pin(connect()))).await
    }

    async fn of(connect: Connect<S>) -> Rc<dyn Opener> {
        let store = Switched { store: connect().await, switch: Switch::default() };
        Rc::new(Self { store, connect })
    }
}

impl<S: Directory + Clone> Opener for Source<S> {
    bags!(|source: &Self| source.store.clone());

    fn rows(&self, scope: &str) -> LocalBoxFuture<'_, Rc<dyn Rows>> {
        let table = match scope {
            "/admin" => table::<Admin>(),
            "/text" => table::<Text>(),
            _ => table::<Shop>(),
        };
        Box::pin(async move {
            let mut store = self.store.store.clone();
            store.prepare(&table, Duration::from_secs(10)).await.expect("the table is there");
            Rc::new(store) as Rc<dyn Rows>
        })
    }

    fn switch(&self) -> &Switch {
        &self.store.switch
    }

    fn elsewhere(&self) -> LocalBoxFuture<'_, Rc<dyn Opener>> {
        Box::pin(Self::of(self.connect.clone()))
    }
}

/// Sessions in cookies, through the type that all stores have in common.
#[derive(Default)]
pub(crate) struct Cookies(Switch);

impl Opener for Cookies {
    bags!(|_| AnyStore::from(CookieStore));

    fn rows(&self, _: &str) -> LocalBoxFuture<'_, Rc<dyn Rows>> {
        unreachable!("there are no rows")
    }

    fn switch(&self) -> &Switch {
        &self.0
    }

    fn elsewhere(&self) -> LocalBoxFuture<'_, Rc<dyn Opener>> {
        Box::pin(async { Rc::new(Self::default()) as Rc<dyn Opener> })
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Rows, for an attacker who can write the database.
pub(crate) trait Rows {
    fn load(&self, id: SessionId) -> LocalBoxFuture<'_, Option<Row>>;
    /// Adds a row.
    fn add(&self, row: Row) -> LocalBoxFuture<'_, ()>;
    /// Replaces a row, whatever is stored.
    fn replace(&self, row: Row) -> LocalBoxFuture<'_, ()>;
    fn delete(&self, id: SessionId) -> LocalBoxFuture<'_, bool>;
    fn count(&self) -> LocalBoxFuture<'_, u64>;
}

impl<S: Directory> Rows for S {
    fn load(&self, id: SessionId) -> LocalBoxFuture<'_, Option<Row>> {
        Box::pin(async move { Store::load(self, id, soon()).await.expect("the store answers") })
    }

    fn add(&self, row: Row) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move { self.insert(row, soon()).await.expect("the store takes it") })
    }

    fn replace(&self, row: Row) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            let stored = Rows::load(self, row.id).await.expect("there is a row");
            let outcome = self.update(Update::new(row.id, stored.revision, row), soon()).await;
            assert_eq!(outcome.expect("the store answers"), Outcome::Stored);
        })
    }

    fn delete(&self, id: SessionId) -> LocalBoxFuture<'_, bool> {
        Box::pin(async move { Store::delete(self, id, soon()).await.expect("the store answers") })
    }

    fn count(&self) -> LocalBoxFuture<'_, u64> {
        Box::pin(
            async move { Directory::count(self, &Filter::All, soon()).await.expect("the store answers") },
        )
    }
}

/// Switches a store off, and counts its calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switch {
    is_off: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Switch {
    pub(crate) fn turn(&self, on: bool) {
        self.is_off.store(!on, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn pass(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.is_off.load(Ordering::SeqCst) {
            return Err(StoreError::new("be reached", "it is switched off"));
        }
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct Switched<S> {
    store: S,
    switch: Switch,
}

impl<S: Store> Store for Switched<S> {
    databag_tests::forward!(store: prepare);

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.switch.pass()?;
        self.store.load(id, deadline).await
    }

    async fn insert(&self, row: Row, deadline: Instant) -> Result<(), StoreError> {
        self.switch.pass()?;
        self.store.insert(row, deadline).await
    }

    async fn update(&self, update: Update, deadline: Instant) -> Result<Outcome, StoreError> {
        self.switch.pass()?;
        self.store.update(update, deadline).await
    }

    async fn delete(&self, id: SessionId, deadline: Instant) -> Result<bool, StoreError> {
        self.switch.pass()?;
        self.store.delete(id, deadline).await
    }

    async fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> Result<u64, StoreError> {
        self.switch.pass()?;
        self.store.prune(now, limit, deadline).await
    }

    async fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        self.switch.pass()?;
        self.store.write_limited(write, deadline).await
    }
}

impl<S: Directory> Directory for Switched<S> {
    databag_tests::forward!(store: health);

    async fn find(&self, filter: &Filter, page: Page, deadline: Instant) -> Result<Vec<Row>, StoreError> {
        self.switch.pass()?;
        self.store.find(filter, page, deadline).await
    }

    async fn count(&self, filter: &Filter, deadline: Instant) -> Result<u64, StoreError> {
        self.switch.pass()?;
        self.store.count(filter, deadline).await
    }

    async fn remove(&self, filter: &Filter, deadline: Instant) -> Result<Vec<SessionId>, StoreError> {
        self.switch.pass()?;
        self.store.remove(filter, deadline).await
    }
}
