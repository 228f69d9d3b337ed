//! What a session stands on in a handler's test, where no store is needed.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::bag::{Bind, Databag};
use crate::builder::{defaults, os_token};
use crate::clock::{Steady, Timestamp};
use crate::envelope::Protection;
use crate::hooks::Hooks;
use crate::load::Rules;
use crate::queue::Queue;
use crate::recent::Recent;
use crate::record::Layout;
use crate::refused::Refused;
use crate::sessions::Core;
use crate::store::{AnyRows, BoxFuture, Outcome, Row, StoreError, Update};
use crate::token::SessionId;
use crate::value::Value;

/// A store of one row: a request has one session.
#[derive(Default)]
struct OneRow(Mutex<Option<Row>>);

impl OneRow {
    fn row(&self) -> MutexGuard<'_, Option<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnyRows for OneRow {
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Row>, StoreError>> {
        let row = self.row().clone().filter(|row| row.id == id);
        Box::pin(ready(Ok(row)))
    }

    fn insert(&self, row: Row) -> BoxFuture<'_, Result<(), StoreError>> {
        self.row().replace(row);
        Box::pin(ready(Ok(())))
    }

    fn update(&self, update: Update) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        let outcome = match &mut *self.row() {
            Some(row) if row.id == update.id => {
                *row = update.row;
                Outcome::Stored
            }
            _ => Outcome::Gone,
        };
        Box::pin(ready(Ok(outcome)))
    }

    fn delete(&self, _: SessionId) -> BoxFuture<'_, Result<bool, StoreError>> {
        let deleted = self.row().take().is_some();
        Box::pin(ready(Ok(deleted)))
    }

    fn prune(&self, _: Timestamp, _: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(0)))
    }

    fn trim<'a>(
        &'a self,
        _: &'a Value,
        _: u32,
        _: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        Box::pin(ready(Ok(Vec::new())))
    }
}

/// Makes the core of sessions for one handler's test.
///
/// # Panics
///
/// If the bag cannot be encoded: then it could not be stored either.
pub(crate) fn core<T: Databag>() -> Core {
    let protection = Protection::Plain;
    let csrf_key = protection.csrf_key();
    Core {
        rules: Rules {
            layout: Layout::of::<T>().expect("the codec encodes `None`"),
            defaults: defaults::<T>().expect("the bag's defaults can be stored"),
            protection,
            cookie: None,
            idle: T::SCHEMA.idle,
            absolute: T::SCHEMA.absolute,
            bind_ip: Bind::Off,
            bind_agent: false,
            max_state_bytes: usize::MAX,
        },
        hooks: Hooks::default(),
        #[cfg(feature = "actix")]
        web: crate::web::Config::for_test(&T::SCHEMA.cookie),
        store: Arc::new(OneRow::default()),
        clock: Steady::new(Box::new(SystemTime::now)),
        tokens: Box::new(os_token),
        deadline: Duration::from_secs(2),
        queue: Queue::default(),
        refused: Refused::default(),
        recent: Recent::default(),
        csrf_key,
        prune_each_time: false,
    }
}
