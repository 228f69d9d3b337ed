//! What sessions can be kept in, and what can be done with them then. Applications name these types.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Opened;
use super::observed::Observed;
use super::rows::StoredRows;
use crate::engine::observers::Observers;
use crate::store::{Directory, DynDirectory, DynStore, Store, StoreError, Table, Unlisted};

/// What `Sessions` can do, by what keeps them: [`Listed`], [`ById`] or [`InCookie`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what sessions can do",
    label = "this is the second parameter of `Sessions`",
    note = "no handler names a store: `Sessions<T>` is the type on every store that lists its rows; for `CookieStore` it \
            is `Sessions<T, InCookie>`"
)]
pub trait Access: sealed::Access + 'static {
    #[doc(hidden)]
    const KIND: AccessKind;
}

#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    Listed,
    ById,
    InCookie,
}

/// Sessions in a store that keeps and lists rows: everything can be done. The default.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listed;

/// Sessions in a store that keeps rows and cannot list them ([`Unlisted`]): a session is found by its token or its id.
#[derive(Debug)]
#[non_exhaustive]
pub struct ById;

/// Sessions in the cookies of their visitors: a session is found by its token alone.
#[derive(Debug)]
#[non_exhaustive]
pub struct InCookie;

/// Sessions that can be found, changed and ended by their ids.
#[diagnostic::on_unimplemented(
    message = "sessions in cookies cannot be found, changed or ended by their ids",
    label = "each of these sessions is in the cookie of its visitor (`{Self}`)",
    note = "use a store that keeps rows, such as `SqliteStore`"
)]
pub trait FindsById: Access {}

/// Sessions that can be listed, searched and counted.
#[diagnostic::on_unimplemented(
    message = "these sessions cannot be listed, searched or counted",
    label = "nothing keeps a list of these sessions (`{Self}`)",
    note = "only a store that keeps rows and lists them can, such as `SqliteStore`"
)]
pub trait Lists: FindsById {}

impl Access for Listed {
    const KIND: AccessKind = AccessKind::Listed;
}

impl Access for ById {
    const KIND: AccessKind = AccessKind::ById;
}

impl Access for InCookie {
    const KIND: AccessKind = AccessKind::InCookie;
}

#[diagnostic::do_not_recommend]
impl FindsById for Listed {}
#[diagnostic::do_not_recommend]
impl FindsById for ById {}
#[diagnostic::do_not_recommend]
impl Lists for Listed {}

/// What sessions can be kept in: every [`Directory`], every [`Store`] in an [`Unlisted`], `CookieStore` and `AnyStore`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store of sessions",
    label = "sessions cannot be kept in this",
    note = "a `Result` of a store needs `?` first, and a future `.await?`: `SqliteStore::open(\"sessions.db\")?`, \
            `RedisStore::connect(url).await?`",
    note = "a store of your own implements `Store` and `Directory`; without `Directory` it is wrapped: `Unlisted(store)`"
)]
pub trait Backing: sealed::Backing {
    /// What `Sessions` in it can do.
    type Access: Access;
}

pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Opened, StoreError>> + Send>>;

pub(crate) mod sealed {
    use super::{Arc, Duration, Observers, Opening, Table};

    pub trait Access {}
    impl Access for super::Listed {}
    impl Access for super::ById {}
    impl Access for super::InCookie {}

    #[allow(private_interfaces, reason = "nothing outside calls it")]
    pub trait Backing: Send + 'static {
        /// Makes it ready for a table.
        fn open(
            self,
            table: Table,
            bag: &'static str,
            timeout: Duration,
            observers: Arc<Observers>,
        ) -> Opening;
    }
}

#[diagnostic::do_not_recommend]
impl<S: Directory> Backing for S {
    type Access = Listed;
}

#[allow(private_interfaces, reason = "nothing outside calls it")]
impl<S: Directory> sealed::Backing for S {
    fn open(
        mut self,
        table: Table,
        bag: &'static str,
        timeout: Duration,
        observers: Arc<Observers>,
    ) -> Opening {
        Box::pin(async move {
            let owner = prepare(&mut self, &table, bag, timeout).await?;
            let (rows, directory): (Arc<dyn DynStore>, Arc<dyn DynDirectory>) = if observers.measures() {
                let store = Arc::new(Observed::new(self, observers));
                (store.clone(), store)
            } else {
                let store = Arc::new(self);
                (store.clone(), store)
            };
            let backend = Box::new(StoredRows::new(rows));
            Ok(Opened { owner, backend, directory: Some(directory) })
        })
    }
}

#[diagnostic::do_not_recommend]
impl<S: Store> Backing for Unlisted<S> {
    type Access = ById;
}

#[allow(private_interfaces, reason = "nothing outside calls it")]
impl<S: Store> sealed::Backing for Unlisted<S> {
    fn open(
        mut self,
        table: Table,
        bag: &'static str,
        timeout: Duration,
        observers: Arc<Observers>,
    ) -> Opening {
        Box::pin(async move {
            let owner = prepare(&mut self.0, &table, bag, timeout).await?;
            let rows: Arc<dyn DynStore> = if observers.measures() {
                Arc::new(Observed::new(self.0, observers))
            } else {
                Arc::new(self.0)
            };
            let backend = Box::new(StoredRows::new(rows));
            Ok(Opened { owner, backend, directory: None })
        })
    }
}

/// Returns the bag that a table belongs to, and makes the store ready for the table if that is `bag`.
pub(super) async fn prepare<S: Store>(
    store: &mut S,
    table: &Table,
    bag: &str,
    timeout: Duration,
) -> Result<String, StoreError> {
    const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
    let owner = store.claim(table, bag, Instant::now() + CLAIM_TIMEOUT).await?;
    if owner == bag {
        store.prepare(table, timeout).await?;
    }
    Ok(owner)
}
