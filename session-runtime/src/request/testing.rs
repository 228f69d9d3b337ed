//! Sessions for tests of handlers: in memory, without a server.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt as _;

use super::slot::Slot;
use crate::backend::Opened;
use crate::backend::rows::StoredRows;
use crate::bag::Databag;
use crate::clock::Clock;
use crate::engine::config::SessionConfig;
use crate::engine::core::{BagEncoding, Engine, Parts, os_token};
use crate::engine::load::{Active, Client};
use crate::envelope::{Keyring, Protection};
use crate::error::Error;
#[cfg(feature = "actix")]
use crate::http::HttpConfig;
use crate::sessions::Sessions;
use crate::store::memory::MemoryStore;

impl<T: Databag> Sessions<T> {
    /// Makes sessions for tests: in memory, sealed under a key of their own, with the settings of the bag. All calls work, lists and
    /// queries too. See [`testing`](crate::testing).
    ///
    /// For other settings, build sessions in a `MemoryStore`, or in `SqliteStore::in_memory()`.
    ///
    /// # Panics
    ///
    /// If [`Builder::build`](crate::Builder::build) would refuse the bag: its defaults cannot be stored.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_runtime::{Databag, Sessions};
    ///
    /// #[derive(Databag)]
    /// struct Shop {
    ///     #[databag(user_id)]
    ///     user_id: Option<i64>,
    ///     visits: u32,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), session_runtime::Error> {
    /// let sessions = Sessions::<Shop>::for_test();
    /// sessions.create(Shop { user_id: Some(7), ..Shop::defaults() }).await?;
    /// assert_eq!(sessions.of_user(7).await?.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_test() -> Self {
        Self::for_test_at(SystemTime::now)
    }

    /// The same with a clock that the test moves: a [`ManualClock`](crate::testing::ManualClock).
    ///
    /// # Panics
    ///
    /// As [`for_test`](Self::for_test).
    pub fn for_test_at(clock: impl Clock) -> Self {
        Self::new(
            engine::<T>(clock),
            #[cfg(feature = "actix")]
            Arc::new(HttpConfig::for_test(&T::SCHEMA.cookie)),
        )
    }
}

/// Makes a slot with the session of a visitor who has this bag.
///
/// # Panics
///
/// If the bag cannot be stored.
pub(crate) fn slot_for_test<T: Databag>(bag: T) -> Rc<Slot<T>> {
    let engine = engine::<T>(SystemTime::now);
    let session = session_of(&engine, bag).now_or_never().expect("a store in memory answers at once");
    let session = session.unwrap_or_else(|error| panic!("the bag cannot be stored: {error}"));
    Rc::new(Slot::holding(engine, session))
}

/// Makes the session of a visitor who has this bag: a stored one, unless nothing differs from the defaults.
pub(crate) async fn session_of<T: Databag>(engine: &Engine, bag: T) -> Result<Active<T>, Error> {
    let mut session = engine.fresh(Client::default())?;
    session.bag = bag;
    engine.commit(&mut session, engine.deadline()).await?;
    session.receive_flash(&engine.context);
    Ok(session)
}

fn engine<T: Databag>(clock: impl Clock) -> Arc<Engine> {
    let parts = Parts {
        protection: Protection::sealed(Keyring::generate()),
        observers: Arc::default(),
        clock: Box::new(clock),
        tokens: Box::new(os_token),
        encoding: BagEncoding::of::<T>().expect("the bag's defaults can be stored"),
    };
    let store = Arc::new(MemoryStore::new());
    let backend = Box::new(StoredRows::new(store.clone()));
    let opened = Opened { owner: T::SCHEMA.name.to_owned(), backend, directory: Some(store) };
    Arc::new(Engine::new::<T>(SessionConfig::new(T::SCHEMA), parts, opened, T::SCHEMA.cookie.name))
}
